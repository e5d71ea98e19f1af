//! The distribution of a time over requests or tokens, in constant memory.

use hdrhistogram::Histogram;

/// The longest time a histogram tells apart from longer ones: 2^53 ns, 104 days.
const NS_MAX: u64 = 1 << 53;

/// Count, sums and extremes exactly; percentiles from a histogram with three significant digits.
///
/// A percentile is the element at index round((n - 1) p / 100) of the sorted values, half rounded up, as the reference
/// peer defines it; the histogram gives the middle of its bucket, at most 0.05 % away.
#[derive(Clone, Debug)]
pub struct Distribution {
    histogram: Histogram<u64>,
    sum: u128,
    sum_of_squares: u128,
    min: u64,
    max: u64,
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution::new()
    }
}

impl Distribution {
    /// An empty one.
    pub fn new() -> Distribution {
        let histogram = Histogram::new_with_max(NS_MAX, 3).expect("the bounds are constants");
        Distribution { histogram, sum: 0, sum_of_squares: 0, min: u64::MAX, max: 0 }
    }

    /// Adds `count` times the same `value`, in ns.
    pub fn record(&mut self, value: u64, count: u64) {
        self.histogram.saturating_record_n(value, count);
        self.sum += u128::from(value) * u128::from(count);
        self.sum_of_squares += u128::from(value) * u128::from(value) * u128::from(count);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds every one of `values`, each `count` times.
    ///
    /// Neighbouring decode passes take almost the same time, so most stretches fall into one bucket of the histogram
    /// and cost one update; the sums are plain integer loops that compilers vectorise.
    pub fn record_run(&mut self, values: &[u64], count: u64) {
        const STRETCH: usize = 32;
        for stretch in values.chunks(STRETCH) {
            let (mut min, mut max, mut sum) = (u64::MAX, 0, 0);
            for &value in stretch {
                min = min.min(value);
                max = max.max(value);
                sum += value;
            }
            if max < 1 << 24 {
                // 32 squares of 24-bit numbers fit 53 bits.
                let squares: u64 = stretch.iter().map(|&value| value * value).sum();
                self.sum_of_squares += u128::from(squares) * u128::from(count);
            } else {
                let squares: u128 = stretch.iter().map(|&value| u128::from(value).pow(2)).sum();
                self.sum_of_squares += squares * u128::from(count);
            }
            self.sum += u128::from(sum) * u128::from(count);
            self.min = self.min.min(min);
            self.max = self.max.max(max);
            if self.histogram.equivalent(min, max) {
                self.histogram.saturating_record_n(min, count * stretch.len() as u64);
            } else {
                for &value in stretch {
                    self.histogram.saturating_record_n(value, count);
                }
            }
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The sum of all values, ns.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The smallest value, ns.
    pub fn min(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.min)
    }

    /// The largest value, ns.
    pub fn max(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.max)
    }

    /// The mean, ns.
    pub fn mean(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.sum as f64 / self.count() as f64)
    }

    /// The population standard deviation, ns.
    pub fn std(&self) -> Option<f64> {
        let count = u128::from(self.count());
        // n Σx² - (Σx)² in integers: no cancellation. Only sums past 2^63 ns or so lose their last bits.
        let squares = count.checked_mul(self.sum_of_squares);
        let variance =
            if let (Some(squares), Some(square)) = (squares, self.sum.checked_mul(self.sum)) {
                (squares - square) as f64 / (count as f64 * count as f64)
            } else {
                let mean = self.sum as f64 / count as f64;
                (self.sum_of_squares as f64 / count as f64 - mean * mean).max(0.0)
            };
        (count > 0).then(|| variance.sqrt())
    }

    /// The `p`-th percentile, ns; `p` from 0 to 100.
    pub fn percentile(&self, p: f64) -> Option<u64> {
        let last = self.count().checked_sub(1)?;
        let index = (last as f64 * p / 100.0 + 0.5).floor() as u64;
        if index == 0 {
            return Some(self.min);
        }
        if index >= last {
            return Some(self.max);
        }
        // The histogram counts from one, and takes the smallest value with at least this share at or below it.
        let quantile = (index as f64 + 0.5) / self.count() as f64;
        let value = self.histogram.median_equivalent(self.histogram.value_at_quantile(quantile));
        Some(value.clamp(self.min, self.max))
    }

    /// Every bucket that is not empty: the middle of it, ns, and how many values it holds.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.histogram.iter_recorded().map(|bucket| {
            (self.histogram.median_equivalent(bucket.value_iterated_to()), bucket.count_at_value())
        })
    }

    /// Adds everything another distribution holds.
    pub fn merge(&mut self, other: &Distribution) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use rand::RngExt;

    #[test]
    fn percentiles_match_a_sorted_list() {
        let mut rng = stream(3, 0);
        for count in [1_u32, 2, 3, 10, 999, 5000] {
            let mut values: Vec<u64> =
                (0..count).map(|_| rng.random_range(1_000..2_000_000_000)).collect();
            let mut distribution = Distribution::new();
            for &value in &values {
                distribution.record(value, 1);
            }
            values.sort_unstable();
            for p in [0.0, 50.0, 75.0, 90.0, 99.0, 99.9, 100.0] {
                let index = (f64::from(count - 1) * p / 100.0 + 0.5).floor() as usize;
                let (exact, got) =
                    (values[index] as f64, distribution.percentile(p).unwrap() as f64);
                assert!(
                    (got - exact).abs() <= exact * 0.0005 + 1.0,
                    "{count} p{p}: {got} for {exact}"
                );
            }
            let mean = values.iter().sum::<u64>() as f64 / f64::from(count);
            let variance =
                values.iter().map(|&v| (v as f64 - mean).powi(2)).sum::<f64>() / f64::from(count);
            assert!((distribution.mean().unwrap() - mean).abs() < 1e-3);
            assert!((distribution.std().unwrap() - variance.sqrt()).abs() < 1.0);
        }
    }

    #[test]
    fn a_run_is_the_same_as_its_values() {
        let mut rng = stream(4, 0);
        for bound in [6_000_000_u64, 6_000_000_000] {
            let mut values: Vec<u64> = (0..1000).map(|i| bound + i * 7).collect();
            values.extend((0..100).map(|_| rng.random_range(0..bound)));
            let (mut one, mut run) = (Distribution::new(), Distribution::new());
            for &value in &values {
                one.record(value, 3);
            }
            run.record_run(&values, 3);
            let facts = |d: &Distribution| (d.count(), d.sum, d.sum_of_squares, d.min, d.max);
            assert_eq!(facts(&one), facts(&run));
            assert_eq!(one.percentile(37.0), run.percentile(37.0));
        }
    }

    #[test]
    fn an_empty_one_has_no_figures() {
        let empty = Distribution::new();
        assert_eq!((empty.mean(), empty.std(), empty.percentile(50.0)), (None, None, None));
    }
}
