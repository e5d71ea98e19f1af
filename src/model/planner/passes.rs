//! What the last passes of a fleet were like: what the reference peer makes its estimates from.
//!
//! Means over the last 64 passes of all workers that have such a part: the prompt tokens that a request computes in a pass,
//! the KV of a request that decodes, and, over all passes, what part of them computes prompts. So a fleet that is busy
//! with a burst of prompts looks slow for 64 passes, and one that decodes looks fast.
//!
//! The peer draws a plane through the times of these passes, over prompt tokens and KV tokens, and asks it for the time of
//! a pass with the mean prompt tokens. A plane through least squares goes through the mean of its points, so the answer
//! is, KV aside, the mean time of the passes. Here that mean is made from the timing model: that of a pass with prompts, as many tokens as there are
//! in those on average, and that of one without, weighted by how many there were of each.

use std::collections::VecDeque;

/// What one pass of a worker did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PassLoad {
    /// Requests that computed prompt tokens.
    pub prefill_requests: u32,
    /// Prompt tokens computed.
    pub prefill_tokens: u64,
    /// Requests that decoded.
    pub decode_requests: u32,
    /// KV tokens of these.
    pub decode_kv_tokens: u64,
}

/// Passes that count. The reference peer's.
const PASSES: usize = 64;

/// The mean of the last [`PASSES`] values.
#[derive(Clone, Default, Debug)]
struct Mean(VecDeque<f64>);

impl Mean {
    fn add(&mut self, value: f64) {
        if self.0.len() == PASSES {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// Summed anew, so that no error builds up.
    fn value(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }
}

/// The last passes of a fleet.
#[derive(Clone, Default, Debug)]
pub struct RecentPasses {
    chunks: Mean,
    contexts: Mean,
    prefill: Mean,
    share: Mean,
}

/// A usual pass.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct UsualPass {
    /// Prompt tokens that a request computes in a pass in which it computes any.
    pub chunk: f64,
    /// KV tokens of a request that decodes, to the nearest token; zero before there is one.
    pub context: u64,
    /// The part of the passes that computes prompts, from 0 to 1.
    pub prefill_share: f64,
    /// Prompt tokens of such a pass, likewise.
    pub prefill_tokens: u64,
}

impl RecentPasses {
    /// A pass has ended.
    pub fn add(&mut self, pass: &PassLoad) {
        if pass.prefill_requests > 0 {
            self.chunks.add(pass.prefill_tokens as f64 / f64::from(pass.prefill_requests));
            self.prefill.add(pass.prefill_tokens as f64);
        }
        if pass.decode_requests > 0 {
            self.contexts.add(pass.decode_kv_tokens as f64 / f64::from(pass.decode_requests));
        }
        self.share.add(if pass.prefill_requests > 0 { 1.0 } else { 0.0 });
    }

    /// The means; nothing before the first prompt.
    pub fn usual(&self) -> Option<UsualPass> {
        Some(UsualPass {
            chunk: self.chunks.value()?,
            context: self.contexts.value().unwrap_or(0.0).round() as u64,
            prefill_share: self.share.value()?,
            prefill_tokens: self.prefill.value()?.round() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_passes_count() {
        let mut recent = RecentPasses::default();
        assert_eq!(recent.usual(), None);
        let decode = PassLoad { decode_requests: 4, decode_kv_tokens: 800, ..PassLoad::default() };
        recent.add(&decode);
        assert_eq!(recent.usual(), None, "no prompt yet");
        let both = PassLoad { prefill_requests: 2, prefill_tokens: 640, ..decode };
        recent.add(&both);
        let expected =
            UsualPass { chunk: 320.0, context: 200, prefill_share: 0.5, prefill_tokens: 640 };
        assert_eq!(recent.usual(), Some(expected));
        for _ in 0..63 {
            recent.add(&decode);
        }
        let expected = UsualPass { prefill_share: 1.0 / 64.0, ..expected };
        assert_eq!(recent.usual(), Some(expected), "one in 64 passes");
        recent.add(&decode);
        let expected = UsualPass { prefill_share: 0.0, ..expected };
        assert_eq!(recent.usual(), Some(expected), "the last prompts are still known");
    }
}
