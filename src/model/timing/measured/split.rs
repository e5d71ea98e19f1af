//! Passes of workers that split a batch: over attention ranks, each with requests of its own, and over the stages of a
//! pipeline, each with layers of its own.
//!
//! A table has the times of a batch that one rank computes, through all layers. A pass of a worker with R ranks and S stages
//! is a round of R x S micro-batches, S of them one behind the other in the pipeline of every rank. The requests are spread
//! evenly and the fullest micro-batch counts, for the ranks wait for one another:
//!
//! ```text
//! pass = table(fullest micro-batch) x (1 + (chunks - 1) / S) + (S - 1) x hand-over of its tokens
//! ```
//!
//! The pipeline is not emptied between rounds, so with a request for every stage there is no bubble: S micro-batches leave
//! in the time that one takes from end to end. With fewer, stages idle. A long prompt that would fill one micro-batch is cut
//! into chunks that follow one another through the stages that are free, where the last one comes (chunks - 1) stages
//! after the first.

use crate::model::timing::{DecodeLoad, PrefillLoad};

/// How a worker splits a batch.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Split {
    /// Attention ranks, 1 or more.
    pub ranks: u32,
    /// Pipeline stages, 1 or more.
    pub stages: u32,
    /// The most new prompt tokens of a micro-batch, 1 or more.
    pub chunk: u32,
    /// What handing a token from one stage to the next takes, ns.
    pub hop_ns_per_token: f64,
}

/// The prompt tokens of the fullest micro-batch.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Share {
    /// Its load, of one chunk if it is cut into several.
    pub(super) load: PrefillLoad,
    /// How many times as long it takes until the last chunk is through.
    pub(super) times: f64,
}

impl Split {
    fn parts(self, requests: u32) -> u32 {
        self.ranks.saturating_mul(self.stages).min(requests).max(1)
    }

    /// The share of new prompt tokens.
    pub(super) fn prefill(self, load: PrefillLoad) -> Share {
        let parts = self.parts(load.requests);
        let requests = load.requests.div_ceil(parts);
        let each = |tokens: u64| tokens.div_ceil(u64::from(parts));
        let (new, prefix) = (each(load.tokens - load.prefix_tokens), each(load.prefix_tokens));
        let free = u64::from(self.stages / parts.div_ceil(self.ranks));
        let chunks = new.div_ceil(u64::from(self.chunk)).clamp(1, free);
        // The mean of the chunks: each sees those before it.
        let prefix_tokens = prefix + (new - new / chunks) / 2;
        let load =
            PrefillLoad { requests, tokens: prefix_tokens + new.div_ceil(chunks), prefix_tokens };
        Share { load, times: 1.0 + (chunks - 1) as f64 / f64::from(self.stages) }
    }

    /// The share of decoding requests.
    pub(super) fn decode(self, load: DecodeLoad) -> DecodeLoad {
        let parts = self.parts(load.requests);
        DecodeLoad {
            requests: load.requests.div_ceil(parts),
            kv_tokens: load.kv_tokens.div_ceil(u64::from(parts)),
        }
    }

    /// The most KV tokens of all requests together with which none has a share of more than `most`.
    pub(super) fn undo(self, requests: u32, most: u64) -> u64 {
        most.saturating_mul(u64::from(self.parts(requests)))
    }

    /// Handing on a micro-batch of so many tokens, from the first stage to the last, ns.
    pub(super) fn hops_ns(self, tokens: f64) -> f64 {
        f64::from(self.stages - 1) * self.hop_ns_per_token * tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPLIT: Split = Split { ranks: 2, stages: 4, chunk: 1000, hop_ns_per_token: 2.0 };

    fn prefill(requests: u32, new: u64, prefix_tokens: u64) -> Share {
        SPLIT.prefill(PrefillLoad { requests, tokens: prefix_tokens + new, prefix_tokens })
    }

    #[test]
    fn requests_are_spread_over_ranks_and_stages() {
        let whole = PrefillLoad { requests: 1, tokens: 150, prefix_tokens: 50 };
        assert_eq!(prefill(8, 800, 400), Share { load: whole, times: 1.0 });
        let two = PrefillLoad { requests: 2, tokens: 182, prefix_tokens: 57 };
        assert_eq!(prefill(9, 1000, 450), Share { load: two, times: 1.0 });
        let decode = |requests, kv_tokens| SPLIT.decode(DecodeLoad { requests, kv_tokens });
        assert_eq!(decode(100, 1000), DecodeLoad { requests: 13, kv_tokens: 125 });
        assert_eq!(decode(3, 1000), DecodeLoad { requests: 1, kv_tokens: 334 });
        assert_eq!(SPLIT.undo(3, 334), 1002);
    }

    #[test]
    fn a_long_prompt_goes_through_free_stages_in_chunks() {
        // Alone: four chunks of 1,000 after none, one, two and three others.
        let load = PrefillLoad { requests: 1, tokens: 2500, prefix_tokens: 1500 };
        assert_eq!(prefill(1, 4000, 0), Share { load, times: 1.75 });
        // More than there are stages for: the chunks are longer.
        let load = PrefillLoad { requests: 1, tokens: 5000, prefix_tokens: 3000 };
        assert_eq!(prefill(1, 8000, 0), Share { load, times: 1.75 });
        // Another request of the rank has half of the stages.
        let load = PrefillLoad { requests: 1, tokens: 3000, prefix_tokens: 1000 };
        assert_eq!(prefill(4, 16_000, 0), Share { load, times: 1.25 });
        // Every stage has a request of its own.
        let load = PrefillLoad { requests: 1, tokens: 4000, prefix_tokens: 0 };
        assert_eq!(prefill(8, 32_000, 0), Share { load, times: 1.0 });
    }

    #[test]
    fn stages_hand_over() {
        assert!((SPLIT.hops_ns(10.0) - 60.0).abs() < 1e-12);
    }
}
