//! How many requests per second one worker sustains, by the timing model.
//!
//! The search is the reference peer's: over batch sizes b, at most 128 of them, evenly spaced between 1 and the largest
//! that fits. With ISL' = ISL x (1 - hit rate), rounded up, and a mean context ctx = ISL + OSL / 2:
//!
//! | role | largest b | per pass | rate |
//! |---|---|---|---|
//! | prefill | min(sequences, token budget / ISL') | T = prefill of b x ISL' tokens; TTFT = T | b / T |
//! | decode | min(sequences, pool / ctx) | ITL = decode of b requests over b x ctx KV tokens | b / (OSL x ITL) |
//! | aggregated | both bounds of decode, and token budget - 1 | ITL = the decode part together with p = b x ISL' / OSL prompt tokens, rounded up; p has to fit the token budget beside b | b / (OSL x ITL) |
//!
//! The TTFT of an aggregated worker is the time to compute p + ISL' prompt tokens in chunks of the token budget, each in
//! a pass that also decodes the batch. Of the batches that keep all targets the one with the highest rate is taken; if
//! none does, the one with the highest rate of all.
//!
//! Where no batch can balance prefill and decode (long prompts, hardly any output), the peer has no answer. Here a worker
//! then serves one request after the other.

use rustc_hash::FxHashMap;

use crate::kernel::time::Span;
use crate::model::engine::EngineConfig;
use crate::model::timing::{DecodeLoad, PassTimer, PrefillLoad, RoughTimes};

/// What the workers of a pool do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Role {
    /// Prefill and decode in the same passes.
    #[default]
    Aggregated,
    /// Prefill only.
    Prefill,
    /// Decode only.
    Decode,
}

/// What users are promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Targets {
    /// Time to first token.
    pub ttft: Span,
    /// Gap between tokens.
    pub itl: Span,
}

impl Default for Targets {
    /// The reference peer's: 500 ms and 50 ms.
    fn default() -> Targets {
        Targets { ttft: Span::from_ms(500), itl: Span::from_ms(50) }
    }
}

/// Highest share of a prompt that is taken to be cached, whatever is observed. The reference peer's.
pub const HIT_RATE_MAX: f64 = 0.95;

/// Most batch sizes that are tried. The reference peer's.
const CANDIDATES_MAX: u32 = 128;

/// Estimates that are kept. A tick needs one; beyond this many shapes all are forgotten.
const CACHE_MAX: usize = 4096;

/// The shape of an average request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shape {
    /// Prompt length, in tokens, at least 1.
    isl: u32,
    /// Output length, in tokens, at least 1.
    osl: u32,
    /// Cached share of the prompt, in thousandths.
    hit_rate: u32,
}

impl Shape {
    /// Rounds lengths to whole tokens and the hit rate to thousandths; the hit rate is at most [`HIT_RATE_MAX`].
    pub fn new(isl: f64, osl: f64, hit_rate: f64) -> Shape {
        Shape {
            isl: isl.round().max(1.0) as u32,
            osl: osl.round().max(1.0) as u32,
            hit_rate: (hit_rate.clamp(0.0, HIT_RATE_MAX) * 1000.0).round() as u32,
        }
    }

    /// Prompt tokens that have to be computed: ISL x (1 - hit rate), rounded up; at least 1.
    pub fn computed_tokens(&self) -> u64 {
        self.computed_share(u64::from(self.isl)).max(1)
    }

    /// How many of so many prompt tokens have to be computed, rounded up.
    #[expect(clippy::manual_div_ceil, reason = "looking at the remainder takes longer")]
    pub fn computed_share(&self, tokens: u64) -> u64 {
        (tokens * u64::from(self.computed_thousandths()) + 999) / 1000
    }

    /// Thousandths of a prompt that have to be computed.
    pub fn computed_thousandths(&self) -> u32 {
        1000 - self.hit_rate
    }

    /// Mean context of a request while it decodes: ISL + OSL / 2, rounded down.
    pub fn context_tokens(&self) -> u64 {
        u64::from(self.isl) + u64::from(self.osl / 2)
    }

    /// Output length, in tokens.
    pub fn osl(&self) -> u32 {
        self.osl
    }
}

/// What a worker sustains.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Capacity {
    /// Requests per second.
    pub rate: f64,
    /// The batch that gives it.
    pub batch: u32,
    /// Time to first token then; none for a decode worker.
    pub ttft: Option<Span>,
    /// Gap between tokens then; none for a prefill worker.
    pub itl: Option<Span>,
    /// Whether the targets are kept.
    pub meets: bool,
}

impl Capacity {
    fn is_better_than(&self, other: &Capacity) -> bool {
        (self.meets, self.rate) > (other.meets, other.rate)
    }
}

/// One engine as the Planner imagines it: passes of average requests.
#[derive(Clone, Debug)]
pub struct EngineModel {
    timer: PassTimer,
    max_num_seqs: u32,
    token_budget: u32,
    pool_tokens: u64,
    /// 2^64 / token budget, rounded up; zero if it is 1.
    chunk_inverse: u64,
}

