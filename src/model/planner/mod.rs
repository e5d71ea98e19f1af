//! The Planner: how many workers a fleet should have.
//!
//! A [`Planner`] looks at what has reached it at fixed times and says how many workers there should be. It holds one or
//! two [`ScalingPolicy`]s: with two, the slow one sets a lower bound and the fast one moves above it, as in the reference
//! peer. What it asks for is carried out by [`crate::model::lifecycle::Lifecycle`], in its own time.
//!
//! ```text
//!   Reports --> Planner --> windows, intervals --> ScalingPolicy --> Proposal
//!                  |                                                    |
//!              Decision <-- advice only? <-- limits, GPU budget <-- lower bound
//! ```

mod baseline;
mod capacity;
mod decision;
mod limits;
mod load;
mod observation;
mod passes;
pub mod predict;
mod spec;
mod stabiliser;
#[cfg(test)]
mod testing;
mod throughput;
mod tick;

pub use baseline::{Fixed, HpaMetric, QueueLength, Schedule, ScheduleEntry, TargetUtilisation};
pub use capacity::{Capacity, CapacityModel, EngineModel, HIT_RATE_MAX, Role, Shape, Targets};
pub use decision::{Decision, Figures, Latency, Limit, Missing, Proposal, Reason};
pub use limits::{Limits, LimitsError};
pub use load::{Basis, LoadConfig, LoadPolicy, LoadTarget, Thresholds};
pub use observation::{Observation, Reports, Traffic, Window, WorkerLoad};
pub use passes::{PassLoad, RecentPasses, UsualPass};
pub use spec::{Late, PlannerSpec, ScalingSpec, TimedSpec};
pub use stabiliser::{Stabiliser, StabiliserConfig};
pub use throughput::{ThroughputConfig, ThroughputPolicy};
pub use tick::{Planner, PlannerConfig, Timed, WhilePending};

use std::fmt::Debug;

/// A way to choose the number of workers.
///
/// It sees what has reached the Planner ([`Observation`]), and nothing of the requests to come, but for the oracle among
/// the predictors. The same observations in the same order give the same proposals.
pub trait ScalingPolicy: Send + Debug {
    /// Looks at the fleet, and says how many workers it would like. Called once per interval of the policy.
    fn propose(&mut self, observation: &Observation<'_>) -> Proposal;
}
