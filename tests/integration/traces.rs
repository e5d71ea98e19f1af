//! Real traces against figures measured by other means.

use std::path::Path;

use fleetsim::io::trace::{Format, TraceOptions, TraceReader, detect};
use fleetsim::model::workload::{Figures, TraceStats, TraceSummary};

use crate::support::trace;

fn summary(path: &Path, expected: &Format) -> TraceSummary {
    let format = detect(path).unwrap();
    assert_eq!(&format, expected);
    let options = TraceOptions { format, block_size: 512, skip_bad_lines: false };
    let mut reader = TraceReader::open(path, options).unwrap();
    let mut stats = TraceStats::new(512);
    while let Some(request) = reader.read().unwrap() {
        stats.add(&request);
    }
    stats.summary()
}

/// Checks that a figure prints as published, give or take `by`.
#[track_caller]
fn near(found: impl Into<Option<f64>>, expected: f64, by: f64) {
    let found = found.into().unwrap();
    assert!((found - expected).abs() <= by, "{found} for {expected}");
}

/// Mean, median, 90th and 99th percentile, and the largest; percentiles within 0.05 %.
#[track_caller]
fn lengths(found: Option<Figures>, [mean, p50, p90, p99, max]: [f64; 5]) {
    let found = found.unwrap();
    near(found.mean, mean, 0.5);
    for (found, expected) in [(found.p50, p50), (found.p90, p90), (found.p99, p99)] {
        near(found as f64, expected, expected * 0.0005 + 1.0);
    }
    near(found.max as f64, max, 0.0);
}

#[test]
fn conversation_trace() {
    let Some(path) = trace("conversation_trace.jsonl") else { return };
    let summary = summary(&path, &Format::Mooncake);
    assert_eq!(summary.requests, 12_031);
    near(summary.span.as_secs(), 3_537.0, 0.5);
    near(summary.rate_per_s, 3.40, 0.005);
    near(summary.gap_cv, 3.03, 0.005);
    let minutes = summary.per_minute.unwrap();
    near(minutes.mean, 203.9, 0.05);
    near(minutes.cv(), 0.119, 0.0005);
    lengths(summary.input_tokens, [12_035.0, 6_909.0, 27_367.0, 85_400.0, 126_195.0]);
    lengths(summary.output_tokens, [343.0, 350.0, 597.0, 1_119.0, 2_000.0]);
    near(summary.length_correlation, 0.07, 0.005);
    assert_eq!((summary.blocks_touched, summary.blocks_unique), (288_500, 182_790));
    near(summary.hit_blocks, 0.366, 0.0005);
    near(summary.hit_tokens, 0.374, 0.0005);
    assert_eq!((summary.sessions, summary.turns_mean), (0, None));
}

#[test]
fn toolagent_stand_in() {
    let Some(path) = trace("toolagent_reconstructed.jsonl.gz") else { return };
    let summary = summary(&path, &Format::Mooncake);
    assert_eq!(summary.requests, 23_608);
    near(summary.gap_cv, 4.36, 0.005);
    lengths(summary.input_tokens, [8_711.0, 6_322.0, 17_210.0, 63_045.0, 126_195.0]);
    lengths(summary.output_tokens, [182.0, 31.0, 507.0, 898.0, 2_000.0]);
    near(summary.length_correlation, 0.26, 0.005);
    assert_eq!((summary.blocks_touched, summary.blocks_unique), (414_806, 190_873));
    near(summary.hit_blocks, 0.540, 0.0005);
    near(summary.hit_tokens, 0.557, 0.0005);
}

#[test]
fn azure_code_trace() {
    let Some(path) = trace("AzureLLMInferenceTrace_code.csv") else { return };
    let summary = summary(&path, &Format::Azure);
    assert_eq!(summary.requests, 8_819);
    near(summary.rate_per_s, 2.57, 0.005);
    near(summary.gap_cv, 13.2, 0.05);
    let minutes = summary.per_minute.unwrap();
    near(minutes.mean, 151.0, 0.5);
    near(minutes.cv(), 1.04, 0.005);
    near(minutes.max as f64, 632.0, 0.0);
    lengths(summary.input_tokens, [2_048.0, 1_469.0, 5_188.0, 7_436.0, 7_437.0]);
    lengths(summary.output_tokens, [28.0, 13.0, 55.0, 252.0, 1_899.0]);
    assert_eq!(summary.hit_tokens, Some(0.0));
}
