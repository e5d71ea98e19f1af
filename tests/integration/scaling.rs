//! `fleetsim scaling` as a user meets it.

use std::fs;

use serde_json::Value;

use crate::cli::{cells, names, run, text};

const SMALL: [&str; 7] = ["scaling", "--requests", "300", "--threads", "64,1,2", "--repeat", "2"];

#[test]
fn a_study_of_scaling_predicts_and_measures() {
    let folder = tempfile::tempdir().unwrap();
    let args = [&SMALL[..], &["--workers", "128", "--router", "kv"]].concat();
    let output = run(folder.path(), &args);
    let (table, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.starts_with("repetition 1 of 2: cost of every task, on 1 thread\n"), "{stderr}");
    for row in ["│ 1 ", "│ 2 ", "│ 64 "] {
        assert!(table.contains(row), "{row} is missing in\n{table}");
    }
    for line in ["scaling of toolagent on 128 workers, kv router", "limit: on 64 threads"] {
        assert!(table.contains(line), "{line} is missing in\n{table}");
    }
    assert!(table.ends_with("results in runs/scaling-1\n"), "{table}");

    let results = folder.path().join("runs/scaling-1");
    assert_eq!(names(&results), ["config.toml", "scaling.csv", "scaling.svg"]);
    let lines = cells(&results.join("scaling.csv"));
    let column = |name: &str| lines[0].iter().position(|cell| cell == name).unwrap();
    let threads: Vec<&str> = lines[1..].iter().map(|line| line[0].as_str()).collect();
    assert_eq!(threads, ["1", "2", "64"]);
    let number = |line: usize, name: &str| lines[line][column(name)].parse::<f64>();
    for name in ["predicted_speedup", "measured_speedup"] {
        assert_eq!(number(1, name), Ok(1.0), "{name}");
    }
    for line in 1..=3 {
        assert!(number(line, "predicted_ms").unwrap() > 0.0);
        for name in ["coordinator_lost", "imbalance_lost", "rendezvous_lost"] {
            assert!((0.0..=1.0).contains(&number(line, name).unwrap()), "{name} of {lines:?}");
        }
    }
    let svg = fs::read_to_string(results.join("scaling.svg")).unwrap();
    assert!(svg.contains("predicted") && svg.contains("ideal"));
}

/// Its digest is that of `run`, and its configuration the one that was studied.
#[test]
fn scaling_studies_the_run_that_run_runs() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--workers", "16", "--set", "slo.ttft=1s"];
    let output = run(folder.path(), &[&SMALL[..], &args, &["--json", "--out", "x"]].concat());
    let study: Value = serde_json::from_slice(&output.stdout).unwrap();
    let config = folder.path().join("x/config.toml");
    let args = ["run", "-c", config.to_str().unwrap(), "--json", "--out", "none"];
    let report: Value = serde_json::from_slice(&run(folder.path(), &args).stdout).unwrap();
    assert_eq!(study["digest"], report["digest"]);
    assert!(report["goodput_completed_requests"].is_number());
    assert_eq!(study["points"][2]["threads"], 64);
    for key in ["coordinator_share", "reading_share"] {
        assert!((0.0..1.0).contains(&study[key].as_f64().unwrap()), "{key} of {study}");
    }
    for key in ["span_bound", "coordinator_bound", "phases", "parallel_alone_ratio"] {
        assert!(study[key].as_f64().unwrap() > 0.0, "{key} of {study}");
    }
}

#[test]
fn what_cannot_scale_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let ideal = [
        "--router",
        "kv",
        "--set",
        "control_plane.dispatch_latency=0",
        "--set",
        "control_plane.feedback_latency=0",
    ];
    let cases: [(&[&str], i32, &str); 9] = [
        (&ideal, 2, "this run cannot be parallel: the router needs feedback"),
        (&["--threads", "1,0"], 2, "--threads 1,0: \"0\" has to be a whole number from 1 to 1024"),
        (&["--threads", "1,two"], 2, "\"two\" has to be a whole number"),
        (&["--threads", "2,2"], 2, "--threads 2,2: 2 may be there only once"),
        (&["--threads", ""], 2, "\"\" has to be a whole number"),
        (&["--repeat", "0"], 2, "--repeat 0: has to be a whole number from 1 to 1000"),
        (&["--repeat", "-1"], 2, "--repeat -1: has to be a whole number from 1 to 1000"),
        (&["--set", "workload.from=2h"], 3, "no requests: look at workload.from"),
        (&["--trace", "none.jsonl"], 3, "none.jsonl: cannot be read"),
    ];
    for (args, code, expected) in cases {
        let args = [&["scaling", "--requests", "50", "--quiet"], args].concat();
        let output = run(folder.path(), &args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        assert_eq!(names(folder.path()), [""; 0], "{args:?} left something behind");
    }
}
