//! What the terminal shows: the metrics in the layout of `AIPerf`, then the fleet.

use std::io::{self, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};

use crate::fleet::{Executed, Outcome};
use crate::model::metrics::Work;
use crate::model::planner::Late;
use crate::report::admission;
use crate::report::cells;
use crate::report::classes::class_table;
use crate::report::decisions::decision_table;
use crate::report::number::{count, decimal, percent};
use crate::report::planner::ScalingFigures;
use crate::report::pools::pool_table;
use crate::report::sessions;
use crate::report::summary::{Figures, Summary};
use crate::report::workers::worker_table;

/// Columns of a terminal that the report may use.
const TABLE_WIDTH: u16 = 140;
const TITLE_WIDTH: ColumnConstraint = ColumnConstraint::UpperBoundary(Width::Fixed(38));

/// Writes the report for a terminal.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_table(out: &mut impl Write, summary: &Summary, outcome: &Outcome) -> io::Result<()> {
    let context = &summary.context;
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "fleetsim {version} | LLM Metrics")?;
    writeln!(out, "{}", headline(summary))?;
    writeln!(out, "{}", metrics(summary, outcome))?;
    let work = outcome.work();
    for line in fleet_lines(summary, outcome, &work) {
        writeln!(out, "{line}")?;
    }
    if let Some(decisions) = decision_table(outcome) {
        writeln!(out, "{decisions}")?;
    }
    if !summary.pools.is_empty() {
        writeln!(out, "{}", pool_table(&summary.pools))?;
    }
    if let Some(classes) = class_table(&context.fleet, outcome) {
        writeln!(out, "{classes}")?;
    }
    if let Some(cells) = cells::cell_table(summary, outcome) {
        writeln!(out, "{cells}")?;
    }
    writeln!(out, "{}", worker_table(summary, outcome))?;
    for warning in context.notes.iter().cloned().chain(warnings(summary, outcome, &work)) {
        writeln!(out, "note: {warning}")?;
    }
    Ok(())
}

/// What ran on what.
fn headline(summary: &Summary) -> String {
    let context = &summary.context;
    // Of workers that come and go, the most that there were at once.
    let (up_to, workers, gpus) = match summary.scaling {
        Some(ScalingFigures { present_max, gpus_per_worker, .. }) => {
            ("up to ", present_max, u64::from(present_max) * u64::from(gpus_per_worker))
        }
        None => ("", context.fleet.workers(), context.fleet.gpus()),
    };
    format!(
        "{} on {up_to}{} workers ({} GPUs), {} router, {} timing, seed {}",
        context.workload,
        count(u64::from(workers)),
        count(gpus),
        context.policy,
        summary.timing_source(),
        context.fleet.seed,
    )
}

/// An empty table: names on the left, numbers on the right.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(TABLE_WIDTH).set_header(header);
    // The names wrap, the numbers do not.
    let numbers = (1..header.len()).map(|_| ColumnConstraint::ContentWidth);
    table.set_constraints([TITLE_WIDTH].into_iter().chain(numbers));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Up to so many workers or cells get a line each.
pub(super) const LINES_SHOWN: usize = 16;

/// One line for each name with its figures, or for many the least, the middle and the most of every figure.
pub(super) fn each_or_spread<const N: usize>(
    table: &mut Table,
    all: Vec<(String, [f64; N])>,
    format: impl Fn([f64; N]) -> Vec<String>,
) {
    let mut add = |name: String, figures| {
        table.add_row([name].into_iter().chain(format(figures)));
    };
    if all.len() <= LINES_SHOWN {
        for (name, figures) in all {
            add(name, figures);
        }
        return;
    }
    let mut sorted: [Vec<f64>; N] =
        std::array::from_fn(|column| all.iter().map(|(_, figures)| figures[column]).collect());
    for column in &mut sorted {
        column.sort_by(f64::total_cmp);
    }
    let last = all.len() - 1;
    for (name, index) in [("min", 0), ("p50", last.div_ceil(2)), ("max", last)] {
        add(name.to_owned(), std::array::from_fn(|column| sorted[column][index]));
    }
}

fn metrics(summary: &Summary, outcome: &Outcome) -> Table {
    let mut table = table(&["Metric", "avg", "min", "max", "p99", "p90", "p75", "p50", "std"]);
    for metric in &summary.metrics {
        let Some(figures) = metric.figures else { continue };
        let Figures { mean, min, max, std, percentiles } = figures;
        let [p50, p75, p90, _, p99, _] = percentiles;
        let cells = [mean, min, max, p99, p90, p75, p50, std].map(decimal);
        table.add_row([metric.title.to_owned()].into_iter().chain(cells));
    }
    let totals = outcome.recorder.totals;
    let mut single = |title: &str, value: Option<String>| {
        if let Some(value) = value {
            let rest = std::iter::repeat_n("-".to_owned(), 7);
            table.add_row([title.to_owned(), value].into_iter().chain(rest));
        }
    };
    single("Output Token Throughput (tokens/sec)", summary.output_throughput_tok_s.map(decimal));
    single("Input Token Throughput (tokens/sec)", summary.input_throughput_tok_s.map(decimal));
    single("Request Throughput (requests/sec)", summary.request_throughput_rps.map(decimal));
    single("Goodput (requests/sec)", summary.goodput_rps.map(decimal));
    single("Request Count (requests)", Some(count(totals.completed)));
    table
}

/// How many threads, and why.
fn threads(executed: Executed) -> String {
    match executed {
        Executed { threads: 1, why } => format!("1 thread ({why})"),
        Executed { threads, why } => format!("{threads} threads ({why})"),
    }
}

