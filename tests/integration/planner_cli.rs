//! The Planner as a user meets it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::{names, run, text};

/// The arguments of a small run with these keys set.
fn args<'a>(set: &[&'a str], out: &'a str) -> Vec<&'a str> {
    let mut args = vec!["run", "--requests", "600", "--out", out];
    for key in set {
        args.extend(["--set", key]);
    }
    args
}

const LOAD: [&str; 5] = [
    "planner.policy=load",
    "planner.load_interval=2s",
    "planner.workers_max=6",
    "fleet.workers=1",
    "lifecycle.startup=3s",
];

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap()
}

#[test]
fn every_decision_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &args(&LOAD, "a"));
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let table = text(&output.stdout);
    assert!(table.contains("planner (load)"), "{table}");
    let a = folder.path().join("a");
    assert!(names(&a).contains(&"planner.csv".to_owned()));
    let csv = fs::read_to_string(a.join("planner.csv")).unwrap();
    assert!(
        csv.starts_with("time_s,ready,") && csv.contains("goes from 1 to 2 workers: "),
        "{csv}"
    );
    let figures = report(&a);
    assert_eq!(figures["planner_ticks"], csv.lines().count() as u64 - 1);
    assert_eq!((&figures["planner_policy"], &figures["workers"]), (&"load".into(), &6.into()));
    let sum = |key: &str| {
        let list = figures["decisions"].as_array().unwrap().iter();
        list.map(|decision| decision[key].as_u64().unwrap()).sum::<u64>()
    };
    let all = [sum("up"), sum("down"), sum("up") + sum("down") + sum("stay")];
    let keys = ["scale_up_events", "scale_down_events", "planner_ticks"];
    assert_eq!(all, keys.map(|key| figures[key].as_u64().unwrap()));
    assert!(sum("up") > 0 && table.contains("Decisions of the Planner"), "{table}");
    assert!(table.contains("an earlier action is pending"), "{table}");
    let hours = |key: &str| figures[&format!("{key}gpu_hours")].as_f64().unwrap();
    let parts = hours("starting_") + hours("warm_") + hours("ready_") + hours("draining_");
    assert!((hours("") - parts).abs() < 1e-9 && hours("ready_") > 0.0);
    let series = fs::read_to_string(a.join("series.csv")).unwrap();
    assert!(series.lines().next().unwrap().ends_with("workers_warm,workers_draining"));
    let config = a.join("config.toml");
    let again = run(folder.path(), &["run", "-q", "-c", config.to_str().unwrap(), "--out", "b"]);
    assert_eq!(text(&again.stderr), "");
    let b = folder.path().join("b");
    assert_eq!(report(&b)["digest"], figures["digest"]);
    assert_eq!(fs::read_to_string(b.join("planner.csv")).unwrap(), csv);
}

/// Passes that are told one by one are the same passes; what is made of them differs.
#[test]
fn advice_from_passes_changes_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let told = ["requests", "passes"].map(|basis| {
        let basis_key = format!("planner.load_basis={basis}");
        let set = ["planner.policy=load", "planner.advisory=true", "fleet.workers=2", &basis_key];
        let output = run(folder.path(), &args(&set, basis));
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
        let file = |name: &str| fs::read_to_string(folder.path().join(basis).join(name)).unwrap();
        (file("requests.csv"), file("planner.csv"))
    });
    assert_eq!(told[0].0, told[1].0);
    assert_ne!(told[0].1, told[1].1);
}

#[test]
fn what_a_planner_does_not_change_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 3] = [
        (
            &["planner.load_interval=1s", "lifecycle.warm=2"],
            "note: planner.load_interval has no effect without planner.policy\nnote: lifecycle.warm has no effect without planner.policy",
        ),
        (
            &["planner.policy=keda", "planner.hpa_target=0.3", "planner.load_basis=passes"],
            "note: planner.load_basis has no effect unless planner.policy is \"load\" or \"both\"\nnote: planner.hpa_target has no effect unless planner.policy is \"hpa\"",
        ),
        (
            &["planner.policy=load", "fleet.workers=1", "lifecycle.startup=30m"],
            "note: no worker that was started got ready within the ",
        ),
    ];
    for (set, expected) in cases {
        let output = run(folder.path(), &args(set, "none"));
        let table = text(&output.stdout);
        assert!(output.status.success() && table.contains(expected), "{set:?}\n{table}");
    }
}

