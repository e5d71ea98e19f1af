//! What the next request would wait for its first token, roughly and on many workers at once.
//!
//! As [`EngineModel::chunked`] says but for the rounding of each pass to whole ns, and that of what is in tables. Who knows
//! how far that is off at most needs to ask for the exact time only where it is close to what decides. Passes come from tables,
//! and workers are taken in blocks, step by step: of a few short steps processors work on many at a time, of one long step on
//! few.

use crate::model::planner::capacity::{EngineModel, Shape};
use crate::model::planner::observation::WorkerLoad;
use crate::model::timing::{INTEGER, RoughTimes, float};

/// So many workers at once.
const BLOCK: usize = 64;

/// A bit for each of a block.
const BITS: [u64; BLOCK] = {
    let mut bits = [1; BLOCK];
    let mut at = 1;
    while at < BLOCK {
        bits[at] = bits[at - 1] << 1;
        at += 1;
    }
    bits
};

/// The largest batch whose prefill parts are kept.
const PROMPTS_MAX: u32 = 1024;

/// What an estimate can be off by for the rounding of floats, as a share of it: generous.
pub(super) const FLOAT_ERROR: f64 = 1e-11;

/// Rough estimates for requests of a shape.
#[derive(Debug)]
pub(super) struct RoughTtfts<'a> {
    times: &'a RoughTimes,
    engine: &'a EngineModel,
    shape: Shape,
    /// The most tokens that any worker has, queued or as KV.
    most_tokens: u64,
    /// Whether workers decode besides.
    decodes: bool,
    /// Passes of the prompt of a request.
    own_passes: f64,
    /// By decoding requests: the prefill parts of a pass with a whole chunk, and of the passes of the prompt of a request.
    prompts: Vec<[f64; 2]>,
}

/// A block of workers, and what the next request waits for there.
struct Block {
    /// Those that decode.
    requests: [u32; BLOCK],
    /// Their KV tokens, whole.
    kv_tokens: [f64; BLOCK],
    /// The decode part of a pass.
    decode_ns: [f64; BLOCK],
    /// Prompt tokens that wait, then passes with a whole chunk before the last pass.
    chunks: [f64; BLOCK],
    /// Prompt tokens of the last pass: at least one, at most a chunk.
    rests: [u64; BLOCK],
    /// The estimates.
    own: [f64; BLOCK],
    ttft: [f64; BLOCK],
}

/// A rough estimate, in ns. No number if passes are not in the tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoughTtft {
    /// Of the prompt alone.
    pub(super) own: f64,
    /// Of the queue and the prompt.
    pub(super) ttft: f64,
    /// How far both are off at most.
    pub(super) error: f64,
}

