//! Models and GPUs by name: KV memory, pass times, pools, and what is said when something does not fit.

use std::collections::BTreeMap;
use std::fs;

use fleetsim::fleet::{self, FleetSpec};
use fleetsim::io::config::{Job, Loaded};
use fleetsim::io::timing::Library;
use fleetsim::kernel::Time;
use fleetsim::model::metrics::Status;
use fleetsim::model::request::{Prompt, Request};
use fleetsim::model::timing::{DecodeLoad, PrefillLoad, PrefillRow};
use serde_json::Value;

use crate::cli::{cells, run, text};
use crate::support::{Rows, shipped};

pub(crate) fn resolve(set: &[&str]) -> Result<Job, String> {
    let owned = |text: &&str| (format!("--set {text}"), (*text).to_owned());
    let overrides: Vec<_> = set.iter().map(owned).collect();
    let loaded = Loaded::load(None, &overrides).and_then(|loaded| loaded.resolve());
    loaded.map_err(|error| error.to_string())
}

fn fleet(set: &[&str]) -> FleetSpec {
    resolve(set).unwrap_or_else(|error| panic!("{error}")).fleet
}

const H200: [&str; 3] = ["engine.model=qwen3-32b", "engine.gpu=h200_sxm", "engine.tp=2"];

/// The KV capacity of every shape for which the package that the tables come from states one: with fraction 0.9 and 8,192
/// tokens in a pass, as in the defaults. Blocks of one token make blocks tokens.
#[test]
fn kv_capacities_are_those_of_the_package() {
    let (mut worst, mut count) = (0.0_f64, 0);
    for line in include_str!("support/kv_capacity.csv").lines().skip(1) {
        let [gpu, model, backend, tp, expected] =
            line.split(',').collect::<Vec<_>>().try_into().unwrap();
        let set = [
            format!("engine.model={model}"),
            format!("engine.gpu={gpu}"),
            format!("engine.backend={backend}"),
            format!("engine.tp={tp}"),
            "engine.block_size=1".to_owned(),
            "timing.model=constant".to_owned(),
        ];
        let job = resolve(&set.each_ref().map(String::as_str));
        let expected: f64 = expected.parse().unwrap();
        count += 1;
        if expected < 1.0 {
            let error = job.err().unwrap_or_else(|| panic!("{line} fits"));
            assert!(error.contains("does not fit") && error.contains("GiB are missing"), "{error}");
            continue;
        }
        let blocks = job.unwrap_or_else(|error| panic!("{line}: {error}")).fleet.pools[0]
            .engine
            .num_gpu_blocks;
        let error = (f64::from(blocks) / expected - 1.0).abs();
        assert!(error < 0.002, "{line}: {blocks}");
        worst = worst.max(error);
    }
    println!("{count} shapes, worst error {:.3} %", worst * 100.0);
    assert!(count > 140, "{count}");
}

/// What a shape leads to: blocks, GPUs, price.
#[test]
fn a_shape_says_what_a_worker_is() {
    let spec = fleet(&H200);
    let pool = &spec.pools[0];
    assert_eq!(pool.engine.num_gpu_blocks, 751_550 / 64);
    assert_eq!((pool.gpus_per_worker, spec.gpus(), pool.gpu_hour_usd), (2, 16, Some(6.31)));
    assert_eq!(pool.deployment.as_deref(), Some("qwen3-32b on 2 x h200_sxm"));
    let given = fleet(&[&H200[..], &["engine.num_gpu_blocks=100"]].concat());
    assert_eq!(given.pools[0].engine.num_gpu_blocks, 100);
    assert_eq!(fleet(&[]).pools[0].engine.num_gpu_blocks, 16_384);
    let less = fleet(&[&H200[..], &["engine.gpu_memory_utilization=0.5"]].concat());
    assert!(less.pools[0].engine.num_gpu_blocks < pool.engine.num_gpu_blocks / 2);
}

