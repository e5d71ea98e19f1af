//! Against the reference peer, request by request.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::read::GzDecoder;
use fleetsim::fleet::{self, FleetSpec, Outcome, Router};
use fleetsim::io::config::{Job, Loaded};
use fleetsim::kernel::Span;
use fleetsim::model::kv::CacheChange;
use fleetsim::model::metrics::Row;
use fleetsim::model::request::{Ticket, Visible, WorkerId};
use fleetsim::model::router::{KvAware, KvRouterConfig, Policy, PolicySpec, Reads, TieBreak};
use fleetsim::report::{Context, Summary, to_json};

use crate::support::{Rows, case, shipped, trace};

struct Expected {
    worker: u32,
    reused: u32,
    ttft_ms: f64,
    e2e_ms: f64,
}

fn expected(name: &str) -> Option<Vec<Expected>> {
    let path = case(&format!("{name}.csv.gz"))?;
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

/// The shipped configuration of a case, if the trace that it replays is there.
fn job(case: &str) -> Option<Job> {
    let trace = trace("conversation_trace.jsonl")?;
    let trace = format!("workload.trace={}", trace.display());
    let config = shipped(&format!("reference/{case}.toml"));
    let loaded = Loaded::load(Some(&config), &[("--trace".to_owned(), trace)]);
    Some(loaded.and_then(|loaded| loaded.resolve()).unwrap())
}

fn simulate(job: &Job, router: &dyn Router) -> (Outcome, Vec<Row>) {
    let rows = Rows::default();
    let source = job.traffic.open(job.fleet.seed).unwrap();
    let outcome = fleet::run(&job.fleet, source, router, &rows).unwrap();
    (outcome, rows.sorted())
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
        let got = (row.worker.unwrap().0, row.reused_tokens);
        assert_eq!(got, (expected.worker, expected.reused), "{case}, line {}", row.trace_line);
    }
}

fn check(case: &str, tolerance_ns: f64) {
    if let Some(job) = job(case) {
        let (outcome, rows) = simulate(&job, &job.router);
        compare(case, &rows, tolerance_ns);
        compare_report(case, &job, &outcome);
    }
}

