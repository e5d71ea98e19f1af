//! Which values a configuration may have, alone and together.

use std::fmt::{Debug, Display};

use crate::io::config::error::Problem;
use crate::io::config::text::{
    Arrivals, Config, Generate, LengthDistribution, Lengths, Preset, RouterPolicy, ThreadCount,
    Timing, TraceFormat, Workload,
};
use crate::io::config::{admission, cells, classes, scaling, sessions};
use crate::kernel::Span;

/// A value that cannot be, alone or beside the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Violation {
    /// The full path of the key.
    pub key: String,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Violation {
    pub(super) fn contradiction(key: &str, reason: String) -> Violation {
        Violation { key: key.to_owned(), problem: Problem::Contradiction(reason) }
    }
}

pub(super) const WORKERS: &str = "a whole number from 1 to 1048575";
const TOKENS: &str = "a whole number from 1 to 2^30";
pub(super) const POSITIVE: &str = "a number above 0";
const RATIO: &str = "a number from 0.000001 to 1000000";
pub(super) const NOT_NEGATIVE: &str = "a number, 0 or more";
pub(super) const SHARE: &str = "a number from 0 to 1";
pub(super) const COUNT: &str = "a whole number, 1 or more";
pub(super) const LONGER_THAN_ZERO: &str = "a time above 0";
const COEFFICIENTS: &str = "three finite numbers, highest power first, such as [0.0, 1.5, 10.0]";

/// The largest number of tokens or blocks that a count may have.
pub(super) const TOKENS_MAX: u32 = 1 << 30;

/// The most workers that a fleet may have.
pub(super) const WORKERS_MAX: u64 = (1 << 20) - 1;

/// What a value of this key has to be, in words, if it is narrower than its type.
pub(super) fn range_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "fleet.workers" => WORKERS,
        "workload.trace_block_size" | "workload.copies" | "engine.block_size" => {
            "a whole number from 1 to 65536"
        }
        "engine.num_gpu_blocks"
        | "engine.max_num_seqs"
        | "engine.max_num_batched_tokens"
        | "engine.max_model_len"
        | "workload.generate.prompt_tokens_max" => TOKENS,
        "workload.speedup"
        | "engine.speedup_ratio"
        | "engine.decode_speedup_ratio"
        | "timing.scale_other"
        | "timing.scale_prefill_attention"
        | "timing.scale_decode_attention" => RATIO,
        "engine.tp" | "engine.pp" | "engine.attention_dp" => "a whole number from 1 to 1024",
        "engine.gpu_memory_utilization" => "a number above 0 and up to 1",
        "timing.pass_overhead" => "a time of at most 10 s",
        "timing.prefill" | "timing.decode" | "timing.decode_min" => {
            "a time above 0 and of at most 26 d"
        }
        "workload.generate.rate" => POSITIVE,
        "workload.generate.cv" => "a number from 0.001 to 1000",
        "workload.requests" | "workload.concurrency" | "fleet.gpus_per_worker" => COUNT,
        "workload.generate.turns" => "a number, 1 or more",
        "router.overlap_score_credit"
        | "router.overlap_score_credit_decay"
        | "router.prefill_load_scale"
        | "router.decode_active_request_weight"
        | "router.router_temperature"
        | "router.router_queue_threshold"
        | "workload.generate.prefix_skew" => NOT_NEGATIVE,
        "run.rows" | "workload.generate.prefix_share" | "workload.generate.diurnal_amplitude" => {
            SHARE
        }
        "run.series_interval" => "a time of 100 ms or more",
        "workload.generate.duration"
        | "workload.generate.diurnal_period"
        | "slo.ttft"
        | "slo.itl"
        | "slo.e2e" => LONGER_THAN_ZERO,
        "run.threads" => "1 to 1024, or \"auto\"",
        "timing.prefill_polynomial" | "timing.decode_polynomial" => COEFFICIENTS,
        "workload.generate.steps" => {
            "pairs of a time in seconds and a rate per second, 0 or more, times rising from 0"
        }
        _ => {
            return scaling::range_of(key)
                .or_else(|| sessions::range_of(key))
                .or_else(|| admission::range_of(key))
                .or_else(|| cells::range_of(key));
        }
    })
}

/// No pass takes longer.
const PASS_MAX: Span = Span::from_secs(26 * 86_400);