/// Stages and ranks: more GPUs, more room, and limits per rank and micro-batch.
#[test]
fn stages_and_ranks_are_part_of_a_shape() {
    let one = fleet(&H200).pools.remove(0);
    let staged = fleet(&[&H200[..], &["engine.pp=2"]].concat()).pools.remove(0);
    assert_eq!(staged.deployment.as_deref(), Some("qwen3-32b on 4 x h200_sxm (TP 2, PP 2)"));
    assert_eq!(staged.gpus_per_worker, 4);
    assert!(staged.engine.num_gpu_blocks > 2 * one.engine.num_gpu_blocks);
    assert_eq!(staged.engine.max_num_batched_tokens, 2 * 8192);
    assert_eq!(staged.engine.max_whole_tokens, 8192, "what is not cut has to fit a micro-batch");
    assert_eq!(staged.engine.max_num_seqs, one.engine.max_num_seqs);

    let shape = ["engine.model=deepseek-v3", "engine.gpu=h200_sxm", "engine.tp=8"];
    let one = fleet(&shape).pools.remove(0);
    let ranked = fleet(&[&shape[..], &["engine.attention_dp=2"]].concat()).pools.remove(0);
    let name = "deepseek-v3 on 16 x h200_sxm (TP 8, attention-DP 2)";
    assert_eq!(ranked.deployment.as_deref(), Some(name));
    assert_eq!(ranked.gpus_per_worker, 16);
    assert!(ranked.engine.num_gpu_blocks > 2 * one.engine.num_gpu_blocks);
    assert_eq!(ranked.engine.max_num_seqs, 2 * one.engine.max_num_seqs);
    assert_eq!(ranked.engine.max_num_batched_tokens, 2 * 8192);
}

/// A prompt that may not be cut has to fit into a micro-batch, however many of them a pass has.
#[test]
fn stages_do_not_cut_what_may_not_be_cut() {
    let one_piece = "engine.enable_chunked_prefill=false";
    let rejected = |more: &[&str]| {
        let job = resolve(&[&H200[..], &["engine.pp=2"], more].concat()).unwrap();
        let long = Request::new(0, Time::ZERO, Prompt::unique(16_000), 1);
        let rows = Rows::default();
        fleet::run(&job.fleet, Box::new([long].into_iter()), &job.router, &rows).unwrap();
        rows.sorted()[0].status == Status::Rejected
    };
    assert!(!rejected(&[]));
    assert!(rejected(&[one_piece]));
    assert!(!rejected(&[one_piece, "engine.max_num_batched_tokens=16000"]));
}

/// What a shape is worth: four GPUs as one group, as stages, and as two workers. Stages of a full batch need no all-reduce of
/// four, but a request takes as long as on two GPUs.
#[test]
fn stages_trade_latency_for_throughput() {
    let decode = |requests| DecodeLoad { requests, kv_tokens: u64::from(requests) * 2000 };
    let pass = |shape: &[&str], requests| {
        let spec = fleet(&[&["engine.model=qwen3-32b", "engine.gpu=h200_sxm"], shape].concat());
        let timer = spec.pools[0].engine.pass_timer();
        timer.pass(PrefillLoad::default(), decode(requests)).as_ms()
    };
    for requests in [1, 2, 64] {
        let staged = pass(&["engine.tp=2", "engine.pp=2"], requests);
        let half = pass(&["engine.tp=2"], requests.div_ceil(2));
        assert!((half..half * 1.01).contains(&staged), "{requests}: {staged} {half}");
        assert!(staged > pass(&["engine.tp=4"], requests), "{requests}");
    }
}

pub(crate) const POOLS: &str = "[workload]\nrequests = 300\n[engine]\nmodel = \"qwen3-32b\"\n\
    [pools.b]\nworkers = 2\nengine.gpu = \"h200_sxm\"\nengine.tp = 2\n\
    [pools.a]\nworkers = 1\n[pools.a.engine]\ngpu = \"h100_sxm\"\ntp = 4\n";

