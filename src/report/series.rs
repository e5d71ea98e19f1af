//! `series.csv`: the run over time, one line per interval.

use std::io::{self, Write};

use crate::fleet::Outcome;
use crate::kernel::Time;
use crate::report::Summary;
use crate::report::planner::serving;

/// What is added if workers come and go.
const SCALING: [&str; 4] =
    ["workers_ready", "workers_starting", "workers_warm", "workers_draining"];

/// What is added if requests may be turned away.
const ADMISSION: [&str; 2] = ["queue_full", "expired"];

const HEADER: [&str; 19] = [
    "start_s",
    "arrived",
    "completed",
    "request_throughput_rps",
    "output_tokens",
    "output_throughput_tok_s",
    "prefill_tokens",
    "prefill_throughput_tok_s",
    "queued",
    "waiting",
    "running",
    "kv_usage",
    "p50_ttft_ms",
    "p90_ttft_ms",
    "p99_ttft_ms",
    "load_mean",
    "load_max",
    "load_std",
    "load_imbalance",
];

/// Writes the time series. Gauges (`queued` to `kv_usage`) are sums or shares over all workers at the end of an interval,
/// loads (`load_mean` to `load_imbalance`) are requests per worker. Where workers come and go, those that are ready or
/// drain at the end of the interval are meant, and columns say how many there are in each state. Where
/// requests may be turned away, columns say how many were.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_series(out: impl Write, summary: &Summary, outcome: &Outcome) -> io::Result<()> {
    let series = &outcome.recorder.series;
    let fleet = &summary.context.fleet;
    let seconds = series.length().as_secs();
    let history = outcome.scaled.as_ref().map(|scaled| &scaled.history);
    let mut out = csv::Writer::from_writer(out);
    let scaling = history.iter().flat_map(|_| &SCALING);
    let admission = outcome.admitted.iter().flat_map(|_| &ADMISSION);
    out.write_record(HEADER.iter().chain(scaling).chain(admission))?;
    for (index, interval) in series.intervals().iter().enumerate() {
        let start = Time::from_ns(index as u64 * series.length().as_ns());
        let rate = |count: u64| (count as f64 / seconds).to_string();
        let ttft =
            interval.ttft_percentiles.map(|ttft| ttft.map(|ns| (ns as f64 / 1e6).to_string()));
        let [p50, p90, p99] = ttft.unwrap_or_default();
        let workers = serving(fleet, outcome, index);
        let blocks = match history {
            Some(_) => f64::from(workers) * f64::from(fleet.pools[0].engine.num_gpu_blocks),
            None => fleet.num_gpu_blocks() as f64,
        };
        let load = interval.spread(workers);
        let fields: [String; 19] = [
            start.as_secs().to_string(),
            interval.arrived.to_string(),
            interval.completed.to_string(),
            rate(interval.completed),
            interval.output_tokens.to_string(),
            rate(interval.output_tokens),
            interval.prefill_tokens.to_string(),
            rate(interval.prefill_tokens),
            interval.queued.to_string(),
            interval.waiting.to_string(),
            interval.running.to_string(),
            if blocks > 0.0 {
                (interval.pinned_blocks as f64 / blocks).to_string()
            } else {
                String::new()
            },
            p50,
            p90,
            p99,
            load.mean.to_string(),
            load.max.to_string(),
            load.std.to_string(),
            if load.mean > 0.0 { (load.max / load.mean).to_string() } else { String::new() },
        ];
        let end = start + series.length();
        let scaling = history.map(|history| {
            let counts = history.at(end.before());
            let counts = [counts.ready, counts.starting, counts.warm, counts.draining];
            counts.map(|count| count.to_string())
        });
        let turned_away = outcome
            .admitted
            .map(|_| [interval.queue_full.to_string(), interval.expired.to_string()]);
        let optional = scaling.iter().flatten().chain(turned_away.iter().flatten());
        out.write_record(fields.iter().chain(optional))?;
    }
    out.flush()
}
