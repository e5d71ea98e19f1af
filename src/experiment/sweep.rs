//! A sweep: one configuration, run once for every combination of the values of some keys, one run after the other.
//!
//! All combinations are checked before the first one runs, so that a typo in the last does not cost an hour.

use std::collections::BTreeSet;
use std::io;

use serde_json::Value;

use crate::experiment::{Cause, ExperimentError, simulate};
use crate::io::config::{Job, Loaded, Sweep};
use crate::report::plot::Chart;
use crate::report::{Context, Summary, SweepAxis, SweepRun, sweep_chart, sweep_columns, to_json};

/// A sweep that has been checked and can start.
pub struct Plan {
    sweep: Sweep,
    jobs: Vec<Job>,
}

/// Who looks on while a sweep goes on.
pub trait Watch: crate::experiment::Watch {
    /// The run has ended well.
    ///
    /// # Errors
    /// If its results cannot be stored; that ends the sweep.
    fn finish(&mut self, run: &SweepRun) -> io::Result<()>;
}

impl Plan {
    /// Checks every combination. `vary` and `plot` are as for [`Loaded::sweep`].
    ///
    /// # Errors
    /// If the sweep or one of its combinations is not right.
    pub fn new(loaded: &Loaded, vary: &[String], plot: &[String]) -> Result<Plan, ExperimentError> {
        let wrong = |error| ExperimentError { run: None, cause: Cause::Config(error) };
        let sweep = loaded.sweep(vary, plot).map_err(wrong)?;
        let mut plan = Plan { sweep, jobs: Vec::new() };
        for run in 0..plan.sweep.runs() {
            let job = loaded.resolve_one_of(&plan.sweep, run).map_err(|error| ExperimentError {
                run: Some(plan.name(run)),
                cause: Cause::Config(error),
            })?;
            plan.jobs.push(job);
        }
        plan.sweep.check_plots(&sweep_columns(plan.has_slo())).map_err(wrong)?;
        Ok(plan)
    }

    /// What varies and what is plotted.
    pub fn sweep(&self) -> &Sweep {
        &self.sweep
    }

    /// The keys that vary.
    pub fn keys(&self) -> Vec<&str> {
        self.sweep.vary.iter().map(|varied| varied.key.as_str()).collect()
    }

    /// What can be said before the runs, every sentence once.
    pub fn foreseen(&self) -> BTreeSet<&String> {
        self.jobs.iter().flat_map(|job| &job.foreseen).collect()
    }

    /// Whether any run has an SLO, so that goodput means something.
    pub fn has_slo(&self) -> bool {
        self.jobs.iter().any(|job| job.fleet.slo.is_set())
    }

    /// How people name a run, such as `run 3 of 30: router.policy=kv, fleet.workers=8`.
    fn name(&self, run: usize) -> String {
        let keys = self.sweep.vary.iter().map(|varied| &varied.key);
        let values = keys.zip(self.sweep.values(run)).map(|(key, value)| format!("{key}={value}"));
        let values = values.collect::<Vec<_>>().join(", ");
        format!("run {} of {}: {values}", run + 1, self.sweep.runs())
    }

    /// Runs all combinations.
    ///
    /// # Errors
    /// At the first run that does not end well.
    pub fn run(&self, watch: &mut dyn Watch) -> Result<Vec<SweepRun>, ExperimentError> {
        let mut runs = Vec::with_capacity(self.jobs.len());
        for (number, job) in self.jobs.iter().enumerate() {
            let name = self.name(number);
            watch.start(&name, job.traffic.requests());
            let values = self.sweep.values(number).into_iter().map(ToString::to_string).collect();
            let done = run_one(job, values, watch)
                .and_then(|run| watch.finish(&run).map(|()| run).map_err(Cause::Output));
            runs.push(done.map_err(|cause| ExperimentError { run: Some(name), cause })?);
        }
        Ok(runs)
    }

    /// The plots that were asked for: the column of each and its chart.
    pub fn charts(&self, runs: &[SweepRun]) -> Vec<(String, Chart)> {
        let Some(index) = self.sweep.axis() else { return Vec::new() };
        let varied = &self.sweep.vary[index];
        let is_time = varied.values.iter().any(crate::io::config::SweepValue::is_time);
        let axis = SweepAxis {
            index,
            label: varied.key.clone() + if is_time { " (ms)" } else { "" },
            values: (0..runs.len())
                .map(|run| self.sweep.values(run)[index].number().unwrap_or(f64::NAN))
                .collect(),
        };
        let keys = self.keys();
        let chart = |column: &str| (column.to_owned(), sweep_chart(column, &keys, &axis, runs));
        self.sweep.plots().map(chart).collect()
    }
}

fn run_one(
    job: &Job,
    values: Vec<String>,
    watch: &dyn crate::experiment::Watch,
) -> Result<SweepRun, Cause> {
    let (outcome, wall) = simulate(job, &job.fleet, watch)?;
    let context = Context {
        fleet: job.fleet.clone(),
        policy: job.router.name().to_owned(),
        workload: job.traffic.describe(),
        notes: job.notes.clone(),
        foreseen: job.foreseen.clone(),
        wall,
    };
    let summary = Summary::new(context, &outcome);
    match to_json(&summary, &outcome) {
        Value::Object(report) => Ok(SweepRun { values, report }),
        _ => unreachable!("a report is an object"),
    }
}
