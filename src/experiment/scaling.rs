//! How a run would scale to more threads: measured as far as this machine goes, predicted beyond.
//!
//! A run on one thread that takes down what every task costs gives the prediction. It is compared with runs on as many
//! threads as there are cores. All runs have to give the same rows. Each is repeated and the least time kept: what
//! another repetition took more was somebody else's. The repetitions take turns, so that a slow minute hits them all.
//!
//! Cores share caches, memory and, where they are two halves of one, everything. What that costs has nothing to do with how
//! a run is divided: it is measured with several runs at once, each on one thread, and is part of the prediction.

use std::collections::BTreeMap;
use std::thread::{self, available_parallelism};
use std::time::Duration;

use crate::experiment::{Cause, ExperimentError, OnProgress, Watch, simulate, whole};
use crate::fleet::{Execution, ExecutionOptions, Executor, FleetSpec, Outcome, Threads};
use crate::io::config::Job;
use crate::kernel::{Account, Occupancy};
use crate::report::{Busy, Costs, Scaling, ScalingPoint};

/// The most threads that can be asked about, as for `run.threads`.
const THREADS_MAX: usize = 1024;

/// The most runs at once that tell how cores slow one another: each needs the memory of a run.
const CROWD_MAX: usize = 16;

/// The most repetitions.
const REPEAT_MAX: usize = 1000;

/// A study that has been checked and can start.
pub struct Plan {
    job: Job,
    /// Ascending.
    threads: Vec<usize>,
    repeat: usize,
    /// That this process may use.
    cores: usize,
}

/// A way to run the job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// The parallel executor on one thread, taking down what every task costs.
    Account,
    /// The sequential executor.
    Sequential,
    /// The parallel executor on so many threads.
    Parallel(usize),
    /// The same, taking down what the threads spend their time on.
    Watched(usize),
    /// So many runs at once, each with the parallel executor on one thread: their mean time.
    Crowd(usize),
}

impl Way {
    fn name(self) -> String {
        match self {
            Way::Account => "cost of every task, on 1 thread".to_owned(),
            Way::Sequential => "sequential executor".to_owned(),
            Way::Parallel(1) => "parallel executor on 1 thread".to_owned(),
            Way::Parallel(threads) => format!("parallel executor on {threads} threads"),
            Way::Watched(threads) => format!("what {threads} threads spend their time on"),
            Way::Crowd(runs) => format!("{runs} runs at once, on 1 thread each"),
        }
    }

    /// How to run it; whether threads are pinned is the user's choice.
    fn execution(self, pin: bool) -> Execution {
        let threads = match self {
            Way::Account | Way::Sequential | Way::Crowd(_) => 1,
            Way::Parallel(threads) | Way::Watched(threads) => threads,
        };
        let options = ExecutionOptions {
            executor: if self == Way::Sequential { Executor::Sequential } else { Executor::Phases },
            account: self == Way::Account,
            occupancy: matches!(self, Way::Watched(_)),
            ..ExecutionOptions::default()
        };
        Execution { threads: Threads::Count(threads), pin, options }
    }
}

impl Plan {
    /// Checks what was asked for: `threads` is a list such as `1,2,4`, `repeat` a number.
    ///
    /// # Errors
    /// If one of them is not right.
    pub fn new(job: Job, threads: &str, repeat: &str) -> Result<Plan, ExperimentError> {
        let wrong = |sentence| ExperimentError { run: None, cause: Cause::Option(sentence) };
        let cause = |error| ExperimentError { run: None, cause: Cause::Trace(error) };
        job.traffic.check_repeatable().map_err(cause)?;
        let threads = thread_counts(threads).map_err(wrong)?;
        let repeat = whole(repeat, REPEAT_MAX).ok_or_else(|| {
            wrong(format!("--repeat {repeat}: has to be a whole number from 1 to {REPEAT_MAX}"))
        })?;
        let cores = available_parallelism().map_or(1, usize::from);
        Ok(Plan { job, threads, repeat, cores })
    }

