//! One after the other: request i goes to worker i mod N.

use crate::model::request::{Visible, WorkerId};
use crate::model::router::Policy;

/// Round robin over all workers.
#[derive(Debug)]
pub struct RoundRobin {
    workers: u32,
    next: u32,
}

impl RoundRobin {
    /// Starts with worker 0.
    pub fn new(workers: u32) -> RoundRobin {
        RoundRobin { workers, next: 0 }
    }
}

impl Policy for RoundRobin {
    fn choose(&mut self, _request: Visible<'_>) -> WorkerId {
        let worker = WorkerId(self.next);
        self.next = (self.next + 1) % self.workers;
        worker
    }
}
