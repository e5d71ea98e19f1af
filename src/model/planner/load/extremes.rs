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

/// The range of a figure, and the first workers at its ends.
#[derive(Clone, Copy)]
struct Range {
    ends: [u64; 2],
    span: u64,
    places: [usize; 2],
}

impl Extremes {
    /// Of at least one load.
    pub(super) fn of(loads: &[WorkerLoad]) -> Extremes {
        let mut running = Range::of(loads[0].running.into());
        let mut queued = Range::of(loads[0].queued_prefill_tokens);
        let mut scheduled = Range::of(loads[0].scheduled_kv_tokens);
        let mut queued_kv = Range::of(loads[0].queued_kv_tokens);
        for (place, load) in loads.iter().enumerate() {
            running.see(place, load.running.into());
            queued.see(place, load.queued_prefill_tokens);
            scheduled.see(place, load.scheduled_kv_tokens);
            queued_kv.see(place, load.queued_kv_tokens);
        }
        let at = |end: usize| WorkerLoad {
            running: running.ends[end] as u32,
            queued: 0,
            queued_prefill_tokens: queued.ends[end],
            scheduled_kv_tokens: scheduled.ends[end],
            queued_kv_tokens: queued_kv.ends[end],
        };
        let places = |end: usize| [queued.places[end], scheduled.places[end]];
        Extremes { least: at(0), most: at(1), lightest: places(0), heaviest: places(1) }
    }
}

impl Range {
    fn of(figure: u64) -> Range {
        Range { ends: [figure; 2], span: 0, places: [0; 2] }
    }

    /// One comparison, for hardly any worker widens it.
    #[inline]
    fn see(&mut self, place: usize, figure: u64) {
        if figure.wrapping_sub(self.ends[0]) > self.span {
            self.widen(place, figure);
        }
    }

    #[cold]
    #[inline(never)]
    fn widen(&mut self, place: usize, figure: u64) {
        let end = usize::from(figure > self.ends[0]);
        (self.ends[end], self.places[end]) = (figure, place);
        self.span = self.ends[1] - self.ends[0];
    }
}
