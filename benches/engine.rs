//! One engine: a decode run of 256 passes, and a prefill pass, by size of the batch.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fleetsim::kernel::{Span, Time};
use fleetsim::model::engine::{
    AdmissionRoom, DecodeKv, Effects, Engine, EngineConfig, EngineShape, FirstToken, Outcome,
    PreemptionMode,
};
use fleetsim::model::kv::BlockLayout;
use fleetsim::model::metrics::{Recorder, Slo};
use fleetsim::model::request::{Prompt, Request, WorkerId};
use fleetsim::model::timing::{Polynomial, TimingModel};

const PASSES: u32 = 256;

fn engine() -> Engine {
    let config = EngineConfig {
        layout: BlockLayout { block_size: 64, trace_block_size: 512 },
        num_gpu_blocks: 16_384,
        max_num_seqs: 256,
        max_num_batched_tokens: 8192,
        max_whole_tokens: 8192,
        max_model_len: None,
        enable_prefix_caching: true,
        enable_chunked_prefill: true,
        preemption_mode: PreemptionMode::Lifo,
        admission_room: AdmissionRoom::Prompt,
        first_token: FirstToken::Prefill,
        decode_kv: DecodeKv::Context,
        timing: TimingModel::Polynomial(Polynomial::default()),
        speedup_ratio: 1.0,
        decode_speedup_ratio: 1.0,
    };
    Engine::new(WorkerId(0), Arc::new(EngineShape::new(config, 1)), false)
}

fn recorder() -> Recorder {
    Recorder::new(Span::from_secs(10), Slo::default())
}

fn request(id: u64, prompt: Prompt, output_tokens: u32) -> Request {
    Request::new(id, Time::ZERO, prompt, output_tokens)
}

/// A step whose outcome nobody reads.
fn step(engine: &mut Engine, now: Time, recorder: &mut Recorder) -> Option<Time> {
    engine.step(now, Effects { recorder, outcome: &mut Outcome::default() })
}

/// An engine whose next step accounts for a run of [`PASSES`] passes and plans another one.
fn decoding(batch: u64) -> (Engine, Recorder, Time) {
    let (mut engine, mut recorder) = (engine(), recorder());
    for id in 0..batch {
        let request = request(id, Prompt::unique(30), 3 * PASSES);
        engine.arrive(Time::ZERO, request, &recorder);
    }
    let end = step(&mut engine, Time::ZERO, &mut recorder).expect("a prefill pass");
    let end = step(&mut engine, end, &mut recorder).expect("a run of decode passes");
    (engine, recorder, end)
}

fn decode_run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode_run_256");
    for batch in [1, 16, 256] {
        let (mut engine, mut recorder, end) = decoding(batch);
        let passes = engine.work().passes;
        step(&mut engine, end, &mut recorder);
        assert_eq!(engine.work().passes - passes, u64::from(PASSES), "nobody came or went");
        group.throughput(Throughput::Elements(u64::from(PASSES)));
        group.bench_function(format!("batch_{batch}"), |bencher| {
            let next = |(mut engine, mut recorder, end): (Engine, Recorder, Time)| {
                step(&mut engine, end, &mut recorder);
                (engine, recorder)
            };
            bencher.iter_batched(|| decoding(batch), next, BatchSize::LargeInput);
        });
    }
    group.finish();
}

/// A pass that admits prompts of 8,192 tokens together.
fn prefill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prefill_pass");
    for prompts in [1, 16, 128] {
        let waiting = || {
            let (mut engine, recorder) = (engine(), recorder());
            for id in 0..prompts {
                let tokens = 8192 / prompts as u32;
                let ids = (0..u64::from(tokens.div_ceil(512))).map(|block| id << 32 | block);
                let prompt = Prompt::named(tokens, ids.collect::<Vec<_>>().into_iter(), 0);
                engine.arrive(Time::ZERO, request(id, prompt, 100), &recorder);
            }
            (engine, recorder)
        };
        group.throughput(Throughput::Elements(prompts));
        group.bench_function(format!("prompts_{prompts}"), |bencher| {
            let next = |(mut engine, mut recorder): (Engine, Recorder)| {
                step(&mut engine, Time::ZERO, &mut recorder);
                (engine, recorder)
            };
            bencher.iter_batched(waiting, next, BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(20)
}

criterion_group! { name = benches; config = config(); targets = decode_run, prefill }
criterion_main!(benches);
