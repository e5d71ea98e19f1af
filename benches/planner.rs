//! What a tick of the Planner costs, and what a change of the fleet costs.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use fleetsim::io::config::Loaded;
use fleetsim::kernel::rng::stream;
use fleetsim::kernel::time::{Span, Time};
use fleetsim::model::lifecycle::{Counts, Lifecycle, LifecycleSpec, Startup, Victims};
use fleetsim::model::planner::predict::{HoltWintersConfig, KalmanConfig, PredictorSpec};
use fleetsim::model::planner::{
    Basis, CapacityModel, EngineModel, HpaMetric, Limits, LoadConfig, LoadPolicy, LoadTarget,
    Planner, PlannerConfig, Reports, Role, ScalingPolicy, StabiliserConfig, Step,
    TargetUtilisation, Targets, Thresholds, ThroughputConfig, ThroughputPolicy, Timed, Traffic,
    WhilePending, WorkerLoad,
};
use rand::RngExt;

const WORKERS: u32 = 4096;
const INTERVAL: Span = Span::from_secs(5);

/// The engine of the default configuration.
fn engine() -> EngineModel {
    let job = Loaded::load(None, &[]).expect("the default").resolve().expect("the default");
    EngineModel::new(&job.fleet.pools[0].engine)
}

/// Workers with between nothing and so much to do.
fn loads(queued_max: u64, kv_max: u64) -> Vec<WorkerLoad> {
    let mut rng = stream(1, 0);
    let mut load = || WorkerLoad {
        running: rng.random_range(1..64),
        queued: rng.random_range(0..8),
        queued_prefill_tokens: queued_max / 2 + rng.random_range(0..=queued_max / 2),
        scheduled_kv_tokens: rng.random_range(0..=kv_max),
        queued_kv_tokens: 0,
    };
    (0..WORKERS).map(|_| load()).collect()
}

/// A Planner, and the loads that it sees at every tick.
struct Rig {
    planner: Planner,
    loads: Vec<WorkerLoad>,
    now: Time,
}

impl Rig {
    fn new(policy: Box<dyn ScalingPolicy>, loads: Vec<WorkerLoad>) -> Rig {
        let policy = Timed::new(policy, INTERVAL, INTERVAL, WhilePending::Act);
        let limits = Limits::new(WORKERS, WORKERS, 1, None, None).expect("it holds");
        let config =
            PlannerConfig { policy, floor: None, limits, advisory: false, initial: WORKERS };
        Rig { planner: Planner::new(config), loads, now: Time::ZERO }
    }

    fn tick(&mut self) -> u32 {
        self.now = self.planner.next_tick(self.now);
        // Traffic grows from tick to tick, so that no estimate of a capacity is used twice.
        let requests = self.now.as_ns() / 10_000_000;
        let traffic = Traffic {
            requests,
            prompt_tokens: requests * 4000 + (requests / 1000) * (requests / 1000),
            completed: requests,
            output_tokens: requests * 200,
            first_tokens: requests,
            prefilled_tokens: requests * 4000,
            cached_tokens: requests * 1000,
            ..Traffic::default()
        };
        let counts = Counts { ready: WORKERS, ..Counts::default() };
        self.planner
            .tick(&Reports {
                now: self.now,
                traffic,
                counts,
                waiting: 0,
                loads: &self.loads,
                usual_pass: None,
            })
            .target
    }
}

fn load_policy(target: LoadTarget) -> Box<dyn ScalingPolicy> {
    let step = Step::Workers(1);
    let role = Role::Aggregated;
    let config = LoadConfig { role, target, up: step, down: step, context_length: 131_072 };
    Box::new(LoadPolicy::new(config, engine()))
}

fn ticks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("planner_tick_4096");
    let targets = Targets { ttft: Span::from_secs(2), itl: Span::from_ms(500) };
    let sla = LoadTarget::Sla { targets, sensitivity: 0.8, basis: Basis::Requests };
    let thresholds = LoadTarget::Thresholds(Thresholds { up: 1.0, down: 0.6 });
    let hpa = || {
        let metric = HpaMetric::Batch { max_num_seqs: 256 };
        Box::new(TargetUtilisation::new(metric, 0.5, StabiliserConfig::default()))
    };
    let cases: [(&str, Box<dyn ScalingPolicy>, Vec<WorkerLoad>); 5] = [
        // Every worker is looked at for TTFT: all are too slow.
        ("load_sla_up", load_policy(sla), loads(2_000_000, 100_000)),
        // Every worker is looked at for TTFT and ITL, with a queue: a smaller fleet would do.
        ("load_sla_down", load_policy(sla), loads(8_000, 100_000)),
        ("load_sla_idle", load_policy(sla), loads(0, 100_000)),
        ("load_thresholds", load_policy(thresholds), loads(1000, 100_000)),
        ("hpa", hpa(), loads(1000, 100_000)),
    ];
    for (name, policy, loads) in cases {
        let mut rig = Rig::new(policy, loads);
        group.bench_function(name, |bencher| bencher.iter(|| rig.tick()));
    }
    let predictors = [
        ("arima", PredictorSpec::Arima),
        ("kalman", PredictorSpec::Kalman(KalmanConfig::default())),
        ("holt_winters", PredictorSpec::HoltWinters(HoltWintersConfig::with_period(288))),
    ];
    for (name, predictor) in predictors {
        let config = ThroughputConfig::default().with_predictor(predictor);
        let capacity = CapacityModel::new(engine(), Role::Aggregated, Targets::default());
        let policy = Box::new(ThroughputPolicy::new(&config, capacity));
        let mut rig = Rig::new(policy, loads(1000, 100_000));
        let name = format!("throughput_{name}");
        group.bench_function(name, |bencher| bencher.iter(|| rig.tick()));
    }
    group.finish();
}

/// Two workers more, two workers fewer, among 4,096.
fn scaling(criterion: &mut Criterion) {
    let spec = LifecycleSpec {
        workers_max: WORKERS + 100,
        gpus_per_worker: 1,
        startup: Startup::constant(Span::from_secs(1)),
        warm: 4,
        starting_max: Some(8),
        gpus_max: None,
        victims: Victims::LeastLoaded,
    };
    let mut lifecycle = Lifecycle::new(spec, WORKERS, stream(2, 0));
    let mut now = Time::ZERO;
    criterion.bench_function("lifecycle_4096_up_and_down", |bencher| {
        bencher.iter(|| {
            now += Span::from_secs(2);
            lifecycle.aim(now, WORKERS + 2, |_| 0);
            now += Span::from_secs(2);
            lifecycle.advance(now);
            lifecycle.aim(now, WORKERS, |worker| u64::from(worker.0 % 7));
            for change in lifecycle.take_changes() {
                if change.to == fleetsim::model::lifecycle::State::Draining {
                    lifecycle.drained(now, change.worker);
                }
            }
            lifecycle.take_changes().len()
        });
    });
}

fn config() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(1)).sample_size(20)
}

criterion_group! { name = benches; config = config(); targets = ticks, scaling }
criterion_main!(benches);
