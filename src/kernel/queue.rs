//! Messages on their way, behind three operations: push, peek, pop.

use slab::Slab;

use crate::kernel::key::EventKey;
use crate::kernel::lp::{Envelope, LpId};

/// At most so many messages are put in order at a time. Of more, the earliest share is looked at by itself.
const SORTED_MAX: usize = 128;
const SHARE: usize = 4;

/// The messages that have not been delivered.
///
/// The next few are in order, the others only roughly, and the later the more so. Most messages come in for a time after
/// the next few: looking at each of them a few times, one after the other, is cheaper than its way through a heap. What is
/// sorted are keys: messages are large, and stay where they are.
#[derive(Debug)]
pub struct MessageQueue<M> {
    /// The next ones, the very next last. Empty only if there are no others.
    sorted: Vec<Entry>,
    /// The others, the latest first. None is empty.
    tiers: Vec<Tier>,
    messages: Slab<(LpId, M)>,
}

/// A key, and where its message is.
type Entry = (EventKey, u32);

/// Messages in no order, all of them after the same key.
#[derive(Debug)]
struct Tier {
    after: EventKey,
    entries: Vec<Entry>,
}

impl<M> Default for MessageQueue<M> {
    fn default() -> Self {
        MessageQueue { sorted: Vec::new(), tiers: Vec::new(), messages: Slab::new() }
    }
}

impl<M> MessageQueue<M> {
    /// Adds a message.
    pub fn push(&mut self, Envelope { key, to, message }: Envelope<M>) {
        let entry = (key, self.messages.insert((to, message)) as u32);
        if let Some(tier) = self.tiers.iter_mut().find(|tier| key > tier.after) {
            tier.entries.push(entry);
            return;
        }
        let later = self.sorted.partition_point(|&(other, _)| other > key);
        self.sorted.insert(later, entry);
        if self.sorted.len() > 2 * SORTED_MAX {
            let entries = self.sorted.drain(..SORTED_MAX).collect();
            self.tiers.push(Tier { after: self.sorted[0].0, entries });
        }
    }

    /// The key of the next message; [`EventKey::MAX`] when there is none.
    pub fn peek(&self) -> EventKey {
        self.sorted.last().map_or(EventKey::MAX, |&(key, _)| key)
    }

    /// Takes the next message.
    pub fn pop(&mut self) -> Option<Envelope<M>> {
        let (key, place) = self.sorted.pop()?;
        if self.sorted.is_empty() {
            self.sort_some();
        }
        let (to, message) = self.messages.remove(place as usize);
        Some(Envelope { key, to, message })
    }

    /// Puts the next few in order.
    fn sort_some(&mut self) {
        let latest_first = |a: &Entry, b: &Entry| b.cmp(a);
        while let Some(Tier { after, entries }) = self.tiers.last_mut() {
            if entries.len() <= SORTED_MAX {
                std::mem::swap(&mut self.sorted, entries);
                self.sorted.sort_unstable_by(latest_first);
                self.tiers.pop();
                return;
            }
            let later = entries.len() - entries.len() / SHARE;
            let (_, &mut (last, _), _) = entries.select_nth_unstable_by(later, latest_first);
            let next = Tier { after: *after, entries: entries.split_off(later) };
            *after = last;
            self.tiers.push(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::lp::Class;
    use crate::kernel::rng::lp_stream;
    use crate::kernel::time::Time;
    use rand::RngExt;
    use std::collections::BTreeMap;

    fn envelope(time: u64, sequence: u32) -> Envelope<u32> {
        let key = EventKey::new(Time::from_ns(time), 0, Class::new(0), LpId::new(0), sequence);
        Envelope { key, to: LpId::new(0), message: sequence }
    }

    /// Against a sorted set, with few and with many messages waiting, near ones and far ones.
    #[test]
    fn a_queue_matches_a_sorted_set() {
        let mut rng = lp_stream(3, LpId::new(0), 0);
        let (mut queue, mut twin) = (MessageQueue::default(), BTreeMap::new());
        let mut now = 0;
        for sequence in 0..60_000 {
            let grows = sequence / 3000 % 2 == 0;
            if rng.random_bool(if grows { 0.7 } else { 0.35 }) {
                let ahead = [1, 100, 10_000][rng.random_range(0..3)];
                let envelope = envelope(now + rng.random_range(0..ahead), sequence);
                twin.insert(envelope.key, sequence);
                queue.push(envelope);
            } else if let Some(envelope) = queue.pop() {
                now = envelope.key.time().as_ns();
                assert_eq!(twin.pop_first(), Some((envelope.key, envelope.message)));
            }
            let next = twin.first_key_value().map_or(EventKey::MAX, |(key, _)| *key);
            assert_eq!((queue.peek(), queue.messages.len()), (next, twin.len()));
        }
    }

    #[test]
    fn messages_leave_in_key_order() {
        let mut rng = lp_stream(2, LpId::new(0), 0);
        let mut queue = MessageQueue::default();
        for sequence in 0..1000 {
            queue.push(envelope(rng.random_range(0..20), sequence));
        }
        assert_eq!(queue.messages.len(), 1000);
        let mut last = None;
        while let Some(envelope) = queue.pop() {
            assert!(last < Some(envelope.key));
            last = Some(envelope.key);
        }
        assert!(queue.messages.is_empty());
    }
}
