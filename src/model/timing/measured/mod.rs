//! Measured timing: the figures of one engine shape, with corrections.
//!
//! ```text
//! pass = overhead + other(T) + prefill attention(requests, mean new, mean cached) + decode attention(requests, mean context)
//! ```
//!
//! T counts all tokens of the pass: those computed as prompt, and one for each decoding request. A pass that only decodes
//! has a curve `other` of its own. The table is compiled once, when a [`Measured`] is made; whoever has a clone shares it.

mod axis;
mod curve;
mod decode;
mod lines;
mod pass;
mod prefill;
mod split;
mod table;

pub(in crate::model::timing) use lines::DecodeLines;
pub use split::Split;
pub use table::{
    COORDINATE_MAX, DecodeRow, Grid, Identity, Kind, MS_MAX, OtherRow, PrefillRow, Table,
    TableError,
};

use std::fmt;
use std::sync::Arc;

use crate::kernel::time::Span;
use crate::model::timing::measured::curve::Curve;
use crate::model::timing::measured::decode::{DecodeAttention, Row, Stretch};
use crate::model::timing::measured::prefill::PrefillAttention;
use crate::model::timing::{DecodeLoad, INTEGER, NS_MAX, PrefillLoad, float, round_ns};

/// Factors on the parts of a pass, to calibrate a table with measurements of one's own.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scales {
    /// On everything that is not attention.
    pub other: f64,
    /// On the attention of prompt tokens.
    pub prefill_attention: f64,
    /// On the attention of decoding requests.
    pub decode_attention: f64,
}

impl Default for Scales {
    fn default() -> Scales {
        Scales { other: 1.0, prefill_attention: 1.0, decode_attention: 1.0 }
    }
}

/// What a pass takes that has prompt tokens and decoding requests.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum MixedPass {
    /// Everything but attention once, over all tokens of the pass.
    #[default]
    Fused,
    /// As long as a pass with its prompt tokens and a pass with its decoding requests, one after the other: the reference
    /// peer in 1.2. The overhead counts once.
    Sum,
}

/// A table ready for use. Clones share it.
#[derive(Clone)]
pub struct Measured {
    table: Arc<Table>,
    scales: Scales,
    pass_overhead: Span,
    mixed_pass: MixedPass,
    split: Option<Split>,
    compiled: Arc<Compiled>,
}

/// A table in ns, with all factors multiplied out.
struct Compiled {
    /// The curve of passes that compute prompt tokens, overhead included.
    prefill_other: Curve,
    /// The curve of passes that only decode, overhead included.
    decode_other: Curve,
    prefill: PrefillAttention,
    decode: DecodeAttention,
}

impl Measured {
    /// Times of `table`, its parts multiplied by `scales`, plus `pass_overhead` for what the host does in every pass:
    /// scheduling, launching, sampling.
    ///
    /// # Panics
    /// If a scale is not positive or not finite.
    pub fn new(table: Arc<Table>, scales: Scales, pass_overhead: Span) -> Measured {
        for scale in [scales.other, scales.prefill_attention, scales.decode_attention] {
            assert!(scale > 0.0 && scale.is_finite(), "a scale of {scale}");
        }
        let overhead = pass_overhead.as_ns() as f64;
        let curve = |points: &mut dyn Iterator<Item = (u32, f64)>| {
            let to_ns =
                |(tokens, ms): (u32, f64)| (f64::from(tokens), overhead + ms * 1e6 * scales.other);
            Curve::new(&points.map(to_ns).collect::<Vec<_>>())
        };
        let rows = table.other();
        let prefill_other = curve(&mut rows.iter().map(|row| (row.tokens, row.prefill_ms)));
        let decode_rows = rows.iter().filter_map(|row| Some((row.tokens, row.decode_ms?)));
        let decode_other = curve(&mut { decode_rows }).continued_by(&prefill_other);
        let prefill = PrefillAttention::new(table.prefill(), scales.prefill_attention);
        let decode = DecodeAttention::new(table.decode(), scales.decode_attention);
        let compiled = Arc::new(Compiled { prefill_other, decode_other, prefill, decode });
        Measured {
            table,
            scales,
            pass_overhead,
            mixed_pass: MixedPass::Fused,
            split: None,
            compiled,
        }
    }

