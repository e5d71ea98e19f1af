//! The KV-aware router: the worker where a request costs least, counting what its cache saves and what it has to do.
//!
//! All in blocks, for worker w (the reference peer's formula, lower is better):
//!
//! ```text
//! prefill = max(0, (active prefill tokens + prompt tokens) / block size - credit x overlap)
//! decode  = active blocks + the prompt's full blocks not among them
//! cost    = prefill_load_scale x prefill + decode + decode_active_request_weight x active requests
//! credit  = overlap_score_credit / (1 + decay x (active prefill tokens - the least of all) / block size / prompt blocks)
//! ```
//!
//! *Overlap* is what the workers' cache events say, as late as they arrive; the *active* terms are the router's own
//! books: a request counts from the moment it is routed, its prefill until its first token is heard of, its blocks until
//! its end is.
//!
//! Looking at every worker for every request would cost more than anything else in a large fleet. The search visits only
//! workers that could win (`search.rs`).

mod search;

use rand::RngExt;
use rustc_hash::FxHashMap;

use crate::kernel::rng::Stream;
use crate::kernel::tree::WinnerTree;
use crate::model::kv::{BlockLayout, CacheChange};
use crate::model::request::{RequestId, Visible, WorkerId};
use crate::model::router::index::{Book, Crowds, Path, PrefixIndex, Trail};
use crate::model::router::load::weighted;
use crate::model::router::set::WorkerSet;
use crate::model::router::{Policy, Reads};

/// Who gets a request when several workers cost the same.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum TieBreak {
    /// The one with the fewest active blocks, then the lowest number.
    #[default]
    Fewest,
    /// Any of them, drawn from the router's own stream. Needs a look at every worker.
    Random,
}

/// The parameters of the cost, under the reference peer's names.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KvRouterConfig {
    /// What a cached block is worth, in blocks to compute.
    pub overlap_score_credit: f64,
    /// How fast that falls with the prefill load a worker has more than the least loaded one.
    pub overlap_score_credit_decay: f64,
    /// What prefill weighs against decode.
    pub prefill_load_scale: f64,
    /// Blocks that every active request counts on top.
    pub decode_active_request_weight: f64,
    /// Above zero, workers are drawn with probability exp(-cost / (spread x temperature)). Needs a look at every worker.
    pub router_temperature: f64,
    /// See [`TieBreak`].
    pub tie_break: TieBreak,
    /// A worker is busy when it has more prefill tokens than this.
    pub busy_prefill_tokens: Option<f64>,
}

impl Default for KvRouterConfig {
    /// The reference peer's, but for ties.
    fn default() -> KvRouterConfig {
        KvRouterConfig {
            overlap_score_credit: 1.0,
            overlap_score_credit_decay: 0.0,
            prefill_load_scale: 1.0,
            decode_active_request_weight: 0.0,
            router_temperature: 0.0,
            tie_break: TieBreak::Fewest,
            busy_prefill_tokens: None,
        }
    }
}

/// What a worker has to do, by the router's books.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct WorkerLoad {
    prefill_tokens: u64,
    active_blocks: u64,
    requests: u64,
}

#[derive(Debug)]
struct InFlight {
    trail: Trail,
    /// Full blocks of the prompt that its chain names, and those it does not.
    named_blocks: u32,
    own_blocks: u32,
    prefill_tokens: u32,
}

/// What the search for a worker needs to know of a request.
#[derive(Clone, Copy, Debug)]
struct Demand {
    prompt_tokens: u64,
    blocks: u32,
}

/// The KV-aware policy.
#[derive(Debug)]
pub struct KvAware {
    config: KvRouterConfig,
    layout: BlockLayout,
    loads: Vec<WorkerLoad>,
    /// What workers have cached, and what their active requests hold.
    index: PrefixIndex,
    in_flight: FxHashMap<RequestId, InFlight>,
    /// The load of each worker as a [`key`], if it costs anything.
    base: WinnerTree<u128>,
    /// The other workers: nothing to do as far as the cost is concerned.
    idle: WorkerSet,
    /// Whether costs are without rounding errors.
    exact: bool,
    /// Prefill tokens of each worker, if the least of them matters.
    prefill: Option<WinnerTree<u64>>,
    rng: Stream,
    /// The nodes along the prompt last looked up.
    path: Path,
    /// Parts of it that many hold, by book.
    crowds: [Crowds; 2],
}

