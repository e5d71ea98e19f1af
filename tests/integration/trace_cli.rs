//! The commands of `fleetsim trace` as a user meets them.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::cli::{fleetsim, names, run, text};

const LINE: &str = r#"{"timestamp": 5, "input_length": 5, "output_length": 3, "hash_ids": [1]}"#;

/// What skips bad lines in a run hides none of them here, not even in traces that have to be whole.
#[test]
fn validation_never_skips_bad_lines() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("x.jsonl", &format!("{LINE}\n{{}}\n{LINE}\n"));
    write("c.toml", "[workload]\ntrace = \"y.jsonl\"\nskip_bad_lines = true\n");
    let problem = "x.jsonl:2: `timestamp` is missing\n";
    for args in [&["--skip-bad-lines"][..], &["-c", "c.toml"]] {
        let args = [&["trace", "validate", "x.jsonl"], args].concat();
        let output = run(folder.path(), &args);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(3), problem));
        assert_eq!(text(&output.stderr), "error: x.jsonl: 1 bad lines, 2 good ones\n");
        let whole = [&args[..], &["--set", "workload.turns_wait=true"]].concat();
        let output = run(folder.path(), &whole);
        assert_eq!(text(&output.stderr), "error: x.jsonl:2: `hash_ids` is missing\n");
    }
}

/// Whoever is interrupted while a trace is read whole says so when it has been read.
#[cfg(unix)]
#[test]
fn validation_of_a_whole_trace_can_be_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let call = |name: &str, args: &[&str]| {
        let status = Command::new(name).current_dir(folder.path()).args(args).status();
        assert!(status.unwrap().success(), "{name}");
    };
    call("mkfifo", &["pipe"]);
    let args = ["trace", "validate", "pipe", "--format=mooncake", "--set=workload.turns_wait=true"];
    let child = fleetsim(folder.path(), &args).stderr(Stdio::piped()).spawn().unwrap();
    // It listens before it opens the trace, and waits there until there is somebody to write it.
    let mut pipe = fs::OpenOptions::new().write(true).open(folder.path().join("pipe")).unwrap();
    call("kill", &["-INT", &child.id().to_string()]);
    call("sleep", &["0.3"]);
    writeln!(pipe, "{LINE}").unwrap();
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "interrupted: no results were kept\n");
    assert_eq!(output.status.code(), Some(130));
}

/// What is written is generated, or converted, or nothing.
#[test]
fn a_trace_is_written_from_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("x.jsonl", &format!("{LINE}\n"));
    write("c.toml", "[workload]\ntrace = \"x.jsonl\"\n");
    let cases: [(&[&str], i32, &str); 4] = [
        (
            &["generate", "y.jsonl", "-c", "c.toml"],
            2,
            "error: workload.trace is x.jsonl, which is no traffic to generate; `fleetsim trace convert` writes what \
             a trace has\n",
        ),
        (
            &["convert", "x.jsonl", "y.jsonl", "--set", "workload.from=1h"],
            3,
            "error: x.jsonl: no requests: look at workload.from, workload.until and the rate\n",
        ),
        (
            &["generate", "-", "--set", "workload.from=2h"],
            3,
            "error: generated toolagent traffic: no requests: look at workload.from, workload.until and the rate\n",
        ),
        (&["convert", "x.jsonl", "y.jsonl", "--quiet"], 0, ""),
    ];
    for (args, code, expected) in cases {
        let output = run(folder.path(), &[&["trace"], args].concat());
        let said = (output.status.code(), text(&output.stderr), text(&output.stdout));
        assert_eq!(said, (Some(code), expected.to_owned(), String::new()), "{args:?}");
        let written = folder.path().join("y.jsonl").exists();
        assert_eq!((written, names(folder.path()).len()), (code == 0, 2 + usize::from(code == 0)));
    }
}

/// A run that waits for a pipe hears no interrupt; the second one ends it all the same. What the pipe holds has to be said, since
/// it can be read only once.
#[test]
fn a_pipe_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let wait = |time| assert!(Command::new("sleep").arg(time).status().unwrap().success());
    let args = ["run", "--trace", "/dev/stdin", "--format", "mooncake", "--out", "none"];
    let mut command = fleetsim(folder.path(), &args);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id().to_string();
    // It listens when the first requests have come, and waits for more.
    let mut pipe = child.stdin.take().unwrap();
    for second in 0..40_000 {
        let ms = second * 1000;
        let line = format!(
            "{{\"timestamp\": {ms}, \"input_length\": 9, \"output_length\": 1, \"hash_ids\": [1]}}"
        );
        writeln!(pipe, "{line}").unwrap();
    }
    for time in ["0.3", "1.2"] {
        wait(time);
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(pipe);
    let mut command = fleetsim(folder.path(), &["run", "--trace", "/dev/stdin", "--out", "none"]);
    let child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let expected = "error: /dev/stdin: is no file that can be read twice, so its format cannot be told: say workload.format";
    assert!(text(&output.stderr).starts_with(expected), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(3));
    for more in [&["scaling"][..], &["sweep", "--vary", "run.seed=1,2"]] {
        let trace = ["--set", "workload.trace=/dev/stdin", "--set", "workload.format=mooncake"];
        let args = [more, &trace, &["--out", "none"]].concat();
        let mut command = fleetsim(folder.path(), &args);
        let child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let expected =
            "error: /dev/stdin: is no file that can be read more than once, which this needs\n";
        assert_eq!(text(&output.stderr), expected);
        assert_eq!(output.status.code(), Some(3));
    }
}
