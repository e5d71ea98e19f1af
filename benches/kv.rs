//! The KV pool: what one request costs from its lookup to its release, by block size.
//!
//! With blocks of 16 tokens a prompt has 32 times the blocks it has with 512, and should not cost much more.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use fleetsim::kernel::rng::stream;
use fleetsim::model::kv::{BlockLayout, Holding, KvPool};
use fleetsim::model::request::{Prompt, Ticket};
use rand::RngExt;

const TRACE_BLOCK: u32 = 512;

/// Prompts of a few sessions, each of up to 64 trace blocks that all its prompts begin with.
fn prompts() -> Vec<Prompt> {
    let mut rng = stream(4, 0);
    let prompt = |number: u64| {
        let session = rng.random_range(0..40_u64);
        let shared: u64 = rng.random_range(1..64);
        let own = rng.random_range(1..4);
        let shared = (0..shared).map(|block| session << 32 | block);
        let ids: Vec<u64> = shared.chain((0..own).map(|block| number << 48 | block)).collect();
        Prompt::named(ids.len() as u32 * TRACE_BLOCK - 100, ids.into_iter(), 0)
    };
    (1..2000).map(prompt).collect()
}

/// What an engine does to the pool for one request that runs alone.
fn serve(pool: &mut KvPool, prompt: &Prompt, request: u64) -> u32 {
    let layout = pool.layout();
    let hit = pool.lookup(prompt, request, layout.full_blocks(prompt.tokens - 1));
    let mut holding = Holding::default();
    pool.pin(hit, &mut holding);
    pool.take(layout.blocks(prompt.tokens) - hit.blocks, &mut holding);
    pool.publish(prompt, Ticket(0), layout.full_blocks(prompt.tokens), &mut holding);
    pool.release(prompt.tokens, None, &mut holding);
    hit.blocks
}

fn requests(criterion: &mut Criterion) {
    let prompts = prompts();
    let mut group = criterion.benchmark_group("kv_request");
    for block_size in [16, 64, 512] {
        let layout = BlockLayout { block_size, trace_block_size: TRACE_BLOCK };
        // It holds a third of the sessions, so most requests evict something.
        let capacity = 400 * TRACE_BLOCK / block_size;
        let mut pool = KvPool::new(layout, capacity, true, false);
        let mut request = 0;
        group.bench_function(format!("block_{block_size}"), |bencher| {
            bencher.iter(|| {
                request += 1;
                serve(&mut pool, &prompts[request % prompts.len()], request as u64)
            });
        });
    }
    group.finish();
}

/// A lookup that finds all but the last block.
fn lookups(criterion: &mut Criterion) {
    let prompts = prompts();
    let mut group = criterion.benchmark_group("kv_lookup");
    for block_size in [16, 512] {
        let layout = BlockLayout { block_size, trace_block_size: TRACE_BLOCK };
        let capacity = 8000 * TRACE_BLOCK / block_size;
        let mut pool = KvPool::new(layout, capacity, true, false);
        for (request, prompt) in (0..).zip(&prompts) {
            serve(&mut pool, prompt, request);
        }
        let mut request = 0;
        group.bench_function(format!("block_{block_size}"), |bencher| {
            bencher.iter(|| {
                request += 1;
                let prompt = &prompts[request % prompts.len()];
                let limit = layout.full_blocks(prompt.tokens - 1);
                black_box(pool.lookup(prompt, request as u64, limit))
            });
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(20)
}

criterion_group! { name = benches; config = config(); targets = requests, lookups }
criterion_main!(benches);
