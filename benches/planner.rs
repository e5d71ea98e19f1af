//! What a tick of the Planner costs, and what a change of the fleet costs.

use std::cell::LazyCell;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use fleetsim::io::config::Loaded;
use fleetsim::kernel::rng::stream;
use fleetsim::kernel::time::{Span, Time};
use fleetsim::model::lifecycle::{Counts, Lifecycle, LifecycleSpec, Startup, Victims};
use fleetsim::model::planner::predict::{HoltWintersConfig, KalmanConfig, PredictorSpec};
use fleetsim::model::planner::{
    Basis, CapacityModel, Decision, EngineModel, HpaMetric, Limits, LoadConfig, LoadPolicy,
    LoadTarget, Planner, PlannerConfig, Reason, Reports, Role, ScalingPolicy, StabiliserConfig,
    TargetUtilisation, Targets, Thresholds, ThroughputConfig, ThroughputPolicy, Timed, Traffic,
    UsualPass, WhilePending, WorkerLoad,
};
use rand::RngExt;

const WORKERS: u32 = 4096;
const INTERVAL: Span = Span::from_secs(5);
const USUAL: UsualPass =
    UsualPass { chunk: 3000.0, context: 4100, prefill_share: 0.4, prefill_tokens: 3500 };

/// The engine of the default configuration.
fn engine() -> EngineModel {
    engine_with(&[])
}

/// An engine whose passes come from tables of measured ones.
fn measured_engine() -> EngineModel {
    engine_with(&["engine.model=qwen3-32b", "engine.gpu=h200_sxm", "engine.tp=2"])
}

fn engine_with(settings: &[&str]) -> EngineModel {
    let settings: Vec<_> =
        settings.iter().map(|&setting| (setting.to_owned(), setting.to_owned())).collect();
    let loaded = Loaded::load(None, &settings).expect("it is good");
    EngineModel::new(&loaded.resolve().expect("it is good").fleet.pools[0].engine)
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
    /// Whether all ticks see requests of the same shape.
    steady: bool,
}

impl Rig {
    fn new(policy: Box<dyn ScalingPolicy>, loads: Vec<WorkerLoad>) -> Rig {
        let policy = Timed::new(policy, INTERVAL, INTERVAL, WhilePending::Act);
        let limits = Limits::new(WORKERS, WORKERS, 1, None, None).expect("it holds");
        let config =
            PlannerConfig { policy, floor: None, limits, advisory: false, initial: WORKERS };
        Rig { planner: Planner::new(config), loads, now: Time::ZERO, steady: false }
    }

    fn tick(&mut self) -> Decision {
        self.now = self.planner.next_tick(self.now);
        // Traffic grows from tick to tick, so that no estimate of a capacity is used twice.
        let requests = self.now.as_ns() / 10_000_000;
        let growth = if self.steady { 0 } else { (requests / 1000) * (requests / 1000) };
        let traffic = Traffic {
            requests,
            prompt_tokens: requests * 4000 + growth,
            completed: requests,
            output_tokens: requests * 200,
            first_tokens: requests,
            prefilled_tokens: requests * 4000,
            cached_tokens: requests * 1000,
            ..Traffic::default()
        };
        let counts = Counts { ready: self.loads.len() as u32, ..Counts::default() };
        self.planner.tick(&Reports {
            now: self.now,
            traffic,
            counts,
            waiting: 0,
            loads: &self.loads,
            usual_pass: Some(USUAL),
        })
    }
}

fn load_policy(target: LoadTarget) -> Box<dyn ScalingPolicy> {
    load_policy_for(engine(), target)
}