impl KvAware {
    /// All workers without load and with empty caches.
    pub fn new(config: KvRouterConfig, layout: BlockLayout, workers: u32, rng: Stream) -> KvAware {
        let watch_prefill =
            config.overlap_score_credit_decay > 0.0 || config.busy_prefill_tokens.is_some();
        let mut prefill = watch_prefill.then(|| WinnerTree::new(workers as usize, u64::MAX));
        if let Some(prefill) = &mut prefill {
            (0..workers).for_each(|worker| prefill.set(worker, 0));
        }
        KvAware {
            config,
            layout,
            loads: vec![WorkerLoad::default(); workers as usize],
            index: PrefixIndex::new(layout),
            in_flight: FxHashMap::default(),
            base: WinnerTree::new(workers as usize, NO_LOAD),
            exact: search::is_exact(&config, layout.block_size),
            idle: WorkerSet::full(workers),
            prefill,
            rng,
            path: Path::new(),
            crowds: [Crowds::new(), Crowds::new()],
        }
    }

    /// What the request would cost on each worker, in blocks.
    pub fn costs(&mut self, request: Visible<'_>) -> Vec<f64> {
        let demand = self.look_up(request);
        (0..self.loads.len() as u32).map(|worker| self.cost(demand, worker)).collect()
    }

    fn look_up(&mut self, request: Visible<'_>) -> Demand {
        let prompt = &request.prompt;
        let named = self.layout.full_blocks(prompt.shared_tokens);
        self.index.walk(&prompt.chain, named, &mut self.path);
        let blocks = self.layout.full_blocks(prompt.tokens);
        Demand { prompt_tokens: u64::from(prompt.tokens), blocks }
    }

    /// The cost on one worker of the request last looked up.
    fn cost(&self, demand: Demand, worker: u32) -> f64 {
        let load = self.loads[worker as usize];
        let block_size = f64::from(self.layout.block_size);
        let overlap = f64::from(self.index.overlap(Book::Cached, &self.path, worker));
        let credit = self.config.overlap_score_credit * self.decay(demand, load);
        let prompt = (load.prefill_tokens + demand.prompt_tokens) as f64 / block_size;
        let prefill = (prompt - credit * overlap).max(0.0);
        let shared = self.index.overlap(Book::Active, &self.path, worker);
        let decode = (load.active_blocks + u64::from(demand.blocks - shared)) as f64;
        let requests = self.config.decode_active_request_weight * load.requests as f64;
        self.config.prefill_load_scale * prefill + decode + requests
    }

    fn decay(&self, demand: Demand, load: WorkerLoad) -> f64 {
        match &self.prefill {
            Some(prefill) if self.config.overlap_score_credit_decay > 0.0 => {
                let excess = load.prefill_tokens - prefill.min().0;
                let excess = excess as f64 / f64::from(self.layout.block_size);
                let share = excess / f64::from(demand.blocks.max(1));
                1.0 / (1.0 + self.config.overlap_score_credit_decay * share)
            }
            _ => 1.0,
        }
    }

    /// A random one of the cheapest workers.
    fn any_cheapest(&mut self, demand: Demand) -> u32 {
        let (mut best, mut ties, mut chosen) = (f64::INFINITY, 0, 0);
        for worker in 0..self.loads.len() as u32 {
            let cost = self.cost(demand, worker);
            if cost < best {
                (best, ties, chosen) = (cost, 1, worker);
            } else if cost <= best {
                ties += 1;
                if self.rng.random_range(0..ties) == 0 {
                    chosen = worker;
                }
            }
        }
        chosen
    }

    /// A random worker, the cheaper the likelier.
    fn by_temperature(&mut self, demand: Demand) -> u32 {
        let mut weights: Vec<f64> = Vec::with_capacity(self.loads.len());
        weights.extend((0..self.loads.len() as u32).map(|worker| self.cost(demand, worker)));
        let min = weights.iter().copied().fold(f64::INFINITY, f64::min);
        let max = weights.iter().copied().fold(0.0, f64::max);
        let scale = (max - min) * self.config.router_temperature;
        for weight in &mut weights {
            *weight = if scale > 0.0 { (-(*weight - min) / scale).exp() } else { 1.0 };
        }
        weighted(&mut self.rng, &weights) as u32
    }

    /// Enters a change of a worker's load into the books.
    fn change(&mut self, worker: u32, change: impl FnOnce(&mut WorkerLoad)) {
        let load = &mut self.loads[worker as usize];
        change(load);
        if let Some(prefill) = &mut self.prefill {
            prefill.set(worker, load.prefill_tokens);
        }
        let prefill = load.prefill_tokens as f64 / f64::from(self.layout.block_size);
        let base = self.config.prefill_load_scale * prefill
            + load.active_blocks as f64
            + self.config.decode_active_request_weight * load.requests as f64;
        let key = if base > 0.0 { key(base, load.active_blocks, worker) } else { NO_LOAD };
        let before = self.base.get(worker);
        if key != before {
            if before == NO_LOAD {
                self.idle.remove(worker);
            } else if key == NO_LOAD {
                self.idle.insert(worker);
            }
            self.base.set(worker, key);
        }
    }
}

