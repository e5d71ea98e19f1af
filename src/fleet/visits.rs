//! Sessions that visit the fleet: which calls are to be made, and what their clients do about answers that take long.
//!
//! The front end acts as the clients' side. It hears that a call has ended when the worker's feedback reaches it, and what
//! waited for the call is ready its delay after that. It cannot act sooner on what it does not know, so a next turn comes
//! no earlier than the feedback latency after the last token, as in a closed loop. A first token reaches the client in
//! the same way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use crate::fleet::intake::Next;
use crate::fleet::message::Feedback;
use crate::fleet::spec::{FleetSpec, Load};
use crate::kernel::rng::Stream;
use crate::kernel::{Time, give_up};
use crate::model::class::{ClassId, Lots};
use crate::model::metrics::{Distribution, Recorder};
use crate::model::request::{Mention, Request, RequestId, Ticket};
use crate::model::session::{
    self, CallId, ClientCounts, ClientSpec, Opening, Progress, SessionCounts, Sessions,
};
use crate::model::workload::{SessionSource, SourceError};

/// So many sessions open, or tries time out, before the front end is asked whether to go on.
const STEPS_AT_ONCE: u32 = 256;

/// How many sessions pass between two questions how far the source has come.
const SESSIONS_PER_FRACTION: u64 = 256;

/// What became of the sessions of a run and of their calls.
#[derive(Clone, Debug)]
pub struct Visited {
    /// Sessions and their calls.
    pub sessions: SessionCounts,
    /// Tries, and what came of them.
    pub clients: ClientCounts,
    /// Tries that ended, answered or not, when nobody waited for them any more.
    pub late: u64,
    /// From the opening of a session to the answer to its last call, ns; of those that were completed.
    pub duration: Distribution,
    /// From the moment a call was ready to its answer, over all tries, ns; of calls that were answered.
    pub call_latency: Distribution,
}

/// The sessions of a run.
pub(super) struct Visits {
    source: Box<dyn SessionSource>,
    /// The session that opens next.
    next: Option<Opening>,
    error: Option<SourceError>,
    sessions: Sessions,
    /// How many sessions may go on at once; they open when their time comes if absent.
    limit: Option<u64>,
    client: ClientSpec,
    /// Calls that are to be tried again.
    retries: BinaryHeap<Reverse<(Time, CallId)>>,
    /// When tries time out if nothing comes. Those that are over are passed over.
    deadlines: BinaryHeap<Reverse<(Time, CallId, u32)>>,
    /// The call and the try behind every request in the fleet.
    in_flight: FxHashMap<RequestId, (CallId, u32)>,
    clients: ClientCounts,
    late: u64,
    duration: Distribution,
    call_latency: Distribution,
    /// What says of which class a session is, if there are classes.
    lots: Option<Lots>,
    rng: Stream,
}

impl Visits {
    /// Nothing has been read yet.
    pub(super) fn new(spec: &FleetSpec, source: Box<dyn SessionSource>) -> Visits {
        Visits {
            source,
            next: None,
            error: None,
            sessions: Sessions::new(),
            limit: match spec.load {
                Load::Open => None,
                Load::Closed(limit) => Some(limit),
            },
            client: spec.client.unwrap_or_else(ClientSpec::patient),
            retries: BinaryHeap::new(),
            deadlines: BinaryHeap::new(),
            in_flight: FxHashMap::default(),
            clients: ClientCounts::default(),
            late: 0,
            duration: Distribution::new(),
            call_latency: Distribution::new(),
            lots: spec.lots(),
            rng: spec.client_stream(),
        }
    }

    /// Reads the next session. An error of the source ends the run.
    pub(super) fn read(&mut self) {
        self.next = self.source.next_session().unwrap_or_else(|error| {
            self.error = Some(error);
            give_up()
        });
    }

    pub(super) fn error(&mut self) -> Option<SourceError> {
        self.error.take()
    }

    pub(super) fn skipped(&self) -> u64 {
        self.source.skipped()
    }

    pub(super) fn is_over(&self) -> bool {
        self.next.is_none() && self.sessions.live() == 0
    }

    /// What became of everybody.
    pub(super) fn finish(&mut self) -> Visited {
        Visited {
            sessions: self.sessions.counts(),
            clients: self.clients,
            late: self.late,
            duration: std::mem::take(&mut self.duration),
            call_latency: std::mem::take(&mut self.call_latency),
        }
    }

    /// Lets clients lose patience and sessions open as far as that is due, and says when the next call is to be made.
    pub(super) fn next(&mut self, now: Time, recorder: &mut Recorder) -> Next {
        if !self.time_out(now) || !self.open(now, recorder) {
            return Next::Again;
        }
        let opening = self.next.as_ref().filter(|_| self.limit.is_none()).map(|next| next.at);
        let call = self.next_call().map(|(at, _)| at);
        if call.is_some_and(|at| at <= now) {
            return Next::Due;
        }
        let deadline = self.deadlines.peek().map(|&Reverse((at, ..))| at);
        match [opening, call, deadline].into_iter().flatten().min() {
            None => Next::Nothing,
            Some(at) => Next::At(at),
        }
    }

