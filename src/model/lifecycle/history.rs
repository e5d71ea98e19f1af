//! How many workers were in which state, over time.

use crate::kernel::time::Time;
use crate::model::lifecycle::{Counts, GpuTime};

/// The counts of a pool from the start of a run on. Memory grows with every instant at which they change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    gpus_per_worker: u32,
    /// Since when they have been so, in order; the first at time zero.
    steps: Vec<(Time, Counts)>,
}

impl History {
    /// At the start of a run.
    pub fn new(gpus_per_worker: u32, counts: Counts) -> History {
        History { gpus_per_worker, steps: vec![(Time::ZERO, counts)] }
    }

    /// The counts are these from now on. Of those at one instant the last ones stay.
    pub fn push(&mut self, now: Time, counts: Counts) {
        match self.steps.last_mut() {
            Some((since, last)) if *since == now => *last = counts,
            Some((_, last)) if *last == counts => {}
            _ => self.steps.push((now, counts)),
        }
    }

    /// The counts from this instant on.
    pub fn at(&self, time: Time) -> Counts {
        let next = self.steps.partition_point(|&(since, _)| since <= time);
        self.steps[next.max(1) - 1].1
    }

    /// The GPU time of all workers between two instants.
    pub fn gpu_time(&self, from: Time, until: Time) -> GpuTime {
        let mut gpu_time = GpuTime::new(self.gpus_per_worker, from);
        let ends = self.steps.iter().skip(1).map(|&(since, _)| since).chain([until]);
        for (&(_, counts), end) in self.steps.iter().zip(ends) {
            gpu_time.advance(end.clamp(from, until), counts);
        }
        gpu_time
    }

    /// The counts that held at some time between two instants.
    fn within(&self, from: Time, until: Time) -> impl Iterator<Item = Counts> {
        let later = self.steps.iter().filter(move |(since, _)| (from..=until).contains(since));
        std::iter::once(self.at(from)).chain(later.map(|&(_, counts)| counts))
    }

    /// The fewest and the most ready workers between two instants.
    pub fn ready_range(&self, from: Time, until: Time) -> (u32, u32) {
        let first = self.at(from).ready;
        let ready = self.within(from, until).map(|counts| counts.ready);
        ready.fold((first, first), |(least, most), ready| (least.min(ready), most.max(ready)))
    }

    /// The most workers that held GPUs at once between two instants.
    pub fn present_max(&self, from: Time, until: Time) -> u32 {
        self.within(from, until).map(|counts| counts.present()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::time::Span;

    fn at(secs: u64) -> Time {
        Time::ZERO + Span::from_secs(secs)
    }

    /// Two GPUs per worker. Ready: 1 until 10 s, then 2; a third starts at 10 s and is there at 30 s.
    #[test]
    fn gpu_time_is_the_area_under_the_steps() {
        let counts = |ready, starting| Counts { starting, ready, ..Counts::default() };
        let mut history = History::new(2, counts(1, 0));
        history.push(at(10), counts(9, 9));
        history.push(at(10), counts(2, 1));
        history.push(at(20), counts(2, 1));
        history.push(at(30), counts(3, 0));
        assert_eq!(history.steps.len(), 3);
        let secs = |from, until| {
            let time = history.gpu_time(at(from), at(until));
            [time.ready, time.starting].map(|ns| ns / 1_000_000_000)
        };
        assert_eq!(secs(0, 40), [2 * (10 + 2 * 20 + 3 * 10), 2 * 20]);
        assert_eq!(secs(5, 15), [2 * (5 + 2 * 5), 2 * 5]);
        assert_eq!(secs(35, 35), [0, 0]);
        assert_eq!([history.at(at(9)).ready, history.at(at(10)).ready], [1, 2]);
        assert_eq!(history.ready_range(at(15), at(99)), (2, 3));
    }

    #[test]
    fn workers_that_start_or_drain_hold_gpus() {
        let counts = |starting, warm, ready, draining| Counts {
            starting,
            warm,
            ready,
            draining,
            waiting: 7,
        };
        let mut history = History::new(2, counts(0, 0, 4, 0));
        history.push(at(10), counts(3, 1, 2, 4));
        history.push(at(20), counts(0, 1, 5, 0));
        let most = |from, until| history.present_max(at(from), at(until));
        assert_eq!([most(0, 9), most(0, 10), most(15, 99), most(20, 99)], [4, 10, 10, 6]);
    }
}
