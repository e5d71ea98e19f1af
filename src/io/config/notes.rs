//! Keys that were set and change nothing, given the others. No error: whoever compares policies with one file wants that.

use crate::io::config::check::is_described;
use crate::io::config::keys::{lookup, schema};
use crate::io::config::scaling::parts;
use crate::io::config::sessions;
use crate::io::config::text::{
    Config, LengthDistribution, Lengths, LoadTarget, Predictor, Preset, RouterPolicy,
    ScalingPolicy, TimingModel, WhilePending,
};
use crate::io::config::{admission, cells};

/// One sentence for every key that differs from its default and has no effect.
/// `timing` is where pass times come from in the end.
pub(super) fn without_effect(config: &Config, timing: TimingModel) -> Vec<String> {
    let table = toml::Table::try_from(config);
    let table = table.expect("a configuration is made of TOML's own types");
    // Lists that are empty by default are absent from the table, so what they are in the schema does not matter.
    let default = schema();
    let is_set = |key: &&String| {
        lookup(&table, key).is_some_and(|value| Some(value) != lookup(&default, key))
    };
    let mut sentences = Vec::new();
    for (section, keys, reason) in idle(config, timing) {
        let keys: Vec<String> = keys.iter().map(|key| format!("{section}.{key}")).collect();
        let changed = keys.iter().filter(is_set);
        sentences.extend(changed.map(|key| format!("{key} has no effect {reason}")));
    }
    sentences
}

