//! Sessions, agents and clients as a user meets them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::{run, text};
use crate::support::shipped;

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap()
}

const TRACE: &str = r#"{"timestamp": 0, "session_id": "a", "input_length": 700, "output_length": 20, "hash_ids": [1, 2]}
{"timestamp": 40, "session_id": "b", "input_length": 600, "output_length": 20, "hash_ids": [1, 9]}
{"session_id": "a", "delay": 1000, "input_length": 1300, "output_length": 20, "hash_ids": [1, 2, 3]}
{"session_id": "b", "delay": 0, "input_length": 1100, "output_length": 20, "hash_ids": [1, 9, 10]}
"#;

/// The second turns come their delay after the first ones have ended and the front end has heard of it.
#[test]
fn a_trace_with_sessions_is_played() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.jsonl"), TRACE).unwrap();
    let args = ["run", "--trace", "t.jsonl", "--set", "workload.turns_wait=true", "--out", "a"];
    let output = run(folder.path(), &args);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let table = text(&output.stdout);
    let line = "sessions: 2 opened, 2 completed, 0 given up, at most 2 at once; calls: 4 planned, 4 answered";
    assert!(table.contains(line) && table.contains("Session Duration (ms)"), "{table}");
    let report = report(&folder.path().join("a"));
    assert_eq!(report["num_sessions"], 2);
    assert_eq!(report["num_session_duration_samples"], 2);
    let rows = fs::read_to_string(folder.path().join("a/requests.csv")).unwrap();
    let rows: Vec<Vec<&str>> = rows.lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| rows[0].iter().position(|&column| column == name).unwrap();
    let figure = |row: usize, name: &str| rows[row][column(name)].parse::<f64>().unwrap();
    let row_of = |line: f64| {
        (1..rows.len()).find(|&row| (figure(row, "trace_line") - line).abs() < 0.5).unwrap()
    };
    for (first, second, delay) in [(0.0, 2.0, 1000.0), (1.0, 3.0, 0.0)] {
        let end = figure(row_of(first), "arrival_ms") + figure(row_of(first), "e2e_ms");
        let gap = figure(row_of(second), "arrival_ms") - end;
        assert!((gap - delay - 5.0).abs() < 1e-5, "{gap}");
    }
    // The resolved configuration makes the run again.
    let again = run(folder.path(), &["run", "-c", "a/config.toml", "--out", "b"]);
    assert_eq!(again.status.code(), Some(0));
    let repeated = self::report(&folder.path().join("b"));
    assert_eq!(report["digest"], repeated["digest"]);
    let output =
        run(folder.path(), &["trace", "validate", "t.jsonl", "--set", "workload.turns_wait=true"]);
    assert_eq!(text(&output.stdout), "t.jsonl: 4 requests, no problems\n");
}

#[test]
fn the_example_of_agents_runs() {
    let folder = tempfile::tempdir().unwrap();
    let config = shipped("examples/agents.toml");
    let config = config.to_str().unwrap();
    let args = ["run", "-c", config, "--requests", "500", "--json", "--out", "none"];
    let output = run(folder.path(), &args);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |key: &str| report[key].as_u64().unwrap();
    assert!(count("planned_calls") >= 500);
    assert_eq!(count("num_sessions"), count("completed_sessions") + count("abandoned_sessions"));
    assert_eq!(count("planned_calls"), count("completed_calls") + count("dropped_calls"));
    assert_eq!(count("tries"), count("num_requests"));
}

const WAIT: &str = "workload.turns_wait=true";

/// Arguments, exit code, and what stderr says.
const MISTAKES: [(&[&str], i32, &str); 18] = [
    (
        &["--trace", "t.jsonl"],
        3,
        "t.jsonl:3: `delay` is 1000, but has to be absent, or workload.turns_wait = true",
    ),
    (&["--trace", "self.jsonl", "--set", WAIT], 3, "self.jsonl:1: call 1 waits for itself"),
    (&["--trace", "late.jsonl", "--set", WAIT], 3, "late.jsonl:3: `delay` is -1, but has to be"),
    (&["--trace", "azure.csv", "--set", WAIT], 3, "azure.csv: workload.turns_wait = true is for"),
    (
        &["--trace", "t.jsonl", "--set", WAIT, "--set", "workload.skip_bad_lines=true"],
        3,
        "t.jsonl: requests that wait for one another need every line",
    ),
    (&["--set", WAIT], 2, "workload.turns_wait needs a trace, or workload.preset"),
    (
        &["--trace", "t.jsonl", "--set", WAIT, "--set", "workload.format=azure"],
        2,
        "workload.turns_wait is for traces in the formats mooncake and dynamo",
    ),
    (&["--set", "workload.agents.rounds=3.0"], 2, "has no meaning without workload.preset"),
    (
        &["--set", "workload.preset=agents", "--set", "workload.agents.fan_out_min=5"],
        2,
        "workload.agents.fan_out_min is 5, but has to be a whole number from 0 to 1024",
    ),
    (&["--set", "client.timeout=0"], 2, "client.timeout is \"0s\", but has to be a time above 0"),
    (
        &["--set", "client.timeout=5"],
        2,
        "client.timeout is 5, but has to be a time with a unit (ns, us, ms, s, m, h, d)",
    ),
    (&["--set", "client.backoff=0s"], 2, "client.backoff is \"0s\", but has to be a time above 0"),
    (
        &["--set", "client.backoff_max=0", "--set", "client.retries=1"],
        2,
        "client.backoff_max is \"0s\", but has to be a time above 0",
    ),
    (
        &["--set", "client.backoff=1m", "--set", "client.retries=1"],
        2,
        "client.backoff is 1m, above client.backoff_max (30s)",
    ),
    (
        &["--set", "workload.preset=agents", "--set", "workload.agents.tool_time=27d"],
        2,
        "workload.agents.tool_time is \"27d\", but has to be a time of at most 26 d",
    ),
    (&["--set", "client.backoff_factor=0.5"], 2, "client.backoff_factor is 0.5, but has to be"),
    (&["--set", "client.backoff_jitter=2.0"], 2, "client.backoff_jitter is 2.0, but has to be"),
    (&["--set", "client.retires=2"], 2, "unknown key client.retires; did you mean client.retries?"),
];