impl EngineModel {
    /// The model of such an engine.
    pub fn new(engine: &EngineConfig) -> EngineModel {
        EngineModel {
            timer: engine.pass_timer(),
            max_num_seqs: engine.max_num_seqs,
            token_budget: engine.max_num_batched_tokens,
            pool_tokens: engine.pool_tokens(),
            chunk_inverse: (u64::MAX / u64::from(engine.max_num_batched_tokens.max(1)))
                .wrapping_add(1),
        }
    }

    /// What the KV pool holds, in tokens.
    pub fn pool_tokens(&self) -> u64 {
        self.pool_tokens
    }

    /// Most requests in a batch.
    pub fn max_num_seqs(&self) -> u32 {
        self.max_num_seqs
    }

    /// One pass that computes so many prompt tokens and decodes besides.
    pub fn pass(&self, prefill_tokens: u64, decode: DecodeLoad) -> Span {
        let requests = u32::from(prefill_tokens > 0);
        let prefill = PrefillLoad { requests, tokens: prefill_tokens, prefix_tokens: 0 };
        self.timer.pass(prefill, decode)
    }

    /// The time to compute so many prompt tokens in chunks of the token budget, decoding the same load in each pass.
    pub fn chunked(&self, tokens: u64, decode: DecodeLoad) -> Span {
        let [chunks, rest] = self.chunks(tokens);
        let mut ns = 0_u64;
        if chunks > 0 {
            ns = self.pass(self.chunk_tokens(), decode).as_ns().saturating_mul(chunks);
        }
        if rest > 0 {
            ns = ns.saturating_add(self.pass(rest, decode).as_ns());
        }
        Span::from_ns(ns)
    }

    /// Rough times of passes with prompt tokens, if there are tables of them.
    pub fn rough(&self) -> Option<RoughTimes> {
        self.timer.rough(self.token_budget.into(), self.max_num_seqs)
    }

    /// By how much a pass can take less with more KV and as much else, because of rounding: ns, if for no other reason.
    pub fn kv_rounding_ns(&self) -> Option<u64> {
        self.timer.kv_rounding_ns()
    }

    /// How many whole chunks so many prompt tokens are, and how many are left.
    #[inline]
    pub fn chunks(&self, tokens: u64) -> [u64; 2] {
        let chunk = self.chunk_tokens();
        // A division takes as long as all else that an estimate needs. This is exact, for as tokens and chunks are below 2^32
        // the inverse is not so much too large that it shows.
        let chunks = if tokens >> 32 == 0 && chunk > 1 {
            ((u128::from(tokens) * u128::from(self.chunk_inverse)) >> 64) as u64
        } else {
            tokens / chunk
        };
        [chunks, tokens - chunks * chunk]
    }

    /// Most prompt tokens of a pass, at least 1.
    pub fn chunk_tokens(&self) -> u64 {
        self.token_budget.max(1).into()
    }

    /// Whether a formula says that a pass takes no less time for more prompt tokens, more KV or more requests, on a grid
    /// of loads. Measured tables never do: their figures are noisy.
    pub fn rises(&self) -> bool {
        const STEPS: u64 = 32;
        let at = |[requests, prefill, kv]: [u64; 3]| {
            let requests = (u64::from(self.max_num_seqs) * requests / STEPS).max(1) as u32;
            let kv_tokens =
                (u128::from(self.pool_tokens) * u128::from(kv) / u128::from(STEPS)) as u64;
            let prefill = u64::from(self.token_budget) * prefill / STEPS;
            self.pass(prefill, DecodeLoad { requests, kv_tokens })
        };
        let rises_from = |[requests, prefill, kv]: [u64; 3]| {
            let here = at([requests, prefill, kv]);
            here <= at([requests + 1, prefill, kv])
                && here <= at([requests, prefill + 1, kv])
                && here <= at([requests, prefill, kv + 1])
        };
        let mut grid = (0..STEPS).step_by(8).flat_map(|requests| {
            let tokens = (0..STEPS).flat_map(|prefill| (0..STEPS).map(move |kv| [prefill, kv]));
            tokens.map(move |[prefill, kv]| [requests, prefill, kv])
        });
        self.timer.is_formula() && grid.all(rises_from)
    }

    /// Prompt tokens in a pass with a batch of this size, when prefill and decode keep up with one another.
    pub fn balanced_prefill(&self, shape: Shape, batch: u64) -> u64 {
        (batch * shape.computed_tokens()).div_ceil(u64::from(shape.osl))
    }

    /// [`EngineModel::balanced_prefill`], but no more than fits a pass.
    pub fn typical_prefill(&self, shape: Shape, batch: u64) -> u64 {
        self.balanced_prefill(shape, batch).min(u64::from(self.token_budget))
    }

    /// The largest batch, and how a batch does.
    fn best(&self, batch_max: u64, evaluate: impl Fn(u32) -> Option<Capacity>) -> Option<Capacity> {
        let batch_max = batch_max.min(u64::from(self.max_num_seqs)) as u32;
        let mut best: Option<Capacity> = None;
        for batch in candidates(batch_max) {
            if let Some(capacity) = evaluate(batch)
                && best.is_none_or(|best| capacity.is_better_than(&best))
            {
                best = Some(capacity);
            }
        }
        best
    }