/// In place of the key of a worker whose load costs nothing.
const NO_LOAD: u128 = u128::MAX;

/// A load as it is compared: by what it adds to the cost, then by active blocks, then by the worker's number.
fn key(base: f64, active_blocks: u64, worker: u32) -> u128 {
    key_of_base(base) | u128::from(active_blocks) << 20 | u128::from(worker)
}

fn key_of_base(base: f64) -> u128 {
    // The bits of floats that are not negative sort like the floats.
    u128::from(base.to_bits()) << 64
}

impl Policy for KvAware {
    fn reads(&self) -> Reads {
        Reads { prefilled: true, finished: true, cache: true }
    }

    fn choose(&mut self, request: Visible<'_>) -> WorkerId {
        let demand = self.look_up(request);
        let worker = if self.config.router_temperature > 0.0 {
            self.by_temperature(demand)
        } else if self.config.tie_break == TieBreak::Random {
            self.any_cheapest(demand)
        } else {
            self.cheapest(demand)
        };
        self.assign(request, WorkerId(worker));
        WorkerId(worker)
    }

    fn prefilled(&mut self, worker: WorkerId, request: RequestId) {
        if let Some(in_flight) = self.in_flight.get_mut(&request) {
            let tokens = std::mem::take(&mut in_flight.prefill_tokens);
            self.change(worker.0, |load| load.prefill_tokens -= u64::from(tokens));
        }
    }

    fn finished(&mut self, worker: WorkerId, request: RequestId) {
        if let Some(in_flight) = self.in_flight.remove(&request) {
            let InFlight { trail, named_blocks, own_blocks, prefill_tokens } = in_flight;
            let lost = self.index.remove_along(Book::Active, worker.0, trail, named_blocks);
            let lost = lost + own_blocks;
            self.change(worker.0, |load| {
                load.prefill_tokens -= u64::from(prefill_tokens);
                load.active_blocks -= u64::from(lost);
                load.requests -= 1;
            });
        }
    }

    fn cache_changed(&mut self, worker: WorkerId, changes: &[CacheChange]) {
        for CacheChange { stored, chain, first, end } in changes {
            if *stored {
                self.index.add(Book::Cached, worker.0, chain, *first, *end);
            } else {
                self.index.remove(Book::Cached, worker.0, chain, *first, *end);
            }
        }
    }

    fn is_busy(&self) -> bool {
        match (&self.prefill, self.config.busy_prefill_tokens) {
            (Some(prefill), Some(threshold)) => prefill.min().0 as f64 > threshold,
            _ => false,
        }
    }

    fn uncached_tokens(&mut self, request: Visible<'_>) -> u32 {
        self.look_up(request);
        let best = self.index.longest(Book::Cached, &self.path);
        request.prompt.tokens.saturating_sub(best * self.layout.block_size)
    }
}

