//! When sessions start: an arrival process stretched over a rate that changes.
//!
//! The process runs in operational time, where the mean gap is one whatever the rate. A point of operational time
//! becomes a point on the clock through the inverse of the integrated rate, so every process works with every rate:
//! the gaps stretch where the rate is low, and no candidate is ever thrown away.

use std::f64::consts::TAU;

use rand_distr::{Distribution, Exp1, Gamma};

use crate::kernel::rng::Stream;
use crate::kernel::time::{Span, Time};

/// How the gaps between arrivals scatter around their mean.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Arrivals {
    /// Not at all: equal gaps, the first arrival at the start.
    Constant,
    /// Exponentially: arrivals know nothing of each other.
    Poisson,
    /// By a gamma distribution.
    Gamma {
        /// Coefficient of variation of the gaps, at least 0: above 1 is bursty.
        cv: f64,
    },
}

/// How many sessions start per second.
#[derive(Clone, PartialEq, Debug)]
pub enum Rate {
    /// Pairs of a time in seconds and the rate per second from then on, in ascending order of time. The rate is zero
    /// before the first pair, and may be zero in between.
    Steps(Vec<(f64, f64)>),
    /// `mean * (1 - amplitude * cos(2 pi t / period))`: lowest at the start.
    Diurnal {
        /// Sessions per second, on average over a period.
        mean: f64,
        /// Swing around the mean, from 0 (flat) to 1.
        amplitude: f64,
        /// Length of the cycle.
        period: Span,
    },
}

/// The points at which sessions start, in order.
#[derive(Debug)]
pub(super) struct ArrivalTimes {
    gaps: Gaps,
    /// Operational time of the latest arrival.
    operational: f64,
    /// None before the first.
    latest: Option<Time>,
    rate: Rate,
    cursor: Cursor,
}

impl ArrivalTimes {
    pub(super) fn new(arrivals: Arrivals, rate: Rate) -> ArrivalTimes {
        ArrivalTimes {
            gaps: Gaps::new(arrivals),
            operational: 0.0,
            latest: None,
            rate,
            cursor: Cursor::default(),
        }
    }

    /// The next start; none when the rate stays zero for ever or virtual time ends.
    pub(super) fn next(&mut self, rng: &mut Stream) -> Option<Time> {
        self.operational += match (&self.gaps, self.latest) {
            (Gaps::Constant, None) => 0.0,
            (gaps, _) => gaps.sample(rng),
        };
        let secs = match &self.rate {
            Rate::Steps(steps) => self.cursor.invert(steps, self.operational)?,
            Rate::Diurnal { mean, amplitude, period } => {
                invert_diurnal(*mean, *amplitude, period.as_secs(), self.operational)?
            }
        };
        let ns = (secs * 1e9).round();
        if ns >= Time::MAX.as_ns() as f64 {
            return None;
        }
        // The inverse is exact only up to rounding, and arrivals may not run backwards because of that.
        let time = Time::from_ns(ns as u64).max(self.latest.unwrap_or(Time::ZERO));
        self.latest = Some(time);
        Some(time)
    }
}

/// Gaps of mean one.
#[derive(Debug)]
enum Gaps {
    Constant,
    Exponential,
    Gamma(Gamma<f64>),
}

impl Gaps {
    fn new(arrivals: Arrivals) -> Gaps {
        match arrivals {
            Arrivals::Poisson => Gaps::Exponential,
            Arrivals::Gamma { cv } if cv > 0.0 => {
                let square = cv * cv;
                Gaps::Gamma(Gamma::new(square.recip(), square).expect("cv is finite"))
            }
            Arrivals::Constant | Arrivals::Gamma { .. } => Gaps::Constant,
        }
    }

    fn sample(&self, rng: &mut Stream) -> f64 {
        match self {
            Gaps::Constant => 1.0,
            Gaps::Exponential => Exp1.sample(rng),
            Gaps::Gamma(gamma) => gamma.sample(rng),
        }
    }
}

/// Where the arrivals have got to in the steps of a rate.
#[derive(Default, Debug)]
struct Cursor {
    step: usize,
    /// Operational time at the start of the step.
    before: f64,
}

impl Cursor {
    /// The time in seconds at which the integrated rate reaches `operational`, which never falls between calls.
    fn invert(&mut self, steps: &[(f64, f64)], operational: f64) -> Option<f64> {
        loop {
            let &(start, rate) = steps.get(self.step)?;
            let end = steps.get(self.step + 1).map_or(f64::INFINITY, |next| next.0);
            if rate > 0.0 {
                let after = self.before + rate * (end - start);
                if operational < after {
                    return Some(start + (operational - self.before) / rate);
                }
                self.before = after;
            }
            self.step += 1;
        }
    }
}

/// The time in seconds at which the integral of the diurnal rate reaches `operational`.
fn invert_diurnal(mean: f64, amplitude: f64, period: f64, operational: f64) -> Option<f64> {
    if mean <= 0.0 {
        return None;
    }
    let flat = operational / mean;
    if amplitude == 0.0 || period == 0.0 {
        return Some(flat);
    }
    let cycles = (flat / period).floor();
    let angle = solve_kepler((flat / period - cycles) * TAU, amplitude);
    Some((cycles + angle / TAU) * period)
}