    /// What is run.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Runs everything.
    ///
    /// # Errors
    /// If a run does not end well, cannot be parallel, or differs from the others.
    pub fn run(&self, watch: &dyn Watch) -> Result<Scaling, ExperimentError> {
        let ways = self.ways();
        let mut least = vec![Duration::MAX; ways.len()];
        let mut books = Books::default();
        let mut digest = None;
        for repetition in 1..=self.repeat {
            for (&way, least) in ways.iter().zip(&mut least) {
                let name = format!("repetition {repetition} of {}: {}", self.repeat, way.name());
                let progress = watch.start(&name, self.job.traffic.requests());
                let (outcome, wall) = self.run_one(way, digest, &*progress).map_err(|cause| {
                    // What cannot be parallel is nothing about this one run.
                    let run = (!matches!(cause, Cause::Option(_))).then_some(name);
                    ExperimentError { run, cause }
                })?;
                digest = Some(outcome.digest);
                *least = wall.min(*least);
                books.keep(way, outcome);
            }
        }
        let wall = |way| ways.iter().position(|&other| other == way).map(|index| least[index]);
        Ok(self.evaluate(&books, digest.expect("there was a run"), wall))
    }

    /// Everything that is run in a repetition, in order.
    fn ways(&self) -> Vec<Way> {
        let more = self.threads.iter().copied();
        let more = more.filter(|&threads| 1 < threads && threads <= self.cores);
        let more = more.flat_map(|threads| {
            let crowd = (threads <= CROWD_MAX).then_some(Way::Crowd(threads));
            [Way::Parallel(threads), Way::Watched(threads)].into_iter().chain(crowd)
        });
        let first = [Way::Account, Way::Sequential, Way::Parallel(1)];
        first.into_iter().chain(more).collect()
    }

    fn run_one(
        &self,
        way: Way,
        digest: Option<u128>,
        progress: &OnProgress,
    ) -> Result<(Outcome, Duration), Cause> {
        let mut spec = self.job.fleet.clone();
        spec.execution = way.execution(spec.execution.pin);
        let (outcome, wall) = match way {
            Way::Crowd(runs) => self.run_crowd(&spec, runs, progress)?,
            _ => simulate(&self.job, &spec, progress)?,
        };
        if let Some(first) = digest
            && first != outcome.digest
        {
            return Err(Cause::Differ(outcome.digest, first));
        }
        if way == Way::Account && outcome.account.as_ref().is_none_or(|a| a.phases() == 0) {
            let sentence = "this run cannot be parallel: the router needs feedback and there is no \
                            control-plane latency, so every decision depends on all events before \
                            it; set control_plane.feedback_latency, such as --set \
                            control_plane.feedback_latency=5ms, or choose a policy without \
                            feedback, such as --router round-robin";
            return Err(Cause::Option(sentence.to_owned()));
        }
        Ok((outcome, wall))
    }

    /// So many runs at once; one of the outcomes, which are all the same, and the mean time.
    fn run_crowd(
        &self,
        spec: &FleetSpec,
        runs: usize,
        progress: &OnProgress,
    ) -> Result<(Outcome, Duration), Cause> {
        let all: Vec<_> = thread::scope(|scope| {
            let one = || scope.spawn(|| simulate(&self.job, spec, progress));
            let running: Vec<_> = (0..runs).map(|_| one()).collect();
            running.into_iter().map(|run| run.join().expect("panics are caught in a run")).collect()
        });
        let mut sum = Duration::ZERO;
        let mut last = None;
        for run in all {
            let (outcome, wall) = run?;
            sum += wall;
            last = Some(outcome);
        }
        Ok((last.expect("a crowd is more than one"), sum / runs as u32))
    }

    fn evaluate(
        &self,
        books: &Books,
        digest: u128,
        wall: impl Fn(Way) -> Option<Duration>,
    ) -> Scaling {
        let seconds = |way| wall(way).map(|wall| wall.as_secs_f64());
        let account = books.account.as_ref().expect("it is always run");
        let alone = account.predict(1).time;
        let alone_s = seconds(Way::Parallel(1)).expect("it is always run");
        let crowd = (2..=CROWD_MAX).filter_map(|runs| Some((runs, seconds(Way::Crowd(runs))?)));
        let crowds: Vec<_> = crowd.map(|(runs, s)| (runs, (s / alone_s).max(1.0))).collect();
        let point = |&threads: &usize| {
            let prediction = account.predict(threads);
            // Of cores that are not there nobody knows.
            let is_known = threads <= self.cores;
            let slower = is_known.then(|| slowdown(&crowds, threads));
            let time = prediction.time * slower.unwrap_or(1.0);
            ScalingPoint {
                threads,
                predicted_speedup: alone / time,
                measured_s: seconds(Way::Parallel(threads)),
                predicted_s: time * 1e-9,
                coordinator_lost: prediction.hub / time,
                imbalance_lost: prediction.imbalance / time,
                rendezvous_lost: prediction.rendezvous / time,
                crowding_lost: slower.map(|slower| 1.0 - 1.0 / slower),
                busy: books.busy.get(&threads).map(|watched| Busy::new(watched, account.work())),
            }
        };
        Scaling {
            workload: self.job.traffic.name(),
            workers: self.job.fleet.workers(),
            cells: self.job.fleet.cells.map(|cells| cells.count),
            policy: self.job.router.name().to_owned(),
            seed: self.job.fleet.seed,
            repeat: self.repeat,
            cores: self.cores,
            digest,
            costs: costs(account),
            sequential_s: seconds(Way::Sequential).expect("it is always run"),
            alone_s,
            crowding: crowds.last().copied(),
            points: self.threads.iter().map(point).collect(),
        }
    }
}