    fn prefill_capacity(&self, shape: Shape, targets: Targets) -> Option<Capacity> {
        let tokens = shape.computed_tokens();
        let batch_max = (u64::from(self.token_budget) / tokens).max(1);
        self.best(batch_max, |batch| {
            let ttft = self.chunked(u64::from(batch) * tokens, DecodeLoad::default());
            let rate = per_second(f64::from(batch), ttft)?;
            let meets = ttft <= targets.ttft;
            Some(Capacity { rate, batch, ttft: Some(ttft), itl: None, meets })
        })
    }

    fn decode_capacity(&self, shape: Shape, targets: Targets) -> Option<Capacity> {
        self.best(self.pool_tokens / shape.context_tokens(), |batch| {
            let itl = self.pass(0, decode_load(shape, batch));
            let rate = per_second(f64::from(batch) / f64::from(shape.osl), itl)?;
            Some(Capacity { rate, batch, ttft: None, itl: Some(itl), meets: itl <= targets.itl })
        })
    }

    fn aggregated_capacity(&self, shape: Shape, targets: Targets) -> Option<Capacity> {
        let budget = u64::from(self.token_budget);
        let batch_max =
            (self.pool_tokens / shape.context_tokens()).min(budget.saturating_sub(1).max(1));
        let balanced = self.best(batch_max, |batch| {
            let prefill = self.balanced_prefill(shape, u64::from(batch));
            if prefill + u64::from(batch) > budget {
                return None;
            }
            let decode = decode_load(shape, batch);
            let itl = self.pass(prefill, decode);
            let ttft = self.chunked(prefill + shape.computed_tokens(), decode);
            let rate = per_second(f64::from(batch) / f64::from(shape.osl), itl)?;
            let meets = itl <= targets.itl && ttft <= targets.ttft;
            Some(Capacity { rate, batch, ttft: Some(ttft), itl: Some(itl), meets })
        });
        balanced.or_else(|| self.one_by_one(shape, targets))
    }

    /// A worker that serves one request after the other.
    fn one_by_one(&self, shape: Shape, targets: Targets) -> Option<Capacity> {
        let ttft = self.chunked(shape.computed_tokens(), DecodeLoad::default());
        let itl = self.pass(0, decode_load(shape, 1));
        let decode_ns = itl.as_ns().saturating_mul(u64::from(shape.osl) - 1);
        let whole = Span::from_ns(ttft.as_ns().saturating_add(decode_ns));
        let meets = itl <= targets.itl && ttft <= targets.ttft;
        let rate = per_second(1.0, whole)?;
        Some(Capacity { rate, batch: 1, ttft: Some(ttft), itl: Some(itl), meets })
    }
}

/// A batch of average requests that decode.
fn decode_load(shape: Shape, batch: u32) -> DecodeLoad {
    DecodeLoad { requests: batch, kv_tokens: u64::from(batch) * shape.context_tokens() }
}

/// So many in a time; nothing if the model says that it takes none.
fn per_second(count: f64, time: Span) -> Option<f64> {
    (time > Span::ZERO).then(|| count / time.as_secs())
}

/// All batch sizes up to `largest`, or [`CANDIDATES_MAX`] of them from 1 to `largest`.
fn candidates(largest: u32) -> impl Iterator<Item = u32> {
    let count = largest.min(CANDIDATES_MAX);
    let at = move |index: u32| {
        let span = u64::from(largest) - 1;
        1 + (u64::from(index) * span / u64::from(count - 1).max(1)) as u32
    };
    (0..count).map(at)
}

/// The rate that one worker of a role sustains within its targets, for a shape of requests.
#[derive(Clone, Debug)]
pub struct CapacityModel {
    engine: EngineModel,
    role: Role,
    targets: Targets,
    known: FxHashMap<Shape, Option<Capacity>>,
}

impl CapacityModel {
    /// For an engine in a role, with these targets.
    pub fn new(engine: EngineModel, role: Role, targets: Targets) -> CapacityModel {
        CapacityModel { engine, role, targets, known: FxHashMap::default() }
    }

    /// What a worker sustains; nothing if it cannot hold one such request, or if the timing model says that passes take
    /// no time. Computed once per shape.
    pub fn estimate(&mut self, shape: Shape) -> Option<Capacity> {
        if let Some(known) = self.known.get(&shape) {
            return *known;
        }
        let capacity = match self.role {
            Role::Aggregated => self.engine.aggregated_capacity(shape, self.targets),
            Role::Prefill => self.engine.prefill_capacity(shape, self.targets),
            Role::Decode => self.engine.decode_capacity(shape, self.targets),
        };
        if self.known.len() >= CACHE_MAX {
            self.known.clear();
        }
        self.known.insert(shape, capacity);
        capacity
    }
}

#[cfg(test)]
mod tests;
