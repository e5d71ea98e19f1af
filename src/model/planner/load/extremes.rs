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

/// The least and the most of four figures, and the first workers that have them.
struct Ranges {
    least: [u64; 4],
    most: [u64; 4],
    places: [[usize; 2]; 4],
}

impl Extremes {
    /// Of at least one load.
    pub(super) fn of(loads: &[WorkerLoad]) -> Extremes {
        let first = figures(&loads[0]);
        let mut ranges = Ranges { least: first, most: first, places: [[0; 2]; 4] };
        let mut place = 0;
        while let Some(distance) = ranges.first_outside(&loads[place..]) {
            place += distance;
            ranges.widen(place, figures(&loads[place]));
        }
        let Ranges { least, most, places } = ranges;
        let of = |[running, queued, scheduled, queued_kv]: [u64; 4]| WorkerLoad {
            running: running as u32,
            queued: 0,
            queued_prefill_tokens: queued,
            scheduled_kv_tokens: scheduled,
            queued_kv_tokens: queued_kv,
        };
        let [_, queued, scheduled, _] = places;
        let places = |end: usize| [queued[end], scheduled[end]];
        Extremes { least: of(least), most: of(most), lightest: places(0), heaviest: places(1) }
    }
}

#[inline]
fn figures(load: &WorkerLoad) -> [u64; 4] {
    let WorkerLoad { queued_prefill_tokens, scheduled_kv_tokens, queued_kv_tokens, .. } = *load;
    [load.running.into(), queued_prefill_tokens, scheduled_kv_tokens, queued_kv_tokens]
}

impl Ranges {
    /// The first of these that is outside: few are, so that the ranges stay in registers meanwhile.
    fn first_outside(&self, loads: &[WorkerLoad]) -> Option<usize> {
        let least = self.least;
        let spans: [u64; 4] = std::array::from_fn(|at| self.most[at] - least[at]);
        loads.iter().position(|load| {
            let figures = figures(load);
            (0..4).any(|at| figures[at].wrapping_sub(least[at]) > spans[at])
        })
    }

    fn widen(&mut self, place: usize, figures: [u64; 4]) {
        for (at, figure) in figures.into_iter().enumerate() {
            if figure < self.least[at] {
                (self.least[at], self.places[at][0]) = (figure, place);
            }
            if figure > self.most[at] {
                (self.most[at], self.places[at][1]) = (figure, place);
            }
        }
    }
}
