//! What happens between two phases: how far the next one goes, and whether it is worth sharing.

use std::ops::Range;

use crate::kernel::lp::Lp;
use crate::kernel::parallel::census::Census;
use crate::kernel::parallel::horizon::{Horizons, Lookahead};
use crate::kernel::parallel::star::{HUB, Star};
use crate::kernel::time::{Span, Time};

/// Phases with fewer events than this on average are not worth a rendezvous; see docs/performance.md.
pub(super) const EVENTS_WORTH_SHARING: f64 = 8.0;
/// The average is over so many phases, roughly.
pub(super) const MEMORY: f64 = 32.0;

/// Which thread a group of spokes belongs to, as long as nobody steals it: neighbours stay together.
///
/// Thread 0 has the hub. Where that has to hear of everything, all wait for it as soon as they are more than two: then it
/// has no groups, and those of the others stay where they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// The first thread that has groups.
    first: usize,
    threads: usize,
    groups: usize,
}

impl Shares {
    /// For so many threads and groups, and a hub that hears from the spokes or does not.
    pub(super) fn new(threads: usize, groups: usize, hub_hears: bool) -> Shares {
        Shares { first: usize::from(hub_hears && threads > 2), threads, groups }
    }

    /// The thread of a group.
    pub(super) fn thread(self, group: usize) -> usize {
        self.first + group * (self.threads - self.first) / self.groups
    }

    /// The groups of a thread.
    fn of(self, thread: usize) -> Range<usize> {
        let Some(place) = thread.checked_sub(self.first) else { return 0..0 };
        let start = |place: usize| (place * self.groups).div_ceil(self.threads - self.first);
        start(place)..start(place + 1)
    }
}

/// The state of the protocol between two phases. Only the thread that finished the last task of a phase uses it.
pub(super) struct Leader {
    lookahead: Lookahead,
    /// The horizons of the phase that is over.
    horizons: Horizons,
    reached: Horizons,
    phase: u32,
    pub(super) census: Census,
    /// The tasks of the next phase, the hub last, and where the share of each thread ends; the last share is the hub's.
    pub(super) tasks: Vec<u32>,
    pub(super) ends: Vec<u32>,
    shares: Shares,
    events: u64,
    events_per_phase: f64,
}

impl Leader {
    pub(super) fn new(lookahead: Lookahead, shares: Shares) -> Leader {
        Leader {
            lookahead,
            horizons: Horizons { hub: Time::ZERO, spokes: Time::ZERO },
            reached: Horizons { hub: Time::ZERO, spokes: Time::ZERO },
            // What LPs send when they start is in the lanes of an odd phase.
            phase: 1,
            census: Census::default(),
            tasks: Vec::new(),
            ends: Vec::new(),
            shares,
            events: 0,
            events_per_phase: f64::INFINITY,
        }
    }

    /// Finds the tasks of the next phase; says whether there are any.
    pub(super) fn plan<L: Lp>(&mut self, star: &Star<'_, L>) -> bool {
        self.reached.spokes = self.reached.spokes.max(self.horizons.spokes);
        // The hub may have stopped early, at the end of its budget.
        self.reached.hub = self.reached.hub.max(self.horizons.hub.min(star.hub_next()));
        // An LP panicked: whatever happens later doesn't matter any more, but something earlier still may panic too.
        let stop = star.failure_time().map(|time| time.saturating_add(Span::from_ns(1)));
        let next = star.next_events(self.phase);
        loop {
            let is_over = next.hub == Time::NEVER && next.spokes == Time::NEVER;
            let has_failed =
                stop.is_some_and(|stop| self.reached.hub.min(self.reached.spokes) >= stop);
            if is_over || has_failed {
                return false;
            }
            let mut horizons = self.lookahead.next(self.reached, next, star.hub_sends());
            if let Some(stop) = stop {
                horizons.hub = horizons.hub.min(stop).max(self.reached.hub);
                horizons.spokes = horizons.spokes.min(stop).max(self.reached.spokes);
            }
            self.horizons = horizons;
            self.select(star);
            if !self.tasks.is_empty() {
                break;
            }
            self.reached = horizons;
        }
        self.phase = self.phase.wrapping_add(1);
        self.census.add(self.horizons, self.tasks.len());
        star.set_phase(self.phase, self.horizons);
        true
    }

    fn select<L: Lp>(&mut self, star: &Star<'_, L>) {
        self.tasks.clear();
        self.ends.clear();
        for thread in 0..self.shares.threads {
            for group in self.shares.of(thread) {
                let task = group as u32 + 1;
                if star.spokes_are_due(task, self.phase, self.horizons.spokes) {
                    self.tasks.push(task);
                }
            }
            self.ends.push(self.tasks.len() as u32);
        }
        if star.hub_is_due(self.phase, self.horizons.hub) {
            self.tasks.push(HUB);
        }
        self.ends.push(self.tasks.len() as u32);
    }

    /// Every event before this has been handled.
    pub(super) fn done(&self) -> Time {
        self.reached.hub.min(self.reached.spokes)
    }

    /// Whether the phase is worth the attention of more than one thread, given how many events there were in all.
    pub(super) fn is_worth_sharing(&mut self, events: u64) -> bool {
        let last = (events - self.events) as f64;
        self.events = events;
        if self.events_per_phase.is_finite() {
            self.events_per_phase += (last - self.events_per_phase) / MEMORY;
        } else if self.census.phases > 1 {
            self.events_per_phase = last;
        }
        self.shares.threads > 1
            && self.tasks.len() > 1
            && self.events_per_phase >= EVENTS_WORTH_SHARING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_one_thread() {
        for (threads, groups, hears) in
            [(1, 5, true), (2, 5, true), (3, 64, true), (16, 3, true), (4, 9, false)]
        {
            let shares = Shares::new(threads, groups, hears);
            let ranges =
                (0..threads).flat_map(|thread| shares.of(thread).map(move |g| (g, thread)));
            let expected: Vec<_> = (0..groups).map(|group| (group, shares.thread(group))).collect();
            assert_eq!(ranges.collect::<Vec<_>>(), expected, "{shares:?}");
        }
        assert_eq!(Shares::new(3, 64, true).of(0), 0..0);
        assert_eq!(Shares::new(2, 64, true).of(0), 0..32);
    }
}
