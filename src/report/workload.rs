//! `fleetsim trace stats`: the figures of a workload.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::model::workload::{Figures, TraceSummary};
use crate::report::json::known;
use crate::report::number::{count, decimal, percent};
use crate::report::table::table;

/// Writes the figures for a terminal.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_workload(
    out: &mut impl Write,
    name: &str,
    summary: &TraceSummary,
    skipped: u64,
) -> io::Result<()> {
    writeln!(out, "{name}: {} requests", count(summary.requests))?;
    let mut figures = table(&["", "avg", "min", "p1", "p50", "p75", "p90", "p99", "max", "std"]);
    for (title, row) in [
        ("Input Sequence Length (tokens)", summary.input_tokens),
        ("Output Sequence Length (tokens)", summary.output_tokens),
        ("Requests per minute", summary.per_minute),
    ] {
        let Some(Figures { mean, std, min, p1, p50, p75, p90, p99, max, .. }) = row else {
            continue;
        };
        let counts = [min, p1, p50, p75, p90, p99, max].map(count);
        let cells = [title.to_owned(), decimal(mean)].into_iter().chain(counts);
        figures.add_row(cells.chain([decimal(std)]));
    }
    writeln!(out, "{figures}")?;
    let mut line = |title: &str, value: Option<String>| match value {
        Some(value) => writeln!(out, "{title:<42}{value}"),
        None => Ok(()),
    };
    line("time from first to last (s)", Some(decimal(summary.span.as_secs())))?;
    line("rate (requests/s)", summary.rate_per_s.map(decimal))?;
    line("variation of the gaps between arrivals", summary.gap_cv.map(decimal))?;
    line("correlation of input and output length", summary.length_correlation.map(decimal))?;
    line("blocks touched", Some(count(summary.blocks_touched)))?;
    line("different blocks", Some(count(summary.blocks_unique)))?;
    line("hits of an endless prefix cache, tokens", summary.hit_tokens.map(percent))?;
    line("hits of an endless prefix cache, blocks", summary.hit_blocks.map(percent))?;
    let sessions = (summary.sessions > 0).then(|| count(summary.sessions));
    line("sessions", sessions)?;
    line("turns per session", summary.turns_mean.map(decimal))?;
    line("bad lines skipped", (skipped > 0).then(|| count(skipped)))
}

/// Writes the figures as JSON; what cannot be computed is absent.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_workload_json(
    out: &mut impl Write,
    summary: &TraceSummary,
    skipped: u64,
) -> io::Result<()> {
    let mut report = Map::new();
    for (key, value) in [
        ("num_requests", json!(summary.requests)),
        ("skipped_lines", json!(skipped)),
        ("span_ms", json!(summary.span.as_ms())),
        ("request_rate_rps", json!(summary.rate_per_s)),
        ("arrival_gap_cv", json!(summary.gap_cv)),
        ("length_correlation", json!(summary.length_correlation)),
        ("blocks_touched", json!(summary.blocks_touched)),
        ("blocks_unique", json!(summary.blocks_unique)),
        ("prefix_hit_tokens_ratio", json!(summary.hit_tokens)),
        ("prefix_hit_blocks_ratio", json!(summary.hit_blocks)),
        ("sessions", json!(summary.sessions)),
        ("mean_turns", json!(summary.turns_mean)),
    ] {
        report.insert(key.to_owned(), value);
    }
    for (key, figures) in [
        ("input_sequence_length", summary.input_tokens),
        ("output_sequence_length", summary.output_tokens),
        ("requests_per_minute", summary.per_minute),
    ] {
        let Some(figures) = figures else { continue };
        let Figures { mean, std, min, p1, p50, p75, p90, p99, max, .. } = figures;
        for (statistic, value) in [("mean", mean), ("std", std)] {
            report.insert(format!("{statistic}_{key}"), value.into());
        }
        for (statistic, value) in [
            ("min", min),
            ("p1", p1),
            ("median", p50),
            ("p75", p75),
            ("p90", p90),
            ("p99", p99),
            ("max", max),
        ] {
            report.insert(format!("{statistic}_{key}"), value.into());
        }
    }
    serde_json::to_writer_pretty(&mut *out, &known(Value::Object(report)))?;
    writeln!(out)
}
