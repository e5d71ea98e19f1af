//! Fleets whose workers come and go: one report on any number of threads, nothing lost, every GPU paid for.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use fleetsim::fleet::{
    self, ControlPlane, Execution, ExecutionOptions, Executor, FleetSpec, Latency, Load, Outcome,
    PoolSpec, Scaling, Sink, Threads,
};
use fleetsim::kernel::rng::{Stream, stream};
use fleetsim::kernel::{Span, Time};
use fleetsim::model::engine::{AdmissionRoom, DecodeKv, EngineConfig, FirstToken, PreemptionMode};
use fleetsim::model::kv::BlockLayout;
use fleetsim::model::lifecycle::{LifecycleSpec, StageTime, Startup, Victims};
use fleetsim::model::metrics::{Row, Slo, Status};
use fleetsim::model::planner::predict::{KalmanConfig, PredictorSpec};
use fleetsim::model::planner::{
    Basis, HpaMetric, Limits, LoadConfig, LoadTarget, PlannerSpec, Role, ScalingSpec,
    ScheduleEntry, StabiliserConfig, Targets, Thresholds, ThroughputConfig, TimedSpec,
    WhilePending,
};
use fleetsim::model::request::{Prompt, Request};
use fleetsim::model::router::{KvRouterConfig, PolicySpec};
use fleetsim::model::timing::TimingModel;
use fleetsim::report::{self, Context, Summary};
use parking_lot::Mutex;
use rand::RngExt;

use crate::support::seeds;
use crate::support::swarm::Case;

/// Keeps all rows.
#[derive(Default)]
struct Rows(Mutex<Vec<Row>>);

impl Sink for Rows {
    fn rows(&self, rows: &[Row]) -> io::Result<()> {
        self.0.lock().extend_from_slice(rows);
        Ok(())
    }
}

fn simulate(spec: &FleetSpec, policy: PolicySpec, requests: &[Request]) -> (Outcome, Vec<Row>) {
    let requests = requests.to_owned();
    let (source, sink) = (Box::new(requests.into_iter()), Rows::default());
    let outcome = fleet::run(spec, source, &policy, &sink).unwrap();
    let mut rows = sink.0.into_inner();
    rows.sort_by_key(|row| row.id);
    (outcome, rows)
}

fn summary(spec: &FleetSpec, outcome: &Outcome) -> Summary {
    let text = String::new();
    let (fleet, wall) = (spec.clone(), Duration::from_secs(1));
    let (notes, foreseen) = (Vec::new(), Vec::new());
    let context =
        Context { fleet, policy: text.clone(), workload: text, notes, foreseen, late: None, wall };
    Summary::new(context, outcome)
}

/// Everything that a run reports but for how it was run: planner.csv, series.csv, report.json.
fn reports(spec: &FleetSpec, outcome: &Outcome) -> [String; 3] {
    let summary = summary(spec, outcome);
    let mut about = report::to_json(&summary, outcome);
    let object = about.as_object_mut().unwrap();
    object.retain(|key, _| !key.starts_with("threads"));
    let mut files = [Vec::new(), Vec::new()];
    report::write_planner(&mut files[0], outcome).unwrap();
    report::write_series(&mut files[1], &summary, outcome).unwrap();
    let [planner, series] = files.map(|bytes| String::from_utf8(bytes).unwrap());
    [planner, series, about.to_string()]
}

fn pick<T: Copy>(rng: &mut Stream, values: &[T]) -> T {
    values[rng.random_range(0..values.len())]
}

fn timed(policy: ScalingSpec, interval: Span) -> TimedSpec {
    TimedSpec { policy, interval, window: interval, while_pending: WhilePending::Act }
}

fn stabiliser(rng: &mut Stream) -> StabiliserConfig {
    let down_window = Span::from_ms(pick(rng, &[0, 50, 2000]));
    StabiliserConfig { down_window, ..StabiliserConfig::default() }
}

