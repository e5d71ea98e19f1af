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

    /// Adds every one of `values`, whole numbers below 2^53 that add up to `total`, each `count` times.
    ///
    /// Neighbouring decode passes take almost the same time, so most stretches of them fall into one bucket of the
    /// histogram, and a bucket is updated once for all of them. Sums are exact: squares are taken of the distances to the
    /// first value, which are small.
    pub fn record_run(&mut self, values: &[f64], total: u64, count: u64) {
        let Some(&base) = values.first() else { return };
        let mut bucket = self.bucket(base);
        let mut lanes = Lanes::new(base);
        let (stretches, rest) = values.as_chunks::<STRETCH>();
        for stretch in stretches {
            lanes.add(stretch);
            if bucket.holds(stretch) {
                bucket.values += STRETCH as u64;
            } else {
                self.sort_in(stretch, count, &mut bucket);
            }
        }
        let (mut min, mut max, mut squares) = lanes.totals();
        for &value in rest {
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
            squares += (value - base) * (value - base);
        }
        self.sort_in(rest, count, &mut bucket);
        self.histogram.saturating_record_n(bucket.low as u64, bucket.values * count);
        let spread = (max - base).max(base - min);
        let squares = if spread * spread * values.len() as f64 <= EXACT {
            // Σ v² = Σ (v - b)² + 2 b Σ v - n b²
            let (length, base) = (values.len() as u128, u128::from(base as u64));
            u128::from(squares as u64) + 2 * base * u128::from(total) - length * base * base
        } else {
            values.iter().map(|&value| (value as u128).pow(2)).sum()
        };
        self.sum += u128::from(total) * u128::from(count);
        self.sum_of_squares += squares * u128::from(count);
        self.min = self.min.min(min as u64);
        self.max = self.max.max(max as u64);
    }

    /// Enters values one by one; those of the same bucket are counted together until another one is needed.
    fn sort_in(&mut self, values: &[f64], count: u64, bucket: &mut Bucket) {
        for &value in values {
            if !bucket.holds(&[value]) {
                self.histogram.saturating_record_n(bucket.low as u64, bucket.values * count);
                *bucket = self.bucket(value);
            }
            bucket.values += 1;
        }
    }

    /// The bucket that a value falls into, empty.
    fn bucket(&self, value: f64) -> Bucket {
        let value = value as u64;
        let low = self.histogram.lowest_equivalent(value) as f64;
        Bucket { low, high: self.histogram.highest_equivalent(value) as f64, values: 0 }
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

/// Whole numbers up to here are exact as floats, whatever they were added up from.
const EXACT: f64 = (1_u64 << 53) as f64;

/// Values are looked at in stretches of this length, in so many lanes that compilers turn into vector instructions.
const STRETCH: usize = 16;
const LANES: usize = 4;

/// A bucket of the histogram, and values of it that have not been entered yet.
struct Bucket {
    low: f64,
    high: f64,
    values: u64,
}

impl Bucket {
    fn holds(&self, values: &[f64]) -> bool {
        let outside = |value: f64| u64::from(value < self.low) | u64::from(value > self.high);
        values.iter().fold(0, |any, &value| any | outside(value)) == 0
    }
}

/// Extremes, and squares of the distances to a base, in lanes.
struct Lanes {
    base: f64,
    min: [f64; LANES],
    max: [f64; LANES],
    squares: [f64; LANES],
}

impl Lanes {
    fn new(base: f64) -> Lanes {
        Lanes { base, min: [base; LANES], max: [base; LANES], squares: [0.0; LANES] }
    }

    fn add(&mut self, values: &[f64; STRETCH]) {
        for chunk in values.as_chunks::<LANES>().0 {
            for (min, &value) in self.min.iter_mut().zip(chunk) {
                *min = if value < *min { value } else { *min };
            }
            for (max, &value) in self.max.iter_mut().zip(chunk) {
                *max = if value > *max { value } else { *max };
            }
            for (sum, &value) in self.squares.iter_mut().zip(chunk) {
                *sum += (value - self.base) * (value - self.base);
            }
        }
    }

    /// The smallest value, the largest, and the sum of the squares.
    fn totals(&self) -> (f64, f64, f64) {
        let min = self.min.into_iter().fold(self.base, f64::min);
        let max = self.max.into_iter().fold(self.base, f64::max);
        (min, max, self.squares.into_iter().sum())
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
        for bound in [6_000_000_u64, 6_000_000_000, 1 << 50] {
            let mut values: Vec<u64> = (0..1000).map(|i| bound + i * 7).collect();
            values.extend((0..100).map(|_| rng.random_range(0..bound)));
            let floats: Vec<f64> = values.iter().map(|&value| value as f64).collect();
            let (mut one, mut run) = (Distribution::new(), Distribution::new());
            for &value in &values {
                one.record(value, 3);
            }
            for (part, values) in floats.chunks(77).zip(values.chunks(77)) {
                run.record_run(part, values.iter().sum(), 3);
            }
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
