//! From names of a model, a GPU and a backend to what a pool of workers is: GPUs, KV blocks, pass times.

use std::sync::Arc;

use crate::fleet::PoolSpec;
use crate::io::config::catalog::Catalog;
use crate::io::config::check::{TOKENS_MAX, Violation};
use crate::io::config::error::Problem;
use crate::io::config::pools::Member;
use crate::io::config::tables::{Absent, Tables};
use crate::io::config::text::{self, TimingModel as Wanted};
use crate::model::deployment::{Backend, Deployment, roofline};
use crate::model::engine::{DecodeKv, EngineConfig, FirstToken, PreemptionMode};
use crate::model::kv::BlockLayout;
use crate::model::timing::{Measured, MixedPass, Polynomial, Scales, Table, TimingModel};

/// KV blocks of a worker whose model is not known.
const BLOCKS: u32 = 16_384;

/// A pool, and what the user should know about it.
pub(super) struct Deployed {
    /// The pool.
    pub(super) spec: PoolSpec,
    /// A sentence each.
    pub(super) notes: Vec<String>,
    /// What was found for values that were left to the program.
    pub(super) found: Found,
}

/// Values that depend on what tables there are, so that a run that is repeated has to name them.
pub(super) struct Found {
    /// `timing.model`
    pub(super) timing: Wanted,
    /// `engine.backend_version`, if a table was found.
    pub(super) version: Option<String>,
}

/// Turns the configuration of a pool into the pool.
pub(super) fn deploy(
    member: &Member<'_>,
    catalog: &Catalog,
    tables: &mut Tables,
) -> Result<Deployed, Violation> {
    let config = &member.config;
    check_parallelism(&config.engine)?;
    let deployment = deployment(&config.engine, catalog)?;
    let mut notes = Vec::new();
    let (timing, found) = timing(config, deployment.as_ref(), tables, &mut notes)?;
    let num_gpu_blocks = blocks(&config.engine, deployment.as_ref(), &mut notes)?;
    if let Some(Deployment { backend, .. }) = &deployment
        && *backend != Backend::Vllm
    {
        notes.push(format!(
            "engine.backend is \"{backend}\": pass times and memory are those of {backend}, the \
             scheduler is vLLM's"
        ));
    }
    let layout = BlockLayout {
        block_size: config.engine.block_size,
        trace_block_size: config.workload.trace_block_size,
    };
    let spec = PoolSpec {
        name: member.name().map(str::to_owned),
        workers: config.fleet.workers,
        gpus_per_worker: gpus_per_worker(config, deployment.as_ref())?,
        gpu_hour_usd: deployment.as_ref().and_then(|deployment| deployment.gpu.usd_per_hour),
        deployment: deployment.as_ref().map(ToString::to_string),
        engine: engine(&config.engine, layout, num_gpu_blocks, timing),
    };
    Ok(Deployed { spec, notes, found })
}

fn engine(
    engine: &text::Engine,
    layout: BlockLayout,
    num_gpu_blocks: u32,
    timing: TimingModel,
) -> EngineConfig {
    EngineConfig {
        layout,
        num_gpu_blocks,
        max_num_seqs: engine.max_num_seqs,
        max_num_batched_tokens: engine.max_num_batched_tokens,
        max_model_len: engine.max_model_len,
        enable_prefix_caching: engine.enable_prefix_caching,
        enable_chunked_prefill: engine.enable_chunked_prefill,
        preemption_mode: match engine.preemption_mode {
            text::PreemptionMode::Lifo => PreemptionMode::Lifo,
            text::PreemptionMode::Fifo => PreemptionMode::Fifo,
        },
        first_token: match engine.first_token {
            text::FirstToken::Prefill => FirstToken::Prefill,
            text::FirstToken::Decode => FirstToken::Decode,
        },
        decode_kv: match engine.decode_load {
            text::DecodeLoad::Context => DecodeKv::Context,
            text::DecodeLoad::Resident => DecodeKv::Resident,
        },
        timing,
        speedup_ratio: engine.speedup_ratio,
        decode_speedup_ratio: engine.decode_speedup_ratio,
    }
}

