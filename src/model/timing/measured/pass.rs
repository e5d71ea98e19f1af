//! The time of one pass, in two parts.
//!
//! Nearly all passes are inside of the figures, and there tables tell where. That way has no calls, and who gets a time
//! on it need not ask whether the pass is outside. Whatever the tables do not tell leaves it, and starts again on the
//! general one, to the same result.

use crate::model::timing::measured::split::Split;
use crate::model::timing::measured::{Compiled, Measured, MixedPass, Sums};
use crate::model::timing::{DecodeLoad, PrefillLoad, float, whole_ns};

impl Measured {
    /// The prefill part and the decode part of a pass, in whole ns. If there are new prompt tokens, the second one is the
    /// attention of the decoding requests alone, unless passes of both kinds are sums.
    pub(in crate::model::timing) fn parts(
        &self,
        prefill: PrefillLoad,
        decode: DecodeLoad,
    ) -> [u64; 2] {
        let is_decode_only = prefill.tokens <= prefill.prefix_tokens;
        let prefill_ns = if is_decode_only { 0 } else { self.prefill_ns(prefill, decode.requests) };
        let decode_ns = match decode.requests {
            0 => 0,
            _ => self.decode_ns(decode, is_decode_only),
        };
        [prefill_ns, decode_ns]
    }

    /// The same if batches are not split, passes of both kinds are one, and tables tell: of no pass that [`is_outside`].
    ///
    /// [`is_outside`]: Measured::is_outside
    #[inline]
    pub(in crate::model::timing) fn look_up(
        &self,
        prefill: PrefillLoad,
        decode: DecodeLoad,
    ) -> Option<[u64; 2]> {
        if self.split.is_some() || self.mixed_pass != MixedPass::Fused {
            return None;
        }
        let compiled = &*self.compiled;
        let (prefill_ns, other) = if prefill.tokens <= prefill.prefix_tokens {
            (0, compiled.decode_other.look_up_decode(decode.requests)?)
        } else {
            let Sums { requests, new, prefix, tokens } = Sums::of(prefill, decode.requests);
            let other = compiled.prefill_other.look_up(tokens)?;
            (whole_ns(other + compiled.prefill.look_up(requests, new, prefix)?), 0.0)
        };
        let decode_ns = match decode.requests {
            0 => 0,
            requests => {
                whole_ns(compiled.decode.look_up(requests, float(decode.kv_tokens), other)?)
            }
        };
        Some([prefill_ns, decode_ns])
    }

    /// The prefill part: everything but the attention of the decoding requests, or but all that they take.
    fn prefill_ns(&self, load: PrefillLoad, decoding: u32) -> u64 {
        let decoding = DecodeLoad { requests: decoding, kv_tokens: 0 };
        whole_ns(match self.split {
            None => self.compiled.prefill_ns(self.sums(load, decoding.requests)),
            Some(split) => {
                let share = split.prefill(load);
                let sums = self.sums(share.load, split.decode(decoding).requests);
                self.compiled.prefill_ns(sums) * share.times + split.hops_ns(sums.tokens)
            }
        })
    }

    /// The decode part: all of it, or what it adds to a pass with new prompt tokens.
    fn decode_ns(&self, load: DecodeLoad, is_alone: bool) -> u64 {
        let share = self.split.map_or(load, |split| split.decode(load));
        let Compiled { decode_other, decode, .. } = &*self.compiled;
        let hops = |split: Split| split.hops_ns(f64::from(share.requests));
        let alone = || decode_other.decode_ns(share.requests) + self.split.map_or(0.0, hops);
        let other = if is_alone {
            alone()
        } else if self.mixed_pass == MixedPass::Sum {
            alone() - self.pass_overhead.as_ns() as f64
        } else {
            0.0
        };
        whole_ns(decode.ns(share.requests, float(share.kv_tokens), other))
    }
}

impl Compiled {
    fn prefill_ns(&self, Sums { requests, new, prefix, tokens }: Sums) -> f64 {
        self.prefill_other.ns(tokens) + self.prefill.ns(requests, new, prefix)
    }
}
