//! Pass times from data sheets, for shapes that nobody has measured: an estimate, and marked as one.
//!
//! Per pass of T tokens, with all sizes those of one GPU and the constants below:
//!
//! ```text
//! other              = layers x LAYER + weight reads / memory + weight operations / matrix units
//!                      + T x hidden x 2 bytes x ACTIVATIONS x layers / memory
//!                      + 2 x layers x (ALL_REDUCE + 2 (tp - 1) / tp x T x hidden x 2 bytes / link)
//!                      + 2 x layers x (ALL_REDUCE + active experts x (1 - 1 / ranks) / tp x T x hidden x 2 bytes / link)
//! prefill attention  = layers x PREFILL_LAYER + operations / matrix units + KV reads / memory
//! decode attention   = layers x DECODE_LAYER + KV reads / memory
//! ```
//!
//! The last line is for more than one attention rank, and T the tokens of one of them. Weights of experts are read as far as T tokens that choose at random touch them: 1 - (1 - active / total)^T. The form is
//! the roofline of Williams, Waterman and Patterson (CACM 2009) without overlap, with a time per layer for kernels that are
//! too small to fill a GPU, and ring all-reduces. The constants are fitted to measured tables, but for the shares of the link
//! and of the KV reads of prefill, which are chosen; docs/catalog.md tells how, and how close that is.

use crate::model::deployment::{Deployment, Format, Llm};
use crate::model::timing::{DecodeRow, Identity, MS_MAX, OtherRow, PrefillRow, Table};

/// Share of the memory bandwidth that reading weights reaches.
const WEIGHT_READS: f64 = 0.75;
/// Share of the matrix throughput that dense layers reach.
const DENSE: f64 = 0.86;
/// Share of the matrix throughput that experts reach, whose batches are small and uneven.
const EXPERTS: f64 = 0.10;
/// Seconds per layer for small kernels.
const LAYER: f64 = 3.8e-6;
/// How often the residual stream goes through memory per layer.
const ACTIVATIONS: f64 = 24.0;
/// Seconds that an all-reduce takes whatever its size.
const ALL_REDUCE: f64 = 22e-6;
/// Share of the link bandwidth that all-reduces reach.
const LINK: f64 = 0.7;
/// Share of the 16-bit matrix throughput that prefill attention reaches.
const PREFILL_ATTENTION: f64 = 0.58;
/// Seconds per layer of prefill attention.
const PREFILL_LAYER: f64 = 39e-6;
/// Seconds per layer of decode attention.
const DECODE_LAYER: f64 = 11e-6;
/// Share of the memory bandwidth that reading the KV cache reaches.
const KV_READS: f64 = 0.89;

/// Tokens of the largest pass.
const TOKENS_MAX: u32 = 1 << 17;
/// Tokens of the largest pass that only decodes.
const DECODE_MAX: u32 = 1024;
/// The longest context.
const CONTEXT_MAX: u32 = 1 << 20;

/// A table of estimates, with as many points as linear interpolation needs.
pub fn estimate(deployment: &Deployment) -> Table {
    let identity = Identity {
        gpu: deployment.gpu.name.clone(),
        model: deployment.model.name.clone(),
        backend: "roofline".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tp: deployment.tp,
        source: "estimated from data sheets".to_owned(),
        estimate: true,
    };
    let other = steps(16, TOKENS_MAX).map(|tokens| {
        let ms = ms(deployment.other(tokens));
        OtherRow { tokens, prefill_ms: ms, decode_ms: (tokens <= DECODE_MAX).then_some(ms) }
    });
    let mut prefill = Vec::new();
    for new_tokens in steps(4, TOKENS_MAX) {
        for batch in
            (0..=7).map(|power| 1 << power).filter(|batch| batch * new_tokens <= TOKENS_MAX)
        {
            // Linear in the prefix, so its ends suffice.
            for prefix_tokens in [0, CONTEXT_MAX] {
                let seconds = deployment.prefill_attention(batch, new_tokens, prefix_tokens);
                prefill.push(PrefillRow { batch, new_tokens, prefix_tokens, attn_ms: ms(seconds) });
            }
        }
    }
    let mut decode = Vec::new();
    for batch in [1, DECODE_MAX] {
        // Linear in both.
        for context_tokens in [1, CONTEXT_MAX] {
            let seconds = deployment.decode_attention(batch, context_tokens);
            decode.push(DecodeRow { batch, context_tokens, attn_ms: ms(seconds) });
        }
    }
    Table::new(identity, other.collect(), &prefill, &decode).expect("a grid of numbers in range")
}

/// Whole numbers from 1 to `max`, a power of two: all up to `parts`, then so many in every octave.
fn steps(parts: u32, max: u32) -> impl Iterator<Item = u32> {
    let next =
        move |&value: &u32| Some(value + (1 << value.ilog2()) / parts.min(1 << value.ilog2()));
    std::iter::successors(Some(1), next).take_while(move |&value| value <= max)
}

/// Seconds as the milliseconds of a table.
fn ms(seconds: f64) -> f64 {
    (seconds * 1e3).min(MS_MAX)
}

