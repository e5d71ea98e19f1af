//! The values along an axis, and where between them something lies, without a search.

/// Where stretches of an axis begin, ascending. The leading bits of a number tell in which part of an octave it is, and
/// a table tells the stretch at the start of each such part, with the place where the next one begins: in a part there is
/// one such place at most. There is no branch that depends on the number: it would be a guess.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Starts {
    values: Box<[f64]>,
    /// By part of an octave, up to the one in which the last stretch begins. None if there would be too many.
    parts: Box<[Part]>,
}

/// What is known of the numbers in a part.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Part {
    /// Where the next stretch begins: nowhere, after the last one.
    next: f64,
    /// The stretch that its first number is in.
    index: u32,
}

/// Parts of an octave, as bits of the mantissa: twice as many as there are figures in the tables that ship. 9 kB for an
/// axis up to 128 k.
const PART_BITS: u32 = 5;

/// How far down the bits of a float that tell the part are.
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - PART_BITS;

/// The number of a part: the leading bits of what is in it. Everything up to 1 is in the first part.
#[inline]
fn part(x: f64) -> usize {
    ((if x > 1.0 { x } else { 1.0 }.to_bits() >> SHIFT) - (1.0_f64.to_bits() >> SHIFT)) as usize
}

/// The smallest number of a part.
fn part_start(part: usize) -> f64 {
    if part == 0 { 0.0 } else { f64::from_bits(1.0_f64.to_bits() + ((part as u64) << SHIFT)) }
}

/// What is known of a part, if only one stretch begins in it.
fn known(values: &[f64], part: usize) -> Option<Part> {
    let [start, end] = [part, part + 1].map(part_start);
    let index = values.partition_point(|&value| value <= start).saturating_sub(1);
    let is_fine = values.get(index + 2).is_none_or(|&value| value >= end);
    let next = values.get(index + 1).copied().unwrap_or(f64::INFINITY);
    is_fine.then_some(Part { next, index: index as u32 })
}

impl Starts {
    /// Of stretches that begin with these values, ascending and not negative; there is at least one.
    pub(super) fn new(values: impl IntoIterator<Item = f64>) -> Starts {
        let values: Box<[f64]> = values.into_iter().collect();
        let parts = (0..=part(values[values.len() - 1])).map(|part| known(&values, part));
        let parts = parts.collect::<Option<_>>().unwrap_or_default();
        Starts { values, parts }
    }

    /// The stretch that `x` is in, or the first one, if the table tells.
    #[inline]
    pub(super) fn look_up(&self, x: f64) -> Option<usize> {
        let &Part { next, index } = self.parts.get(part(x))?;
        Some(index as usize + usize::from(next <= x))
    }

    /// The stretch that `x` is in, or the first one. `x` is finite.
    #[inline]
    pub(super) fn find(&self, x: f64) -> usize {
        self.look_up(x).unwrap_or_else(|| self.search(x))
    }

    #[cold]
    fn search(&self, x: f64) -> usize {
        self.values.partition_point(|&value| value <= x).saturating_sub(1)
    }
}

/// Ascending values, two at least, and the gaps between them.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Axis {
    starts: Starts,
    /// One less than there are values.
    gaps: Box<[Gap]>,
}

/// What is between a value and the next one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Gap {
    pub(super) from: f64,
    pub(super) to: f64,
    /// 1 / (to - from).
    pub(super) inverse: f64,
}

/// A position on an axis.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Place {
    /// Which gap it is in.
    pub(super) index: usize,
    /// The share of the way through it, 0 to 1.
    pub(super) share: f64,
}

impl Axis {
    /// An axis of ascending values; there are two at least.
    pub(super) fn new(values: &[u32]) -> Axis {
        let gaps = values.windows(2).map(|pair| {
            let [from, to] = [0, 1].map(|end| f64::from(pair[end]));
            Gap { from, to, inverse: 1.0 / (to - from) }
        });
        Axis { starts: Starts::new(values.iter().map(|&value| value.into())), gaps: gaps.collect() }
    }

    /// What is between the values.
    #[inline]
    pub(super) fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The smallest value.
    pub(super) fn first(&self) -> f64 {
        self.gaps[0].from
    }

