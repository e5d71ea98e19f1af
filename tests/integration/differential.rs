//! The promise of the executors: the same report, bit for bit, on any number of threads.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fleetsim::fleet::{
    self, ControlPlane, Execution, ExecutionOptions, Executor, FleetSpec, Latency, Outcome, Router,
    RunError, Sink, Threads,
};
use fleetsim::io::ahead::Ahead;
use fleetsim::io::config::Loaded;
use fleetsim::kernel::rng::mix64;
use fleetsim::kernel::{Span, Time};
use fleetsim::model::kv::CacheChange;
use fleetsim::model::metrics::Row;
use fleetsim::model::request::{Prompt, Request, Ticket, Visible, WorkerId};
use fleetsim::model::router::{Policy, Reads};
use fleetsim::model::workload::{Demand, Source, SourceError};
use fleetsim::report::{self, Context, Summary};

use crate::catalog::resolve;
use crate::support::swarm::Case;
use crate::support::{policies, seeds, shipped, trace};

/// Takes everything and keeps nothing: the digest covers all rows.
struct Nowhere;

impl Sink for Nowhere {
    fn rows(&self, _: &[Row]) -> io::Result<()> {
        Ok(())
    }
}

/// Everything that a run reports, but for how it was run.
fn reports(
    spec: &FleetSpec,
    demand: impl Into<Demand>,
    router: &dyn Router,
) -> (Outcome, [String; 3]) {
    let outcome = fleet::run(spec, demand, router, &Nowhere).unwrap();
    let context = Context {
        fleet: spec.clone(),
        policy: String::new(),
        workload: String::new(),
        notes: Vec::new(),
        foreseen: Vec::new(),
        late: None,
        wall: Duration::from_secs(1),
    };
    let summary = Summary::new(context, &outcome);
    let mut report = report::to_json(&summary, &outcome);
    let about = report.as_object_mut().unwrap();
    assert!(about.remove("threads").is_some() && about.remove("threads_why").is_some());
    let mut files = [Vec::new(), Vec::new()];
    report::write_series(&mut files[0], &summary, &outcome).unwrap();
    report::write_workers(&mut files[1], &summary, &outcome).unwrap();
    let [series, workers] = files.map(|bytes| String::from_utf8(bytes).unwrap());
    let report = serde_json::to_string_pretty(&report).unwrap();
    (outcome, [report, series, workers])
}

fn on(threads: usize, options: ExecutionOptions) -> Execution {
    let options = ExecutionOptions { oversubscribe: true, ..options };
    Execution { threads: Threads::Count(threads), pin: false, options }
}

/// Random fleets, workloads and policies, with latencies of zero on either side or both.
#[test]
fn every_thread_count_gives_the_sequential_report() {
    let mut parallel = 0;
    for seed in seeds(150) {
        let mut case = Case::new(seed);
        case.divide();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let (expected, reference) = reports(&case.spec, case.source(), &case.policy);
            for threads in [1, 2, 3, 4, 7, 8, 16] {
                let draw = mix64(seed << 8 | threads as u64);
                let size = [None, Some(1), Some(7), Some(1000)][draw as usize % 4];
                case.spec.execution = on(
                    threads,
                    ExecutionOptions {
                        workers_per_group: size,
                        no_stealing: draw & 16 > 0,
                        fuzz: (draw & 32 > 0).then_some(draw),
                        ..ExecutionOptions::default()
                    },
                );
                for executor in [Executor::Suited, Executor::Phases, Executor::Clocks] {
                    case.spec.execution.options.executor = executor;
                    let source = Box::new(Ahead::new(case.source()));
                    let (outcome, found) = reports(&case.spec, source, &case.policy);
                    let context = format!("{threads} threads, {executor:?}");
                    assert_eq!(outcome.digest, expected.digest, "{context}");
                    assert_eq!(found, reference, "{context}");
                    parallel += u32::from(outcome.executed.threads > 1);
                }
            }
        }));
        caught.unwrap_or_else(|_| {
            panic!("repeat with FLEETSIM_SEED={seed} cargo test every_thread_count\nwhich runs {case:?}")
        });
    }
    assert!(std::env::var_os("FLEETSIM_SEED").is_some() || parallel > 600, "{parallel} runs");
}

/// Panics when it has chosen so often.
struct Bomb {
    policy: Box<dyn Policy>,
    left: u32,
}

impl Policy for Bomb {
    fn reads(&self) -> Reads {
        self.policy.reads()
    }

    fn choose(&mut self, request: Visible<'_>) -> WorkerId {
        self.left = self.left.checked_sub(1).expect("a bomb in the router");
        self.policy.choose(request)
    }

    fn joined(&mut self, worker: WorkerId) {
        self.policy.joined(worker);
    }

