//! How well a table says what it was measured to say.
//!
//! Three questions. Do the parts add up to the whole passes on the grid? What would a figure of the grid be if it were not
//! there, from its neighbours? And does a pass that computes prompt tokens and decodes take as long as it was said to?
//!
//! A figure is left out along one axis after the other, and the error of its attention counts relative to the whole pass.
//! Its neighbours are twice as far apart then as figures are, and a straight line is four times as wrong: this is more
//! than what a pass between the figures is off by. Tokens of mixed passes lie between the figures of the curve `other`,
//! so they tell how right that one is.

use crate::io::timing::measurement::Measurement;
use crate::kernel::time::Span;
use crate::model::timing::measured::{Grid, Scales};
use crate::model::timing::{DecodeLoad, Measured, PassTimer, PrefillLoad, TimingModel};

/// Relative errors of many passes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Errors {
    /// How many passes.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// What 95 % of them are not above.
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

/// How good a table is. What cannot be said is absent.
#[derive(Clone, PartialEq, Debug)]
pub struct Accuracy {
    /// Passes over prompt tokens on the grid, against their totals.
    pub prefill_total: Option<Errors>,
    /// Passes that decode, likewise.
    pub decode_total: Option<Errors>,
    /// Prefill attention left out of the grid.
    pub prefill_left_out: Option<Errors>,
    /// Decode attention left out of the grid.
    pub decode_left_out: Option<Errors>,
    /// Passes that do both.
    pub mixed: Option<Errors>,
    /// Figures that fall where one expects them to rise, the worst first.
    pub falls: Vec<Fall>,
}

/// A figure that is smaller than its neighbour although there is more to do.
#[derive(Clone, PartialEq, Debug)]
pub struct Fall {
    /// Where, in words.
    pub at: String,
    /// By how much of the pass.
    pub share: f64,
}

/// Falls up to this share of the pass are noise.
const FALL_MIN: f64 = 0.02;

impl Accuracy {
    /// Checks a table against all that its files say.
    pub fn of(measurement: &Measurement) -> Accuracy {
        let table = &measurement.table;
        let timing = Measured::new(table.clone(), Scales::default(), Span::ZERO);
        let timer = PassTimer::new(TimingModel::Measured(timing), 1, 1.0, 1.0);
        let ms = |prefill, decode| timer.pass(prefill, decode).as_ns() as f64 / 1e6;
        let prefill_ms = |[b, n, p]: [u32; 3]| ms(prefill(b, n, p), DecodeLoad::default());
        let decode_ms = |[b, c]: [u32; 2]| ms(PrefillLoad::default(), decode(b, c));
        let error = |found: f64, total: f64| relative((found - total).abs(), total);
        let prefill_total = measurement.prefill.iter().map(|total| {
            let row = total.row;
            error(prefill_ms([row.batch, row.new_tokens, row.prefix_tokens]), total.total_ms)
        });
        let decode_total = measurement.decode.iter().map(|total| {
            error(decode_ms([total.row.batch, total.row.context_tokens]), total.total_ms)
        });
        let mixed = measurement.mixed.iter().map(|row| {
            let prefill = prefill(row.prefill_requests, row.new_tokens, row.prefix_tokens);
            error(ms(prefill, decode(row.decode_requests, row.context_tokens)), row.total_ms)
        });
        let prefill_axes = ["batch", "new_tokens", "prefix_tokens"];
        let mut falls = falls(table.prefill(), "prefill", prefill_axes, &prefill_ms);
        falls.extend(self::falls(
            table.decode(),
            "decode",
            ["batch", "context_tokens"],
            &decode_ms,
        ));
        falls.sort_by(|one, other| other.share.total_cmp(&one.share));
        Accuracy {
            prefill_total: Errors::of(prefill_total),
            decode_total: Errors::of(decode_total),
            prefill_left_out: Errors::of(left_out(table.prefill(), &prefill_ms)),
            decode_left_out: Errors::of(left_out(table.decode(), &decode_ms)),
            mixed: Errors::of(mixed),
            falls,
        }
    }
}