/// A start-up of 20 hours in traffic of 59 minutes is pointed out before the run, and not again after it.
#[test]
fn startups_longer_than_the_traffic_are_known_before() {
    let folder = tempfile::tempdir().unwrap();
    let load = ["planner.policy=load", "fleet.workers=1"];
    let said = |more: &[&str]| {
        let output = run(folder.path(), &args(&[&load[..], more].concat(), "none"));
        assert!(output.status.success());
        (text(&output.stderr), text(&output.stdout).matches("no worker that was started").count())
    };
    let note = |startup: &str, end: &str| {
        format!(
            "note: a start-up takes {startup}, and all requests arrive within {end}: workers that the \
             Planner starts cost GPU time and get no request but those that wait in the router until \
             then, see [lifecycle]\n"
        )
    };
    assert_eq!(said(&["lifecycle.startup=20h"]), (note("20h", "59m"), 0));
    assert_eq!(said(&["lifecycle.startup=20h", "workload.until=5m"]), (note("20h", "5m"), 0));
    let stages = "lifecycle.stages=[{ median = \"59m\" }]";
    assert_eq!(said(&[stages]), (note("59m", "59m"), 0));
    // Known only after the run: how long 600 requests take, and how long the start-ups were.
    let random = ["lifecycle.startup=20h", "lifecycle.startup_sigma=0.1"];
    for unknown in [&["lifecycle.startup=58m"][..], &random] {
        assert_eq!(said(unknown), (String::new(), 1), "{unknown:?}");
    }
    assert_eq!(said(&["lifecycle.startup=20h", "lifecycle.warm=1"]).0, "");
    let mut sweep = vec!["sweep", "--requests", "600", "--out", "none"];
    sweep.extend(["--set", load[0], "--vary", "lifecycle.startup=1s,20h"]);
    let output = run(folder.path(), &sweep);
    let some = note("20h", "59m").replace('\n', " (in 1 of 2 runs)\n");
    assert_eq!(text(&output.stderr).matches(&some).count(), 1);
    let quiet = args(&[load[0], "lifecycle.startup=20h"], "x");
    let quiet = run(folder.path(), &[&quiet[..], &["-q"]].concat());
    assert_eq!(text(&quiet.stderr), "");
    let notes = report(&folder.path().join("x"))["notes"].to_string();
    assert!(notes.contains("a start-up takes 20h"), "{notes}");
}

/// How many workers there could be is nothing that anybody pays for.
#[test]
fn figures_per_gpu_are_of_gpus_paid_for() {
    let folder = tempfile::tempdir().unwrap();
    let under = |most: &str| {
        let most = format!("planner.workers_max={most}");
        let set = [LOAD[0], LOAD[1], LOAD[3], LOAD[4], &most, "fleet.gpus_per_worker=2"];
        let output = run(folder.path(), &args(&set, "a"));
        let figures = report(&folder.path().join("a"));
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        (figures, text(&output.stdout))
    };
    let ((few, table), (many, many_table)) = (under("7"), under("500"));
    assert_eq!(few["digest"], many["digest"]);
    let number = |key: &str| few[key].as_f64().unwrap();
    let per_gpu = number("total_output_tokens") / (number("gpu_hours") * 3600.0);
    assert!((number("output_throughput_tok_s_per_gpu") / per_gpu - 1.0).abs() < 1e-9);
    for key in ["output_throughput_tok_s_per_gpu", "max_present_workers", "gpu_hours"] {
        assert_eq!(few[key], many[key], "{key}");
    }
    let most = few["max_present_workers"].as_u64().unwrap();
    assert!((2..=7).contains(&most), "{most}");
    for table in [table, many_table] {
        assert!(
            table.contains(&format!(" on up to {most} workers ({} GPUs), ", 2 * most)),
            "{table}"
        );
        // A line for every worker that ever was, and for no other.
        let last = table.lines().filter(|line| line.starts_with(&format!("│ {} ", most - 1)));
        assert_eq!(last.count(), 1, "{table}");
        assert!(!table.contains(&format!("\n│ {most} ")) && !table.contains("│ p50 "), "{table}");
    }
    // Twenty of a thousand: the smallest share of the requests is not nothing.
    let set = ["planner.policy=fixed", "planner.workers_max=1000", "fleet.workers=20"];
    let table = text(&run(folder.path(), &args(&set, "none")).stdout);
    assert!(table.contains(" on up to 20 workers (20 GPUs)") && table.contains("│ Of 20 workers "));
    assert!(table.contains("│ min           ┆       30 "), "{table}");
}