    /// The same with another rule for passes of both kinds.
    #[must_use]
    pub fn with_mixed_pass(mut self, mixed_pass: MixedPass) -> Measured {
        self.mixed_pass = mixed_pass;
        self
    }

    /// The same for a worker that splits its batches.
    #[must_use]
    pub fn with_split(mut self, split: Split) -> Measured {
        self.split = Some(split);
        self
    }

    /// The figures.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The factors.
    pub fn scales(&self) -> Scales {
        self.scales
    }

    /// How batches are split, if they are.
    pub fn split(&self) -> Option<Split> {
        self.split
    }

    /// The rule for passes of both kinds.
    pub fn mixed_pass(&self) -> MixedPass {
        self.mixed_pass
    }

    /// Added to every pass.
    pub fn pass_overhead(&self) -> Span {
        self.pass_overhead
    }

    fn sums(&self, load: PrefillLoad, decoding: u32) -> Sums {
        Sums::of(load, if self.mixed_pass == MixedPass::Fused { decoding } else { 0 })
    }

    /// The durations of consecutive passes that only decode, as [`super::PassTimer::decode_run`] says.
    pub(super) fn decode_run(&self, first: DecodeLoad, growth: u32, durations: &mut [f64]) -> bool {
        if let Some(split) = self.split {
            return self.split_run(split, first, growth, durations);
        }
        let row = self.compiled.decode.row(first.requests);
        let other = self.compiled.decode_other.decode_ns(first.requests);
        if growth == 0 {
            let kv_tokens = first.kv_tokens as f64;
            durations.fill(self.compiled.decode.stretch(row, kv_tokens).ns(kv_tokens, other));
            return true;
        }
        let mut is_rising = true;
        let (mut done, mut before) = (0, 0.0);
        while done < durations.len() {
            let kv_tokens = first.kv_tokens + done as u64 * u64::from(growth);
            let rest = &mut durations[done..];
            let passes = self.run_stretch(row, other, (kv_tokens, growth), rest);
            is_rising &= before <= rest[0];
            before = rest[passes - 1];
            done += passes;
        }
        is_rising
    }

    /// The same, pass by pass: the shares are rounded to whole tokens.
    fn split_run(
        &self,
        split: Split,
        first: DecodeLoad,
        growth: u32,
        durations: &mut [f64],
    ) -> bool {
        let mut kv_tokens = first.kv_tokens;
        for duration in &mut *durations {
            let DecodeLoad { requests, kv_tokens: share } =
                split.decode(DecodeLoad { kv_tokens, ..first });
            let other =
                self.compiled.decode_other.decode_ns(requests) + split.hops_ns(f64::from(requests));
            let (row, share) = (self.compiled.decode.row(requests), share as f64);
            *duration = self.compiled.decode.stretch(row, share).ns(share, other);
            kv_tokens += u64::from(growth);
        }
        durations.is_sorted()
    }

    /// As many of these passes as are on the line of the first one; says how many these are. They rise.
    fn run_stretch(
        &self,
        row: Row,
        other: f64,
        (kv_tokens, growth): (u64, u32),
        durations: &mut [f64],
    ) -> usize {
        let first = kv_tokens as f64;
        let stretch = self.compiled.decode.stretch(row, first);
        let passes = stretch.to.map_or(durations.len(), |to| {
            let passes = (to as u64 - kv_tokens).div_ceil(u64::from(growth));
            durations.len().min(passes.max(1) as usize)
        });
        let growth = f64::from(growth);
        for (pass, duration) in (0_i32..).zip(&mut durations[..passes]) {
            *duration = stretch.ns(first + f64::from(pass) * growth, other);
        }
        passes
    }

