//! Requests that wait in front of the fleet, in the router's queue, and what load-based scaling makes of them.
//!
//! No worker has reported them, so to the workers' own loads a fleet behind a queue looks idle. While anybody waits there,
//! fewer workers are out of the question. They count for more workers in the terms of the target:
//!
//! ```text
//! SLA          wait = waiting requests x window / first tokens in the window, at least one;  TTFT = wait + estimate of a worker
//! thresholds   every worker has waiting requests x ISL / workers more queued prompt tokens
//! ```
//!
//! The wait is that of the last in a queue that moves as fast as first tokens have come out of late. The reference peer has
//! no such rule.

use crate::kernel::time::Span;
use crate::model::planner::observation::{Observation, WorkerLoad};

/// Who waits in front of the fleet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    /// Requests.
    pub(super) waiting: u64,
    /// How long one that comes now would wait there, ms.
    pub(super) wait_ms: f64,
}

impl Front {
    /// Nothing if nobody waits.
    pub(super) fn new(observation: &Observation<'_>) -> Option<Front> {
        let (waiting, window) = (observation.waiting, &observation.window);
        let sent_on = window.traffic.first_tokens.max(1);
        let wait_ms = waiting as f64 * window.length.as_ms() / sent_on as f64;
        (waiting > 0).then_some(Front { waiting, wait_ms })
    }

    /// The time to first token behind it, if that of a worker is this, and whether it is above a target.
    pub(super) fn ttft(&self, worker_ms: f64, target: Span) -> (f64, bool) {
        let ttft_ms = self.wait_ms + worker_ms;
        (ttft_ms, ttft_ms > target.as_ms())
    }

    /// The loads of the workers if those who wait, with prompts of this mean length, were in their queues.
    pub(super) fn spread(&self, loads: &[WorkerLoad], isl: f64) -> Vec<WorkerLoad> {
        let more = (self.waiting as f64 * isl / loads.len() as f64) as u64;
        let queue = |load: &WorkerLoad| WorkerLoad {
            queued_prefill_tokens: load.queued_prefill_tokens.saturating_add(more),
            ..*load
        };
        loads.iter().map(queue).collect()
    }
}
