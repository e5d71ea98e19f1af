//! The program as a user meets it: what it prints, what it leaves behind, how it exits.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::shipped;

pub(crate) fn fleetsim(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetsim"));
    command.current_dir(folder).args(args).env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

pub(crate) fn run(folder: &Path, args: &[&str]) -> Output {
    fleetsim(folder, args).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap()
}

const SMALL: [&str; 3] = ["run", "--requests", "200"];

#[test]
fn without_options_an_hour_is_simulated() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let table = text(&output.stdout);
    for expected in ["Time to First Token (ms)", "23,608", "results in runs/toolagent-1"] {
        assert!(table.contains(expected), "{expected} is missing in\n{table}");
    }
    let results = folder.path().join("runs/toolagent-1");
    let expected = ["config.toml", "report.json", "requests.csv", "series.csv", "workers.csv"];
    assert_eq!(names(&results), expected);
    let rows = fs::read_to_string(results.join("requests.csv")).unwrap();
    assert_eq!(rows.lines().count(), 23_609);
    assert_eq!(run(folder.path(), &SMALL).status.code(), Some(0));
    assert_eq!(names(&folder.path().join("runs")), ["toolagent-1", "toolagent-2"]);
}

/// Whatever a run was made from, its resolved configuration makes it again.
#[test]
fn the_resolved_configuration_repeats_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("some.jsonl");
    let made = run(folder.path(), &["trace", "generate", "some.jsonl", "--requests", "300"]);
    assert_eq!(text(&made.stdout), "300 requests in some.jsonl\n");
    let cases: [&[&str]; 4] = [
        &["--requests", "500", "--router", "kv", "--seed", "7"],
        &["--trace", "some.jsonl", "--concurrency", "20", "--set", "slo.ttft=300ms"],
        &[
            "--requests",
            "500",
            "--router",
            "power-of-two",
            "--speedup",
            "3.5",
            "--set",
            "workload.copies=2",
        ],
        &[
            "--trace",
            trace.to_str().unwrap(),
            "--set",
            "control_plane.feedback_jitter=2ms",
            "--router",
            "least-loaded",
        ],
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let (first, second) = (format!("a{number}"), format!("elsewhere/b{number}"));
        let args = [&["run", "--quiet", "--out", &first], case].concat();
        let output = run(folder.path(), &args);
        assert_eq!(text(&output.stderr), "", "{case:?}");
        let config = folder.path().join(&first).join("config.toml");
        let args = ["run", "--quiet", "-c", config.to_str().unwrap(), "--out", &second];
        assert_eq!(text(&run(folder.path(), &args).stderr), "", "{case:?}");
        let (first, second) = (folder.path().join(first), folder.path().join(second));
        assert_eq!(report(&first)["digest"], report(&second)["digest"], "{case:?}");
        let rows = |path: &Path| fs::read_to_string(path.join("requests.csv")).unwrap();
        assert_eq!(rows(&first), rows(&second), "{case:?}");
    }
}

#[test]
fn the_digest_covers_rows_that_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut digests = Vec::new();
    for (share, files) in [("1.0", 5), ("0.1", 5), ("0.0", 4)] {
        let set = format!("run.rows={share}");
        let args = [&SMALL[..], &["--quiet", "--out", share, "--set", &set]].concat();
        assert_eq!(run(folder.path(), &args).status.code(), Some(0));
        let results = folder.path().join(share);
        assert_eq!(names(&results).len(), files);
        digests.push(report(&results)["digest"].clone());
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[test]
fn intervals_begin_at_round_times() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--out", "x", "--quiet", "--set", "run.series_interval=100ms"];
    run(folder.path(), &[&SMALL[..], &args].concat());
    assert_eq!(cells(&folder.path().join("x/series.csv"))[4][0], "0.3");
}

