//! Limits of the front end as a user meets them.

use std::fs;

use serde_json::Value;

use crate::cli::{run, text};
use crate::support::shipped;

const TRACE: &str = r#"{"timestamp": 0, "input_length": 700, "output_length": 20, "hash_ids": [1, 2]}
{"timestamp": 1, "input_length": 600, "output_length": 20, "hash_ids": [3, 4]}
{"timestamp": 2, "input_length": 600, "output_length": 20, "hash_ids": [5, 6]}
"#;

/// One is served, one waits too long, one finds no room.
#[test]
fn who_is_turned_away_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.jsonl"), TRACE).unwrap();
    let set = |key: &'static str| ["--set", key];
    let limits = [
        set("admission.max_in_flight=1"),
        set("admission.queue_limit=1"),
        set("admission.max_wait=10ms"),
    ];
    let args = [&["run", "--trace", "t.jsonl", "--out", "a"][..], &limits.concat()].concat();
    let output = run(folder.path(), &args);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let table = text(&output.stdout);
    let line = "admission: at most 1 of 1 requests in the fleet and 1 of 1 waiting for it; 1 turned \
                away because the queue was full, 1 after waiting too long";
    assert!(table.contains(line), "{table}");
    let read = |name: &str| fs::read_to_string(folder.path().join("a").join(name)).unwrap();
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    for (key, expected) in [
        ("num_requests", 3),
        ("completed_requests", 1),
        ("rejected_requests", 0),
        ("queue_full_requests", 1),
        ("expired_requests", 1),
        ("max_fleet_requests", 1),
        ("max_queued_requests", 1),
    ] {
        assert_eq!(report[key], expected, "{key}");
    }
    let rows = read("requests.csv");
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows[2], "1,1,600,0,,0,,,10,1,expired,0,0,,");
    assert_eq!(rows[3], "2,2,600,0,,0,,,0,2,queue_full,0,0,,");
    let series = read("series.csv");
    let mut lines = series.lines();
    assert!(lines.next().unwrap().ends_with("load_imbalance,queue_full,expired"));
    assert!(lines.next().unwrap().ends_with(",1,1"), "{series}");
    // Without limits none of this is there.
    let output = run(folder.path(), &["run", "--trace", "t.jsonl", "--out", "b"]);
    assert!(!text(&output.stdout).contains("admission"));
    let report = fs::read_to_string(folder.path().join("b/report.json")).unwrap();
    assert!(!report.contains("queue_full") && !report.contains("max_queued"));
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (toml, expected) in [
        (
            "[admission]\nmax_in_flight = 0\n",
            "x.toml:2:17: admission.max_in_flight is 0, but has to be a whole number, 1 or more",
        ),
        (
            "[admission]\nmax_in_flight = 9\nmax_wait = \"0s\"\n",
            "x.toml:3:12: admission.max_wait is \"0s\", but has to be a time above 0",
        ),
        (
            "[admission]\nqueue_limit = -1\n",
            "x.toml:2:15: admission.queue_limit is -1, but has to be a whole number, 0 or more",
        ),
        (
            "[admission]\nmax_queue = 1\n",
            "x.toml:2:1: unknown key admission.max_queue; did you mean admission.max_wait?",
        ),
        ("[classes.a]\npriority = 1\n", "x.toml:1:1: classes.a needs a share of the requests"),
        (
            "[classes.a]\nshare = -1.0\n",
            "x.toml:2:9: classes.a.share is -1.0, but has to be a number from 0 to 1000000",
        ),
        (
            "[classes.a]\nshare = 0.0\n[classes.b]\nshare = 0.0\n",
            "classes have shares of 0 only: one of them has to be above 0",
        ),
        (
            "[classes.\"a,b\"]\nshare = 1.0\n",
            "classes.\"a,b\" needs a name of letters, digits, hyphens, underscores and dots",
        ),
        (
            "[classes.a]\nshare = 1.0\nmax_wait = \"0s\"\n",
            "x.toml:3:12: classes.a.max_wait is \"0s\", but has to be a time above 0",
        ),
        (
            "[classes.a]\nshare = 1.0\nslo = { tftt = \"1s\" }\n",
            "unknown key classes.a.slo.tftt; did you mean classes.a.slo.ttft?",
        ),
        (
            "[classes.a]\nshare = 1.0\nslo = { e2e = \"0s\" }\n",
            "x.toml:3:15: classes.a.slo.e2e is \"0s\", but has to be a time above 0",
        ),
        (
            "[classes.a]\nshare = 1.0\npriority = 3000000000\n",
            "x.toml:3:12: classes.a.priority is 3000000000, but has to be a whole number from -2147483648 to 2147483647",
        ),
    ] {
        fs::write(folder.path().join("x.toml"), toml).unwrap();
        let output = run(folder.path(), &["run", "-c", "x.toml"]);
        let error = text(&output.stderr);
        assert!(error.contains(expected), "{toml}: {error}");
        assert_ne!(output.status.code(), Some(0));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn limits_without_effect_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    let note = |keys: &[&str]| {
        let sets = keys.iter().flat_map(|key| ["--set", key]);
        let args: Vec<&str> =
            ["run", "--requests", "50", "--out", "none"].into_iter().chain(sets).collect();
        let output = run(folder.path(), &args);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
        text(&output.stdout)
    };
    let idle = note(&["admission.queue_limit=3"]);
    assert!(idle.contains("admission.queue_limit has no effect without"), "{idle}");
    let idle = note(&["classes.a.share=1.0", "classes.a.priority=2"]);
    assert!(idle.contains("classes.a.priority has no effect without"), "{idle}");
    let order = note(&["admission.max_in_flight=3", "router.router_queue_policy=lcfs"]);
    assert!(!order.contains("no effect"), "{order}");
}