/// What is named in the configuration format, but cannot be simulated.
fn check_parallelism(engine: &text::Engine) -> Result<(), Violation> {
    let refuse = |key: &str, value: u32, reason: &str| {
        Err(Violation::contradiction(key, format!("is {value}, but has to be 1: {reason}")))
    };
    if engine.pp > 1 {
        let reason = "a worker computes one batch at a time, so the batches that hide the hand-overs \
                      of a pipeline would be missing and its throughput far too low; use engine.tp";
        return refuse("engine.pp", engine.pp, reason);
    }
    if engine.attention_dp > 1 {
        let reason = "there are no timing tables with more than one attention rank; use engine.tp, or \
                      more workers";
        return refuse("engine.attention_dp", engine.attention_dp, reason);
    }
    Ok(())
}

fn deployment(engine: &text::Engine, catalog: &Catalog) -> Result<Option<Deployment>, Violation> {
    let Some(model) = &engine.model else { return Ok(None) };
    let model = catalog.model(model)?.clone();
    let Some(gpu) = &engine.gpu else {
        let known: Vec<&str> = catalog.gpus().map(|gpu| gpu.name.as_str()).collect();
        let reason = format!(
            "is {:?}, so engine.gpu has to be set as well: one of {}",
            model.name,
            known.join(", ")
        );
        return Err(Violation::contradiction("engine.model", reason));
    };
    let gpu = catalog.gpu(gpu)?.clone();
    let backend = match engine.backend {
        text::Backend::Vllm => Backend::Vllm,
        text::Backend::Sglang => Backend::Sglang,
        text::Backend::Trtllm => Backend::Trtllm,
    };
    if !model.heads.is_multiple_of(engine.tp) {
        let expected =
            format!("a divisor of the {} attention heads of {}", model.heads, model.name);
        let problem = Problem::Value { found: engine.tp.to_string(), expected };
        return Err(Violation { key: "engine.tp".to_owned(), problem });
    }
    Ok(Some(Deployment { model, gpu, backend, tp: engine.tp }))
}

fn gpus_per_worker(
    config: &text::Config,
    deployment: Option<&Deployment>,
) -> Result<u32, Violation> {
    match (config.fleet.gpus_per_worker, deployment) {
        (given, None) => Ok(given.unwrap_or(1)),
        (Some(given), Some(Deployment { tp, .. })) if given != *tp => {
            let reason = format!("is {given}, but engine.tp makes it {tp}: leave it out");
            Err(Violation::contradiction("fleet.gpus_per_worker", reason))
        }
        (_, Some(Deployment { tp, .. })) => Ok(*tp),
    }
}

/// Bytes as people say them.
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64)
}

/// The size of the KV pool: as given, as much as fits, or the default.
fn blocks(
    engine: &text::Engine,
    deployment: Option<&Deployment>,
    notes: &mut Vec<String>,
) -> Result<u32, Violation> {
    let Some(deployment) = deployment else { return Ok(engine.num_gpu_blocks.unwrap_or(BLOCKS)) };
    let (share, budget) = (engine.gpu_memory_utilization, engine.max_num_batched_tokens);
    let tokens = deployment.kv_tokens(share, budget, engine.block_size);
    let fitting = tokens.map(|tokens| tokens / u64::from(engine.block_size));
    match (engine.num_gpu_blocks, fitting) {
        (None, Ok(blocks)) => Ok(blocks.min(u64::from(TOKENS_MAX)) as u32),
        (Some(given), Ok(blocks)) => {
            if u64::from(given) > blocks {
                notes.push(format!(
                    "engine.num_gpu_blocks is {given}, but only {blocks} blocks fit with \
                     {deployment} and engine.gpu_memory_utilization {share}"
                ));
            }
            Ok(given)
        }
        (Some(given), Err(shortage)) => {
            notes.push(format!(
                "{deployment} does not fit: {} are missing on every GPU; the run has the \
                 engine.num_gpu_blocks it was given",
                gib(shortage.missing)
            ));
            Ok(given)
        }
        (None, Err(shortage)) => {
            let advice = match shortage.tp {
                Some(tp) => format!("engine.tp = {tp} would fit"),
                None => "no larger engine.tp would help: take GPUs with more memory".to_owned(),
            };
            let reason = format!(
                "is {:?}, which does not fit on {} x {} with engine.gpu_memory_utilization {share} \
                 and passes of {budget} tokens: {} are missing on every GPU; {advice}",
                deployment.model.name,
                deployment.tp,
                deployment.gpu.name,
                gib(shortage.missing),
            );
            Err(Violation::contradiction("engine.model", reason))
        }
    }
}

