//! Which runs go on at once, and what becomes of them.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{self, Receiver, Sender};
use parking_lot::Mutex;

use super::*;

/// A sweep of small runs, or of others if `set` says so, so many at once whatever the cores.
fn plan(vary: &str, set: &[&str], at_once: usize) -> Plan {
    let set = ["workload.requests=50", "fleet.workers=2"].iter().chain(set);
    let set: Vec<_> = set.map(|&set| ("--set".to_owned(), set.to_owned())).collect();
    let loaded = Loaded::load(None, &set).unwrap();
    let mut plan = Plan::new(&loaded, &[vary.to_owned()], &[], "1").unwrap();
    plan.set_at_once(at_once);
    plan
}

/// Lets a run wait in its first report until another one has ended, or panic there.
struct Director {
    waits: Option<usize>,
    until: Option<usize>,
    panics: Option<usize>,
    /// Dropped with the run that is waited for.
    gate: (Mutex<Option<Sender<()>>>, Receiver<()>),
    started: Mutex<Vec<String>>,
}

impl Director {
    fn new() -> Director {
        let (sender, receiver) = channel::bounded(0);
        let gate = (Mutex::new(Some(sender)), receiver);
        Director { waits: None, until: None, panics: None, gate, started: Mutex::default() }
    }

    fn waiting(run: usize, until: usize) -> Director {
        Director { waits: Some(run), until: Some(until), ..Director::new() }
    }
}

impl Watch for Director {
    fn start(&self, name: &str, _: Option<u64>) -> Box<OnProgress<'_>> {
        let mut started = self.started.lock();
        let run = started.len();
        started.push(name.to_owned());
        let held = self.gate.0.lock().take_if(|_| self.until == Some(run));
        Box::new(move |_, _, _| {
            let _ = &held;
            assert!(self.panics != Some(run), "as told");
            if self.waits == Some(run) {
                let _ = self.gate.1.recv();
            }
            ControlFlow::Continue(())
        })
    }
}

/// What came out, and the varied value of each run that was stored.
fn run(plan: &Plan, director: &Director) -> (Result<Vec<SweepRun>, ExperimentError>, Vec<String>) {
    let mut stored = Vec::new();
    let result = plan.run(director, &mut |run| {
        stored.push(run.values[0].clone());
        Ok(())
    });
    (result, stored)
}

/// The digests of the runs.
fn digests(runs: &[SweepRun]) -> Vec<&Value> {
    runs.iter().map(|run| &run.report["digest"]).collect()
}

#[test]
fn as_many_runs_at_once_as_the_cores_are_good_for() {
    let cases: [(&str, &[&str], &str, usize, usize); 14] = [
        ("run.seed=1,2,3,4,5,6", &[], "auto", 4, 4),
        ("run.seed=1,2,3,4,5,6", &[], "auto", 16, 6),
        ("run.seed=1,2,3,4,5,6", &[], "auto", 1, 1),
        ("run.seed=1", &[], "auto", 16, 1),
        ("run.seed=1,2,3,4,5,6", &["run.threads=2"], "auto", 8, 4),
        ("run.seed=1,2,3,4,5,6", &["run.threads=3"], "auto", 8, 2),
        ("run.seed=1,2,3,4,5,6", &["run.threads=9"], "auto", 8, 1),
        ("run.threads=1,4", &[], "auto", 8, 2),
        ("run.threads=1,8", &[], "auto", 8, 1),
        ("run.seed=1,2,3", &["run.pin=true"], "auto", 8, 1),
        ("run.seed=1,2,3", &["run.pin=true"], "1", 8, 1),
        ("run.seed=1,2,3", &["run.threads=2"], "3", 1, 3),
        ("run.seed=1,2,3", &[], "1", 8, 1),
        ("run.seed=1,2,3", &[], "1024", 8, 3),
    ];
    for (vary, set, asked, cores, expected) in cases {
        let chosen = plan(vary, set, 1).choose(asked, cores);
        assert_eq!(chosen, Ok(expected), "{vary} {set:?} {asked} on {cores} cores");
    }
    for asked in ["0", "1025", "-1", "2.5", "all", ""] {
        let expected = format!("--jobs {asked}: has to be a whole number from 1 to 1024, or auto");
        assert_eq!(plan("run.seed=1,2", &[], 1).choose(asked, 8), Err(expected));
    }
    let error = plan("run.pin=true,false", &[], 1).choose("2", 8).unwrap_err();
    assert!(error.starts_with("--jobs 2: has to be 1 or auto with run.pin"), "{error}");
}

