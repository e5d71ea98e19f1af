//! `fleetsim run`

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cli::args::{OutputOptions, RunOptions};
use crate::cli::exit::Exit;
use crate::cli::interrupt;
use crate::cli::progress::Progress;
use crate::cli::watchdog::Watchdog;
use crate::experiment::{self, Cause, ExperimentError, context};
use crate::fleet::{self, Activity, Outcome, RunError, Sink};
use crate::io::config::{self, Job, Loaded};
use crate::io::files::ResultDir;
use crate::kernel::Time;
use crate::model::metrics::Row;
use crate::report::{self, RowWriter, Summary};

/// The file of the per-request rows.
const ROWS: &str = "requests.csv";

/// The file of the report: also what tells a directory that may be replaced.
const REPORT: &str = "report.json";

/// The folder of results that were given no place of their own.
pub(super) const RUNS: &str = "runs";

pub(super) fn run(options: &RunOptions) -> Result<(), Exit> {
    let loaded = Loaded::load(options.fleet.workload.config.as_deref(), &options.overrides())?;
    let job = loaded.resolve()?;
    let failed = |cause| ExperimentError { run: None, cause };
    let spec = experiment::foresee(&job.traffic, &job.fleet).map_err(failed)?;
    let source = experiment::demand(&job).map_err(failed)?;
    let results = results(&options.output, &job.traffic.name(), REPORT)?;
    if !options.output.quiet {
        say(&job.foreseen);
    }
    interrupt::listen();
    let sink = RunSink {
        rows: match &results {
            Some(results) if job.config.run.rows > 0.0 => {
                let classes = job.fleet.classes.iter().map(|class| class.name.clone()).collect();
                let rows = RowWriter::new(results.file(ROWS)?, job.config.run.rows, classes);
                Some(rows.map_err(|error| Exit::Output(error.to_string()))?)
            }
            _ => None,
        },
        progress: Progress::new(options.output.quiet, job.traffic.requests()),
        watchdog: Watchdog::start(job.fleet.seed),
    };
    #[expect(clippy::disallowed_methods, reason = "the report says how long the simulation took")]
    let start = Instant::now();
    let outcome = fleet::run(&spec, source, &job.router, &sink);
    drop(sink.progress);
    let unwritten = |error: &io::Error| {
        let path = results.as_ref().map_or(Path::new(RUNS), ResultDir::path).join(ROWS);
        Exit::Output(format!("{}: cannot be written: {error}", path.display()))
    };
    let outcome = outcome.map_err(|error| match error {
        RunError::Sink(error) => unwritten(&error),
        other => Exit::from(other),
    })?;
    if outcome.recorder.totals.arrived == 0 {
        let cause = Cause::NoRequests(job.traffic.describe());
        return Err(ExperimentError { run: None, cause }.into());
    }
    if let Some(rows) = sink.rows {
        rows.finish().map_err(|error| unwritten(&error))?;
    }
    let summary = Summary::new(context(&job, start.elapsed()), &outcome);
    let path = match results {
        Some(results) => Some(store(results, &job, &summary, &outcome)?),
        None => None,
    };
    print(options, &summary, &outcome, path.as_deref()).map_err(|error| Exit::stdout(&error))
}

/// Tells what is known before a run.
pub(super) fn say<'a>(sentences: impl IntoIterator<Item = &'a String>) {
    for sentence in sentences {
        // Nobody is left to hear of an error on stderr itself.
        let _ = writeln!(io::stderr(), "note: {sentence}");
    }
}

/// Where results go, if anywhere: as the user says, or to a new directory of this name under [`RUNS`].
pub(super) fn results(
    options: &OutputOptions,
    name: &str,
    mark: &'static str,
) -> Result<Option<ResultDir>, Exit> {
    Ok(match options.out.as_deref() {
        Some(path) if path == Path::new("none") => None,
        Some(path) => Some(ResultDir::create(path, mark, options.force)?),
        None => Some(ResultDir::numbered(Path::new(RUNS), name, mark)?),
    })
}

fn store(
    results: ResultDir,
    job: &Job,
    summary: &Summary,
    outcome: &Outcome,
) -> Result<PathBuf, Exit> {
    let resolved = config::to_toml(&config::relocatable(&job.config));
    results.write("config.toml", |out| out.write_all(resolved.as_bytes()))?;
    results.write("series.csv", |out| report::write_series(out, summary, outcome))?;
    results.write("workers.csv", |out| report::write_workers(out, summary, outcome))?;
    if summary.context.fleet.cells.is_some() {
        results.write("cells.csv", |out| report::write_cells(out, summary, outcome))?;
    }
    if outcome.scaled.is_some() {
        results.write("planner.csv", |out| report::write_planner(out, outcome))?;
    }
    let report = report::to_json(summary, outcome);
    results.write(REPORT, |out| {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        out.write_all(b"\n")
    })?;
    Ok(results.finish()?)
}

fn print(
    options: &RunOptions,
    summary: &Summary,
    outcome: &Outcome,
    path: Option<&Path>,
) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if options.output.json {
        serde_json::to_writer_pretty(&mut out, &report::to_json(summary, outcome))?;
        writeln!(out)?;
    } else if !options.output.quiet {
        report::write_table(&mut out, summary, outcome)?;
        if let Some(path) = path {
            writeln!(out, "results in {}", path.display())?;
        }
    }
    out.flush()
}

/// Stores rows, shows progress, and listens to Ctrl-C.
struct RunSink {
    rows: Option<RowWriter<BufWriter<File>>>,
    progress: Progress,
    watchdog: Watchdog,
}

impl Sink for RunSink {
    fn rows(&self, rows: &[Row]) -> io::Result<()> {
        match &self.rows {
            Some(writer) => writer.add(rows),
            None => Ok(()),
        }
    }

    fn progress(&self, now: Time, ended: u64, fraction: Option<f64>) -> ControlFlow<()> {
        self.progress.update(now, ended, fraction);
        self.watchdog.beat(now);
        interrupt::poll()
    }

    fn watch(&self, activity: Activity) {
        self.watchdog.watch(activity);
    }
}
