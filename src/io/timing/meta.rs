//! What `meta.json` says about a table.

use serde::Deserialize;

/// Where figures come from, and how the memory of a GPU is used. Everything may be missing; what is not known here is
/// ignored.
#[derive(Clone, PartialEq, Default, Debug, Deserialize)]
pub struct Meta {
    /// Who measured, or which program calculated the figures from measurements.
    pub source: Option<String>,
    /// The licence of the figures.
    pub license: Option<String>,
    /// The model's full name.
    pub model: Option<String>,
    /// What a reader should know.
    pub notes: Option<String>,
    /// Whether the figures are calculated from data sheets and not measured.
    #[serde(default)]
    pub estimate: bool,
    /// The memory of each GPU.
    #[serde(rename = "memory_per_gpu")]
    pub memory: Option<Memory>,
}

/// Memory of one GPU.
#[derive(Clone, PartialEq, Default, Debug, Deserialize)]
pub struct Memory {
    /// All of it, in bytes.
    #[serde(rename = "total_gpu_capacity_bytes")]
    pub total_bytes: Option<u64>,
    /// What is left for the KV cache, in bytes.
    #[serde(rename = "total_kv_size_bytes")]
    pub kv_bytes: Option<u64>,
    /// Bytes of KV cache that a token takes on each GPU.
    #[serde(rename = "kv_size_per_token_bytes")]
    pub kv_bytes_per_token: Option<u64>,
    /// Tokens that the KV cache holds.
    #[serde(rename = "total_kv_size_tokens")]
    pub kv_tokens: Option<u64>,
    #[serde(rename = "memory_breakdown")]
    breakdown: Option<Breakdown>,
    #[serde(rename = "memory_breakdown_gib")]
    breakdown_gib: Option<BreakdownGib>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
struct Breakdown {
    weights_bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
struct BreakdownGib {
    weights: Option<f64>,
}

impl Memory {
    /// What the weights take, in bytes.
    pub fn weights_bytes(&self) -> Option<u64> {
        let gib = || Some((self.breakdown_gib.as_ref()?.weights? * (1_u64 << 30) as f64) as u64);
        self.breakdown.as_ref().and_then(|parts| parts.weights_bytes).or_else(gib)
    }
}