#[test]
fn beside_others_a_run_gets_one_thread_unless_told_otherwise() {
    let threads = |set: &[&str], at_once| {
        let plan = plan("run.seed=1,2", set, at_once);
        plan.jobs.iter().map(|job| job.fleet.execution.threads).collect::<Vec<_>>()
    };
    assert_eq!(threads(&[], 1), [Threads::Auto; 2]);
    assert_eq!(threads(&[], 2), [Threads::Beside; 2]);
    assert_eq!(threads(&["run.threads=2"], 2), [Threads::Count(2); 2]);
    let (runs, _) = run(&plan("run.seed=1,2", &[], 2), &Director::new());
    for run in runs.unwrap() {
        assert_eq!(run.report["threads"], 1);
        assert_eq!(run.report["threads_why"], "several runs go on at once");
    }
}

/// Whichever ends first, and however many threads there are.
#[test]
fn results_come_in_order() {
    let sweep = |at_once| plan("run.seed=1,2,3,4,5", &[], at_once);
    let alone = Director::new();
    let (expected, stored) = run(&sweep(1), &alone);
    let expected = expected.unwrap();
    assert_eq!(stored, ["1", "2", "3", "4", "5"]);
    for (at_once, waits, until) in [(2, 0, 4), (2, 1, 3), (3, 0, 2), (5, 3, 4), (9, 0, 4)] {
        let director = Director::waiting(waits, until);
        let (runs, stored) = run(&sweep(at_once), &director);
        assert_eq!(stored, ["1", "2", "3", "4", "5"]);
        assert_eq!(digests(&runs.unwrap()), digests(&expected));
        assert_eq!(*director.started.lock(), *alone.started.lock());
    }
}

/// The third and the fifth run have no requests.
const NONE_FROM: &str = "workload.from=0,1s,2000h,2s,3000h,3s";

#[test]
fn the_first_failure_in_order_is_told() {
    for (at_once, waits, until) in [(1, 9, 9), (2, 9, 9), (3, 2, 4), (4, 2, 4), (6, 2, 4)] {
        let director = Director::waiting(waits, until);
        let (result, stored) = run(&plan(NONE_FROM, &[], at_once), &director);
        let error = result.unwrap_err();
        assert!(matches!(error.cause, Cause::NoRequests(_)), "{error}");
        assert_eq!(error.run.as_deref(), Some("run 3 of 6: workload.from=2000h"));
        assert_eq!(stored, ["0", "1s"]);
    }
}

/// It would take days to end, and the third even to start.
#[test]
fn what_comes_after_a_failure_is_broken_off() {
    let set = ["workload.preset=custom", "workload.requests=1000000000000"];
    let vary = "workload.generate.duration=1ns,300d,301d";
    let director = Director::new();
    let (result, stored) = run(&plan(vary, &set, 2), &director);
    assert_eq!(
        result.unwrap_err().run.as_deref(),
        Some("run 1 of 3: workload.generate.duration=1ns")
    );
    assert!(stored.is_empty() && director.started.lock().len() <= 2);
}

#[test]
fn what_cannot_be_stored_ends_the_sweep() {
    for at_once in [1, 3] {
        let mut left = 2;
        let result = plan("run.seed=1,2,3,4,5", &[], at_once).run(&Director::new(), &mut |_| {
            left -= 1;
            if left == 0 { Err(io::Error::other("full")) } else { Ok(()) }
        });
        let error = result.unwrap_err().to_string();
        assert_eq!(error, "run 2 of 5: run.seed=2: the results cannot be written: full");
        assert_eq!(left, 0, "nothing is stored afterwards");
    }
}

/// Whether an executor catches it, as the sequential one does, or nobody before the sweep.
#[test]
fn a_panic_is_told_once_and_nothing_hangs() {
    for (threads, at_once) in [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4)] {
        let director = Director { panics: Some(1), ..Director::new() };
        let threads = format!("run.threads={threads}");
        let sweep = plan("run.seed=1,2,3,4,5,6", &[&threads], at_once);
        match catch_unwind(AssertUnwindSafe(|| run(&sweep, &director))) {
            Ok((result, _)) => {
                let error = result.unwrap_err().to_string();
                assert!(error.starts_with("run 2 of 6: run.seed=2: "), "{error}");
                assert!(error.contains("as told"), "{error}");
            }
            Err(payload) => assert_eq!(payload.downcast_ref::<&str>(), Some(&"as told")),
        }
        assert!(at_once > 1 || director.started.lock().len() == 2);
    }
}
