//! Against the reference peer, request by request.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::read::GzDecoder;
use fleetsim::fleet::{self, ControlPlane, FleetSpec, Load, Outcome};
use fleetsim::io::trace::{Format, TraceOptions, TraceReader};
use fleetsim::kernel::Span;
use fleetsim::kernel::rng::stream;
use fleetsim::model::engine::{DecodeKv, EngineConfig, FirstToken, PreemptionMode};
use fleetsim::model::kv::{BlockLayout, CacheChange};
use fleetsim::model::metrics::{Row, Slo};
use fleetsim::model::request::{Request, RequestId, WorkerId};
use fleetsim::model::router::{KvAware, KvRouterConfig, Policy, Reads, RoundRobin, TieBreak};
use fleetsim::model::timing::{Polynomial, TimingModel};

use crate::support::{Rows, shared};

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

fn simulate(
    engine: EngineConfig,
    workers: u32,
    load: Load,
    policy: Box<dyn Policy>,
) -> Option<(Outcome, Vec<Row>)> {
    let path = shared("traces/conversation_trace.jsonl")?;
    let options = TraceOptions { format: Format::Mooncake, block_size: 512, skip_bad_lines: false };
    let source = TraceReader::open(&path, options).unwrap();
    let spec = FleetSpec {
        workers,
        gpus_per_worker: 1,
        engine,
        control_plane: ControlPlane::ideal(),
        load,
        router_queue: None,
        seed: 42,
        series_interval: Span::from_secs(10),
        slo: Slo::default(),
    };
    let mut rows = Rows::default();
    let outcome = fleet::run(&spec, Box::new(source), policy, &mut rows).unwrap();
    Some((outcome, rows.sorted()))
}

/// Every row: same worker, same reuse, TTFT and E2E within so many ns.
fn compare(case: &str, rows: &[Row], tolerance_ns: f64) {
    let Some(expected) = expected(case) else { return };
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(&expected) {
        let off = |time: Span, expected_ms: f64| (time.as_ms() - expected_ms).abs() * 1e6;
        let ttft_ns = off(row.ttft().unwrap(), expected.ttft_ms);
        let e2e_ns = off(row.e2e(), expected.e2e_ms);
        assert!(
            ttft_ns.max(e2e_ns) <= tolerance_ns,
            "{case}, line {}: TTFT off by {ttft_ns} ns, E2E by {e2e_ns} ns",
            row.trace_line
        );
        let got = (row.worker.0, row.reused_tokens);
        assert_eq!(got, (expected.worker, expected.reused), "{case}, line {}", row.trace_line);
    }
}

fn check(case: &str, engine: EngineConfig, workers: u32, load: Load, tolerance_ns: f64) {
    let policy = Box::new(RoundRobin::new(workers));
    if let Some((_, rows)) = simulate(engine, workers, load, policy) {
        compare(case, &rows, tolerance_ns);
    }
}

/// Makes the peer's recorded choices, and checks that each of them is a cheapest one by our cost.
struct Recorded {
    choices: Vec<u32>,
    costs: KvAware,
    ties: Arc<AtomicUsize>,
}

impl Policy for Recorded {
    fn reads(&self) -> Reads {
        self.costs.reads()
    }

    fn choose(&mut self, request: &Request) -> WorkerId {
        let worker = self.choices[request.id.0 as usize];
        let costs = self.costs.costs(request);
        let cheapest = costs.iter().copied().fold(f64::INFINITY, f64::min);
        let chosen = costs[worker as usize];
        assert!(chosen <= cheapest, "request {}: {worker} of {costs:?}", request.id.0);
        if costs.iter().filter(|&&cost| cost <= cheapest).count() > 1 {
            self.ties.fetch_add(1, Ordering::Relaxed);
        }
        self.costs.assign(request, WorkerId(worker));
        WorkerId(worker)
    }

    fn prefilled(&mut self, worker: WorkerId, request: RequestId) {
        self.costs.prefilled(worker, request);
    }

    fn finished(&mut self, worker: WorkerId, request: RequestId) {
        self.costs.finished(worker, request);
    }

    fn cache_changed(&mut self, worker: WorkerId, changes: &[CacheChange]) {
        self.costs.cache_changed(worker, changes);
    }
}

fn kv_aware(engine: &EngineConfig, config: KvRouterConfig) -> KvAware {
    KvAware::new(config, engine.layout, 8, stream(42, 0))
}

#[test]
fn kv8_with_the_recorded_choices() {
    let Some(recorded) = expected("1.6.1/kv8") else { return };
    let engine = engine("1.6.1", 512, 16_384);
    let ties = Arc::new(AtomicUsize::new(0));
    let policy = Recorded {
        choices: recorded.iter().map(|row| row.worker).collect(),
        costs: kv_aware(&engine, KvRouterConfig::default()),
        ties: Arc::clone(&ties),
    };
    let Some((_, rows)) = simulate(engine, 8, Load::Open, Box::new(policy)) else { return };
    compare("1.6.1/kv8", &rows, 1e3);
    eprintln!("{} of {} choices had a tie", ties.load(Ordering::Relaxed), rows.len());
}

/// The peer breaks ties at random: three runs of its 1.6.1 gave these mean TTFTs and reuse ratios.
#[test]
fn kv8_on_its_own() {
    let mean = |values: [f64; 3]| values.iter().sum::<f64>() / 3.0;
    let (peer_ttft_ms, peer_reuse) = (mean([237.7, 238.3, 239.7]), mean([0.3002, 0.3030, 0.2972]));
    for tie_break in [TieBreak::Fewest, TieBreak::Random] {
        let engine = engine("1.6.1", 512, 16_384);
        let config = KvRouterConfig { tie_break, ..KvRouterConfig::default() };
        let policy = Box::new(kv_aware(&engine, config));
        let Some((outcome, _)) = simulate(engine, 8, Load::Open, policy) else { return };
        let ttft_ms = outcome.recorder.ttft.mean().unwrap() / 1e6;
        let totals = outcome.recorder.totals;
        let reuse = totals.reused_tokens as f64 / totals.prompt_tokens as f64;
        assert!((ttft_ms / peer_ttft_ms - 1.0).abs() < 0.01, "{tie_break:?}: mean TTFT {ttft_ms}");
        assert!((reuse / peer_reuse - 1.0).abs() < 0.02, "{tie_break:?}: reuse {reuse}");
    }
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
