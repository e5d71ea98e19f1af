//! The door of the fleet: keeps the limits of the front end, and books of what came of them.

use crate::kernel::Time;
use crate::model::metrics::Status;
use crate::model::request::Request;
use crate::model::router::{AdmissionSpec, Admitted};

/// Lets requests in, lets them wait or turns them away.
#[derive(Debug)]
pub(super) struct Door {
    books: Admitted,
}

impl Door {
    pub(super) fn new(limits: AdmissionSpec) -> Door {
        Door { books: Admitted { limits, ..Admitted::default() } }
    }

    /// What came of the limits so far.
    pub(super) fn admitted(&self) -> Admitted {
        self.books
    }

    /// Whether nobody is let in while so many requests are in the fleet.
    pub(super) fn is_closed(&self, in_fleet: u64) -> bool {
        self.books.limits.max_in_flight.is_some_and(|limit| in_fleet >= limit)
    }

    /// Whether one more may wait beside so many; if so, it does.
    pub(super) fn may_wait(&mut self, waiting: u64) -> bool {
        let is_full = self.books.limits.queue_limit.is_some_and(|limit| waiting >= limit);
        if !is_full {
            self.books.waiting_max = self.books.waiting_max.max(waiting + 1);
        }
        !is_full
    }

    /// Until when a request that has arrived may wait; for ever if virtual time ends before.
    pub(super) fn deadline(&self, request: &Request) -> Option<Time> {
        let deadline = request.arrival.saturating_add(self.books.limits.max_wait?);
        (deadline <= Time::MAX).then_some(deadline)
    }

    /// A request is sent to a worker, so that so many are in the fleet.
    pub(super) fn let_in(&mut self, in_fleet: u64) {
        self.books.let_in += 1;
        self.books.in_flight_max = self.books.in_flight_max.max(in_fleet);
    }

    /// A request is turned away.
    pub(super) fn turn_away(&mut self, status: Status) {
        match status {
            Status::Expired => self.books.expired += 1,
            _ => self.books.queue_full += 1,
        }
    }
}
