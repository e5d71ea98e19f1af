//! The model meets the kernel: a fleet as logical processes, and the one way to run it.
//!
//! ```text
//!                 dispatch, after Ld
//!   source --> [ coordinator: router ] ==========================> [ worker 0: engine ]
//!                        ^                                         [ worker 1: engine ]
//!                        +======================================== [ ...              ]
//!                                 feedback, after pass end + Lf
//! ```

mod activity;
mod arrivals;
mod coordinator;
mod door;
mod drain;
mod execution;
mod intake;
mod laws;
mod message;
mod outcome;
mod scaler;
mod spec;
mod visits;
mod worker;

pub use activity::{Activity, Busy};
pub use execution::{Executed, Execution, ExecutionOptions, Executor, Threads};
pub use outcome::Outcome;
pub use scaler::{Scaled, Tick};
pub use spec::{ControlPlane, FleetSpec, Latency, Load, PoolSpec, Scaling};
pub use visits::Visited;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fleet::coordinator::Coordinator;
use crate::fleet::drain::Drain;
use crate::fleet::execution::Situation;
use crate::fleet::intake::Intake;
use crate::fleet::message::{Message, worker_at};
use crate::fleet::worker::Worker;
use crate::kernel::{
    self, Account, Context, Finished, Lp, Occupancy, ParallelOptions, Span, Stopped, Time,
};
use crate::model::engine::EngineShape;
use crate::model::metrics::{Recorder, Row};
use crate::model::request::WorkerId;
use crate::model::router::{Policy, Reads};
use crate::model::workload::{Demand, SourceError};

/// The workers are split into so many groups per thread, unless there are very few or very many: enough to share evenly,
/// few enough to look through in every phase.
const GROUPS_PER_THREAD: usize = 8;

/// At most so many; also if it is taken down what they cost, because then it is to be shared by any number of threads.
const GROUPS_MAX: usize = 64;

/// The same without feedback, where phases are long.
const GROUPS_ALONE: usize = 256;

/// The most arrivals that the coordinator works off in one phase if it need not wait for feedback: about what is read
/// ahead for it.
const READ_AHEAD: u64 = 4096;

/// Where the results of a run go while it runs, and who may end it early.
///
/// Its methods are called from any thread of the run, several at once.
pub trait Sink: Sync {
    /// Requests have ended. Rows come in no particular order.
    ///
    /// # Errors
    /// Whatever keeps the rows from being stored; it ends the run.
    fn rows(&self, rows: &[Row]) -> io::Result<()>;

    /// The run has come as far as `now`, and `ended` requests have ended so far, over all threads. `fraction` is the share
    /// of the workload that has arrived, from 0 to 1, if its source can tell. Called often, and at the end with
    /// [`Time::NEVER`]; a break ends the run.
    fn progress(&self, _now: Time, _ended: u64, _fraction: Option<f64>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// The run begins, and may be watched from another thread.
    fn watch(&self, _activity: Activity) {}
}

/// Why a run ended before its work was done.
#[derive(Debug)]
pub enum RunError {
    /// The sink asked for it.
    Halted,
    /// The sink could not take a row.
    Sink(io::Error),
    /// The source of requests broke off.
    Source(SourceError),
    /// Requests come and go in one instant, again and again: neither they nor what they bring about takes any time.
    Endless {
        /// The instant.
        time: Time,
    },
    /// A bug in the simulator: its books do not balance.
    LawBroken {
        /// What does not hold.
        law: String,
        /// The seed of the run.
        seed: u64,
    },
    /// A bug in the simulator.
    Panicked {
        /// Which worker; the coordinator if none.
        worker: Option<WorkerId>,
        /// The virtual time.
        time: Time,
        /// The seed of the run.
        seed: u64,
        /// What the bug said.
        message: String,
    },
    /// A bug in the executor.
    Broken {
        /// The seed of the run.
        seed: u64,
        /// What the bug said.
        message: String,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Halted => f.write_str("the run was interrupted"),
            RunError::Sink(error) => write!(f, "the results cannot be written: {error}"),
            RunError::Source(error) => write!(f, "{error}"),
            RunError::Endless { time } => write!(
                f,
                "at {time} of virtual time tens of thousands of requests come and end one after the other, and no time \
                 passes; set control_plane.dispatch_latency or control_plane.feedback_latency above 0"
            ),
            RunError::LawBroken { law, seed } => {
                write!(f, "the books of the run do not balance, seed {seed}: {law}")
            }
            RunError::Panicked { worker, time, seed, message } => {
                match worker {
                    Some(worker) => write!(f, "{worker}")?,
                    None => f.write_str("the coordinator")?,
                }
                write!(f, " panicked at {time}, seed {seed}: {message}")
            }
            RunError::Broken { seed, message } => {
                write!(f, "the executor panicked, seed {seed}: {message}")
            }
        }
    }
}