/// A Planner that holds the number of workers is paid for as a fleet of that size, to the last rounding.
#[test]
fn a_number_that_is_held_costs_what_a_fixed_fleet_does() {
    let folder = tempfile::tempdir().unwrap();
    let per_gpu = |set: &[&str]| {
        let output = run(folder.path(), &[&args(set, "none")[..], &["--json"]].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let keys = ["output_throughput_tok_s_per_gpu", "gpu_hours", "decode_worker_seconds"];
        keys.map(|key| report[key].as_f64().unwrap())
    };
    let fixed = per_gpu(&["fleet.workers=3"]);
    let held = per_gpu(&["fleet.workers=3", "planner.policy=fixed"]);
    for (fixed, held) in fixed.into_iter().zip(held) {
        assert!((held / fixed - 1.0).abs() < 1e-9, "{fixed} {held}");
    }
}

/// Eight idle workers of an autoscaler: as in Kubernetes, none goes within 300 s of the first look.
#[test]
fn autoscalers_begin_with_the_workers_there_are() {
    let folder = tempfile::tempdir().unwrap();
    for policy in ["keda", "hpa"] {
        let policy_key = format!("planner.policy={policy}");
        let set = [&policy_key, "fleet.workers=8", "workload.until=6m"];
        let output = run(
            folder.path(),
            &[&["run", "-q", "--out", policy], &*set.map(|key| ["--set", key]).concat()].concat(),
        );
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let csv = fs::read_to_string(folder.path().join(policy).join("planner.csv")).unwrap();
        let falls = csv.lines().find(|line| line.contains("goes from 8 to ")).unwrap();
        let at: f64 = falls.split(',').next().unwrap().parse().unwrap();
        assert!(at > 315.0, "{policy}: {falls}");
    }
}

/// A limit keeps the workers idle, and the queue grows in front of them.
#[test]
fn nobody_is_sent_home_while_requests_wait_in_front() {
    let folder = tempfile::tempdir().unwrap();
    for target in ["sla", "throughput"] {
        let load_target = format!("planner.load_target={target}");
        let set = [
            "planner.policy=load",
            "planner.load_interval=2s",
            "planner.workers_max=6",
            "fleet.workers=4",
            "admission.max_in_flight=8",
            &load_target,
        ];
        let output = run(folder.path(), &args(&set, target));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let mut rows =
            csv::Reader::from_path(folder.path().join(target).join("planner.csv")).unwrap();
        let header = rows.headers().unwrap().clone();
        let place = |name: &str| header.iter().position(|column| column == name).unwrap();
        let [waiting, before, after, decision] =
            ["waiting", "before", "target", "decision"].map(place);
        let (mut held, mut grown) = (0, 0);
        for row in rows.records().map(Result::unwrap) {
            let number = |column: usize| row[column].parse::<u64>().unwrap();
            if number(waiting) > 0 {
                assert!(number(after) >= number(before), "{target}: {}", &row[decision]);
                held += u64::from(row[decision].ends_with(" requests wait in front of the fleet"));
                grown += u64::from(row[decision].contains(": behind the "));
            }
        }
        assert!(held > 0 || grown > 0, "{target}");
        assert_eq!(grown > 0, target == "sla", "{target}");
    }
}

/// Means over a minute in place of a second: the same as ever if it is the interval, another estimate if not.
#[test]
fn means_are_taken_over_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let told =
        [None, Some("planner.metric_window=2s"), Some("planner.metric_window=59s")].map(|window| {
            let out = window.map_or("none-set", |window| &window[22..]);
            let mut set = LOAD.to_vec();
            set.extend(window);
            let output = run(folder.path(), &args(&set, out));
            assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
            let digest = report(&folder.path().join(out))["digest"].clone();
            let mut rows =
                csv::Reader::from_path(folder.path().join(out).join("planner.csv")).unwrap();
            let place = rows.headers().unwrap().iter().position(|column| column == "expected_osl");
            let osl: Vec<String> =
                rows.records().map(|row| row.unwrap()[place.unwrap()].to_owned()).collect();
            (digest, osl)
        });
    assert_eq!(told[0], told[1]);
    assert_ne!(told[0].1, told[2].1);
    let steps = |osl: &[String]| {
        let osl: Vec<f64> = osl.iter().filter_map(|osl| osl.parse().ok()).collect();
        let steps = osl.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        steps.sum::<f64>() / osl.len() as f64
    };
    assert!(steps(&told[2].1) < steps(&told[0].1) / 2.0, "the mean is calmer");
}

