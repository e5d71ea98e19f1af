//! The values along an axis, and where between them something lies, without a search.

/// Ascending values. The leading bits of a number tell in which part of an octave it is, and a table tells the first value
/// to look at for each such part. Parts are so small that it is that one or the next, if possible. There is no branch that
/// depends on the number: it would be a guess.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Axis {
    /// One more than there are values: nothing is above the last.
    knots: Box<[Knot]>,
    /// By part of an octave: the last knot that is not above its start.
    parts: Box<[u32]>,
    /// The bits of the mantissa that tell the part.
    part_bits: u32,
    /// How many knots further than the first one to look at a place can be: the most that a part has.
    steps: u32,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Knot {
    value: f64,
    /// 1 / distance to the next one; zero for the last.
    inverse: f64,
}

/// A position on an axis: between a knot and the next one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Place {
    /// The knot before.
    pub(super) index: usize,
    /// The share of the way to the next one, 0 to 1.
    pub(super) share: f64,
}

/// So many bits at most: the table of an axis should stay in the nearest cache.
const PART_BITS_MAX: u32 = 7;

fn part(x: f64, part_bits: u32) -> usize {
    let bits = |x: f64| x.to_bits() >> (f64::MANTISSA_DIGITS - 1 - part_bits);
    // Everything up to 1 is in the first part.
    (bits(if x > 1.0 { x } else { 1.0 }) - bits(1.0)) as usize
}

/// The smallest number of a part.
fn part_start(part: usize, part_bits: u32) -> f64 {
    if part == 0 {
        return 0.0;
    }
    let shift = f64::MANTISSA_DIGITS - 1 - part_bits;
    f64::from_bits(((1.0_f64.to_bits() >> shift) + part as u64) << shift)
}

/// How many values are not above the start of each part, and beyond the last of them.
fn counts(values: &[f64], part_bits: u32) -> Vec<usize> {
    let last = part(values[values.len() - 1], part_bits);
    let starts = (0..=last).map(|part| part_start(part, part_bits));
    let counts = starts.map(|start| values.partition_point(|&value| value <= start));
    counts.chain([values.len()]).collect()
}

impl Axis {
    /// An axis of ascending values that are not negative; there is at least one.
    pub(super) fn new(values: impl IntoIterator<Item = f64>) -> Axis {
        let values: Vec<f64> = values.into_iter().collect();
        let inverse =
            |index: usize| values.get(index + 1).map_or(0.0, |next| 1.0 / (next - values[index]));
        let knots = values.iter().enumerate();
        let knots = knots.map(|(index, &value)| Knot { value, inverse: inverse(index) });
        let knots = knots.chain([Knot { value: f64::INFINITY, inverse: 0.0 }]);
        let steps = |bits: u32| {
            let counts = counts(&values, bits);
            let steps = counts.windows(2).map(|pair| pair[1].saturating_sub(pair[0].max(1)));
            steps.max().unwrap_or(0) as u32
        };
        let is_fine = |bits: &u32| steps(*bits) <= 1;
        let part_bits = (0..PART_BITS_MAX).find(is_fine).unwrap_or(PART_BITS_MAX);
        let mut parts = counts(&values, part_bits);
        parts.pop();
        let parts = parts.into_iter().map(|count| count.saturating_sub(1) as u32);
        let steps = steps(part_bits);
        Axis { knots: knots.collect(), parts: parts.collect(), part_bits, steps }
    }

    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        self.knots.len() - 1
    }

    /// The value of a knot.
    #[inline]
    pub(super) fn value(&self, index: usize) -> f64 {
        self.knots[index].value
    }

    /// 1 / distance from a knot to the next one; zero for the last.
    #[inline]
    pub(super) fn inverse(&self, index: usize) -> f64 {
        self.knots[index].inverse
    }

    /// The smallest value.
    pub(super) fn first(&self) -> f64 {
        self.knots[0].value
    }

    /// The largest value.
    pub(super) fn last(&self) -> f64 {
        self.knots[self.len() - 1].value
    }

    /// Whether it covers `x`.
    pub(super) fn covers(&self, x: f64) -> bool {
        x >= self.first() && x <= self.last()
    }

    /// The last knot that is not above `x`, or the first one. `x` is finite.
    #[inline]
    pub(super) fn before(&self, x: f64) -> usize {
        let part = part(x, self.part_bits).min(self.parts.len() - 1);
        let mut index = self.parts[part] as usize;
        for _ in 0..self.steps {
            index += usize::from(self.knots[index + 1].value <= x);
        }
        index
    }

    /// Where `x` is, or the end of the axis that is nearer to it. Needs two values.
    #[inline]
    pub(super) fn place(&self, x: f64) -> Place {
        let index = self.before(x).min(self.len() - 2);
        let knot = self.knots[index];
        let share = (x - knot.value) * knot.inverse;
        let share = if share > 0.0 { share } else { 0.0 };
        Place { index, share: if share < 1.0 { share } else { 1.0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use rand::RngExt;

    #[test]
    fn the_table_of_parts_finds_what_a_search_finds() {
        let mut rng = stream(31, 0);
        for _ in 0..200 {
            let mut any = |bits: u32| {
                let bits = rng.random_range(1..bits);
                rng.random_range(0_u32..1 << bits)
            };
            let mut values: Vec<u32> = (0..=any(6)).map(|_| any(20)).collect();
            values.sort_unstable();
            values.dedup();
            let axis = Axis::new(values.iter().map(|&value| f64::from(value)));
            for _ in 0..200 {
                let x = f64::from(any(22)) / [1.0, 2.0, 7.0, 1.0][any(3) as usize];
                let found = values.partition_point(|&value| f64::from(value) <= x);
                assert_eq!(axis.before(x), found.saturating_sub(1), "{x} in {values:?}");
                if values.len() > 1 {
                    let Place { index, share } = axis.place(x);
                    let [from, to] = [index, index + 1].map(|index| axis.value(index));
                    let expected = x.clamp(axis.first(), axis.last());
                    assert!((from + share * (to - from) - expected).abs() < 1e-6, "{x}");
                }
            }
        }
    }
}