#[test]
fn a_closed_loop_has_to_fit() {
    let folder = tempfile::tempdir().unwrap();
    let (three, limit) = ("admission.max_in_flight=3", "admission.queue_limit=3");
    let (seven, class) = ("workload.concurrency=7", "classes.a.share=1.0");
    let (own, open) = ("classes.a.queue_limit=3", "classes.b.share=1.0");
    for (sets, code) in [
        (&[three, limit, seven][..], 2),
        (&[three, limit, "workload.concurrency=6"], 0),
        (&[three, limit, seven, "client.retries=1"], 0),
        (&[three, limit, seven, class, "classes.a.queue_limit=4"], 0),
        (&[three, limit, seven, class, own], 2),
        // Limits of classes alone, of all or of some.
        (&[three, seven, class, own], 2),
        (&[three, seven, class, own, open], 0),
        (&[three, seven], 0),
    ] {
        let args = ["run", "--requests", "50", "--out", "none"].into_iter();
        let args = args.chain(sets.iter().flat_map(|key| ["--set", key]));
        let output = run(folder.path(), &args.collect::<Vec<_>>());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{sets:?}: {stderr}");
        let said =
            stderr.contains("workload.concurrency is 7, but [admission] has room for 6: the");
        assert_eq!(said, code == 2, "{stderr}");
    }
}

#[test]
fn the_example_turns_requests_away() {
    let folder = tempfile::tempdir().unwrap();
    let config = shipped("examples/admission.toml");
    let output =
        run(folder.path(), &["run", "-c", config.to_str().unwrap(), "--json", "--out", "none"]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert!(report["queue_full_requests"].as_u64() > Some(0), "{report}");
    assert!(report["expired_requests"].as_u64() > Some(0), "{report}");
    assert!(report["retries"].as_u64() > Some(0), "{report}");
    let classes = report["classes"].as_array().unwrap();
    let sum = |key: &str| classes.iter().filter_map(|class| class[key].as_u64()).sum::<u64>();
    for key in ["num_requests", "completed_requests", "queue_full_requests", "expired_requests"] {
        assert_eq!(report[key], sum(key), "{key}");
    }
    let [batch, interactive] = &classes[..] else { panic!("two classes: {report}") };
    assert_eq!((&batch["name"], &interactive["name"]), (&"batch".into(), &"interactive".into()));
    let p50 = |class: &Value| class["median_ttft_ms"].as_f64().unwrap();
    assert!(2.0 * p50(interactive) < p50(batch), "{report}");
}

/// A table, a column and a list say which class fared how; without classes there is none of them.
#[test]
fn classes_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let classes = ["--set", "classes.gold.share=1", "--set", "classes.rest.share=3.0"];
    let args = [&["run", "--requests", "400", "--out", "a"][..], &classes].concat();
    let output = run(folder.path(), &args);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let table = text(&output.stdout);
    assert!(table.contains("│ Class ") && table.contains("│ gold "), "{table}");
    let rows = fs::read_to_string(folder.path().join("a/requests.csv")).unwrap();
    assert!(rows.lines().next().unwrap().ends_with(",ttst_ms,class"));
    let gold = rows.lines().filter(|line| line.ends_with(",gold")).count();
    let rest = rows.lines().filter(|line| line.ends_with(",rest")).count();
    assert_eq!(gold + rest, 400);
    let report = fs::read_to_string(folder.path().join("a/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["classes"][0]["num_requests"], gold);
    assert_eq!(report["classes"][1]["num_requests"], rest);
    // A resolved configuration repeats the run.
    let config = folder.path().join("a/config.toml");
    let output = run(folder.path(), &["run", "-c", config.to_str().unwrap(), "--out", "b"]);
    assert_eq!(output.status.code(), Some(0));
    let again = fs::read_to_string(folder.path().join("b/requests.csv")).unwrap();
    assert_eq!(rows, again);
    let output = run(folder.path(), &["run", "--requests", "400", "--out", "c"]);
    assert!(!text(&output.stdout).contains("Class"));
    let report = fs::read_to_string(folder.path().join("c/report.json")).unwrap();
    assert!(!report.contains("classes"));
}
