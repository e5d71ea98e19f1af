//! `report.json`: one flat object. Where the reference peer reports the same figure, the key is the peer's.

use serde_json::{Map, Value, json};

use crate::fleet::Outcome;
use crate::report::pools::PoolFigures;
use crate::report::sessions;
use crate::report::summary::{Metric, PERCENTILES, Summary, per_second};
use crate::report::{admission, cells, classes, decisions};

/// The report as JSON, keys in alphabetical order.
pub fn to_json(summary: &Summary, outcome: &Outcome) -> Value {
    let mut report = Map::new();
    counts(&mut report, outcome);
    rates(&mut report, summary, outcome);
    about(&mut report, summary, outcome);
    report.extend(outcome.visited.iter().flat_map(sessions::to_json));
    report.extend(outcome.admitted.iter().flat_map(admission::to_json));
    report.extend(decisions::to_json(outcome).map(|list| ("decisions".to_owned(), list)));
    let classes = classes::to_json(&summary.context.fleet, outcome);
    report.extend(classes.map(|classes| ("classes".to_owned(), classes)));
    for metric in &summary.metrics {
        put_metric(&mut report, metric);
    }
    known(Value::Object(report))
}

/// An object without the keys that have no value.
pub(super) fn known(mut object: Value) -> Value {
    if let Value::Object(object) = &mut object {
        object.retain(|_, value| !value.is_null());
    }
    object
}

/// The keys of a metric.
pub(super) fn put_metric(report: &mut Map<String, Value>, metric: &Metric) {
    report.insert(format!("num_{}_samples", metric.key), metric.samples.into());
    let Some(figures) = metric.figures else { return };
    let mut put = |statistic: &str, value: f64| {
        report.insert(format!("{statistic}_{}{}", metric.key, metric.suffix), value.into());
    };
    put("mean", figures.mean);
    put("min", figures.min);
    put("max", figures.max);
    put("std", figures.std);
    for ((name, _), value) in PERCENTILES.iter().zip(figures.percentiles) {
        put(name, value);
    }
}