#[test]
fn what_cannot_be_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("t.jsonl", TRACE);
    write("azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.98,4,5\n");
    let first = TRACE.lines().next().unwrap();
    write(
        "self.jsonl",
        &first.replace("\"session_id\": \"a\"", "\"request_id\": 1, \"wait_for\": [1]"),
    );
    write("late.jsonl", &TRACE.replace("1000,", "-1,"));
    for (args, code, expected) in MISTAKES {
        let output = run(folder.path(), &[&["run", "--out", "none"], args].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        let error = stderr.lines().last().unwrap();
        assert!(error.starts_with("error: ") && error.contains(expected), "{args:?}: {stderr}");
    }
}

#[test]
fn what_has_no_times_or_no_effect_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.jsonl"), TRACE).unwrap();
    let output = run(folder.path(), &["trace", "stats", "t.jsonl", "--set", WAIT]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("its requests wait for one another"));
    let idle = run(
        folder.path(),
        &["run", "--requests", "50", "--set", "client.backoff=2s", "--out", "none"],
    );
    assert!(text(&idle.stdout).contains("client.backoff has no effect without client.retries"));
}

/// Dynamo's recordings are told from their schema: as requests where they have no sessions, else as sessions.
#[test]
fn recordings_of_dynamo_are_played() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/trace_dynamo");
    for name in ["plain", "agents"] {
        let file = format!("{name}.jsonl");
        fs::copy(corpus.join(&file), folder.path().join(&file)).unwrap();
        let size = "workload.trace_block_size=16";
        let output = run(folder.path(), &["run", "--trace", &file, "--set", size, "--out", name]);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    }
    let agents = report(&folder.path().join("agents"));
    assert_eq!((&agents["num_sessions"], &agents["completed_calls"]), (&1.into(), &3.into()));
    let plain = report(&folder.path().join("plain"));
    assert_eq!((&plain["num_sessions"], &plain["num_requests"]), (&Value::Null, &2.into()));
    let output = run(folder.path(), &["run", "--trace", "plain.jsonl", "--out", "none"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("plain.jsonl:1: `trace_block_size` is 16, but has to be"), "{stderr}");
    let args =
        ["trace", "convert", "plain.jsonl", "c.jsonl", "--set", "workload.trace_block_size=16"];
    let output = run(folder.path(), &args);
    assert_eq!(text(&output.stdout), "2 requests in c.jsonl\n", "{}", text(&output.stderr));
    let args = ["run", "--trace", "c.jsonl", "--set", "workload.trace_block_size=16", "--out", "c"];
    assert_eq!(run(folder.path(), &args).status.code(), Some(0));
    assert_eq!(report(&folder.path().join("c"))["digest"], plain["digest"]);
}

/// So many that the front end takes several events for them, all at one instant.
#[test]
fn a_crowd_that_comes_and_loses_patience_at_once_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 9, \"hash_ids\": [1, 2]}\n";
    fs::write(folder.path().join("t.jsonl"), line.repeat(2000)).unwrap();
    let sets = [
        "timing.model=constant",
        "timing.prefill=1s",
        "client.timeout=10ms",
        "client.retries=1",
        "client.backoff=1h",
        "client.backoff_max=1h",
        "client.backoff_jitter=0.0",
        "admission.max_in_flight=1500",
        "admission.max_wait=5ms",
    ];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let mut digests = Vec::new();
    for threads in ["1", "2"] {
        let args: Vec<&str> = ["run", "--trace", "t.jsonl", "--threads", threads, "--out", threads]
            .into_iter()
            .chain(sets.clone())
            .collect();
        let output = run(folder.path(), &args);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
        let report = report(&folder.path().join(threads));
        let figures = ["tries", "retries", "timeouts", "expired_requests", "max_fleet_requests"];
        let figures = figures.map(|figure| report[figure].as_u64().unwrap());
        assert_eq!(figures, [4000, 2000, 3000, 1000, 1500]);
        digests.push(report["digest"].clone());
    }
    assert_eq!(digests[0], digests[1]);
}

/// Requests that are refused at once, one after the other, where nothing takes any time.
#[test]
fn an_instant_without_end_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut args = vec!["run", "--concurrency", "1", "--requests", "70000", "--out", "x"];
    for set in [
        "workload.preset=custom",
        "workload.generate.rate=100.0",
        "engine.max_model_len=1",
        "control_plane.dispatch_latency=0s",
        "control_plane.feedback_latency=0s",
    ] {
        args.extend(["--set", set]);
    }
    let output = run(folder.path(), &args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let expected = "error: at 0.000000000 s of virtual time tens of thousands of requests come and end one after the other, \
                    and no time passes; set control_plane.dispatch_latency or control_plane.feedback_latency above 0\n";
    assert_eq!(stderr, expected);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // A few are no trouble.
    args[4] = "50000";
    let output = run(folder.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}
