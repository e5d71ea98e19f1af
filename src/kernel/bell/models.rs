//! Loom tries every interleaving of one thread that rings and others that sleep.

use std::sync::Arc;

use loom::model::Builder;
use loom::thread;

use super::*;
use crate::kernel::sync::{AtomicBool, Flaw, inject};

/// One thread rings twice, the second time when all is over; others sleep in between.
fn sleepers(count: usize, wait: fn(&Bell, u32)) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let shared = Arc::new((Bell::new(false), AtomicBool::new(false)));
        for _ in 0..count {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (bell, is_over) = &*shared;
                loop {
                    let seen = bell.count();
                    if is_over.load(Ordering::Acquire) {
                        break;
                    }
                    wait(bell, seen);
                }
            });
        }
        let (bell, is_over) = &*shared;
        bell.ring();
        is_over.store(true, Ordering::Release);
        bell.ring();
    });
}

fn wait(bell: &Bell, seen: u32) {
    bell.wait(seen, &mut || false);
}

#[test]
fn everybody_who_sleeps_is_woken() {
    sleepers(1, wait);
    sleepers(2, wait);
}

#[test]
#[should_panic(expected = "deadlock")]
fn going_to_sleep_in_two_steps_loses_a_ring() {
    inject(Flaw::Torn("AtomicU32::fetch_or"));
    sleepers(1, wait);
}

#[test]
#[should_panic(expected = "deadlock")]
fn ringing_in_two_steps_loses_a_sleeper() {
    inject(Flaw::Torn("AtomicU32::fetch_add"));
    sleepers(1, wait);
}

/// `Bell::sleep` the wrong way round.
#[test]
#[should_panic(expected = "deadlock")]
fn who_signs_up_after_the_look_at_the_count_is_not_woken() {
    sleepers(1, |bell, seen| {
        while bell.count() == seen {
            let word = bell.count.fetch_or(SLEEPING, Ordering::AcqRel);
            bell.sleepers.lock().push(current());
            if word & !SLEEPING == seen {
                park();
            }
        }
    });
}