/// Every figure of the peer's report, under the same key in ours. Percentiles come from sketches on both sides, and
/// rates per wall-clock second belong to a machine.
fn compare_report(name: &str, job: &Job, outcome: &Outcome) {
    let Some(path) = case(&format!("{name}.report.json")) else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let wall = std::time::Duration::from_secs(1);
    let (policy, workload) = (job.router.name().to_owned(), job.traffic.describe());
    let notes = job.notes.clone();
    let (fleet, foreseen) = (job.fleet.clone(), job.foreseen.clone());
    let context = Context { fleet, policy, workload, notes, foreseen, late: job.late, wall };
    let report = to_json(&Summary::new(context, outcome), outcome);
    let is_wall = |key: &str| key.contains("wall") || key.starts_with("processed");
    for (key, expected) in expected.iter().filter(|(key, value)| !is_wall(key) && !value.is_null())
    {
        let got = report.get(key).unwrap_or_else(|| panic!("{name}: {key} is absent"));
        if let (Some(expected), Some(got)) = (expected.as_f64(), got.as_f64()) {
            let is_sketch = key.contains("itl") || key.contains("per_user");
            let is_percentile = key.starts_with('p') || key.starts_with("median");
            let tolerance = match (is_sketch, is_percentile) {
                (true, true) => 0.011,
                (false, true) => 0.001,
                // Ours is a sum over the buckets of the histogram of gaps.
                (true, false) if key.contains("per_user") => 0.0005,
                (_, false) => 2e-6,
            };
            let scale = expected.abs().max(1e-9);
            assert!(
                (got - expected).abs() <= tolerance * scale,
                "{name}: {key} is {got}, not {expected}"
            );
        } else {
            assert_eq!(got, expected, "{name}: {key}");
        }
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

    fn choose(&mut self, request: Visible<'_>) -> WorkerId {
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

    fn joined(&mut self, worker: WorkerId) {
        self.costs.joined(worker);
    }

    fn left(&mut self, worker: WorkerId) {
        self.costs.left(worker);
    }

    fn prefilled(&mut self, worker: WorkerId, request: Ticket) {
        self.costs.prefilled(worker, request);
    }

    fn finished(&mut self, worker: WorkerId, request: Ticket) {
        self.costs.finished(worker, request);
    }

    fn cache_changed(&mut self, worker: WorkerId, changes: &[CacheChange]) {
        self.costs.cache_changed(worker, changes);
    }
}

fn kv_aware(job: &Job, tie_break: TieBreak) -> KvAware {
    let config = KvRouterConfig { tie_break, ..KvRouterConfig::default() };
    assert_eq!(job.router, PolicySpec::Kv(KvRouterConfig::default()));
    KvAware::new(config, job.fleet.layout(), job.fleet.workers(), job.fleet.router_stream())
}

#[test]
fn kv8_with_the_recorded_choices() {
    let (Some(job), Some(recorded)) = (job("1.6.1/kv8"), expected("1.6.1/kv8")) else { return };
    let ties = Arc::new(AtomicUsize::new(0));
    let policy = |_: &FleetSpec| -> Box<dyn Policy> {
        Box::new(Recorded {
            choices: recorded.iter().map(|row| row.worker).collect(),
            costs: kv_aware(&job, TieBreak::Fewest),
            ties: Arc::clone(&ties),
        })
    };
    compare("1.6.1/kv8", &simulate(&job, &policy).1, 1e3);
    let share = ties.load(Ordering::Relaxed) as f64 / recorded.len() as f64;
    assert!(
        (share - 0.34).abs() < 0.01,
        "the peer had a tie in 34 % of its choices, we in {share}"
    );
}

/// The peer breaks ties at random: three runs of its 1.6.1 gave these mean TTFTs and reuse ratios.
#[test]
fn kv8_on_its_own() {
    let mean = |values: [f64; 3]| values.iter().sum::<f64>() / 3.0;
    let (peer_ttft_ms, peer_reuse) = (mean([237.7, 238.3, 239.7]), mean([0.3002, 0.3030, 0.2972]));
    for tie_break in [TieBreak::Fewest, TieBreak::Random] {
        let Some(job) = job("1.6.1/kv8") else { return };
        let policy = |_: &FleetSpec| -> Box<dyn Policy> { Box::new(kv_aware(&job, tie_break)) };
        let (outcome, _) = simulate(&job, &policy);
        let ttft_ms = outcome.recorder.ttft.mean().unwrap() / 1e6;
        let totals = outcome.recorder.totals;
        let reuse = totals.reused_tokens as f64 / totals.prompt_tokens as f64;
        assert!((ttft_ms / peer_ttft_ms - 1.0).abs() < 0.01, "{tie_break:?}: mean TTFT {ttft_ms}");
        assert!((reuse / peer_reuse - 1.0).abs() < 0.02, "{tie_break:?}: reuse {reuse}");
    }
}

#[test]
fn rr8() {
    check("1.6.1/rr8", 1e3);
    check("1.4.2/rr8", 1e3);
}

#[test]
fn rr8b64() {
    check("1.6.1/rr8b64", 1e3);
    check("1.4.2/rr8b64", 1e3);
}

#[test]
fn rr8small() {
    check("1.6.1/rr8small", 1e3);
    check("1.4.2/rr8small", 1e4);
}

#[test]
fn rr2over() {
    check("1.6.1/rr2over", 1e3);
    check("1.4.2/rr2over", 1e4);
}

#[test]
fn conc64() {
    check("1.6.1/conc64", 1e3);
    check("1.4.2/conc64", 1e3);
}
