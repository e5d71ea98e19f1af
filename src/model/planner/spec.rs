//! Planners as data, and the one place that builds them.

use crate::kernel::time::Span;
use crate::model::engine::EngineConfig;
use crate::model::planner::predict::Foresight;
use crate::model::planner::{
    Basis, CapacityModel, EngineModel, Fixed, HpaMetric, Limits, LoadConfig, LoadPolicy,
    LoadTarget, Planner, PlannerConfig, QueueLength, Role, ScalingPolicy, Schedule, ScheduleEntry,
    StabiliserConfig, TargetUtilisation, Targets, ThroughputConfig, ThroughputPolicy, Timed,
    WhilePending,
};

/// That a Planner comes too late for the traffic, which may be known before a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Late {
    /// It looks for the first time when the last request has arrived.
    Look,
    /// A start-up lasts until then, or longer.
    Startups,
}

/// Which policy, with its parameters.
#[derive(Clone, PartialEq, Debug)]
pub enum ScalingSpec {
    /// [`ThroughputPolicy`], for workers that are to keep these targets.
    Throughput(ThroughputConfig, Targets),
    /// [`LoadPolicy`]
    Load(LoadConfig),
    /// [`TargetUtilisation`]
    Utilisation {
        /// Of what.
        metric: HpaMetric,
        /// The mean load to keep, above 0.
        target: f64,
        /// What keeps it calm.
        stabiliser: StabiliserConfig,
    },
    /// [`QueueLength`]
    Queue {
        /// Waiting requests per worker, above 0.
        per_worker: f64,
        /// What keeps it calm.
        stabiliser: StabiliserConfig,
    },
    /// [`Fixed`]
    Fixed(u32),
    /// [`Schedule`]
    Schedule {
        /// At least one.
        entries: Vec<ScheduleEntry>,
        /// After which it starts anew, above zero.
        period: Option<Span>,
    },
}

impl ScalingSpec {
    /// The policy, for workers with this engine.
    fn build(&self, engine: &EngineConfig) -> Box<dyn ScalingPolicy> {
        let engine = || EngineModel::new(engine);
        match self {
            ScalingSpec::Throughput(config, targets) => {
                let capacity = CapacityModel::new(engine(), Role::Aggregated, *targets);
                Box::new(ThroughputPolicy::new(config, capacity))
            }
            ScalingSpec::Load(config) => Box::new(LoadPolicy::new(*config, engine())),
            ScalingSpec::Utilisation { metric, target, stabiliser } => {
                Box::new(TargetUtilisation::new(*metric, *target, *stabiliser))
            }
            ScalingSpec::Queue { per_worker, stabiliser } => {
                Box::new(QueueLength::new(*per_worker, *stabiliser))
            }
            ScalingSpec::Fixed(workers) => Box::new(Fixed::new(*workers)),
            ScalingSpec::Schedule { entries, period } => {
                Box::new(Schedule::new(entries.clone(), *period))
            }
        }
    }
}

/// A policy and when it looks.
#[derive(Clone, PartialEq, Debug)]
pub struct TimedSpec {
    /// The policy.
    pub policy: ScalingSpec,
    /// How often it looks, above zero.
    pub interval: Span,
    /// How far back it looks: rounded up to whole intervals, at least one.
    pub window: Span,
    /// What it does while an earlier action is pending.
    pub while_pending: WhilePending,
}

/// A Planner.
#[derive(Clone, PartialEq, Debug)]
pub struct PlannerSpec {
    /// What reports call it.
    pub name: &'static str,
    /// The policy that decides.
    pub policy: TimedSpec,
    /// A slow policy that sets a lower bound for it.
    pub floor: Option<TimedSpec>,
    /// What no decision leaves.
    pub limits: Limits,
    /// Whether decisions are only written down.
    pub advisory: bool,
    /// Workers asked for at the start.
    pub initial: u32,
}

impl PlannerSpec {
    /// Whether a policy looks at single passes, so that workers have to report each.
    pub fn reads_passes(&self) -> bool {
        let mut policies = std::iter::once(&self.policy).chain(&self.floor);
        policies.any(|policy| match &policy.policy {
            ScalingSpec::Load(config) => {
                matches!(config.target, LoadTarget::Sla { basis: Basis::Passes, .. })
            }
            _ => false,
        })
    }

    /// When it looks for the first time.
    pub fn first_look(&self) -> Span {
        let floor = self.floor.as_ref().map_or(Span::FOREVER, |floor| floor.interval);
        self.policy.interval.min(floor)
    }

    /// The interval of a policy that is to know the future, if there is one.
    pub fn foresight_interval(&self) -> Option<Span> {
        let mut policies = std::iter::once(&self.policy).chain(&self.floor);
        let is_oracle = |policy: &&TimedSpec| match &policy.policy {
            ScalingSpec::Throughput(config, _) => config.is_oracle(),
            _ => false,
        };
        policies.find(is_oracle).map(|policy| policy.interval)
    }

    /// Tells that policy what is to come.
    pub fn foresee(&mut self, foresight: &Foresight) {
        for policy in std::iter::once(&mut self.policy).chain(&mut self.floor) {
            if let ScalingSpec::Throughput(config, _) = &mut policy.policy
                && config.is_oracle()
            {
                config.foresee(foresight.clone());
            }
        }
    }

    /// The Planner before its first tick, for workers with this engine.
    pub fn build(&self, engine: &EngineConfig) -> Planner {
        let timed = |spec: &TimedSpec| {
            let policy = spec.policy.build(engine);
            Timed::new(policy, spec.interval, spec.window, spec.while_pending)
        };
        Planner::new(PlannerConfig {
            policy: timed(&self.policy),
            floor: self.floor.as_ref().map(timed),
            limits: self.limits,
            advisory: self.advisory,
            initial: self.initial,
        })
    }
}
