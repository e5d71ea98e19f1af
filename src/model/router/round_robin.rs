//! One after the other: request i goes to worker i mod N.

use crate::model::request::{Visible, WorkerId};
use crate::model::router::Policy;
use crate::model::router::members::Members;

/// Round robin over all workers, in the order of their numbers.
#[derive(Debug)]
pub struct RoundRobin {
    members: Members,
    /// The place of whoever is next.
    next: usize,
}

impl RoundRobin {
    /// Starts with worker 0.
    pub fn new(workers: u32) -> RoundRobin {
        RoundRobin { members: Members::full(workers), next: 0 }
    }
}

impl Policy for RoundRobin {
    fn choose(&mut self, _request: Visible<'_>) -> WorkerId {
        let worker = self.members.at(self.next);
        self.next = (self.next + 1) % self.members.len();
        worker
    }

    fn joined(&mut self, worker: WorkerId) {
        let place = self.members.add(worker);
        self.next += usize::from(place.is_some_and(|place| place < self.next));
    }

    fn left(&mut self, worker: WorkerId) {
        let place = self.members.remove(worker);
        self.next -= usize::from(place.is_some_and(|place| place < self.next));
        self.next %= self.members.len().max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::time::Time;
    use crate::model::request::{Prompt, RequestId, Ticket};

    #[test]
    fn the_order_survives_who_comes_and_goes() {
        let prompt = Prompt::unique(1);
        let request = Visible {
            id: RequestId(0),
            ticket: Ticket(0),
            arrival: Time::ZERO,
            prompt: &prompt,
            session: None,
        };
        let mut policy = RoundRobin::new(4);
        let next = |policy: &mut RoundRobin| policy.choose(request).0;
        assert_eq!([next(&mut policy), next(&mut policy)], [0, 1]);
        policy.left(WorkerId(0));
        assert_eq!(next(&mut policy), 2);
        policy.left(WorkerId(3));
        assert_eq!([next(&mut policy), next(&mut policy)], [1, 2]);
        policy.joined(WorkerId(0));
        policy.joined(WorkerId(3));
        assert_eq!([next(&mut policy), next(&mut policy)], [0, 1], "it had come round");
        assert_eq!([next(&mut policy), next(&mut policy)], [2, 3]);
        (0..4).for_each(|worker| policy.left(WorkerId(worker)));
        policy.joined(WorkerId(2));
        assert_eq!([next(&mut policy), next(&mut policy)], [2, 2]);
    }
}
