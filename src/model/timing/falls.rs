//! How much less a pass can take with more to do, for those who tell times of passes from times of others.

use crate::model::timing::measured::PartFalls;
use crate::model::timing::{DecodeLoad, PassTimer, TimingModel};

/// Numbers of KV tokens that the fall of attention is worked out between.
const STEPS: u64 = 128;

/// The largest falls of passes, in ns. With the same batch, more KV tokens never take less but for rounding.
#[derive(Clone, PartialEq, Debug)]
pub struct Falls {
    /// Of a pass with a whole chunk of prompt tokens, but for the attention of what decodes besides.
    chunk: u64,
    /// Of any pass, likewise.
    any: u64,
    /// Of any pass with the same prompt tokens and the same batch.
    rounding: u64,
    /// What attention of the same KV tokens falls by with more requests: by their number, in steps.
    attention: Box<[u64]>,
    step: u64,
    requests_max: u32,
}

impl Falls {
    /// Of passes that never take less with more to do.
    fn none() -> Falls {
        let attention = Box::from([0]);
        let (step, requests_max) = (u64::MAX, u32::MAX);
        Falls { chunk: 0, any: 0, rounding: 0, attention, step, requests_max }
    }

    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        self.any == 0
    }

    /// The largest batch that they hold for.
    pub fn requests_max(&self) -> u32 {
        self.requests_max
    }

    /// The fall of a pass that reads so many KV tokens; the longest time there is if that is unknown.
    pub fn pass_ns(&self, kv_tokens: u64) -> u64 {
        self.any.saturating_add(self.attention_ns(kv_tokens))
    }

    /// The fall of so many passes with whole chunks of prompt tokens, and one with the rest.
    pub fn chunked_ns(&self, chunks: u64, kv_tokens: u64) -> u64 {
        let chunk = self.chunk.saturating_add(self.attention_ns(kv_tokens));
        chunk.saturating_mul(chunks).saturating_add(self.pass_ns(kv_tokens))
    }

    /// The same if the batch is the same, or there is none.
    pub fn chunked_beside_same_ns(&self, chunks: u64) -> u64 {
        self.rounding.saturating_mul(chunks).saturating_add(self.any)
    }

    /// The fall of a pass with the same prompt tokens and the same batch.
    pub fn rounding_ns(&self) -> u64 {
        self.rounding
    }

    fn attention_ns(&self, kv_tokens: u64) -> u64 {
        let at = usize::try_from(kv_tokens / self.step).ok();
        at.and_then(|at| self.attention.get(at)).copied().unwrap_or(u64::MAX)
    }
}

impl PassTimer {
    /// The falls of passes with up to `chunk` prompt tokens of one request and up to `requests` decoding ones, which read
    /// about `kv_tokens` at most. Those of measured timing, unless they are unknown: formulas are not looked at, and
    /// taken to have none.
    pub fn falls(&self, chunk: u64, requests: u32, kv_tokens: u64) -> Option<Falls> {
        let TimingModel::Measured(measured) = &self.model else { return Some(Falls::none()) };
        let PartFalls { prefill, chunk, beside, alone, one, least } =
            measured.falls(chunk, requests)?;
        let [prefill, chunk] = [prefill, chunk].map(|ns| whole(ns, self.prefill_speedup));
        let [beside, alone] = [beside, alone].map(|ns| whole(ns, self.decode_speedup));
        // From a pass that only decodes to one that does not.
        let across = one / self.decode_speedup - least / self.prefill_speedup;
        let step = kv_tokens / STEPS + 1;
        let attention_at = |kv_tokens| -> Vec<u64> {
            let load = |requests| DecodeLoad { requests, kv_tokens };
            (1..=requests).map(|requests| measured.decode_attention_ns(load(requests))).collect()
        };
        let mut before = attention_at(0);
        // A bit more than was asked for, as loads that are compared are a bit larger than those there are.
        let attention = (1..=STEPS + STEPS / 8).map(|at| {
            let after = attention_at(at * step);
            let ns = cross_fall(&after, &before);
            before = after;
            whole((ns + 1) as f64, self.decode_speedup)
        });
        Some(Falls {
            attention: attention.collect(),
            chunk: chunk + beside,
            any: (prefill + beside).max(alone).max(whole(across.max(0.0), 1.0)),
            rounding: whole(0.0, self.decode_speedup),
            step,
            requests_max: requests,
        })
    }
}

/// What a last rounding to whole ns can add to a fall, and that of floats.
const ROUNDING: u64 = 2;

/// A fall in whole ns, after a speed-up ratio. The time before it is rounded too.
fn whole(ns: f64, speedup: f64) -> u64 {
    ((ns + 1.0) / speedup).ceil() as u64 + ROUNDING
}

/// How far values fall at most from one of the first list to a later one of the second, which has as many.
fn cross_fall(from: &[u64], to: &[u64]) -> u64 {
    let (mut highest, mut fall) = (0_u64, 0);
    for (&from, &to) in from.iter().zip(to) {
        fall = fall.max(highest.saturating_sub(to));
        highest = highest.max(from);
    }
    fall
}
