//! The distribution of a time over requests or tokens, in constant memory.

use hdrhistogram::Histogram;
use smallvec::SmallVec;

/// The longest time a histogram tells apart from longer ones: 2^56 ns, as long as a run can be.
const NS_MAX: u64 = 1 << 56;

/// Count, sums and extremes exactly; percentiles from a histogram with three significant digits.
///
/// A percentile is the element at index round((n - 1) p / 100) of the sorted values, half rounded up, as the reference
/// peer defines it; the histogram gives the middle of its bucket, at most 0.05 % away.
#[derive(Clone, Debug)]
pub struct Distribution {
    histogram: Histogram<u64>,
    sum: u128,
    sum_of_squares: Squares,
    min: u64,
    max: u64,
}

/// A sum of squares: of times of years it takes more than 128 bits, and a sum of floats would depend on its order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Squares {
    low: u128,
    high: u64,
}

impl Squares {
    fn add(&mut self, squares: u128) {
        let (low, has_carry) = self.low.overflowing_add(squares);
        self.low = low;
        self.high += u64::from(has_carry);
    }

    fn add_times(&mut self, squares: u128, count: u64) {
        if let Some(product) = squares.checked_mul(u128::from(count)) {
            return self.add(product);
        }
        let [high, low] =
            [squares >> 64, squares & u128::from(u64::MAX)].map(|half| half * u128::from(count));
        self.high += (high >> 64) as u64;
        self.add(high << 64);
        self.add(low);
    }

    /// As an integer, if it is not too large.
    fn exact(self) -> Option<u128> {
        (self.high == 0).then_some(self.low)
    }

    fn as_f64(self) -> f64 {
        self.high as f64 * 2_f64.powi(128) + self.low as f64
    }
}

