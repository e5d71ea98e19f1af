//! What the tests of the Planner share.

use crate::kernel::time::{Span, Time};
use crate::model::engine::{AdmissionRoom, DecodeKv, EngineConfig, FirstToken, PreemptionMode};
use crate::model::kv::BlockLayout;
use crate::model::lifecycle::Counts;
use crate::model::planner::{EngineModel, Observation, Traffic, Window, WorkerLoad};
use crate::model::timing::{Polynomial, TimingModel};

/// An engine with a pool of 67,200 tokens, batches of 256 and 2,048 tokens.
pub(super) fn engine(timing: TimingModel) -> EngineModel {
    EngineModel::new(&EngineConfig {
        layout: BlockLayout { block_size: 64, trace_block_size: 512 },
        num_gpu_blocks: 1050,
        max_num_seqs: 256,
        max_num_batched_tokens: 2048,
        max_whole_tokens: 2048,
        max_model_len: None,
        enable_prefix_caching: true,
        enable_chunked_prefill: true,
        preemption_mode: PreemptionMode::Lifo,
        admission_room: AdmissionRoom::Prompt,
        first_token: FirstToken::Prefill,
        decode_kv: DecodeKv::Context,
        timing,
        speedup_ratio: 1.0,
        decode_speedup_ratio: 1.0,
    })
}

/// 10 ms for prefill, 20 ms for decode, whatever there is to do.
pub(super) fn constant() -> EngineModel {
    engine(TimingModel::Constant { prefill: Span::from_ms(10), decode: Span::from_ms(20) })
}

/// The default curves.
pub(super) fn polynomial() -> EngineModel {
    engine(TimingModel::Polynomial(Polynomial::default()))
}

/// A minute of requests like these, at a rate of `requests` / 60 s.
pub(super) fn traffic(requests: u64, isl: u64, osl: u64) -> Traffic {
    Traffic {
        requests,
        prompt_tokens: requests * isl,
        completed: requests,
        output_tokens: requests * osl,
        ..Traffic::default()
    }
}

/// A look after a minute, at workers that are all ready.
pub(super) fn look(traffic: Traffic, loads: &[WorkerLoad]) -> Observation<'_> {
    let ready = loads.len() as u32;
    Observation {
        now: Time::ZERO + Span::from_secs(60),
        interval: Span::from_secs(60),
        window: Window { length: Span::from_secs(60), traffic },
        counts: Counts { ready, ..Counts::default() },
        target: ready,
        waiting: 0,
        loads,
        usual_pass: None,
    }
}