impl Llm {
    /// Parameters that every token passes through, and those of all experts.
    fn parameters(&self) -> (f64, f64) {
        let (all, active) = (self.parameters as f64, self.active_parameters as f64);
        let Some(experts) = self.experts else { return (all, 0.0) };
        let share = f64::from(experts.active) / f64::from(experts.total);
        let in_experts = ((all - active) / (1.0 - share)).min(all);
        (all - in_experts, in_experts)
    }

    /// What the weights of all experts take.
    pub(super) fn expert_bytes(&self) -> f64 {
        self.parameters().1 * self.weight_bytes as f64 / self.parameters as f64
    }
}

/// `base` to the power of `exponent`, in an order of multiplications that is the same everywhere.
fn power(base: f64, exponent: u32) -> f64 {
    let (mut result, mut square, mut left) = (1.0, base, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result *= square;
        }
        square *= square;
        left >>= 1;
    }
    result
}

impl Deployment {
    fn memory_per_second(&self) -> f64 {
        self.gpu.memory_gb_s * 1e9
    }

    /// Seconds for everything but attention.
    pub(super) fn other(&self, tokens: u32) -> f64 {
        let (model, tp, tokens) = (&self.model, f64::from(self.tp), tokens);
        let (layers, count) = (f64::from(model.layers), f64::from(tokens));
        let (dense, in_experts) = model.parameters();
        // Models with 4-bit experts have 16-bit weights around them.
        let format = match model.weight_format {
            Format::Fp4 => Format::Bf16,
            format => format,
        };
        let reads = |bytes: f64| bytes / tp / (self.memory_per_second() * WEIGHT_READS);
        let mut seconds = layers * LAYER
            + reads(dense * format.bytes())
            + 2.0 * dense * count / tp / (self.gpu.flops(format) * DENSE);
        if let Some(experts) = model.experts {
            let share = f64::from(experts.active) / f64::from(experts.total);
            let flops = self.gpu.flops(model.weight_format) * EXPERTS;
            // The tokens of all ranks meet the experts of all ranks.
            let untouched = power(1.0 - share, tokens.saturating_mul(self.attention_dp));
            seconds += reads(model.expert_bytes() * (1.0 - untouched))
                / f64::from(self.attention_dp)
                + 2.0 * in_experts * share * count / tp / flops;
        }
        let stream = count * f64::from(model.hidden_size) * 2.0;
        seconds += self.exchange(stream);
        seconds += layers * stream * ACTIVATIONS / self.memory_per_second();
        if self.tp > 1 {
            let sent = 2.0 * (tp - 1.0) / tp * stream;
            seconds += 2.0 * layers * (ALL_REDUCE + sent / (self.gpu.link_gb_s * 1e9 * LINK));
        }
        seconds
    }

    /// Seconds to send a residual stream of so many bytes to the experts of other ranks, and what they make of it back.
    fn exchange(&self, stream: f64) -> f64 {
        let Some(experts) = self.model.experts.filter(|_| self.attention_dp > 1) else {
            return 0.0;
        };
        let elsewhere = 1.0 - 1.0 / f64::from(self.attention_dp);
        let sent = stream / f64::from(self.tp) * f64::from(experts.active) * elsewhere;
        let once = ALL_REDUCE + sent / (self.gpu.link_gb_s * 1e9 * LINK);
        2.0 * f64::from(self.model.layers) * once
    }

    /// Seconds to read so many tokens of KV.
    fn kv_reads(&self, tokens: f64) -> f64 {
        // A table is of all layers, whatever the stages.
        let bytes = Deployment { pp: 1, ..self.clone() }.kv_bytes_per_token();
        tokens * bytes / (self.memory_per_second() * KV_READS)
    }

    /// Seconds for the attention of `batch` requests that each compute `new` tokens behind `prefix` ones.
    pub(super) fn prefill_attention(&self, batch: u32, new: u32, prefix: u32) -> f64 {
        let model = &self.model;
        let (batch, new, prefix) = (f64::from(batch), f64::from(new), f64::from(prefix));
        // A key of latent attention is 192 wide and a value 128, whatever is cached.
        let width = if model.mla_width.is_some() { 160.0 } else { f64::from(model.head_dim) };
        let heads = f64::from(model.heads) / f64::from(self.tp);
        // Every token looks at all before it and at itself.
        let pairs = batch * new * (prefix + f64::midpoint(new, 1.0));
        let operations = 4.0 * heads * width * pairs * f64::from(model.kv_layers);
        let matrix = self.gpu.flops(Format::Bf16) * PREFILL_ATTENTION;
        f64::from(model.layers) * PREFILL_LAYER
            + operations / matrix
            + self.kv_reads(batch * (prefix + new))
    }

    /// Seconds for the attention of `batch` requests that each read `context` tokens.
    pub(super) fn decode_attention(&self, batch: u32, context: u32) -> f64 {
        let tokens = f64::from(batch) * f64::from(context);
        f64::from(self.model.layers) * DECODE_LAYER + self.kv_reads(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_dense_and_end_at_the_largest() {
        let steps: Vec<u32> = steps(4, 64).collect();
        assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]);
    }

    #[test]
    fn powers_are_powers() {
        assert!((power(0.75, 5) - 0.237_304_687_5).abs() < 1e-15);
        assert!((power(0.5, 0) - 1.0).abs() < 1e-15 && power(0.5, 5000) < 1e-300);
    }
}
