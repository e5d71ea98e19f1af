//! The attention of decoding requests as lines, multiplied out for each batch size.

use crate::model::timing::NS_MAX;
use crate::model::timing::measured::Measured;
use crate::model::timing::measured::axis::{Starts, inverse_above};
use crate::model::timing::measured::decode::{DecodeAttention, Stretch};

/// What [`DecodeAttention`] says but for rounding, by requests.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::model::timing) struct DecodeLines {
    /// In which gap of contexts something lies; the first one is before the first context.
    contexts: Starts,
    /// The last context.
    last: f64,
    batches: Box<[Batch]>,
    /// By requests and then by gap: the time that the line would begin with at no KV, and the slope. The last gap twice, for
    /// what is behind it; zero for no requests.
    lines: Box<[[f64; 2]]>,
    /// No time is longer.
    longest_ns: f64,
    /// How far off a time is for the subtraction of what is before the start of a line.
    error_ns: f64,
}

/// A batch size.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Batch {
    /// [`inverse_above`].
    inverse: f64,
    /// The number of its first line.
    line: usize,
}

impl DecodeLines {
    /// For up to so many requests; times are multiplied by `scale`.
    fn new(decode: &DecodeAttention, requests: u32, scale: f64) -> DecodeLines {
        let starts: Vec<f64> =
            [0.0].into_iter().chain(decode.lines(1).map(|stretch| stretch.from)).collect();
        let batch = |requests: u32| Batch {
            inverse: inverse_above(requests.max(1).into()),
            line: requests as usize * starts.len(),
        };
        let of_batch = |requests: u32| {
            let lines = decode.lines(requests);
            let flat = lines.clone().next().map(|first| [first.ns, 0.0]);
            let lines = lines.map(|Stretch { ns, slope, from, .. }| [ns - slope * from, slope]);
            flat.into_iter().chain(lines).map(|line| line.map(|ns| ns * scale))
        };
        let none = starts.iter().map(|_| [0.0; 2]);
        let lines: Box<[_]> = none.chain((1..=requests).flat_map(of_batch)).collect();
        let largest = lines.iter().map(|[ns, _]| ns.abs()).fold(0.0, f64::max);
        DecodeLines {
            last: starts[starts.len() - 1],
            batches: (0..=requests).map(batch).collect(),
            lines,
            longest_ns: NS_MAX * scale.min(1.0),
            error_ns: 8.0 * f64::EPSILON * largest,
            contexts: Starts::new(starts),
        }
    }

    /// How far off a time is at most but for an error that is a share of it, ns.
    pub(in crate::model::timing) fn error_ns(&self) -> f64 {
        self.error_ns
    }

    /// What the lines say of so many requests that read `kv_tokens` together; no number of more requests than there are lines
    /// for.
    #[inline]
    pub(in crate::model::timing) fn ns(&self, requests: u32, kv_tokens: f64) -> f64 {
        let Some(&Batch { inverse, line }) = self.batches.get(requests as usize) else {
            return f64::NAN;
        };
        let context = kv_tokens * inverse;
        let context = if context < self.last { context } else { self.last };
        let [at_zero, slope] = self.lines[line + self.contexts.find(context)];
        let ns = at_zero + slope * kv_tokens;
        if ns < self.longest_ns { ns } else { self.longest_ns }
    }
}

impl Measured {
    /// The attention of decoding requests, up to so many, times `scale`.
    pub(in crate::model::timing) fn decode_lines(&self, requests: u32, scale: f64) -> DecodeLines {
        DecodeLines::new(&self.compiled.decode, requests, scale)
    }

    /// The attention of so many prompt tokens of one request, none of them cached, in ns before rounding.
    pub(in crate::model::timing) fn prompt_attention_ns(&self, tokens: u64) -> f64 {
        self.compiled.prefill.ns(1, tokens as f64, 0.0)
    }

    /// Everything but attention in a pass that only decodes, in ns before rounding.
    pub(in crate::model::timing) fn alone_ns(&self, requests: u32) -> f64 {
        self.compiled.decode_other.decode_ns(requests)
    }

    /// Everything but attention in a pass with prompt tokens, with so many tokens in all, likewise.
    pub(in crate::model::timing) fn prompt_other_ns(&self, tokens: u64) -> f64 {
        self.compiled.prefill_other.ns(tokens as f64)
    }
}
