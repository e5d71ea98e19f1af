//! Messages on their way from one task of a phase to one of the next.

use crate::kernel::lp::Envelope;
use crate::kernel::sync::{AtomicU64, Mutex, Ordering};
use crate::kernel::time::Time;

/// What one task sends to another in a phase; empty again when that has run in the next phase.
///
/// There are two of each lane, for even and odd phases, so that nobody ever waits at the lock: it is there to prove it.
pub(super) struct Lane<M> {
    messages: Mutex<Vec<Envelope<M>>>,
}

/// The earliest arrival in each of many lanes, where the leader sees them all at a glance; relaxed, because the phases
/// order all accesses.
pub(super) struct Earliest(Box<[AtomicU64]>);

impl<M> Lane<M> {
    pub(super) fn new() -> Lane<M> {
        Lane { messages: Mutex::new(Vec::new()) }
    }

    pub(super) fn push(&self, envelope: Envelope<M>) {
        self.messages.lock().push(envelope);
    }

    /// Takes everything out.
    pub(super) fn drain(&self, accept: impl FnMut(Envelope<M>)) {
        self.messages.lock().drain(..).for_each(accept);
    }
}

impl Earliest {
    pub(super) fn new(len: usize) -> Earliest {
        Earliest((0..len).map(|_| AtomicU64::new(u64::MAX)).collect())
    }

    pub(super) fn get(&self, index: usize) -> Time {
        Time::from_ns(self.0[index].load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, index: usize, time: Time) {
        self.0[index].store(time.as_ns(), Ordering::Relaxed);
    }

    /// Lowers it to `time`.
    pub(super) fn lower(&self, index: usize, time: Time) {
        self.set(index, self.get(index).min(time));
    }

    pub(super) fn min(&self) -> Time {
        let all = self.0.iter().map(|time| time.load(Ordering::Relaxed));
        Time::from_ns(all.min().unwrap_or(u64::MAX))
    }
}
