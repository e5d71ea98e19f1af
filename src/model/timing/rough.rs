//! Rough times of passes, to a few ns, for who asks for thousands of them: from tables, not rounded to whole ns.

use crate::model::timing::measured::{DecodeLines, MixedPass};
use crate::model::timing::polynomial::DecodeCurve;
use crate::model::timing::{DecodeLoad, NS_MAX, PassTimer, TimingModel, float};

/// The most tokens of a pass that are tabulated: 256 kB for both parts.
const TOKENS_MAX: u64 = 1 << 15;

/// The most decoding requests that are tabulated.
const REQUESTS_MAX: u32 = 1024;

/// Rough times of the parts of passes, in ns. What is not in the tables is no number.
#[derive(Clone, PartialEq, Debug)]
pub struct RoughTimes {
    /// By prompt tokens: what they take whatever decodes besides, in units.
    prompt: Box<[u32]>,
    /// By all tokens of the pass, if that counts: likewise.
    other: Box<[u32]>,
    /// A 2^32nd of the longest pass, so that most of the tables is in a cache.
    unit_ns: f64,
    /// By decoding requests: all but their attention in a pass without prompt tokens.
    alone: Box<[f64]>,
    decode: RoughDecode,
    /// Passes without prompt tokens may be cut short from here on.
    cut_ns: f64,
    /// See [`RoughTimes::longest_ns`].
    longest_ns: f64,
    /// See [`RoughTimes::error_ns`].
    error_ns: f64,
}

/// The decode part of passes with prompt tokens.
#[derive(Clone, PartialEq, Debug)]
enum RoughDecode {
    Lines(DecodeLines),
    /// Times a factor.
    Curve(DecodeCurve, f64),
    Constant(f64),
}

impl RoughTimes {
    /// How far off a pass is at most, ns.
    pub fn error_ns(&self) -> f64 {
        self.error_ns
    }

    /// The prefill part of a pass with prompt tokens of one request, none of them cached.
    #[inline]
    pub fn prompt_ns(&self, tokens: u64, decoding: u32) -> f64 {
        let prompt = self.prompt.get(tokens as usize);
        let other = self.other.get(tokens as usize + decoding as usize);
        let units = prompt.zip(other).map(|(&prompt, &other)| u64::from(prompt) + u64::from(other));
        units.map_or(f64::NAN, |units| float(units) * self.unit_ns)
    }

    /// A pass with so many prompt tokens of one request, or with none.
    pub fn pass_ns(&self, tokens: u64, DecodeLoad { requests, kv_tokens }: DecodeLoad) -> f64 {
        let mut decode_ns = [0.0];
        self.decode_ns(&[requests], &[kv_tokens as f64], &mut decode_ns);
        let alone = || self.alone.get(requests as usize).copied().unwrap_or(f64::NAN);
        let ns = decode_ns[0] + if tokens > 0 { self.prompt_ns(tokens, requests) } else { alone() };
        if ns < self.cut_ns { ns } else { f64::NAN }
    }

    /// No pass without the attention of what decodes is longer: with up to so many prompt tokens, or none, and decoding
    /// requests.
    pub fn longest_ns(&self, tokens: u64, decoding: u32) -> f64 {
        let is_known = tokens < self.prompt.len() as u64
            && tokens + u64::from(decoding) < self.other.len() as u64;
        if is_known { self.longest_ns } else { f64::NAN }
    }

    /// The decode parts of passes with prompt tokens, by requests and whole KV tokens, for as many as there is room for.
    #[inline]
    pub fn decode_ns(&self, requests: &[u32], kv_tokens: &[f64], ns: &mut [f64]) {
        let batches = requests.iter().zip(kv_tokens);
        match &self.decode {
            RoughDecode::Lines(lines) => {
                for (ns, (&requests, &kv_tokens)) in ns.iter_mut().zip(batches) {
                    *ns = lines.ns(requests, kv_tokens);
                }
            }
            RoughDecode::Curve(curve, scale) => {
                for (ns, (&requests, &kv_tokens)) in ns.iter_mut().zip(batches) {
                    let some = curve.ns(kv_tokens) * scale;
                    let some = if some > NS_MAX { NS_MAX } else { some };
                    *ns = if requests > 0 { some } else { 0.0 };
                }
            }
            RoughDecode::Constant(some) => {
                for (ns, (&requests, _)) in ns.iter_mut().zip(batches) {
                    *ns = if requests > 0 { *some } else { 0.0 };
                }
            }
        }
    }
}

impl PassTimer {
    /// Tables for up to so many prompt tokens and decoding requests, as far as there is room; none for workers that split
    /// their batches, nor if passes of both kinds are sums.
    pub fn rough(&self, tokens: u64, requests: u32) -> Option<RoughTimes> {
        let (tokens, requests) = (tokens.min(TOKENS_MAX), requests.min(REQUESTS_MAX));
        let (prompts, all) = (0..=tokens, 0..=tokens + u64::from(requests));
        let [scale, decode_scale] = [1.0 / self.prefill_speedup, 1.0 / self.decode_speedup];
        let mut alone = vec![0.0; requests as usize + 1];
        let mut lines_error_ns = 0.0;
        let (prompt, other, decode): (Vec<f64>, Vec<f64>, _) = match &self.model {
            TimingModel::Measured(measured) => {
                if measured.split().is_some() || measured.mixed_pass() != MixedPass::Fused {
                    return None;
                }
                for (requests, alone) in (0..).zip(&mut alone).skip(1) {
                    *alone = measured.alone_ns(requests) * decode_scale;
                }
                let lines = measured.decode_lines(requests, decode_scale);
                lines_error_ns = lines.error_ns();
                let attention = prompts.map(|tokens| measured.prompt_attention_ns(tokens));
                let other = all.map(|tokens| measured.prompt_other_ns(tokens)).collect();
                (attention.collect(), other, RoughDecode::Lines(lines))
            }
            TimingModel::Polynomial(polynomial) => {
                let prompt = prompts.map(|tokens| polynomial.prefill_ns(float(tokens)).max(0.0));
                let other = vec![0.0; all.count()];
                (prompt.collect(), other, RoughDecode::Curve(self.decode, decode_scale))
            }
            TimingModel::Constant { prefill, decode } => {
                let prompt = vec![prefill.as_ns() as f64; prompts.count()];
                let other = vec![0.0; all.count()];
                (
                    prompt,
                    other,
                    RoughDecode::Constant((decode.as_ns() as f64 * decode_scale).min(NS_MAX)),
                )
            }
        };
        let longest = |ns: &[f64]| ns.iter().copied().fold(0.0, f64::max) * scale;
        let longest_ns = longest(&prompt) + longest(&other);
        let unit_ns = f64::max(longest_ns / f64::from(u32::MAX), f64::MIN_POSITIVE);
        let [prompt, other]: [Box<[u32]>; 2] = [prompt, other]
            .map(|ns| ns.into_iter().map(|ns| (ns * scale / unit_ns).round() as u32).collect());
        // Beyond this, passes are cut short.
        let is_short = longest_ns / scale.min(1.0) < NS_MAX;
        is_short.then(|| RoughTimes {
            prompt,
            other,
            unit_ns,
            decode,
            cut_ns: NS_MAX * decode_scale.min(1.0),
            longest_ns: alone.iter().copied().fold(longest_ns, f64::max),
            alone: alone.into(),
            // Both parts are rounded to whole ns, and once more after a speed-up ratio; both entries to whole units.
            error_ns: 1.0 + 0.5 * scale + 0.5 * decode_scale + lines_error_ns + unit_ns,
        })
    }
}
