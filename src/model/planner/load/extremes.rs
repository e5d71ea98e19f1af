//! The least and the most that any worker has to do: often enough to know what holds for all of them.

use crate::model::planner::observation::WorkerLoad;

/// The extremes of all loads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extremes {
    /// The least of each figure, of whichever worker.
    pub(super) least: WorkerLoad,
    /// The most of each figure.
    pub(super) most: WorkerLoad,
    /// The workers with the shortest queue and with the least KV.
    pub(super) lightest: [usize; 2],
    /// The workers with the longest queue and with the most KV.
    pub(super) heaviest: [usize; 2],
}

impl Extremes {
    /// Of at least one load.
    pub(super) fn of(loads: &[WorkerLoad]) -> Extremes {
        let (mut least, mut most) = (loads[0], loads[0]);
        let (mut lightest, mut heaviest) = ([0; 2], [0; 2]);
        for (place, load) in loads.iter().enumerate() {
            if load.queued_prefill_tokens < least.queued_prefill_tokens {
                lightest[0] = place;
            }
            if load.scheduled_kv_tokens < least.scheduled_kv_tokens {
                lightest[1] = place;
            }
            if load.queued_prefill_tokens > most.queued_prefill_tokens {
                heaviest[0] = place;
            }
            if load.scheduled_kv_tokens > most.scheduled_kv_tokens {
                heaviest[1] = place;
            }
            least = figures(least, *load, u64::min);
            most = figures(most, *load, u64::max);
        }
        Extremes { least, most, lightest, heaviest }
    }
}

/// Figure by figure.
fn figures(a: WorkerLoad, b: WorkerLoad, pick: impl Fn(u64, u64) -> u64) -> WorkerLoad {
    WorkerLoad {
        running: pick(a.running.into(), b.running.into()) as u32,
        queued: pick(a.queued.into(), b.queued.into()) as u32,
        queued_prefill_tokens: pick(a.queued_prefill_tokens, b.queued_prefill_tokens),
        scheduled_kv_tokens: pick(a.scheduled_kv_tokens, b.scheduled_kv_tokens),
        queued_kv_tokens: pick(a.queued_kv_tokens, b.queued_kv_tokens),
    }
}