/// More threads than any machine has cores are a slip of the hand.
const MAX_THREADS: u32 = 1024;

/// Pairs as they are written in TOML.
pub(super) fn pairs(pairs: &[(f64, impl Debug)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(time, value)| format!("[{time:?}, {value:?}]")).collect();
    format!("[{}]", pairs.join(", ")).replace("NaN", "nan")
}

/// Collects the first value outside its range.
pub(super) struct Ranges(Result<(), Violation>);

impl Ranges {
    pub(super) fn check(&mut self, key: &str, found: impl Display, is_right: bool) {
        if self.0.is_ok() && !is_right {
            let expected = range_of(key).expect("every checked key has a range").to_owned();
            let problem = Problem::Value { found: found.to_string(), expected };
            self.0 = Err(Violation { key: key.to_owned(), problem });
        }
    }

    pub(super) fn number(&mut self, key: &str, value: f64, is_right: impl Fn(f64) -> bool) {
        self.check(
            key,
            format!("{value:?}").replace("NaN", "nan"),
            value.is_finite() && is_right(value),
        );
    }

    pub(super) fn positive(&mut self, key: &str, value: f64) {
        self.number(key, value, |value| value > 0.0);
    }

    fn ratio(&mut self, key: &str, value: f64) {
        self.number(key, value, |value| (1e-6..=1e6).contains(&value));
    }

    pub(super) fn not_negative(&mut self, key: &str, value: f64) {
        self.number(key, value, |value| value >= 0.0);
    }

    pub(super) fn share(&mut self, key: &str, value: f64) {
        self.number(key, value, |value| (0.0..=1.0).contains(&value));
    }

    pub(super) fn count(&mut self, key: &str, value: u64, max: u64) {
        self.check(key, value, (1..=max).contains(&value));
    }
}

/// Every value by itself.
pub(super) fn ranges(config: &Config) -> Result<(), Violation> {
    let Config { workload, fleet, engine, router, run, timing, .. } = config;
    let mut ranges = Ranges(Ok(()));
    let tokens_max = u64::from(TOKENS_MAX);
    ranges.count("fleet.workers", u64::from(fleet.workers), WORKERS_MAX);
    ranges.count("fleet.gpus_per_worker", u64::from(fleet.gpus_per_worker.unwrap_or(1)), u64::MAX);
    for (key, value, max) in [
        ("workload.trace_block_size", workload.trace_block_size, 65_536),
        ("workload.copies", workload.copies, 65_536),
        ("engine.block_size", engine.block_size, 65_536),
        ("engine.num_gpu_blocks", engine.num_gpu_blocks.unwrap_or(1), tokens_max),
        ("engine.tp", engine.tp, 1024),
        ("engine.pp", engine.pp, 1024),
        ("engine.attention_dp", engine.attention_dp, 1024),
        ("engine.max_num_seqs", engine.max_num_seqs, tokens_max),
        ("engine.max_num_batched_tokens", engine.max_num_batched_tokens, tokens_max),
        ("engine.max_model_len", engine.max_model_len.unwrap_or(1), tokens_max),
    ] {
        ranges.count(key, u64::from(value), max);
    }
    ranges.ratio("workload.speedup", workload.speedup);
    ranges.count("workload.requests", workload.requests.unwrap_or(1), u64::MAX);
    ranges.count("workload.concurrency", workload.concurrency.unwrap_or(1), u64::MAX);
    let utilization = engine.gpu_memory_utilization;
    ranges
        .number("engine.gpu_memory_utilization", utilization, |share| share > 0.0 && share <= 1.0);
    ranges.ratio("engine.speedup_ratio", engine.speedup_ratio);
    ranges.ratio("engine.decode_speedup_ratio", engine.decode_speedup_ratio);
    for (key, value) in [
        ("router.overlap_score_credit", router.overlap_score_credit),
        ("router.overlap_score_credit_decay", router.overlap_score_credit_decay),
        ("router.prefill_load_scale", router.prefill_load_scale),
        ("router.decode_active_request_weight", router.decode_active_request_weight),
        ("router.router_temperature", router.router_temperature),
        ("router.router_queue_threshold", router.router_queue_threshold.unwrap_or(0.0)),
    ] {
        ranges.not_negative(key, value);
    }
    ranges.share("run.rows", run.rows);
    let interval = run.series_interval.0;
    let is_long_enough = interval >= Span::from_ms(100);
    ranges.check("run.series_interval", format!("\"{interval}\""), is_long_enough);
    let is_thread_count =
        matches!(run.threads, ThreadCount::Auto | ThreadCount::Count(1..=MAX_THREADS));
    ranges.check("run.threads", run.threads, is_thread_count);
    times(timing, &mut ranges);
    scaling::ranges(config, &mut ranges);
    sessions::ranges(config, &mut ranges);
    cells::ranges(fleet, &mut ranges);
    admission::ranges(&config.admission, &mut ranges);
    for (key, time) in classes::zero_slos(&config.slo) {
        ranges.check(&format!("slo.{key}"), format!("\"{time}\""), false);
    }
    generate(&workload.generate, &mut ranges);
    ranges.0?;
    lengths("workload.generate.prompt_tokens", &workload.generate.prompt_tokens)?;
    lengths("workload.generate.output_tokens", &workload.generate.output_tokens)
}