fn load_based(rng: &mut Stream, engine: &EngineConfig) -> ScalingSpec {
    let target = match rng.random_range(0..3) {
        0 => {
            let basis = pick(rng, &[Basis::Requests, Basis::Passes]);
            LoadTarget::Sla { targets: targets(rng), sensitivity: 0.8, basis }
        }
        1 => LoadTarget::Thresholds(Thresholds::latency(Role::Aggregated)),
        _ => LoadTarget::Thresholds(Thresholds { up: 0.02, down: 0.01 }),
    };
    let (up, down) = (pick(rng, &[1, 3]), pick(rng, &[1, 2]));
    let context_length = engine.pool_tokens();
    ScalingSpec::Load(LoadConfig { role: Role::Aggregated, target, up, down, context_length })
}

fn targets(rng: &mut Stream) -> Targets {
    let ms = |ms| Span::from_ms(ms);
    Targets { ttft: ms(pick(rng, &[1, 20, 500])), itl: ms(pick(rng, &[1, 5, 50])) }
}

fn throughput_based(rng: &mut Stream) -> ScalingSpec {
    let predictor = match rng.random_range(0..3) {
        0 => PredictorSpec::Last,
        1 => PredictorSpec::Kalman(KalmanConfig::default()),
        _ => PredictorSpec::Arima,
    };
    let config = ThroughputConfig::default().with_predictor(predictor);
    ScalingSpec::Throughput(config, targets(rng))
}

/// A random Planner over a fleet of at most so many workers.
fn scaling(rng: &mut Stream, most: u32, engine: &EngineConfig) -> Scaling {
    let interval = Span::from_ms(pick(rng, &[10, 70, 1000]));
    let entry = |rng: &mut Stream, ms| ScheduleEntry {
        from: Span::from_ms(ms),
        workers: rng.random_range(1..=most),
    };
    let (mut floor, policy) = match rng.random_range(0..7) {
        0 => (None, ScalingSpec::Fixed(rng.random_range(1..=most))),
        1 => {
            let metric = if rng.random() {
                HpaMetric::Kv { pool_tokens: engine.pool_tokens() }
            } else {
                HpaMetric::Batch { max_num_seqs: engine.max_num_seqs }
            };
            let target = pick(rng, &[0.001, 0.1, 0.8]);
            (None, ScalingSpec::Utilisation { metric, target, stabiliser: stabiliser(rng) })
        }
        2 => {
            let per_worker = pick(rng, &[0.5, 1.0, 4.0]);
            (None, ScalingSpec::Queue { per_worker, stabiliser: stabiliser(rng) })
        }
        3 => (None, load_based(rng, engine)),
        4 => (None, throughput_based(rng)),
        5 => (Some(throughput_based(rng)), load_based(rng, engine)),
        _ => {
            let entries = [0, 90, 200, 333, 700].map(|ms| entry(rng, ms)).to_vec();
            (None, ScalingSpec::Schedule { entries, period: Some(Span::from_ms(1000)) })
        }
    };
    let while_pending = match rng.random_range(0..3) {
        0 => WhilePending::Act,
        1 => WhilePending::Observe { limit: None },
        _ => WhilePending::Observe { limit: Some(Span::from_ms(200)) },
    };
    let window = interval * pick(rng, &[1, 1, 3]);
    let stages = match rng.random_range(0..4) {
        0 => Vec::new(),
        1 => vec![StageTime::Constant(Span::from_ms(40))],
        2 => vec![StageTime::Constant(Span::from_secs(3))],
        _ => {
            let random = StageTime::Lognormal { median: Span::from_ms(60), sigma: 1.0 };
            vec![random, StageTime::Constant(Span::from_ms(5))]
        }
    };
    Scaling {
        planner: PlannerSpec {
            name: "random",
            policy: TimedSpec { policy, interval, window, while_pending },
            floor: floor.take().map(|floor| timed(floor, Span::from_ms(pick(rng, &[30, 140])))),
            limits: Limits::new(1, most, 2, None, None).unwrap(),
            advisory: rng.random_bool(0.1),
            initial: rng.random_range(1..=most),
        },
        lifecycle: LifecycleSpec {
            workers_max: most,
            gpus_per_worker: 2,
            startup: Startup { stages },
            warm: pick(rng, &[0, 0, 1]).min(most - 1),
            starting_max: pick(rng, &[None, None, Some(1)]),
            gpus_max: None,
            victims: pick(rng, &[Victims::Newest, Victims::Oldest, Victims::LeastLoaded]),
        },
        cold_start: rng.random_bool(0.3),
    }
}