impl std::error::Error for RunError {}

/// Runs a fleet until every request or session of `demand` has ended.
///
/// # Errors
/// [`RunError`]; no result is complete then.
///
/// # Panics
/// If the spec has no workers, or more than an event key can number, or several pools of workers that come and go.
pub fn run(
    spec: &FleetSpec,
    demand: impl Into<Demand>,
    policy: Box<dyn Policy>,
    sink: &dyn Sink,
) -> Result<Outcome, RunError> {
    let mut intake = Intake::new(spec, demand.into());
    assert!(spec.workers() > 0, "a fleet without workers");
    assert!(spec.scaling.is_none() || spec.pools.len() == 1, "a Planner for several pools");
    let reports = spec.reports(policy.reads(), matches!(intake, Intake::Sessions(_)));
    let round_trip = spec.round_trip(reports);
    let listens = round_trip < Span::FOREVER && spec.listens();
    let silence = if listens && spec.execution.may_share() { intake.silence() } else { Span::ZERO };
    let situation = Situation { workers: spec.workers(), round_trip, silence };
    let executed = spec.execution.choose(situation);
    let mut lps = build(spec, intake, policy, reports);
    let recorder = || Recorder::new(spec.series_interval, spec.slo).with_classes(&spec.classes);
    let mut recorders: Vec<Recorder> = (0..executed.threads).map(|_| recorder()).collect();
    let drain = Drain::new(sink, spec.series_interval, recorders.len());
    let books = Books::new(spec.execution.options);
    let result = execute(spec, &mut lps, &mut recorders, &drain, &books);
    let mut recorder = recorders.swap_remove(0);
    for other in recorders {
        recorder.merge(other);
    }
    recorder.series = drain.finish().map_err(RunError::Sink)?;
    let coordinator = lps.first_mut().and_then(FleetLp::coordinator).expect("it is the first LP");
    let skipped = coordinator.intake().skipped();
    if let Some(error) = coordinator.intake().error() {
        return Err(RunError::Source(error));
    }
    if let Some(time) = coordinator.endless() {
        return Err(RunError::Endless { time });
    }
    let finished = result.map_err(|stopped| match stopped {
        Stopped::Halted => RunError::Halted,
        Stopped::Panicked { lp, time, message } => {
            let worker = worker_at(lp);
            RunError::Panicked { worker, time, seed: spec.seed, message }
        }
        Stopped::Broken { message } => RunError::Broken { seed: spec.seed, message },
    })?;
    let scaled = coordinator.take_scaler().map(|scaler| scaler.finish(finished.end));
    let visited = coordinator.intake().finish();
    let admitted = coordinator.admitted();
    let workers = || lps.iter().filter_map(FleetLp::worker);
    // The executor counts more of them.
    let events = recorder.totals.arrived + workers().map(Worker::events).sum::<u64>();
    let (digest, end) = (recorder.digest.value(), finished.end);
    let outcome = Outcome {
        recorder,
        workers: workers().map(|worker| *worker.engine().work()).collect(),
        scaled,
        visited,
        admitted,
        skipped,
        digest,
        events,
        end,
        executed,
        account: books.account.map(Mutex::into_inner),
        occupancy: books.occupancy.map(Mutex::into_inner),
    };
    match laws::broken(&outcome, workers().map(Worker::engine)) {
        Some(law) => Err(RunError::LawBroken { law, seed: spec.seed }),
        None => Ok(outcome),
    }
}