fn times(timing: &Timing, ranges: &mut Ranges) {
    for (key, time) in [
        ("timing.prefill", timing.prefill.0),
        ("timing.decode", timing.decode.0),
        ("timing.decode_min", timing.decode_min.0),
    ] {
        let is_right = time > Span::ZERO && time <= PASS_MAX;
        ranges.check(key, format!("\"{time}\""), is_right);
    }
    let overhead = timing.pass_overhead.0;
    let is_right = overhead <= Span::from_secs(10);
    ranges.check("timing.pass_overhead", format!("\"{overhead}\""), is_right);
    for (key, scale) in [
        ("timing.scale_other", timing.scale_other),
        ("timing.scale_prefill_attention", timing.scale_prefill_attention),
        ("timing.scale_decode_attention", timing.scale_decode_attention),
    ] {
        ranges.ratio(key, scale);
    }
    for (key, coefficients) in [
        ("timing.prefill_polynomial", timing.prefill_polynomial),
        ("timing.decode_polynomial", timing.decode_polynomial),
    ] {
        let is_right = coefficients.iter().all(|value| value.is_finite());
        let found = format!("{coefficients:?}").replace("NaN", "nan");
        ranges.check(key, found, is_right);
    }
}

fn generate(generate: &Generate, ranges: &mut Ranges) {
    let path = |key: &str| format!("workload.generate.{key}");
    ranges.positive(&path("rate"), generate.rate);
    // Beyond, the parameters of a gamma distribution are no numbers, or all of it is rounding.
    ranges.number(&path("cv"), generate.cv, |cv| (1e-3..=1e3).contains(&cv));
    ranges.share(&path("diurnal_amplitude"), generate.diurnal_amplitude);
    ranges.share(&path("prefix_share"), generate.prefix_share);
    ranges.not_negative(&path("prefix_skew"), generate.prefix_skew);
    ranges.number(&path("turns"), generate.turns, |turns| turns >= 1.0);
    for (key, time) in
        [("duration", generate.duration.0), ("diurnal_period", generate.diurnal_period.0)]
    {
        ranges.check(&path(key), format!("\"{time}\""), time > Span::ZERO);
    }
    let max = u64::from(generate.prompt_tokens_max);
    ranges.count(&path("prompt_tokens_max"), max, u64::from(TOKENS_MAX));
    let rising = generate.steps.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let finite = generate
        .steps
        .iter()
        .all(|&(time, rate)| time.is_finite() && rate.is_finite() && time >= 0.0 && rate >= 0.0);
    let from_zero = generate.steps.first().is_none_or(|&(time, _)| time == 0.0);
    ranges.check(&path("steps"), pairs(&generate.steps), rising && finite && from_zero);
}

