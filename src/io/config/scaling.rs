//! `[planner]` and `[lifecycle]`: what their values may be, and what comes of them.

use crate::fleet::{PoolSpec, Scaling};
use crate::io::config::check::{
    COUNT, LONGER_THAN_ZERO, NOT_NEGATIVE, POSITIVE, Ranges, SHARE, Violation, WORKERS,
    WORKERS_MAX, pairs,
};
use crate::io::config::text::{self, Config, Planner, Predictor as Named, ScalingPolicy as Policy};
use crate::kernel::Span;
use crate::model::lifecycle::{LifecycleSpec, StageTime, Startup, Victims};
use crate::model::planner::predict::{HoltWintersConfig, KalmanConfig, PredictorSpec};
use crate::model::planner::{
    Basis, HpaMetric, Limits, LimitsError, LoadConfig, LoadTarget, PlannerSpec, Role, ScalingSpec,
    ScheduleEntry, StabiliserConfig, Targets, Thresholds, ThroughputConfig, TimedSpec,
    WhilePending,
};

/// The shortest time between two looks of the Planner.
const INTERVAL_MIN: Span = Span::from_ms(100);

/// The longest start-up: 26 days.
const STARTUP_MAX: Span = Span::from_secs(26 * 86_400);

/// What a value of one of these keys has to be, in words, if it is narrower than its type.
pub(super) fn range_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "planner.workers_min"
        | "planner.workers_max"
        | "planner.fixed_workers"
        | "planner.step_up"
        | "planner.step_down"
        | "planner.change_max"
        | "lifecycle.starting_max" => WORKERS,
        "planner.gpus_min" | "planner.gpus_max" => COUNT,
        "planner.predictor_window" | "planner.predictor_period" | "planner.predictor_steps" => {
            "a whole number from 1 to 65536"
        }
        "planner.interval" | "planner.throughput_interval" | "planner.load_interval" => {
            "a time of 100 ms or more"
        }
        "planner.ttft"
        | "planner.itl"
        | "planner.pending_limit"
        | "planner.metric_window"
        | "planner.schedule_period"
        | "planner.backlog_clear" => LONGER_THAN_ZERO,
        "planner.load_up" | "planner.hpa_target" | "planner.keda_queue" => POSITIVE,
        "planner.load_down" => NOT_NEGATIVE,
        "planner.sensitivity" => SHARE,
        "planner.schedule" => {
            "pairs of a time in seconds and a number of workers, 1 or more, times rising from 0 to 26 days"
        }
        "lifecycle.startup" => "a time of at most 26 d",
        "lifecycle.startup_sigma" => "a number from 0 to 5",
        "lifecycle.stages" => {
            "a list of parts with a median of at most 26 d together and a sigma from 0 to 5, such as [{ name = \"pull\", median = \"40s\", sigma = 0.5 }]"
        }
        _ => return None,
    })
}