fn put(report: &mut Map<String, Value>, figures: impl IntoIterator<Item = (&'static str, Value)>) {
    report.extend(figures.into_iter().map(|(key, value)| (key.to_owned(), value)));
}

fn counts(report: &mut Map<String, Value>, outcome: &Outcome) {
    let (totals, work) = (outcome.recorder.totals, outcome.work());
    put(
        report,
        [
            ("num_requests", json!(totals.arrived)),
            ("completed_requests", json!(totals.completed)),
            ("rejected_requests", json!(totals.rejected)),
            ("aborted_requests", json!(totals.aborted)),
            ("skipped_lines", json!(outcome.skipped)),
            ("preemptions", json!(work.preemptions)),
            ("forward_passes", json!(work.passes)),
            ("total_input_tokens", json!(totals.prompt_tokens)),
            ("total_output_tokens", json!(totals.output_tokens)),
            ("processed_tokens", json!(totals.prompt_tokens + totals.output_tokens)),
            ("committed_prefill_tokens", json!(work.prefill_tokens)),
            ("events", json!(outcome.events)),
        ],
    );
}

fn rates(report: &mut Map<String, Value>, summary: &Summary, outcome: &Outcome) {
    let totals = outcome.recorder.totals;
    let wall_s = summary.context.wall.as_secs_f64();
    let per_wall = |count: u64| per_second(count, wall_s);
    let fleet = &summary.context.fleet;
    // One figure, if all pools have the same.
    let mut sizes = fleet.pools.iter().map(|pool| pool.gpus_per_worker);
    let gpus_per_worker = sizes.next().filter(|size| sizes.all(|other| other == *size));
    let total = summary.input_throughput_tok_s.zip(summary.output_throughput_tok_s);
    put(
        report,
        [
            ("duration_ms", json!(summary.duration.as_ms())),
            ("wall_time_ms", json!(wall_s * 1e3)),
            ("request_throughput_rps", json!(summary.request_throughput_rps)),
            ("input_throughput_tok_s", json!(summary.input_throughput_tok_s)),
            ("output_throughput_tok_s", json!(summary.output_throughput_tok_s)),
            ("output_throughput_tok_s_per_gpu", json!(summary.output_per_gpu())),
            ("total_throughput_tok_s", json!(total.map(|(input, output)| input + output))),
            (
                "processed_tokens_per_s",
                json!(per_wall(totals.prompt_tokens + totals.output_tokens)),
            ),
            ("processed_output_tokens_per_s", json!(per_wall(totals.output_tokens))),
            ("events_per_s", json!(per_wall(outcome.events))),
            ("prefix_cache_reused_ratio", json!(summary.reused_ratio)),
            ("first_admission_prefix_cache_reused_ratio", json!(summary.first_reused_ratio)),
            ("kv_eviction_policy", json!("lru")),
            ("decode_gpus_per_worker", json!(gpus_per_worker)),
            (
                "decode_worker_seconds",
                json!(summary.scaling.map_or_else(
                    || f64::from(fleet.workers()) * summary.duration.as_secs(),
                    |scaling| scaling.worker_seconds(),
                )),
            ),
            ("prefill_gpus_per_worker", json!(0)),
            ("prefill_worker_seconds", json!(0.0)),
            ("gpu_hours", json!(summary.gpu_hours)),
            ("cost_usd", json!(summary.cost_usd)),
            ("usd_per_million_output_tokens", json!(summary.usd_per_million(totals.output_tokens))),
            ("max_in_flight", json!(summary.in_flight_max)),
            ("load_imbalance", json!(summary.load.map(|load| load.imbalance))),
            ("load_cv", json!(summary.load.map(|load| load.cv))),
            ("max_worker_load", json!(summary.load.map(|load| load.worker_max))),
        ],
    );
    if let Some(scaling) = summary.scaling {
        report.extend(scaling.to_json());
    }
    put(report, cells::to_json(fleet, outcome));
    if fleet.slo.is_set() {
        put(
            report,
            [
                ("goodput_completed_requests", json!(totals.good)),
                ("goodput_request_throughput_rps", json!(summary.goodput_rps)),
                ("goodput_output_throughput_tok_s", json!(summary.goodput_tok_s)),
            ],
        );
    }
}

fn about(report: &mut Map<String, Value>, summary: &Summary, outcome: &Outcome) {
    let context = &summary.context;
    let tables = Some(summary.timing_tables()).filter(|tables| !tables.is_empty());
    if !summary.pools.is_empty() {
        let pools: Vec<Value> = summary.pools.iter().map(PoolFigures::to_json).collect();
        report.insert("pools".to_owned(), Value::Array(pools));
    }
    if tables.is_some() {
        let work = outcome.work();
        put(
            report,
            [
                ("extrapolated_passes", json!(work.extrapolated_passes)),
                ("extrapolated_ratio", json!(work.extrapolated_share())),
            ],
        );
    }
    if let [pool] = &context.fleet.pools[..] {
        put(
            report,
            [
                ("deployment", json!(pool.deployment)),
                ("num_gpu_blocks", json!(pool.engine.num_gpu_blocks)),
                ("gpu_hour_usd", json!(pool.gpu_hour_usd)),
            ],
        );
    }
    put(
        report,
        [
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("digest", json!(format!("{:032x}", outcome.digest))),
            ("seed", json!(context.fleet.seed)),
            ("threads", json!(outcome.executed.threads)),
            ("threads_why", json!(outcome.executed.why)),
            ("workers", json!(context.fleet.workers())),
            ("timing_tables", json!(tables)),
            ("gpus", json!(context.fleet.gpus())),
            ("router_policy", json!(context.policy)),
            ("workload", json!(context.workload)),
            ("timing_source", json!(summary.timing_source())),
            ("approximations", json!(summary.approximations())),
            ("notes", json!([&context.foreseen[..], &context.notes[..]].concat())),
        ],
    );
}
