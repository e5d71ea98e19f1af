//! How long a forward pass takes.
//!
//! A [`PassTimer`] is compiled once per engine shape. It answers for one pass ([`PassTimer::pass`]) and, in a tight loop,
//! for a run of decode passes ([`PassTimer::decode_run`]); both give the same nanoseconds. Every part of a pass is
//! rounded to whole nanoseconds once, to the nearest (ties to even), and again after a speed-up ratio is applied.

pub mod measured;
mod polynomial;
mod rough;

pub use measured::{
    DecodeRow, Identity, MS_MAX, Measured, MixedPass, OtherRow, PrefillRow, Scales, Split, Table,
    TableError,
};
pub use polynomial::Polynomial;
pub use rough::RoughTimes;

use crate::kernel::time::Span;
use crate::model::timing::polynomial::DecodeCurve;

/// The prompt tokens that one pass computes, summed over its prefilling requests.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PrefillLoad {
    /// Requests that compute prompt tokens in this pass.
    pub requests: u32,
    /// Tokens of theirs that exist after the pass: cached, computed before, and computed now.
    pub tokens: u64,
    /// Tokens of theirs that existed before it.
    pub prefix_tokens: u64,
}

impl PrefillLoad {
    /// The new tokens of the pass as the reference peer counts them: requests x (mean length - mean prefix), both means
    /// rounded down. At most `requests` tokens away from the true sum.
    pub fn new_tokens(&self) -> u64 {
        let requests = u64::from(self.requests);
        if requests == 0 {
            return 0;
        }
        requests * (self.tokens / requests - self.prefix_tokens / requests)
    }
}

/// The requests that produce a token by decoding in one pass.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DecodeLoad {
    /// How many there are.
    pub requests: u32,
    /// The KV tokens they read.
    pub kv_tokens: u64,
}

/// A timing model as configured.
#[derive(Clone, PartialEq, Debug)]
pub enum TimingModel {
    /// Measured passes of a model on a GPU.
    Measured(Measured),
    /// Two quadratics, one in the new prompt tokens, one in the used share of the KV pool.
    Polynomial(Polynomial),
    /// The same time for every pass with a part of that kind.
    Constant {
        /// The prefill part.
        prefill: Span,
        /// The decode part.
        decode: Span,
    },
}

/// What a timing model says of one pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedPass {
    /// How long it takes.
    pub duration: Span,
    /// Whether it is outside of what was measured, so that its time had to be extrapolated. Never, for a formula.
    pub is_extrapolated: bool,
}

/// A timing model compiled for one engine shape.
#[derive(Clone, PartialEq, Debug)]
pub struct PassTimer {
    model: TimingModel,
    decode: DecodeCurve,
    prefill_speedup: f64,
    decode_speedup: f64,
    /// Whether one of them is not 1.
    is_scaled: bool,
}

impl PassTimer {
    /// Compiles `model` for an engine with a pool of `pool_tokens`; times are divided by the speed-up ratios.
    pub fn new(
        model: TimingModel,
        pool_tokens: u64,
        prefill_speedup: f64,
        decode_speedup: f64,
    ) -> PassTimer {
        assert!(prefill_speedup > 0.0 && decode_speedup > 0.0, "a speed-up ratio is not positive");
        let decode = match &model {
            TimingModel::Polynomial(polynomial) => DecodeCurve::new(polynomial, pool_tokens as f64),
            TimingModel::Measured(_) | TimingModel::Constant { .. } => DecodeCurve::default(),
        };
        #[expect(clippy::float_cmp, reason = "exactly one means that nothing is scaled")]
        let is_scaled = prefill_speedup != 1.0 || decode_speedup != 1.0;
        PassTimer { model, decode, prefill_speedup, decode_speedup, is_scaled }
    }

    /// The duration of one pass: prefill part plus decode part, each zero when there is nothing of its kind.
    pub fn pass(&self, prefill: PrefillLoad, decode: DecodeLoad) -> Span {
        self.look_up(prefill, decode).unwrap_or_else(|| self.any_pass(prefill, decode))
    }