/// How many times as long work takes on so many busy cores, where so many runs at once took so many times as long as one:
/// as long as the next smaller crowd.
fn slowdown(crowds: &[(usize, f64)], threads: usize) -> f64 {
    crowds.iter().rev().find(|(runs, _)| *runs <= threads).map_or(1.0, |(_, times)| *times)
}

/// What executors took down about themselves.
#[derive(Default)]
struct Books {
    account: Option<Account>,
    /// By threads.
    busy: BTreeMap<usize, Occupancy>,
}

impl Books {
    fn keep(&mut self, way: Way, outcome: Outcome) {
        match (way, outcome.account, outcome.occupancy) {
            (Way::Account, Some(account), _) => match &mut self.account {
                Some(same) => same.keep_least(&account),
                None => self.account = Some(account),
            },
            (Way::Watched(threads), _, Some(occupancy)) => {
                let least = self.busy.entry(threads).or_insert(occupancy);
                if occupancy.length < least.length {
                    *least = occupancy;
                }
            }
            _ => {}
        }
    }
}

fn costs(account: &Account) -> Costs {
    Costs {
        work_s: account.work() * 1e-9,
        coordinator_s: account.hub() * 1e-9,
        reading_s: account.errand_work() * 1e-9,
        span_s: account.span() * 1e-9,
        phases: account.phases() as u64,
    }
}

/// The numbers of a list such as `1,2,4`, in ascending order.
fn thread_counts(list: &str) -> Result<Vec<usize>, String> {
    let mut counts = Vec::new();
    for text in list.split(',') {
        let count = whole(text, THREADS_MAX).ok_or_else(|| {
            format!(
                "--threads {list}: {text:?} has to be a whole number from 1 to {THREADS_MAX}, as in 1,2,4"
            )
        })?;
        if counts.contains(&count) {
            return Err(format!("--threads {list}: {count} may be there only once"));
        }
        counts.push(count);
    }
    counts.sort_unstable();
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::config::Loaded;

    #[test]
    fn lists_of_threads() {
        assert_eq!(thread_counts("8,1, 2").unwrap(), [1, 2, 8]);
        for (list, expected) in [
            ("1,0", "--threads 1,0: \"0\" has to be a whole number from 1 to 1024, as in 1,2,4"),
            ("", "--threads : \"\" has to be a whole number from 1 to 1024, as in 1,2,4"),
            ("1025", "--threads 1025: \"1025\" has to be"),
            ("two", "--threads two: \"two\" has to be"),
            ("-1", "--threads -1: \"-1\" has to be"),
            ("2,4,2", "--threads 2,4,2: 2 may be there only once"),
        ] {
            let error = thread_counts(list).unwrap_err();
            assert!(error.starts_with(expected), "{list}: {error}");
        }
    }

    #[test]
    fn what_fits_the_cores_is_measured() {
        let job = Loaded::load(None, &[]).and_then(|loaded| loaded.resolve()).unwrap();
        let mut plan = Plan::new(job, "2,4,8", "1").unwrap();
        plan.cores = 4;
        let first = [Way::Account, Way::Sequential, Way::Parallel(1)];
        let two = [Way::Parallel(2), Way::Watched(2), Way::Crowd(2)];
        let four = [Way::Parallel(4), Way::Watched(4), Way::Crowd(4)];
        assert_eq!(plan.ways(), [&first[..], &two, &four].concat());
        plan.cores = 1;
        assert_eq!(plan.ways(), first);
    }

    #[test]
    fn others_slow_a_core() {
        let times = [1, 2, 3, 4, 64].map(|threads| slowdown(&[(2, 1.25), (4, 1.5)], threads));
        assert_eq!(times.map(|times| (times * 100.0) as u32), [100, 125, 125, 150, 150]);
        assert!((slowdown(&[], 3) - 1.0).abs() < 1e-9);
    }
}
