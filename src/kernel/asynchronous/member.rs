//! A station from the inside: its LPs and what it has to remember. Belongs to one thread.

use crate::kernel::asynchronous::books::Report;
use crate::kernel::group::Group;
use crate::kernel::key::EventKey;
use crate::kernel::lp::{Envelope, Lp};
use crate::kernel::time::Time;

/// The hub or a group of spokes.
pub(super) struct Member<'a, L: Lp> {
    pub(super) station: usize,
    pub(super) group: Group<'a, L>,
    /// Messages sent to each partner: the groups for the hub, the hub for a group.
    pub(super) sent: Vec<u64>,
    received: Vec<u64>,
    /// Nothing has changed since it was entered in the books.
    pub(super) is_entered: bool,
    /// It takes no further part, but for the count of what it is sent.
    pub(super) has_failed: bool,
    /// How far it had come before the last turn in which it handled an event.
    pub(super) mark: Time,
}

impl<'a, L: Lp> Member<'a, L> {
    pub(super) fn new(station: usize, group: Group<'a, L>, partners: usize) -> Self {
        Member {
            station,
            group,
            sent: vec![0; partners],
            received: vec![0; partners],
            is_entered: false,
            has_failed: false,
            mark: Time::ZERO,
        }
    }

    /// Takes in a message that this station has sent.
    pub(super) fn take_in(&mut self, from: usize, envelope: Envelope<L::Message>) {
        self.received[from.saturating_sub(1)] += 1;
        if !self.has_failed {
            self.group.accept(envelope);
        }
    }

    /// When its next event is.
    pub(super) fn next(&self) -> Time {
        let next = self.group.next();
        if self.has_failed || next == EventKey::MAX { Time::NEVER } else { next.time() }
    }

    pub(super) fn report(&self) -> Report {
        Report { next: self.next(), sent: self.sent.clone(), received: self.received.clone() }
    }
}