/// Every value by itself.
pub(super) fn ranges(config: &Config, ranges: &mut Ranges) {
    let Config { planner, lifecycle, .. } = config;
    for (key, time) in [
        ("planner.interval", planner.interval.0),
        ("planner.throughput_interval", planner.throughput_interval.0),
        ("planner.load_interval", planner.load_interval.0),
    ] {
        ranges.check(key, format!("\"{time}\""), time >= INTERVAL_MIN);
    }
    let pending = planner.pending_limit.map_or(Span::FOREVER, |limit| limit.0);
    let period = planner.schedule_period.map_or(Span::FOREVER, |period| period.0);
    for (key, time) in [
        ("planner.ttft", planner.ttft.0),
        ("planner.itl", planner.itl.0),
        ("planner.pending_limit", pending),
        ("planner.metric_window", planner.metric_window.map_or(Span::FOREVER, |window| window.0)),
        ("planner.schedule_period", period),
        ("planner.backlog_clear", planner.backlog_clear.map_or(Span::FOREVER, |time| time.0)),
    ] {
        ranges.check(key, format!("\"{time}\""), time > Span::ZERO);
    }
    for (key, count, max) in [
        ("planner.workers_min", planner.workers_min, WORKERS_MAX),
        ("planner.workers_max", planner.workers_max, WORKERS_MAX),
        ("planner.fixed_workers", planner.fixed_workers.unwrap_or(1), WORKERS_MAX),
        ("planner.step_up", planner.step_up, WORKERS_MAX),
        ("planner.step_down", planner.step_down, WORKERS_MAX),
        ("planner.change_max", planner.change_max, WORKERS_MAX),
        ("planner.gpus_min", planner.gpus_min.unwrap_or(1), u64::MAX),
        ("planner.gpus_max", planner.gpus_max.unwrap_or(1), u64::MAX),
        ("planner.predictor_window", planner.predictor_window, 65_536),
        ("planner.predictor_period", planner.predictor_period.unwrap_or(1), 65_536),
        ("planner.predictor_steps", planner.predictor_steps, 65_536),
        ("lifecycle.starting_max", lifecycle.starting_max.unwrap_or(1), WORKERS_MAX),
    ] {
        ranges.count(key, u64::from(count), max);
    }
    ranges.positive("planner.load_up", planner.load_up.unwrap_or(1.0));
    ranges.not_negative("planner.load_down", planner.load_down.unwrap_or(0.0));
    ranges.share("planner.sensitivity", planner.sensitivity);
    ranges.positive("planner.hpa_target", planner.hpa_target);
    ranges.positive("planner.keda_queue", planner.keda_queue);
    let schedule = &planner.schedule;
    let rising = schedule.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let is_right = |&(time, workers): &(f64, u32)| {
        (0.0..=STARTUP_MAX.as_secs()).contains(&time) && workers > 0
    };
    let is_right = rising && schedule.iter().all(is_right);
    ranges.check("planner.schedule", pairs(schedule), is_right);
    let startup = lifecycle.startup.0;
    ranges.check("lifecycle.startup", format!("\"{startup}\""), startup <= STARTUP_MAX);
    let is_sigma = |sigma: f64| (0.0..=5.0).contains(&sigma);
    ranges.number("lifecycle.startup_sigma", lifecycle.startup_sigma, is_sigma);
    let together = lifecycle.stages.iter().fold(Span::ZERO, |sum, stage| {
        Span::from_ns(sum.as_ns().saturating_add(stage.median.0.as_ns()))
    });
    let found = format!("a list of parts that take {together} together");
    ranges.check("lifecycle.stages", found, together <= STARTUP_MAX);
    for stage in &lifecycle.stages {
        let is_right = stage.median.0 <= STARTUP_MAX && is_sigma(stage.sigma);
        let found = format!("one of {} with a sigma of {:?}", stage.median.0, stage.sigma);
        ranges.check("lifecycle.stages", found, is_right);
    }
}

/// How workers come and go in a fleet of these pools, if they do.
pub(super) fn scaling(config: &Config, pools: &[PoolSpec]) -> Result<Option<Scaling>, Violation> {
    let (planner, lifecycle) = (&config.planner, &config.lifecycle);
    let refuse = |key: &str, reason: String| Err(Violation::contradiction(key, reason));
    if planner.policy == Policy::None {
        return Ok(None);
    }
    let (true, [pool]) = (config.pools.is_empty(), pools) else {
        let reason = "is for a fleet of one kind of worker: leave out [pools.NAME], or the planner";
        return refuse("planner.policy", reason.to_owned());
    };
    contradictions(config)?;
    let limits = limits(planner, pool.gpus_per_worker)?;
    let initial = config.fleet.workers;
    let (clamped, limit) = limits.clamp(initial);
    if let Some(limit) = limit {
        let reason = format!(
            "is {initial}, the number of workers at the start, but {limit} in [planner] makes it {clamped}"
        );
        return refuse("fleet.workers", reason);
    }
    let (most, warm) = (limits.most(), lifecycle.warm);
    if warm > most - planner.workers_min {
        let reason = format!(
            "is {warm}, but beside planner.workers_min ({}) there is room for {} of the {most} workers there can be",
            planner.workers_min,
            most - planner.workers_min,
        );
        return refuse("lifecycle.warm", reason);
    }
    let (policy, floor) = policies(config, pool);
    Ok(Some(Scaling {
        planner: PlannerSpec {
            name: name(planner.policy),
            policy,
            floor,
            limits,
            advisory: planner.advisory,
            initial,
        },
        lifecycle: LifecycleSpec {
            workers_max: most,
            gpus_per_worker: pool.gpus_per_worker,
            startup: startup(lifecycle),
            warm,
            starting_max: lifecycle.starting_max,
            gpus_max: planner.gpus_max,
            victims: match lifecycle.victims {
                text::Victims::Newest => Victims::Newest,
                text::Victims::Oldest => Victims::Oldest,
                text::Victims::LeastLoaded => Victims::LeastLoaded,
            },
        },
        cold_start: lifecycle.cold_start,
    }))
}