/// A random fleet of one pool, under a random Planner.
fn case(seed: u64) -> Case {
    let mut case = Case::new(seed);
    let mut rng = stream(seed, 2);
    let most = pick(&mut rng, &[2, 3, 8, 20]);
    case.spec.pools.truncate(1);
    case.spec.pools[0].workers = most;
    case.spec.scaling = Some(scaling(&mut rng, most, &case.spec.pools[0].engine));
    case
}

/// Digests, planner.csv, series.csv and the report, on any number of threads and both executors; and every request ends
/// once.
#[test]
fn every_thread_count_gives_one_report_with_a_planner() {
    let (mut actions, mut drained, mut waited) = ([0; 2], 0, 0);
    for seed in seeds(100) {
        let mut case = case(seed);
        let (expected, rows) = simulate(&case.spec, case.policy, &case.requests);
        let context = format!("FLEETSIM_SEED={seed} {case:?}");
        let ids: BTreeSet<u64> = rows.iter().map(|row| row.id.0).collect();
        assert_eq!(
            (rows.len(), ids.len()),
            (case.requests.len(), case.requests.len()),
            "{context}"
        );
        let reference = reports(&case.spec, &expected);
        let scaled = expected.scaled.as_ref().unwrap();
        for (sum, count) in actions.iter_mut().zip(scaled.actions()) {
            *sum += count;
        }
        drained += scaled.ticks.iter().filter(|tick| tick.counts.draining > 0).count();
        waited += usize::from(scaled.ticks.iter().any(|tick| tick.waiting > 0));
        for threads in [1, 2, 3, 8] {
            for executor in [Executor::Phases, Executor::Clocks] {
                let options = ExecutionOptions {
                    oversubscribe: true,
                    executor,
                    fuzz: (threads == 3).then_some(seed),
                    ..ExecutionOptions::default()
                };
                case.spec.execution =
                    Execution { threads: Threads::Count(threads), pin: false, options };
                let (outcome, _) = simulate(&case.spec, case.policy, &case.requests);
                let context = format!("{threads} threads, {executor:?}, {context}");
                assert_eq!(outcome.digest, expected.digest, "{context}");
                assert_eq!(outcome.events, expected.events, "{context}");
                assert_eq!(reports(&case.spec, &outcome), reference, "{context}");
            }
        }
    }
    let is_all = std::env::var_os("FLEETSIM_SEED").is_none();
    let enough = actions[0] > 60 && actions[1] > 60 && drained > 30 && waited > 6;
    assert!(!is_all || enough, "{actions:?} actions, {drained} drains, {waited} waits");
}

/// 10 ms per prefill, 1 s per token.
fn engine() -> EngineConfig {
    EngineConfig {
        layout: BlockLayout { block_size: 64, trace_block_size: 512 },
        num_gpu_blocks: 1000,
        max_num_seqs: 8,
        max_num_batched_tokens: 8192,
        max_whole_tokens: 8192,
        max_model_len: None,
        enable_prefix_caching: true,
        enable_chunked_prefill: true,
        preemption_mode: PreemptionMode::Lifo,
        admission_room: AdmissionRoom::Prompt,
        first_token: FirstToken::Prefill,
        decode_kv: DecodeKv::Context,
        timing: TimingModel::Constant { prefill: Span::from_ms(10), decode: Span::from_secs(1) },
        speedup_ratio: 1.0,
        decode_speedup_ratio: 1.0,
    }
}

