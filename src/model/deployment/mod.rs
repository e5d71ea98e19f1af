//! What a worker is made of: a model, GPUs, and how the one is spread over the others. From it follow the KV memory that
//! is left ([`Deployment::kv_tokens`]) and, where nothing was measured, an estimate of pass times ([`roofline`]).

mod memory;
mod plausible;
pub mod roofline;

pub use memory::{Memory, Shortage};
pub use plausible::Doubt;

use std::fmt;

/// A GPU, as its data sheet says.
#[derive(Clone, PartialEq, Debug)]
pub struct Gpu {
    /// Its name in the catalog and in timing tables.
    pub name: String,
    /// Memory, as serving engines see it.
    pub memory_bytes: u64,
    /// Memory bandwidth, 10^9 bytes per second.
    pub memory_gb_s: f64,
    /// Dense matrix throughput with 16-bit operands, 10^12 operations per second.
    pub bf16_tflops: f64,
    /// The same with 8-bit operands, if it has such units.
    pub fp8_tflops: Option<f64>,
    /// The same with 4-bit operands, if it has such units.
    pub fp4_tflops: Option<f64>,
    /// Bandwidth to the other GPUs of a worker, one direction, 10^9 bytes per second.
    pub link_gb_s: f64,
    /// What it costs per hour, US dollars, if that is known.
    pub usd_per_hour: Option<f64>,
    /// When that was the price.
    pub usd_date: Option<String>,
    /// Where the figures are from.
    pub source: Option<String>,
}

impl Gpu {
    /// The fastest dense throughput for weights of this format, operations per second: formats that it has no units for
    /// are computed in the next larger one.
    pub fn flops(&self, format: Format) -> f64 {
        let fp8 = self.fp8_tflops.unwrap_or(self.bf16_tflops);
        let tflops = match format {
            Format::Bf16 => self.bf16_tflops,
            Format::Fp8 => fp8,
            Format::Fp4 => self.fp4_tflops.unwrap_or(fp8),
        };
        tflops * 1e12
    }
}

/// A number format of weights or of the KV cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// 16 bits.
    Bf16,
    /// 8 bits.
    Fp8,
    /// 4 bits, and a scale for every block of 16.
    Fp4,
}

impl Format {
    /// Bytes of a number, scales included.
    pub fn bytes(self) -> f64 {
        match self {
            Format::Bf16 => 2.0,
            Format::Fp8 => 1.0,
            Format::Fp4 => 0.5625,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Bf16 => "bf16",
            Format::Fp8 => "fp8",
            Format::Fp4 => "fp4",
        })
    }
}

/// A model of the transformer kind: its shape and its size.
#[derive(Clone, PartialEq, Debug)]
pub struct Llm {
    /// Its name in the catalog and in timing tables.
    pub name: String,
    /// Transformer layers.
    pub layers: u32,
    /// Those that look at the whole context; the others look back a few tokens, which are not counted.
    pub kv_layers: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Attention heads.
    pub heads: u32,
    /// Heads of keys and values.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Multi-head latent attention: width of what is kept per token and layer in place of keys and values.
    pub mla_width: Option<u32>,
    /// Parameters.
    pub parameters: u64,
    /// Parameters that a token passes through.
    pub active_parameters: u64,
    /// Experts per layer; absent for a dense model.
    pub experts: Option<Experts>,
    /// Format of the weights.
    pub weight_format: Format,
    /// Format of the KV cache.
    pub kv_format: Format,
    /// What the weights take on a single GPU.
    pub weight_bytes: u64,
    /// The part of that which every GPU of a tensor-parallel group holds in full.
    pub replicated_bytes: u64,
    /// Where the figures are from.
    pub source: Option<String>,
}

/// Routed experts of a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Experts {
    /// How many there are.
    pub total: u32,
    /// How many a token passes through.
    pub active: u32,
}

/// The inference engine whose memory accounting and timing table are used.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Backend {
    /// vLLM
    #[default]
    Vllm,
    /// `SGLang`
    Sglang,
    /// TensorRT-LLM
    Trtllm,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Vllm => "vllm",
            Backend::Sglang => "sglang",
            Backend::Trtllm => "trtllm",
        })
    }
}

/// A model on the GPUs of a worker: groups of `tp` GPUs that share every layer, `pp` of them one behind the other, and
/// `attention_dp` such pipelines, which share the experts.
#[derive(Clone, PartialEq, Debug)]
pub struct Deployment {
    /// The model.
    pub model: Llm,
    /// Each of the GPUs.
    pub gpu: Gpu,
    /// The inference engine.
    pub backend: Backend,
    /// How many GPUs share every layer, 1 or more.
    pub tp: u32,
    /// Pipeline stages, 1 or more; at most as many as there are layers.
    pub pp: u32,
    /// Attention ranks, 1 or more.
    pub attention_dp: u32,
}

impl Deployment {
    /// How many GPUs the worker has.
    pub fn gpus(&self) -> u32 {
        self.tp * self.pp * self.attention_dp
    }

    /// How long the hidden state of a token is on its way from one stage to the next, ns: 16-bit numbers over the link, which
    /// the GPUs of a stage share out. The latency of a message is left out.
    pub fn hop_ns_per_token(&self) -> f64 {
        let bytes = f64::from(self.model.hidden_size) * Format::Bf16.bytes() / f64::from(self.tp);
        bytes / self.gpu.link_gb_s
    }

    /// The GPUs of the worker and how the model is spread over them, such as `8 x h100_sxm (TP 4, PP 2)`.
    pub fn place(&self) -> String {
        let place = format!("{} x {}", self.gpus(), self.gpu.name);
        if self.gpus() == self.tp {
            return place;
        }
        let split = [("TP", self.tp), ("PP", self.pp), ("attention-DP", self.attention_dp)];
        let split = split.into_iter().filter(|&(name, size)| size > 1 || name == "TP");
        let split: Vec<String> = split.map(|(name, size)| format!("{name} {size}")).collect();
        format!("{place} ({})", split.join(", "))
    }
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.model.name, self.place())
    }
}
