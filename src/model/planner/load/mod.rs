//! Load-based scaling: more workers when those there are have too much to do, fewer when fewer would do.
//!
//! The reference peer's rules, but for the size of a step, which is one worker there and configurable here. With N ready
//! workers and a step down of k, the load of every worker grows by N / (N - k) if k leave: the *re-spread*.
//!
//! | target | up | down |
//! |---|---|---|
//! | SLA | every worker is above the TTFT target, or every worker above the ITL target | on every worker the re-spread load keeps the TTFT caused by the queue below (target - own time) x sensitivity, the ITL below target x sensitivity, and the KV pool holds it |
//! | thresholds | one worker is above the upper one | every worker is below the lower one, and the re-spread load is not above the upper one |
//!
//! The load that thresholds look at is, for aggregated workers, (scheduled KV + queued KV + queued prompt tokens) / pool;
//! for decode workers the same without prompt tokens; for prefill workers queued prompt tokens / context length. `sla.rs`
//! has the latency estimates, `front.rs` what requests in front of the fleet change.

mod batches;
mod extremes;
mod front;
mod sla;
mod ttft;

use crate::model::planner::ScalingPolicy;
use crate::model::planner::capacity::{EngineModel, Role, Targets};
use crate::model::planner::decision::{Figures, Missing, Proposal, Reason};
use crate::model::planner::load::front::Front;
use crate::model::planner::load::sla::SlaRule;
use crate::model::planner::observation::{Observation, WorkerLoad};

/// When a load is too much, and when it is little.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Thresholds {
    /// Scale up when a worker's load is above this.
    pub up: f64,
    /// Scale down when every worker's load is below this; when every worker has nothing to do if it is zero.
    pub down: f64,
}

impl Thresholds {
    /// The reference peer's for the target "throughput".
    pub fn throughput(role: Role) -> Thresholds {
        match role {
            Role::Prefill => Thresholds { up: 1.0, down: 0.1 },
            Role::Aggregated | Role::Decode => Thresholds { up: 1.0, down: 0.6 },
        }
    }

    /// The reference peer's for the target "latency".
    pub fn latency(role: Role) -> Thresholds {
        match role {
            Role::Prefill => Thresholds { up: 0.1, down: 0.0 },
            Role::Aggregated | Role::Decode => Thresholds { up: 0.4, down: 0.1 },
        }
    }
}

/// What estimates of latencies take the next request and a usual pass to be like.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Basis {
    /// The mean request of the window: prompt, output and hit rate.
    #[default]
    Requests,
    /// The mean of the last passes, as in the reference peer: see [`RecentPasses`]. What is queued counts whole, cached
    /// or not, and nothing is decided while a ready worker has not ended a pass yet.
    ///
    /// [`RecentPasses`]: crate::model::planner::RecentPasses
    Passes,
}

/// What load-based scaling aims at.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum LoadTarget {
    /// Latencies within targets.
    Sla {
        /// The targets.
        targets: Targets,
        /// Which share of a target a smaller fleet may use, from 0 to 1. The reference peer's 80 %.
        sensitivity: f64,
        /// What estimates are made from.
        basis: Basis,
    },
    /// Loads between two thresholds. Targets "throughput", "latency" and "load" of the reference peer differ in the
    /// thresholds alone.
    Thresholds(Thresholds),
}

/// The parameters of load-based scaling.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LoadConfig {
    /// What the workers do.
    pub role: Role,
    /// What it aims at.
    pub target: LoadTarget,
    /// How many workers come at once; at least 1.
    pub up: u32,
    /// How many workers leave at once; at least 1.
    pub down: u32,
    /// Longest request, in tokens: what the queue of a prefill worker is measured by.
    pub context_length: u64,
}

/// Load-based scaling.
#[derive(Debug)]
pub struct LoadPolicy {
    config: LoadConfig,
    engine: EngineModel,
    sla: Option<SlaRule>,
    /// The mean prompt of the last window that had one.
    isl: Option<f64>,
}

/// What a rule finds.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Up,
    Down,
    Stay,
}

impl LoadPolicy {
    /// For workers with this engine.
    pub fn new(config: LoadConfig, engine: EngineModel) -> LoadPolicy {
        let sla = match config.target {
            LoadTarget::Sla { targets, sensitivity, basis } => {
                Some(SlaRule::new(config.role, engine.clone(), targets, sensitivity, basis))
            }
            LoadTarget::Thresholds(_) => None,
        };
        LoadPolicy { config, engine, sla, isl: None }
    }