fn at(secs: u64) -> Time {
    Time::ZERO + Span::from_secs(secs)
}

/// A request for so many tokens; all prompts are the same.
fn request(secs: u64, output_tokens: u32) -> Request {
    Request::new(0, at(secs), Prompt::named(1024, [1, 2].into_iter(), 0), output_tokens)
}

/// Two GPUs per worker, up to three workers, by a schedule in s; looks every second.
fn scheduled(initial: u32, schedule: &[(u64, u32)], startup: u64) -> FleetSpec {
    let entry =
        |&(from, workers): &(u64, u32)| ScheduleEntry { from: Span::from_secs(from), workers };
    let entries = schedule.iter().map(entry).collect();
    let policy = ScalingSpec::Schedule { entries, period: None };
    let latency = Latency::constant(Span::from_ms(1));
    FleetSpec {
        pools: vec![PoolSpec { gpus_per_worker: 2, ..PoolSpec::new(3, engine()) }],
        cells: None,
        control_plane: ControlPlane { dispatch: latency, feedback: latency },
        load: Load::Open,
        client: None,
        router_queue: None,
        admission: None,
        classes: Vec::new(),
        scaling: Some(Scaling {
            planner: PlannerSpec {
                name: "schedule",
                policy: timed(policy, Span::from_secs(1)),
                floor: None,
                limits: Limits::new(1, 3, 2, None, None).unwrap(),
                advisory: false,
                initial,
            },
            lifecycle: LifecycleSpec {
                workers_max: 3,
                gpus_per_worker: 2,
                startup: Startup::constant(Span::from_secs(startup)),
                warm: 0,
                starting_max: None,
                gpus_max: None,
                victims: Victims::Newest,
            },
            cold_start: false,
        }),
        seed: 1,
        series_interval: Span::from_secs(10),
        slo: Slo::default(),
        execution: Execution::sequential(),
    }
}

/// One worker from the first arrival, at 0 s, on; a second one starts at 10 s and is ready at 15 s; from 40 s on it
/// drains. It has a request that arrives at 30 s and gets its first token after 10 ms and the others by 60.011 s. The
/// first worker's last request ends at 100 s and something.
#[test]
fn gpu_hours_by_hand() {
    let spec = scheduled(1, &[(0, 1), (10, 2), (40, 1)], 5);
    let requests = [request(0, 2), request(29, 2), request(30, 31), request(98, 3)];
    let (outcome, rows) = simulate(&spec, PolicySpec::RoundRobin, &requests);
    let workers: Vec<u32> = rows.iter().map(|row| row.worker.unwrap().0).collect();
    assert_eq!(workers, [0, 0, 1, 0]);
    // Its dispatch takes 1 ms, its prefill 10 ms, its other 30 tokens 30 s.
    assert_eq!(rows[2].end, at(60) + Span::from_ms(11));
    let end = rows[3].end;
    assert_eq!(end, at(100) + Span::from_ms(11));
    let gpu_time = outcome.gpu_time().unwrap();
    let ms = |ns: u128| ns / 1_000_000;
    assert_eq!(ms(gpu_time.starting), 2 * 5_000);
    // The front end hears of the end of the drain after 1 ms.
    assert_eq!(ms(gpu_time.draining), 2 * 20_012);
    assert_eq!(ms(gpu_time.ready), 2 * (100_011 + 25_000));
    let hours = 2.0 * (5.0 + 20.012 + 100.011 + 25.0) / 3600.0;
    let summary = summary(&spec, &outcome);
    assert!((summary.gpu_hours - hours).abs() < 1e-9, "{}", summary.gpu_hours);
    let figures = summary.scaling.unwrap();
    assert_eq!((figures.ups, figures.downs, figures.started, figures.arrived), (1, 1, 1, 1));
    assert_eq!(figures.ready_range, (1, 2));
}

