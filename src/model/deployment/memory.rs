//! How many tokens fit in the KV cache of a worker.
//!
//! The accounting is `AIConfigurator`'s (0.12.0, Apache-2.0), stated here as a formula; docs/catalog.md compares it with
//! the capacities of that package. Per GPU,
//!
//! ```text
//! vLLM, SGLang    fraction x memory - weights - activations - collectives - runtime
//! TensorRT-LLM    fraction x (memory - weights - activations - collectives - runtime)
//! ```
//!
//! is left for the KV cache; divided by the bytes that a token takes on each GPU it is the capacity in tokens.

use crate::model::deployment::{Backend, Deployment, Llm};

/// What takes memory on a GPU beside the KV cache, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// The GPU's share of the weights.
    pub weights: u64,
    /// Activations of the largest pass.
    pub activations: u64,
    /// Buffers of the collective operations.
    pub collectives: u64,
    /// CUDA context, graphs, allocator slack.
    pub runtime: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.activations + self.collectives + self.runtime
    }
}

/// A model that does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shortage {
    /// What is missing on every GPU for a KV cache of one block, bytes.
    pub missing: u64,
    /// The next larger number of GPUs that suffices, if one up to 64 does.
    pub tp: Option<u32>,
}

/// The largest group of GPUs that is tried for a model that does not fit.
const TP_MAX: u32 = 64;

const GIB: f64 = (1_u64 << 30) as f64;
const MIB: u64 = 1 << 20;

/// What the runtime takes in vLLM and TensorRT-LLM, bytes.
const RUNTIME: f64 = 3.5 * GIB;

impl Backend {
    /// Bytes of activations per token and unit of width, for groups of 1, 2, and 4 or more GPUs.
    fn activation_factor(self, tp: u32) -> f64 {
        let (one, two, many) = match self {
            Backend::Vllm | Backend::Trtllm => (22.0, 13.0, 10.0),
            Backend::Sglang => (32.2, 19.55, 14.95),
        };
        match tp {
            1 => one,
            2 | 3 => two,
            _ => many,
        }
    }

    fn runtime(self) -> u64 {
        match self {
            Backend::Vllm | Backend::Trtllm => RUNTIME as u64,
            Backend::Sglang => (1.2 * RUNTIME) as u64,
        }
    }
}

impl Llm {
    /// Bytes of activations per byte of a plain dense model: experts and latent attention need more.
    fn activation_scale(&self, backend: Backend) -> f64 {
        match (self.mla_width, self.experts, backend) {
            (Some(_), _, Backend::Vllm | Backend::Trtllm) => 4.2,
            (Some(_), _, Backend::Sglang) => 45.0 / 13.0,
            (None, Some(_), _) => 2.0,
            (None, None, _) => 1.0,
        }
    }

    /// The width that activations are counted by.
    fn activation_width(&self) -> f64 {
        match self.mla_width {
            Some(_) => f64::from(self.hidden_size) * 2.0,
            None => f64::from(self.heads) * f64::from(self.head_dim),
        }
    }
}

impl Deployment {
    /// What a token of a sequence takes in the KV cache of every GPU of its rank, in bytes. Layers are spread over the
    /// stages. Heads are spread over the GPUs of a stage and copied when there are fewer of them; latent attention keeps one
    /// vector, which each of these GPUs has in full.
    pub fn kv_bytes_per_token(&self) -> f64 {
        let Llm { kv_layers, kv_heads, head_dim, mla_width, kv_format, .. } = self.model;
        let width = match mla_width {
            Some(width) => f64::from(width),
            None => 2.0 * f64::from(kv_heads.div_ceil(self.tp)) * f64::from(head_dim),
        };
        f64::from(kv_layers.div_ceil(self.pp)) * width * kv_format.bytes()
    }

    /// The weights on every GPU. Experts are spread over all ranks; of everything else each rank has its own.
    fn weights(&self) -> u64 {
        let Llm { weight_bytes, replicated_bytes, .. } = self.model;
        let (tp, pp, ranks) =
            (u64::from(self.tp), u64::from(self.pp), u64::from(self.attention_dp));
        let split = weight_bytes - replicated_bytes;
        let experts = (self.model.expert_bytes() as u64).min(split);
        (replicated_bytes + (split - experts) / tp + experts / (tp * ranks)) / pp
    }

    /// What is taken on every GPU beside the KV cache, if no pass has more tokens than this.
    pub fn memory(&self, max_num_batched_tokens: u32) -> Memory {
        let factor = self.backend.activation_factor(self.tp);
        let per_token =
            factor * self.model.activation_scale(self.backend) * self.model.activation_width();
        Memory {
            weights: self.weights(),
            activations: (per_token * f64::from(max_num_batched_tokens)) as u64,
            collectives: match self.tp {
                1 => 0,
                2 | 3 => 342 * MIB,
                _ => 392 * MIB,
            },
            runtime: self.backend.runtime(),
        }
    }

    /// How many tokens fit in the KV caches of all ranks, with this share of the memory to use.
    ///
    /// # Errors
    /// If not even `least` tokens do.
    pub fn kv_tokens(
        &self,
        fraction: f64,
        max_num_batched_tokens: u32,
        least: u32,
    ) -> Result<u64, Shortage> {
        let left = self.bytes_left(fraction, max_num_batched_tokens);
        let missing = f64::from(least) * self.kv_bytes_per_token() - left;
        if missing <= 0.0 {
            let rank = (left / self.kv_bytes_per_token()) as u64;
            return Ok(rank.saturating_mul(u64::from(self.attention_dp)));
        }
        let fits = |&tp: &u32| {
            let other = Deployment { tp, ..self.clone() };
            let left = other.bytes_left(fraction, max_num_batched_tokens);
            self.model.heads.is_multiple_of(tp)
                && left >= f64::from(least) * other.kv_bytes_per_token()
        };
        let sizes = (0..=TP_MAX.ilog2()).map(|power| 1 << power).filter(|&tp| tp > self.tp);
        Err(Shortage { missing: missing.ceil() as u64, tp: sizes.into_iter().find(fits) })
    }

    /// What is left for the KV cache; negative if nothing is.
    fn bytes_left(&self, fraction: f64, max_num_batched_tokens: u32) -> f64 {
        let memory = self.gpu.memory_bytes as f64;
        let taken = self.memory(max_num_batched_tokens).total() as f64;
        match self.backend {
            Backend::Vllm | Backend::Sglang => fraction * memory - taken,
            Backend::Trtllm => fraction * (memory - taken),
        }
    }
}