impl KvAware {
    /// Counts the request last looked at as a worker's, whoever chose it.
    pub fn assign(&mut self, request: Visible<'_>, worker: WorkerId) {
        let prompt = &request.prompt;
        let cached =
            self.index.overlap(Book::Cached, &self.path, worker.0) * self.layout.block_size;
        let prefill_tokens = prompt.tokens.saturating_sub(cached);
        let named_blocks = self.layout.full_blocks(prompt.shared_tokens);
        let own_blocks = self.layout.full_blocks(prompt.tokens) - named_blocks;
        let named = (&prompt.chain, named_blocks);
        let (fresh, trail) = self.index.add_along(Book::Active, worker.0, named, &self.path);
        let fresh = fresh + own_blocks;
        let in_flight = InFlight { trail, named_blocks, own_blocks, prefill_tokens };
        self.in_flight.insert(request.id, in_flight);
        self.change(worker.0, |load| {
            load.prefill_tokens += u64::from(prefill_tokens);
            load.active_blocks += u64::from(fresh);
            load.requests += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernel::rng::stream;
    use crate::kernel::time::Time;
    use crate::model::request::{Prompt, Request};
    use rand::RngExt;

    fn request(rng: &mut Stream, id: u64) -> Request {
        let trunk = rng.random_range(0..3);
        let length = rng.random_range(0..10);
        let ids: Vec<u64> =
            (0..=length).map(|at| if at < 3 { trunk } else { rng.random_range(0..2) }).collect();
        let tokens = rng.random_range(1..=ids.len() as u32 * 8);
        let mut prompt = Prompt::named(tokens, ids.into_iter(), 0);
        if rng.random_bool(0.1) {
            prompt.shared_tokens /= 2;
        }
        Request {
            id: RequestId(id),
            trace_line: id,
            arrival: Time::ZERO,
            prompt,
            output_tokens: 1,
            session: None,
            strict_priority: 0,
            priority_jump: 0.0,
        }
    }

    /// The search against a look at every worker, over random loads and caches.
    #[test]
    fn the_search_finds_what_a_full_scan_finds() {
        let layout = BlockLayout { block_size: 4, trace_block_size: 8 };
        for (case, workers) in [1, 2, 3, 10, 100, 300].into_iter().cycle().take(36).enumerate() {
            let mut rng = stream(7, case as u64);
            let mut pick = |values: &[f64]| values[rng.random_range(0..values.len())];
            let config = KvRouterConfig {
                overlap_score_credit: pick(&[0.0, 0.5, 1.0, 1.0, 2.0]),
                overlap_score_credit_decay: pick(&[0.0, 0.0, 0.7]),
                prefill_load_scale: pick(&[0.0, 1.0, 1.0, 2.5]),
                decode_active_request_weight: pick(&[0.0, 0.0, 3.0]),
                ..KvRouterConfig::default()
            };
            let mut policy = KvAware::new(config, layout, workers, stream(8, 0));
            let mut open: Vec<(WorkerId, Request)> = Vec::new();
            let mut cached: Vec<(WorkerId, CacheChange)> = Vec::new();
            for id in 0..600 {
                let request = request(&mut rng, id);
                let costs = policy.costs(request.visible());
                let key = |worker: usize| (policy.loads[worker].active_blocks, worker);
                let cheapest = |&a: &usize, &b: &usize| {
                    costs[a].total_cmp(&costs[b]).then(key(a).cmp(&key(b)))
                };
                let expected = (0..workers as usize).min_by(cheapest).unwrap();
                let worker = policy.choose(request.visible());
                assert_eq!(worker.index(), expected, "case {case}, request {id}, {config:?}");
                let blocks = layout.full_blocks(request.prompt.shared_tokens);
                if blocks > 0 && rng.random_bool(0.8) {
                    let chain = Arc::clone(&request.prompt.chain);
                    let change = CacheChange { stored: true, chain, first: 0, end: blocks };
                    policy.index.walk(&change.chain, blocks, &mut policy.path);
                    let known = policy.index.overlap(Book::Cached, &policy.path, worker.0);
                    if known < blocks {
                        let change = CacheChange { first: known, ..change };
                        policy.cache_changed(worker, std::slice::from_ref(&change));
                        cached.push((worker, change));
                    }
                }
                open.push((worker, request));
                if rng.random_bool(0.5) {
                    let (worker, request) = &open[rng.random_range(0..open.len())];
                    policy.prefilled(*worker, request.id);
                }
                while open.len() > workers as usize * 2 || rng.random_bool(0.45) && !open.is_empty()
                {
                    let (worker, request) = open.swap_remove(rng.random_range(0..open.len()));
                    policy.finished(worker, request.id);
                }
            }
            for (worker, request) in open {
                policy.finished(worker, request.id);
            }
            for (worker, change) in cached.into_iter().rev() {
                let change = CacheChange { stored: false, ..change };
                policy.cache_changed(worker, &[change]);
            }
            assert!(policy.index.is_empty() && policy.in_flight.is_empty());
            assert!(policy.loads.iter().all(|load| *load == WorkerLoad::default()));
            assert_eq!(policy.idle.len(), workers as usize);
        }
    }

    #[test]
    fn temperature_prefers_the_cheap_without_insisting() {
        let layout = BlockLayout { block_size: 4, trace_block_size: 8 };
        let config = KvRouterConfig { router_temperature: 1.0, ..KvRouterConfig::default() };
        let mut policy = KvAware::new(config, layout, 2, stream(9, 0));
        let mut rng = stream(10, 0);
        let busy = request(&mut rng, 0);
        policy.costs(busy.visible());
        policy.assign(busy.visible(), WorkerId(0));
        let mut counts = [0; 2];
        for id in 1..2000 {
            let request = Request { id: RequestId(id), ..busy.clone() };
            let worker = policy.choose(request.visible());
            counts[worker.index()] += 1;
            policy.finished(worker, request.id);
        }
        // Costs are at the two ends of the spread, so the odds are e to one.
        let share = f64::from(counts[1]) / 1999.0;
        let expected = 1.0 / (1.0 + (-1.0_f64).exp());
        assert!((share - expected).abs() < 0.03, "{share}");
    }
}