/// All LPs of a fleet: the coordinator, then the workers.
fn build(
    spec: &FleetSpec,
    intake: Intake,
    policy: Box<dyn Policy>,
    reports: Reads,
) -> Vec<FleetLp> {
    let mut lps = vec![FleetLp::Coordinator(Box::new(Coordinator::new(spec, intake, policy)))];
    for (pool, workers) in spec.ranges() {
        let shape = Arc::new(EngineShape::new(pool.engine.clone(), spec.workers()));
        let worker = |id| Box::new(Worker::new(WorkerId(id), Arc::clone(&shape), spec, reports));
        lps.extend(workers.map(|id| FleetLp::Worker(worker(id))));
    }
    lps
}

/// What the executor takes down about itself, if it is to.
struct Books {
    account: Option<Mutex<Account>>,
    occupancy: Option<Mutex<Occupancy>>,
}

impl Books {
    fn new(options: ExecutionOptions) -> Books {
        Books {
            account: options.account.then(Mutex::default),
            occupancy: options.occupancy.then(Mutex::default),
        }
    }
}

/// Runs the LPs on as many threads as there are recorders.
fn execute(
    spec: &FleetSpec,
    lps: &mut [FleetLp],
    recorders: &mut [Recorder],
    drain: &Drain<'_>,
    books: &Books,
) -> Result<Finished, Stopped> {
    let Execution { pin, options, .. } = spec.execution;
    let is_alone = lps.last().is_some_and(|worker| worker.lookahead() == Span::FOREVER);
    let has_phases = match options.executor {
        Executor::Suited => is_alone,
        Executor::Sequential => false,
        Executor::Phases | Executor::Clocks => true,
    };
    if let [recorder] = recorders
        && !(has_phases && kernel::can_run_parallel(lps))
    {
        return kernel::run_sequential(lps, recorder, drain);
    }
    let ahead = lps[0].coordinator().and_then(|lp| lp.intake().read_ahead());
    let workers = spec.workers() as usize;
    let groups = if is_alone {
        GROUPS_ALONE
    } else if books.account.is_some() {
        GROUPS_MAX
    } else {
        (recorders.len() * GROUPS_PER_THREAD).min(GROUPS_MAX)
    };
    let run = match options.executor {
        Executor::Clocks => kernel::run_asynchronous,
        _ => kernel::run_parallel,
    };
    let options = ParallelOptions {
        spokes_per_group: options.workers_per_group.unwrap_or(workers.div_ceil(groups).min(64)),
        stealing: !options.no_stealing,
        pin,
        hub_budget: (2 * u64::from(spec.workers())).clamp(1024, READ_AHEAD),
        errand: &|| ahead.as_ref().is_some_and(|ahead| ahead.advance()),
        account: books.account.as_ref(),
        occupancy: books.occupancy.as_ref(),
        fuzz: options.fuzz,
    };
    run(lps, recorders, drain, options)
}

/// An LP of a fleet.
enum FleetLp {
    Coordinator(Box<Coordinator>),
    Worker(Box<Worker>),
}

impl FleetLp {
    fn coordinator(&mut self) -> Option<&mut Coordinator> {
        match self {
            FleetLp::Coordinator(coordinator) => Some(coordinator),
            FleetLp::Worker(_) => None,
        }
    }

    fn worker(&self) -> Option<&Worker> {
        match self {
            FleetLp::Worker(worker) => Some(worker),
            FleetLp::Coordinator(_) => None,
        }
    }
}

/// The same for LPs of every kind.
macro_rules! each {
    ($self:ident, $lp:ident => $call:expr) => {
        match $self {
            FleetLp::Coordinator($lp) => $call,
            FleetLp::Worker($lp) => $call,
        }
    };
}

impl Lp for FleetLp {
    type Message = Message;
    type Recorder = Recorder;

    fn lookahead(&self) -> Span {
        each!(self, lp => lp.lookahead())
    }

    fn reacts(&self) -> bool {
        each!(self, lp => lp.reacts())
    }

    fn start(&mut self, context: &mut Context<'_, Message, Recorder>) {
        each!(self, lp => lp.start(context));
    }

    fn receive(&mut self, message: Message, context: &mut Context<'_, Message, Recorder>) {
        each!(self, lp => lp.receive(message, context));
    }

    fn wake(&mut self, context: &mut Context<'_, Message, Recorder>) {
        each!(self, lp => lp.wake(context));
    }
}
