//! Where the threads of a run meet: it hands out the tasks of a phase, says who finished the last one, and lets threads
//! wait for the next phase.
//!
//! The README beside this file has the protocol and the argument why it is right; loom checks it in `models.rs`.

use crossbeam::utils::CachePadded;

use crate::kernel::bell::Bell;
use crate::kernel::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(all(test, loom))]
#[path = "models.rs"]
mod models;

/// The meeting place of the threads of one run.
///
/// # Memory ordering
///
/// - `share.cursor`: released by the leader that opens a phase, after it has written the tasks and whatever else
///   belongs to the phase; acquired by whoever claims a task. A claim keeps its phase open, so what belongs to the phase
///   can't change until the claimant has called [`Gate::finish`].
/// - `remaining`: everybody releases what they have done and the last one, the next leader, acquires all of it.
/// - `bell`: released after the cursors; wakes those who wait, who find their tasks through the cursors.
/// - `tasks` is relaxed: it is read under a claim and written by the leader only.
pub(super) struct Gate {
    /// Tasks claimed or not, but not finished; one more for the leader while it opens the phase.
    remaining: CachePadded<AtomicU32>,
    /// Rings when a phase opens; its count is the phase.
    bell: Bell,
    stopped: AtomicBool,
    /// What each thread is meant to do.
    shares: Box<[CachePadded<Share>]>,
    tasks: Box<[AtomicU32]>,
}

/// A range of the tasks of a phase: its end in the upper half, the next one to claim in the lower half.
struct Share {
    cursor: AtomicU64,
}

impl Gate {
    /// A gate for so many shares of at most so many tasks. With more threads than cores, `spin` is not worth it.
    pub(super) fn new(shares: usize, tasks: usize, spin: bool) -> Gate {
        let share = || CachePadded::new(Share { cursor: AtomicU64::new(0) });
        Gate {
            remaining: CachePadded::new(AtomicU32::new(0)),
            bell: Bell::new(spin),
            stopped: AtomicBool::new(false),
            shares: (0..shares).map(|_| share()).collect(),
            tasks: (0..tasks).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// The phase to give to [`Gate::wait`]; to be read before tasks are claimed.
    pub(super) fn phase(&self) -> u32 {
        self.bell.count()
    }

    /// Whether the run is over.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Takes a task of this share, if one is left.
    pub(super) fn claim(&self, share: usize) -> Option<u32> {
        let cursor = &self.shares[share].cursor;
        let has_more = |word: u64| (word as u32) < (word >> 32) as u32;
        // Whoever waits looks often: only a real chance is worth a write.
        if !has_more(cursor.load(Ordering::Relaxed)) {
            return None;
        }
        let word = cursor.fetch_add(1, Ordering::Acquire);
        has_more(word).then(|| self.tasks[word as u32 as usize].load(Ordering::Relaxed))
    }

    /// Counts tasks as finished. Whoever is told that the phase is over is the leader: it alone may open the next one.
    pub(super) fn finish(&self, tasks: u32) -> bool {
        self.remaining.fetch_sub(tasks, Ordering::AcqRel) == tasks
    }

    /// Opens a phase: `ends` says where the tasks of each share end. The leader itself counts as one more unfinished task.
    pub(super) fn open(&self, tasks: &[u32], ends: &[u32]) {
        debug_assert_eq!(ends.len(), self.shares.len());
        for (slot, task) in self.tasks.iter().zip(tasks) {
            // Other cores have the line, and often it is right.
            if slot.load(Ordering::Relaxed) != *task {
                slot.store(*task, Ordering::Relaxed);
            }
        }
        self.remaining.store(tasks.len() as u32 + 1, Ordering::Relaxed);
        let word = |start: u32, end: u32| u64::from(end) << 32 | u64::from(start);
        let mut start = 0;
        for (share, &end) in self.shares.iter().zip(ends) {
            if start < end {
                share.cursor.store(word(start, end), Ordering::Release);
            }
            start = end;
        }
        self.bell.ring();
    }

    /// Ends the run for everybody.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Waits until the phase is no longer `seen`. Meanwhile does `errand`s, as long as that says that there was one.
    pub(super) fn wait(&self, seen: u32, errand: &mut impl FnMut() -> bool) {
        self.bell.wait(seen, errand);
    }
}
