//! The configuration as a user writes it. What a key means is said here, once.

mod admission;
mod hardware;
mod planner;
mod sessions;
mod threads;
mod workload;

pub use admission::{Admission, Class};
pub use hardware::{Backend, GpuEntry, ModelEntry, NumberFormat, Pool};
pub use planner::{
    HpaMetric, Lifecycle, LoadBasis, LoadTarget, Planner, Predictor, ScalingPolicy, Stage, Victims,
    WhilePending,
};
pub use sessions::{Agents, Client};
pub use threads::ThreadCount;
pub use workload::{
    Arrivals, Columns, Generate, LengthDistribution, Lengths, Preset, TimestampUnit, TraceFormat,
    Workload,
};

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::kernel::Span;
use crate::model::router::KvRouterConfig;

/// A time with a unit, such as `"1.5ms"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Duration(pub Span);

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

/// Takes text with a unit, and a plain zero, which needs none.
struct DurationVisitor;

impl de::Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time with a unit")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        Span::parse(text).map(Duration).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Duration, E> {
        match number {
            0 => Ok(Duration::default()),
            _ => Err(E::invalid_type(de::Unexpected::Signed(number), &self)),
        }
    }
}

/// Everything that can be configured.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where requests come from.
    pub workload: Workload,
    /// Who waits for answers, and for how long.
    pub client: Client,
    /// How many workers there are.
    pub fleet: Fleet,
    /// What says how many there should be, if their number changes.
    pub planner: Planner,
    /// What it takes to change it.
    pub lifecycle: Lifecycle,
    /// What each worker is.
    pub engine: Engine,
    /// How requests find their worker.
    pub router: Router,
    /// Who is let in, who has to wait, and who is turned away.
    pub admission: Admission,
    /// Tenants that share the fleet, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, Class>,
    /// Delays between the front end and the workers.
    pub control_plane: ControlPlane,
    /// How long passes take.
    pub timing: Timing,
    /// What counts as good service.
    pub slo: Slo,
    /// How to run, and what to write.
    pub run: Run,
    /// GPUs that the catalog does not have, or has otherwise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gpus: BTreeMap<String, GpuEntry>,
    /// Models that the catalog does not have, or has otherwise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, ModelEntry>,
    /// Workers of several kinds, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, Pool>,
}

/// `[fleet]`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fleet {
    /// How many workers; with a planner, at the start.
    pub workers: u32,
    /// GPUs in each worker, for GPU-hours, if no model says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus_per_worker: Option<u32>,
    /// Equal parts, each with a router of its own, that know nothing of one another.
    pub cells: u32,
    /// What shares requests among cells.
    pub balancer: Balancer,
    /// `prefix`: how many leading tokens of a prompt it looks at.
    pub balancer_prefix_tokens: u32,
}

impl Default for Fleet {
    fn default() -> Fleet {
        Fleet {
            workers: 8,
            gpus_per_worker: None,
            cells: 1,
            balancer: Balancer::RoundRobin,
            balancer_prefix_tokens: 1024,
        }
    }
}

/// What shares requests among cells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balancer {
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// Those of a session meet.
    Session,
    /// Prompts that begin alike meet.
    Prefix,
}

