//! What each cell of a divided fleet did: `cells.csv`, the table of the terminal, and JSON.

use std::io::{self, Write};

use comfy_table::Table;
use serde_json::{Value, json};

use crate::fleet::{FleetSpec, Outcome};
use crate::model::metrics::Work;
use crate::model::router::BalancerSpec;
use crate::report::Summary;
use crate::report::number::{count, decimal};
use crate::report::table::{each_or_spread, table};
use crate::report::workers::{WORK_TITLES, work_figures, work_words};

const HEADER: [&str; 9] = [
    "cell",
    "workers",
    "requests",
    "passes",
    "busy_s",
    "input_tokens",
    "reused_tokens",
    "output_tokens",
    "preemptions",
];

/// The work of every cell, if there are cells.
fn works(fleet: &FleetSpec, outcome: &Outcome) -> Vec<Work> {
    let cells = 0..fleet.cells.map_or(0, |cells| cells.count);
    let work = |cell| {
        let mut sum = Work::default();
        for worker in fleet.workers_of_cell(cell) {
            sum.add(&outcome.workers[worker.index()]);
        }
        sum
    };
    cells.map(work).collect()
}

/// Writes one line per cell.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_cells(out: impl Write, summary: &Summary, outcome: &Outcome) -> io::Result<()> {
    let mut out = csv::Writer::from_writer(out);
    out.write_record(HEADER)?;
    let fleet = &summary.context.fleet;
    for (cell, work) in (0..).zip(works(fleet, outcome)) {
        out.write_record([
            cell.to_string(),
            fleet.workers_of_cell(cell).count().to_string(),
            work.requests.to_string(),
            work.passes.to_string(),
            (work.busy_ns as f64 / 1e9).to_string(),
            work.prompt_tokens.to_string(),
            work.reused_tokens.to_string(),
            work.output_tokens.to_string(),
            work.preemptions.to_string(),
        ])?;
    }
    out.flush()
}

/// The time in passes of the busiest cell, in multiples of that of the mean cell: 1 is even.
fn imbalance(works: &[Work]) -> Option<f64> {
    let busy = || works.iter().map(|work| work.busy_ns);
    let (most, sum) = (busy().max()?, busy().sum::<u128>());
    (sum > 0).then(|| most as f64 * works.len() as f64 / sum as f64)
}

/// Entries of the report; none for a fleet that is not divided.
pub(super) fn to_json(fleet: &FleetSpec, outcome: &Outcome) -> Vec<(&'static str, Value)> {
    let Some(cells) = fleet.cells else { return Vec::new() };
    vec![
        ("cells", json!(cells.count)),
        ("balancer", json!(cells.balancer.name())),
        ("cell_imbalance", json!(imbalance(&works(fleet, outcome)))),
    ]
}

/// How even the cells are, in a line; nothing for a fleet that is not divided.
pub(super) fn line(fleet: &FleetSpec, outcome: &Outcome) -> Option<String> {
    let cells = fleet.cells?;
    let imbalance = imbalance(&works(fleet, outcome)).map_or("none".to_owned(), decimal);
    let (count, balancer) = (count(u64::from(cells.count)), cells.balancer.name());
    Some(format!(
        "{count} cells with a router each behind a {balancer} balancer: time in passes, busiest / mean {imbalance}"
    ))
}

/// That the balancer had nothing to go by, if it had not.
pub(super) fn warning(fleet: &FleetSpec, outcome: &Outcome) -> Option<String> {
    let balancer = fleet.cells?.balancer;
    let by = match balancer {
        BalancerSpec::Session => "session",
        BalancerSpec::Prefix { .. } => "named blocks",
        BalancerSpec::RoundRobin | BalancerSpec::Random => return None,
    };
    let (some, all) = (outcome.undirected, outcome.recorder.totals.arrived);
    (some > 0).then(|| {
        format!(
            "{} of {} requests have no {by}, so that the {} balancer sent them to any cell",
            count(some),
            count(all),
            balancer.name()
        )
    })
}

/// One line per cell, or for many the least, the middle and the most of every figure.
pub(super) fn cell_table(summary: &Summary, outcome: &Outcome) -> Option<Table> {
    let fleet = &summary.context.fleet;
    let cells = fleet.cells?;
    let mut table = table(&[&["Cell"][..], &WORK_TITLES].concat());
    let time = summary.duration.as_ns() as f64 * f64::from(fleet.workers() / cells.count);
    let figures = works(fleet, outcome).into_iter().map(|work| work_figures(&work, time));
    let named = (0..).zip(figures).map(|(cell, figures): (u32, _)| (cell.to_string(), figures));
    each_or_spread(&mut table, named.collect(), |figures| work_words(figures).into());
    Some(table)
}