/// What the fleet did, in a few lines.
fn fleet_lines(summary: &Summary, outcome: &Outcome, work: &Work) -> Vec<String> {
    let totals = outcome.recorder.totals;
    let cost = summary.cost_usd.map(|usd| format!(" ({} USD)", decimal(usd)));
    let run = format!(
        "{} of virtual time in {:.0} ms on {}; {} forward passes, {} events; {} GPU-hours{}",
        duration(summary.duration.as_secs()),
        summary.context.wall.as_secs_f64() * 1e3,
        threads(outcome.executed),
        count(work.passes),
        count(outcome.events),
        decimal(summary.gpu_hours),
        cost.unwrap_or_default(),
    );
    let deployment = match &summary.context.fleet.pools[..] {
        [pool] if pool.name.is_none() => pool.deployment.as_ref().map(|deployment| {
            let blocks = count(u64::from(pool.engine.num_gpu_blocks));
            let block_size = pool.engine.layout.block_size;
            let times = match (&summary.timing_tables()[..], summary.timing_source().as_str()) {
                ([table], "measured") => format!("; times of {table}"),
                _ => String::new(),
            };
            format!(
                "{deployment} in every worker, {blocks} KV blocks of {block_size} tokens{times}"
            )
        }),
        _ => None,
    };
    let requests = format!(
        "prefix reuse {}; {} preemptions, {} rejected, {} aborted",
        summary.reused_ratio.map_or("none".to_owned(), percent),
        count(work.preemptions),
        count(totals.rejected),
        count(totals.aborted),
    );
    let slo = summary.context.fleet.slo.is_set() && totals.arrived > 0;
    let good = totals.good as f64 / totals.arrived.max(1) as f64;
    let good = if slo { format!("; {} within the SLO", percent(good)) } else { String::new() };
    let load = summary.load.map(|load| {
        format!(
            "load of workers: busiest / mean {}, standard deviation / mean {}; at most {} requests \
             on one worker",
            decimal(load.imbalance),
            decimal(load.cv),
            count(load.worker_max),
        )
    });
    let digest = format!("digest {:032x}", outcome.digest);
    let scaling = summary.scaling.as_ref().map(ScalingFigures::line);
    let sessions = outcome.visited.as_ref().map(sessions::line);
    let admission = outcome.admitted.as_ref().map(admission::line);
    [
        Some(run),
        deployment,
        Some(requests + &good),
        admission,
        sessions,
        cells::line(&summary.context.fleet, outcome),
        load,
        scaling,
        Some(digest),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// What the reader should know: what was seen, why it matters, what to try.
fn warnings(summary: &Summary, outcome: &Outcome, work: &Work) -> Vec<String> {
    let totals = outcome.recorder.totals;
    let mut warnings = Vec::new();
    if totals.rejected > 0 {
        warnings.push(format!(
            "{} requests were rejected: their prompt reaches engine.max_model_len, does not fit \
             engine.num_gpu_blocks, or exceeds engine.max_num_batched_tokens without chunked \
             prefill; they are in no latency figure",
            count(totals.rejected)
        ));
    }
    if totals.aborted > 0 {
        warnings.push(format!(
            "{} requests were aborted: prompt and output together outgrew the KV pool of a whole \
             worker; raise engine.num_gpu_blocks or set engine.max_model_len",
            count(totals.aborted)
        ));
    }
    warnings.extend(cells::warning(&summary.context.fleet, outcome));
    if outcome.skipped > 0 {
        warnings.push(format!("{} bad lines of the trace were skipped", count(outcome.skipped)));
    }
    let busiest = outcome.workers.iter().map(|work| work.busy_ns).max().unwrap_or(0);
    let arrivals = outcome.recorder.series.intervals();
    let last_arrival = arrivals.iter().rposition(|interval| interval.arrived > 0).unwrap_or(0);
    let drain = arrivals.len() - 1 - last_arrival;
    if drain > last_arrival / 10 + 1 && busiest as f64 > 0.9 * summary.duration.as_ns() as f64 {
        warnings.push(format!(
            "the fleet was overloaded: it needed {} after the last arrival to finish, so latencies \
             depend on the length of the run; add workers or lower the load",
            duration(drain as f64 * outcome.recorder.series.length().as_secs())
        ));
    }
    if let Some(ScalingFigures { started: 1.., arrived: 0, duration: run, .. }) = summary.scaling
        && summary.context.late.is_none()
    {
        warnings.push(format!(
            "no worker that was started got ready within the {} of the run: start-ups take long for \
             it, see [lifecycle]",
            duration(run.as_secs())
        ));
    }
    if let Some(ScalingFigures { ticks: 0, duration: run, .. }) = summary.scaling
        && summary.context.late != Some(Late::Look)
    {
        warnings.push(format!(
            "the Planner never looked: the run took {}, and its first look comes later, see the intervals in [planner]",
            duration(run.as_secs())
        ));
    }
    if work.extrapolated_passes > 0 {
        let share = work.extrapolated_share();
        let share = share.map(|share| format!(", {} of the time in passes,", percent(share)));
        warnings.push(format!(
            "{} of {} forward passes{} left the range of the timing table, and their times were \
             extrapolated",
            count(work.extrapolated_passes),
            count(work.passes),
            share.unwrap_or_default(),
        ));
    }
    if work.preemptions > totals.arrived / 100 {
        warnings.push(format!(
            "{} preemptions threw away computed KV; engine.num_gpu_blocks is small for this load",
            count(work.preemptions)
        ));
    }
    warnings
}