/// What is right by itself and makes no sense together.
fn contradictions(config: &Config) -> Result<(), Violation> {
    let (planner, lifecycle) = (&config.planner, &config.lifecycle);
    let refuse = |key: &str, reason: &str| Err(Violation::contradiction(key, reason.to_owned()));
    let (has_throughput, has_load) = parts(planner.policy);
    if has_throughput
        && planner.predictor == Named::HoltWinters
        && planner.predictor_period.is_none()
    {
        let reason =
            "is \"holt-winters\", which needs planner.predictor_period, the intervals in a season";
        return refuse("planner.predictor", reason);
    }
    if has_throughput && planner.predictor == Named::Oracle {
        if planner.predictor_log1p {
            let reason = "has nothing to do for the predictor \"oracle\": leave it out";
            return refuse("planner.predictor_log1p", reason);
        }
        if config.workload.concurrency.is_some() {
            let reason = "is \"oracle\", but with workload.concurrency requests arrive when others end, which nobody knows before the run";
            return refuse("planner.predictor", reason);
        }
    }
    if let Some(window) = planner.metric_window
        && has_load
        && window.0 < planner.load_interval.0
    {
        let (window, interval) = (window.0, planner.load_interval.0);
        let reason = format!(
            "is \"{window}\", but has to be planner.load_interval, \"{interval}\", or longer: every look sees at \
             least what came since the one before"
        );
        return refuse("planner.metric_window", &reason);
    }
    if has_load && planner.load_target == text::LoadTarget::Load {
        match (planner.load_up, planner.load_down) {
            (Some(up), Some(down)) if down < up => {}
            (Some(_), Some(_)) => {
                return refuse("planner.load_down", "has to be below planner.load_up");
            }
            _ => {
                let reason = "is \"load\", which needs planner.load_up and planner.load_down";
                return refuse("planner.load_target", reason);
            }
        }
    }
    if planner.policy == Policy::Schedule {
        let Some(&(last, _)) = planner.schedule.last() else {
            return refuse("planner.policy", "is \"schedule\", which needs planner.schedule");
        };
        if planner.schedule_period.is_some_and(|period| last >= period.0.as_secs()) {
            return refuse("planner.schedule", "goes on beyond planner.schedule_period");
        }
    }
    let default = text::Lifecycle::default();
    let is_set = lifecycle.startup != default.startup || lifecycle.startup_sigma > 0.0;
    if !lifecycle.stages.is_empty() && is_set {
        let reason = "take the place of lifecycle.startup and startup_sigma: leave one of them out";
        return refuse("lifecycle.stages", reason);
    }
    Ok(())
}

fn limits(planner: &Planner, gpus_per_worker: u32) -> Result<Limits, Violation> {
    let Planner { workers_min, workers_max, gpus_min, gpus_max, .. } = *planner;
    let limits = Limits::new(workers_min, workers_max, gpus_per_worker, gpus_min, gpus_max);
    limits.map_err(|error| {
        let key = match error {
            LimitsError::NoGpu => "fleet.gpus_per_worker",
            LimitsError::Workers { .. } => "planner.workers_min",
            LimitsError::Budget { .. } => "planner.gpus_max",
            LimitsError::Gpus { .. } | LimitsError::FewWorkers { .. } => "planner.gpus_min",
        };
        Violation::contradiction(key, format!("cannot be kept: {error}"))
    })
}

/// Whether a policy has a throughput-based and a load-based part.
pub(super) fn parts(policy: Policy) -> (bool, bool) {
    let is_both = policy == Policy::Both;
    (is_both || policy == Policy::Throughput, is_both || policy == Policy::Load)
}

fn name(policy: Policy) -> &'static str {
    match policy {
        Policy::None => "none",
        Policy::Throughput => "throughput",
        Policy::Load => "load",
        Policy::Both => "both",
        Policy::Hpa => "hpa",
        Policy::Keda => "keda",
        Policy::Fixed => "fixed",
        Policy::Schedule => "schedule",
    }
}

