//! `series.csv`: the run over time, one line per interval.

use std::io::{self, Write};

use crate::fleet::Outcome;
use crate::report::Summary;

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
/// loads (`load_mean` to `load_imbalance`) are requests per worker.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_series(out: impl Write, summary: &Summary, outcome: &Outcome) -> io::Result<()> {
    let series = &outcome.recorder.series;
    let fleet = &summary.context.fleet;
    let seconds = series.length().as_secs();
    let blocks = fleet.num_gpu_blocks() as f64;
    let workers = fleet.workers();
    let mut out = csv::Writer::from_writer(out);
    out.write_record(HEADER)?;
    for (index, interval) in series.intervals().iter().enumerate() {
        let rate = |count: u64| (count as f64 / seconds).to_string();
        let ttft =
            interval.ttft_percentiles.map(|ttft| ttft.map(|ns| (ns as f64 / 1e6).to_string()));
        let [p50, p90, p99] = ttft.unwrap_or_default();
        let load = interval.spread(workers);
        let fields: [String; 19] = [
            (index as f64 * seconds).to_string(),
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
            (interval.pinned_blocks as f64 / blocks).to_string(),
            p50,
            p90,
            p99,
            load.mean.to_string(),
            load.max.to_string(),
            load.std.to_string(),
            if load.mean > 0.0 { (load.max / load.mean).to_string() } else { String::new() },
        ];
        out.write_record(fields)?;
    }
    out.flush()
}
