//! The coordinator LP: requests come in, the router sends them out, workers come and go.

use slab::Slab;

use crate::fleet::door::Door;
use crate::fleet::intake::{Intake, Next};
use crate::fleet::layout::{COORDINATOR, worker_lp};
use crate::fleet::message::{ARRIVAL, DISPATCH, Feedback, Message};
use crate::fleet::scaler::Scaler;
use crate::fleet::spec::{FleetSpec, Latency, Load};
use crate::kernel::rng::{Stream, lp_stream};
use crate::kernel::{Context, Lp, Span, Time, give_up};
use crate::model::metrics::{Recorder, Row, Status};
use crate::model::request::{Request, Ticket};
use crate::model::router::{Admitted, Policy, QueueOrder, RouterQueue};

/// So many requests come or go in one event; then the observer may be heard before the rest of them.
const REQUESTS_AT_ONCE: u32 = 256;

/// More round trips than this in one instant are taken for a loop without end, before an event key has no room for them.
const ROUND_TRIPS_MAX: u16 = 60_000;

/// The front end of a fleet, or of a cell.
pub(super) struct Coordinator {
    intake: Intake,
    policy: Box<dyn Policy>,
    /// Who is in the fleet, if the policy hears of their ends.
    tickets: Option<Slab<()>>,
    /// Whoever waits until a worker has room for it, or is there at all.
    queue: Option<RouterQueue>,
    /// Who lets requests in and turns them away, if anybody does.
    door: Option<Door>,
    scaler: Option<Box<Scaler>>,
    /// When the queue changed last.
    queued_since: Time,
    load: Load,
    dispatch: Latency,
    in_flight: u64,
    /// Whether an instant did not end.
    is_endless: bool,
    rng: Stream,
}

impl Coordinator {
    pub(super) fn new(
        spec: &FleetSpec,
        intake: Intake,
        mut policy: Box<dyn Policy>,
    ) -> Coordinator {
        let scaling = spec.scaling.as_ref();
        let scaler = scaling.map(|scaling| Box::new(Scaler::new(spec, scaling, &mut *policy)));
        let has_queue = scaler.is_some() || spec.admission.is_some();
        let order = spec.router_queue.or(has_queue.then(QueueOrder::default));
        Coordinator {
            intake,
            tickets: policy.reads().finished.then(Slab::new),
            policy,
            queue: order.map(RouterQueue::new),
            door: Door::new(spec),
            scaler,
            queued_since: Time::ZERO,
            load: spec.load,
            dispatch: spec.control_plane.dispatch,
            in_flight: 0,
            is_endless: false,
            rng: lp_stream(spec.seed, COORDINATOR, 0),
        }
    }

    /// Where its requests come from.
    pub(super) fn intake(&mut self) -> &mut Intake {
        &mut self.intake
    }

    /// Whether it gave up at an instant that does not end.
    pub(super) fn is_endless(&self) -> bool {
        self.is_endless
    }

    /// Who lets workers come and go, if anybody does.
    pub(super) fn take_scaler(&mut self) -> Option<Box<Scaler>> {
        self.scaler.take()
    }

    /// What became of everybody at the door, if there is one.
    pub(super) fn admitted(&self) -> Option<Admitted> {
        self.door.as_ref().map(Door::admitted)
    }

    /// Lets workers come and go as far as that is due now.
    fn scale(&mut self, context: &mut Context<'_, Message, Recorder>) {
        let waiting = self.waiting();
        let Some(scaler) = &mut self.scaler else { return };
        let at = context.now() + self.dispatch.floor;
        for worker in scaler.advance(context.now(), waiting, &mut *self.policy) {
            context.send(worker_lp(context.id(), worker), at, DISPATCH, Message::Leave);
        }
    }

    /// Requests in the queue.
    fn waiting(&self) -> u64 {
        self.queue.as_ref().map_or(0, RouterQueue::len) as u64
    }