/// What can be told of warm workers and of the first look before the run is told then, and what cannot, after it.
#[test]
fn a_planner_that_has_no_say_is_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    let said = |set: &[&str]| {
        let output = run(folder.path(), &args(set, "none"));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let after =
            text(&output.stdout).matches("note: the Planner never looked: the run took ").count();
        (text(&output.stderr), after)
    };
    let late = "note: the Planner looks for the first time after 2h, and all requests arrive within 59m: what it \
                decides changes little or nothing, see the intervals in [planner]\n";
    let load = ["planner.policy=load", "planner.load_interval=2h"];
    assert_eq!(said(&[&load[..], &["lifecycle.startup=3h"]].concat()), (late.to_owned(), 0));
    // The bound looks every three minutes; a closed loop has no last arrival that is known.
    assert_eq!(said(&["planner.policy=both", load[1]]).0, "");
    assert_eq!(said(&[&load[..], &["workload.concurrency=8"]].concat()), (String::new(), 1));
    let warm = |most: &'static str| {
        said(&["planner.policy=fixed", "fleet.workers=8", "lifecycle.warm=8", most]).0
    };
    let note = "note: lifecycle.warm is 8, but beside the 8 workers of the start there is room for 1 of the 9 there \
                can be (planner.workers_max, planner.gpus_max): until fewer are asked for, no more are kept warm\n";
    assert_eq!(warm("planner.workers_max=9"), note);
    assert_eq!(warm("planner.workers_max=16"), "");
    // What is said of warm workers is nothing about the first look.
    let reserve =
        [&load[..], &["workload.concurrency=8", "lifecycle.warm=8", "planner.workers_max=9"]];
    assert_eq!(said(&[&reserve.concat()[..], &["fleet.workers=8"]].concat()), (note.to_owned(), 1));
}