    fn left(&mut self, worker: WorkerId) {
        self.policy.left(worker);
    }

    fn prefilled(&mut self, worker: WorkerId, request: Ticket) {
        self.policy.prefilled(worker, request);
    }

    fn finished(&mut self, worker: WorkerId, request: Ticket) {
        self.policy.finished(worker, request);
    }

    fn cache_changed(&mut self, worker: WorkerId, changes: &[CacheChange]) {
        self.policy.cache_changed(worker, changes);
    }
}

/// Breaks off after so many requests.
struct Torn {
    source: Box<dyn Source>,
    left: u32,
}

impl Source for Torn {
    fn next_request(&mut self) -> Result<Option<Request>, SourceError> {
        self.left = self.left.checked_sub(1).ok_or("the trace is torn")?;
        self.source.next_request()
    }
}

/// Whatever ends a run early ends it with the same words on any number of threads, and soon.
#[test]
fn every_thread_count_gives_the_same_error() {
    let mut errors = 0;
    for seed in seeds(60) {
        let mut case = Case::new(seed);
        case.divide();
        let left = (mix64(seed) % 40) as u32;
        let mut reference = None;
        let ways = [Executor::Phases, Executor::Clocks]
            .map(|executor| [1, 2, 3, 8].map(|threads| (threads, executor)));
        let sequential = (1, Executor::Sequential);
        for (threads, executor) in [sequential].into_iter().chain(ways.into_iter().flatten()) {
            let fuzz = Some(seed);
            let options = ExecutionOptions { executor, fuzz, ..ExecutionOptions::default() };
            case.spec.execution = on(threads, options);
            let mut source = case.source();
            let has_bomb = seed.is_multiple_of(2);
            if !has_bomb {
                source = Box::new(Ahead::new(Box::new(Torn { source, left })));
            }
            let policy = |fleet: &FleetSpec| -> Box<dyn Policy> {
                let policy = case.policy.policy(fleet);
                if has_bomb { Box::new(Bomb { policy, left }) } else { policy }
            };
            let result = fleet::run(&case.spec, source, &policy, &Nowhere);
            let found = result.map(|outcome| outcome.digest).map_err(|error| error.to_string());
            errors += u32::from(found.is_err());
            let expected = reference.get_or_insert_with(|| found.clone());
            let context = format!("{threads} threads, {executor:?}");
            assert_eq!(&found, expected, "FLEETSIM_SEED={seed}, {context}");
        }
    }
    assert!(std::env::var_os("FLEETSIM_SEED").is_some() || errors > 100, "{errors} errors");
}

/// Decode runs say of every interval what single passes do, at whose ends it may end too. A Planner that reads passes has them one by
/// one.
#[test]
fn runs_and_passes_give_one_time_series() {
    let each = [
        "planner.policy=load",
        "planner.advisory=true",
        "planner.load_basis=passes",
        "planner.workers_max=4",
    ];
    let intervals = |more: &[&str]| {
        let all = [
            "timing.model=constant",
            "run.series_interval=100ms",
            "control_plane.dispatch_latency=0",
            "engine.block_size=1",
            "engine.num_gpu_blocks=1000",
            "fleet.workers=1",
        ];
        let job = resolve(&[&all[..], more].concat()).unwrap();
        // The second one comes when the first interval ends, and waits.
        let ms = |ms| Time::ZERO + Span::from_ms(ms);
        let requests = [(0, ms(0)), (1, ms(100))]
            .map(|(id, at)| Request::new(id, at, Prompt::unique(10), 200));
        let outcome =
            fleet::run(&job.fleet, Box::new(requests.into_iter()), &job.router, &Nowhere).unwrap();
        let series = outcome.recorder.series.intervals().to_vec();
        series
            .iter()
            .map(|i| (i.waiting, i.running, i.pinned_blocks, i.load_max))
            .collect::<Vec<_>>()
    };
    let runs = intervals(&[]);
    assert_eq!(runs, intervals(&each));
    assert_eq!(runs[0], (0, 1, 15, 1), "a prompt and five tokens, and nobody else yet");
}

/// A small fleet is shared if its requests come in bursts with nothing to do for the coordinator in between; not where it may have
/// to act at whatever it hears.
#[test]
fn only_a_coordinator_that_listens_shares_a_small_fleet() {
    let bursts = [
        "workload.preset=conversation",
        "workload.copies=8",
        "workload.requests=400",
        "fleet.workers=64",
        "router.policy=kv",
    ];
    let threads = |more: &[&str]| {
        let job = resolve(&[&bursts[..], more].concat()).unwrap();
        let mut spec = job.fleet.clone();
        spec.execution = on(2, ExecutionOptions::default());
        let demand = job.traffic.open(spec.seed).unwrap();
        fleet::run(&spec, demand, &job.router, &Nowhere).unwrap().executed.threads
    };
    assert_eq!(threads(&[]), 2);
    for reason in [
        "workload.concurrency=500",
        "admission.max_in_flight=1000",
        "router.router_queue_threshold=2.0",
        "planner.policy=load",
        "client.timeout=100s",
    ] {
        assert_eq!(threads(&[reason]), 1, "{reason}");
    }
}