/// A worker that was gone in between has forgotten what it had cached; the other one has not.
#[test]
fn who_comes_back_has_an_empty_cache() {
    for policy in [PolicySpec::RoundRobin, PolicySpec::Kv(KvRouterConfig::default())] {
        let spec = scheduled(2, &[(0, 2), (10, 1), (20, 2)], 0);
        // Two at a time, so that the KV router uses both workers too.
        let times = [0, 0, 5, 5, 25, 25];
        let requests = times.map(|secs| request(secs, 1));
        let (_, rows) = simulate(&spec, policy, &requests);
        let on = |worker: u32, secs: u64| {
            let found =
                rows.iter().find(|row| row.worker.unwrap().0 == worker && row.arrival == at(secs));
            found.map(|row| row.reused_tokens)
        };
        assert!(rows.iter().all(|row| row.status == Status::Completed));
        if policy == PolicySpec::RoundRobin {
            assert_eq!([on(0, 0), on(1, 0)], [Some(0); 2]);
            assert_eq!([on(0, 5), on(1, 5)], [Some(960); 2]);
            assert_eq!([on(0, 25), on(1, 25)], [Some(960), Some(0)]);
        } else {
            // What the index still knows decides: nobody else has anything.
            assert_eq!(on(0, 25), Some(960));
        }
    }
}

/// Ten equal requests for two tokens arrive at once; the batch holds eight.
#[test]
fn the_planner_sees_what_workers_report() {
    let requests = [0; 10].map(|secs| request(secs, 2));
    let (outcome, _) = simulate(&scheduled(1, &[(0, 1)], 0), PolicySpec::Random, &requests);
    let ticks = &outcome.scaled.as_ref().unwrap().ticks;
    let (first, second) = (ticks[0], ticks[1]);
    assert_eq!((first.at, first.running, first.queued, first.waiting), (at(1), 8, 2, 0));
    // Each of them has its prompt and one token.
    assert_eq!(first.kv_tokens, 8 * 1025);
    let traffic = first.window.traffic;
    assert_eq!((traffic.requests, traffic.prompt_tokens), (10, 10 * 1024));
    // The first one computes what the others reuse: 15 blocks, since the last token is always computed.
    assert_eq!((traffic.prefilled_tokens, traffic.cached_tokens), (8 * 1024, 7 * 960));
    assert_eq!((traffic.first_tokens, traffic.completed), (8, 0));
    let ms = |ns: u128| ns / 1_000_000;
    assert_eq!(ms(traffic.ttft_ns), 8 * 11);
    // A second later they have ended, and the other two are in their only pass with two tokens to come out.
    let traffic = second.window.traffic;
    assert_eq!((second.running, second.queued), (2, 0));
    assert_eq!((traffic.requests, traffic.first_tokens), (0, 2));
    assert_eq!((traffic.completed, traffic.output_tokens, traffic.gaps), (8, 16, 8));
    assert_eq!(ms(traffic.itl_ns), 8 * 1000);
}

/// Requests wait until somebody is there.
#[test]
fn a_cold_fleet_serves_when_it_is_ready() {
    let mut spec = scheduled(1, &[(0, 1)], 30);
    spec.scaling.as_mut().unwrap().cold_start = true;
    let (outcome, rows) = simulate(&spec, PolicySpec::LeastLoaded, &[request(3, 1), request(5, 1)]);
    assert!(rows.iter().all(|row| row.first_token == Some(at(30) + Span::from_ms(11))));
    let scaled = outcome.scaled.as_ref().unwrap();
    assert_eq!(scaled.ticks[9].waiting, 2);
    assert_eq!(scaled.ticks[9].counts.starting, 1);
}

