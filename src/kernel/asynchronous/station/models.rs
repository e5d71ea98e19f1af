//! Loom tries every interleaving of a station that sends and one that relies on its promise.

use std::sync::Arc;

use loom::model::Builder;
use loom::thread;

use super::*;
use crate::kernel::key::EventKey;
use crate::kernel::lp::{Class, LpId};
use crate::kernel::sync::{Flaw, inject};

/// Who does its steps in the wrong order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twist {
    Nothing,
    /// The sender says how far it has come before it has sent.
    PromiseFirst,
    /// The receiver looks into its inbox before it asks.
    InboxFirst,
}

/// The sender handles events at 0, 1 and 2 ns, each of which sends a message that arrives at once.
const LAST: u64 = 2;

fn send(receiver: &Station<()>, time: u64) {
    let (source, to) = (LpId::new(1), LpId::new(0));
    let key = EventKey::new(Time::from_ns(time), 0, Class::new(0), source, time as u32);
    receiver.push(Envelope { key, to, message: () });
}

fn promises(twist: Twist) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let stations = Arc::new([Station::new(Span::ZERO), Station::new(Span::ZERO)]);
        let shared = Arc::clone(&stations);
        thread::spawn(move || {
            let [receiver, sender] = &*shared;
            for time in 0..=LAST {
                let reached = Time::from_ns(time + 1);
                if twist == Twist::PromiseFirst {
                    sender.reach(reached);
                    send(receiver, time);
                } else {
                    send(receiver, time);
                    sender.reach(reached);
                }
            }
        });
        let [receiver, sender] = &*stations;
        let mut arrived = 0;
        for _ in 0..2 {
            let mut horizon = Time::ZERO;
            if twist != Twist::InboxFirst {
                horizon = sender.promise(Time::ZERO);
            }
            receiver.drain(|_| arrived += 1);
            if twist == Twist::InboxFirst {
                horizon = sender.promise(Time::ZERO);
            }
            assert!(arrived >= horizon.as_ns(), "a message before the promise is missing");
        }
    });
}

#[test]
fn what_is_promised_has_arrived() {
    promises(Twist::Nothing);
}

#[test]
#[should_panic(expected = "is missing")]
fn to_promise_before_sending_loses_a_message() {
    promises(Twist::PromiseFirst);
}

#[test]
#[should_panic(expected = "is missing")]
fn to_ask_after_looking_loses_a_message() {
    promises(Twist::InboxFirst);
}

#[test]
#[should_panic(expected = "is missing")]
fn a_relaxed_promise_loses_a_message() {
    inject(Flaw::Relaxed("AtomicU64::store"));
    promises(Twist::Nothing);
}