/// The policy that decides, and the one that sets a lower bound for it.
fn policies(config: &Config, pool: &PoolSpec) -> (TimedSpec, Option<TimedSpec>) {
    let planner = &config.planner;
    let act = WhilePending::Act;
    let stabiliser =
        StabiliserConfig { down_window: planner.down_window.0, ..StabiliserConfig::default() };
    let policy = match planner.policy {
        Policy::Throughput => return (throughput(planner), None),
        Policy::Load => return (load(planner, pool), None),
        Policy::Both => return (load(planner, pool), Some(throughput(planner))),
        Policy::Hpa => ScalingSpec::Utilisation {
            metric: match planner.hpa_metric {
                text::HpaMetric::Kv => HpaMetric::Kv { pool_tokens: pool.engine.pool_tokens() },
                text::HpaMetric::Batch => {
                    HpaMetric::Batch { max_num_seqs: pool.engine.max_num_seqs }
                }
            },
            target: planner.hpa_target,
            stabiliser,
        },
        Policy::Keda => ScalingSpec::Queue { per_worker: planner.keda_queue, stabiliser },
        Policy::None | Policy::Fixed => {
            ScalingSpec::Fixed(planner.fixed_workers.unwrap_or(config.fleet.workers))
        }
        Policy::Schedule => ScalingSpec::Schedule {
            entries: planner
                .schedule
                .iter()
                .map(|&(from, workers)| ScheduleEntry { from: Span::from_secs_f64(from), workers })
                .collect(),
            period: planner.schedule_period.map(|period| period.0),
        },
    };
    let interval = planner.interval.0;
    (TimedSpec { policy, interval, window: interval, while_pending: act }, None)
}

fn throughput(planner: &Planner) -> TimedSpec {
    let config = ThroughputConfig {
        steps: planner.predictor_steps,
        log1p: planner.predictor_log1p,
        change_max: planner.change_max,
        clear: planner.backlog_clear.map(|time| time.0),
        corrects: planner.capacity_correction,
        down_window: planner.throughput_down_window.0,
        ..ThroughputConfig::default()
    }
    .with_predictor(predictor(planner));
    TimedSpec {
        policy: ScalingSpec::Throughput(config, targets(planner)),
        interval: planner.throughput_interval.0,
        window: planner.throughput_interval.0,
        while_pending: WhilePending::Act,
    }
}

fn targets(planner: &Planner) -> Targets {
    Targets { ttft: planner.ttft.0, itl: planner.itl.0 }
}

fn predictor(planner: &Planner) -> PredictorSpec {
    let window = planner.predictor_window as usize;
    match planner.predictor {
        Named::Last => PredictorSpec::Last,
        Named::Average => PredictorSpec::Average(window),
        Named::Trend => PredictorSpec::Trend(window),
        Named::HoltWinters => {
            let period = planner.predictor_period.unwrap_or(1) as usize;
            PredictorSpec::HoltWinters(HoltWintersConfig::with_period(period))
        }
        Named::Kalman => PredictorSpec::Kalman(KalmanConfig::default()),
        Named::Arima => PredictorSpec::Arima,
        Named::Oracle => PredictorSpec::Oracle(None),
    }
}

fn load(planner: &Planner, pool: &PoolSpec) -> TimedSpec {
    let role = Role::Aggregated;
    let target = match planner.load_target {
        text::LoadTarget::Sla => {
            let basis = match planner.load_basis {
                text::LoadBasis::Requests => Basis::Requests,
                text::LoadBasis::Passes => Basis::Passes,
            };
            LoadTarget::Sla { targets: targets(planner), sensitivity: planner.sensitivity, basis }
        }
        text::LoadTarget::Throughput => LoadTarget::Thresholds(Thresholds::throughput(role)),
        text::LoadTarget::Latency => LoadTarget::Thresholds(Thresholds::latency(role)),
        text::LoadTarget::Load => {
            let default = Thresholds::throughput(role);
            LoadTarget::Thresholds(Thresholds {
                up: planner.load_up.unwrap_or(default.up),
                down: planner.load_down.unwrap_or(default.down),
            })
        }
    };
    let config = LoadConfig {
        role,
        target,
        up: planner.step_up,
        down: planner.step_down,
        context_length: pool.engine.pool_tokens(),
    };
    TimedSpec {
        policy: ScalingSpec::Load(config),
        interval: planner.load_interval.0,
        window: planner.metric_window.unwrap_or(planner.load_interval).0,
        while_pending: match planner.while_pending {
            text::WhilePending::Act => WhilePending::Act,
            text::WhilePending::Observe => {
                WhilePending::Observe { limit: planner.pending_limit.map(|limit| limit.0) }
            }
        },
    }
}

fn startup(lifecycle: &text::Lifecycle) -> Startup {
    let time = |median: Span, sigma: f64| {
        if sigma > 0.0 {
            StageTime::Lognormal { median, sigma }
        } else {
            StageTime::Constant(median)
        }
    };
    if lifecycle.stages.is_empty() {
        let time = time(lifecycle.startup.0, lifecycle.startup_sigma);
        return Startup { stages: vec![time] };
    }
    let stages = lifecycle.stages.iter().map(|stage| time(stage.median.0, stage.sigma));
    Startup { stages: stages.collect() }
}
