//! The worker LP: one engine, and what the outside hears of it.
//!
//! Feedback about a pass is sent when the pass starts, stamped with its end plus the feedback latency. Nothing that
//! arrives in between can change the outcome, so this gives away nothing, and it is what lets partitions of a parallel
//! run stay apart for a whole pass.

use std::sync::Arc;

use crate::fleet::layout::{COORDINATOR, worker_lp};
use crate::fleet::message::{FEEDBACK, Feedback, Message, Observed, PASS};
use crate::fleet::spec::{FleetSpec, Latency};
use crate::kernel::rng::{Stream, lp_stream};
use crate::kernel::{Context, Lp, LpId, Span, Time};
use crate::model::engine::{Effects, Engine, EngineShape, Outcome};
use crate::model::metrics::Recorder;
use crate::model::planner::{Traffic, WorkerLoad};
use crate::model::request::{Mentions, WorkerId};
use crate::model::router::Reads;

/// Where a worker belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    /// Its front end.
    pub(super) coordinator: LpId,
    /// Its number there.
    pub(super) local: WorkerId,
    /// Its number in the whole fleet.
    pub(super) id: WorkerId,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    home: Home,
    engine: Engine,
    reports: Reads,
    /// What the Planner was told last, if there is one.
    told: Option<WorkerLoad>,
    feedback: Latency,
    lookahead: Span,
    /// Reports travel in one stream and never overtake one another.
    last_report: Time,
    events: u64,
    rng: Stream,
}

impl Worker {
    /// A worker of a fleet or of a cell, which `spec` describes.
    pub(super) fn new(
        home: Home,
        shape: Arc<EngineShape>,
        spec: &FleetSpec,
        reports: Reads,
    ) -> Worker {
        let lookahead = spec.worker_lookahead(shape.shortest_pass(), reports);
        let mut engine = Engine::new(home.id, shape, reports.cache);
        if spec.scaling.as_ref().is_some_and(|scaling| scaling.planner.reads_passes()) {
            engine.tell_passes();
        }
        Worker {
            home,
            lookahead,
            engine,
            reports,
            told: spec.scaling.is_some().then(WorkerLoad::default),
            feedback: spec.control_plane.feedback,
            last_report: Time::ZERO,
            events: 0,
            rng: lp_stream(spec.seed, worker_lp(COORDINATOR, home.local), 0),
        }
    }

    /// Its number in the whole fleet.
    pub(super) fn id(&self) -> WorkerId {
        self.home.id
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How many dispatches it got, and passes and decode runs it planned or ended.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// What the Planner has not been told yet. The load is the one after the pass, without those who arrive during it.
    fn observe(&mut self, outcome: &Outcome) -> Option<Box<Observed>> {
        let told = self.told.as_mut()?;
        let Outcome { traffic, pass, .. } = *outcome;
        let load = self.engine.load();
        if load == *told && traffic == Traffic::default() && pass.is_none() {
            return None;
        }
        *told = load;
        Some(Box::new(Observed { traffic, load, pass }))
    }

    fn report(&mut self, outcome: &mut Outcome, context: &mut Context<'_, Message, Recorder>) {
        let (worker, reads) = (self.home.local, self.reports);
        let read = |mentions: &mut Mentions, is_read| {
            if is_read { std::mem::take(mentions) } else { Mentions::new() }
        };
        if reads.finished && !outcome.refused.is_empty() {
            let finished = read(&mut outcome.refused, true);
            self.send(context.now(), Feedback { finished, ..Feedback::new(worker) }, context);
        }
        let observed = self.observe(outcome);
        let Outcome { end, prefilled, finished, changes, .. } = outcome;
        let is_news = !changes.is_empty()
            || reads.prefilled && !prefilled.is_empty()
            || reads.finished && !finished.is_empty();
        if is_news || observed.is_some() {
            let feedback = Feedback {
                worker,
                prefilled: read(prefilled, reads.prefilled),
                finished: read(finished, reads.finished),
                changes: std::mem::take(changes),
                observed,
            };
            self.send(*end, feedback, context);
        }
    }

    fn send(
        &mut self,
        known: Time,
        feedback: Feedback,
        context: &mut Context<'_, Message, Recorder>,
    ) {
        let promised = context.now() + self.lookahead;
        let arrival = known + self.feedback.sample(&mut self.rng);
        let at = arrival.max(promised).max(self.last_report);
        self.last_report = at;
        context.send(self.home.coordinator, at, FEEDBACK, Message::Feedback(feedback));
    }
}

impl Lp for Worker {
    type Message = Message;
    type Recorder = Recorder;

    fn lookahead(&self) -> Span {
        self.lookahead
    }

    /// In a cell, it talks to the front end there.
    fn promise(&self) -> Span {
        if self.home.coordinator == COORDINATOR { self.lookahead } else { Span::FOREVER }
    }

    fn start(&mut self, _: &mut Context<'_, Message, Recorder>) {}

    fn receive(&mut self, message: Message, context: &mut Context<'_, Message, Recorder>) {
        match message {
            Message::Dispatch(request) => {
                self.events += 1;
                let now = context.now();
                if let Some(at) = self.engine.arrive(now, request, context.recorder()) {
                    context.wake(at, PASS);
                }
            }
            Message::Leave => {
                let changes = self.engine.clear_cache();
                if !changes.is_empty() {
                    let feedback = Feedback { changes, ..Feedback::new(self.home.local) };
                    self.send(context.now(), feedback, context);
                }
            }
            Message::Deal(_) | Message::Feedback(_) => unreachable!("that is for coordinators"),
        }
    }

    fn wake(&mut self, context: &mut Context<'_, Message, Recorder>) {
        self.events += 1;
        let (now, mut outcome) = (context.now(), Outcome::default());
        let effects = Effects { recorder: context.recorder(), outcome: &mut outcome };
        if let Some(at) = self.engine.step(now, effects) {
            context.wake(at, PASS);
        }
        self.report(&mut outcome, context);
    }
}
