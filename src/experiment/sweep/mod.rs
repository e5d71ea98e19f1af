//! A sweep: one configuration, run once for every combination of the values of some keys, several runs at once.
//!
//! All combinations are checked before the first one runs, so that a typo in the last does not cost an hour.
//!
//! Runs that have nothing to do with one another use cores better than one run on many threads does. So several go on at
//! once, each on one thread unless the configuration says otherwise. Nothing in the results tells how many.

#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::thread::available_parallelism;

use serde_json::Value;

use crate::experiment::sweep::work::Work;
use crate::experiment::{Cause, ExperimentError, OnProgress, Watch, context, simulate, whole};
use crate::fleet::Threads;
use crate::io::config::{Job, Loaded, Sweep};
use crate::report::plot::Chart;
use crate::report::{Summary, SweepAxis, SweepHas, SweepRun, sweep_chart, sweep_columns, to_json};

/// The most runs at once that can be asked for.
const AT_ONCE_MAX: usize = 1024;

/// A sweep that has been checked and can start.
pub struct Plan {
    sweep: Sweep,
    jobs: Vec<Job>,
    at_once: usize,
}

/// Takes the results of a run. An error ends the sweep.
pub type Store<'a> = dyn FnMut(&SweepRun) -> io::Result<()> + Send + 'a;

impl Plan {
    /// Checks every combination. `vary` and `plot` are as for [`Loaded::sweep`]; `at_once` says how many runs go on at
    /// once, from 1 to 1024, or `auto` for as many as the cores are good for. Beside others, a run whose number of threads
    /// is left to us gets one.
    ///
    /// # Errors
    /// If the sweep or one of its combinations is not right, or `at_once` isn't.
    pub fn new(
        loaded: &Loaded,
        vary: &[String],
        plot: &[String],
        at_once: &str,
    ) -> Result<Plan, ExperimentError> {
        let wrong = |error| ExperimentError { run: None, cause: Cause::Config(error) };
        let sweep = loaded.sweep(vary, plot).map_err(wrong)?;
        let mut plan = Plan { sweep, jobs: Vec::new(), at_once: 1 };
        for run in 0..plan.sweep.runs() {
            let job = loaded.resolve_one_of(&plan.sweep, run).map_err(|error| ExperimentError {
                run: Some(plan.name(run)),
                cause: Cause::Config(error),
            })?;
            let cause = |error| ExperimentError { run: None, cause: Cause::Trace(error) };
            job.traffic.check_repeatable().map_err(cause)?;
            plan.jobs.push(job);
        }
        plan.sweep.check_plots(&sweep_columns(plan.has())).map_err(wrong)?;
        let cores = available_parallelism().map_or(1, usize::from);
        let at_once = plan
            .choose(at_once, cores)
            .map_err(|sentence| ExperimentError { run: None, cause: Cause::Option(sentence) })?;
        plan.set_at_once(at_once);
        Ok(plan)
    }

    /// How many runs go on at once on so many cores, if so many are `asked` for.
    fn choose(&self, asked: &str, cores: usize) -> Result<usize, String> {
        let is_pinned = self.jobs.iter().any(|job| job.fleet.execution.pin);
        if asked.trim() == "auto" {
            let threads = self.jobs.iter().map(|job| match job.fleet.execution.threads {
                Threads::Count(threads) => threads,
                Threads::Auto | Threads::Beside => 1,
            });
            let most = if is_pinned { 1 } else { cores / threads.max().unwrap_or(1) };
            return Ok(most.clamp(1, self.jobs.len()));
        }
        let at_once = whole(asked, AT_ONCE_MAX).ok_or_else(|| {
            format!("--jobs {asked}: has to be a whole number from 1 to {AT_ONCE_MAX}, or auto")
        })?;
        if at_once > 1 && is_pinned {
            return Err(format!(
                "--jobs {asked}: has to be 1 or auto with run.pin, since all runs would stay on the same cores"
            ));
        }
        Ok(at_once.min(self.jobs.len()))
    }

    fn set_at_once(&mut self, at_once: usize) {
        self.at_once = at_once;
        for job in self.jobs.iter_mut().filter(|_| at_once > 1) {
            let threads = &mut job.fleet.execution.threads;
            if *threads == Threads::Auto {
                *threads = Threads::Beside;
            }
        }
    }

    /// How many runs go on at once.
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    /// What varies and what is plotted.
    pub fn sweep(&self) -> &Sweep {
        &self.sweep
    }

    /// The keys that vary.
    pub fn keys(&self) -> Vec<&str> {
        self.sweep.vary.iter().map(|varied| varied.key.as_str()).collect()
    }

    /// What can be said before the runs, every sentence once, with the number of runs if it is not about all of them.
    pub fn notes(&self) -> Vec<String> {
        let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
        let mut notes: Vec<&str> = Vec::new();
        for note in self.jobs.iter().flat_map(|job| job.foreseen.iter().chain(&job.notes)) {
            let count = runs.entry(note).or_default();
            if *count == 0 {
                notes.push(note);
            }
            *count += 1;
        }
        let all = self.jobs.len();
        let told = |note: &str| match runs[note] {
            some if some < all => format!("{note} (in {some} of {all} runs)"),
            _ => note.to_owned(),
        };
        notes.into_iter().map(told).collect()
    }

    /// What some run has.
    pub fn has(&self) -> SweepHas {
        SweepHas {
            slo: self.jobs.iter().any(|job| job.fleet.slo.is_set()),
            cells: self.jobs.iter().any(|job| job.fleet.cells.is_some()),
        }
    }

    /// How people name a run, such as `run 3 of 30: router.policy=kv, fleet.workers=8`.
    fn name(&self, run: usize) -> String {
        let keys = self.sweep.vary.iter().map(|varied| &varied.key);
        let values = keys.zip(self.sweep.values(run)).map(|(key, value)| format!("{key}={value}"));
        let values = values.collect::<Vec<_>>().join(", ");
        format!("run {} of {}: {values}", run + 1, self.sweep.runs())
    }

    /// Runs all combinations. Runs start in order; `store` gets the results in order too, as soon as all before them are
    /// there.
    ///
    /// # Errors
    /// If a run does not end well: the first one in order. No other starts then.
    ///
    /// # Panics
    /// If a run does where no executor catches it: a bug. Other runs are broken off before.
    pub fn run(
        &self,
        watch: &dyn Watch,
        store: &mut Store,
    ) -> Result<Vec<SweepRun>, ExperimentError> {
        Work::new(self, watch, store).run()
    }

    fn run_one(&self, run: usize, progress: &OnProgress) -> Result<SweepRun, Cause> {
        let job = &self.jobs[run];
        let (outcome, wall) = simulate(job, &job.fleet, progress)?;
        let summary = Summary::new(context(job, wall), &outcome);
        let values = self.sweep.values(run).into_iter().map(ToString::to_string).collect();
        match to_json(&summary, &outcome) {
            Value::Object(report) => Ok(SweepRun { values, report }),
            _ => unreachable!("a report is an object"),
        }
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
