//! What the next request would wait for its first token, roughly and on many workers at once.
//!
//! As [`EngineModel::chunked`] says but for the rounding of each pass to whole ns. Who knows how far that is off at most needs
//! to ask for the exact time only where it is close to what decides. Passes come from tables, and workers are taken in
//! blocks: processors work on several at a time if there is little to do for each.

use crate::model::planner::capacity::{EngineModel, Shape};
use crate::model::planner::observation::WorkerLoad;
use crate::model::timing::{DecodeLoad, RoughTimes};

/// So many workers at once.
const BLOCK: usize = 64;

/// The largest batch whose prefill parts are kept.
const PROMPTS_MAX: u32 = 1024;

/// What an estimate can be off by for the rounding of floats, as a share of it: generous.
const FLOAT_ERROR: f64 = 1e-11;

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

/// The passes of prompts.
#[derive(Clone, Copy, Default, Debug)]
struct Prompt {
    /// Passes with a whole chunk.
    chunks: f64,
    /// All passes.
    passes: f64,
    /// The prefill part of the last one if that has less than a chunk, ns.
    rest_ns: f64,
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

    /// The first worker of which it holds. It is asked of no worker that is clear from the estimate for `factor` times its queue and
    /// its KV; what is clear may become more with each one that was asked for.
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
        let grow = |tokens: u64| (tokens.cast_signed() as f64 * factor) as u32;
        let mut batches = [DecodeLoad::default(); BLOCK];
        let mut decode_ns = [0.0; BLOCK];
        let mut prompts = [Prompt::default(); BLOCK];
        let own_tokens = self.shape.computed_tokens();
        for (block, loads) in loads.chunks(BLOCK).enumerate() {
            if self.decodes {
                for (batch, load) in batches.iter_mut().zip(loads) {
                    let kv_tokens = grow(load.scheduled_kv_tokens).into();
                    *batch = DecodeLoad { requests: load.running, kv_tokens };
                }
                self.times.decode_ns(&batches, &mut decode_ns);
            }
            for (prompt, (load, batch)) in prompts.iter_mut().zip(loads.iter().zip(&batches)) {
                let queued = self.shape.computed_share(grow(load.queued_prefill_tokens).into());
                *prompt = self.prompt(queued + own_tokens, batch.requests);
            }
            let of = |at: usize| self.of(prompts[at], batches[at].requests, decode_ns[at]);
            // A bit each, which go to the right: no call and no branch between them.
            let mut open = 0_u64;
            for at in 0..BLOCK {
                open = open >> 1 | u64::from(!is_clear(of(at))) << (BLOCK - 1);
            }
            while open > 0 {
                let at = open.trailing_zeros() as usize;
                open &= open - 1;
                if loads.get(at).is_some_and(|load| !is_clear(of(at)) && holds(load)) {
                    return Some(block * BLOCK + at);
                }
            }
        }
        None
    }

    /// The passes of so many prompt tokens beside a batch.
    #[inline]
    fn prompt(&self, tokens: u64, requests: u32) -> Prompt {
        let [chunks, rest] = self.engine.chunks(tokens);
        let chunks = chunks.cast_signed() as f64;
        let (rest_ns, rests) =
            if rest > 0 { (self.times.prompt_ns(rest, requests), 1.0) } else { (0.0, 0.0) };
        Prompt { chunks, passes: chunks + rests, rest_ns }
    }

    /// For one worker, by the passes of its prompts, the batch besides and their decode part.
    #[inline]
    fn of(&self, prompt: Prompt, requests: u32, decode_ns: f64) -> RoughTtft {
        let Prompt { chunks, passes, rest_ns } = prompt;
        let [chunk_ns, own_ns] = *self.prompts.get(requests as usize).unwrap_or(&[f64::NAN; 2]);
        let ttft = chunks * chunk_ns + rest_ns + passes * decode_ns;
        let error = passes * self.times.error_ns() + FLOAT_ERROR * ttft;
        RoughTtft { own: own_ns + self.own_passes * decode_ns, ttft, error }
    }

    /// No pass is longer on workers with no more to do than this one, and no estimate: as if all passes were the longest that
    /// there are.
    pub(super) fn longest(&self, most: &WorkerLoad, grow: impl Fn(u64) -> u64) -> (f64, RoughTtft) {
        let kv_tokens = grow(most.scheduled_kv_tokens);
        let requests = 1..=if self.decodes { most.running.min(PROMPTS_MAX) } else { 0 };
        let batches: Vec<_> = requests.map(|requests| DecodeLoad { requests, kv_tokens }).collect();
        let mut decode_ns = vec![0.0; batches.len()];
        self.times.decode_ns(&batches, &mut decode_ns);
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
