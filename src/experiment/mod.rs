//! Many runs that belong together.

pub mod scaling;
pub mod sweep;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::fleet::{self, FleetSpec, Outcome, RunError, Sink};
use crate::io::config::{ConfigError, Job};
use crate::io::trace::TraceError;
use crate::io::traffic::Traffic;
use crate::kernel::Time;
use crate::model::metrics::Row;
use crate::model::planner::predict::Foresight;
use crate::model::workload::Demand;
use crate::report::Context;

/// Why an experiment ended.
#[derive(Debug)]
pub struct ExperimentError {
    /// The run it ended in, as people name it; nothing if it was none.
    pub run: Option<String>,
    /// What happened there.
    pub cause: Cause,
}

/// What ends an experiment.
#[derive(Debug)]
pub enum Cause {
    /// The configuration is not right.
    Config(ConfigError),
    /// An option of the experiment is not right: a sentence.
    Option(String),
    /// The trace cannot be opened.
    Trace(TraceError),
    /// No request arrived; where they should have come from.
    NoRequests(String),
    /// The run failed or was interrupted.
    Run(RunError),
    /// Two runs that have to agree do not: a bug in the simulator. Their digests.
    Differ(u128, u128),
    /// The results of a run cannot be stored.
    Output(io::Error),
}

/// Who looks on while an experiment goes on.
pub trait Watch: Sync {
    /// A run starts: its name, such as `run 3 of 30: router.policy=kv`, and how many requests it will have, if it is
    /// known. What is returned hears how far the run comes, and is dropped when the run has ended. Runs may start on any
    /// thread, and several may go on at once.
    fn start(&self, name: &str, requests: Option<u64>) -> Box<OnProgress<'_>>;
}

/// See [`Sink::progress`]; a break ends the experiment.
pub type OnProgress<'a> = dyn Fn(Time, u64, Option<f64>) -> ControlFlow<()> + Sync + 'a;

impl fmt::Display for ExperimentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(run) = &self.run {
            write!(f, "{run}: ")?;
        }
        match &self.cause {
            Cause::Config(error) => write!(f, "{error}"),
            Cause::Option(sentence) => f.write_str(sentence),
            Cause::Trace(error) => write!(f, "{error}"),
            Cause::NoRequests(workload) => write!(
                f,
                "{workload}: no requests: look at workload.from, workload.until and the rate"
            ),
            Cause::Run(error) => write!(f, "{error}"),
            Cause::Differ(digest, first) => {
                write!(f, "the digest is {digest:032x}, but that of the first run was {first:032x}")
            }
            Cause::Output(error) => write!(f, "the results cannot be written: {error}"),
        }
    }
}

impl std::error::Error for ExperimentError {}

/// The fleet with a Planner that knows the future, if it is to know it: then the whole workload is read once before the
/// run.
///
/// # Errors
/// If the workload cannot be opened or breaks off, or consists of sessions.
pub fn foresee<'a>(traffic: &Traffic, spec: &'a FleetSpec) -> Result<Cow<'a, FleetSpec>, Cause> {
    let interval = spec.scaling.as_ref().and_then(|scaling| scaling.planner.foresight_interval());
    let Some(interval) = interval else { return Ok(Cow::Borrowed(spec)) };
    traffic.check_repeatable().map_err(Cause::Trace)?;
    let Demand::Requests(mut source) = traffic.open(spec.seed).map_err(Cause::Trace)? else {
        let sentence = "planner.predictor is \"oracle\", but calls of sessions come when others have ended, \
                        which nobody knows before the run";
        return Err(Cause::Option(sentence.to_owned()));
    };
    let foresight = Foresight::of(&mut *source, interval)
        .map_err(|error| Cause::Run(RunError::Source(error)))?;
    let mut spec = spec.clone();
    if let Some(scaling) = &mut spec.scaling {
        scaling.planner.foresee(&foresight);
    }
    Ok(Cow::Owned(spec))
}

/// Opens what the fleet has to serve.
///
/// # Errors
/// If it cannot be opened, or consists of sessions, and the fleet of cells, which do not take them.
pub fn demand(job: &Job) -> Result<Demand, Cause> {
    let demand = job.traffic.open(job.fleet.seed).map_err(Cause::Trace)?;
    if let (Some(cells), Demand::Sessions(_)) = (job.fleet.cells, &demand) {
        return Err(Cause::Option(format!(
            "{}: consists of sessions, whose calls wait for one another, and fleet.cells is {}: cells take requests that come \
             at times of their own",
            job.traffic.describe(),
            cells.count
        )));
    }
    Ok(demand)
}

/// What a report says of a job beside its results, when the simulation took so long.
pub fn context(job: &Job, wall: Duration) -> Context {
    Context {
        fleet: job.fleet.clone(),
        policy: job.router.name().to_owned(),
        workload: job.traffic.describe(),
        notes: job.notes.clone(),
        foreseen: job.foreseen.clone(),
        late: job.late,
        wall,
    }
}

/// Runs the job as `spec` says, and tells how long the simulation took. No rows are stored.
fn simulate(
    job: &Job,
    spec: &FleetSpec,
    progress: &OnProgress,
) -> Result<(Outcome, Duration), Cause> {
    let spec = &*foresee(&job.traffic, spec)?;
    let source = demand(job)?;
    #[expect(clippy::disallowed_methods, reason = "the report says how long the simulation took")]
    let start = Instant::now();
    let outcome = fleet::run(spec, source, &job.router, &Unstored(progress)).map_err(Cause::Run)?;
    let wall = start.elapsed();
    if outcome.recorder.totals.arrived == 0 {
        return Err(Cause::NoRequests(job.traffic.describe()));
    }
    Ok((outcome, wall))
}

/// A whole number from 1 to `most`.
fn whole(text: &str, most: usize) -> Option<usize> {
    text.trim().parse().ok().filter(|number| (1..=most).contains(number))
}

/// Shows progress and stores no rows.
struct Unstored<'a>(&'a OnProgress<'a>);

impl Sink for Unstored<'_> {
    fn rows(&self, _: &[Row]) -> io::Result<()> {
        Ok(())
    }

    fn progress(&self, now: Time, ended: u64, fraction: Option<f64>) -> ControlFlow<()> {
        (self.0)(now, ended, fraction)
    }
}