    /// The same, and whether the time had to be extrapolated.
    pub fn timed_pass(&self, prefill: PrefillLoad, decode: DecodeLoad) -> TimedPass {
        if let Some(duration) = self.look_up(prefill, decode) {
            return TimedPass { duration, is_extrapolated: false };
        }
        let duration = self.any_pass(prefill, decode);
        TimedPass { duration, is_extrapolated: self.is_extrapolated(prefill, decode) }
    }

    /// The duration of a pass inside of what was measured, if tables tell.
    #[inline]
    fn look_up(&self, prefill: PrefillLoad, decode: DecodeLoad) -> Option<Span> {
        match &self.model {
            TimingModel::Measured(measured) => {
                measured.look_up(prefill, decode).map(|parts| self.sum(parts))
            }
            TimingModel::Polynomial(_) | TimingModel::Constant { .. } => None,
        }
    }

    /// The same for any model and load. A function of its own, so that the other one needs no room on the stack.
    #[inline(never)]
    fn any_pass(&self, load: PrefillLoad, decode_load: DecodeLoad) -> Span {
        let has_decode = decode_load.requests > 0;
        self.sum(match &self.model {
            TimingModel::Measured(measured) => measured.parts(load, decode_load),
            TimingModel::Polynomial(polynomial) => [
                match load.new_tokens() {
                    0 => 0,
                    new_tokens => whole_ns(polynomial.prefill_ns(new_tokens as f64)),
                },
                if has_decode { self.decode.ns(decode_load.kv_tokens as f64) as u64 } else { 0 },
            ],
            TimingModel::Constant { prefill, decode } => [
                if load.new_tokens() > 0 { prefill.as_ns() } else { 0 },
                if has_decode { decode.as_ns() } else { 0 },
            ],
        })
    }

    /// Whether a formula tells, and not a table.
    pub fn is_formula(&self) -> bool {
        !matches!(self.model, TimingModel::Measured(_))
    }

    /// By how much a decode part can be less with more KV and as many requests, because of rounding: ns. Nothing if it can
    /// be less for another reason.
    pub fn kv_rounding_ns(&self) -> Option<u64> {
        let rises = match &self.model {
            TimingModel::Measured(_) | TimingModel::Constant { .. } => true,
            TimingModel::Polynomial(_) => self.decode.is_rising(0.0, f64::INFINITY),
        };
        // A nanosecond more or less before a speed-up ratio, and after it.
        rises.then(|| (1.0 / self.decode_speedup).ceil() as u64 + 1)
    }

    /// Both parts, in whole ns, with the speed-up ratios.
    #[inline]
    fn sum(&self, [prefill_ns, decode_ns]: [u64; 2]) -> Span {
        Span::from_ns(if self.is_scaled {
            scale(prefill_ns, self.prefill_speedup) + scale(decode_ns, self.decode_speedup)
        } else {
            prefill_ns + decode_ns
        })
    }

    /// Whether a pass is outside of what was measured.
    fn is_extrapolated(&self, prefill: PrefillLoad, decode: DecodeLoad) -> bool {
        match &self.model {
            TimingModel::Measured(measured) => measured.is_outside(prefill, decode),
            TimingModel::Polynomial(_) | TimingModel::Constant { .. } => false,
        }
    }

    /// How many passes of a decode run come before the first whose time had to be extrapolated.
    pub fn passes_inside(&self, first: DecodeLoad, growth: u32, passes: usize) -> usize {
        match &self.model {
            TimingModel::Measured(measured) => measured.passes_inside(first, growth, passes),
            TimingModel::Polynomial(_) | TimingModel::Constant { .. } => passes,
        }
    }

