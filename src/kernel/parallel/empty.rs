//! Phases with nothing to do, to time what threads pay for meeting; see `benches/parallel.rs`.

use std::thread;

use crate::kernel::parallel::gate::Gate;
use crate::kernel::sync::Mutex;

/// The gate, and who leads.
struct Empty {
    gate: Gate,
    tasks: Vec<u32>,
    ends: Vec<u32>,
    /// Phases left.
    leader: Mutex<u32>,
}

/// Runs so many phases in which each thread has one task, which is done at once. What is measured is the gate alone:
/// without horizons, groups of LPs or messages.
///
/// # Panics
/// If there are no threads.
pub fn empty_phases(threads: usize, phases: u32) {
    assert!(threads > 0, "somebody has to do it");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let empty = Empty {
        gate: Gate::new(threads + 1, threads, threads <= cores),
        tasks: (0..threads as u32).collect(),
        // The hub, whose share is the last one, has none.
        ends: (1..=threads as u32).chain([threads as u32]).collect(),
        leader: Mutex::new(phases),
    };
    thread::scope(|scope| {
        for thread in 0..threads {
            let empty = &empty;
            scope.spawn(move || empty.work(thread));
        }
    });
}

impl Empty {
    /// As a thread of a run.
    fn work(&self, thread: usize) {
        if thread == 0 && self.lead() {
            self.share(thread, 1);
        }
        while !self.gate.is_stopped() {
            let seen = self.gate.phase();
            self.share(thread, 0);
            if self.gate.is_stopped() {
                break;
            }
            self.gate.wait(seen, &mut || false);
        }
    }

    fn share(&self, thread: usize, mut finished: u32) {
        loop {
            while self.gate.claim(thread).is_some() {
                finished += 1;
            }
            if finished == 0 || !self.gate.finish(finished) || !self.lead() {
                return;
            }
            finished = 1;
        }
    }

    fn lead(&self) -> bool {
        let mut left = self.leader.try_lock().expect("one leader");
        if *left == 0 {
            self.gate.stop();
            return false;
        }
        *left -= 1;
        self.gate.open(&self.tasks, &self.ends);
        true
    }
}
