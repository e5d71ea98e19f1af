//! Requests that wait in the router because every worker is busy.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::kernel::time::Time;
use crate::model::request::Request;

/// Who leaves the queue first, after strict priority.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum QueueOrder {
    /// First come, first served; a priority jump counts as so many seconds.
    #[default]
    Fcfs,
    /// Last come, first served.
    Lcfs,
    /// Weighted shortest processing time: by (1 + priority jump) / uncached prompt tokens.
    Wspt,
}

/// The queue.
#[derive(Debug)]
pub struct RouterQueue {
    order: QueueOrder,
    waiting: BinaryHeap<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    score: f64,
    request: Request,
}

impl RouterQueue {
    /// An empty one.
    pub fn new(order: QueueOrder) -> RouterQueue {
        RouterQueue { order, waiting: BinaryHeap::new() }
    }

    /// Adds a request; the best worker would have to compute so many tokens of its prompt.
    pub fn push(&mut self, request: Request, uncached_tokens: u32) {
        let score = self.score(request.arrival, request.priority_jump, uncached_tokens);
        self.waiting.push(Waiting { score, request });
    }

    /// Higher goes first; the formulas are the reference peer's.
    fn score(&self, arrival: Time, priority_jump: f64, uncached_tokens: u32) -> f64 {
        match self.order {
            QueueOrder::Fcfs => priority_jump - arrival.as_secs(),
            QueueOrder::Lcfs => priority_jump + arrival.as_secs(),
            QueueOrder::Wspt => (1.0 + priority_jump) / f64::from(uncached_tokens.max(1)),
        }
    }

    /// Takes the next request out.
    pub fn pop(&mut self) -> Option<Request> {
        self.waiting.pop().map(|waiting| waiting.request)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> Ordering {
        let strict = self.request.strict_priority.cmp(&other.request.strict_priority);
        let earlier = other.request.id.cmp(&self.request.id);
        strict.then(self.score.total_cmp(&other.score)).then(earlier)
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::time::Span;
    use crate::model::request::{Prompt, RequestId};

    /// Requests 0 to 3 arrive a second apart: plain, long, jumping ahead by 10 s, with strict priority.
    fn order(order: QueueOrder) -> Vec<u64> {
        let mut queue = RouterQueue::new(order);
        for (id, tokens, priority_jump, strict_priority) in
            [(0, 100, 0.0, 0), (1, 9000, 0.0, 0), (2, 500, 10.0, 0), (3, 9000, 0.0, 1)]
        {
            let request = Request {
                id: RequestId(id),
                trace_line: id,
                arrival: Time::ZERO + Span::from_secs(id),
                prompt: Prompt::unique(tokens),
                output_tokens: 1,
                session: None,
                strict_priority,
                priority_jump,
            };
            queue.push(request, tokens);
        }
        std::iter::from_fn(|| queue.pop()).map(|request| request.id.0).collect()
    }

    #[test]
    fn the_order_is_as_documented() {
        assert_eq!(order(QueueOrder::Fcfs), [3, 2, 0, 1]);
        assert_eq!(order(QueueOrder::Lcfs), [3, 2, 1, 0]);
        assert_eq!(order(QueueOrder::Wspt), [3, 2, 0, 1]);
    }
}
