//! Everything but attention, over the tokens of a pass: straight lines between the figures, with steps.
//!
//! Matrix products work on tiles of tokens: with the first token of another tile the time jumps, and grows evenly until
//! the tile is full. Tables have a figure for full tiles, so a jump lies right after a figure. Joined by a straight line
//! the figures would be off by half a jump in between. A segment is taken for a jump if its slope is
//! above those of both neighbours, or below both; then the line of the next segment is followed back to the figure before.
//! docs/timing.md says how much that gains.

use crate::model::timing::float;
use crate::model::timing::measured::axis::Starts;

/// A curve over whole numbers of tokens, in ns.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Curve {
    /// The first whole number of each segment.
    starts: Starts,
    segments: Box<[Segment]>,
    last: f64,
    first: f64,
    /// What it says about 0, 1, … tokens, below [`KNOWN`].
    known: Box<[f64]>,
}

/// So many times are looked up and not computed, 8 kB: those of passes that only decode.
const KNOWN: u32 = 1024;

/// The line `value + slope * (tokens - from)`.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Segment {
    from: f64,
    value: f64,
    slope: f64,
}

impl Segment {
    #[inline]
    fn ns(&self, tokens: f64) -> f64 {
        self.value + self.slope * (tokens - self.from)
    }
}

/// A jump is at least this share of the figure before it.
const JUMP_MIN: f64 = 0.005;

impl Curve {
    /// The curve through points of ascending tokens, two at least, in ns.
    pub(super) fn new(points: &[(f64, f64)]) -> Curve {
        let [(first, lowest), .., (last, _)] = *points else { unreachable!("a curve has points") };
        // Up to the first point, nothing is known but that there is a pass.
        let mut segments = vec![Segment { from: 0.0, value: lowest, slope: 0.0 }];
        let slope = |index: usize| {
            let [(from, value), (to, next)] = [points[index], points[index + 1]];
            (next - value) / (to - from)
        };
        for (index, pair) in points.windows(2).enumerate() {
            let [(from, value), (to, next)] = *pair else { unreachable!("windows of two") };
            let mut segment = Segment { from, value, slope: slope(index) };
            if index + 2 < points.len() && to - from > 1.0 {
                let after = slope(index + 1);
                let before = if index > 0 { slope(index - 1) } else { after };
                let (over, under) = (segment.slope - before, segment.slope - after);
                let jump = over.abs().min(under.abs()) * (to - from);
                let is_jump = over * under > 0.0
                    && jump > JUMP_MIN * value
                    && after.abs() < segment.slope.abs();
                let back = next - after * (to - from);
                // What is followed back too far would get below zero.
                if is_jump && back > 0.0 {
                    segment = Segment { from, value: back, slope: after };
                }
            }
            segments.push(segment);
        }
        let value = points[points.len() - 1].1;
        segments.push(Segment { from: last, value, slope: slope(points.len() - 2).max(0.0) });
        Curve::of(segments, first, last)
    }

    fn of(segments: Vec<Segment>, first: f64, last: f64) -> Curve {
        let starts = Starts::new(segments.iter().map(|segment| segment.from + 1.0));
        let mut curve =
            Curve { starts, segments: segments.into(), last, first, known: Box::default() };
        curve.known = (0..KNOWN).map(|tokens| curve.ns(tokens.into())).collect();
        curve
    }

    /// This curve up to its last point, and from there on the shape of another one.
    pub(super) fn continued_by(&self, other: &Curve) -> Curve {
        let end = self.last;
        let factor = if other.ns(end) > 0.0 { self.ns(end) / other.ns(end) } else { 1.0 };
        let next = other.starts.find(end + 1.0);
        let (own, rest) = (self.segments.len() - 1, &other.segments[next..]);
        let mut segments = self.segments[..own].to_vec();
        segments.extend(rest.iter().map(|&Segment { from, value, slope }| {
            let start = from.max(end);
            let value = factor * (value + slope * (start - from));
            Segment { from: start, value, slope: factor * slope }
        }));
        Curve::of(segments, self.first, self.last)
    }

    /// The time for so many requests that decode.
    pub(super) fn decode_ns(&self, requests: u32) -> f64 {
        let known = self.known.get(requests as usize).copied();
        known.unwrap_or_else(|| self.ns(f64::from(requests)))
    }

    /// The same inside of the figures, if a table tells.
    #[inline]
    pub(super) fn look_up_decode(&self, requests: u32) -> Option<f64> {
        let known = self.known.get(requests as usize).copied()?;
        self.covers(float(requests.into())).then_some(known)
    }

    /// The time for so many tokens, a whole number from 1 on.
    #[inline]
    pub(super) fn ns(&self, tokens: f64) -> f64 {
        self.segments[self.starts.find(tokens)].ns(tokens)
    }

    /// The same inside of the figures, if a table tells.
    #[inline]
    pub(super) fn look_up(&self, tokens: f64) -> Option<f64> {
        let segment = &self.segments[self.starts.look_up(tokens)?];
        self.covers(tokens).then(|| segment.ns(tokens))
    }

    /// Whether there are figures on both sides.
    #[inline]
    pub(super) fn covers(&self, tokens: f64) -> bool {
        tokens >= self.first && tokens <= self.last
    }

    /// The least value for any number of tokens.
    pub(super) fn least(&self) -> f64 {
        self.ends().map(|tokens| self.ns(tokens)).fold(f64::INFINITY, f64::min)
    }

    /// The first and the last whole number of each segment, ascending. The last segment has no end, and does not fall.
    fn ends(&self) -> impl Iterator<Item = f64> {
        let ends = self.segments.iter().zip(&self.segments[1..]);
        let ends = ends.flat_map(|(segment, next)| [segment.from + 1.0, next.from]);
        ends.chain([self.segments[self.segments.len() - 1].from + 1.0])
    }
}
