//! What workers are made of, as a user writes it: entries of the catalog, and pools.

use serde::{Deserialize, Serialize};

/// `[gpus.NAME]`, and an entry of the shipped catalog: what is absent is taken from the catalog.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuEntry {
    /// Memory, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Memory bandwidth, 10^9 bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gb_s: Option<f64>,
    /// Dense 16-bit matrix throughput, 10^12 operations per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bf16_tflops: Option<f64>,
    /// Dense 8-bit matrix throughput.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp8_tflops: Option<f64>,
    /// Dense 4-bit matrix throughput.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp4_tflops: Option<f64>,
    /// Bandwidth to the other GPUs of a worker, one direction, 10^9 bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_gb_s: Option<f64>,
    /// Price, US dollars per hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<f64>,
    /// When that was the price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_date: Option<String>,
    /// Where the figures are from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// `[models.NAME]`, and an entry of the shipped catalog: what is absent is taken from the catalog.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelEntry {
    /// Transformer layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<u32>,
    /// Those that look at the whole context; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_layers: Option<u32>,
    /// Width of the residual stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<u32>,
    /// Attention heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<u32>,
    /// Heads of keys and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u32>,
    /// Width of a head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<u32>,
    /// Latent attention: width of what is kept per token and layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mla_width: Option<u32>,
    /// Parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// Parameters that a token passes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_parameters: Option<u64>,
    /// Routed experts per layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<u32>,
    /// Routed experts that a token passes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_experts: Option<u32>,
    /// Format of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_format: Option<NumberFormat>,
    /// Format of the KV cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_format: Option<NumberFormat>,
    /// What the weights take on a single GPU, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
    /// The part of that which every GPU of a group holds in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated_bytes: Option<u64>,
    /// Where the figures are from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A number format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NumberFormat {
    /// 16 bits.
    Bf16,
    /// 8 bits.
    Fp8,
    /// 4 bits, with block scales.
    Fp4,
}

/// The inference engine whose timing table and memory accounting are used.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// vLLM
    #[default]
    Vllm,
    /// `SGLang`
    Sglang,
    /// TensorRT-LLM
    Trtllm,
}

/// `[pools.NAME]`: workers that differ from `[engine]` and `[timing]`.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// How many workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// GPUs in each, if no model says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus_per_worker: Option<u32>,
    /// Keys of `[engine]` with other values.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub engine: toml::Table,
    /// Keys of `[timing]` with other values.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub timing: toml::Table,
}

impl GpuEntry {
    /// This entry, and where it says nothing, another one.
    #[must_use]
    pub fn over(self, base: GpuEntry) -> GpuEntry {
        // A date belongs to its price.
        let usd_date = if self.usd_per_hour.is_some() { None } else { base.usd_date };
        GpuEntry {
            memory_bytes: self.memory_bytes.or(base.memory_bytes),
            memory_gb_s: self.memory_gb_s.or(base.memory_gb_s),
            bf16_tflops: self.bf16_tflops.or(base.bf16_tflops),
            fp8_tflops: self.fp8_tflops.or(base.fp8_tflops),
            fp4_tflops: self.fp4_tflops.or(base.fp4_tflops),
            link_gb_s: self.link_gb_s.or(base.link_gb_s),
            usd_per_hour: self.usd_per_hour.or(base.usd_per_hour),
            usd_date: self.usd_date.or(usd_date),
            source: self.source.or(base.source),
        }
    }
}

impl ModelEntry {
    /// This entry, and where it says nothing, another one.
    #[must_use]
    pub fn over(self, base: ModelEntry) -> ModelEntry {
        ModelEntry {
            layers: self.layers.or(base.layers),
            kv_layers: self.kv_layers.or(base.kv_layers),
            hidden_size: self.hidden_size.or(base.hidden_size),
            heads: self.heads.or(base.heads),
            kv_heads: self.kv_heads.or(base.kv_heads),
            head_dim: self.head_dim.or(base.head_dim),
            mla_width: self.mla_width.or(base.mla_width),
            parameters: self.parameters.or(base.parameters),
            active_parameters: self.active_parameters.or(base.active_parameters),
            experts: self.experts.or(base.experts),
            active_experts: self.active_experts.or(base.active_experts),
            weight_format: self.weight_format.or(base.weight_format),
            kv_format: self.kv_format.or(base.kv_format),
            weight_bytes: self.weight_bytes.or(base.weight_bytes),
            replicated_bytes: self.replicated_bytes.or(base.replicated_bytes),
            source: self.source.or(base.source),
        }
    }
}
