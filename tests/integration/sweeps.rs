//! Sweeps of which several runs go on at once: nobody can tell from what they say and leave behind.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::{names, run, text};

/// What depends on the wall clock or tells how a run was executed.
const EXECUTION: [&str; 6] = [
    "wall_time_ms",
    "processed_tokens_per_s",
    "processed_output_tokens_per_s",
    "events_per_s",
    "threads",
    "threads_why",
];

/// Fleets that use several threads if they are left to themselves are among them.
const VARIED: [&str; 10] = [
    "sweep",
    "--requests",
    "150",
    "--vary",
    "router.policy=kv,round-robin",
    "--vary",
    "fleet.workers=3,600,8",
    "--plot",
    "load_cv",
    "--force",
];

/// The reports, and all files, of a sweep.
fn sweep(folder: &Path, jobs: &str, set: &[&str]) -> (Value, Vec<(String, Vec<u8>)>) {
    let args = ["--jobs", jobs, "--out", "x", "--json"];
    let output = run(folder, &[&VARIED[..], &args, set].concat());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for (run, line) in (1..).zip(stderr.lines()) {
        assert!(line.starts_with(&format!("run {run} of 6: router.policy=")), "{stderr}");
    }
    assert_eq!(stderr.lines().count(), 6);
    let mut reports: Value = serde_json::from_slice(&output.stdout).unwrap();
    for report in reports.as_array_mut().unwrap() {
        let report = report.as_object_mut().unwrap();
        for key in EXECUTION {
            assert!(report.remove(key).is_some(), "{key}");
        }
    }
    let files = names(&folder.join("x")).into_iter().map(|name| {
        let bytes = fs::read(folder.join("x").join(&name)).unwrap();
        (name, bytes)
    });
    (reports, files.collect())
}

#[test]
fn results_are_the_same_for_any_number_of_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let expected = sweep(folder.path(), "1", &[]);
    assert_eq!(expected.0.as_array().map(Vec::len), Some(6));
    let files: Vec<&str> = expected.1.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(files, ["config.toml", "load_cv.svg", "sweep.csv"]);
    for jobs in ["2", "5", "auto"] {
        let found = sweep(folder.path(), jobs, &[]);
        assert!(found == expected, "--jobs {jobs}");
    }
    // The configuration says so.
    let found = sweep(folder.path(), "3", &["--set", "run.threads=2"]);
    assert_eq!((&found.0, &found.1[1..]), (&expected.0, &expected.1[1..]));
}

/// Of two traces that break off, and one that is not there, the first in order is told: the others may be faster.
#[test]
fn the_first_combination_that_fails_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let line = |ms: u64| {
        format!(
            "{{\"timestamp\": {ms}, \"input_length\": 600, \"output_length\": 20, \"hash_ids\": [{ms}, 7]}}\n"
        )
    };
    let lines = |count| (0..count).map(|at| line(at * 100)).collect::<String>();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    write("good.jsonl", lines(300));
    write("late.jsonl", lines(3000) + "{\"timestamp\": oops\n");
    write("early.jsonl", line(0) + "{\"timestamp\": oops\n");
    let before = names(folder.path());
    let traces = "workload.trace=good.jsonl,late.jsonl,early.jsonl,none.jsonl,good.jsonl";
    let mut told = Vec::new();
    for jobs in ["1", "2", "5", "auto"] {
        let args = ["sweep", "--vary", traces, "--jobs", jobs, "--out", "x"];
        let output = run(folder.path(), &args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(output.stdout.is_empty());
        assert_eq!(names(folder.path()), before, "--jobs {jobs} left something behind");
        told.push(stderr.lines().last().unwrap().to_owned());
    }
    let expected = "error: run 2 of 5: workload.trace=late.jsonl: late.jsonl:3001: ";
    assert!(told[0].starts_with(expected), "{told:?}");
    assert!(told.iter().all(|error| *error == told[0]), "{told:?}");
}

#[test]
fn mistakes_in_jobs_get_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let whole = "has to be a whole number from 1 to 1024, or auto";
    let pinned = "has to be 1 or auto with run.pin";
    let cases: [(&[&str], &str); 6] = [
        (&["--jobs", "0"], whole),
        (&["--jobs", "-2"], whole),
        (&["--jobs", "1025"], whole),
        (&["--jobs", "many"], whole),
        (&["--jobs", ""], whole),
        (&["--jobs", "2", "--set", "run.pin=true"], pinned),
    ];
    for (args, expected) in cases {
        let output = run(folder.path(), &[&["sweep", "--vary", "run.seed=1,2"], args].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        let expected = format!("error: --jobs {}: {expected}", args[1]);
        assert!(stderr.starts_with(&expected) && stderr.lines().count() == 1, "{stderr}");
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

/// What changes nothing is said before the runs, once, and of how many it is said.
#[test]
fn keys_without_effect_are_noted_before_the_runs() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--requests", "20", "--out", "none", "--set", "router.router_temperature=0.5"];
    let sweep = ["sweep", "--vary", "router.policy=kv,random,round-robin", "--set"];
    let sweep = [&sweep[..], &["workload.copy_spread=5s"], &small].concat();
    let scaling = [&["scaling", "--threads", "1", "--repeat", "1"][..], &small].concat();
    let router = "note: router.router_temperature has no effect unless router.policy is \"kv\"";
    let copies = "note: workload.copy_spread has no effect without workload.copies above 1";
    let some = format!("{router} (in 2 of 3 runs)");
    for (args, expected) in [(sweep, vec![copies, &some]), (scaling, vec![router])] {
        let stderr = text(&run(folder.path(), &args).stderr);
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines[..expected.len()], expected, "{args:?}");
        assert_eq!(stderr.matches("note: ").count(), expected.len(), "{args:?}: {stderr}");
        let quiet = run(folder.path(), &[&args[..], &["--quiet"]].concat());
        assert_eq!(text(&quiet.stderr), "", "{args:?}");
    }
}
