//! A coordinator whose index of prompts is kept in parts, each by an LP of its own.
//!
//! ```text
//!               look up, at its arrival                  answer
//! [ coordinator ] ================> [ parts of the index ] ====> [ coordinator ] ====> [ worker ]
//!        =====================================>  ^                                       |
//!          assigned, when nobody can know sooner +=======================================+  feedback
//! ```
//!
//! The parts are aides of the coordinator: they hear of requests before they arrive, and answer without any delay. What
//! the coordinator decides reaches them as late as it can without being overtaken by feedback about it; until then it
//! remembers that itself. So every decision is the same as with an undivided index.

use rustc_hash::FxHashMap;

use crate::fleet::arrivals::Arrivals;
use crate::fleet::message::{
    ANSWER, ARRIVAL, ASSIGNMENT, Answer, COORDINATOR, DISPATCH, Feedback, LOAD, Message, Places,
};
use crate::fleet::spec::{FleetSpec, Latency};
use crate::kernel::rng::{Stream, lp_stream};
use crate::kernel::{Context, Lp, Span, Time};
use crate::model::metrics::Recorder;
use crate::model::request::{Prompt, RequestId};
use crate::model::router::{Divided, KvBooks, KvLoads, Overlaps, Recent};

/// The coordinator.
pub(super) struct DividedCoordinator {
    arrivals: Arrivals,
    loads: KvLoads,
    recent: Recent,
    places: Places,
    dispatch: Latency,
    /// How long before anything matters to the parts of the index they hear of it.
    notice: Span,
    /// The last arrival that a part was told of.
    last_arrival: Time,
    /// The request to be routed next, and those whose answers came before its own, at the same instant.
    next: RequestId,
    early: Vec<Answer>,
    rng: Stream,
}

/// A part of the index.
pub(super) struct IndexPart {
    books: KvBooks,
    /// The prompts of requests that were looked up, until it hears where they went.
    prompts: FxHashMap<RequestId, Prompt>,
}

impl DividedCoordinator {
    /// The coordinator, and the parts of its index.
    pub(super) fn new(
        spec: &FleetSpec,
        arrivals: Arrivals,
        divided: Divided,
        workers_lookahead: Span,
    ) -> (DividedCoordinator, Vec<IndexPart>) {
        let Divided { loads, recent, books } = divided;
        let dispatch = spec.control_plane.dispatch;
        let coordinator = DividedCoordinator {
            arrivals,
            loads,
            recent,
            places: Places { parts: books.len() as u32 },
            dispatch,
            notice: dispatch.floor + workers_lookahead,
            last_arrival: Time::ZERO,
            next: RequestId(0),
            early: Vec::new(),
            rng: lp_stream(spec.seed, COORDINATOR, 0),
        };
        let part = |books| IndexPart { books, prompts: FxHashMap::default() };
        (coordinator, books.into_iter().map(part).collect())
    }

    /// Where its requests come from.
    pub(super) fn arrivals(&mut self) -> &mut Arrivals {
        &mut self.arrivals
    }

    /// Lets all requests that arrive soon be looked up when they do.
    fn announce(&mut self, context: &mut Context<'_, Message, Recorder>) {
        // Twice as far as necessary, so that there are several at a time.
        let until = context.now() + self.notice + self.notice;
        while let Some(request) = self.arrivals.next() {
            if request.arrival > until {
                let now = context.now();
                let time = request.arrival.as_ns().saturating_sub(self.notice.as_ns());
                context.wake(now.max(Time::from_ns(time)), ARRIVAL);
                break;
            }
            self.last_arrival = self.last_arrival.max(request.arrival);
            if let Some(request) = self.arrivals.take(self.last_arrival, context.recorder()) {
                let part = self.places.part(request.mention().root);
                let (at, request) = (self.last_arrival, Box::new(request));
                context.send(part, at, ARRIVAL, Message::LookUp(request));
            }
        }
    }

