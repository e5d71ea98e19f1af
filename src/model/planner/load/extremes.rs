//! The least and the most that any worker has to do: often enough to know what holds for all of them.

use crate::model::planner::observation::WorkerLoad;

/// The extremes of all loads. The number of queued requests is left out, as no estimate needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extremes {
    /// The least of each figure, of whichever worker.
    pub(super) least: WorkerLoad,
    /// The most of each figure.
    pub(super) most: WorkerLoad,
    /// The first workers with the shortest queue and with the least KV.
    pub(super) lightest: [usize; 2],
    /// The first workers with the longest queue and with the most KV.
    pub(super) heaviest: [usize; 2],
}

impl Extremes {
    /// Of at least one load.
    pub(super) fn of(loads: &[WorkerLoad]) -> Extremes {
        let (mut least, mut most) = (loads[0], loads[0]);
        for load in loads {
            least = figures(&least, load, Ord::min, Ord::min);
            most = figures(&most, load, Ord::max, Ord::max);
        }
        let with_queue = |tokens| first(loads, |load| load.queued_prefill_tokens == tokens);
        let with_kv = |tokens| first(loads, |load| load.scheduled_kv_tokens == tokens);
        let of = |extreme: &WorkerLoad| {
            [with_queue(extreme.queued_prefill_tokens), with_kv(extreme.scheduled_kv_tokens)]
        };
        Extremes { least, most, lightest: of(&least), heaviest: of(&most) }
    }
}

fn first(loads: &[WorkerLoad], is_it: impl Fn(&WorkerLoad) -> bool) -> usize {
    loads.iter().position(is_it).unwrap_or(0)
}

/// Figure by figure.
fn figures(
    a: &WorkerLoad,
    b: &WorkerLoad,
    pick: impl Fn(u64, u64) -> u64,
    pick_count: impl Fn(u32, u32) -> u32,
) -> WorkerLoad {
    WorkerLoad {
        running: pick_count(a.running, b.running),
        queued: 0,
        queued_prefill_tokens: pick(a.queued_prefill_tokens, b.queued_prefill_tokens),
        scheduled_kv_tokens: pick(a.scheduled_kv_tokens, b.scheduled_kv_tokens),
        queued_kv_tokens: pick(a.queued_kv_tokens, b.queued_kv_tokens),
    }
}
