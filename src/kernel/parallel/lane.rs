//! Messages on their way from one task of a phase to one of the next.

use crossbeam::utils::CachePadded;

use crate::kernel::lp::Envelope;
use crate::kernel::sync::{
    AtomicBool, AtomicU64, Consumer, Mutex, MutexGuard, Ordering, Producer, PushError, RingBuffer,
};
use crate::kernel::time::Time;

/// All lanes in one direction that are written in even or in odd phases: each writer has some, and each has one reader,
/// who empties it in the phase after.
///
/// A lane is a ring that takes no more than a plain store per message. With a lock per message, a writer would have to
/// wait, message by message, until what it wrote before has got into memory that another core had last; and a reader that
/// looks at a lock first can't look at the message at the same time.
pub(super) struct Lanes<M> {
    /// The writing ends of the lanes, by writer.
    ends: Box<[CachePadded<Mutex<Box<[Producer<Envelope<M>>]>>>]>,
    lanes: Box<[CachePadded<Lane<M>>]>,
    pub(super) earliest: Earliest,
}

/// The reading end of a lane.
struct Lane<M> {
    ring: Mutex<Consumer<Envelope<M>>>,
    /// Whether more was written in the phase than the ring has room for.
    has_spilled: AtomicBool,
    spilled: Mutex<Vec<Envelope<M>>>,
}

/// A writer's hand on all its lanes, as long as a task of it lasts.
pub(super) struct Writer<'a, M> {
    lanes: &'a Lanes<M>,
    first: usize,
    ends: MutexGuard<'a, Box<[Producer<Envelope<M>>]>>,
}

/// The earliest arrival in each of many lanes, where the leader sees them all at a glance; relaxed, because the phases
/// order all accesses.
pub(super) struct Earliest(Box<[AtomicU64]>);

impl<M> Lanes<M> {
    /// For so many writers with so many lanes each, which have room for so many messages before they spill over.
    pub(super) fn new(writers: usize, lanes_per_writer: usize, room: usize) -> Lanes<M> {
        let mut lanes = Vec::new();
        let mut lane = || {
            let (end, ring) = RingBuffer::new(room);
            lanes.push(CachePadded::new(Lane {
                ring: Mutex::new(ring),
                has_spilled: AtomicBool::new(false),
                spilled: Mutex::new(Vec::new()),
            }));
            end
        };
        let mut ends =
            || CachePadded::new(Mutex::new((0..lanes_per_writer).map(|_| lane()).collect()));
        let ends = (0..writers).map(|_| ends()).collect();
        let earliest = Earliest::new(lanes.len());
        Lanes { ends, lanes: lanes.into(), earliest }
    }

    /// How many lanes there are.
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// The hand of one writer.
    pub(super) fn writer(&self, writer: usize) -> Writer<'_, M> {
        let ends = self.ends[writer].try_lock().expect("INV-12: one task at a time");
        Writer { lanes: self, first: writer * ends.len(), ends }
    }

    /// Takes everything out of a lane.
    pub(super) fn drain(&self, lane: usize, mut accept: impl FnMut(Envelope<M>)) {
        if self.earliest.get(lane) == Time::NEVER {
            return;
        }
        let Lane { ring, has_spilled, spilled } = &*self.lanes[lane];
        let mut ring = ring.try_lock().expect("INV-12: one reader");
        while let Ok(envelope) = ring.pop() {
            accept(envelope);
        }
        if has_spilled.load(Ordering::Relaxed) {
            has_spilled.store(false, Ordering::Relaxed);
            spilled.lock().drain(..).for_each(accept);
        }
        self.earliest.set(lane, Time::NEVER);
    }
}

impl<M> Writer<'_, M> {
    /// Sends a message along the writer's lane with this number.
    pub(super) fn push(&mut self, lane: usize, envelope: Envelope<M>) {
        let all = self.first + lane;
        self.lanes.earliest.lower(all, envelope.key.time());
        if let Err(PushError::Full(envelope)) = self.ends[lane].push(envelope) {
            let Lane { has_spilled, spilled, .. } = &*self.lanes.lanes[all];
            has_spilled.store(true, Ordering::Relaxed);
            spilled.lock().push(envelope);
        }
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