    /// Whether nobody can take a request now.
    fn is_busy(&self) -> bool {
        let in_fleet = self.in_flight - self.waiting();
        self.scaler.as_ref().is_some_and(|scaler| !scaler.has_ready())
            || self.door.as_ref().is_some_and(|door| door.is_closed(in_fleet))
            || self.policy.is_busy()
    }

    /// Whether no request is left, here or to come.
    fn is_over(&self) -> bool {
        self.in_flight == 0 && self.intake.is_over()
    }

    /// Sends on who waited, and turns away who has waited too long; then takes in everything that is due now, and plans
    /// what comes next.
    fn admit(&mut self, context: &mut Context<'_, Message, Recorder>) {
        self.sample_queue(context);
        let mut left = REQUESTS_AT_ONCE;
        self.release_queue(&mut left, context);
        self.expire(&mut left, context);
        let mut next = None;
        loop {
            if left == 0 {
                context.go_on();
                return;
            }
            left -= 1;
            let (now, in_flight) = (context.now(), self.in_flight);
            match self.intake.next(now, self.load, in_flight, context.recorder()) {
                Next::Due => self.arrive(context),
                Next::Again => {}
                Next::At(time) => {
                    next = Some(time);
                    break;
                }
                Next::Nothing => break,
            }
        }
        let expires = self.queue.as_ref().and_then(RouterQueue::next_deadline);
        next = next.into_iter().chain(expires).min();
        let is_over = self.is_over();
        if let Some(scaler) = self.scaler.as_mut().filter(|_| !is_over) {
            next = Some(next.map_or(scaler.next(), |next| next.min(scaler.next())));
        }
        if let Some(at) = next {
            context.wake(at, ARRIVAL);
        }
    }

    /// Enters how many requests waited since the last change into the time series.
    fn sample_queue(&mut self, context: &mut Context<'_, Message, Recorder>) {
        let waiting = self.waiting();
        if waiting > 0 {
            let (since, now) = (self.queued_since, context.now());
            context.recorder().series.sample(since, now, |_, interval| interval.queued += waiting);
        }
        self.queued_since = context.now();
    }

    fn arrive(&mut self, context: &mut Context<'_, Message, Recorder>) {
        let now = context.now();
        let Some(request) = self.intake.take(now, context.recorder()) else { return };
        context.recorder().arrive(now, request.class);
        if let Some(scaler) = &mut self.scaler {
            scaler.arrive(&request);
        }
        let is_busy = self.is_busy();
        self.in_flight += 1;
        match &mut self.queue {
            Some(queue) if !queue.is_empty() || is_busy => {
                if self.door.as_mut().is_some_and(|door| !door.may_wait(&request)) {
                    self.turn_away(&request, Status::QueueFull, context);
                    return;
                }
                let deadline = self.door.as_ref().and_then(|door| door.deadline(&request));
                let uncached_tokens = self.policy.uncached_tokens(request.visible());
                queue.push(request, uncached_tokens, deadline);
            }
            _ => self.route(request, context),
        }
    }

    /// Turns away who has waited as long as anybody may.
    fn expire(&mut self, left: &mut u32, context: &mut Context<'_, Message, Recorder>) {
        let now = context.now();
        while *left > 0
            && let Some(request) = self.queue.as_mut().and_then(|queue| queue.expire(now))
        {
            *left -= 1;
            if let Some(door) = &mut self.door {
                door.leave_queue(&request);
            }
            self.turn_away(&request, Status::Expired, context);
        }
    }

    fn turn_away(
        &mut self,
        request: &Request,
        status: Status,
        context: &mut Context<'_, Message, Recorder>,
    ) {
        let now = context.now();
        self.in_flight -= 1;
        if let Some(door) = &mut self.door {
            door.turn_away(status);
        }
        context.recorder().close(Row::turned_away(request, status, now));
        self.intake.turned_away(now, request);
    }

    fn release_queue(&mut self, left: &mut u32, context: &mut Context<'_, Message, Recorder>) {
        while *left > 0
            && !self.is_busy()
            && let Some(request) = self.queue.as_mut().and_then(RouterQueue::pop)
        {
            *left -= 1;
            if let Some(door) = &mut self.door {
                door.leave_queue(&request);
            }
            self.route(request, context);
        }
    }

