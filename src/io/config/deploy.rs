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
use crate::model::engine::{AdmissionRoom, DecodeKv, EngineConfig, FirstToken, PreemptionMode};
use crate::model::kv::BlockLayout;
use crate::model::timing::{Measured, MixedPass, Polynomial, Scales, Split, Table, TimingModel};

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
    let deployment = deployment(&config.engine, catalog)?;
    check_parallelism(config, deployment.as_ref())?;
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

/// The most tokens of a pass: those of every micro-batch.
pub(super) fn pass_tokens(engine: &text::Engine) -> u32 {
    let tokens = engine.max_num_batched_tokens.saturating_mul(engine.attention_dp);
    tokens.saturating_mul(engine.pp).min(TOKENS_MAX)
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
        // The limits are those of a rank and of a micro-batch; without a model there is one of each.
        max_num_seqs: engine.max_num_seqs.saturating_mul(engine.attention_dp).min(TOKENS_MAX),
        max_num_batched_tokens: pass_tokens(engine),
        max_whole_tokens: engine.max_num_batched_tokens,
        max_model_len: engine.max_model_len,
        enable_prefix_caching: engine.enable_prefix_caching,
        enable_chunked_prefill: engine.enable_chunked_prefill,
        preemption_mode: match engine.preemption_mode {
            text::PreemptionMode::Lifo => PreemptionMode::Lifo,
            text::PreemptionMode::Fifo => PreemptionMode::Fifo,
        },
        admission_room: match engine.admission_room {
            text::AdmissionRoom::Prompt => AdmissionRoom::Prompt,
            text::AdmissionRoom::Chunk => AdmissionRoom::Chunk,
            text::AdmissionRoom::Preempt => AdmissionRoom::Preempt,
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

/// That a batch can be split as it is asked for.
fn check_parallelism(
    config: &text::Config,
    deployment: Option<&Deployment>,
) -> Result<(), Violation> {
    let engine = &config.engine;
    let refuse = |key: &str, value: u32, reason: String| {
        Err(Violation::contradiction(key, format!("is {value}, {reason}")))
    };
    for (key, value) in [("engine.pp", engine.pp), ("engine.attention_dp", engine.attention_dp)] {
        let is_formula = matches!(config.timing.model, Wanted::Polynomial | Wanted::Constant);
        if value > 1 && (deployment.is_none() || is_formula) {
            let reason = "which needs engine.model, engine.gpu and a timing.model of auto, measured \
                          or roofline: other pass times say nothing about parts of a batch";
            return refuse(key, value, reason.to_owned());
        }
    }
    let Some(Deployment { model, .. }) = deployment else { return Ok(()) };
    if engine.pp > model.layers {
        let reason = format!("but {} has only {} layers", model.name, model.layers);
        return refuse("engine.pp", engine.pp, reason);
    }
    if engine.attention_dp > 1 && model.experts.is_none() {
        let reason = format!(
            "but {} has no experts that the ranks could share: take more workers",
            model.name
        );
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
    let (tp, pp, attention_dp) = (engine.tp, engine.pp, engine.attention_dp);
    Ok(Some(Deployment { model, gpu, backend, tp, pp, attention_dp }))
}

fn gpus_per_worker(
    config: &text::Config,
    deployment: Option<&Deployment>,
) -> Result<u32, Violation> {
    match (config.fleet.gpus_per_worker, deployment) {
        (given, None) => Ok(given.unwrap_or(1)),
        (Some(given), Some(deployment)) if given != deployment.gpus() => {
            let keys = match (deployment.pp, deployment.attention_dp) {
                (1, 1) => "engine.tp makes",
                _ => "engine.tp, pp and attention_dp make",
            };
            let gpus = deployment.gpus();
            let reason = format!("is {given}, but {keys} it {gpus}: leave it out");
            Err(Violation::contradiction("fleet.gpus_per_worker", reason))
        }
        (_, Some(deployment)) => Ok(deployment.gpus()),
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
                Some(tp) if deployment.gpus() > deployment.tp => {
                    let larger = Deployment { tp, ..deployment.clone() };
                    format!("engine.tp = {tp} would fit, on {}", larger.place())
                }
                Some(tp) => format!("engine.tp = {tp} would fit"),
                None => "no larger engine.tp would help: take GPUs with more memory".to_owned(),
            };
            let reason = format!(
                "is {:?}, which does not fit on {} with engine.gpu_memory_utilization {share} and \
                 passes of {budget} tokens: {} are missing on every GPU; {advice}",
                deployment.model.name,
                deployment.place(),
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
        Wanted::Roofline => Ok(estimate(config, deployment)),
        Wanted::Measured => {
            let table = tables.find(config, deployment, notes)?.map_err(Absent::into_error)?;
            Ok(measured(config, deployment, table, notes))
        }
        Wanted::Auto => match tables.find(config, deployment, notes)? {
            Ok(table) => Ok(measured(config, deployment, table, notes)),
            Err(absent) => {
                notes.push(format!("{absent}; pass times are estimated from data sheets"));
                Ok(estimate(config, deployment))
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

fn measured(
    config: &text::Config,
    deployment: &Deployment,
    table: Arc<Table>,
    notes: &mut Vec<String>,
) -> (TimingModel, Found) {
    if deployment.attention_dp > 1 {
        notes.push(
            "engine.attention_dp: pass times are those of a table of one rank, so what the ranks send \
             one another is not in them"
                .to_owned(),
        );
    }
    let version = Some(table.identity().version.clone());
    (corrected(config, deployment, table), Found { timing: Wanted::Measured, version })
}

fn estimate(config: &text::Config, deployment: &Deployment) -> (TimingModel, Found) {
    let table = Arc::new(roofline::estimate(deployment));
    (corrected(config, deployment, table), Found { timing: Wanted::Roofline, version: None })
}

fn corrected(config: &text::Config, deployment: &Deployment, table: Arc<Table>) -> TimingModel {
    let timing = &config.timing;
    let scales = Scales {
        other: timing.scale_other,
        prefill_attention: timing.scale_prefill_attention,
        decode_attention: timing.scale_decode_attention,
    };
    let mixed_pass = match timing.mixed_pass {
        text::MixedPass::Fused => MixedPass::Fused,
        text::MixedPass::Sum => MixedPass::Sum,
    };
    let measured = Measured::new(table, scales, timing.pass_overhead.0).with_mixed_pass(mixed_pass);
    TimingModel::Measured(match (deployment.attention_dp, deployment.pp) {
        (1, 1) => measured,
        (ranks, stages) => measured.with_split(Split {
            ranks,
            stages,
            chunk: config.engine.max_num_batched_tokens,
            hop_ns_per_token: deployment.hop_ns_per_token(),
        }),
    })
}