/// `[engine]`: vLLM's names and, but for the pool's size, its defaults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// What is served, a name of the catalog. With it come the KV pool, the GPUs of a worker and pass times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// On which GPUs, a name of the catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Whose timing table and memory accounting are used.
    pub backend: Backend,
    /// Which version of it; the newest that has a table if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_version: Option<String>,
    /// GPUs that share every layer.
    pub tp: u32,
    /// Stages of a pipeline.
    pub pp: u32,
    /// Ranks that each compute the attention of a part of the batch.
    pub attention_dp: u32,
    /// Share of the GPU memory that weights, activations and KV cache may use.
    pub gpu_memory_utilization: f64,
    /// Tokens per KV block.
    pub block_size: u32,
    /// Size of the KV pool, in blocks; what fits if absent and the model is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_gpu_blocks: Option<u32>,
    /// Most requests in a batch.
    pub max_num_seqs: u32,
    /// Most tokens in a pass.
    pub max_num_batched_tokens: u32,
    /// Longest sequence, prompt and output together, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u32>,
    /// Whether complete blocks are kept for reuse.
    pub enable_prefix_caching: bool,
    /// Whether a prompt may be computed over several passes.
    pub enable_chunked_prefill: bool,
    /// Which running request gives up its blocks when none are left.
    pub preemption_mode: PreemptionMode,
    /// Which room the head of the waiting queue needs.
    pub admission_room: AdmissionRoom,
    /// Which part of a pass the first token costs.
    pub first_token: FirstToken,
    /// Which KV tokens a decode pass reads.
    pub decode_load: DecodeLoad,
    /// Divides all times.
    pub speedup_ratio: f64,
    /// Divides decode times on top.
    pub decode_speedup_ratio: f64,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine {
            model: None,
            gpu: None,
            backend: Backend::Vllm,
            backend_version: None,
            tp: 1,
            pp: 1,
            attention_dp: 1,
            gpu_memory_utilization: 0.9,
            block_size: 64,
            num_gpu_blocks: None,
            max_num_seqs: 256,
            max_num_batched_tokens: 8192,
            max_model_len: None,
            enable_prefix_caching: true,
            enable_chunked_prefill: true,
            preemption_mode: PreemptionMode::Lifo,
            admission_room: AdmissionRoom::Prompt,
            first_token: FirstToken::Prefill,
            decode_load: DecodeLoad::Context,
            speedup_ratio: 1.0,
            decode_speedup_ratio: 1.0,
        }
    }
}

/// Who is preempted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreemptionMode {
    /// The one admitted last.
    Lifo,
    /// The one admitted first.
    Fifo,
}

/// When a waiting request is admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdmissionRoom {
    /// All its known tokens have blocks.
    Prompt,
    /// Its first chunk has blocks.
    Chunk,
    /// Always: running requests make room for its first chunk.
    Preempt,
}

/// What the first token costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstToken {
    /// It comes out of the last prefill chunk.
    Prefill,
    /// It also counts in the decode part of that pass: the reference peer up to 1.4.
    Decode,
}

/// What a decode pass reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecodeLoad {
    /// The contexts of the decoding requests.
    Context,
    /// All pinned blocks: the reference peer up to 1.4.
    Resident,
}

/// `[router]`: the reference peer's names.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Router {
    /// How a worker is chosen.
    pub policy: RouterPolicy,
    /// `kv`: what a cached block is worth, in blocks to compute.
    pub overlap_score_credit: f64,
    /// `kv`: how fast that falls with a worker's excess prefill load.
    pub overlap_score_credit_decay: f64,
    /// `kv`: what prefill weighs against decode.
    pub prefill_load_scale: f64,
    /// `kv`: blocks that every active request counts on top.
    pub decode_active_request_weight: f64,
    /// `kv`: above zero, cheap workers are only likelier.
    pub router_temperature: f64,
    /// `kv`: who gets a request when several workers cost the same.
    pub tie_break: TieBreak,
    /// `kv`: requests wait while every worker has more prefill tokens than this share of those of a pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_queue_threshold: Option<f64>,
    /// Who leaves that queue first.
    pub router_queue_policy: QueuePolicy,
}

impl Default for Router {
    fn default() -> Router {
        let kv = KvRouterConfig::default();
        Router {
            policy: RouterPolicy::RoundRobin,
            overlap_score_credit: kv.overlap_score_credit,
            overlap_score_credit_decay: kv.overlap_score_credit_decay,
            prefill_load_scale: kv.prefill_load_scale,
            decode_active_request_weight: kv.decode_active_request_weight,
            router_temperature: kv.router_temperature,
            tie_break: TieBreak::FewestBlocks,
            router_queue_threshold: None,
            router_queue_policy: QueuePolicy::Fcfs,
        }
    }
}

/// How a worker is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouterPolicy {
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The less loaded of two random ones.
    PowerOfTwo,
    /// The one with the fewest requests.
    LeastLoaded,
    /// The session's own.
    SessionAffine,
    /// The one where it costs least, cache and load considered.
    Kv,
}

/// Who gets a request when several workers cost the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TieBreak {
    /// The one with the fewest active blocks, then the lowest number.
    FewestBlocks,
    /// Any of them.
    Random,
}

