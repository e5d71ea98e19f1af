//! `workers.csv`: what each worker did.

use std::io::{self, Write};

use crate::fleet::Outcome;
use crate::report::Summary;

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
    out.write_record(HEADER)?;
    let duration_ns = summary.duration.as_ns() as f64;
    let pools = summary.context.fleet.pool_of_each();
    for ((worker, work), pool) in outcome.workers.iter().enumerate().zip(pools) {
        let blocks = f64::from(pool.engine.num_gpu_blocks);
        let share = |part: f64, whole: f64| {
            if whole > 0.0 { (part / whole).to_string() } else { String::new() }
        };
        out.write_record([
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
        ])?;
    }
    out.flush()
}
