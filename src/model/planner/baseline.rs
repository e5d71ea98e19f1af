//! The autoscalers that everybody knows, to compare with: a fixed size, a schedule, a target utilisation (HPA), a queue
//! length per worker (KEDA).

use crate::kernel::time::{Span, Time};
use crate::model::planner::ScalingPolicy;
use crate::model::planner::decision::{Figures, Missing, Proposal, Reason};
use crate::model::planner::observation::{Observation, WorkerLoad};
use crate::model::planner::stabiliser::{Stabiliser, StabiliserConfig};

/// A proposal without figures.
fn propose(workers: u32, reason: Reason) -> Proposal {
    Proposal { workers: Some(workers), reason, figures: Figures::default() }
}

/// Always the same number of workers.
#[derive(Debug)]
pub struct Fixed {
    workers: u32,
}

impl Fixed {
    /// This many.
    pub fn new(workers: u32) -> Fixed {
        Fixed { workers }
    }
}

impl ScalingPolicy for Fixed {
    fn propose(&mut self, _observation: &Observation<'_>) -> Proposal {
        propose(self.workers, Reason::Fixed)
    }
}

/// From when on how many workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScheduleEntry {
    /// After the start of the run, or of each period.
    pub from: Span,
    /// How many.
    pub workers: u32,
}

/// Numbers of workers by the clock.
#[derive(Debug)]
pub struct Schedule {
    entries: Vec<ScheduleEntry>,
    period: Option<Span>,
}

impl Schedule {
    /// The entries in any order, at least one. With a `period`, such as a day, they start anew in every one, and the last
    /// one holds until the first one comes again. Without, the first one also holds before its time.
    ///
    /// # Panics
    /// Without entries, or with a period of zero.
    pub fn new(mut entries: Vec<ScheduleEntry>, period: Option<Span>) -> Schedule {
        assert!(!entries.is_empty(), "a schedule without entries");
        assert!(period != Some(Span::ZERO), "a schedule with a period of zero");
        entries.sort_by_key(|entry| entry.from);
        Schedule { entries, period }
    }

    /// The entry in force, and for how long it has been.
    fn entry(&self, now: Time) -> (ScheduleEntry, Span) {
        let now_ns = now.as_ns();
        let within = Span::from_ns(self.period.map_or(now_ns, |period| now_ns % period.as_ns()));
        let next = self.entries.partition_point(|entry| entry.from <= within);
        if let Some(place) = next.checked_sub(1) {
            let entry = self.entries[place];
            return (entry, within - entry.from);
        }
        let last = self.entries[self.entries.len() - 1];
        match self.period {
            // Since yesterday; in the first period it has held from the start.
            Some(period) => {
                (last, Span::from_ns((within + period - last.from).as_ns().min(now_ns)))
            }
            None => (self.entries[0], within),
        }
    }
}

impl ScalingPolicy for Schedule {
    fn propose(&mut self, observation: &Observation<'_>) -> Proposal {
        let (entry, since) = self.entry(observation.now);
        propose(entry.workers, Reason::Schedule { since })
    }
}

/// What a target utilisation is a utilisation of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HpaMetric {
    /// The KV pool: KV tokens of requests that decode / tokens that the pool holds.
    Kv {
        /// Tokens that the pool of a worker holds.
        pool_tokens: u64,
    },
    /// The batch: requests, waiting and running / most in a batch. Above 1 when requests wait.
    Batch {
        /// Most requests in a batch.
        max_num_seqs: u32,
    },
}

impl HpaMetric {
    fn of(self, load: &WorkerLoad) -> f64 {
        match self {
            HpaMetric::Kv { pool_tokens } => load.scheduled_kv_tokens as f64 / pool_tokens as f64,
            HpaMetric::Batch { max_num_seqs } => {
                (u64::from(load.running) + u64::from(load.queued)) as f64 / f64::from(max_num_seqs)
            }
        }
    }
}

/// The `HorizontalPodAutoscaler`: workers x mean load / target.
///
/// Workers that are not ready yet count as idle when it goes up, and the change is dropped if it turns around by that.
#[derive(Debug)]
pub struct TargetUtilisation {
    metric: HpaMetric,
    target: f64,
    stabiliser: Stabiliser,
}

impl TargetUtilisation {
    /// For a mean load of `target`, above 0.
    pub fn new(metric: HpaMetric, target: f64, config: StabiliserConfig) -> TargetUtilisation {
        TargetUtilisation { metric, target, stabiliser: Stabiliser::of_kubernetes(config) }
    }
}

impl ScalingPolicy for TargetUtilisation {
    fn propose(&mut self, observation: &Observation<'_>) -> Proposal {
        let Observation { loads, target: current, .. } = *observation;
        if loads.is_empty() {
            return Proposal::abstain(Reason::NoData(Missing::Workers));
        }
        let ready = loads.len() as f64;
        let sum: f64 = loads.iter().map(|load| self.metric.of(load)).sum();
        let reason = Reason::Utilisation { load: sum / ready, target: self.target };
        let ratio = sum / ready / self.target;
        // With those on their way, idle as they are.
        let expected = ready.max(f64::from(current));
        let diluted = sum / expected / self.target;
        let wanted = if self.stabiliser.tolerates(ratio) || (ratio > 1.0 && diluted <= 1.0) {
            current
        } else if ratio > 1.0 {
            if self.stabiliser.tolerates(diluted) {
                current
            } else {
                (diluted * expected).ceil() as u32
            }
        } else {
            (ratio * ready).ceil() as u32
        };
        propose(self.stabiliser.settle(observation.now, current, wanted), reason)
    }
}

/// A KEDA scaler on the length of queues: all waiting requests, in workers and in front of them / how many may wait per worker, rounded up.
#[derive(Debug)]
pub struct QueueLength {
    per_worker: f64,
    stabiliser: Stabiliser,
}

impl QueueLength {
    /// So many waiting requests per worker, above 0.
    pub fn new(per_worker: f64, config: StabiliserConfig) -> QueueLength {
        QueueLength { per_worker, stabiliser: Stabiliser::of_kubernetes(config) }
    }
}

impl ScalingPolicy for QueueLength {
    fn propose(&mut self, observation: &Observation<'_>) -> Proposal {
        let Observation { target: current, now, .. } = *observation;
        let queued = observation.backlog();
        let reason = Reason::Queue { queued, per_worker: self.per_worker };
        let ratio = queued as f64 / self.per_worker / f64::from(current.max(1));
        let wanted = if self.stabiliser.tolerates(ratio) {
            current
        } else {
            (queued as f64 / self.per_worker).ceil() as u32
        };
        propose(self.stabiliser.settle(now, current, wanted), reason)
    }
}

#[cfg(test)]
mod tests;
