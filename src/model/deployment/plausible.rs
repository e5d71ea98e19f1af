//! Whether times of a table can be those of a model on its GPUs: compared with the estimate from data sheets, which tells
//! milliseconds from seconds and microseconds. `docs/timing.md` has how far correct tables are from the estimate.

use std::fmt;

use crate::model::deployment::Deployment;
use crate::model::timing::{OtherRow, Table};

/// A decode pass that takes less than this share of the estimate would need faster memory than there is: the estimate
/// reads at 0.75 and 0.89 of the bandwidth. The least of 185 tables is 0.65.
const PASS_MIN: f64 = 0.2;

/// The least share of the estimate that the median figure of a part of a pass may be; 0.70 to 11.5 in these tables.
const MEDIAN_MIN: f64 = 0.05;

/// The largest multiple of it.
const MEDIAN_MAX: f64 = 100.0;

/// A time that is hard to believe.
#[derive(Clone, PartialEq, Debug)]
pub struct Doubt {
    /// Which one, in words.
    what: String,
    /// What the table says, and what the estimate is, milliseconds.
    ms: f64,
    estimate_ms: f64,
    /// The model and its GPUs.
    shape: String,
}

impl Doubt {
    /// Whether no such GPUs can be so fast; else they are hardly so slow.
    pub fn is_impossible(&self) -> bool {
        self.ms < self.estimate_ms
    }
}

/// A sentence without an end.
impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Doubt { what, ms, estimate_ms, shape } = self;
        let how = if self.is_impossible() { "impossibly short" } else { "implausibly long" };
        write!(
            f,
            "{what} takes {} ms, {how} for {shape}, where data sheets suggest {} ms; times have to be milliseconds: are \
             units mixed up?",
            Figure(*ms),
            Figure(*estimate_ms)
        )
    }
}

/// Three digits or so.
struct Figure(f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = (2 - self.0.max(1e-9).log10().floor() as i32).clamp(0, 9) as usize;
        write!(f, "{:.decimals$}", self.0)
    }
}

/// A part of a pass, or all of it.
#[derive(Clone, Copy)]
enum Part {
    Prefill,
    Decode,
    Other,
    DecodeOther,
    DecodePass,
}

/// A figure and its estimate.
struct Compared {
    ms: f64,
    estimate_ms: f64,
    /// The values on its axes.
    at: [u32; 3],
}

impl Compared {
    fn new(ms: f64, seconds: f64, at: [u32; 3]) -> Compared {
        Compared { ms, estimate_ms: seconds * 1e3, at }
    }

    fn ratio(&self) -> f64 {
        self.ms / self.estimate_ms
    }
}

impl Part {
    /// What the figure is about.
    fn describe(self, [one, two, three]: [u32; 3]) -> String {
        let median = "as the median of its figures,";
        match self {
            Part::Prefill => format!(
                "attention of prompts at batch {one}, {two} new and {three} cached tokens, {median}"
            ),
            Part::Decode => format!("decode attention at batch {one}, context {two}, {median}"),
            Part::Other => format!("a pass of {one} tokens without attention, {median}"),
            Part::DecodeOther => {
                format!("a pass of {one} decoding requests without attention, {median}")
            }
            Part::DecodePass => format!("a decode pass of batch {one}, context {two}"),
        }
    }
}

impl Deployment {
    /// What is hard to believe of a table that is said to be of this model on these GPUs, one rank of one stage of it:
    /// something impossible, or else something implausible, if there is either. Figures of 0 say nothing of a part.
    pub fn doubt(&self, table: &Table) -> Option<Doubt> {
        let one = Deployment { pp: 1, attention_dp: 1, ..self.clone() };
        let parts = [Part::Prefill, Part::Decode, Part::Other, Part::DecodeOther];
        let medians = parts.map(|part| Some((part, median(one.figures(part, table))?)));
        let median = |is_odd: fn(f64) -> bool| {
            medians.iter().flatten().find(|(_, figure)| is_odd(figure.ratio()))
        };
        if let Some((part, figure)) = median(|ratio| ratio < MEDIAN_MIN) {
            return Some(self.say(*part, figure));
        }
        let passes = one.figures(Part::DecodePass, table);
        let fastest = passes.iter().min_by(|one, other| one.ratio().total_cmp(&other.ratio()));
        if let Some(pass) = fastest.filter(|pass| pass.ratio() < PASS_MIN) {
            return Some(self.say(Part::DecodePass, pass));
        }
        median(|ratio| ratio > MEDIAN_MAX).map(|(part, figure)| self.say(*part, figure))
    }

    fn say(&self, part: Part, figure: &Compared) -> Doubt {
        Doubt {
            what: part.describe(figure.at),
            ms: figure.ms,
            estimate_ms: figure.estimate_ms,
            shape: format!("{} on {} x {}", self.model.name, self.tp, self.gpu.name),
        }
    }

    /// All figures of a part, with their estimates.
    fn figures(&self, part: Part, table: &Table) -> Vec<Compared> {
        let other = table.other();
        let decode = |batch| {
            let row = other.binary_search_by_key(&batch, |row| row.tokens).ok()?;
            other[row].decode_ms
        };
        match part {
            Part::Prefill => {
                let seconds =
                    |[batch, new, prefix]: [u32; 3]| self.prefill_attention(batch, new, prefix);
                let points = table.prefill().points();
                points.map(|(at, ms)| Compared::new(ms, seconds(at), at)).collect()
            }
            Part::Decode => {
                let figure = |([batch, context], ms): ([u32; 2], f64)| {
                    let seconds = self.decode_attention(batch, context);
                    Compared::new(ms, seconds, [batch, context, 0])
                };
                table.decode().points().map(figure).collect()
            }
            Part::Other => {
                let figure = |&OtherRow { tokens, prefill_ms, .. }: &OtherRow| {
                    Compared::new(prefill_ms, self.other(tokens), [tokens, 0, 0])
                };
                other.iter().map(figure).collect()
            }
            Part::DecodeOther => {
                let figure = |row: &OtherRow| {
                    let seconds = self.other(row.tokens);
                    Some(Compared::new(row.decode_ms?, seconds, [row.tokens, 0, 0]))
                };
                other.iter().filter_map(figure).collect()
            }
            Part::DecodePass => {
                let figure = |([batch, context], ms): ([u32; 2], f64)| {
                    let seconds = self.decode_attention(batch, context) + self.other(batch);
                    Some(Compared::new(ms + decode(batch)?, seconds, [batch, context, 0]))
                };
                table.decode().points().filter_map(figure).collect()
            }
        }
    }
}

/// The figure in the middle of those above 0.
fn median(mut figures: Vec<Compared>) -> Option<Compared> {
    figures.retain(|figure| figure.ms > 0.0);
    figures.sort_by(|one, other| one.ratio().total_cmp(&other.ratio()));
    let middle = figures.len() / 2;
    figures.into_iter().nth(middle)
}
