//! The parameters of an engine, under vLLM's names.

use crate::kernel::time::Span;
use crate::model::kv::BlockLayout;
use crate::model::timing::{PassTimer, TimingModel};

/// Which running request gives up its blocks when none are left.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PreemptionMode {
    /// The one admitted last, as vLLM does.
    #[default]
    Lifo,
    /// The one admitted first.
    Fifo,
}

/// Which room the head of the waiting queue needs to be admitted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum AdmissionRoom {
    /// Blocks for all its known tokens: vLLM with `scheduler_reserve_full_isl`, and the reference peer from 1.3 on.
    #[default]
    Prompt,
    /// Blocks for its first chunk: vLLM without it.
    Chunk,
    /// None: running requests are preempted until its first chunk has room. The reference peer up to 1.2.
    Preempt,
}

/// Which part of a pass the first token of a request costs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FirstToken {
    /// It comes out of the last prefill chunk: physically right.
    #[default]
    Prefill,
    /// It also counts in the decode part of that pass: the reference peer up to 1.4.
    Decode,
}

/// Which KV tokens the decode part of a pass reads.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum DecodeKv {
    /// The contexts of the decoding requests: physically right.
    #[default]
    Context,
    /// All pinned blocks, in full, shared ones once: the reference peer up to 1.4.
    Resident,
}

/// One engine: a scheduler, a KV pool, a timing model.
#[derive(Clone, PartialEq, Debug)]
pub struct EngineConfig {
    /// Tokens per KV block, here and in the trace.
    pub layout: BlockLayout,
    /// Size of the KV pool, in blocks.
    pub num_gpu_blocks: u32,
    /// Most requests in a batch.
    pub max_num_seqs: u32,
    /// Most tokens in a pass.
    pub max_num_batched_tokens: u32,
    /// Most tokens of a prompt that has to be computed in one piece: those of a micro-batch, of which a pass may have several.
    pub max_whole_tokens: u32,
    /// Longest sequence, prompt and output together, in tokens; no limit if absent.
    pub max_model_len: Option<u32>,
    /// Whether complete blocks are kept for reuse.
    pub enable_prefix_caching: bool,
    /// Whether a prompt may be computed over several passes.
    pub enable_chunked_prefill: bool,
    /// Who is preempted.
    pub preemption_mode: PreemptionMode,
    /// When a waiting request is admitted.
    pub admission_room: AdmissionRoom,
    /// What the first token costs.
    pub first_token: FirstToken,
    /// What a decode pass reads.
    pub decode_kv: DecodeKv,
    /// How long passes take.
    pub timing: TimingModel,
    /// Divides all times; 1e-6 to 1e6, 1 changes nothing.
    pub speedup_ratio: f64,
    /// Divides decode times on top; 1e-6 to 1e6.
    pub decode_speedup_ratio: f64,
}

impl EngineConfig {
    /// What the KV pool holds, in tokens.
    pub fn pool_tokens(&self) -> u64 {
        u64::from(self.num_gpu_blocks) * u64::from(self.layout.block_size)
    }

    /// The timing model for this engine.
    pub fn pass_timer(&self) -> PassTimer {
        let decode_speedup = self.speedup_ratio * self.decode_speedup_ratio;
        PassTimer::new(self.timing.clone(), self.pool_tokens(), self.speedup_ratio, decode_speedup)
    }

    /// How many tokens a request generates: what it asks for, or as many as the model allows.
    pub fn output_limit(&self, prompt_tokens: u32, output_tokens: u32) -> u32 {
        self.max_model_len
            .map_or(output_tokens, |len| output_tokens.min(len.saturating_sub(prompt_tokens)))
    }

    /// Whether a prompt can never be served.
    pub fn refuses(&self, prompt_tokens: u32) -> bool {
        self.max_model_len.is_some_and(|len| prompt_tokens >= len)
            || self.layout.blocks(prompt_tokens) > self.num_gpu_blocks
    }
}

/// With 2 kB each for the passes of a run, a quarter of what is near in a processor's cache.
const FEW_ENGINES: u32 = 64;

/// What engines of one shape share: compiled once, and near in the processor's cache because all read it.
#[derive(Debug)]
pub struct EngineShape {
    /// Its parameters.
    pub config: EngineConfig,
    pub(super) timer: PassTimer,
    pub(super) shortest_pass: Span,
    pub(super) keeps_runs: bool,
}

impl EngineShape {
    /// Compiles the timing model for a fleet of so many engines of any shape; few keep more at hand than many do, which
    /// changes nothing but how fast they are.
    pub fn new(config: EngineConfig, engines: u32) -> EngineShape {
        let timer = config.pass_timer();
        let keeps_runs = engines <= FEW_ENGINES;
        EngineShape { shortest_pass: timer.floor(), timer, keeps_runs, config }
    }

    /// No pass takes less time.
    pub fn shortest_pass(&self) -> Span {
        self.shortest_pass
    }
}