/// The angle `x` between 0 and 2 pi with `x - amplitude * sin(x) = mean`. Newton's method, with a bisection wherever
/// it would leave the bracket: the slope is zero at the start of the cycle when the amplitude is one.
fn solve_kepler(mean: f64, amplitude: f64) -> f64 {
    const STEPS_MAX: u32 = 64;
    let (mut low, mut high) = (0.0, TAU);
    let mut angle = mean;
    for _ in 0..STEPS_MAX {
        let error = angle - amplitude * angle.sin() - mean;
        if error > 0.0 {
            high = angle;
        } else {
            low = angle;
        }
        let newton = angle - error / (1.0 - amplitude * angle.cos());
        let next = if newton > low && newton < high { newton } else { f64::midpoint(low, high) };
        if (next - angle).abs() < 1e-15 * TAU {
            return next;
        }
        angle = next;
    }
    angle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;

    /// Mean and coefficient of variation of the first 40,000 gaps, in seconds.
    fn gaps(arrivals: Arrivals, rate: Rate) -> (f64, f64) {
        let mut times = ArrivalTimes::new(arrivals, rate);
        let mut rng = stream(3, 0);
        let times: Vec<f64> =
            (0..40_000).map(|_| times.next(&mut rng).unwrap().as_secs()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (mean, variance.sqrt() / mean)
    }

    /// Arrivals in each of `slices` equal parts of `secs` seconds.
    fn profile(arrivals: Arrivals, rate: Rate, secs: f64, slices: usize) -> Vec<u32> {
        let mut times = ArrivalTimes::new(arrivals, rate);
        let mut rng = stream(4, 0);
        let mut counts = vec![0; slices];
        while let Some(time) = times.next(&mut rng).filter(|time| time.as_secs() < secs) {
            counts[(time.as_secs() / secs * slices as f64) as usize] += 1;
        }
        counts
    }

    #[test]
    fn every_process_keeps_the_rate_and_its_scatter() {
        for (arrivals, cv) in [
            (Arrivals::Constant, 0.0),
            (Arrivals::Poisson, 1.0),
            (Arrivals::Gamma { cv: 0.0 }, 0.0),
            (Arrivals::Gamma { cv: 0.5 }, 0.5),
            (Arrivals::Gamma { cv: 3.0 }, 3.0),
        ] {
            let (mean, measured) = gaps(arrivals, Rate::Steps(vec![(0.0, 8.0)]));
            assert!((mean * 8.0 - 1.0).abs() < 0.02 * cv + 1e-6, "{arrivals:?}: mean gap {mean}");
            assert!((measured - cv).abs() < 0.05 * cv + 1e-6, "{arrivals:?}: cv {measured}");
        }
    }

    /// As far as the configuration lets them go.
    #[test]
    fn the_wildest_and_the_calmest_arrivals_are_numbers() {
        for cv in [1e-3, 1e3] {
            let (mean, _) = gaps(Arrivals::Gamma { cv }, Rate::Steps(vec![(0.0, 8.0)]));
            assert!(mean.is_finite() && mean >= 0.0, "{cv}: {mean}");
        }
    }

    #[test]
    fn constant_arrivals_are_exact() {
        let mut times = ArrivalTimes::new(Arrivals::Constant, Rate::Steps(vec![(0.0, 3.0)]));
        let mut rng = stream(0, 0);
        let times: Vec<u64> = (0..4).map(|_| times.next(&mut rng).unwrap().as_ns()).collect();
        assert_eq!(times, [0, 333_333_333, 666_666_667, 1_000_000_000]);
    }

    #[test]
    fn steps_may_pause_and_may_end() {
        let steps = vec![(10.0, 1.0), (20.0, 0.0), (30.0, 2.0), (40.0, 0.0)];
        let counts = profile(Arrivals::Constant, Rate::Steps(steps), 1e9, 1);
        assert_eq!(counts, [30]);
        let steps = vec![(10.0, 1.0), (20.0, 0.0), (30.0, 2.0)];
        let counts = profile(Arrivals::Constant, Rate::Steps(steps), 50.0, 5);
        assert_eq!(counts, [0, 10, 0, 20, 20]);
        for rate in [vec![], vec![(0.0, 0.0)]] {
            assert_eq!(profile(Arrivals::Poisson, Rate::Steps(rate), 1e9, 1), [0]);
        }
    }

    #[test]
    fn the_day_has_its_night() {
        for amplitude in [0.0, 0.5, 1.0] {
            let rate = Rate::Diurnal { mean: 5.0, amplitude, period: Span::from_secs(4_000) };
            let counts = profile(Arrivals::Constant, rate, 8_000.0, 16);
            for (slice, &count) in counts.iter().enumerate() {
                let integral = |t: f64| t - amplitude / TAU * (TAU * t).sin();
                let (from, to) = (slice as f64 / 8.0, (slice + 1) as f64 / 8.0);
                let expected = 20_000.0 * (integral(to) - integral(from));
                assert!((f64::from(count) - expected).abs() <= 1.0, "{amplitude} {slice}: {count}");
            }
        }
    }
}