#[test]
fn json_goes_to_stdout_and_quiet_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[&SMALL[..], &["--json", "--out", "none"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["completed_requests"], 200);
    let quiet = run(folder.path(), &[&SMALL[..], &["--quiet", "--out", "none"]].concat());
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
    let both = run(folder.path(), &[&SMALL[..], &["--quiet", "--json", "--out", "none"]].concat());
    let same: Value = serde_json::from_slice(&both.stdout).unwrap();
    assert!(both.stderr.is_empty() && same["digest"] == report["digest"]);
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

/// Arguments, exit code, and what stderr says.
const MISTAKES: [(&[&str], i32, &str); 18] = [
    (
        &["--workers", "0"],
        2,
        "--workers 0: fleet.workers is 0, but has to be a whole number from 1 to 1048575",
    ),
    (
        &["--workers", "-1"],
        2,
        "--workers -1: fleet.workers is -1, but has to be a whole number from 1 to 1048575",
    ),
    (
        &["--speedup", "0"],
        2,
        "--speedup 0: workload.speedup is 0.0, but has to be a number from 0.000001 to 1000000",
    ),
    (&["--threads", "0"], 2, "--threads 0: run.threads is 0, but has to be 1 to 1024, or \"auto\""),
    (&["--router", "kvv"], 2, "did you mean kv?"),
    (
        &["-c", "bad.toml"],
        2,
        "bad.toml:5:1: unknown key router.polciy; did you mean router.policy?",
    ),
    (&["-c", "none.toml"], 2, "none.toml: cannot be read: No such file or directory"),
    (&["-c", "mine"], 2, "mine: cannot be read: it is a directory"),
    (
        &["--concurrency", "5", "--speedup", "2"],
        2,
        "workload.speedup has no meaning beside workload.concurrency",
    ),
    (&["--trace", "none.jsonl"], 3, "none.jsonl: cannot be read: No such file or directory"),
    (&["--trace", "mine"], 3, "mine: is a directory, not a trace"),
    (&["--trace", "empty.jsonl"], 3, "empty.jsonl: has no requests"),
    (&["--trace", "cut.jsonl"], 3, "cut.jsonl:2: not the JSON expected here"),
    (&["--trace", "back.jsonl"], 3, "back.jsonl:2: time runs backwards"),
    (
        &["--set", "workload.from=2h"],
        3,
        "no requests: look at workload.from, workload.until and the rate",
    ),
    (
        &["--out", "mine"],
        4,
        "mine: exists already; choose another directory, or replace it with --force",
    ),
    (
        &["--out", "mine", "--force"],
        4,
        "mine: --force replaces only a directory with a report.json or an empty one",
    ),
    (&["--out", "mine/thesis.txt/x"], 4, "mine/thesis.txt/x: cannot be written: Not a directory"),
];

#[test]
fn mistakes_get_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let line = r#"{"timestamp": 5, "input_length": 5, "output_length": 3, "hash_ids": [1]}"#;
    write("empty.jsonl", "");
    write("cut.jsonl", &format!("{line}\n{}\n", &line[..40]));
    write("back.jsonl", &format!("{line}\n{}\n", line.replace('5', "3")));
    write("bad.toml", "[fleet]\nworkers = 8\n\n[router]\npolciy = \"kv\"\n");
    fs::create_dir(folder.path().join("mine")).unwrap();
    write("mine/thesis.txt", "");
    let before = names(folder.path());
    for (args, code, expected) in MISTAKES {
        let output = run(folder.path(), &[&["run"], args].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        assert!(output.stdout.is_empty());
        assert_eq!(names(folder.path()), before, "{args:?} left something behind");
    }
}

#[test]
fn bad_lines_are_skipped_and_counted_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let line = r#"{"timestamp": 5, "input_length": 5, "output_length": 3, "hash_ids": [1]}"#;
    fs::write(folder.path().join("x.jsonl"), format!("{line}\n{{}}\n{line}\n")).unwrap();
    let args = ["run", "--trace", "x.jsonl", "--skip-bad-lines", "--json", "--out", "none"];
    let report: Value = serde_json::from_slice(&run(folder.path(), &args).stdout).unwrap();
    assert_eq!((&report["completed_requests"], &report["skipped_lines"]), (&2.into(), &1.into()));
    let output = run(folder.path(), &["trace", "validate", "x.jsonl"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stdout), "x.jsonl:2: `timestamp` is missing\n");
    assert_eq!(text(&output.stderr), "error: x.jsonl: 1 bad lines, 2 good ones\n");
}

