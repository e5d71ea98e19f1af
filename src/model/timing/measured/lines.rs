//! The attention of decoding requests as lines, multiplied out for each batch size.

use crate::model::timing::measured::Measured;
use crate::model::timing::measured::axis::{Starts, inverse_above};
use crate::model::timing::measured::decode::{DecodeAttention, Stretch};
use crate::model::timing::{DecodeLoad, NS_MAX, float};

/// So many batches at once: each step of a look-up waits for memory, and the same step of others can be made meanwhile.
const BLOCK: usize = 64;

/// What [`DecodeAttention`] says but for rounding, by requests.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::model::timing) struct DecodeLines {
    /// In which gap of contexts something lies.
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
    /// With fewer KV tokens it takes no less.
    least: f64,
    /// The number of its first line.
    line: u32,
}

/// One that is not in the tables.
const UNKNOWN: Batch = Batch { inverse: f64::NAN, least: f64::NAN, line: 0 };

impl DecodeLines {
    /// For up to so many requests; times are multiplied by `scale`.
    fn new(decode: &DecodeAttention, requests: u32, scale: f64) -> DecodeLines {
        let starts: Vec<f64> = decode.lines(1).map(|stretch| stretch.from).collect();
        let batch = |requests: u32| Batch {
            inverse: inverse_above(requests.max(1).into()),
            least: starts[0] * f64::from(requests),
            line: requests * starts.len() as u32,
        };
        let lines = (1..=requests).flat_map(|requests| decode.lines(requests));
        let lines = lines
            .map(|Stretch { ns, slope, from, .. }| [(ns - slope * from) * scale, slope * scale]);
        let lines: Box<[_]> = starts.iter().map(|_| [0.0; 2]).chain(lines).collect();
        let largest = lines.iter().map(|[ns, _]| ns.abs()).fold(0.0, f64::max);
        DecodeLines {
            contexts: decode.contexts().clone(),
            last: starts[starts.len() - 1],
            batches: (0..=requests).map(batch).collect(),
            lines,
            longest_ns: NS_MAX * scale.min(1.0),
            error_ns: 8.0 * f64::EPSILON * largest,
        }
    }

    /// How far off a time is at most but for an error that is a share of it, ns.
    pub(in crate::model::timing) fn error_ns(&self) -> f64 {
        self.error_ns
    }

    /// What the lines say of batches; no number of larger ones.
    #[inline]
    pub(in crate::model::timing) fn fill(&self, batches: &[DecodeLoad], ns: &mut [f64]) {
        let mut lines = [0_u32; BLOCK];
        for (batches, ns) in batches.chunks(BLOCK).zip(ns.chunks_mut(BLOCK)) {
            for ((line, kv_tokens), batch) in lines.iter_mut().zip(&mut *ns).zip(batches) {
                (*line, *kv_tokens) = self.place(*batch);
            }
            for (line, ns) in lines.iter().zip(ns) {
                let [at_zero, slope] = self.lines[*line as usize];
                let exact = at_zero + slope * *ns;
                *ns = if exact > self.longest_ns { self.longest_ns } else { exact };
            }
        }
    }

    /// The line that a batch is on, and where.
    #[inline]
    fn place(&self, DecodeLoad { requests, kv_tokens }: DecodeLoad) -> (u32, f64) {
        let Batch { inverse, least, line } =
            *self.batches.get(requests as usize).unwrap_or(&UNKNOWN);
        let kv_tokens = float(kv_tokens);
        let kv_tokens = if kv_tokens > least { kv_tokens } else { least };
        let context = kv_tokens * inverse;
        let context = if context < self.last { context } else { self.last };
        (line + self.contexts.find(context) as u32, kv_tokens)
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

    /// Everything of a pass that only decodes but attention, for up to so many requests: the longest.
    pub(in crate::model::timing) fn longest_alone_ns(&self, requests: u32) -> f64 {
        let alone = (1..=requests).map(|requests| self.compiled.decode_other.decode_ns(requests));
        alone.fold(0.0, f64::max)
    }

    /// Everything but attention in a pass with prompt tokens, with so many tokens in all, likewise.
    pub(in crate::model::timing) fn prompt_other_ns(&self, tokens: u64) -> f64 {
        self.compiled.prefill_other.ns(tokens as f64)
    }
}
