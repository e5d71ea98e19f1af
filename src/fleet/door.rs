//! The door of the fleet: keeps the limits of the front end, and books of what came of them.

use crate::fleet::spec::FleetSpec;
use crate::kernel::{Span, Time};
use crate::model::class::ClassSpec;
use crate::model::metrics::Status;
use crate::model::request::Request;
use crate::model::router::{AdmissionSpec, Admitted};

/// Lets requests in, lets them wait or turns them away.
#[derive(Debug)]
pub(super) struct Door {
    max_in_flight: Option<u64>,
    /// What holds for the requests of each class; at least one.
    rules: Vec<Rule>,
    /// Parts of the queue: what all classes share, then one for each class that has one to itself.
    rooms: Vec<Room>,
    books: Admitted,
}

#[derive(Debug)]
struct Rule {
    max_wait: Option<Span>,
    room: usize,
}

#[derive(Debug)]
struct Room {
    limit: Option<u64>,
    waiting: u64,
}

impl Door {
    /// The door of this fleet, if it has one.
    pub(super) fn new(spec: &FleetSpec) -> Option<Door> {
        let AdmissionSpec { max_in_flight, queue_limit, max_wait } = spec.admission?;
        let mut rooms = vec![Room { limit: queue_limit, waiting: 0 }];
        let mut rule = |class: &ClassSpec| {
            let own = class.queue_limit.map(|limit| Room { limit: Some(limit), waiting: 0 });
            let room = if own.is_some() { rooms.len() } else { 0 };
            rooms.extend(own);
            Rule { max_wait: class.max_wait.or(max_wait), room }
        };
        let mut rules: Vec<Rule> = spec.classes.iter().map(&mut rule).collect();
        if rules.is_empty() {
            rules.push(Rule { max_wait, room: 0 });
        }
        // What all share is nobody's if every class has a limit of its own.
        let is_used = |room: usize| rules.iter().any(|rule| rule.room == room);
        let used = (0..rooms.len()).filter(|&room| is_used(room));
        let queue_limit = used
            .map(|room| rooms[room].limit)
            .try_fold(0_u64, |sum, limit| Some(sum.saturating_add(limit?)));
        let books = Admitted { max_in_flight, queue_limit, ..Admitted::default() };
        Some(Door { max_in_flight, rules, rooms, books })
    }

    /// What came of the limits so far.
    pub(super) fn admitted(&self) -> Admitted {
        self.books
    }

    /// Whether nobody is let in while so many requests are in the fleet.
    pub(super) fn is_closed(&self, in_fleet: u64) -> bool {
        self.max_in_flight.is_some_and(|limit| in_fleet >= limit)
    }

    fn room(&mut self, request: &Request) -> &mut Room {
        &mut self.rooms[self.rules[request.class.index()].room]
    }

    /// Whether a request may wait; if so, it does.
    pub(super) fn may_wait(&mut self, request: &Request) -> bool {
        let room = self.room(request);
        if room.limit.is_some_and(|limit| room.waiting >= limit) {
            return false;
        }
        room.waiting += 1;
        let waiting = self.rooms.iter().map(|room| room.waiting).sum();
        self.books.waiting_max = self.books.waiting_max.max(waiting);
        true
    }

    /// Until when a request that has arrived may wait; for ever if virtual time ends before.
    pub(super) fn deadline(&self, request: &Request) -> Option<Time> {
        let max_wait = self.rules[request.class.index()].max_wait?;
        let deadline = request.arrival.saturating_add(max_wait);
        (deadline <= Time::MAX).then_some(deadline)
    }

    /// A request that has waited waits no longer.
    pub(super) fn leave_queue(&mut self, request: &Request) {
        self.room(request).waiting -= 1;
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
