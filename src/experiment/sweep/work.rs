//! The runs of a sweep, several at once.
//!
//! Numbers are handed out in order. When a run fails no other starts, those before it go on to their ends and those after it
//! are broken off. So the failure that is told is the first in order, whoever is faster.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::experiment::sweep::{Plan, Store};
use crate::experiment::{Cause, ExperimentError, OnProgress, Watch};
use crate::report::SweepRun;

/// What the threads share.
pub(super) struct Work<'a> {
    plan: &'a Plan,
    watch: &'a dyn Watch,
    /// The first run in order that has failed so far; [`usize::MAX`] if none has.
    failed: AtomicUsize,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    /// The run that starts next.
    next: usize,
    /// Runs that have ended before one with a lower number.
    early: BTreeMap<usize, SweepRun>,
    /// Runs that are stored, as all before them are.
    stored: Vec<SweepRun>,
    store: &'a mut Store<'a>,
    /// Of the run [`Work::failed`].
    failure: Option<Failure>,
}

enum Failure {
    Cause(Cause),
    Panic(Box<dyn Any + Send>),
}

impl<'a> Work<'a> {
    pub(super) fn new(plan: &'a Plan, watch: &'a dyn Watch, store: &'a mut Store<'a>) -> Work<'a> {
        let (early, stored) = (BTreeMap::new(), Vec::with_capacity(plan.jobs.len()));
        let state = State { next: 0, early, stored, store, failure: None };
        Work { plan, watch, failed: AtomicUsize::new(usize::MAX), state: Mutex::new(state) }
    }

    /// See [`Plan::run`].
    pub(super) fn run(self) -> Result<Vec<SweepRun>, ExperimentError> {
        thread::scope(|scope| {
            for _ in 1..self.plan.at_once {
                // Where the system has no more threads, those that are there do all the work.
                if thread::Builder::new().spawn_scoped(scope, || self.go_on()).is_err() {
                    break;
                }
            }
            self.go_on();
        });
        let state = self.state.into_inner();
        match state.failure {
            None => Ok(state.stored),
            Some(Failure::Cause(cause)) => {
                let run = Some(self.plan.name(self.failed.into_inner()));
                Err(ExperimentError { run, cause })
            }
            Some(Failure::Panic(payload)) => resume_unwind(payload),
        }
    }

    /// One run after the other, until there is none left.
    fn go_on(&self) {
        while let Some((run, progress)) = self.start() {
            // Relaxed: the number carries no data, and the run only has to see it soon.
            let hurried = |now, ended, fraction| {
                if self.failed.load(Ordering::Relaxed) < run {
                    return ControlFlow::Break(());
                }
                progress(now, ended, fraction)
            };
            let done = catch_unwind(AssertUnwindSafe(|| self.plan.run_one(run, &hurried)));
            drop(progress);
            self.end(
                run,
                match done {
                    Ok(done) => done.map_err(Failure::Cause),
                    Err(payload) => Err(Failure::Panic(payload)),
                },
            );
        }
    }

    /// Starts the next run. Nobody else starts one meanwhile, so that runs are told of in order.
    fn start(&self) -> Option<(usize, Box<OnProgress<'a>>)> {
        let mut state = self.state.lock();
        let run = state.next;
        if state.failure.is_some() || run == self.plan.jobs.len() {
            return None;
        }
        state.next += 1;
        let requests = self.plan.jobs[run].traffic.requests();
        Some((run, self.watch.start(&self.plan.name(run), requests)))
    }

    /// A run has ended; stores what can be.
    fn end(&self, run: usize, done: Result<SweepRun, Failure>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        match done {
            Ok(done) => {
                state.early.insert(run, done);
            }
            Err(failure) => self.fail(state, run, failure),
        }
        while let Some(done) = state.early.remove(&state.stored.len()) {
            match (state.store)(&done) {
                Ok(()) => state.stored.push(done),
                Err(error) => {
                    let run = state.stored.len();
                    self.fail(state, run, Failure::Cause(Cause::Output(error)));
                }
            }
        }
    }

    fn fail(&self, state: &mut State, run: usize, failure: Failure) {
        if run < self.failed.load(Ordering::Relaxed) {
            self.failed.store(run, Ordering::Relaxed);
            state.failure = Some(failure);
        }
    }
}