    /// The durations of consecutive decode passes of the same requests, the KV they read growing by `growth` tokens from
    /// pass to pass: whole numbers of ns, at most 2^51. As floats they can be added, compared and multiplied two or four
    /// at a time by every processor, which is not true of 64-bit integers. Says whether they are known not to fall.
    pub fn decode_run(&self, first: DecodeLoad, growth: u32, durations: &mut [f64]) -> bool {
        let mut is_rising = true;
        match &self.model {
            TimingModel::Measured(measured) => {
                is_rising = measured.decode_run(first, growth, durations);
            }
            TimingModel::Polynomial(_) => {
                let kv_tokens = first.kv_tokens as f64;
                let last = kv_tokens + durations.len() as f64 * f64::from(growth);
                is_rising = self.decode.is_rising(kv_tokens, last);
                if growth == 0 {
                    durations.fill(self.decode.ns(kv_tokens));
                } else {
                    self.decode.run(kv_tokens, f64::from(growth), durations);
                }
            }
            TimingModel::Constant { decode, .. } => durations.fill(decode.as_ns() as f64),
        }
        #[expect(clippy::float_cmp, reason = "exactly one means that nothing is scaled")]
        if self.decode_speedup != 1.0 {
            for duration in durations {
                *duration = round_ns(*duration / self.decode_speedup);
            }
        }
        is_rising
    }

    /// A lower bound on every pass: what a worker may promise as lookahead on top of its link.
    pub fn floor(&self) -> Span {
        let (prefill, decode) = match &self.model {
            TimingModel::Measured(measured) => measured.floors(),
            TimingModel::Polynomial(polynomial) => polynomial.floors(),
            TimingModel::Constant { prefill, decode } => (prefill.as_ns(), decode.as_ns()),
        };
        let (prefill, decode) =
            (scale(prefill, self.prefill_speedup), scale(decode, self.decode_speedup));
        Span::from_ns(prefill.min(decode))
    }
}

/// Divides by a speed-up ratio and rounds to whole ns.
fn scale(ns: u64, speedup: f64) -> u64 {
    #[expect(clippy::float_cmp, reason = "exactly one means that nothing is scaled")]
    if speedup == 1.0 { ns } else { whole_ns(ns as f64 / speedup) }
}

/// Adding 2^52 leaves no bits for a fraction, so the sum is rounded by the FPU itself, and compilers vectorise it.
pub(in crate::model) const INTEGER: f64 = (1_u64 << 52) as f64;

/// The longest pass, in ns: 26 days.
const NS_MAX: f64 = INTEGER / 2.0;

/// The nearest whole number, ties to even; zero below zero, and at most [`NS_MAX`].
fn round_ns(ns: f64) -> f64 {
    (ns.clamp(0.0, NS_MAX) + INTEGER) - INTEGER
}

/// The same as an integer: below the leading bits of 2^52, a whole number that was added to it is there bit by bit.
#[inline]
fn whole_ns(ns: f64) -> u64 {
    // Plain comparisons are one instruction each, and make zero of NaN.
    let ns = if ns > 0.0 { ns } else { 0.0 };
    let ns = if ns < NS_MAX { ns } else { NS_MAX };
    (ns + INTEGER).to_bits() - INTEGER.to_bits()
}

