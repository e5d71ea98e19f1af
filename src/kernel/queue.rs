//! Messages on their way, behind four operations: push, peek, pop, len.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::kernel::key::EventKey;
use crate::kernel::lp::Envelope;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::lp::{Class, LpId};
    use crate::kernel::rng::lp_stream;
    use crate::kernel::time::Time;
    use rand::RngExt;

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
