//! The default timing of the reference peer: one H100-like curve for prefill, one for decode.

use crate::model::timing::{INTEGER, NS_MAX};

/// Coefficients of two quadratics; results in milliseconds, highest power first.
///
/// The defaults are the reference peer's (`DynoSim`, Apache-2.0). It ignores the model and the batch size: good for
/// comparing simulators, not for sizing a fleet.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Polynomial {
    /// In the new prompt tokens of a pass.
    pub prefill: [f64; 3],
    /// In the share of the KV pool that is read, between 0 and 1; never below `decode_min_ms`.
    pub decode: [f64; 3],
    /// The shortest decode pass.
    pub decode_min_ms: f64,
}

impl Default for Polynomial {
    fn default() -> Polynomial {
        Polynomial {
            prefill: [4.209989e-07, 1.518344e-02, 1.650142e+01],
            decode: [-25.74, 54.01, 5.74],
            decode_min_ms: 1.0,
        }
    }
}

impl Polynomial {
    /// The prefill part for this many new tokens, in ns before rounding.
    pub(super) fn prefill_ns(&self, new_tokens: f64) -> f64 {
        evaluate(self.prefill, new_tokens) * 1e6
    }

    /// Lower bounds of the two parts, in whole ns.
    pub(super) fn floors(&self) -> (u64, u64) {
        let prefill = lowest(self.prefill, 1.0, f64::INFINITY);
        let decode = lowest(self.decode, 0.0, 1.0).max(self.decode_min_ms);
        (floor_ns(prefill), floor_ns(decode))
    }
}

/// The decode quadratic in the KV tokens read, with everything that does not depend on them multiplied out.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct DecodeCurve {
    /// Highest power first; results in ns.
    coefficients: [f64; 3],
    kv_tokens_max: f64,
    ns_min: f64,
}

impl DecodeCurve {
    /// The curve for an engine whose pool holds so many tokens.
    pub(super) fn new(polynomial: &Polynomial, pool_tokens: f64) -> DecodeCurve {
        let [a, b, c] = polynomial.decode;
        DecodeCurve {
            coefficients: [a * 1e6 / pool_tokens / pool_tokens, b * 1e6 / pool_tokens, c * 1e6],
            kv_tokens_max: pool_tokens,
            ns_min: (polynomial.decode_min_ms * 1e6).clamp(0.0, NS_MAX),
        }
    }

    /// As [`DecodeCurve::ns`] for every one of these passes, reading `growth` tokens more from pass to pass.
    pub(super) fn run(&self, kv_tokens: f64, growth: f64, durations: &mut [f64]) {
        let last = kv_tokens + growth * durations.len() as f64;
        let inside = self.is_rising(kv_tokens, last) && last < self.kv_tokens_max;
        if inside && self.curve(kv_tokens) > self.ns_min && self.curve(last) < NS_MAX {
            // Neither end touches a bound, and the curve rises in between, so no bound has to be looked at.
            for (pass, duration) in (0_i32..).zip(durations) {
                *duration = (self.curve(kv_tokens + f64::from(pass) * growth) + INTEGER) - INTEGER;
            }
        } else {
            for (pass, duration) in (0_i32..).zip(durations) {
                *duration = self.ns(kv_tokens + f64::from(pass) * growth);
            }
        }
    }

    /// Whether whole ns along the curve do not fall between these two loads. Where the curve is almost flat, rounding could
    /// make them, so a slope has to be well above the rounding of floats.
    pub(super) fn is_rising(&self, first: f64, last: f64) -> bool {
        const NS_PER_TOKEN_MIN: f64 = 1e-6;
        let [a, b, _] = self.coefficients;
        let slope = |kv_tokens: f64| 2.0 * a * kv_tokens.min(self.kv_tokens_max) + b;
        let is_constant = a.abs() + b.abs() <= 0.0;
        is_constant || (slope(first) >= NS_PER_TOKEN_MIN && slope(last) >= NS_PER_TOKEN_MIN)
    }

    /// The quadratic itself, in ns.
    fn curve(&self, kv_tokens: f64) -> f64 {
        let [a, b, c] = self.coefficients;
        (a * kv_tokens + b) * kv_tokens + c
    }

    /// The decode part when so many tokens are read: whole ns.
    pub(super) fn ns(&self, kv_tokens: f64) -> f64 {
        let kv_tokens = if kv_tokens < self.kv_tokens_max { kv_tokens } else { self.kv_tokens_max };
        let ns = self.curve(kv_tokens);
        // Plain comparisons are one instruction each; `f64::max` also has to look out for NaN.
        let ns = if ns > self.ns_min { ns } else { self.ns_min };
        let ns = if ns < NS_MAX { ns } else { NS_MAX };
        (ns + INTEGER) - INTEGER
    }
}

fn evaluate([a, b, c]: [f64; 3], x: f64) -> f64 {
    a * (x * x) + b * x + c
}

/// A lower bound of a quadratic between two places: its value at one of them, or at its vertex. One that falls forever
/// has none, and gets zero.
fn lowest(coefficients: [f64; 3], first: f64, last: f64) -> f64 {
    let [a, b, _] = coefficients;
    if last == f64::INFINITY && (a < 0.0 || (a <= 0.0 && b < 0.0)) {
        return 0.0;
    }
    let end = if last == f64::INFINITY { first } else { last };
    let vertex = if a > 0.0 { (-b / (2.0 * a)).clamp(first, last) } else { first };
    [first, vertex, end]
        .map(|x| evaluate(coefficients, x))
        .into_iter()
        .fold(f64::INFINITY, f64::min)
}

/// Whole ns that are below what any way to evaluate the curve is rounded to.
fn floor_ns(ms: f64) -> u64 {
    (ms.max(0.0) * 1e6 * (1.0 - 1e-9)) as u64
}