/// A distribution of lengths.
fn lengths(key: &str, lengths: &Lengths) -> Result<(), Violation> {
    let wrong = |name: &str, found: String, expected: &str| {
        let problem = Problem::Value { found, expected: expected.to_owned() };
        Err(Violation { key: format!("{key}.{name}"), problem })
    };
    let Lengths { distribution, mean, sigma, quantiles, min, max } = lengths;
    if !(mean.is_finite() && *mean > 0.0) {
        return wrong("mean", format!("{mean:?}"), POSITIVE);
    }
    if !(sigma.is_finite() && *sigma >= 0.0) {
        return wrong("sigma", format!("{sigma:?}"), NOT_NEGATIVE);
    }
    if *min < 1 {
        return wrong("min", min.to_string(), COUNT);
    }
    if min > max || *max > TOKENS_MAX {
        return wrong("max", max.to_string(), "a whole number from min to 2^30");
    }
    let rising = quantiles.windows(2).all(|pair| pair[0] <= pair[1]);
    let finite = quantiles.iter().all(|value| value.is_finite() && *value >= 0.0);
    let enough = *distribution != LengthDistribution::Empirical || quantiles.len() >= 2;
    if !(rising && finite && enough) {
        let expected = "at least two numbers of tokens that do not fall, such as [10, 200, 5000]";
        return wrong("quantiles", format!("{quantiles:?}"), expected);
    }
    Ok(())
}

/// Values that are right by themselves and make no sense together.
pub(super) fn contradictions(config: &Config) -> Result<(), Violation> {
    workload(&config.workload)?;
    sessions::contradictions(config)?;
    admission::contradictions(config)?;
    cells::contradictions(config)?;
    let Config { engine, router, .. } = config;
    if router.router_queue_threshold.is_some() && router.policy != RouterPolicy::Kv {
        let reason = "needs router.policy = \"kv\", which alone knows how busy workers are";
        return Err(Violation::contradiction("router.router_queue_threshold", reason.to_owned()));
    }
    let budget = engine.max_num_batched_tokens;
    if let Some(length) = engine.max_model_len
        && !engine.enable_chunked_prefill
        && length > budget
    {
        let reason = format!(
            "is {length}, above engine.max_num_batched_tokens ({budget}): without chunked prefill \
             such a prompt could never be computed"
        );
        return Err(Violation::contradiction("engine.max_model_len", reason));
    }
    Ok(())
}

/// Whether the preset is what `workload.generate` says.
pub(super) fn is_described(preset: Preset) -> bool {
    matches!(preset, Preset::Custom | Preset::Agents)
}

fn workload(workload: &Workload) -> Result<(), Violation> {
    let default = Workload::default();
    let contradict = |key: &str, reason: &str| {
        Err(Violation::contradiction(&format!("workload.{key}"), reason.to_owned()))
    };
    #[expect(clippy::float_cmp, reason = "exactly one means that nothing is scaled")]
    if workload.concurrency.is_some() && workload.speedup != 1.0 {
        return contradict(
            "speedup",
            "has no meaning beside workload.concurrency: a closed loop ignores arrival times",
        );
    }
    if workload.trace.is_some() && workload.preset != default.preset {
        return contradict("preset", "has no meaning beside workload.trace: leave one of them out");
    }
    if workload.trace.is_none() {
        if workload.format != TraceFormat::Auto {
            return contradict("format", "has no meaning without workload.trace");
        }
        if workload.skip_bad_lines {
            return contradict("skip_bad_lines", "has no meaning without workload.trace");
        }
        let block_size = default.trace_block_size;
        if workload.trace_block_size != block_size && !is_described(workload.preset) {
            return contradict(
                "trace_block_size",
                "is for traces and the presets custom and agents",
            );
        }
    }
    let described = workload.trace.is_none() && is_described(workload.preset);
    if workload.generate != default.generate && !described {
        let reason = "has no meaning without workload.preset = \"custom\" or \"agents\"";
        return contradict("generate", reason);
    }
    if workload.generate.arrivals != Arrivals::Gamma
        && (workload.generate.cv - default.generate.cv).abs() > 0.0
    {
        return contradict("generate.cv", "has no meaning without arrivals = \"gamma\"");
    }
    if !workload.generate.steps.is_empty() && workload.generate.diurnal_amplitude > 0.0 {
        return contradict("generate.steps", "and diurnal_amplitude both say how the rate changes");
    }
    let named = matches!(workload.format, TraceFormat::Csv | TraceFormat::Jsonl);
    if workload.columns != default.columns && !named {
        return contradict(
            "columns",
            "has no meaning without workload.format = \"csv\" or \"jsonl\"",
        );
    }
    if workload.columns.hash_ids.is_some() && workload.format == TraceFormat::Csv {
        return contradict("columns.hash_ids", "is for the format jsonl: a CSV has no lists");
    }
    if workload.until.is_some_and(|until| until <= workload.from) {
        return contradict("until", "has to be later than workload.from");
    }
    Ok(())
}