/// A Planner that holds the number of workers changes no result, and no cost, of a fleet of that size.
#[test]
fn a_fixed_planner_is_a_fixed_fleet() {
    let mut compared = 0;
    for seed in seeds(60) {
        let mut case = Case::new(seed);
        case.spec.pools.truncate(1);
        // Random latencies are drawn per report, and a Planner gets more of them.
        case.spec.control_plane.feedback.mean_extra = Span::ZERO;
        let workers = case.spec.pools[0].workers.min(5);
        case.spec.pools[0].workers = workers;
        let (expected, _) = simulate(&case.spec, case.policy, &case.requests);
        let plain = summary(&case.spec, &expected);
        let mut spec = case.spec.clone();
        spec.pools[0].workers = workers + 3;
        let mut rng = stream(seed, 3);
        let mut scaling = scaling(&mut rng, workers + 3, &spec.pools[0].engine);
        scaling.planner.policy = timed(ScalingSpec::Fixed(workers), Span::from_ms(300));
        scaling.planner.floor = None;
        scaling.planner.initial = workers;
        scaling.lifecycle.gpus_per_worker = spec.pools[0].gpus_per_worker;
        scaling.lifecycle.warm = 0;
        scaling.cold_start = false;
        spec.scaling = Some(scaling);
        let (outcome, _) = simulate(&spec, case.policy, &case.requests);
        assert_eq!(outcome.digest, expected.digest, "FLEETSIM_SEED={seed} {case:?}");
        let found = summary(&spec, &outcome);
        assert!((found.gpu_hours - plain.gpu_hours).abs() < 1e-12, "FLEETSIM_SEED={seed}");
        assert_eq!(found.load.map(|load| load.worker_max), plain.load.map(|load| load.worker_max));
        compared += 1;
    }
    assert!(std::env::var_os("FLEETSIM_SEED").is_some() || compared == 60);
}

/// Requests that arrive evenly, four tokens each: the fluid limit. With b in a batch and passes of 1.01 s a worker gives b
/// tokens per pass, so that 8 / (4 x 1.01 s) requests per second are what a full one sustains.
#[test]
fn even_traffic_gets_the_computed_fleet() {
    for rate in [1_u64, 5, 11, 21] {
        let mut spec = scheduled(1, &[(0, 1)], 1);
        let long = Targets { ttft: Span::from_secs(30), itl: Span::from_secs(2) };
        let config = ThroughputConfig::default().with_predictor(PredictorSpec::Last);
        let scaling = spec.scaling.as_mut().unwrap();
        scaling.planner.policy = timed(ScalingSpec::Throughput(config, long), Span::from_secs(10));
        scaling.planner.limits = Limits::new(1, 40, 2, None, None).unwrap();
        (scaling.lifecycle.workers_max, spec.pools[0].workers) = (40, 40);
        let even = |number| Request {
            arrival: Time::from_ns(1 + number * 1_000_000_000 / rate),
            ..request(0, 4)
        };
        let requests: Vec<Request> = (0..900 * rate).map(even).collect();
        let (outcome, rows) = simulate(&spec, PolicySpec::LeastLoaded, &requests);
        let computed = (rate as f64 * 4.0 * 1.01 / 8.0).ceil() as u32;
        let targets: Vec<u32> =
            outcome.scaled.unwrap().ticks.iter().map(|tick| tick.decision.target).collect();
        let settled = &targets[5..89];
        assert!(settled.iter().all(|&target| target == computed), "{rate}/s: {targets:?}");
        // The fleet keeps up: what piled up at the start has gone, and nothing does again.
        let waits = rows.iter().filter(|row| row.arrival > at(600));
        let longest = waits.map(|row| row.admitted.unwrap().since(row.arrival)).max().unwrap();
        assert!(longest < Span::from_secs(5), "{rate}/s: {longest}");
    }
}
