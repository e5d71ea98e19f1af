//! The kernel alone: the message queue, the tree of wakes, and events per second of the sequential executor on toys.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fleetsim::kernel::rng::stream;
use fleetsim::kernel::toys::{Digest, Toy, phold, tandem};
use fleetsim::kernel::tree::WinnerTree;
use fleetsim::kernel::{
    Class, Envelope, EventKey, LpId, MessageQueue, Observer, Span, Time, run_sequential,
};
use rand::RngExt;

/// The hold model: the earliest message leaves, another one comes, and the queue stays as long as it is.
fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue_hold");
    for len in [16, 1024, 65_536] {
        let mut rng = stream(1, len);
        let mut sequence = 0;
        let mut envelope = |now: Time| {
            sequence += 1;
            let time = now + Span::from_ns(rng.random_range(0..2_000_000));
            let key = EventKey::new(time, 0, Class::new(1), LpId::new(0), sequence);
            Envelope { key, to: LpId::new(0), message: 0_u64 }
        };
        let mut queue = MessageQueue::default();
        (0..len).for_each(|_| queue.push(envelope(Time::ZERO)));
        group.bench_function(len.to_string(), |bencher| {
            bencher.iter(|| {
                let next = queue.pop().expect("as many come as go");
                queue.push(envelope(next.key.time()));
            });
        });
    }
    group.finish();
}

fn tree(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("winner_tree_hold");
    for owners in [8, 1024, 4096] {
        let mut rng = stream(2, owners);
        let mut tree = WinnerTree::new(owners as usize, (u64::MAX, 0));
        for owner in 0..owners as u32 {
            tree.set(owner, (rng.random_range(0..2_000_000), owner));
        }
        group.bench_function(owners.to_string(), |bencher| {
            bencher.iter(|| {
                let (value, owner) = tree.min();
                let later = black_box(value + rng.random_range(0..2_000_000));
                tree.set(owner, (later, owner));
            });
        });
    }
    group.finish();
}

struct Nobody;

impl Observer<Digest> for Nobody {
    fn poll(&self, _: Time, _: &mut Digest) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn run(mut lps: Vec<Toy>) -> u64 {
    let finished = run_sequential(&mut lps, &mut Digest::default(), &Nobody);
    finished.expect("toys do not fail").events
}

/// Events per second of the executor, with toys that do next to nothing.
fn executor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sequential");
    let ms = Span::from_ms(1);
    for lps in [9, 1025] {
        let phold = || phold(lps, 4, 3, ms, Time::ZERO + Span::from_ms(20_000 / u64::from(lps)));
        group.throughput(Throughput::Elements(run(phold())));
        group.bench_function(format!("phold_{lps}"), |bencher| {
            bencher.iter_batched(phold, run, BatchSize::LargeInput);
        });
    }
    let tandem = || tandem(1000, 100, &[90, 50, 99, 10]);
    group.throughput(Throughput::Elements(run(tandem())));
    group.bench_function("tandem", |bencher| {
        bencher.iter_batched(tandem, run, BatchSize::LargeInput);
    });
    group.finish();
}

fn config() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(20)
}

criterion_group! { name = benches; config = config(); targets = queue, tree, executor }
criterion_main!(benches);