/// Pools are numbered by name, reported one by one, and add up to the whole.
#[test]
fn a_mixed_fleet_is_reported_pool_by_pool() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.toml"), POOLS).unwrap();
    let output = run(folder.path(), &["run", "-c", "x.toml", "--out", "o", "--router", "kv"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for expected in ["3 workers (8 GPUs)", "a (qwen3-32b on 4 x", "2 (b)", "USD"] {
        assert!(table.contains(expected), "{expected} is missing in\n{table}");
    }
    let report = fs::read_to_string(folder.path().join("o/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let pools = report["pools"].as_array().unwrap();
    let figure = |pool: &Value, key: &str| pool[key].as_f64().unwrap_or_else(|| panic!("{key}"));
    let sum = |key: &str| pools.iter().map(|pool| figure(pool, key)).sum::<f64>();
    assert_eq!((pools[0]["name"].as_str(), pools[1]["name"].as_str()), (Some("a"), Some("b")));
    assert_eq!((figure(&pools[0], "gpus"), figure(&pools[1], "gpus")), (4.0, 4.0));
    assert_eq!((report["gpus"].as_u64(), sum("requests")), (Some(8), 300.0));
    for key in ["gpu_hours", "cost_usd", "total_output_tokens"] {
        let whole = figure(&report, key);
        assert!((sum(key) / whole - 1.0).abs() < 1e-9, "{key}: {} and {whole}", sum(key));
    }
    assert!(figure(&pools[0], "num_gpu_blocks") > figure(&pools[1], "num_gpu_blocks"));

    let again = run(folder.path(), &["run", "-c", "o/config.toml", "--out", "again", "--quiet"]);
    assert_eq!(text(&again.stderr), "");
    let repeated = fs::read_to_string(folder.path().join("again/report.json")).unwrap();
    let repeated: Value = serde_json::from_str(&repeated).unwrap();
    assert_eq!(report["digest"], repeated["digest"]);
}

/// A sweep reaches into pools.
#[test]
fn pools_can_be_swept() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.toml"), POOLS).unwrap();
    let args = ["sweep", "-c", "x.toml", "--vary", "pools.b.workers=1,3", "--vary"];
    let args = [&args[..], &["pools.b.engine.tp=1,2", "--out", "o", "--quiet"]].concat();
    let output = run(folder.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines = cells(&folder.path().join("o/sweep.csv"));
    assert_eq!(lines[0][..2], ["pools.b.workers", "pools.b.engine.tp"]);
    let hours = lines[0].iter().position(|name| name == "gpu_hours").unwrap();
    let digests: Vec<&String> = lines[1..].iter().map(|line| line.last().unwrap()).collect();
    assert_eq!(digests.len(), 4);
    assert!((1..4).all(|run| digests[run] != digests[0] && !lines[run][hours].is_empty()));
}

/// A fleet that names no model reports no price, and is what it was before there were any.
#[test]
fn without_a_model_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["run", "--requests", "200", "--json", "--out", "none"];
    let report: Value = serde_json::from_slice(&run(folder.path(), &args).stdout).unwrap();
    for key in ["cost_usd", "deployment", "pools", "timing_tables"] {
        assert!(report.get(key).is_none(), "{key}");
    }
    assert_eq!(report["timing_source"], "polynomial");
    assert_eq!(report["num_gpu_blocks"], 16_384);
}

#[test]
fn the_catalog_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["catalog"]);
    let table = text(&output.stdout);
    for expected in ["h200_sxm", "qwen3-32b", "MLA 576", "141", "6.31 (2026-02)", "NVIDIA H200"] {
        assert!(table.contains(expected), "{expected} is missing in\n{table}");
    }
    let args = ["catalog", "--json", "--set", "gpus.h200_sxm.usd_per_hour=2.5"];
    let catalog: Value = serde_json::from_slice(&run(folder.path(), &args).stdout).unwrap();
    assert_eq!(catalog["gpus"]["h200_sxm"]["usd_per_hour"], 2.5);
    assert_eq!(catalog["models"]["deepseek-v3"]["mla_width"], 576);
}

/// A model that nobody has measured, on a GPU that nobody has measured it on.
#[test]
fn what_is_not_measured_is_estimated_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let set = [
        "engine.model=mine",
        "engine.gpu=a100_sxm",
        "engine.tp=2",
        "models.mine.layers=40",
        "models.mine.hidden_size=5120",
        "models.mine.heads=40",
        "models.mine.kv_heads=8",
        "models.mine.head_dim=128",
        "models.mine.parameters=14_800_000_000",
        "models.mine.weight_format=bf16",
        "models.mine.kv_format=bf16",
        "models.mine.weight_bytes=29_600_000_000",
    ];
    let set = set.iter().flat_map(|set| ["--set", set]);
    let args: Vec<&str> =
        ["run", "--requests", "100", "--json", "--out", "none"].into_iter().chain(set).collect();
    let output = run(folder.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["timing_source"], "estimate");
    let said = |key: &str, part: &str| report[key].to_string().contains(part);
    assert!(said("approximations", "estimate from data sheets"), "{report}");
    assert!(said("notes", "pass times are estimated"), "{report}");
    assert!(said("timing_tables", "a100_sxm/mine/roofline"), "{report}");
}