/// Who leaves the router's queue first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueuePolicy {
    /// First come, first served.
    Fcfs,
    /// Last come, first served.
    Lcfs,
    /// Weighted shortest processing time.
    Wspt,
}

/// `[control_plane]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlPlane {
    /// From the routing decision to the worker's queue, at least.
    pub dispatch_latency: Duration,
    /// What comes on top of it on average, exponentially distributed.
    pub dispatch_jitter: Duration,
    /// From the end of a pass to the router's knowledge of it, at least.
    pub feedback_latency: Duration,
    /// What comes on top of it on average, exponentially distributed.
    pub feedback_jitter: Duration,
}

impl Default for ControlPlane {
    fn default() -> ControlPlane {
        ControlPlane {
            dispatch_latency: Duration(Span::from_ms(1)),
            dispatch_jitter: Duration::default(),
            feedback_latency: Duration(Span::from_ms(5)),
            feedback_jitter: Duration::default(),
        }
    }
}

/// `[timing]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// Where pass times come from.
    pub model: TimingModel,
    /// `measured`: a folder with tables, used before the shipped ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// `measured`, `roofline`: what the host adds to every pass.
    pub pass_overhead: Duration,
    /// `measured`, `roofline`: how a pass with prompt tokens and decoding requests is put together.
    pub mixed_pass: MixedPass,
    /// `measured`, `roofline`: multiplies everything but attention.
    pub scale_other: f64,
    /// `measured`, `roofline`: multiplies the attention of prompt tokens.
    pub scale_prefill_attention: f64,
    /// `measured`, `roofline`: multiplies the attention of decoding requests.
    pub scale_decode_attention: f64,
    /// `polynomial`: prefill time in ms over new tokens, highest power first.
    pub prefill_polynomial: [f64; 3],
    /// `polynomial`: decode time in ms over the used share of the KV pool, highest power first.
    pub decode_polynomial: [f64; 3],
    /// `polynomial`: the shortest decode pass.
    pub decode_min: Duration,
    /// `constant`: the prefill part of a pass.
    pub prefill: Duration,
    /// `constant`: the decode part of a pass.
    pub decode: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        let polynomial = crate::model::timing::Polynomial::default();
        Timing {
            model: TimingModel::Auto,
            dir: None,
            pass_overhead: Duration::default(),
            mixed_pass: MixedPass::Fused,
            scale_other: 1.0,
            scale_prefill_attention: 1.0,
            scale_decode_attention: 1.0,
            prefill_polynomial: polynomial.prefill,
            decode_polynomial: polynomial.decode,
            decode_min: Duration(Span::from_ms(1)),
            prefill: Duration(Span::from_ms(50)),
            decode: Duration(Span::from_ms(10)),
        }
    }
}

/// A pass with prompt tokens and decoding requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixedPass {
    /// Everything but attention once.
    Fused,
    /// A prefill pass and a decode pass: the reference peer in 1.2.
    Sum,
}

/// Where pass times come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimingModel {
    /// Measured if there is a table for `engine.model`, else the estimate; the polynomial without a model.
    Auto,
    /// A table of measurements.
    Measured,
    /// An estimate from data sheets.
    Roofline,
    /// The reference peer's two quadratics.
    Polynomial,
    /// The same time for every pass.
    Constant,
}

/// `[slo]`: a request is good when it meets all that are set.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slo {
    /// Longest time to first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft: Option<Duration>,
    /// Longest mean time between tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl: Option<Duration>,
    /// Longest time from arrival to last token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2e: Option<Duration>,
}

/// `[run]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Threads to simulate on. No result depends on it.
    pub threads: ThreadCount,
    /// Whether each thread stays on one core.
    pub pin: bool,
    /// The share of requests that get a row in `requests.csv`: 1 all, 0 none.
    pub rows: f64,
    /// Length of an interval of the time series.
    pub series_interval: Duration,
}

impl Default for Run {
    fn default() -> Run {
        let series_interval = Duration(Span::from_secs(10));
        Run { seed: 42, threads: ThreadCount::Auto, pin: false, rows: 1.0, series_interval }
    }
}
