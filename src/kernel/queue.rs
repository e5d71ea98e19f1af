//! Messages on their way, behind four operations: push, peek, pop, len.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use crate::kernel::key::EventKey;
use crate::kernel::lp::{Envelope, LpId};

/// The messages that have not been delivered.
///
/// What is sorted are keys: messages are large, and stay where they are.
#[derive(Debug)]
pub struct MessageQueue<M> {
    heap: BinaryHeap<Reverse<(EventKey, u32)>>,
    messages: Slab<(LpId, M)>,
}

impl<M> Default for MessageQueue<M> {
    fn default() -> Self {
        MessageQueue { heap: BinaryHeap::new(), messages: Slab::new() }
    }
}

impl<M> MessageQueue<M> {
    /// Adds a message.
    pub fn push(&mut self, Envelope { key, to, message }: Envelope<M>) {
        let place = self.messages.insert((to, message)) as u32;
        self.heap.push(Reverse((key, place)));
    }

    /// The key of the next message; [`EventKey::MAX`] when there is none.
    pub fn peek(&self) -> EventKey {
        self.heap.peek().map_or(EventKey::MAX, |Reverse((key, _))| *key)
    }

    /// Takes the next message.
    pub fn pop(&mut self) -> Option<Envelope<M>> {
        let Reverse((key, place)) = self.heap.pop()?;
        let (to, message) = self.messages.remove(place as usize);
        Some(Envelope { key, to, message })
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
    use crate::kernel::lp::Class;
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