impl<'a> RoughTtfts<'a> {
    /// For workers with no more than `most` to do, which decode besides or only prefill.
    pub(super) fn new(
        times: &'a RoughTimes,
        engine: &'a EngineModel,
        shape: Shape,
        most: &WorkerLoad,
        decodes: bool,
    ) -> RoughTtfts<'a> {
        let own = engine.chunks(shape.computed_tokens());
        let kept = 0..=if decodes { most.running.min(PROMPTS_MAX) } else { 0 };
        let prompts = kept.map(|requests| {
            let chunk_ns = times.prompt_ns(engine.chunk_tokens(), requests);
            let rest_ns = if own[1] > 0 { times.prompt_ns(own[1], requests) } else { 0.0 };
            [chunk_ns, own[0] as f64 * chunk_ns + rest_ns]
        });
        let prompts = prompts.collect();
        let most_tokens = most.queued_prefill_tokens.max(most.scheduled_kv_tokens);
        let own_passes = (own[0] + u64::from(own[1] > 0)) as f64;
        RoughTtfts { times, engine, shape, most_tokens, decodes, own_passes, prompts }
    }

    /// The first worker of which it holds. It is asked of no worker that is clear from the estimate for `factor` times its queue
    /// and its KV; what is clear may become more with each one that was asked for.
    #[inline]
    pub(super) fn position(
        &self,
        loads: &[WorkerLoad],
        factor: f64,
        is_clear: impl Fn(RoughTtft) -> bool,
        mut holds: impl FnMut(&WorkerLoad) -> bool,
    ) -> Option<usize> {
        if self.most_tokens as f64 * factor >= f64::from(u32::MAX) {
            return loads.iter().position(holds);
        }
        let mut block = Block {
            requests: [0; BLOCK],
            kv_tokens: [0.0; BLOCK],
            decode_ns: [0.0; BLOCK],
            chunks: [0.0; BLOCK],
            rests: [0; BLOCK],
            own: [0.0; BLOCK],
            ttft: [0.0; BLOCK],
        };
        for (number, loads) in loads.chunks(BLOCK).enumerate() {
            self.fill(&mut block, loads, factor);
            // Selected and joined, two at a time.
            let mut open = 0;
            for (at, bit) in BITS.into_iter().enumerate() {
                open |= if is_clear(self.of(&block, at)) { 0 } else { bit };
            }
            while open > 0 {
                let at = open.trailing_zeros() as usize;
                open &= open - 1;
                if loads.get(at).is_some_and(|load| !is_clear(self.of(&block, at)) && holds(load)) {
                    return Some(number * BLOCK + at);
                }
            }
        }
        None
    }

    /// The estimates for these workers, with `factor` times their queues and their KV.
    #[inline]
    fn fill(&self, block: &mut Block, loads: &[WorkerLoad], factor: f64) {
        let Block { requests, kv_tokens, decode_ns, chunks, rests, own, ttft } = block;
        for (at, load) in loads.iter().enumerate().take(BLOCK) {
            requests[at] = if self.decodes { load.running } else { 0 };
            kv_tokens[at] = float(load.scheduled_kv_tokens);
            chunks[at] = float(load.queued_prefill_tokens);
        }
        let share = f64::from(self.shape.computed_thousandths()) / 1000.0;
        let own_tokens = self.shape.computed_tokens() as f64;
        if self.decodes {
            for kv_tokens in kv_tokens.iter_mut() {
                *kv_tokens = floor(*kv_tokens * factor);
            }
            self.times.decode_ns(requests, kv_tokens, decode_ns);
        }
        for tokens in chunks.iter_mut() {
            *tokens = rounded_up(floor(*tokens * factor) * share) + own_tokens;
        }
        let chunk = self.engine.chunk_tokens() as f64;
        let inverse = 1.0 / chunk;
        for (chunks, rest) in chunks.iter_mut().zip(&mut *rests) {
            let tokens = *chunks;
            *chunks = before_last(tokens, inverse);
            *rest = (tokens - *chunks * chunk + INTEGER).to_bits() ^ INTEGER.to_bits();
        }
        for at in 0..BLOCK {
            let (requests, decode_ns) = (requests[at], decode_ns[at]);
            let [chunk_ns, own_ns] = *self.prompts.get(requests as usize).unwrap_or(&[f64::NAN; 2]);
            let last_ns = self.times.prompt_ns(rests[at], requests) + decode_ns;
            own[at] = own_ns + self.own_passes * decode_ns;
            ttft[at] = chunks[at] * (chunk_ns + decode_ns) + last_ns;
        }
    }

    /// For one worker of a block.
    #[inline]
    fn of(&self, block: &Block, at: usize) -> RoughTtft {
        let (own, ttft) = (block.own[at], block.ttft[at]);
        let error = (block.chunks[at] + 1.0) * self.times.error_ns() + FLOAT_ERROR * ttft;
        RoughTtft { own, ttft, error }
    }

    /// No pass is longer on workers with no more to do than this one, and no estimate: as if all passes were the longest that
    /// there are.
    pub(super) fn longest(&self, most: &WorkerLoad, grow: impl Fn(u64) -> u64) -> (f64, RoughTtft) {
        let requests = 1..=if self.decodes { most.running.min(PROMPTS_MAX) } else { 0 };
        let requests: Vec<u32> = requests.collect();
        let kv_tokens = vec![grow(most.scheduled_kv_tokens) as f64; requests.len()];
        let mut decode_ns = vec![0.0; requests.len()];
        self.times.decode_ns(&requests, &kv_tokens, &mut decode_ns);
        // What is no number stays so.
        let longer =
            |longest: f64, &ns: &f64| if longest.is_nan() || ns <= longest { longest } else { ns };
        let pass_ns = self.times.longest_ns(self.engine.chunk_tokens(), most.running)
            + decode_ns.iter().fold(0.0, longer);
        let queued = self.shape.computed_share(grow(most.queued_prefill_tokens));
        let [chunks, _] = self.engine.chunks(queued + self.shape.computed_tokens());
        let [own, ttft] = [self.own_passes, chunks as f64 + 1.0].map(|passes| passes * pass_ns);
        let error = (chunks as f64 + 1.0) * self.times.error_ns() + FLOAT_ERROR * ttft;
        (pass_ns, RoughTtft { own, ttft, error })
    }
}

/// The nearest whole number, for one from -1 to 2^50: this and the next ones in instructions that every processor has for two at
/// a time.
#[inline]
fn round(x: f64) -> f64 {
    (x + 1.5 * INTEGER) - 1.5 * INTEGER
}

/// The whole part, for a number from 0 to 2^50.
#[inline]
fn floor(x: f64) -> f64 {
    let near = round(x);
    if near > x { near - 1.0 } else { near }
}

/// Thousandths, below 2^33, rounded up to a whole number.
#[inline]
fn rounded_up(thousandths: f64) -> f64 {
    // Half a thousandth from where it would be another number, at least.
    round(thousandths + 0.4995)
}

/// Whole chunks before the last one, which has a token at least: of 1 to 2^33 tokens, in chunks of 1 / `inverse`.
#[inline]
fn before_last(tokens: f64, inverse: f64) -> f64 {
    // Half a token from where it would be another number, at least.
    round(tokens * inverse - (0.5 + 0.5 * inverse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use rand::RngExt;

    /// What integers say, at and next to multiples too.
    #[test]
    fn floats_are_rounded_as_integers_are() {
        let mut rng = stream(41, 0);
        for _ in 0..20_000 {
            let [bits, chunk_bits] = [rng.random_range(0..33), rng.random_range(1..17)];
            let (tokens, share) = (rng.random_range(0..1_u64 << bits), rng.random_range(50..=1000));
            let chunk = rng.random_range(1..1_u64 << chunk_bits);
            for tokens in [tokens, tokens / chunk * chunk + 1, (tokens / chunk + 1) * chunk] {
                let computed = rounded_up(tokens as f64 * (share as f64 / 1000.0));
                assert_eq!(computed as u64, (tokens * share).div_ceil(1000), "{tokens} {share}");
                let tokens = tokens.max(1);
                let chunks = before_last(tokens as f64, 1.0 / chunk as f64);
                assert_eq!(chunks as u64, (tokens - 1) / chunk, "{tokens} {chunk}");
            }
            let x = tokens as f64 * rng.random_range(1.0..1.5);
            assert_eq!(floor(x) as u64, x as u64);
            assert_eq!(floor(tokens as f64) as u64, tokens);
        }
    }
}