    /// What thresholds look at.
    fn load(&self, load: &WorkerLoad) -> f64 {
        let kv_tokens = load.scheduled_kv_tokens + load.queued_kv_tokens;
        let (tokens, whole) = match self.config.role {
            Role::Aggregated => (kv_tokens + load.queued_prefill_tokens, self.engine.pool_tokens()),
            Role::Decode => (kv_tokens, self.engine.pool_tokens()),
            Role::Prefill => (load.queued_prefill_tokens, self.config.context_length),
        };
        tokens as f64 / whole as f64
    }

    /// Whether a load is above the upper threshold. A prefill queue already is when it reaches it.
    fn is_above(&self, load: f64, up: f64) -> bool {
        if self.config.role == Role::Prefill { load >= up } else { load > up }
    }

    /// What is to be done, those in front of the fleet included; nothing before there is anything to go by.
    fn judge(
        &self,
        observation: &Observation<'_>,
        step: u32,
        figures: &mut Figures,
    ) -> Option<(Verdict, Reason)> {
        let (loads, front) = (observation.loads, Front::new(observation));
        let mut found = match (self.config.target, &front, self.isl) {
            (LoadTarget::Sla { .. }, ..) => self.sla.as_ref()?.judge(loads, step, figures)?,
            (LoadTarget::Thresholds(thresholds), Some(front), Some(isl)) => {
                self.by_thresholds(&front.spread(loads, isl), thresholds, step)
            }
            (LoadTarget::Thresholds(thresholds), ..) => self.by_thresholds(loads, thresholds, step),
        };
        let Some(front) = front else { return Some(found) };
        let Front { waiting, .. } = front;
        if let (LoadTarget::Sla { targets, .. }, Some(worker_ms)) =
            (self.config.target, figures.ttft_ms)
        {
            let (ttft_ms, is_above) = front.ttft(worker_ms, targets.ttft);
            figures.ttft_ms = Some(ttft_ms);
            if is_above && !matches!(found.0, Verdict::Up) {
                let target_ms = targets.ttft.as_ms();
                return Some((Verdict::Up, Reason::FrontAbove { waiting, ttft_ms, target_ms }));
            }
        }
        if matches!(found.0, Verdict::Down) {
            found = (Verdict::Stay, Reason::Front { waiting });
        }
        Some(found)
    }

    fn by_thresholds(
        &self,
        loads: &[WorkerLoad],
        thresholds: Thresholds,
        step: u32,
    ) -> (Verdict, Reason) {
        let Thresholds { up, down } = thresholds;
        let respread = respread(loads.len() as u32, step);
        let (mut all_below, mut refused) = (respread.is_some(), None);
        for (place, load) in loads.iter().enumerate() {
            let load = self.load(load);
            if self.is_above(load, up) {
                return (Verdict::Up, Reason::OneAbove { place, load, threshold: up });
            }
            let below = load < down || (down <= 0.0 && load <= 0.0);
            all_below &= below;
            if respread.is_some_and(|factor| self.is_above(load * factor, up)) {
                refused = Some(place);
            }
        }
        match (all_below, refused) {
            (false, _) => (Verdict::Stay, Reason::Within),
            (true, Some(place)) => (Verdict::Stay, Reason::RespreadRefused { place }),
            (true, None) => (Verdict::Down, Reason::Respread { step }),
        }
    }
}

/// By how much the load of each worker grows if `step` of `workers` leave; nothing if none would be left.
fn respread(workers: u32, step: u32) -> Option<f64> {
    (workers > step).then(|| f64::from(workers) / f64::from(workers - step))
}

impl ScalingPolicy for LoadPolicy {
    fn propose(&mut self, observation: &Observation<'_>) -> Proposal {
        let ready = observation.counts.ready;
        if let Some(sla) = &mut self.sla {
            sla.observe(observation);
        }
        self.isl = observation.window.isl().or(self.isl);
        if ready == 0 {
            // Nothing to measure. Without this, a fleet that was scaled to zero would never come back.
            let waiting = observation.window.traffic.requests > 0;
            let reason = Reason::NoData(Missing::Workers);
            let workers = waiting.then(|| observation.target.max(1));
            return Proposal { workers, reason, figures: Figures::default() };
        }
        if observation.loads.len() != ready as usize {
            return Proposal::abstain(Reason::NoData(Missing::Loads));
        }
        let down = self.config.down.min(ready.saturating_sub(1).max(1));
        let mut figures = Figures::default();
        let Some((verdict, reason)) = self.judge(observation, down, &mut figures) else {
            return Proposal::abstain(Reason::NoData(Missing::Traffic));
        };
        // From what was asked for: while an action is pending, this is not what is there.
        let workers = match verdict {
            Verdict::Up => observation.target.saturating_add(self.config.up),
            Verdict::Down => observation.target.saturating_sub(down),
            Verdict::Stay => observation.target,
        };
        Proposal { workers: Some(workers), reason, figures }
    }
}

#[cfg(test)]
mod tests;
