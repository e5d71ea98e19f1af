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
    /// By writer.
    writing: Box<[CachePadded<Mutex<Ends<M>>>]>,
    /// By lane.
    reading: Box<[CachePadded<Lane<M>>]>,
    pub(super) earliest: Earliest,
}

/// The writing ends of the lanes of one writer.
type Ends<M> = Box<[Producer<Envelope<M>>]>;

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
    ends: MutexGuard<'a, Ends<M>>,
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
        let writing = (0..writers).map(|_| ends()).collect();
        let earliest = Earliest::new(lanes.len());
        Lanes { writing, reading: lanes.into(), earliest }
    }

    /// How many lanes there are.
    pub(super) fn len(&self) -> usize {
        self.reading.len()
    }

    /// The hand of one writer.
    pub(super) fn writer(&self, writer: usize) -> Writer<'_, M> {
        let ends = self.writing[writer].try_lock().expect("INV-12: one task at a time");
        Writer { lanes: self, first: writer * ends.len(), ends }
    }

    /// Takes everything out of a lane.
    pub(super) fn drain(&self, lane: usize, mut accept: impl FnMut(Envelope<M>)) {
        if self.earliest.get(lane) == Time::NEVER {
            return;
        }
        let Lane { ring, has_spilled, spilled } = &*self.reading[lane];
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
            let Lane { has_spilled, spilled, .. } = &*self.lanes.reading[all];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::key::EventKey;
    use crate::kernel::lp::{Class, LpId};

    #[test]
    fn what_does_not_fit_arrives_too() {
        let envelope = |number: u32| {
            let time = Time::from_ns(u64::from(100 - number));
            let key = EventKey::new(time, 0, Class::new(0), LpId::new(0), number);
            Envelope { key, to: LpId::new(0), message: number }
        };
        let lanes = Lanes::new(2, 3, 4);
        for round in [1, 3, 5, 12] {
            for (writer, lane) in [(0, 2), (1, 0)] {
                let mut hand = lanes.writer(writer);
                (0..round).for_each(|number| hand.push(lane, envelope(number)));
            }
            for lane in 0..lanes.len() {
                let is_used = lane == 2 || lane == 3;
                let earliest = Time::from_ns(u64::from(101 - round));
                let expected = if is_used { earliest } else { Time::NEVER };
                assert_eq!(lanes.earliest.get(lane), expected);
                let mut got = Vec::new();
                lanes.drain(lane, |envelope| got.push(envelope.message));
                got.sort_unstable();
                assert_eq!(got, (0..if is_used { round } else { 0 }).collect::<Vec<_>>());
            }
            assert_eq!(lanes.earliest.min(), Time::NEVER);
        }
    }
}