    /// Lower bounds, in whole ns: of every prefill part, and of every pass that only decodes.
    pub(super) fn floors(&self) -> (u64, u64) {
        let Compiled { prefill_other, decode_other, prefill, decode } = &*self.compiled;
        // Between the figures nothing is below the least of them but for the rounding of floats.
        let floor = |ns: f64| round_ns((ns * (1.0 - 1e-12)).floor()) as u64;
        (
            floor(prefill_other.least() + prefill.least()),
            floor(decode_other.least() + decode.least()),
        )
    }

    /// Whether some part of a pass is outside of the figures. A function of its own, so that who asks after
    /// [`Measured::look_up`] needs no room on the stack.
    #[inline(never)]
    pub(super) fn is_outside(&self, prefill: PrefillLoad, decode: DecodeLoad) -> bool {
        if prefill.tokens <= prefill.prefix_tokens {
            return decode.requests > 0 && self.passes_inside(decode, 0, 1) == 0;
        }
        let (prefill, decode) = self
            .split
            .map_or((prefill, decode), |split| (split.prefill(prefill).load, split.decode(decode)));
        let Sums { requests, new, prefix, tokens } = self.sums(prefill, decode.requests);
        let each = |tokens: f64| tokens / f64::from(requests);
        let kv_tokens = decode.kv_tokens as f64;
        let alone = if self.mixed_pass == MixedPass::Sum { decode.requests } else { 0 };
        let is_inside = self.compiled.prefill_other.covers(tokens)
            && self.compiled.prefill.covers(f64::from(requests), each(new), each(prefix))
            && (alone == 0 || self.compiled.decode_other.covers(f64::from(alone)))
            && (decode.requests == 0
                || self
                    .compiled
                    .decode
                    .covered(decode.requests)
                    .is_some_and(|(least, most)| kv_tokens >= least && kv_tokens <= most));
        !is_inside
    }

    /// How many of `passes` passes that only decode come before the first that is outside of the figures.
    pub(super) fn passes_inside(&self, first: DecodeLoad, growth: u32, passes: usize) -> usize {
        let Compiled { decode_other, decode, .. } = &*self.compiled;
        let share = self.split.map_or(first, |split| split.decode(first));
        let covered = decode.covered(share.requests);
        let Some((least, most)) =
            covered.filter(|_| decode_other.covers(f64::from(share.requests)))
        else {
            return 0;
        };
        let (least, most) = (least as u64, most as u64);
        let is_short = share.kv_tokens < least;
        let most = self.split.map_or(most, |split| split.undo(first.requests, most));
        if is_short || first.kv_tokens > most {
            0
        } else if growth == 0 {
            passes
        } else {
            passes.min(((most - first.kv_tokens) / u64::from(growth)) as usize + 1)
        }
    }
}

impl Stretch {
    /// What it says about so many KV tokens, plus `other`: whole ns.
    #[inline]
    fn ns(&self, kv_tokens: f64, other: f64) -> f64 {
        let ns = self.at(kv_tokens, other);
        let ns = if ns < NS_MAX { ns } else { NS_MAX };
        (ns + INTEGER) - INTEGER
    }
}

/// Sums over the prefilling requests of a pass, which has `tokens` in all.
#[derive(Clone, Copy)]
struct Sums {
    requests: u32,
    new: f64,
    prefix: f64,
    tokens: f64,
}

impl Sums {
    fn of(load: PrefillLoad, decoding: u32) -> Sums {
        let new = float(load.tokens - load.prefix_tokens);
        let prefix = float(load.prefix_tokens);
        Sums { requests: load.requests, new, prefix, tokens: new + float(decoding.into()) }
    }
}

impl PartialEq for Measured {
    fn eq(&self, other: &Measured) -> bool {
        let is_same = Arc::ptr_eq(&self.table, &other.table) || self.table == other.table;
        is_same
            && self.scales == other.scales
            && self.pass_overhead == other.pass_overhead
            && self.mixed_pass == other.mixed_pass
            && self.split == other.split
    }
}

/// Without the figures: there are thousands.
impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured")
            .field("table", &self.table.identity())
            .field("scales", &self.scales)
            .field("pass_overhead", &self.pass_overhead)
            .field("mixed_pass", &self.mixed_pass)
            .field("split", &self.split)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
