//! How long prompts and outputs are.

use rand::RngExt;
use rand_distr::{Distribution, LogNormal};

use crate::kernel::rng::Stream;

/// A distribution of lengths, in tokens.
#[derive(Clone, PartialEq, Debug)]
pub struct Lengths {
    /// Its shape.
    pub shape: Shape,
    /// No length is below this; nor below one.
    pub min: u32,
    /// No length is above this. Lengths outside are moved to the bound, not drawn again.
    pub max: u32,
}

/// The shape of a distribution of lengths.
#[derive(Clone, PartialEq, Debug)]
pub enum Shape {
    /// Always the same.
    Fixed(f64),
    /// Log-normal.
    Lognormal {
        /// Mean of the lengths themselves, in tokens, above 0; their median is lower.
        mean: f64,
        /// Standard deviation of the logarithm, finite.
        sigma: f64,
    },
    /// By its quantiles, evenly spaced from the smallest value to the largest, and linear in between. At least one.
    Empirical(Vec<f64>),
}

/// What draws the lengths.
#[derive(Debug)]
pub(super) struct LengthSampler {
    inner: Inner,
    min: u32,
    max: u32,
}

#[derive(Debug)]
enum Inner {
    Fixed(f64),
    Lognormal(LogNormal<f64>),
    Quantiles(Vec<f64>),
}

impl LengthSampler {
    /// # Panics
    /// When the shape's numbers are outside the ranges it states.
    pub(super) fn new(lengths: Lengths) -> LengthSampler {
        let inner = match lengths.shape {
            Shape::Fixed(length) => Inner::Fixed(length),
            Shape::Lognormal { mean, sigma } => {
                assert!(mean > 0.0, "a log-normal mean of {mean} tokens");
                let mu = mean.ln() - sigma * sigma / 2.0;
                Inner::Lognormal(LogNormal::new(mu, sigma).expect("sigma is finite"))
            }
            Shape::Empirical(quantiles) => {
                assert!(!quantiles.is_empty(), "an empirical distribution without quantiles");
                Inner::Quantiles(quantiles)
            }
        };
        let min = lengths.min.max(1);
        LengthSampler { inner, min, max: lengths.max.max(min) }
    }

    pub(super) fn sample(&self, rng: &mut Stream) -> u32 {
        let length = match &self.inner {
            Inner::Fixed(length) => *length,
            Inner::Lognormal(lognormal) => lognormal.sample(rng),
            Inner::Quantiles(quantiles) => {
                let position = rng.random::<f64>() * (quantiles.len() - 1) as f64;
                let low = position as usize;
                let high = (low + 1).min(quantiles.len() - 1);
                quantiles[low] + (quantiles[high] - quantiles[low]) * position.fract()
            }
        };
        (length.round() as u32).clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;

    fn draw(shape: Shape, min: u32, max: u32) -> Vec<f64> {
        let sampler = LengthSampler::new(Lengths { shape, min, max });
        let mut rng = stream(5, 0);
        (0..50_000).map(|_| f64::from(sampler.sample(&mut rng))).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn means_are_what_they_say() {
        assert_eq!(draw(Shape::Fixed(77.0), 1, 100)[..3], [77.0; 3]);
        let mut drawn = draw(Shape::Lognormal { mean: 1000.0, sigma: 1.0 }, 1, u32::MAX);
        assert!((mean(&drawn) - 1000.0).abs() < 20.0, "{}", mean(&drawn));
        drawn.sort_by(f64::total_cmp);
        assert!((drawn[25_000] - 1000.0 * (-0.5f64).exp()).abs() < 12.0, "{}", drawn[25_000]);
        let drawn = draw(Shape::Empirical(vec![0.0, 100.0, 300.0]), 0, 1000);
        assert!((mean(&drawn) - 125.0).abs() < 2.0, "{}", mean(&drawn));
        assert_eq!(draw(Shape::Empirical(vec![9.0]), 1, 100)[..2], [9.0; 2]);
    }

    #[test]
    fn bounds_hold() {
        let drawn = draw(Shape::Lognormal { mean: 100.0, sigma: 2.0 }, 50, 200);
        assert!(drawn.iter().all(|length| (50.0..=200.0).contains(length)));
        assert_eq!(draw(Shape::Fixed(0.0), 0, 0)[..2], [1.0; 2]);
    }
}
