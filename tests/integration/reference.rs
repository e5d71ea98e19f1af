//! Against the reference peer, request by request.

use std::io::Read;

use flate2::read::GzDecoder;
use fleetsim::fleet::{self, ControlPlane, FleetSpec, Load, Outcome};
use fleetsim::io::trace::{Format, TraceOptions, TraceReader};
use fleetsim::kernel::Span;
use fleetsim::model::engine::{DecodeKv, EngineConfig, FirstToken, PreemptionMode};
use fleetsim::model::kv::BlockLayout;
use fleetsim::model::metrics::Row;
use fleetsim::model::router::RoundRobin;
use fleetsim::model::timing::{Polynomial, TimingModel};

use crate::support::{Rows, check_laws, shared};

struct Expected {
    worker: u32,
    reused: u32,
    ttft_ms: f64,
    e2e_ms: f64,
}

fn expected(case: &str) -> Option<Vec<Expected>> {
    let path = shared(&format!("reference/cases/{case}.csv.gz"))?;
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let row = |line: &str| {
        let field: Vec<&str> = line.split(',').collect();
        let number = |index: usize| field[index].parse::<f64>().unwrap();
        let (worker, reused) = (number(4) as u32, number(5) as u32);
        Expected { worker, reused, ttft_ms: number(6), e2e_ms: number(8) }
    };
    Some(text.lines().skip(1).map(row).collect())
}

fn engine(version: &str, block_size: u32, num_gpu_blocks: u32) -> EngineConfig {
    let old = version == "1.4.2";
    EngineConfig {
        layout: BlockLayout { block_size, trace_block_size: 512 },
        num_gpu_blocks,
        max_num_seqs: 256,
        max_num_batched_tokens: 8192,
        max_model_len: None,
        enable_prefix_caching: true,
        enable_chunked_prefill: true,
        preemption_mode: PreemptionMode::Lifo,
        first_token: if old { FirstToken::Decode } else { FirstToken::Prefill },
        decode_kv: if old { DecodeKv::Resident } else { DecodeKv::Context },
        timing: TimingModel::Polynomial(Polynomial::default()),
        speedup_ratio: 1.0,
        decode_speedup_ratio: 1.0,
    }
}

fn simulate(engine: EngineConfig, workers: u32, load: Load) -> Option<(Outcome, Vec<Row>)> {
    let path = shared("traces/conversation_trace.jsonl")?;
    let options = TraceOptions { format: Format::Mooncake, block_size: 512, skip_bad_lines: false };
    let source = TraceReader::open(&path, options).unwrap();
    let spec = FleetSpec {
        workers,
        gpus_per_worker: 1,
        engine,
        control_plane: ControlPlane::ideal(),
        load,
        seed: 42,
        series_interval: Span::from_secs(10),
    };
    let mut rows = Rows::default();
    let start = std::time::Instant::now();
    let outcome =
        fleet::run(&spec, Box::new(source), Box::new(RoundRobin::new(workers)), &mut rows).unwrap();
    eprintln!("{:?} {} events", start.elapsed(), outcome.events);
    Some((outcome, rows.sorted()))
}

/// Every row: same worker, same reuse, TTFT and E2E within so many ns.
fn check(case: &str, engine: EngineConfig, workers: u32, load: Load, tolerance_ns: f64) {
    let Some(expected) = expected(case) else { return };
    let Some((outcome, rows)) = simulate(engine, workers, load) else { return };
    check_laws(&outcome, &rows);
    assert_eq!(rows.len(), expected.len());
    let mut worst = 0.0_f64;
    let mut wrong = 0;
    for (row, expected) in rows.iter().zip(&expected) {
        let ttft = (row.ttft().unwrap().as_ms() - expected.ttft_ms).abs() * 1e6;
        let e2e = (row.e2e().as_ms() - expected.e2e_ms).abs() * 1e6;
        worst = worst.max(ttft).max(e2e);
        let same = row.worker.0 == expected.worker && row.reused_tokens == expected.reused;
        if !same || ttft.max(e2e) > tolerance_ns {
            wrong += 1;
            if wrong < 4 {
                eprintln!(
                    "{case} line {}: worker {} for {}, reused {} for {}, TTFT off {ttft} ns, E2E off {e2e} ns",
                    row.trace_line,
                    row.worker.0,
                    expected.worker,
                    row.reused_tokens,
                    expected.reused
                );
            }
        }
    }
    eprintln!("{case}: worst {worst} ns");
    assert_eq!(wrong, 0, "{case}: rows that differ");
}

#[test]
fn rr8() {
    check("1.6.1/rr8", engine("1.6.1", 512, 16_384), 8, Load::Open, 1e3);
    check("1.4.2/rr8", engine("1.4.2", 512, 16_384), 8, Load::Open, 1e3);
}

#[test]
fn rr8b64() {
    check("1.6.1/rr8b64", engine("1.6.1", 64, 131_072), 8, Load::Open, 1e3);
    check("1.4.2/rr8b64", engine("1.4.2", 64, 16_384), 8, Load::Open, 1e3);
}

#[test]
fn rr8small() {
    check("1.6.1/rr8small", engine("1.6.1", 512, 600), 8, Load::Open, 1e3);
    check("1.4.2/rr8small", engine("1.4.2", 512, 600), 8, Load::Open, 1e4);
}

#[test]
fn rr2over() {
    check("1.6.1/rr2over", engine("1.6.1", 512, 600), 2, Load::Open, 1e3);
    check("1.4.2/rr2over", engine("1.4.2", 512, 600), 2, Load::Open, 1e4);
}

#[test]
fn conc64() {
    check("1.6.1/conc64", engine("1.6.1", 512, 16_384), 8, Load::Closed(64), 1e3);
    check("1.4.2/conc64", engine("1.4.2", 512, 16_384), 8, Load::Closed(64), 1e3);
}