fn load_policy_for(engine: EngineModel, target: LoadTarget) -> Box<dyn ScalingPolicy> {
    let role = Role::Aggregated;
    let config = LoadConfig { role, target, up: 1, down: 1, context_length: 131_072 };
    Box::new(LoadPolicy::new(config, engine))
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

/// Fleets and targets that the extremes of all loads do not decide: each one has to be told from a slightly different one
/// with another verdict.
mod corners {
    use super::{
        Basis, EngineModel, LoadTarget, Reason, Rig, RngExt, Span, Targets, WORKERS, WorkerLoad,
        load_policy_for, stream,
    };

    /// No target.
    const LAX: Span = Span::from_secs(1_000_000);

    /// How the loads of a fleet hang together.
    #[derive(Clone, Copy, PartialEq, Debug)]
    pub(crate) enum Fleet {
        /// Independent of one another.
        Random,
        /// The longer the queue, the smaller the batch and its KV; for the ITL, the more requests, the less KV.
        Opposed,
        /// As before, but all are within 1 % of what makes their estimates the same.
        Level,
        /// The same, within a token of it.
        Tied,
    }

    /// What decides.
    #[derive(Clone, Copy, PartialEq, Debug)]
    pub(crate) enum Critical {
        Ttft,
        Itl,
    }

    /// A fleet under a target that decides.
    #[derive(Clone, Debug)]
    pub(crate) struct Corner {
        pub(crate) engine: EngineModel,
        pub(crate) fleet: Fleet,
        pub(crate) critical: Critical,
        pub(crate) basis: Basis,
        /// Whether the question is whether all are too slow, or whether all would fit a smaller fleet.
        pub(crate) up: bool,
    }

    impl Corner {
        pub(crate) fn all(engine: &EngineModel) -> Vec<Corner> {
            let mut all = Vec::new();
            for up in [true, false] {
                for critical in [Critical::Ttft, Critical::Itl] {
                    for fleet in [Fleet::Random, Fleet::Opposed, Fleet::Level, Fleet::Tied] {
                        for basis in [Basis::Requests, Basis::Passes] {
                            let engine = engine.clone();
                            all.push(Corner { engine, fleet, critical, basis, up });
                        }
                    }
                }
            }
            // One kind is enough of what is hardly ever there.
            let kept = (Critical::Ttft, Basis::Requests);
            all.retain(|corner| {
                corner.fleet != Fleet::Tied || (corner.critical, corner.basis) == kept
            });
            all
        }

        pub(crate) fn name(&self) -> String {
            let Corner { fleet, critical, basis, up, .. } = self;
            let verdict = if *up { "up" } else { "down" };
            format!("{verdict}_{critical:?}_{fleet:?}_{basis:?}").to_lowercase()
        }

        pub(crate) fn rig(&self, target: Span, loads: Vec<WorkerLoad>) -> Rig {
            let targets = match self.critical {
                Critical::Ttft => Targets { ttft: target, itl: LAX },
                Critical::Itl => Targets { ttft: LAX, itl: target },
            };
            self.rig_for(targets, loads)
        }

        fn rig_for(&self, targets: Targets, loads: Vec<WorkerLoad>) -> Rig {
            let target = LoadTarget::Sla { targets, sensitivity: 0.8, basis: self.basis };
            let policy = load_policy_for(self.engine.clone(), target);
            Rig { steady: true, ..Rig::new(policy, loads) }
        }

        /// Both latencies have to be looked at on all workers: one worker keeps the TTFT but none the ITL, or all fit by a ns of
        /// each.
        pub(crate) fn both(&self, edge: Span, loads: Vec<WorkerLoad>) -> Rig {
            let itl = Corner { critical: Critical::Itl, ..self.clone() };
            let (ttft, loads) =
                if self.up { self.one_at_the_end(edge, loads) } else { (edge, loads) };
            let itl = itl.edge(&loads);
            self.rig_for(Targets { ttft, itl }, loads)
        }

        /// Whether a fleet is told to grow, or would be told to shrink, under a target.
        fn holds(&self, rig: &mut Rig) -> bool {
            match rig.tick().reason {
                Reason::AllAbove { .. } => self.up,
                Reason::Respread { .. } => !self.up,
                _ => false,
            }
        }

        /// The last target under which all workers are too slow, or the first one under which all fit.
        pub(crate) fn edge(&self, loads: &[WorkerLoad]) -> Span {
            // It holds below the edge when all are to be above.
            let (mut low, mut high) = (0, 1 << 45);
            while high - low > 1 {
                let target = u64::midpoint(low, high);
                let holds = self.holds(&mut self.rig(Span::from_ns(target), loads.to_vec()));
                if holds == self.up { low = target } else { high = target }
            }
            Span::from_ns(if self.up { low } else { high })
        }

        pub(crate) fn loads(&self) -> Vec<WorkerLoad> {
            let mut rng = stream(3, 0);
            let kv_max = 0.5 * self.engine.pool_tokens().min(1_000_000) as f64;
            let queue_max = if self.up { 400_000.0 } else { 40_000.0 };
            let mut load = || {
                let mut share = || rng.random_range(0.0..1.0);
                let (queue, batch, kv) = match (self.fleet, self.critical) {
                    (Fleet::Random, _) => (share(), share(), share()),
                    (_, Critical::Ttft) => {
                        let share = share();
                        (1.0 - share, share, share)
                    }
                    (_, Critical::Itl) => {
                        let share = share();
                        (0.5, share, 1.0 - share)
                    }
                };
                WorkerLoad {
                    running: 1 + (batch * 200.0) as u32,
                    queued: 1,
                    queued_prefill_tokens: (queue * queue_max) as u64,
                    scheduled_kv_tokens: 1000 + (kv * kv_max) as u64,
                    queued_kv_tokens: 0,
                }
            };
            let loads = (0..WORKERS).map(|_| load()).collect();
            match self.fleet {
                Fleet::Random | Fleet::Opposed => loads,
                Fleet::Level => self.level(loads, kv_max, 0.01),
                Fleet::Tied => self.level(loads, kv_max, 0.0),
            }
        }

        /// The same batches, with as much more to do as brings their estimates together.
        fn level(&self, mut loads: Vec<WorkerLoad>, kv_max: f64, off: f64) -> Vec<WorkerLoad> {
            let mut rng = stream(4, 0);
            let heavy = WorkerLoad {
                running: 200,
                queued_prefill_tokens: 20_000,
                scheduled_kv_tokens: kv_max as u64,
                ..WorkerLoad::default()
            };
            // A re-spread adds as much as in the whole fleet.
            let target = self.edge(&vec![heavy; WORKERS as usize]);
            let mut rig = self.rig(target, vec![heavy; WORKERS as usize]);
            for load in &mut loads {
                let (mut low, mut high) = (0, 1 << 24);
                while high - low > 1 {
                    let tokens = u64::midpoint(low, high);
                    match self.critical {
                        Critical::Ttft => load.queued_prefill_tokens = tokens,
                        Critical::Itl => load.scheduled_kv_tokens = tokens,
                    }
                    rig.loads.fill(*load);
                    // The first that is too slow, the last that fits.
                    if self.holds(&mut rig) == self.up { high = tokens } else { low = tokens }
                }
                let off = off * rng.random_range(0.0..1.0);
                let tokens = if self.up {
                    (high as f64 * (1.0 + off)) as u64
                } else {
                    (low as f64 * (1.0 - off)) as u64
                };
                match self.critical {
                    Critical::Ttft => load.queued_prefill_tokens = tokens,
                    Critical::Itl => load.scheduled_kv_tokens = tokens,
                }
            }
            loads
        }

        /// A target under which one worker decides otherwise, and the fleet with that one at the end.
        pub(crate) fn one_at_the_end(
            &self,
            edge: Span,
            mut loads: Vec<WorkerLoad>,
        ) -> (Span, Vec<WorkerLoad>) {
            let target = Span::from_ns(if self.up { edge.as_ns() + 1 } else { edge.as_ns() - 1 });
            let mut rig = self.rig(target, loads.clone());
            assert!(!self.holds(&mut rig));
            let last = loads.len() - 1;
            let place = if self.up {
                let decides = |load: &WorkerLoad| {
                    rig.loads = vec![*load; 2];
                    !self.holds(&mut rig)
                };
                loads.iter().position(decides).expect("there is one")
            } else {
                match rig.tick().reason {
                    Reason::RespreadRefused { place } => place,
                    other => panic!("{other}"),
                }
            };
            loads.swap(place, last);
            (target, loads)
        }
    }
}

fn corner_ticks(criterion: &mut Criterion) {
    for (name, engine) in [("formula", engine()), ("measured", measured_engine())] {
        let mut group = criterion.benchmark_group(format!("planner_corner_4096_{name}"));
        for corner in corners::Corner::all(&engine) {
            // Only for what is measured, as it takes its time.
            let fleet = LazyCell::new(|| {
                let loads = corner.loads();
                (corner.edge(&loads), loads)
            });
            let mut rig = None;
            group.bench_function(corner.name(), |bencher| {
                let rig = rig.get_or_insert_with(|| corner.rig(fleet.0, fleet.1.clone()));
                bencher.iter(|| rig.tick());
            });
            let mut rig = None;
            group.bench_function(corner.name() + "_but_one", |bencher| {
                let rig = rig.get_or_insert_with(|| {
                    let (target, loads) = corner.one_at_the_end(fleet.0, fleet.1.clone());
                    corner.rig(target, loads)
                });
                bencher.iter(|| rig.tick());
            });
            if corner.critical == corners::Critical::Ttft {
                let mut rig = None;
                group.bench_function(corner.name().replace("ttft", "both"), |bencher| {
                    let rig = rig.get_or_insert_with(|| corner.both(fleet.0, fleet.1.clone()));
                    bencher.iter(|| rig.tick());
                });
            }
        }
        group.finish();
    }
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
    Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .sample_size(20)
}

criterion_group! { name = benches; config = config(); targets = ticks, corner_ticks, scaling }
criterion_main!(benches);