    /// Routes requests in their order: answers from several parts may come in any order at one instant.
    fn answered(&mut self, answer: Answer, context: &mut Context<'_, Message, Recorder>) {
        if answer.request.id != self.next {
            self.early.push(answer);
            return;
        }
        self.route(answer, context);
        while let Some(at) = self.early.iter().position(|early| early.request.id == self.next) {
            let answer = self.early.swap_remove(at);
            self.route(answer, context);
        }
    }

    fn route(&mut self, answer: Answer, context: &mut Context<'_, Message, Recorder>) {
        let Answer { request, mut overlaps } = answer;
        let now = context.now();
        self.next = RequestId(request.id.0 + 1);
        context.recorder().arrive(now, request.class);
        self.recent.forget(now);
        self.recent.correct(request.visible(), &mut overlaps);
        let worker = self.loads.choose(request.visible(), &overlaps);
        let assigned = self.loads.assign(request.visible(), &overlaps, worker);
        let entered = now + self.notice;
        self.recent.push(request.visible(), worker, entered);
        let part = self.places.part(request.mention().root);
        context.send(part, entered, ASSIGNMENT, Message::Assigned(request.id, assigned));
        let at = now + self.dispatch.sample(&mut self.rng);
        context.send(self.places.worker(worker), at, DISPATCH, Message::Dispatch(request));
    }
}

impl Lp for DividedCoordinator {
    type Message = Message;
    type Recorder = Recorder;

    fn lookahead(&self) -> Span {
        self.dispatch.floor
    }

    fn start(&mut self, context: &mut Context<'_, Message, Recorder>) {
        self.arrivals.read(context.recorder());
        self.announce(context);
    }

    fn receive(&mut self, message: Message, context: &mut Context<'_, Message, Recorder>) {
        match message {
            Message::Answer(answer) => self.answered(*answer, context),
            Message::Prefilled(worker, tokens) => self.loads.prefilled(worker, tokens),
            Message::Ended(ended) => {
                self.recent.forget(context.now());
                let lost = self.recent.lost_blocks(&ended) + ended.own_blocks;
                self.loads.finished(ended.worker, ended.prefill_tokens, lost);
            }
            other => unreachable!("{other:?} does not reach the coordinator"),
        }
    }

    fn wake(&mut self, context: &mut Context<'_, Message, Recorder>) {
        self.announce(context);
    }
}

impl IndexPart {
    fn hear(&mut self, feedback: Feedback, context: &mut Context<'_, Message, Recorder>) {
        let now = context.now();
        for change in &feedback.changes {
            self.books.cache_changed(feedback.worker, change);
        }
        for request in feedback.prefilled {
            if let Some((worker, tokens)) = self.books.prefilled(request.id)
                && tokens > 0
            {
                context.send(COORDINATOR, now, LOAD, Message::Prefilled(worker, tokens));
            }
        }
        for request in feedback.finished {
            if let Some(ended) = self.books.finished(request.id) {
                context.send(COORDINATOR, now, LOAD, Message::Ended(Box::new(ended)));
            }
        }
    }
}

impl Lp for IndexPart {
    type Message = Message;
    type Recorder = Recorder;

    fn lookahead(&self) -> Span {
        Span::ZERO
    }

    fn is_aide(&self) -> bool {
        true
    }

    fn start(&mut self, _: &mut Context<'_, Message, Recorder>) {}

    fn receive(&mut self, message: Message, context: &mut Context<'_, Message, Recorder>) {
        match message {
            Message::LookUp(request) => {
                let mut overlaps = Overlaps::default();
                self.books.look_up(&request.prompt, &mut overlaps);
                self.prompts.insert(request.id, request.prompt.clone());
                let answer = Box::new(Answer { request, overlaps });
                context.send(COORDINATOR, context.now(), ANSWER, Message::Answer(answer));
            }
            Message::Assigned(request, assigned) => {
                let prompt = self.prompts.remove(&request).expect("it was looked up here");
                self.books.assign(request, &prompt, assigned);
            }
            Message::Feedback(feedback) => self.hear(feedback, context),
            other => unreachable!("{other:?} does not reach the index"),
        }
    }

    fn wake(&mut self, _: &mut Context<'_, Message, Recorder>) {}
}
