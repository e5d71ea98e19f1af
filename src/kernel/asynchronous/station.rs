//! What threads know of one another's LPs: how far they have come, and what was sent to them.

use crossbeam::utils::CachePadded;

use crate::kernel::lp::Envelope;
use crate::kernel::sync::{AtomicU64, Ordering, SegQueue};
use crate::kernel::time::{Span, Time};

#[cfg(all(test, loom))]
mod models;

/// The hub or a group of spokes, as the others see it.
pub(super) struct Station<M> {
    /// What it promises: nothing it sends arrives sooner than so long after the event that makes it send.
    lookahead: Span,
    /// Every event before this time, ns, has been handled. Its own thread raises it, and releases what was sent until then.
    reached: CachePadded<AtomicU64>,
    inbox: SegQueue<Envelope<M>>,
}

impl<M> Station<M> {
    pub(super) fn new(lookahead: Span) -> Station<M> {
        let reached = CachePadded::new(AtomicU64::new(0));
        Station { lookahead, reached, inbox: SegQueue::new() }
    }

    /// Every event before this time has been handled.
    pub(super) fn reached(&self) -> Time {
        Time::from_ns(self.reached.load(Ordering::Acquire))
    }

    /// Raises it, after everything that these events send has been sent.
    pub(super) fn reach(&self, time: Time) {
        self.reached.store(time.as_ns(), Ordering::Release);
    }

    /// What it has not sent yet arrives at this time or later, if it handles no event before `floor` any more. Whoever
    /// relies on that asks first and then empties its own inbox: in this order everything earlier is in there.
    pub(super) fn promise(&self, floor: Time) -> Time {
        self.reached().max(floor).saturating_add(self.lookahead)
    }

    /// Sends it a message.
    pub(super) fn push(&self, envelope: Envelope<M>) {
        self.inbox.push(envelope);
    }

    /// Takes out what was sent to it.
    pub(super) fn drain(&self, mut accept: impl FnMut(Envelope<M>)) {
        while let Some(envelope) = self.inbox.pop() {
            accept(envelope);
        }
    }
}
