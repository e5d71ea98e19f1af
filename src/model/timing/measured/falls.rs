//! How much less a pass can take with more to do.
//!
//! Figures are measured, so they are noisy, and kernels are chosen by size, so they have steps: a pass of two tokens can
//! take less than one of a token. And the attention of so many KV tokens takes less if they are spread over a few
//! requests than if one has them all. Who knows by how much at most can still tell the time of one pass from another one.

use crate::model::timing::measured::curve::Curve;
use crate::model::timing::measured::prefill::PrefillAttention;
use crate::model::timing::measured::{Compiled, Measured, MixedPass};
use crate::model::timing::{DecodeLoad, whole_ns};

/// The largest falls of the parts of a pass, in ns before rounding; zero for a part that never falls.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::model::timing) struct PartFalls {
    /// Of the prefill part of one request, with more prompt tokens or with more decoding requests.
    pub(in crate::model::timing) prefill: f64,
    /// The same, but with the prompt tokens of a whole chunk.
    pub(in crate::model::timing) chunk: f64,
    /// Of the decode part, but for attention, with more decoding requests beside prompt tokens.
    pub(in crate::model::timing) beside: f64,
    /// The same in a pass that only decodes.
    pub(in crate::model::timing) alone: f64,
    /// The decode part, but for attention, of a pass that only decodes one request.
    pub(in crate::model::timing) one: f64,
    /// The least prefill part.
    pub(in crate::model::timing) least: f64,
}

impl Measured {
    /// The falls of passes with up to `requests` decoding requests, and with no more prompt tokens than `chunk`. Unknown
    /// for batches that are split: their shares are rounded.
    pub(in crate::model::timing) fn falls(&self, chunk: u64, requests: u32) -> Option<PartFalls> {
        if self.split.is_some() {
            return None;
        }
        let Compiled { prefill_other, decode_other, prefill, .. } = &*self.compiled;
        let alone = decode_other.fall();
        let is_fused = self.mixed_pass == MixedPass::Fused;
        let beside = if is_fused { 0.0 } else { alone };
        let fullest = if is_fused { requests } else { 0 };
        let with = |decoding: u32| prefill_other.ns(chunk.max(1) as f64 + f64::from(decoding));
        Some(PartFalls {
            prefill: prefill_other.fall() + prefill.fall(),
            chunk: fall((0..=fullest).map(with)),
            beside,
            alone,
            one: decode_other.ns(1.0),
            least: prefill_other.least() + prefill.least(),
        })
    }

    /// The attention of this batch, alone, in whole ns.
    pub(in crate::model::timing) fn decode_attention_ns(&self, load: DecodeLoad) -> u64 {
        whole_ns(self.compiled.decode.ns(load.requests, load.kv_tokens as f64, 0.0))
    }
}

impl Curve {
    /// How far it falls at most from some number of tokens, 1 or more, to a larger one.
    fn fall(&self) -> f64 {
        fall(self.ends().map(|tokens| self.ns(tokens)))
    }
}

impl PrefillAttention {
    /// How far the time of one request with nothing cached falls at most with more new tokens. Between the figures it is
    /// linear, and it rises behind the last one.
    fn fall(&self) -> f64 {
        fall(self.new_tokens().map(|new| self.ns(1, new, 0.0)))
    }
}

/// How far values fall at most, from one of them to a later one.
fn fall(values: impl Iterator<Item = f64>) -> f64 {
    let (mut highest, mut fall) = (f64::NEG_INFINITY, 0.0_f64);
    for value in values {
        highest = highest.max(value);
        fall = fall.max(highest - value);
    }
    fall
}
