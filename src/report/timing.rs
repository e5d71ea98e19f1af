//! Timing tables for people: passes in milliseconds, as text and as charts.

use std::io::{self, Write};
use std::sync::Arc;

use comfy_table::ColumnConstraint;

use crate::kernel::time::Span;
use crate::model::timing::measured::{Scales, Table};
use crate::model::timing::{DecodeLoad, Measured, PassTimer, PrefillLoad, TimingModel};
use crate::report::number::{count, decimal};
use crate::report::plot::{Axis, Chart, Line};
use crate::report::table::table;

/// A timing table that answers in milliseconds.
pub struct TimingTable<'a> {
    table: &'a Arc<Table>,
    timer: PassTimer,
}

impl<'a> TimingTable<'a> {
    /// The figures as they are: no factors, no overhead.
    pub fn new(table: &'a Arc<Table>) -> TimingTable<'a> {
        let timing = Measured::new(table.clone(), Scales::default(), Span::ZERO);
        let timer = PassTimer::new(TimingModel::Measured(timing), 1, 1.0, 1.0);
        TimingTable { table, timer }
    }

    /// A pass over `new` tokens of one request with `prefix` tokens before them.
    fn prefill_ms(&self, new: u32, prefix: u32) -> f64 {
        let (tokens, prefix_tokens) = (u64::from(new) + u64::from(prefix), u64::from(prefix));
        let prefill = PrefillLoad { requests: 1, tokens, prefix_tokens };
        self.timer.pass(prefill, DecodeLoad::default()).as_ns() as f64 / 1e6
    }

    /// A pass that decodes.
    fn decode_ms(&self, requests: u32, context: u32) -> f64 {
        let kv_tokens = u64::from(requests) * u64::from(context);
        let decode = DecodeLoad { requests, kv_tokens };
        self.timer.pass(PrefillLoad::default(), decode).as_ns() as f64 / 1e6
    }
}

/// Values of an axis at some distance from each other: at most `limit`, evenly spread over what there is.
fn some(values: &[u32], limit: usize) -> Vec<u32> {
    let step = values.len().div_ceil(limit).max(1);
    let mut some: Vec<u32> = values.iter().copied().rev().step_by(step).collect();
    some.reverse();
    some
}

/// Some passes: decode steps by batch and context, and prompts by length and prefix.
///
/// # Errors
/// If `out` cannot be written.
pub fn pass_times(out: &mut impl Write, timing: &TimingTable) -> io::Result<()> {
    let (prefill, decode) = (timing.table.prefill(), timing.table.decode());
    let (contexts, batches) = (some(decode.axis(1), 6), some(decode.axis(0), 6));
    let header = |first: &str, values: &[u32]| {
        let values = values.iter().map(|&value| count(u64::from(value)));
        [first.to_owned()].into_iter().chain(values).collect::<Vec<_>>()
    };
    let rows = batches.iter().map(|&batch| {
        let times = contexts.iter().map(|&context| decimal(timing.decode_ms(batch, context)));
        [count(u64::from(batch))].into_iter().chain(times).collect()
    });
    writeln!(out, "decode pass in ms, by requests and context of each")?;
    write_columns(out, &header("Requests", &contexts), rows)?;
    let (news, prefixes) = (some(prefill.axis(1), 6), some(prefill.axis(2), 6));
    let rows = news.iter().map(|&new| {
        let times = prefixes.iter().map(|&prefix| decimal(timing.prefill_ms(new, prefix)));
        [count(u64::from(new))].into_iter().chain(times).collect()
    });
    writeln!(out, "prefill pass of one request in ms, by new tokens and cached tokens")?;
    write_columns(out, &header("New tokens", &prefixes), rows)
}

/// A table of names on the left and numbers on the right.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_columns(
    out: &mut impl Write,
    header: &[impl AsRef<str>],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> io::Result<()> {
    let header: Vec<&str> = header.iter().map(AsRef::as_ref).collect();
    let mut table = table(&header);
    // A name that has to be typed is not broken.
    let names = table.column_mut(0).expect("the header has a column");
    names.set_constraint(ColumnConstraint::ContentWidth);
    for row in rows {
        table.add_row(row);
    }
    writeln!(out, "{table}")
}

/// Charts with the names of their files: decode passes over the context, prefill passes over the new tokens.
pub fn timing_charts(timing: &TimingTable) -> [(&'static str, Chart); 2] {
    let (prefill, decode) = (timing.table.prefill(), timing.table.decode());
    let name = timing.table.identity().to_string();
    let axis = |label: &str| Axis { label: label.to_owned(), log: true };
    let line = |name: String, points: Vec<(f64, f64)>| Line { name, points };
    let over = |values: &[u32], ms: &dyn Fn(u32) -> f64| {
        values.iter().map(|&value| (f64::from(value), ms(value))).collect()
    };
    let batches = some(decode.axis(0), 7).into_iter().map(|batch| {
        let points = over(decode.axis(1), &|context| timing.decode_ms(batch, context));
        line(format!("{batch} requests"), points)
    });
    let prefixes = some(prefill.axis(2), 6).into_iter().map(|prefix| {
        let points = over(prefill.axis(1), &|new| timing.prefill_ms(new, prefix));
        line(format!("{} cached", count(u64::from(prefix))), points)
    });
    let chart = |title: &str, x: &str, lines: Vec<Line>| Chart {
        title: format!("{title}, {name}"),
        x: axis(x),
        y: axis("milliseconds"),
        lines,
    };
    [
        ("decode.svg", chart("Decode pass", "context of each request, tokens", batches.collect())),
        ("prefill.svg", chart("Prefill pass", "new tokens of one request", prefixes.collect())),
    ]
}