/// Keys, and what stderr says.
const MISTAKES: [(&[&str], &str); 23] = [
    (
        &["planner.policy=load", "planner.metric_window=4s"],
        "planner.metric_window is \"4s\", but has to be planner.load_interval, \"5s\", or longer: every look sees at \
         least what came since the one before",
    ),
    (
        &["planner.metric_window=0s"],
        "planner.metric_window is \"0s\", but has to be a time above 0",
    ),
    (
        &["planner.policy=lod"],
        "planner.policy is \"lod\", but has to be one of none, throughput, load, both, hpa, keda, fixed, schedule; did you mean load?",
    ),
    (
        &["planner.policy=load", "planner.load_interval=0"],
        "planner.load_interval is \"0s\", but has to be a time of 100 ms or more",
    ),
    (
        &["planner.interval=99ms"],
        "planner.interval is \"99ms\", but has to be a time of 100 ms or more",
    ),
    (
        &["planner.workers_min=0"],
        "planner.workers_min is 0, but has to be a whole number from 1 to 1048575",
    ),
    (&["planner.hpa_target=0.0"], "planner.hpa_target is 0.0, but has to be a number above 0"),
    (
        &["planner.policy=load", "fleet.gpus_per_worker=4", "planner.gpus_max=3"],
        "planner.gpus_max cannot be kept: a budget of 3 GPUs does not hold the least number of workers, which needs 4",
    ),
    (
        &["planner.policy=load", "planner.workers_min=3", "planner.workers_max=2"],
        "planner.workers_min cannot be kept: at least 3 workers and at most 2 cannot both hold",
    ),
    (
        &["planner.policy=load", "planner.workers_max=10", "planner.gpus_min=11"],
        "planner.gpus_min cannot be kept: at least 11 GPUs are more than the largest number of workers, 10, has: 10",
    ),
    (
        &["planner.policy=load", "fleet.workers=8", "planner.gpus_max=4"],
        "fleet.workers is 8, the number of workers at the start, but the GPU budget in [planner] makes it 4",
    ),
    (
        &["planner.policy=load", "planner.workers_max=9", "lifecycle.warm=9"],
        "lifecycle.warm is 9, but beside planner.workers_min (1) there is room for 8",
    ),
    (
        &["planner.policy=both", "planner.predictor=holt-winters"],
        "which needs planner.predictor_period",
    ),
    (
        &["planner.policy=both", "planner.predictor=oracle", "workload.concurrency=4"],
        "planner.predictor is \"oracle\", but with workload.concurrency",
    ),
    (
        &["planner.policy=both", "planner.predictor=oracle", "workload.preset=agents"],
        "planner.predictor is \"oracle\", but calls of sessions come when others have ended",
    ),
    (
        &["planner.policy=both", "planner.predictor=oracle", "planner.predictor_log1p=true"],
        "planner.predictor_log1p has nothing to do for the predictor \"oracle\"",
    ),
    (
        &["planner.backlog_clear=0s"],
        "planner.backlog_clear is \"0s\", but has to be a time above 0",
    ),
    (
        &["planner.policy=load", "planner.load_target=load"],
        "which needs planner.load_up and planner.load_down",
    ),
    (
        &[
            "planner.policy=load",
            "planner.load_target=load",
            "planner.load_up=0.5",
            "planner.load_down=0.5",
        ],
        "planner.load_down has to be below planner.load_up",
    ),
    (&["planner.policy=schedule"], "which needs planner.schedule"),
    (
        &["planner.schedule=[[5.0, 2], [1.0, 3]]"],
        "planner.schedule is [[5.0, 2], [1.0, 3]], but has to be pairs of a time in seconds",
    ),
    (
        &[
            "planner.policy=load",
            "lifecycle.startup=5s",
            "lifecycle.stages=[{ name = \"pull\", median = \"1s\" }]",
        ],
        "lifecycle.stages take the place of lifecycle.startup and startup_sigma",
    ),
    (
        &["planner.policy=load", "pools.a.workers=2"],
        "planner.policy is for a fleet of one kind of worker",
    ),
];

#[test]
fn what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (set, expected) in MISTAKES {
        let output = run(folder.path(), &args(set, "out"));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{set:?}: {stderr}");
        assert!(stderr.contains(expected), "{set:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{set:?}: {stderr}");
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}

/// A tick that would come after the end of time keeps nobody from ending: all requests have been answered.
#[test]
fn a_tick_after_the_end_of_time_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let line = |ms: u64| {
        format!(r#"{{"timestamp": {ms}, "input_length": 5, "output_length": 3, "hash_ids": [1]}}"#)
    };
    let day = 86_400_000;
    fs::write(folder.path().join("x.jsonl"), line(0) + "\n" + &line(600 * day) + "\n").unwrap();
    let args = ["run", "--trace", "x.jsonl", "--out", "none", "--set", "run.series_interval=10d"];
    for ticks in ["planner.interval=200d", "planner.interval=500d"] {
        let planner = ["--set", "planner.policy=keda", "--set", ticks];
        let output = run(folder.path(), &[&args[..], &planner].concat());
        assert_eq!(output.status.code(), Some(0), "{ticks}: {}", text(&output.stderr));
    }
}