/// A count below 2^52 as a float. The instruction that converts would wait for what was in its register before.
#[inline]
pub(in crate::model) fn float(count: u64) -> f64 {
    debug_assert!(count < 1 << 52, "{count} is no count");
    f64::from_bits(INTEGER.to_bits() | count) - INTEGER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use rand::RngExt;

    fn timer(speedup: f64) -> PassTimer {
        let model = TimingModel::Polynomial(Polynomial::default());
        PassTimer::new(model, 16_384 * 512, speedup, speedup)
    }

    fn prefill(tokens: u64) -> PrefillLoad {
        PrefillLoad { requests: 1, tokens, prefix_tokens: 0 }
    }

    /// The worked example of the reference: 6,760 tokens alone, 14 blocks of 512 resident.
    #[test]
    fn agrees_with_the_reference_example() {
        let decode = DecodeLoad { requests: 1, kv_tokens: 14 * 512 };
        let pass = |p, d| timer(1.0).pass(p, d).as_ns();
        assert_eq!(pass(prefill(6760), DecodeLoad::default()), 138_380_114);
        assert_eq!(pass(PrefillLoad::default(), decode), 5_786_132);
        assert_eq!(pass(prefill(6760), decode), 144_166_246);
        assert_eq!(pass(PrefillLoad::default(), DecodeLoad::default()), 0);
    }

    #[test]
    fn means_are_rounded_down() {
        let load = PrefillLoad { requests: 3, tokens: 3 * 100 + 2, prefix_tokens: 10 };
        assert_eq!(load.new_tokens(), 3 * (100 - 3));
    }

    #[test]
    fn a_run_is_the_sum_of_its_passes() {
        for speedup in [1.0, 1.7] {
            for growth in [0, 1, 37] {
                let timer = timer(speedup);
                let mut run = [0.0; 100];
                let load = DecodeLoad { requests: 5, kv_tokens: 12_345 };
                assert!(timer.decode_run(load, growth, &mut run) && run.is_sorted());
                for (pass, duration) in (0..).zip(run) {
                    let kv_tokens = 12_345 + pass * u64::from(growth);
                    let single =
                        timer.pass(PrefillLoad::default(), DecodeLoad { requests: 5, kv_tokens });
                    assert_eq!(duration as u64, single.as_ns());
                }
            }
        }
    }

    /// Curves of all kinds, almost flat ones and such that touch their bounds: one pass is what a run says, and a run that
    /// is said to rise does.
    #[test]
    fn runs_say_truly_whether_they_rise() {
        let mut rng = stream(15, 0);
        let mut rising = 0;
        for _ in 0..3000 {
            let mut coefficient = || {
                let scale = 10_f64.powi(rng.random_range(-12..3));
                rng.random_range(-1.0..1.0) * scale * f64::from(rng.random_range(0..2))
            };
            let decode = [coefficient(), coefficient(), coefficient().abs()];
            let decode_min_ms = rng.random_range(0.0..2.0) * f64::from(rng.random_range(0..2));
            let model = TimingModel::Polynomial(Polynomial {
                decode,
                decode_min_ms,
                ..Polynomial::default()
            });
            let timer = PassTimer::new(model, rng.random_range(1..1 << 40), 1.0, 1.0);
            let (requests, kv_tokens) = (rng.random_range(1..300), rng.random_range(0..1 << 30));
            let load = DecodeLoad { requests, kv_tokens };
            let mut run = [0.0; 64];
            if timer.decode_run(load, requests, &mut run) {
                rising += 1;
                assert!(run.is_sorted(), "{decode:?} {load:?}: {run:?}");
            }
            for (pass, duration) in (0..).zip(run) {
                let kv_tokens = kv_tokens + pass * u64::from(requests);
                let load = DecodeLoad { requests, kv_tokens };
                let single = timer.pass(PrefillLoad::default(), load).as_ns();
                assert_eq!(
                    single, duration as u64,
                    "{decode:?} min {decode_min_ms} {load:?} {timer:?}"
                );
            }
        }
        assert!((500..2500).contains(&rising), "{rising} of 3000 rise");
    }

    #[test]
    fn nothing_is_below_the_floor() {
        let timer = timer(3.0);
        let floor = timer.floor();
        for tokens in [1, 100, 100_000] {
            assert!(timer.pass(prefill(tokens), DecodeLoad::default()) >= floor);
            let decode = DecodeLoad { requests: 1, kv_tokens: tokens * 100 };
            assert!(timer.pass(PrefillLoad::default(), decode) >= floor);
        }
    }

    #[test]
    fn rounding_is_to_the_nearest() {
        for (ns, rounded) in [(0.5, 0), (1.5, 2), (2.49, 2), (-3.0, 0), (5_786_131.6, 5_786_132)] {
            assert!((round_ns(ns) - f64::from(rounded)).abs() < 0.1, "{ns}");
        }
    }
}
