//! The values along an axis, and where between them something lies, without a search.

/// Where stretches of an axis begin, ascending. The leading bits of a number tell in which part of an octave it is, and
/// a table tells the stretch at the start of each such part, with the place where the next one begins: in a part there is
/// one such place at most. There is no branch that depends on the number: it would be a guess.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Starts {
    values: Box<[f64]>,
    /// By part of an octave, up to the end of the axis. None if stretches are so short that parts would be too many.
    parts: Box<[Part]>,
    /// How far down the bits of a float that tell the part are.
    shift: u32,
    /// What these bits are for 1, where the parts begin.
    one: usize,
}

/// What is known of the numbers in a part.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Part {
    /// Where the next stretch begins: nowhere, after the last one.
    next: f64,
    /// The stretch that its first number is in.
    index: u32,
}

/// So many bits of the mantissa at most: the table of an axis should stay in the nearest cache.
const PART_BITS_MAX: u32 = 7;

fn shift(part_bits: u32) -> u32 {
    f64::MANTISSA_DIGITS - 1 - part_bits
}

/// The leading bits of a number. Everything up to 1 is in the first part.
fn leading(x: f64, shift: u32) -> usize {
    (if x > 1.0 { x } else { 1.0 }.to_bits() >> shift) as usize
}

impl Starts {
    /// Of stretches that begin with these values, ascending and not negative; there is at least one. The last one
    /// is looked for up to `end`.
    pub(super) fn new(values: impl IntoIterator<Item = f64>, end: f64) -> Starts {
        let values: Box<[f64]> = values.into_iter().collect();
        let tables = (0..=PART_BITS_MAX).map(|bits| (shift(bits), parts(&values, end, shift(bits))));
        let found = tables.filter_map(|(shift, parts)| Some((shift, parts?))).next();
        let (shift, parts) = found.unwrap_or((shift(0), Box::default()));
        Starts { values, parts, shift, one: leading(1.0, shift) }
    }

    /// The stretch that `x` is in, or the first one, if the table tells.
    #[inline]
    pub(super) fn look_up(&self, x: f64) -> Option<usize> {
        let &Part { next, index } = self.parts.get(leading(x, self.shift) - self.one)?;
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

/// The table of parts up to `end`, if no two stretches begin in one.
fn parts(values: &[f64], end: f64, shift: u32) -> Option<Box<[Part]>> {
    let one = leading(1.0, shift);
    // The first part starts with 0.
    let start = |bits: usize| if bits == one { 0.0 } else { f64::from_bits((bits as u64) << shift) };
    let before = |x: f64| values.partition_point(|&value| value <= x).saturating_sub(1);
    let part = |bits: usize| {
        let index = before(start(bits));
        let is_fine = values.get(index + 2).is_none_or(|&value| value >= start(bits + 1));
        let next = values.get(index + 1).copied().unwrap_or(f64::INFINITY);
        is_fine.then_some(Part { next, index: index as u32 })
    };
    (one..=leading(end, shift)).map(part).collect()
}

/// Ascending values, two at least, and the stretches between them.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Axis {
    /// Where the stretches begin: all values but the last.
    starts: Starts,
    /// One for each value.
    knots: Box<[Knot]>,
    first: f64,
    last: f64,
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

impl Axis {
    /// An axis of ascending values that are not negative; there are two at least.
    pub(super) fn new(values: &[u32]) -> Axis {
        let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
        let inverse =
            |index: usize| values.get(index + 1).map_or(0.0, |next| 1.0 / (next - values[index]));
        let knots = values.iter().enumerate();
        let knots = knots.map(|(index, &value)| Knot { value, inverse: inverse(index) }).collect();
        let [first, .., last] = *values else { unreachable!("an axis has two values") };
        let starts = Starts::new(values[..values.len() - 1].iter().copied(), last);
        Axis { starts, knots, first, last }
    }

    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        self.knots.len()
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
    #[inline]
    pub(super) fn first(&self) -> f64 {
        self.first
    }

    /// The largest value.
    #[inline]
    pub(super) fn last(&self) -> f64 {
        self.last
    }

    /// Whether it covers `x`.
    #[inline]
    pub(super) fn covers(&self, x: f64) -> bool {
        x >= self.first && x <= self.last
    }

    /// The stretch that `x` is in, or the one that is nearer to it. `x` is finite.
    #[inline]
    pub(super) fn before(&self, x: f64) -> usize {
        self.starts.find(x)
    }

    /// The same if a table tells.
    #[inline]
    pub(super) fn look_up(&self, x: f64) -> Option<usize> {
        self.starts.look_up(x)
    }

    /// Where `x` is, or the end of the axis that is nearer to it.
    pub(super) fn place(&self, x: f64) -> Place {
        let index = self.before(x);
        Place { index, share: self.share(index, x).clamp(0.0, 1.0) }
    }

    /// The same unless `x` is beyond the axis, and if a table tells.
    #[inline]
    pub(super) fn place_inside(&self, x: f64) -> Option<Place> {
        if x > self.last {
            return None;
        }
        let index = self.look_up(x)?;
        let share = self.share(index, x);
        // Not above 1: what is rounded is not above what 1 is rounded to.
        Some(Place { index, share: if share > 0.0 { share } else { 0.0 } })
    }

    #[inline]
    fn share(&self, index: usize, x: f64) -> f64 {
        let knot = self.knots[index];
        (x - knot.value) * knot.inverse
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
            let end = f64::from(any(22));
            let starts = Starts::new(values.iter().map(|&value| f64::from(value)), end);
            let axis = (values.len() > 1).then(|| Axis::new(&values));
            for _ in 0..200 {
                let x = f64::from(any(22)) / [1.0, 2.0, 7.0, 1.0][any(3) as usize];
                let found = values.partition_point(|&value| f64::from(value) <= x);
                assert_eq!(starts.find(x), found.saturating_sub(1), "{x} in {values:?}");
                if let Some(axis) = &axis {
                    let Place { index, share } = axis.place(x);
                    let [from, to] = [index, index + 1].map(|index| axis.value(index));
                    let expected = x.clamp(axis.first(), axis.last());
                    assert!((from + share * (to - from) - expected).abs() < 1e-6, "{x}");
                }
            }
        }
    }
}