/// Where pass times come from.
fn timing(
    config: &text::Config,
    deployment: Option<&Deployment>,
    tables: &mut Tables,
    notes: &mut Vec<String>,
) -> Result<(TimingModel, Found), Violation> {
    let timing = &config.timing;
    let Some(deployment) = deployment else {
        return match timing.model {
            Wanted::Auto | Wanted::Polynomial => Ok(plain(polynomial(timing), Wanted::Polynomial)),
            Wanted::Constant => Ok(plain(constant(timing), Wanted::Constant)),
            Wanted::Measured | Wanted::Roofline => {
                let reason = "needs engine.model and engine.gpu, which say whose times they are";
                Err(Violation::contradiction("timing.model", reason.to_owned()))
            }
        };
    };
    match timing.model {
        Wanted::Polynomial => Ok(plain(polynomial(timing), Wanted::Polynomial)),
        Wanted::Constant => Ok(plain(constant(timing), Wanted::Constant)),
        Wanted::Roofline => Ok(estimate(timing, deployment)),
        Wanted::Measured => {
            let table = tables.find(config, deployment)?.map_err(Absent::into_error)?;
            Ok(measured(timing, table))
        }
        Wanted::Auto => match tables.find(config, deployment)? {
            Ok(table) => Ok(measured(timing, table)),
            Err(absent) => {
                notes.push(format!("{absent}; pass times are estimated from data sheets"));
                Ok(estimate(timing, deployment))
            }
        },
    }
}

fn plain(model: TimingModel, timing: Wanted) -> (TimingModel, Found) {
    (model, Found { timing, version: None })
}

fn polynomial(timing: &text::Timing) -> TimingModel {
    TimingModel::Polynomial(Polynomial {
        prefill: timing.prefill_polynomial,
        decode: timing.decode_polynomial,
        decode_min_ms: timing.decode_min.0.as_ms(),
    })
}

fn constant(timing: &text::Timing) -> TimingModel {
    TimingModel::Constant { prefill: timing.prefill.0, decode: timing.decode.0 }
}

fn measured(timing: &text::Timing, table: Arc<Table>) -> (TimingModel, Found) {
    let version = Some(table.identity().version.clone());
    (corrected(timing, table), Found { timing: Wanted::Measured, version })
}

fn estimate(timing: &text::Timing, deployment: &Deployment) -> (TimingModel, Found) {
    let table = Arc::new(roofline::estimate(deployment));
    (corrected(timing, table), Found { timing: Wanted::Roofline, version: None })
}

fn corrected(timing: &text::Timing, table: Arc<Table>) -> TimingModel {
    let scales = Scales {
        other: timing.scale_other,
        prefill_attention: timing.scale_prefill_attention,
        decode_attention: timing.scale_decode_attention,
    };
    let mixed_pass = match timing.mixed_pass {
        text::MixedPass::Fused => MixedPass::Fused,
        text::MixedPass::Sum => MixedPass::Sum,
    };
    let measured = Measured::new(table, scales, timing.pass_overhead.0);
    TimingModel::Measured(measured.with_mixed_pass(mixed_pass))
}