    fn route(&mut self, mut request: Request, context: &mut Context<'_, Message, Recorder>) {
        if let Some(tickets) = &mut self.tickets {
            request.ticket = Ticket(tickets.insert(()) as u32);
        }
        let worker = self.policy.choose(request.visible());
        if let Some(scaler) = &mut self.scaler {
            scaler.route(worker);
        }
        let in_fleet = self.in_flight - self.waiting();
        if let Some(door) = &mut self.door {
            door.let_in(in_fleet);
        }
        let at = context.now() + self.dispatch.sample(&mut self.rng);
        context.send(worker_lp(context.id(), worker), at, DISPATCH, Message::Dispatch(request));
    }

    /// Says whether a worker leaves by that, or a request may come.
    fn hear(&mut self, now: Time, feedback: &Feedback) -> bool {
        let worker = feedback.worker;
        if !feedback.changes.is_empty() {
            self.policy.cache_changed(worker, &feedback.changes);
        }
        for request in &feedback.prefilled {
            self.policy.prefilled(worker, request.ticket);
        }
        for request in &feedback.finished {
            self.policy.finished(worker, request.ticket);
            if let Some(tickets) = &mut self.tickets {
                tickets.remove(request.ticket.index());
            }
        }
        // Without a closed loop, limits, sessions, a Planner or a policy that asks, workers do not say who has finished.
        self.in_flight -= feedback.finished.len() as u64;
        let may_come = self.intake.hear(now, feedback);
        self.scaler.as_mut().is_some_and(|scaler| scaler.hear(feedback)) || may_come
    }
}

impl Lp for Coordinator {
    type Message = Message;
    type Recorder = Recorder;

    fn lookahead(&self) -> Span {
        self.dispatch.floor
    }

    /// In a cell, it talks to the workers there.
    fn promise(&self) -> Span {
        if matches!(self.intake, Intake::Dealt(_)) { Span::FOREVER } else { self.dispatch.floor }
    }

    /// Requests that come at times of their own are routed then, unless they have to wait. What is heard in between changes
    /// where they go, not when.
    fn reacts(&self) -> bool {
        let is_open = matches!((&self.intake, self.load), (Intake::Requests(_), Load::Open));
        !is_open || self.waiting() > 0 || self.scaler.as_ref().is_some_and(|s| s.is_draining())
    }

    fn start(&mut self, context: &mut Context<'_, Message, Recorder>) {
        self.intake.read();
        let first = match self.intake.next(Time::ZERO, self.load, 0, context.recorder()) {
            Next::At(time) => time,
            Next::Due | Next::Again | Next::Nothing => Time::ZERO,
        };
        let next = self.scaler.as_mut().map_or(Time::NEVER, |scaler| scaler.next());
        context.wake(first.min(next), ARRIVAL);
    }

    fn receive(&mut self, message: Message, context: &mut Context<'_, Message, Recorder>) {
        let feedback = match message {
            Message::Feedback(feedback) => feedback,
            Message::Deal(request) => {
                self.intake.deal(request);
                // All that is dealt at this instant first.
                context.wake(context.now(), ARRIVAL);
                return;
            }
            Message::Dispatch(_) | Message::Leave => unreachable!("that is for workers"),
        };
        let is_news = self.hear(context.now(), &feedback);
        if self.scaler.is_some() && self.is_over() {
            // No tick matters any more.
            context.sleep();
        } else if is_news || self.waiting() > 0 || matches!(self.load, Load::Closed(_)) {
            // All feedback of this instant first, then whoever may go on.
            context.wake(context.now(), ARRIVAL);
        }
    }

    fn wake(&mut self, context: &mut Context<'_, Message, Recorder>) {
        if context.round() > ROUND_TRIPS_MAX {
            self.is_endless = true;
            give_up();
        }
        self.scale(context);
        self.admit(context);
    }
}