/// A request in the last moments that there are: its passes would end after them.
#[test]
fn every_thread_count_ends_where_time_ends() {
    let job = Loaded::load(None, &[]).and_then(|loaded| loaded.resolve()).unwrap();
    let before = |time: Time, ms| Time::from_ns(time.as_ns() - Span::from_ms(ms).as_ns());
    for (policy, ms) in policies().into_iter().flat_map(|policy| [0, 1, 20].map(|ms| (policy, ms)))
    {
        let mut spec = FleetSpec { series_interval: Span::from_secs(1 << 20), ..job.fleet.clone() };
        let ways = [(1, Executor::Sequential), (1, Executor::Phases), (3, Executor::Phases)];
        for (threads, executor) in ways.into_iter().chain([(3, Executor::Clocks)]) {
            spec.execution = on(threads, ExecutionOptions { executor, ..Default::default() });
            let late = [Time::ZERO, before(Time::MAX, ms)].map(|at| (at, Prompt::unique(3000)));
            let requests =
                (0..).zip(late).map(|(id, (at, prompt))| Request::new(id, at, prompt, 50));
            let requests: Vec<Request> = requests.collect();
            let result = fleet::run(&spec, Box::new(requests.into_iter()), &policy, &Nowhere);
            assert!(
                matches!(result, Err(RunError::OutOfTime)),
                "{threads}, {executor:?}: {result:?}"
            );
        }
    }
}

/// The real conversation trace with every policy, with and without latency.
#[test]
fn the_conversation_trace_gives_one_report() {
    let Some(path) = trace("conversation_trace.jsonl") else { return };
    let config = shipped("reference/1.6.1/rr8.toml");
    let set = |text: &str| ("--set".to_owned(), text.to_owned());
    let path = set(&format!("workload.trace={}", path.display()));
    let fast = set("workload.speedup=6");
    let workers = set("fleet.workers=48");
    let loaded = Loaded::load(Some(&config), &[path, fast, workers]).unwrap();
    let job = loaded.resolve().unwrap();
    for policy in policies() {
        let latency = |ms| Latency::constant(Span::from_ms(ms));
        let delayed = ControlPlane { dispatch: latency(1), feedback: latency(5) };
        for control_plane in [ControlPlane::ideal(), delayed] {
            let mut spec = FleetSpec { control_plane, ..job.fleet.clone() };
            let mut reference = None;
            let phases = [1, 2, 3, 8].map(|threads| (threads, Executor::Phases));
            let others = [(1, Executor::Suited), (2, Executor::Clocks)];
            for (threads, executor) in
                [(1, Executor::Sequential)].into_iter().chain(phases).chain(others)
            {
                spec.execution = on(threads, ExecutionOptions { executor, ..Default::default() });
                let source = job.traffic.open(spec.seed).unwrap();
                let (outcome, found) = reports(&spec, source, &policy);
                assert_eq!(outcome.recorder.totals.arrived, 12_031);
                let expected = reference.get_or_insert_with(|| found.clone());
                assert_eq!(&found, expected, "{threads} threads, {spec:?}");
            }
        }
    }
}

/// Measured times on one kind of GPU, estimated ones on the other, one router.
#[test]
fn a_mixed_fleet_gives_one_report() {
    let set = |text: &str| ("--set".to_owned(), text.to_owned());
    let config = shipped("examples/mixed-fleet.toml");
    let overrides =
        ["workload.requests=2000", "workload.speedup=3", "pools.h100.engine.gpu=a100_sxm"];
    let loaded = Loaded::load(Some(&config), &overrides.map(set)).unwrap();
    let job = loaded.resolve().unwrap();
    let mut reference = None;
    for threads in [0, 1, 2, 3] {
        let mut spec = job.fleet.clone();
        spec.execution = match threads {
            0 => Execution::sequential(),
            _ => on(threads, ExecutionOptions { executor: Executor::Phases, ..Default::default() }),
        };
        let source = job.traffic.open(spec.seed).unwrap();
        let (outcome, found) = reports(&spec, source, &job.router);
        assert_eq!(outcome.recorder.totals.arrived, 2000);
        assert!(found[0].contains("measured, estimate") || found[0].contains("estimate, measured"));
        let expected = reference.get_or_insert_with(|| found.clone());
        assert_eq!(&found, expected, "{threads} threads");
    }
}