/// A converted trace is the same workload.
#[test]
fn a_converted_trace_gives_the_same_digest() {
    let folder = tempfile::tempdir().unwrap();
    run(
        folder.path(),
        &["trace", "generate", "a.jsonl.gz", "--requests", "400", "--preset", "conversation"],
    );
    let output = run(folder.path(), &["trace", "convert", "a.jsonl.gz", "b.jsonl.zst"]);
    assert_eq!(text(&output.stdout), "400 requests in b.jsonl.zst\n");
    let again = run(folder.path(), &["trace", "convert", "a.jsonl.gz", "b.jsonl.zst"]);
    assert_eq!(again.status.code(), Some(4), "{}", text(&again.stderr));
    let digest = |trace: &str| {
        let args = ["run", "--trace", trace, "--router", "kv", "--json", "--out", "none"];
        let report: Value = serde_json::from_slice(&run(folder.path(), &args).stdout).unwrap();
        report["digest"].clone()
    };
    assert_eq!(digest("a.jsonl.gz"), digest("b.jsonl.zst"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    for args in [["run", "--out", "none"], ["trace", "generate", "-"], ["trace", "stats", "--json"]]
    {
        let mut child = fleetsim(folder.path(), &args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let args = [&SMALL[..], &["--out", "none"]].concat();
    let output = fleetsim(folder.path(), &args).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("No space left on device"));
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        "[workload]\npreset = \"custom\"\n[workload.generate]\nduration = \"300d\"\nrate = 50.0\n";
    fs::write(folder.path().join("long.toml"), config).unwrap();
    for args in [
        &["run", "-c", "long.toml", "--out", "x"][..],
        &["trace", "generate", "x.jsonl", "-c", "long.toml"],
        &["trace", "stats", "-c", "long.toml"],
        &["sweep", "-c", "long.toml", "--vary", "fleet.workers=8", "--out", "x", "--quiet"],
        &[
            "sweep",
            "-c",
            "long.toml",
            "--vary",
            "run.seed=1,2,3",
            "--jobs",
            "2",
            "-q",
            "--out",
            "x",
        ],
        &["scaling", "-c", "long.toml", "--out", "x", "--quiet"],
    ] {
        let child = fleetsim(folder.path(), args).stderr(Stdio::piped()).spawn().unwrap();
        // It listens before it starts to work, which takes hours; how long to wait does not decide the outcome.
        let wait = Command::new("sleep").arg("0.3").status().unwrap();
        assert!(wait.success());
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(text(&output.stderr), "interrupted: no results were kept\n", "{args:?}");
        assert_eq!(output.status.code(), Some(130), "{args:?}");
        assert_eq!(names(folder.path()), ["long.toml"], "{args:?}");
    }
}

/// Every shipped configuration that needs no recorded trace runs, on a few requests.
#[test]
fn shipped_configurations_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = vec![shipped("")];
    let mut count = 0;
    while let Some(path) = open.pop() {
        if path.ends_with("configs/catalog") {
            continue;
        }
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let path = path.to_str().unwrap();
        let generated = ["trace", "generate", "--force", "x.jsonl", "--requests", "100"];
        assert_eq!(run(folder.path(), &generated).status.code(), Some(0));
        let mut args = vec!["run", "-c", path, "--requests", "100", "--quiet", "--out", "none"];
        if path.contains("/reference/") {
            args.extend(["--trace", "x.jsonl"]);
        }
        let output = run(folder.path(), &args);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{path}");
        count += 1;
    }
    assert!(count >= 12, "only {count} configurations were found");
}

const SWEEP: &str = "[workload]\nrequests = 200\n[fleet]\nworkers = 4\n\n[sweep]\n\
    router.policy = [\"kv\", \"round-robin\"]\n\
    \"control_plane.feedback_latency\" = [0, \"5ms\"]\n\
    plot = [\"p99_ttft_ms\"]\n";

/// The cells of a CSV file, line by line.
pub(crate) fn cells(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// The last key varies fastest, every line is what `run` says of that combination, and the results repeat themselves.
#[test]
fn a_sweep_runs_every_combination() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.toml"), SWEEP).unwrap();
    let args = ["sweep", "-c", "s.toml", "--vary", "fleet.workers=2,3", "--plot", "load_cv"];
    let output = run(folder.path(), &args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let expected =
        "run 2 of 8: router.policy=kv, control_plane.feedback_latency=0, fleet.workers=3";
    assert_eq!((stderr.lines().count(), stderr.lines().nth(1)), (8, Some(expected)));
    let table = text(&output.stdout);
    assert!(
        table.contains("round-robin") && table.ends_with("results in runs/sweep-1\n"),
        "{table}"
    );

    let results = folder.path().join("runs/sweep-1");
    assert_eq!(names(&results), ["config.toml", "load_cv.svg", "sweep.csv"]);
    let lines = cells(&results.join("sweep.csv"));
    assert_eq!(lines[0][..3], ["router.policy", "control_plane.feedback_latency", "fleet.workers"]);
    let grid: Vec<String> = lines[1..].iter().map(|line| line[..3].join(" ")).collect();
    let expected =
        ["kv 0 2", "kv 0 3", "kv 5ms 2", "kv 5ms 3", "round-robin 0 2", "round-robin 0 3"];
    assert_eq!((grid.len(), &grid[..6]), (8, &expected.map(str::to_owned)[..]));
    let single =
        ["run", "-c", "s.toml", "--router", "kv", "--workers", "3", "--json", "--out", "none"];
    let report: Value = serde_json::from_slice(&run(folder.path(), &single).stdout).unwrap();
    assert_eq!(lines[4].last().map(String::as_str), report["digest"].as_str());
    let column = lines[0].iter().position(|name| name == "load_imbalance").unwrap();
    assert_eq!(lines[4][column], report["load_imbalance"].to_string());

    let config = results.join("config.toml");
    let args = ["sweep", "--quiet", "--out", "again", "-c", config.to_str().unwrap()];
    let output = run(folder.path(), &args);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{}", text(&output.stderr));
    for name in names(&results) {
        let read = |folder: &Path| fs::read(folder.join(&name)).unwrap();
        assert_eq!(read(&results), read(&folder.path().join("again")), "{name}");
    }
}

#[test]
fn a_sweep_as_json_has_the_reports() {
    let folder = tempfile::tempdir().unwrap();
    let args =
        ["sweep", "--requests", "50", "--vary", "slo.ttft=10ms,10s", "--json", "--out", "none"];
    let reports: Value = serde_json::from_slice(&run(folder.path(), &args).stdout).unwrap();
    let good = |index: usize| reports[index]["goodput_completed_requests"].as_u64().unwrap();
    assert_eq!(reports[1]["slo.ttft"], "10s");
    assert!(good(0) < good(1), "{} and {}", good(0), good(1));
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn mistakes_in_a_sweep_get_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("s.toml", SWEEP);
    write("key.toml", "[sweep]\nrouter.polciy = [\"kv\"]\n");
    write("value.toml", "[sweep]\n\"router.policy\" = [\"kv\", \"kvv\"]\n");
    write("list.toml", "[sweep]\nfleet.workers = 3\n");
    write("twice.toml", "[sweep]\nfleet.workers = [3]\n\"fleet.workers\" = [4]\n");
    write("plot.toml", "[sweep]\nfleet.workers = [3]\nplot = [\"p99_tfft_ms\"]\n");
    fs::create_dir(folder.path().join("mine")).unwrap();
    write("mine/report.json", "{}");
    let before = names(folder.path());
    let cases: [(&[&str], i32, &str); 14] = [
        (&[], 2, "sweep varies no key: say --vary KEY=V1,V2, or add the table [sweep] to the file"),
        (
            &["-c", "key.toml"],
            2,
            "key.toml:2:8: unknown key router.polciy; did you mean router.policy?",
        ),
        (
            &["-c", "value.toml"],
            2,
            "value.toml:2:26: router.policy is \"kvv\", but has to be one of",
        ),
        (
            &["-c", "list.toml"],
            2,
            "list.toml:2:17: fleet.workers is 3, but has to be a list of values",
        ),
        (
            &["-c", "twice.toml"],
            2,
            "twice.toml:3:19: fleet.workers is [4], but has to be varied only once",
        ),
        (
            &["-c", "plot.toml"],
            2,
            "plot.toml:3:9: sweep.plot is \"p99_tfft_ms\", but has to be one of",
        ),
        (&["-c", "plot.toml"], 2, "did you mean p99_ttft_ms?"),
        (&["-c", "s.toml", "--set", "router.policy=kv"], 2, "router.policy varies in the sweep"),
        (&["--vary", "fleet.workers"], 2, "--vary fleet.workers: has to be path=value,value"),
        (&["--vary", "fleet=1"], 2, "--vary fleet=1: fleet is a section"),
        (
            &["--vary", "router.policy=kv,random", "--vary", "fleet.workers=4,0"],
            2,
            "run 2 of 4: router.policy=kv, fleet.workers=0: --vary fleet.workers=4,0: fleet.workers is 0",
        ),
        (
            &["--vary", "router.policy=kv", "--plot", "load_cv"],
            2,
            "needs a varied key with numbers",
        ),
        (&["--vary", "workload.trace=none.jsonl"], 3, "none.jsonl: cannot be read"),
        (
            &["--vary", "fleet.workers=1", "--out", "mine", "--force"],
            4,
            "mine: --force replaces only a directory with a sweep.csv or an empty one",
        ),
    ];
    for (args, code, expected) in cases {
        let output = run(folder.path(), &[&["sweep"], args].concat());
        let stderr = text(&output.stderr);
        let error = stderr.lines().last().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(error.starts_with("error: ") && error.contains(expected), "{args:?}: {stderr}");
        assert_eq!(names(folder.path()), before, "{args:?} left something behind");
    }
}

#[test]
fn a_run_says_that_it_does_not_sweep() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.toml"), SWEEP).unwrap();
    let output = run(folder.path(), &["run", "-c", "s.toml", "--out", "none"]);
    let note =
        "note: the table [sweep] is for `fleetsim sweep`: this run has the values beside it\n";
    assert!(text(&output.stdout).ends_with(note), "{}", text(&output.stdout));
}