    /// The largest value.
    pub(super) fn last(&self) -> f64 {
        self.gaps[self.gaps.len() - 1].to
    }

    /// Whether it covers `x`.
    pub(super) fn covers(&self, x: f64) -> bool {
        x >= self.first() && x <= self.last()
    }

    /// The gap that `x` is in, or the one that is nearer to it. `x` is finite.
    #[inline]
    pub(super) fn find(&self, x: f64) -> usize {
        self.starts.find(x).min(self.gaps.len() - 1)
    }

    /// The gap that `x` is in, or the first one if it is below, if the table tells: not at the end of the axis.
    #[inline]
    pub(super) fn look_up(&self, x: f64) -> Option<(usize, &Gap)> {
        let index = self.starts.look_up(x)?;
        Some((index, self.gaps.get(index)?))
    }

    /// Where `x` is, or the end of the axis that is nearer to it.
    pub(super) fn place(&self, x: f64) -> Place {
        let index = self.find(x);
        Place { index, share: self.gaps[index].share(x).clamp(0.0, 1.0) }
    }

    /// The same for `sum / requests`, if it is on the axis and the table tells: not at the end. The inverse is that of
    /// [`inverse_above`].
    #[inline]
    pub(super) fn look_up_place(&self, sum: f64, requests: f64, inverse: f64) -> Option<Place> {
        // The division takes its time, which the table does not wait for.
        let (index, gap) = self.look_up(sum * inverse)?;
        let share = gap.share(sum / requests);
        // Not above 1: the mean is not above the end of the gap, and rounding keeps the order.
        (share >= 0.0).then_some(Place { index, share })
    }
}

/// A bit more than 1 / requests: a sum of tokens times this is below a value of an axis if and only if the sum is below the
/// value times the requests. It never is because of rounding. And a sum that is less is so by one token in 2^36 at least,
/// the largest value times the most requests that are looked up, which is more than the bit.
pub(super) fn inverse_above(requests: f64) -> f64 {
    (1.0 + 4.0 * f64::EPSILON) / requests
}

impl Gap {
    #[inline]
    fn share(&self, x: f64) -> f64 {
        (x - self.from) * self.inverse
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use crate::model::timing::measured::COORDINATE_MAX;
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
            let starts = Starts::new(values.iter().map(|&value| f64::from(value)));
            let axis = (values.len() > 1).then(|| Axis::new(&values));
            for _ in 0..200 {
                let x = f64::from(any(22)) / [1.0, 2.0, 7.0, 1.0][any(3) as usize];
                let found = values.partition_point(|&value| f64::from(value) <= x);
                assert_eq!(starts.find(x), found.saturating_sub(1), "{x} in {values:?}");
                if let Some(axis) = &axis {
                    let Place { index, share } = axis.place(x);
                    let Gap { from, to, .. } = axis.gaps()[index];
                    let expected = x.clamp(axis.first(), axis.last());
                    assert!((from + share * (to - from) - expected).abs() < 1e-6, "{x}");
                }
            }
        }
    }

    /// Also right at the values, and one token off.
    #[test]
    fn a_place_does_not_wait_for_the_mean() {
        let mut rng = stream(35, 0);
        let values = [0, 1, 3, 10, 16, 24, 32, 100, 1 << 13, 100_000, 1 << 20, COORDINATE_MAX];
        let axis = Axis::new(&values);
        let (mut known, mut passes) = (0, 0);
        for requests in 1..=1024 {
            let inverse = inverse_above(f64::from(requests));
            for value in values {
                for off in [-1.0, 0.0, 1.0, f64::from(rng.random_range(0..1 << 20))] {
                    let sum = (f64::from(value) * f64::from(requests) + off).max(0.0);
                    let place = axis.look_up_place(sum, requests.into(), inverse);
                    let expected = axis.place(sum / f64::from(requests));
                    assert!(place.is_none_or(|place| place == expected), "{sum} / {requests}");
                    known += usize::from(place.is_some());
                    passes += 1;
                }
            }
        }
        assert!(known > passes * 9 / 10, "{known} of {passes}");
    }
}