/// Names lead to the table, and the resolved configuration names its version.
#[test]
fn a_measured_shape_takes_its_times_from_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let set = H200.iter().flat_map(|set| ["--set", set]);
    let args = ["run", "--requests", "300", "--workers", "2", "--out", "o", "--quiet"];
    let args: Vec<&str> = args.into_iter().chain(set).collect();
    let output = run(folder.path(), &args);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let report: Value = serde_json::from_str(&read("o/report.json")).unwrap();
    assert_eq!(report["timing_source"], "measured");
    let tables = report["timing_tables"].to_string();
    assert!(tables.contains("h200_sxm/qwen3-32b/vllm-") && tables.contains("-tp2"), "{tables}");
    assert!(report["cost_usd"].as_f64().unwrap() > 0.0);
    assert_eq!(report["extrapolated_passes"], 0);
    let config = read("o/config.toml");
    assert!(config.contains("model = \"measured\"") && config.contains("backend_version = "));
    let args = ["run", "-c", "o/config.toml", "--out", "again", "--quiet"];
    assert_eq!(text(&run(folder.path(), &args).stderr), "");
    let again: Value = serde_json::from_str(&read("again/report.json")).unwrap();
    assert_eq!(report["digest"], again["digest"]);
}

/// More requests in a batch than anybody has measured: counted, and said.
#[test]
fn leaving_the_measured_range_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["engine.max_num_seqs=4096", "workload.preset=custom", "fleet.workers=1"];
    let set = [&H200[..], &set, &["workload.generate.prompt_tokens.mean=20.0"]].concat();
    let set =
        [&set[..], &["workload.generate.rate=2000.0", "workload.generate.duration=5s"]].concat();
    let out = |name: &str, set: &[&str]| {
        let set = set.iter().flat_map(|set| ["--set", set]);
        let args: Vec<&str> = ["run", "--out", name].into_iter().chain(set).collect();
        let output = run(folder.path(), &args);
        let table = text(&output.stdout);
        assert!(
            table.contains("left the range of the timing table"),
            "{table}{}",
            text(&output.stderr)
        );
        let report = fs::read_to_string(folder.path().join(name).join("report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert!(report["extrapolated_passes"].as_u64() > Some(0));
        (table, report["extrapolated_ratio"].as_f64())
    };
    let (table, ratio) = out("o", &set);
    assert!(table.contains("% of the time in passes, left the range"), "{table}");
    assert!(ratio.is_some_and(|ratio| ratio > 0.0 && ratio <= 1.0));
    // Passes of no time have no share of it.
    let scales = ["other", "prefill_attention", "decode_attention"];
    let scales = scales.map(|scale| format!("timing.scale_{scale}=0.000001"));
    let scales: Vec<&str> = scales.iter().map(String::as_str).collect();
    let fast = ["engine.speedup_ratio=1000000", "engine.max_num_batched_tokens=200000"];
    let prompts = ["workload.generate.prompt_tokens.mean=100000.0"];
    let (table, ratio) = out("fast", &[&set[..], &scales, &fast, &prompts].concat());
    assert!(table.contains(" forward passes left the range"), "{table}");
    assert_eq!(ratio, None);
}

/// Where there is no table, and when that is an error.
#[test]
fn a_shape_without_a_table_is_estimated_unless_a_table_was_asked_for() {
    let tp16 = ["engine.model=qwen3-32b", "engine.gpu=h200_sxm", "engine.tp=16"];
    let job = resolve(&tp16).unwrap();
    let note = "qwen3-32b on 16 x h200_sxm: no timing table for TP 16; there are 1, 2, 4, 8; pass \
                times are estimated from data sheets";
    assert_eq!(job.notes, [note]);
    let error = resolve(&[&tp16[..], &["timing.model=measured"]].concat()).unwrap_err();
    let expected = "engine.tp is 16, but no timing table for TP 16; there are 1, 2, 4, 8; \
                    timing.model = \"roofline\" would estimate";
    assert!(error.contains(expected), "{error}");
    let version = [&H200[..], &["engine.backend_version=0.24.1"]].concat();
    let error = resolve(&version).unwrap_err();
    assert!(error.contains("engine.backend_version is 0.24.1, but no timing table"), "{error}");
    assert!(error.contains("there are 0.12.0, 0.24.0; timing.model"), "{error}");
    let error = resolve(&[&H200[..], &["timing.dir=nowhere"]].concat()).unwrap_err();
    assert!(error.contains("timing.dir is \"nowhere\": nowhere: cannot be read"), "{error}");
    let sglang = resolve(&[&H200[..], &["engine.backend=sglang"]].concat()).unwrap();
    assert!(sglang.notes.iter().any(|note| note.contains("the scheduler is vLLM's")));
}

/// Figures relate to the tables of all shapes as docs/catalog.md says.
#[test]
fn estimates_are_as_close_to_measurements_as_documented() {
    let library = Library::open(None).unwrap();
    let mut medians = [Vec::new(), Vec::new()];
    for entry in library.list() {
        let name = &entry.name;
        let set = [
            format!("engine.model={}", name.model),
            format!("engine.gpu={}", name.gpu),
            format!("engine.tp={}", name.tp),
            "engine.num_gpu_blocks=1000".to_owned(),
            "timing.model=roofline".to_owned(),
        ];
        let spec = fleet(&set.each_ref().map(String::as_str));
        let timer = spec.pools[0].engine.pass_timer();
        let table = library.load(entry).unwrap();
        let error =
            |prefill, decode, ms: f64| (timer.pass(prefill, decode).as_ms() / ms - 1.0).abs();
        let idle = (PrefillLoad::default(), DecodeLoad::default());
        let mut prefill: Vec<f64> = table
            .prefill
            .iter()
            .map(|total| {
                let PrefillRow { batch, new_tokens, prefix_tokens, .. } = total.row;
                let tokens = |each: u32| u64::from(batch) * u64::from(each);
                let load = PrefillLoad {
                    requests: batch,
                    tokens: tokens(new_tokens + prefix_tokens),
                    prefix_tokens: tokens(prefix_tokens),
                };
                error(load, idle.1, total.total_ms)
            })
            .collect();
        let mut decode: Vec<f64> = table
            .decode
            .iter()
            .map(|total| {
                let kv_tokens = u64::from(total.row.batch) * u64::from(total.row.context_tokens);
                let load = DecodeLoad { requests: total.row.batch, kv_tokens };
                error(idle.0, load, total.total_ms)
            })
            .collect();
        for (medians, errors) in medians.iter_mut().zip([&mut prefill, &mut decode]) {
            errors.sort_by(f64::total_cmp);
            medians.extend(errors.get(errors.len() / 2).map(|median| (*median, name.to_string())));
        }
    }
    for (kind, mut medians) in ["prefill", "decode"].into_iter().zip(medians) {
        medians.sort_by(|a, b| a.0.total_cmp(&b.0));
        let at = |share: f64| &medians[((medians.len() - 1) as f64 * share) as usize];
        println!(
            "{kind}: {} tables; median error of a table: {:.3} (p50), {:.3} (p90), {:.3} (worst, {})",
            medians.len(),
            at(0.5).0,
            at(0.9).0,
            at(1.0).0,
            at(1.0).1,
        );
        assert!(at(0.5).0 < 0.15 && at(0.9).0 < 0.3 && at(1.0).0 < 0.7, "{kind}");
    }
}

/// Examples say what their comments promise.
#[test]
fn the_examples_are_what_they_say() {
    let config = shipped("examples/mixed-fleet.toml");
    let job = Loaded::load(Some(&config), &[]).unwrap().resolve().unwrap();
    let gpus: BTreeMap<&str, u64> =
        job.fleet.pools.iter().map(|pool| (pool.name.as_deref().unwrap(), pool.gpus())).collect();
    assert_eq!(gpus, [("h100", 16), ("h200", 8)].into());
}
