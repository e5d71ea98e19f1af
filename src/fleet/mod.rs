//! The model meets the kernel: a fleet as logical processes, and the one way to run it.
//!
//! ```text
//!                 dispatch, after Ld
//!   source --> [ coordinator: router ] ==========================> [ worker 0: engine ]
//!                        ^                                         [ worker 1: engine ]
//!                        +======================================== [ ...              ]
//!                                 feedback, after pass end + Lf
//! ```
//!
//! A fleet may be divided into cells: so many of these pictures side by side, behind a balancer that deals requests to them.

mod activity;
mod arrivals;
mod balancer;
mod coordinator;
mod door;
mod drain;
mod execution;
mod intake;
mod laws;
mod layout;
mod lps;
mod message;
mod outcome;
mod scaler;
mod spec;
mod visits;
mod worker;

pub use activity::{Activity, Busy};
pub use execution::{Executed, Execution, ExecutionOptions, Executor, Threads};
pub use layout::Role;
pub use lps::Router;
pub use outcome::Outcome;
pub use scaler::{Scaled, Tick};
pub use spec::{CellsSpec, ControlPlane, FleetSpec, Latency, Load, PoolSpec, Scaling};
pub use visits::Visited;

use std::fmt;
use std::io;
use std::ops::ControlFlow;

use parking_lot::Mutex;

use crate::fleet::drain::Drain;
use crate::fleet::execution::Situation;
use crate::fleet::layout::Layout;
use crate::fleet::lps::FleetLp;
use crate::fleet::worker::Worker;
use crate::kernel::{self, Account, Finished, Lp, Occupancy, ParallelOptions, Span, Stopped, Time};
use crate::model::metrics::{Recorder, Row, Work};
use crate::model::router::Reads;
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
    /// Something would happen after [`Time::MAX`].
    OutOfTime,
    /// A bug in the simulator: its books do not balance.
    LawBroken {
        /// What does not hold.
        law: String,
        /// The seed of the run.
        seed: u64,
    },
    /// A bug in the simulator.
    Panicked {
        /// Whose.
        role: Role,
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
            RunError::OutOfTime => f.write_str(
                "the run would go on for more than 834 days of virtual time, the most that there is; shorten the workload, \
                 or the latencies in [control_plane]",
            ),
            RunError::LawBroken { law, seed } => {
                write!(f, "the books of the run do not balance, seed {seed}: {law}")
            }
            RunError::Panicked { role, time, seed, message } => {
                write!(f, "{role} panicked at {time}, seed {seed}: {message}")
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
/// If the spec has no workers, or more than an event key can number, or several pools of workers that come and go, or cells
/// that are not equal or have what they do not take.
pub fn run(
    spec: &FleetSpec,
    demand: impl Into<Demand>,
    router: &dyn Router,
    sink: &dyn Sink,
) -> Result<Outcome, RunError> {
    assert!(spec.workers() > 0, "a fleet without workers");
    assert!(spec.scaling.is_none() || spec.pools.len() == 1, "a Planner for several pools");
    let (mut lps, reports) = lps::build(spec, demand.into(), router);
    let executed = spec.execution.choose(situation(spec, &mut lps, reports));
    let recorder = || Recorder::new(spec.series_interval, spec.slo).with_classes(&spec.classes);
    let mut recorders: Vec<Recorder> = (0..executed.threads).map(|_| recorder()).collect();
    let drain = Drain::new(sink, spec, recorders.len());
    let books = Books::new(spec.execution.options);
    let result = execute(spec, &mut lps, &mut recorders, &drain, &books);
    let mut recorder = recorders.swap_remove(0);
    for other in recorders {
        recorder.merge(other);
    }
    recorder.series = drain.finish().map_err(RunError::Sink)?;
    let finished = ended(spec, &mut lps, result)?;
    let workers = || lps.iter().filter_map(FleetLp::worker);
    let mut work = vec![Work::default(); spec.workers() as usize];
    for worker in workers() {
        work[worker.id().index()] = *worker.engine().work();
    }
    // The executor counts more of them.
    let events = recorder.totals.arrived + workers().map(Worker::events).sum::<u64>();
    let (skipped, undirected) = (lps[0].skipped(), lps[0].undirected());
    let front = lps[0].coordinator();
    let (scaled, visited, admitted) = match front {
        None => (None, None, None),
        Some(front) => (
            front.take_scaler().map(|scaler| scaler.finish(finished.end)),
            front.intake().finish(),
            front.admitted(),
        ),
    };
    let outcome = Outcome {
        digest: recorder.digest.value(),
        recorder,
        workers: work,
        scaled,
        visited,
        admitted,
        skipped,
        undirected,
        events,
        end: finished.end,
        executed,
        account: books.account.map(Mutex::into_inner),
        occupancy: books.occupancy.map(Mutex::into_inner),
    };
    let engines = lps.iter().filter_map(FleetLp::worker);
    match laws::broken(&outcome, engines.map(|worker| (worker.id(), worker.engine()))) {
        Some(law) => Err(RunError::LawBroken { law, seed: spec.seed }),
        None => Ok(outcome),
    }
}

/// What matters for the number of threads.
fn situation(spec: &FleetSpec, lps: &mut [FleetLp], reports: Reads) -> Situation {
    let (workers, cells) = (spec.workers(), spec.cells.map(|cells| cells.count));
    // Nobody outside of a cell waits for what happens in it.
    let round_trip = if cells.is_some() { Span::FOREVER } else { spec.round_trip(reports) };
    let listens = round_trip < Span::FOREVER && spec.listens() && spec.execution.may_share();
    let front = lps[0].coordinator().filter(|_| listens);
    let silence = front.map_or(Span::ZERO, |front| front.intake().silence());
    Situation { workers, cells, round_trip, silence }
}

/// How the run ended, in words of the fleet. An LP that gave up says why.
fn ended(
    spec: &FleetSpec,
    lps: &mut [FleetLp],
    result: Result<Finished, Stopped>,
) -> Result<Finished, RunError> {
    result.map_err(|stopped| match stopped {
        Stopped::Halted => RunError::Halted,
        Stopped::OutOfTime => RunError::OutOfTime,
        Stopped::Panicked { lp, time, message } => {
            let whose = &mut lps[lp.index()];
            if let Some(error) = whose.source_error() {
                return RunError::Source(error);
            }
            if whose.coordinator().is_some_and(|coordinator| coordinator.is_endless()) {
                return RunError::Endless { time };
            }
            let role = Layout::new(spec).role(lp);
            RunError::Panicked { role, time, seed: spec.seed, message }
        }
        Stopped::Broken { message } => RunError::Broken { seed: spec.seed, message },
    })
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
    let is_alone = lps.last().is_some_and(|worker| worker.promise() == Span::FOREVER);
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
    let ahead = lps[0].read_ahead();
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
    let spokes_per_group = match spec.cells {
        None => options.workers_per_group.unwrap_or(workers.div_ceil(groups).min(64)),
        // Those of a cell talk to one another.
        Some(cells) => {
            Layout::new(spec).lps_per_cell() * (cells.count as usize).div_ceil(GROUPS_ALONE)
        }
    };
    let options = ParallelOptions {
        spokes_per_group,
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
