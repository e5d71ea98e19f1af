//! The experiments of `docs/experiments/`: their configurations run, and small versions show what the pages claim.

use serde_json::Value;

use crate::cli::{run, text};
use crate::support::{self, shipped};

/// The reports of a sweep, in order.
fn sweep(config: &str, args: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = shipped(&format!("experiments/{config}.toml"));
    let all = ["sweep", "-c", path.to_str().unwrap(), "--json", "--out", "none"];
    let output = run(folder.path(), &[&all, args].concat());
    assert_eq!(output.status.code(), Some(0), "{config} {args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("{key} is {}", report[key]))
}

/// The whole sweep of every experiment with measured times, on a few requests.
#[test]
fn experiments_with_measured_times_run() {
    for (config, runs, requests) in [
        ("router", 16, 600),
        ("tp-shapes", 64, 60),
        ("planner-startup", 22, 200),
        ("planner-backlog", 22, 200),
        ("planner-warm-pool", 8, 200),
        ("planner-predictors", 7, 2000),
    ] {
        let reports = sweep(config, &["--requests", &requests.to_string()]);
        assert_eq!(reports.len(), runs, "{config}");
        for report in &reports {
            assert_eq!(report["timing_source"], "measured", "{config}");
            assert_eq!(report["completed_requests"], requests, "{config}");
        }
    }
}

/// The errors against the hardware that the page names.
#[test]
fn fidelity_is_what_its_page_says() {
    let reports = sweep("fidelity", &[]);
    assert_eq!(reports.len(), 5);
    // tok/s/GPU, TPOT and TTFT of the hardware at 8, 16, 32 and 64 in flight.
    let hardware = [
        [191.07, 10.12, 100.7],
        [314.84, 12.31, 117.0],
        [474.64, 16.32, 146.1],
        [747.10, 20.64, 220.4],
    ];
    let keys = ["output_throughput_tok_s_per_gpu", "mean_tpot_ms", "mean_ttft_ms"];
    for (column, (key, percent)) in keys.iter().zip([4.7, 7.7, 6.8]).enumerate() {
        let errors = reports[1..]
            .iter()
            .zip(hardware)
            .map(|(report, measured)| (number(report, key) / measured[column] - 1.0).abs());
        let mean = errors.sum::<f64>() / 4.0 * 100.0;
        assert!((mean - percent).abs() <= 0.05, "{key} is off by {mean} %");
    }
}

/// Fixed lengths in a closed loop without prefixes or latencies, and passes that all prompts fit into: a round takes what
/// the table says, by hand.
#[test]
fn a_closed_loop_of_fixed_lengths_takes_what_the_table_says() {
    let set = |key_value| ["--set", key_value];
    let args = [
        ["--vary", "workload.concurrency=4,8"],
        ["--vary", "workload.requests=640,640"],
        set("engine.max_num_batched_tokens=8192"),
        set("control_plane.dispatch_latency=0s"),
        set("control_plane.feedback_latency=0s"),
    ];
    let reports = sweep("fidelity", args.as_flattened());
    // Prefill passes of 4 and 8 requests of 1,024 tokens, of the table.
    for (report, prefill_ms) in reports.iter().zip([88.177, 150.7]) {
        let ttft = number(report, "mean_ttft_ms");
        assert!((ttft / prefill_ms - 1.0).abs() < 1e-3, "TTFT {ttft}");
        let per_gpu = number(report, "output_throughput_tok_s_per_gpu");
        assert!((per_gpu * 4.0 - number(report, "output_throughput_tok_s")).abs() < 1e-6);
    }
}

/// What the published Planner experiment has in common with the page's: a p90 that is flat up to 10 s and off by an order of
/// magnitude at 300 s, and events that fall with the interval; the more so since that engine preempts to admit.
#[test]
fn the_published_planner_experiment_has_its_shape() {
    let args = ["--vary", "planner.load_interval=1s,10s,300s"];
    let shape = |args: &[&str]| -> ([f64; 3], [f64; 3]) {
        let reports = sweep("planner-published", args);
        let of = |figure: &dyn Fn(&Value) -> f64| std::array::from_fn(|at| figure(&reports[at]));
        let events = |report: &Value| {
            number(report, "scale_up_events") + number(report, "scale_down_events")
        };
        (of(&|report| number(report, "p90_ttft_ms")), of(&events))
    };
    let (p90, events) = shape(&args);
    assert!(p90[1] < 1.1 * p90[0] && p90[2] > 50.0 * p90[0], "{p90:?}");
    assert!(events[0] > 4.0 * events[1] && events[0] > 150.0 * events[2], "{events:?}");
    let (later, _) = shape(&[&args[..], &["--set", "engine.admission_room=prompt"]].concat());
    assert!(later[2] < p90[2] / 2.0, "{later:?}");
}

/// Sixteen GPUs in every run, and keys that go through their values together.
#[test]
fn shapes_have_as_many_gpus() {
    let reports = sweep("tp-shapes", &["--requests", "20", "--vary", "workload.speedup=1"]);
    let shapes: Vec<(&str, &str)> = reports[..4]
        .iter()
        .map(|report| {
            (report["engine.tp"].as_str().unwrap(), report["fleet.workers"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        (reports.len(), &shapes[..]),
        (8, &[("1", "16"), ("2", "8"), ("4", "4"), ("8", "2")][..])
    );
    for report in &reports {
        assert_eq!(report["gpus"], 16);
        let (usd, tokens) = (number(report, "cost_usd"), number(report, "total_output_tokens"));
        let per_million = number(report, "usd_per_million_output_tokens");
        assert!((per_million - usd * 1e6 / tokens).abs() < 1e-9 * per_million);
    }
}

/// Keys that vary together have to vary, and as often as one another.
#[test]
fn keys_that_vary_together_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[sweep]\nfleet.workers = [3, 4]\ntogether = [\"fleet.workers\", \"engine.tp\"]\n";
    std::fs::write(folder.path().join("s.toml"), config).unwrap();
    let cases: [(&[&str], &str); 2] = [
        (&[], "s.toml:3:30: sweep.together names engine.tp, which does not vary"),
        (
            &["--vary", "engine.tp=1,2,4"],
            "sweep.together names fleet.workers with 2 values and engine.tp with 3: they need as many",
        ),
    ];
    for (args, expected) in cases {
        let output = run(folder.path(), &[&["sweep", "-c", "s.toml"], args].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{stderr}");
    }
}

/// What the page says of the router: with `kv` more reuse, a shorter TTFT, more throughput and a longer TPOT, everywhere;
/// and summed passes cost throughput.
#[test]
fn kv_routing_trades_tpot_for_ttft() {
    router_orderings(&["--requests", "6000"]);
}

/// The same on the whole trace.
#[test]
fn kv_routing_trades_tpot_for_ttft_on_the_trace() {
    let Some(trace) = support::trace("toolagent_reconstructed.jsonl.gz") else { return };
    let set = format!("workload.trace={}", trace.display());
    router_orderings(&["--set", &set]);
}

fn router_orderings(args: &[&str]) {
    let reports = sweep("router", &[&["--vary", "workload.concurrency=64,512"], args].concat());
    let find = |mixed: &str, policy: &str, concurrency: &str| {
        reports
            .iter()
            .find(|report| {
                report["timing.mixed_pass"] == mixed
                    && report["router.policy"] == policy
                    && report["workload.concurrency"] == concurrency
            })
            .unwrap()
    };
    for concurrency in ["64", "512"] {
        for mixed in ["sum", "fused"] {
            let round_robin = find(mixed, "round-robin", concurrency);
            let kv = find(mixed, "kv", concurrency);
            let ratio = |key| number(kv, key) / number(round_robin, key);
            let what = format!("{mixed} at {concurrency}");
            assert!(ratio("prefix_cache_reused_ratio") > 1.1, "{what}");
            assert!(ratio("mean_ttft_ms") < 0.7, "{what}");
            assert!(ratio("output_throughput_tok_s") > 1.03, "{what}");
            assert!(ratio("mean_tpot_ms") > 1.03, "{what}");
        }
        for policy in ["round-robin", "kv"] {
            let rate = |mixed| number(find(mixed, policy, concurrency), "output_throughput_tok_s");
            assert!(rate("sum") < 0.97 * rate("fused"), "{policy} at {concurrency}");
        }
    }
}

/// Cells that keep sessions together reuse as much as one fleet, others less; a common prefix drowns a cell.
#[test]
fn cells_need_a_balancer_that_keeps_sessions_together() {
    let sizes = ["--requests", "80000", "--vary", "fleet.cells=1,16"];
    let reports = sweep("cells", &sizes);
    let reuse = |index: usize| number(&reports[index], "prefix_cache_reused_ratio");
    let ttft = |index: usize| number(&reports[index], "mean_ttft_ms");
    // Round robin, by session, by prefix, each with one cell and with 16.
    assert_eq!(reports.len(), 6);
    assert!((reuse(0) - reuse(2)).abs() < 1e-12 && (reuse(0) - reuse(4)).abs() < 1e-12);
    assert!(reuse(1) < 0.6 * reuse(0), "{} of {}", reuse(1), reuse(0));
    assert!(reuse(3) > 0.9 * reuse(0), "{} of {}", reuse(3), reuse(0));
    assert!(ttft(3) < 1.03 * ttft(0) && ttft(1) > 1.1 * ttft(0), "{} {}", ttft(3), ttft(1));
    assert!(number(&reports[5], "cell_imbalance") > 2.0 && ttft(5) > 1.5 * ttft(0), "{}", ttft(5));
}
