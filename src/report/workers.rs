//! What each worker did: `workers.csv`, and the table of the terminal.

use std::io::{self, Write};

use comfy_table::Table;

use crate::fleet::{FleetSpec, Outcome, PoolSpec};
use crate::model::metrics::Work;
use crate::report::Summary;
use crate::report::number::{count, decimal, percent};
use crate::report::table::{LINES_SHOWN, each_or_spread, table};

pub(super) const HEADER: [&str; 12] = [
    "worker",
    "requests",
    "passes",
    "busy_s",
    "utilization",
    "input_tokens",
    "reused_tokens",
    "prefill_tokens",
    "output_tokens",
    "mean_batch",
    "preemptions",
    "kv_usage_max",
];

/// Writes one line per worker.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_workers(out: impl Write, summary: &Summary, outcome: &Outcome) -> io::Result<()> {
    let mut out = csv::Writer::from_writer(out);
    let fleet = &summary.context.fleet;
    let cells = cell_of_each(fleet);
    out.write_record(HEADER.into_iter().chain((!cells.is_empty()).then_some("cell")))?;
    let duration_ns = summary.duration.as_ns() as f64;
    let pools = fleet.pool_of_each();
    for ((worker, work), pool) in outcome.workers.iter().enumerate().zip(pools) {
        let blocks = f64::from(pool.engine.num_gpu_blocks);
        let share = |part: f64, whole: f64| {
            if whole > 0.0 { (part / whole).to_string() } else { String::new() }
        };
        let figures = [
            worker.to_string(),
            work.requests.to_string(),
            work.passes.to_string(),
            (work.busy_ns as f64 / 1e9).to_string(),
            share(work.busy_ns as f64, duration_ns),
            work.prompt_tokens.to_string(),
            work.reused_tokens.to_string(),
            work.prefill_tokens.to_string(),
            work.output_tokens.to_string(),
            share(work.running_ns as f64, work.busy_ns as f64),
            work.preemptions.to_string(),
            share(f64::from(work.pinned_blocks_max), blocks),
        ];
        let cell = cells.get(worker).map(u32::to_string);
        out.write_record(figures.into_iter().chain(cell))?;
    }
    out.flush()
}

/// The cell of every worker; nothing if the fleet is not divided.
fn cell_of_each(fleet: &FleetSpec) -> Vec<u32> {
    let Some(cells) = fleet.cells else { return Vec::new() };
    let mut of_each = vec![0; fleet.workers() as usize];
    for cell in 0..cells.count {
        fleet.workers_of_cell(cell).for_each(|worker| of_each[worker.index()] = cell);
    }
    of_each
}

/// What tables say of work.
pub(super) const WORK_TITLES: [&str; 6] =
    ["Requests", "Utilization", "Mean batch", "Output tokens", "Prefix reuse", "Preemptions"];

/// The figures to these titles, over so much time of all workers that did it, ns.
pub(super) fn work_figures(work: &Work, time_ns: f64) -> [f64; 6] {
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    [
        work.requests as f64,
        share(work.busy_ns as f64, time_ns),
        share(work.running_ns as f64, work.busy_ns as f64),
        work.output_tokens as f64,
        share(work.reused_tokens as f64, work.prompt_tokens as f64),
        work.preemptions as f64,
    ]
}

/// The same as they are shown.
pub(super) fn work_words(figures: [f64; 6]) -> [String; 6] {
    let [requests, utilization, batch, output, reuse, preemptions] = figures;
    [
        count(requests as u64),
        percent(utilization),
        decimal(batch),
        count(output as u64),
        percent(reuse),
        count(preemptions as u64),
    ]
}

/// One line per worker, or for a large fleet the least, the middle and the most of every figure. Workers that never came
/// are left out.
pub(super) fn worker_table(summary: &Summary, outcome: &Outcome) -> Table {
    let used = summary.scaling.map_or(outcome.workers.len(), |scaling| scaling.used as usize);
    let works = &outcome.workers[..used];
    let over = summary.scaling.map(|_| format!("Of {} workers", count(used as u64)));
    let title = over.as_deref().filter(|_| used > LINES_SHOWN).unwrap_or("Worker");
    let mut table = table(&[&[title][..], &WORK_TITLES, &["KV use max"]].concat());
    let duration_ns = summary.duration.as_ns() as f64;
    let pools = || summary.context.fleet.pool_of_each();
    let figures = |(work, pool): (&Work, &PoolSpec)| {
        let mut figures = [0.0; 7];
        figures[..6].copy_from_slice(&work_figures(work, duration_ns));
        figures[6] = f64::from(work.pinned_blocks_max) / f64::from(pool.engine.num_gpu_blocks);
        figures
    };
    let names = pools().enumerate().map(|(worker, pool)| match &pool.name {
        Some(name) => format!("{worker} ({name})"),
        None => worker.to_string(),
    });
    let figures = works.iter().zip(pools()).map(figures);
    each_or_spread(&mut table, names.zip(figures).collect(), |figures| {
        let [work @ .., kv] = figures;
        let kv = percent(kv);
        work_words(work).into_iter().chain([kv]).collect()
    });
    table
}
