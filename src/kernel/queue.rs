//! Pending events behind four operations: push, peek, pop, len.
//!
//! Messages wait in a binary heap. Wakes are different: every LP has exactly one, and re-plans it often, so they live
//! in a winner tree over the LPs, where a change costs one walk to the root and leaves nothing stale behind.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::kernel::key::EventKey;
use crate::kernel::lp::{Envelope, LpId};

/// The messages that have not been delivered.
#[derive(Debug)]
pub struct MessageQueue<M> {
    heap: BinaryHeap<Reverse<ByKey<M>>>,
}

#[derive(Debug)]
struct ByKey<M>(Envelope<M>);

impl<M> PartialEq for ByKey<M> {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl<M> Eq for ByKey<M> {}

impl<M> PartialOrd for ByKey<M> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<M> Ord for ByKey<M> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl<M> Default for MessageQueue<M> {
    fn default() -> Self {
        MessageQueue { heap: BinaryHeap::new() }
    }
}

impl<M> MessageQueue<M> {
    /// Adds a message.
    pub fn push(&mut self, envelope: Envelope<M>) {
        self.heap.push(Reverse(ByKey(envelope)));
    }

    /// The key of the next message; [`EventKey::MAX`] when there is none.
    pub fn peek(&self) -> EventKey {
        self.heap.peek().map_or(EventKey::MAX, |Reverse(ByKey(envelope))| envelope.key)
    }

    /// Takes the next message.
    pub fn pop(&mut self) -> Option<Envelope<M>> {
        self.heap.pop().map(|Reverse(ByKey(envelope))| envelope)
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

/// The planned wakes, one per LP.
///
/// A complete binary tree in an array: the leaves, from index `leaves` on, hold the wakes, every inner node the
/// smaller of its two children, the root at index 1 the next wake of all.
#[derive(Debug)]
pub struct WakeQueue {
    leaves: usize,
    nodes: Vec<(EventKey, LpId)>,
}

impl WakeQueue {
    /// A queue for this many LPs, none of them planned.
    pub fn new(lps: usize) -> WakeQueue {
        let leaves = lps.next_power_of_two();
        WakeQueue { leaves, nodes: vec![(EventKey::MAX, LpId::new(0)); 2 * leaves] }
    }

    /// The next wake of all; [`EventKey::MAX`] when there is none.
    pub fn peek(&self) -> (EventKey, LpId) {
        self.nodes[1]
    }

    /// When this LP wakes; [`EventKey::MAX`] when it does not.
    pub fn get(&self, id: LpId) -> EventKey {
        self.nodes[self.leaves + id.index()].0
    }

    /// Changes when this LP wakes.
    pub fn set(&mut self, id: LpId, key: EventKey) {
        let mut index = self.leaves + id.index();
        self.nodes[index] = (key, id);
        while index > 1 {
            let winner = self.nodes[index & !1].min(self.nodes[index | 1]);
            index /= 2;
            if self.nodes[index] == winner {
                return;
            }
            self.nodes[index] = winner;
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

    /// Against the obvious twin: a vector that is scanned.
    #[test]
    fn wakes_match_a_scanned_vector() {
        for lps in [1, 2, 3, 8, 13] {
            let mut rng = lp_stream(1, LpId::new(lps), 0);
            let mut queue = WakeQueue::new(lps as usize);
            let mut twin = vec![EventKey::MAX; lps as usize];
            for sequence in 0..2000 {
                let id = LpId::new(rng.random_range(0..lps));
                let key = if rng.random_bool(0.2) {
                    EventKey::MAX
                } else {
                    let time = Time::from_ns(rng.random_range(0..50));
                    EventKey::new(time, 0, Class::new(1), id, sequence)
                };
                queue.set(id, key);
                twin[id.index()] = key;
                assert_eq!(queue.peek().0, *twin.iter().min().unwrap());
                assert_eq!(queue.get(id), key);
            }
        }
    }

    #[test]
    fn messages_leave_in_key_order() {
        let mut rng = lp_stream(2, LpId::new(0), 0);
        let mut queue = MessageQueue::default();
        for sequence in 0..1000 {
            let time = Time::from_ns(rng.random_range(0..20));
            let key = EventKey::new(time, 0, Class::new(0), LpId::new(0), sequence);
            queue.push(Envelope { key, to: LpId::new(0), message: () });
        }
        assert_eq!(queue.len(), 1000);
        let mut last = None;
        while let Some(envelope) = queue.pop() {
            assert!(last < Some(envelope.key));
            last = Some(envelope.key);
        }
        assert!(queue.is_empty());
    }
}
