//! Requests that wait in the router because every worker is busy.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use crate::kernel::time::Time;
use crate::model::request::{Request, RequestId};

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
    /// The one at the highest place goes first.
    waiting: BTreeMap<Place, Waiting>,
    /// Who may wait until when: those that may not wait for ever.
    deadlines: BTreeMap<(Time, RequestId), Place>,
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    deadline: Option<Time>,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    strict_priority: i32,
    score: f64,
    id: Reverse<RequestId>,
}

impl RouterQueue {
    /// An empty one.
    pub fn new(order: QueueOrder) -> RouterQueue {
        RouterQueue { order, waiting: BTreeMap::new(), deadlines: BTreeMap::new() }
    }

    /// Adds a request, which waits until the deadline, if there is one; the best worker would have to compute so many tokens
    /// of its prompt.
    pub fn push(&mut self, request: Request, uncached_tokens: u32, deadline: Option<Time>) {
        let place = Place {
            strict_priority: request.strict_priority,
            score: self.score(request.arrival, request.priority_jump, uncached_tokens),
            id: Reverse(request.id),
        };
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, request.id), place);
        }
        self.waiting.insert(place, Waiting { request, deadline });
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
        let (_, Waiting { request, deadline }) = self.waiting.pop_last()?;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, request.id));
        }
        Some(request)
    }

    /// Takes a request out whose deadline has come: the earliest, and of equal ones the first that came.
    pub fn expire(&mut self, now: Time) -> Option<Request> {
        let first = self.deadlines.first_entry().filter(|first| first.key().0 <= now)?;
        let place = first.remove();
        self.waiting.remove(&place).map(|waiting| waiting.request)
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first_key_value().map(|(&(deadline, _), _)| deadline)
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

impl Ord for Place {
    fn cmp(&self, other: &Place) -> Ordering {
        let strict = self.strict_priority.cmp(&other.strict_priority);
        strict.then(self.score.total_cmp(&other.score)).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Place) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Place {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use crate::kernel::time::Span;
    use crate::model::class::ClassId;
    use crate::model::request::{Prompt, Ticket};
    use rand::RngExt;

    fn request(id: u64, tokens: u32, priority_jump: f64, strict_priority: i32) -> Request {
        Request {
            id: RequestId(id),
            ticket: Ticket::default(),
            trace_line: id,
            arrival: Time::ZERO + Span::from_secs(id),
            prompt: Prompt::unique(tokens),
            output_tokens: 1,
            session: None,
            class: ClassId::default(),
            strict_priority,
            priority_jump,
        }
    }

    /// Requests 0 to 3 arrive a second apart: plain, long, jumping ahead by 10 s, with strict priority.
    fn order(order: QueueOrder) -> Vec<u64> {
        let mut queue = RouterQueue::new(order);
        for (id, tokens, priority_jump, strict_priority) in
            [(0, 100, 0.0, 0), (1, 9000, 0.0, 0), (2, 500, 10.0, 0), (3, 9000, 0.0, 1)]
        {
            queue.push(request(id, tokens, priority_jump, strict_priority), tokens, None);
        }
        std::iter::from_fn(|| queue.pop()).map(|request| request.id.0).collect()
    }

    #[test]
    fn the_order_is_as_documented() {
        assert_eq!(order(QueueOrder::Fcfs), [3, 2, 0, 1]);
        assert_eq!(order(QueueOrder::Lcfs), [3, 2, 1, 0]);
        assert_eq!(order(QueueOrder::Wspt), [3, 2, 0, 1]);
    }

    #[test]
    fn who_has_waited_too_long_is_taken_out() {
        let at = |secs| Time::ZERO + Span::from_secs(secs);
        let mut queue = RouterQueue::new(QueueOrder::Fcfs);
        queue.push(request(0, 9, 0.0, 0), 9, None);
        queue.push(request(1, 9, 0.0, 0), 9, Some(at(12)));
        queue.push(request(2, 9, 0.0, 0), 9, Some(at(11)));
        queue.push(request(3, 9, 0.0, 0), 9, Some(at(12)));
        assert_eq!((queue.next_deadline(), queue.expire(at(10))), (Some(at(11)), None));
        let mut expired = |secs| queue.expire(at(secs)).map(|request| request.id.0);
        assert_eq!(
            [expired(12), expired(12), expired(12), expired(99)],
            [Some(2), Some(1), Some(3), None]
        );
        assert_eq!((queue.len(), queue.next_deadline()), (1, None));
        queue.push(request(4, 9, 99.0, 0), 9, Some(at(20)));
        assert_eq!(queue.pop().map(|request| request.id.0), Some(4));
        assert_eq!((queue.next_deadline(), queue.expire(at(99))), (None, None));
    }

    /// Against a list that is searched from one end to the other.
    #[test]
    fn a_list_gives_the_same() {
        for seed in 0..200 {
            let mut rng = stream(seed, 0);
            let order = [QueueOrder::Fcfs, QueueOrder::Lcfs, QueueOrder::Wspt][seed as usize % 3];
            let mut queue = RouterQueue::new(order);
            let mut list: Vec<(Request, u32, Option<Time>)> = Vec::new();
            for id in 0..200 {
                let now = Time::ZERO + Span::from_secs(id);
                let wait = Span::from_secs(rng.random_range(1..9));
                let deadline = rng.random::<bool>().then(|| now + wait);
                let (jump, strict) = (rng.random_range(0.0..5.0), rng.random_range(-1..2));
                let one = request(id, rng.random_range(1..4), jump, strict);
                list.push((one.clone(), one.prompt.tokens, deadline));
                queue.push(one, list[list.len() - 1].1, deadline);
                let late = |&(_, _, deadline): &(Request, u32, Option<Time>)| {
                    deadline.is_some_and(|deadline| deadline <= now)
                };
                while let Some(expired) = queue.expire(now) {
                    let at = list.iter().position(|entry| entry.0.id == expired.id).unwrap();
                    assert!(late(&list.remove(at)));
                }
                assert!(!list.iter().any(late));
                if rng.random::<bool>() {
                    let score = |entry: &(Request, u32, Option<Time>)| {
                        queue.score(entry.0.arrival, entry.0.priority_jump, entry.1)
                    };
                    let best = list.iter().max_by(|a, b| {
                        let strict = a.0.strict_priority.cmp(&b.0.strict_priority);
                        let score = score(a).total_cmp(&score(b));
                        strict.then(score).then(b.0.id.cmp(&a.0.id))
                    });
                    let best = best.map(|entry| entry.0.id);
                    assert_eq!(queue.pop().map(|request| request.id), best, "seed {seed}");
                    list.retain(|entry| Some(entry.0.id) != best);
                }
                assert_eq!(queue.len(), list.len());
                assert_eq!(queue.next_deadline(), list.iter().filter_map(|entry| entry.2).min());
            }
        }
    }
}