type Idle = (&'static str, &'static [&'static str], &'static str);

/// What changes nothing in this configuration, and why.
fn idle(config: &Config, timing: TimingModel) -> Vec<Idle> {
    let (router, workload) = (&config.router, &config.workload);
    let is_kv = router.policy == RouterPolicy::Kv;
    let mut list: Vec<Idle> = Vec::new();
    let mut add = |is_idle: bool, section, keys, reason| {
        if is_idle {
            list.push((section, keys, reason));
        }
    };
    add(!is_kv, "router", KV_KEYS, "unless router.policy is \"kv\"");
    add(
        is_kv && router.router_temperature > 0.0,
        "router",
        &["tie_break"],
        "with a router.router_temperature above 0",
    );
    add(
        router.router_queue_threshold.is_none() && admission::admission(config).is_none(),
        "router",
        &["router_queue_policy"],
        "without router.router_queue_threshold or [admission]",
    );
    let is = |model| timing == model;
    let constant = "unless timing.model is \"constant\"";
    add(!is(TimingModel::Constant), "timing", &["prefill", "decode"], constant);
    let polynomial = "unless timing.model is \"polynomial\"";
    add(!is(TimingModel::Polynomial), "timing", POLYNOMIAL_KEYS, polynomial);
    // A Planner may look at what is read in passes.
    let is_free = is(TimingModel::Constant) && config.planner.policy == ScalingPolicy::None;
    let reason = "while timing.model is \"constant\": a pass takes as long whatever it reads";
    add(is_free, "engine", &["decode_load"], reason);
    let has_table = is(TimingModel::Measured) || is(TimingModel::Roofline);
    let table = "unless timing.model is \"measured\" or \"roofline\"";
    add(!has_table, "timing", TABLE_KEYS, table);
    let model = "without engine.model";
    add(config.engine.model.is_none(), "engine", MODEL_KEYS, model);
    if config.engine.model.is_some() {
        let measured = "unless timing.model is \"measured\"";
        let wants_table = matches!(config.timing.model, TimingModel::Auto | TimingModel::Measured);
        add(!wants_table, "timing", &["dir"], measured);
        add(!wants_table, "engine", &["backend_version"], measured);
        let is_given = config.engine.num_gpu_blocks.is_some();
        let given = "beside engine.num_gpu_blocks";
        add(is_given, "engine", &["gpu_memory_utilization"], given);
    } else {
        add(true, "timing", &["dir"], model);
    }
    add(workload.copies == 1, "workload", &["copy_spread"], "without workload.copies above 1");
    list.extend(idle_planner(config));
    if is_described(workload.preset) && workload.trace.is_none() {
        list.extend(idle_generator(config));
    }
    list.extend(sessions::idle(config));
    list.extend(admission::idle(config));
    list.extend(cells::idle(config));
    list
}

const KV_KEYS: &[&str] = &[
    "overlap_score_credit",
    "overlap_score_credit_decay",
    "prefill_load_scale",
    "decode_active_request_weight",
    "router_temperature",
    "tie_break",
];
const MODEL_KEYS: &[&str] = &["gpu", "backend", "backend_version", "tp", "gpu_memory_utilization"];
const TABLE_KEYS: &[&str] = &[
    "pass_overhead",
    "mixed_pass",
    "scale_other",
    "scale_prefill_attention",
    "scale_decode_attention",
];
const POLYNOMIAL_KEYS: &[&str] = &["prefill_polynomial", "decode_polynomial", "decode_min"];

fn idle_planner(config: &Config) -> Vec<Idle> {
    let planner = &config.planner;
    let mut list: Vec<Idle> = Vec::new();
    let mut add = |is_idle: bool, section, keys, reason| {
        if is_idle {
            list.push((section, keys, reason));
        }
    };
    let is = |policy| planner.policy == policy;
    if is(ScalingPolicy::None) {
        for keys in [LIMIT_KEYS, THROUGHPUT_KEYS, LOAD_KEYS, HPA_KEYS, OTHER_POLICY_KEYS] {
            add(true, "planner", keys, "without planner.policy");
        }
        add(true, "lifecycle", LIFECYCLE_KEYS, "without planner.policy");
        return list;
    }
    let (has_throughput, has_load) = parts(planner.policy);
    let reason = "unless planner.policy is \"throughput\" or \"both\"";
    add(!has_throughput, "planner", THROUGHPUT_KEYS, reason);
    add(!has_load, "planner", LOAD_KEYS, "unless planner.policy is \"load\" or \"both\"");
    add(!is(ScalingPolicy::Hpa), "planner", HPA_KEYS, "unless planner.policy is \"hpa\"");
    add(!is(ScalingPolicy::Keda), "planner", &["keda_queue"], "unless planner.policy is \"keda\"");
    let is_calm = is(ScalingPolicy::Hpa) || is(ScalingPolicy::Keda);
    add(!is_calm, "planner", &["down_window"], "unless planner.policy is \"hpa\" or \"keda\"");
    let reason = "unless planner.policy is \"fixed\"";
    add(!is(ScalingPolicy::Fixed), "planner", &["fixed_workers"], reason);
    let reason = "unless planner.policy is \"schedule\"";
    add(!is(ScalingPolicy::Schedule), "planner", &["schedule", "schedule_period"], reason);
    let reason = "beside throughput_interval and load_interval";
    add(has_throughput || has_load, "planner", &["interval"], reason);
    let is_level = matches!(planner.predictor, Predictor::Last | Predictor::Average);
    let reason =
        "for the predictors \"last\" and \"average\", which say the same of all intervals to come";
    add(has_throughput && is_level, "planner", &["predictor_steps"], reason);
    let is_sla = has_load && planner.load_target == LoadTarget::Sla;
    add(!has_throughput && !is_sla, "planner", &["ttft", "itl"], "without a policy with targets");
    let has_window = matches!(planner.predictor, Predictor::Average | Predictor::Trend);
    let reason = "unless planner.predictor is \"average\" or \"trend\"";
    add(has_throughput && !has_window, "planner", &["predictor_window"], reason);
    let has_season = planner.predictor == Predictor::HoltWinters;
    let reason = "unless planner.predictor is \"holt-winters\"";
    add(has_throughput && !has_season, "planner", &["predictor_period"], reason);
    let reason = "unless planner.load_target is \"sla\"";
    add(has_load && !is_sla, "planner", &["sensitivity", "load_basis"], reason);
    let is_load = planner.load_target == LoadTarget::Load;
    let reason = "unless planner.load_target is \"load\"";
    add(has_load && !is_load, "planner", &["load_up", "load_down"], reason);
    let observes = planner.while_pending == WhilePending::Observe;
    let reason = "unless planner.while_pending is \"observe\"";
    add(has_load && !observes, "planner", &["pending_limit"], reason);
    list
}

const LIMIT_KEYS: &[&str] =
    &["workers_min", "workers_max", "gpus_min", "gpus_max", "advisory", "ttft", "itl", "interval"];
const THROUGHPUT_KEYS: &[&str] = &[
    "throughput_interval",
    "predictor",
    "predictor_window",
    "predictor_period",
    "predictor_log1p",
    "predictor_steps",
    "change_max",
    "backlog_clear",
    "capacity_correction",
    "throughput_down_window",
];
const LOAD_KEYS: &[&str] = &[
    "load_interval",
    "metric_window",
    "load_target",
    "load_up",
    "load_down",
    "load_basis",
    "sensitivity",
    "step_up",
    "step_down",
    "while_pending",
    "pending_limit",
];
const HPA_KEYS: &[&str] = &["hpa_metric", "hpa_target"];
const OTHER_POLICY_KEYS: &[&str] =
    &["keda_queue", "down_window", "fixed_workers", "schedule", "schedule_period"];
const LIFECYCLE_KEYS: &[&str] =
    &["startup", "startup_sigma", "warm", "starting_max", "victims", "cold_start", "stages"];

fn idle_generator(config: &Config) -> Vec<Idle> {
    let generate = &config.workload.generate;
    let mut list: Vec<Idle> = Vec::new();
    let section = "workload.generate";
    if generate.prefix_groups == 0 {
        let keys = &["prefix_tokens", "prefix_share", "prefix_skew"];
        list.push((section, keys, "without workload.generate.prefix_groups"));
    } else if generate.prefix_share <= 0.0 {
        let keys = &["prefix_groups", "prefix_tokens", "prefix_skew"];
        list.push((section, keys, "while workload.generate.prefix_share is 0"));
    } else if generate.prefix_tokens < config.workload.trace_block_size {
        let reason =
            "while prefix_tokens is below workload.trace_block_size: whole blocks are shared";
        list.push((section, &["prefix_groups"], reason));
    }
    if generate.turns <= 1.0 && config.workload.preset == Preset::Custom {
        list.push((section, &["turn_gap"], "without workload.generate.turns above 1"));
    }
    if !generate.steps.is_empty() {
        list.push((section, &["rate"], "beside workload.generate.steps"));
    }
    if generate.diurnal_amplitude <= 0.0 {
        let reason = "without workload.generate.diurnal_amplitude";
        list.push((section, &["diurnal_period"], reason));
    }
    list.push(idle_lengths("workload.generate.prompt_tokens", &generate.prompt_tokens));
    list.push(idle_lengths("workload.generate.output_tokens", &generate.output_tokens));
    list
}

fn idle_lengths(section: &'static str, lengths: &Lengths) -> Idle {
    match lengths.distribution {
        LengthDistribution::Fixed => (section, &["sigma", "quantiles"], "for fixed lengths"),
        LengthDistribution::Lognormal => (section, &["quantiles"], "for log-normal lengths"),
        LengthDistribution::Empirical => (section, &["mean", "sigma"], "for empirical lengths"),
    }
}