/// Values of one distribution, summed up so that they can be added later.
#[derive(Clone, Debug)]
pub struct Summary {
    /// A value of each bucket of the histogram, and how many values are in there.
    buckets: SmallVec<[(u64, u64); 2]>,
    total: u64,
    squares: u128,
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
        Distribution {
            histogram,
            sum: 0,
            sum_of_squares: Squares::default(),
            min: u64::MAX,
            max: 0,
        }
    }

    /// Adds `count` times the same `value`, in ns.
    pub fn record(&mut self, value: u64, count: u64) {
        self.histogram.saturating_record_n(value, count);
        self.sum += u128::from(value) * u128::from(count);
        self.sum_of_squares.add_times(u128::from(value) * u128::from(value), count);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds every one of `values`, in ns.
    pub fn record_all(&mut self, values: impl Iterator<Item = u64>) {
        for value in values {
            self.record(value, 1);
        }
    }

    /// Sums up `values`, whole numbers below 2^53 that do not fall and add up to `total`. Only the bounds of this
    /// distribution matter, not what is in it.
    ///
    /// Neighbouring decode passes take almost the same time, so a run of them is in one bucket of the histogram or in two.
    /// Sums are exact: squares are taken of the distances to the first value, which are small.
    pub fn summarise(&self, values: &[f64], total: u64) -> Summary {
        debug_assert!(values.is_sorted());
        let mut buckets = SmallVec::new();
        let (Some(&first), Some(&last)) = (values.first(), values.last()) else {
            return Summary { buckets, total: 0, squares: 0, min: u64::MAX, max: 0 };
        };
        let mut left = values;
        while let Some(&value) = left.first() {
            let high = self.histogram.highest_equivalent(value as u64) as f64;
            let inside =
                if last <= high { left.len() } else { left.partition_point(|&v| v <= high) };
            buckets.push((value as u64, inside as u64));
            left = &left[inside..];
        }
        let spread = last - first;
        let squares = if spread * spread * values.len() as f64 <= EXACT {
            // Σ v² = Σ (v - b)² + 2 b Σ v - n b²
            let (length, base) = (values.len() as u128, u128::from(first as u64));
            let distances = u128::from(squares_from(values, first) as u64);
            distances + 2 * base * u128::from(total) - length * base * base
        } else {
            values.iter().map(|&value| u128::from(value as u64).pow(2)).sum()
        };
        Summary { buckets, total, squares, min: first as u64, max: last as u64 }
    }

    /// Adds every value of a summary `count` times.
    pub fn add(&mut self, summary: &Summary, count: u64) {
        for &(value, values) in &summary.buckets {
            self.histogram.saturating_record_n(value, values * count);
        }
        self.sum += u128::from(summary.total) * u128::from(count);
        self.sum_of_squares.add_times(summary.squares, count);
        self.min = self.min.min(summary.min);
        self.max = self.max.max(summary.max);
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
        let squares = self.sum_of_squares.exact().and_then(|sum| sum.checked_mul(count));
        let variance =
            if let (Some(squares), Some(square)) = (squares, self.sum.checked_mul(self.sum)) {
                (squares - square) as f64 / (count as f64 * count as f64)
            } else {
                let mean = self.sum as f64 / count as f64;
                (self.sum_of_squares.as_f64() / count as f64 - mean * mean).max(0.0)
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
        // Going through its buckets would touch memory that nobody has used yet.
        if other.count() == 0 {
            return;
        }
        self.histogram.add(&other.histogram).expect("both have the same bounds");
        self.sum += other.sum;
        self.sum_of_squares.add(other.sum_of_squares.low);
        self.sum_of_squares.high += other.sum_of_squares.high;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// Whole numbers up to here are exact as floats, whatever they were added up from.
const EXACT: f64 = (1_u64 << 53) as f64;

/// The sum of the squares of the distances to `base`, in lanes that compilers turn into vector instructions.
fn squares_from(values: &[f64], base: f64) -> f64 {
    let mut squares = [0.0; 4];
    let (chunks, rest) = values.as_chunks::<4>();
    for chunk in chunks {
        for (sum, &value) in squares.iter_mut().zip(chunk) {
            *sum += (value - base) * (value - base);
        }
    }
    squares.iter().sum::<f64>() + rest.iter().map(|value| (value - base).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use rand::RngExt;

    #[test]
    fn sums_of_squares_hold_times_of_years() {
        let (mut one, mut other) = (Distribution::new(), Distribution::new());
        // Of these, 300,000 squares take 130 bits.
        let (short, long) = (1 << 55, (1 << 56) - 1);
        for _ in 0..150_000 {
            one.record_all([short, long].into_iter());
        }
        other.record(short, 150_000);
        other.record(long, 150_000);
        assert!(one.sum_of_squares.high > 0 && one.sum_of_squares == other.sum_of_squares);
        let half = (long - short) as f64 / 2.0;
        assert!((one.std().unwrap() / half - 1.0).abs() < 1e-6, "{:?}", one.std());
        let mut both = one.clone();
        both.merge(&other);
        assert!((both.std().unwrap() / half - 1.0).abs() < 1e-6, "{:?}", both.std());
    }

    #[test]
    fn percentiles_match_a_sorted_list() {
        let mut rng = stream(3, 0);
        for count in [1_u32, 2, 3, 10, 999, 5000] {
            // From microseconds to as long as a run can be.
            let longest = [2_000_000_000, 1 << 56][count as usize % 2];
            let mut values: Vec<u64> =
                (0..count).map(|_| rng.random_range(1_000..longest)).collect();
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
            let mean = values.iter().map(|&value| value as f64).sum::<f64>() / f64::from(count);
            let variance =
                values.iter().map(|&v| (v as f64 - mean).powi(2)).sum::<f64>() / f64::from(count);
            let close = |got: f64, exact: f64| (got - exact).abs() < 1.0 + exact * 1e-9;
            assert!(close(distribution.mean().unwrap(), mean));
            assert!(close(distribution.std().unwrap(), variance.sqrt()));
        }
    }

    #[test]
    fn a_run_is_the_same_as_its_values() {
        let mut rng = stream(4, 0);
        for bound in [6_000_000_u64, 6_000_000_000, 1 << 50] {
            let mut values: Vec<u64> = (0..1000).map(|i| bound + i * 7).collect();
            values.extend((0..100).map(|_| rng.random_range(0..bound)));
            let (mut one, mut run) = (Distribution::new(), Distribution::new());
            for part in values.chunks_mut(77) {
                part.sort_unstable();
                for &value in &*part {
                    one.record(value, 3);
                }
                let floats: Vec<f64> = part.iter().map(|&value| value as f64).collect();
                run.add(&run.summarise(&floats, part.iter().sum()), 3);
            }
            let facts = |d: &Distribution| (d.count(), d.sum, d.sum_of_squares, d.min, d.max);
            assert_eq!(facts(&one), facts(&run));
            for p in 0..=100 {
                assert_eq!(one.percentile(f64::from(p)), run.percentile(f64::from(p)));
            }
        }
    }

    #[test]
    fn an_empty_one_has_no_figures() {
        let empty = Distribution::new();
        assert_eq!((empty.mean(), empty.std(), empty.percentile(50.0)), (None, None, None));
    }
}
