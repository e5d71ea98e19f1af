//! Loom tries every interleaving of two threads at the gate, and every value that a relaxed load may return.
//!
//! Nothing here is protected by anything but the gate: tasks and lanes are relaxed words that say in which phase they
//! were last written. Without a happens-before edge loom lets a thread read an older phase, and without mutual exclusion
//! a newer one; either fails an assertion. That shows the same races as unsynchronized cells would, without `unsafe`.
//!
//! Each guarantee has a test in which one step is done wrong and which must fail. `just loom` runs them all.

// Not loom's `Arc`: dropping that is a step of the model, also when the model has failed already.
use std::sync::Arc;

use loom::model::Builder;
use loom::sync::atomic::AtomicU32 as Word;
use loom::thread;

use super::*;
use crate::kernel::sync::{Flaw, Mutex, inject};

/// Tasks: the hub, and one group of spokes. Each sends to the other in every phase.
const HUB: u32 = 0;
const SPOKES: u32 = 1;
/// The spokes are the share of thread 1; the hub has a share of its own, after those of the threads.
const TASKS: [u32; 2] = [SPOKES, HUB];
const ENDS: [u32; 3] = [0, 1, 2];
/// How many phases there are.
const LAST: u32 = 2;

/// What a model does otherwise than the executor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twist {
    Nothing,
    /// Even and odd phases have their lanes in common.
    OneLane,
    /// The phase may be over before the leader has opened it.
    LeaderNotCounted,
    /// Thread 1 breaks off in its first task, and stops the run.
    Stop,
    /// It breaks off and tells nobody.
    Vanish,
}

/// The executor, reduced to what its threads say to one another.
struct Model {
    gate: Gate,
    twist: Twist,
    leader: Mutex<()>,
    phase: Word,
    /// The last phase in which each task was run.
    runs: [Word; 2],
    /// By parity and receiver: the phase of the last message.
    lanes: [[Word; 2]; 2],
}

impl Model {
    fn new(twist: Twist) -> Model {
        let words = || [Word::new(0), Word::new(0)];
        Model {
            gate: Gate::new(3, 2, false),
            twist,
            leader: Mutex::new(()),
            phase: Word::new(0),
            runs: words(),
            lanes: [words(), words()],
        }
    }

    /// As `Run::work` of the executor.
    fn work(&self, thread: usize) {
        if thread == 0 && self.lead() {
            self.share(thread, self.leaders());
        }
        while !self.gate.is_stopped() {
            let seen = self.gate.phase();
            if !self.share(thread, 0) || self.gate.is_stopped() {
                break;
            }
            self.gate.wait(seen, &mut || false);
        }
    }

    /// As `Run::share`; says whether the thread lives on.
    fn share(&self, thread: usize, mut finished: u32) -> bool {
        loop {
            while let Some(task) = self.claim(thread) {
                match self.twist {
                    Twist::Stop if thread == 1 => {
                        self.gate.stop();
                        return false;
                    }
                    Twist::Vanish if thread == 1 => return false,
                    _ => self.run(task),
                }
                finished += 1;
            }
            if finished == 0 || !self.gate.finish(finished) || !self.lead() {
                return true;
            }
            finished = self.leaders();
        }
    }

    /// How many tasks a leader has finished that has opened a phase.
    fn leaders(&self) -> u32 {
        u32::from(self.twist != Twist::LeaderNotCounted)
    }

    /// As `Run::claim`, with stealing.
    fn claim(&self, thread: usize) -> Option<u32> {
        let shares = if thread == 0 { [2, 0, 1] } else { [1, 2, 0] };
        shares.into_iter().find_map(|share| self.gate.claim(share))
    }

    fn run(&self, task: u32) {
        let phase = self.phase.load(Ordering::Relaxed);
        let (own, other) = (task as usize, 1 - task as usize);
        let last = self.runs[own].load(Ordering::Relaxed);
        assert_eq!(last + 1, phase, "every task is run once per phase");
        self.runs[own].store(phase, Ordering::Relaxed);
        let lane = |phase: u32| if self.twist == Twist::OneLane { 0 } else { phase as usize % 2 };
        let arrived = self.lanes[lane(phase + 1)][own].load(Ordering::Relaxed);
        assert_eq!(arrived + 1, phase, "a task reads what the phase before has sent");
        self.lanes[lane(phase)][other].store(phase, Ordering::Relaxed);
    }

    /// As `Run::lead`.
    fn lead(&self) -> bool {
        let _alone = self.leader.try_lock().expect("one leader");
        let phase = self.phase.load(Ordering::Relaxed);
        if self.gate.is_stopped() {
            return false;
        }
        for last in &self.runs {
            assert_eq!(last.load(Ordering::Relaxed), phase, "a phase is over when all have run");
        }
        if phase == LAST {
            self.gate.stop();
            return false;
        }
        self.phase.store(phase + 1, Ordering::Relaxed);
        // Of one task less than there are, the gate expects one less. The last slot says 0 already, which is the hub.
        let counted = TASKS.len() - 1 + self.leaders() as usize;
        self.gate.open(&TASKS[..counted], &ENDS);
        true
    }
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Two threads, from the first phase to the last.
fn phases(twist: Twist) {
    check(move || {
        let model = Arc::new(Model::new(twist));
        let other = Arc::clone(&model);
        // Nobody joins: loom waits for all threads by itself, and takes an unpark for the end of a join.
        thread::spawn(move || other.work(1));
        model.work(0);
    });
}

#[test]
fn every_task_runs_once_per_phase() {
    phases(Twist::Nothing);
}

#[test]
#[should_panic(expected = "left == right")]
fn a_relaxed_opening_is_a_race() {
    inject(Flaw::Relaxed("AtomicU64::store"));
    phases(Twist::Nothing);
}

#[test]
#[should_panic(expected = "left == right")]
fn a_relaxed_claim_is_a_race() {
    inject(Flaw::Relaxed("AtomicU64::fetch_add"));
    phases(Twist::Nothing);
}

#[test]
#[should_panic(expected = "left == right")]
fn a_relaxed_finish_is_a_race() {
    inject(Flaw::Relaxed("AtomicU32::fetch_sub"));
    phases(Twist::Nothing);
}

#[test]
#[should_panic(expected = "reads what the phase before has sent")]
fn one_lane_for_all_phases_is_a_race() {
    phases(Twist::OneLane);
}

#[test]
#[should_panic(expected = "left == right")]
fn a_claim_in_two_steps_hands_out_a_task_twice() {
    inject(Flaw::Torn("AtomicU64::fetch_add"));
    phases(Twist::Nothing);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_finish_in_two_steps_loses_count() {
    inject(Flaw::Torn("AtomicU32::fetch_sub"));
    phases(Twist::Nothing);
}

#[test]
#[should_panic(expected = "one leader")]
fn a_leader_that_is_not_counted_meets_another() {
    phases(Twist::LeaderNotCounted);
}

#[test]
fn who_breaks_off_and_stops_the_run_lets_everybody_leave() {
    phases(Twist::Stop);
}

#[test]
#[should_panic(expected = "deadlock")]
fn who_breaks_off_and_tells_nobody_is_waited_for() {
    phases(Twist::Vanish);
}