    /// Opens what is due; says whether it got through.
    fn open(&mut self, now: Time, recorder: &mut Recorder) -> bool {
        for _ in 0..STEPS_AT_ONCE {
            let is_due = |next: &mut Opening| match self.limit {
                None => next.at <= now,
                Some(limit) => (self.sessions.live() as u64) < limit,
            };
            let Some(next) = self.next.take_if(is_due) else { return true };
            let number = self.sessions.open(now, next);
            if number.is_multiple_of(SESSIONS_PER_FRACTION) {
                recorder.fraction = self.source.fraction();
            }
            self.read();
        }
        false
    }

    /// When the next call is to be made, and whether it is one that failed before.
    fn next_call(&mut self) -> Option<(Time, bool)> {
        while let Some(&Reverse((_, call))) = self.retries.peek()
            && self.sessions.call(call).is_none()
        {
            self.retries.pop();
        }
        let retry = self.retries.peek().map(|&Reverse((at, _))| (at, true));
        let ready = self.sessions.next_ready().map(|at| (at, false));
        [ready, retry].into_iter().flatten().min()
    }

    /// Makes the call that is due.
    pub(super) fn take(&mut self, now: Time) -> Option<Request> {
        let (_, is_retry) = self.next_call().filter(|&(at, _)| at <= now)?;
        let id = if is_retry { self.retries.pop()?.0.1 } else { self.sessions.pop(now)?.call };
        let (call, session) = self.sessions.call(id)?;
        let number = RequestId(self.clients.sent);
        let deadline = call.client.send(now, &self.client, &mut self.clients);
        let tries = call.client.tries();
        let mut request = Request {
            id: number,
            ticket: Ticket::default(),
            trace_line: call.ask.trace_line,
            arrival: now,
            prompt: call.ask.prompt(),
            output_tokens: call.ask.output_tokens,
            session,
            class: ClassId::default(),
            strict_priority: call.ask.strict_priority,
            priority_jump: call.ask.priority_jump,
        };
        if let Some(lots) = &self.lots {
            lots.assign(&mut request, id.session);
        }
        self.expect_by(deadline, id, tries);
        self.in_flight.insert(number, (id, tries));
        Some(request)
    }

    /// Keeps a deadline in mind, unless time ends before it.
    fn expect_by(&mut self, deadline: Time, id: CallId, tries: u32) {
        if deadline <= Time::MAX {
            self.deadlines.push(Reverse((deadline, id, tries)));
        }
    }

    /// Ends tries that have waited too long, and forgets deadlines that matter no more; says whether it got through.
    fn time_out(&mut self, now: Time) -> bool {
        for _ in 0..STEPS_AT_ONCE {
            let Some(&Reverse((at, id, tries))) = self.deadlines.peek() else { return true };
            let Some((call, _)) =
                self.sessions.call(id).filter(|(call, _)| call.client.is_under_way(tries))
            else {
                self.deadlines.pop();
                continue;
            };
            // After its first token a try has until later.
            let deadline = call.client.deadline(&self.client);
            if deadline > at {
                self.deadlines.pop();
                self.expect_by(deadline, id, tries);
                continue;
            }
            if at > now {
                return true;
            }
            self.deadlines.pop();
            let next =
                call.client.timed_out(now, tries, &self.client, &mut self.clients, &mut self.rng);
            self.after_failure(id, next);
        }
        false
    }

    fn after_failure(&mut self, id: CallId, next: session::Next) {
        match next {
            session::Next::Retry(at) => self.retries.push(Reverse((at, id))),
            session::Next::Abandon => self.sessions.abandon(id),
            session::Next::Ignore => {}
        }
    }

    /// Hears of first tokens and ends; says whether calls may have become ready, or places free.
    pub(super) fn hear(&mut self, now: Time, feedback: &Feedback) -> bool {
        for mention in &feedback.prefilled {
            if let Some(&(id, tries)) = self.in_flight.get(&mention.id)
                && let Some((call, _)) = self.sessions.call(id)
            {
                call.client.first_token(tries, &self.client);
            }
        }
        for mention in &feedback.finished {
            self.ended(now, mention);
        }
        !feedback.finished.is_empty()
    }

    /// The front end turned a try away: it is refused, at once.
    pub(super) fn turned_away(&mut self, now: Time, request: &Request) {
        self.ended(now, &Mention { has_failed: true, ..request.mention() });
    }

    fn ended(&mut self, now: Time, mention: &Mention) {
        let Some((id, tries)) = self.in_flight.remove(&mention.id) else { return };
        let Some((call, _)) =
            self.sessions.call(id).filter(|(call, _)| call.client.is_under_way(tries))
        else {
            self.late += 1;
            return;
        };
        if mention.has_failed {
            let next =
                call.client.refused(now, tries, &self.client, &mut self.clients, &mut self.rng);
            self.after_failure(id, next);
            return;
        }
        call.client.answered(tries, &mut self.clients);
        let latency = now.since(call.ready);
        self.call_latency.record(latency.as_ns(), 1);
        if let Progress::Ended(duration) = self.sessions.complete(now, id) {
            self.duration.record(duration.as_ns(), 1);
        }
    }
}