/// How large an error is to the whole: all of it where there is nothing to compare with, NaN where nothing is wrong with that.
fn relative(error: f64, whole: f64) -> f64 {
    if whole == 0.0 && error > 0.0 { 1.0 } else { error / whole }
}

fn prefill(requests: u32, new: u32, prefix: u32) -> PrefillLoad {
    let [requests_u64, new, prefix_tokens] = [requests, new, prefix].map(u64::from);
    let prefix_tokens = requests_u64 * prefix_tokens;
    PrefillLoad { requests, tokens: requests_u64 * new + prefix_tokens, prefix_tokens }
}

fn decode(requests: u32, context: u32) -> DecodeLoad {
    DecodeLoad { requests, kv_tokens: u64::from(requests) * u64::from(context) }
}

impl Errors {
    fn of(errors: impl IntoIterator<Item = f64>) -> Option<Errors> {
        // A pass of no time has no relative error if none was expected.
        let mut errors: Vec<f64> = errors.into_iter().filter(|error| error.is_finite()).collect();
        errors.sort_by(f64::total_cmp);
        let (count, max) = (errors.len(), *errors.last()?);
        let mean = errors.iter().sum::<f64>() / count as f64;
        let p95 = errors[(count * 95).div_ceil(100) - 1];
        Some(Errors { count, mean, p95, max })
    }
}

/// Every figure along every axis, as three that follow each other: the middle one from the outer ones.
fn left_out<const AXES: usize>(
    grid: &Grid<AXES>,
    pass_ms: &impl Fn([u32; AXES]) -> f64,
) -> Vec<f64> {
    let mut errors = Vec::new();
    for axis in 0..AXES {
        for [before, at, after] in neighbours::<AXES, 3>(grid, axis) {
            let [from, middle, to] = [before, at, after].map(|(point, _)| f64::from(point[axis]));
            let share = (middle - from) / (to - from);
            let expected = before.1 * (1.0 - share) + after.1 * share;
            errors.push(relative((expected - at.1).abs(), pass_ms(at.0)));
        }
    }
    errors
}

/// Where attention costs less than it did with less to do.
fn falls<const AXES: usize>(
    grid: &Grid<AXES>,
    kind: &str,
    axes: [&str; AXES],
    pass_ms: &impl Fn([u32; AXES]) -> f64,
) -> Vec<Fall> {
    let mut falls = Vec::new();
    for (axis, name) in axes.iter().enumerate() {
        for [(from, before), (to, after)] in neighbours::<AXES, 2>(grid, axis) {
            let share = (before - after) / pass_ms(from);
            if share > FALL_MIN {
                let values = axes.iter().zip(from).map(|(name, value)| format!("{name} {value}"));
                let at = values.collect::<Vec<_>>().join(", ");
                let at = format!(
                    "{kind} attention at {at}: {before} ms, but {after} ms at {name} {}",
                    to[axis]
                );
                falls.push(Fall { at, share });
            }
        }
    }
    falls
}

type Point<const AXES: usize> = ([u32; AXES], f64);

/// Figures that follow each other along an axis.
fn neighbours<const AXES: usize, const COUNT: usize>(
    grid: &Grid<AXES>,
    axis: usize,
) -> Vec<[Point<AXES>; COUNT]> {
    let index = |axis: usize, value| {
        grid.axis(axis).binary_search(&value).expect("a figure lies on the axes")
    };
    let mut rows = Vec::new();
    for (point, _) in grid.points() {
        let first: [usize; AXES] = std::array::from_fn(|axis| index(axis, point[axis]));
        let row: Vec<Point<AXES>> = (first[axis]..grid.axis(axis).len().min(first[axis] + COUNT))
            .map_while(|next| {
                let (mut at, mut point) = (first, point);
                (at[axis], point[axis]) = (next, grid.axis(axis)[next]);
                Some((point, grid.at(at)?))
            })
            .collect();
        rows.extend(<[Point<AXES>; COUNT]>::try_from(row).ok());
    }
    rows
}
