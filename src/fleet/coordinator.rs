//! The coordinator LP: requests come in, the router sends them out.

use crate::fleet::arrivals::Arrivals;
use crate::fleet::message::{ARRIVAL, COORDINATOR, DISPATCH, Feedback, Message, Places};
use crate::fleet::spec::{FleetSpec, Latency, Load};
use crate::kernel::rng::{Stream, lp_stream};
use crate::kernel::{Context, Lp, Span, Time};
use crate::model::metrics::Recorder;
use crate::model::request::Request;
use crate::model::router::{Policy, RouterQueue};

/// The front end of a fleet.
pub(super) struct Coordinator {
    arrivals: Arrivals,
    policy: Box<dyn Policy>,
    queue: Option<RouterQueue>,
    /// When the queue changed last.
    queued_since: Time,
    load: Load,
    dispatch: Latency,
    in_flight: u64,
    rng: Stream,
}

impl Coordinator {
    pub(super) fn new(
        spec: &FleetSpec,
        arrivals: Arrivals,
        policy: Box<dyn Policy>,
    ) -> Coordinator {
        Coordinator {
            arrivals,
            policy,
            queue: spec.router_queue.map(RouterQueue::new),
            queued_since: Time::ZERO,
            load: spec.load,
            dispatch: spec.control_plane.dispatch,
            in_flight: 0,
            rng: lp_stream(spec.seed, COORDINATOR, 0),
        }
    }

    /// Where its requests come from.
    pub(super) fn arrivals(&mut self) -> &mut Arrivals {
        &mut self.arrivals
    }

    /// Sends on who waited, then takes in everything that is due now, and plans the next arrival.
    fn admit(&mut self, context: &mut Context<'_, Message, Recorder>) {
        self.sample_queue(context);
        self.release_queue(context);
        while let Some(request) = self.arrivals.next() {
            match self.load {
                Load::Open if request.arrival > context.now() => {
                    context.wake(request.arrival, ARRIVAL);
                    break;
                }
                Load::Closed(limit) if self.in_flight >= limit => break,
                Load::Open | Load::Closed(_) => self.arrive(context),
            }
        }
    }

    /// Enters how many requests waited since the last change into the time series.
    fn sample_queue(&mut self, context: &mut Context<'_, Message, Recorder>) {
        let waiting = self.queue.as_ref().map_or(0, RouterQueue::len) as u64;
        if waiting > 0 {
            let (since, now) = (self.queued_since, context.now());
            context.recorder().series.sample(since, now, |_, interval| interval.queued += waiting);
        }
        self.queued_since = context.now();
    }

    fn arrive(&mut self, context: &mut Context<'_, Message, Recorder>) {
        let now = context.now();
        let Some(request) = self.arrivals.take(now, context.recorder()) else { return };
        self.in_flight += 1;
        context.recorder().arrive(now);
        match &mut self.queue {
            Some(queue) if !queue.is_empty() || self.policy.is_busy() => {
                let uncached_tokens = self.policy.uncached_tokens(request.visible());
                queue.push(request, uncached_tokens);
            }
            _ => self.route(request, context),
        }
    }

    fn release_queue(&mut self, context: &mut Context<'_, Message, Recorder>) {
        while !self.policy.is_busy()
            && let Some(request) = self.queue.as_mut().and_then(RouterQueue::pop)
        {
            self.route(request, context);
        }
    }

    fn route(&mut self, request: Request, context: &mut Context<'_, Message, Recorder>) {
        let worker = self.policy.choose(request.visible());
        let at = context.now() + self.dispatch.sample(&mut self.rng);
        context.send(
            Places::UNDIVIDED.worker(worker),
            at,
            DISPATCH,
            Message::Dispatch(Box::new(request)),
        );
    }

    fn hear(&mut self, feedback: &Feedback) {
        let worker = feedback.worker;
        if !feedback.changes.is_empty() {
            self.policy.cache_changed(worker, &feedback.changes);
        }
        for request in &feedback.prefilled {
            self.policy.prefilled(worker, request.id);
        }
        for request in &feedback.finished {
            self.policy.finished(worker, request.id);
        }
        // Without a closed loop or a policy that asks, workers do not say who has finished.
        self.in_flight -= feedback.finished.len() as u64;
    }
}

impl Lp for Coordinator {
    type Message = Message;
    type Recorder = Recorder;

    fn lookahead(&self) -> Span {
        self.dispatch.floor
    }

    fn start(&mut self, context: &mut Context<'_, Message, Recorder>) {
        self.arrivals.read(context.recorder());
        let first = match (self.arrivals.next(), self.load) {
            (Some(request), Load::Open) => request.arrival,
            _ => Time::ZERO,
        };
        context.wake(first, ARRIVAL);
    }

    fn receive(&mut self, message: Message, context: &mut Context<'_, Message, Recorder>) {
        let Message::Feedback(feedback) = message else {
            unreachable!("only feedback reaches the coordinator")
        };
        self.hear(&feedback);
        let waiting = self.queue.as_ref().is_some_and(|queue| !queue.is_empty());
        if waiting || matches!(self.load, Load::Closed(_)) {
            // All feedback of this instant first, then whoever may go on.
            context.wake(context.now(), ARRIVAL);
        }
    }

    fn wake(&mut self, context: &mut Context<'_, Message, Recorder>) {
        self.admit(context);
    }
}
