//! The parallel executors on toys that do next to nothing: what a phase costs, and events per second.
//!
//! Two threads need two cores that nobody else uses: with a third one at work they wait for one another's time slices.

use std::ops::ControlFlow;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fleetsim::kernel::toys::{Digest, StarSpec, Toy, star};
use fleetsim::kernel::{
    Observer, ParallelOptions, Span, Time, empty_phases, run_asynchronous, run_parallel,
    run_sequential,
};

const PHASES: u32 = 100_000;

/// Nothing but the gate: claiming, finishing, opening, waiting.
fn empty(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("empty_phase");
    group.throughput(Throughput::Elements(u64::from(PHASES)));
    for threads in [1, 2] {
        group.bench_function(format!("{threads}_threads"), |bencher| {
            bencher.iter(|| empty_phases(threads, PHASES));
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

/// PHOLD on a star: half of the jobs return from a spoke at once, half after a tick or more. With the same number of jobs
/// in flight, a shorter lookahead makes phases shorter.
fn spec(jobs: u32, events: u64) -> StarSpec {
    let (lookahead, tick) = (Span::from_ms(1), Span::from_us(100));
    // A round trip is 2 lookaheads and 3 or 4 ticks on average, with 2 to 3 events.
    let end = Time::ZERO + (lookahead * 2 + tick * 4) * (events / (u64::from(jobs) * 2));
    StarSpec {
        family: 1,
        spokes: 64,
        jobs,
        paced: false,
        seed: 3,
        hub: lookahead,
        spoke: lookahead,
        tick,
        end,
    }
}

fn phold(criterion: &mut Criterion) {
    for jobs in [16, 256, 4096] {
        let toys = || star(spec(jobs, 200_000));
        let alone = |mut lps: Vec<Toy>| {
            let finished = run_sequential(&mut lps, &mut Digest::default(), &Nobody);
            finished.expect("toys do not fail").events
        };
        let mut group = criterion.benchmark_group(format!("star_phold_{jobs}_jobs"));
        group.throughput(Throughput::Elements(alone(toys())));
        group.bench_function("sequential", |bencher| {
            bencher.iter_batched(toys, alone, BatchSize::LargeInput);
        });
        for (threads, asynchronous) in [(1, false), (2, false), (1, true), (2, true)] {
            let run = |mut lps: Vec<Toy>| {
                let mut recorders = vec![Digest::default(); threads];
                let run = if asynchronous { run_asynchronous } else { run_parallel };
                let options = ParallelOptions { spokes_per_group: 8, ..ParallelOptions::default() };
                let finished = run(&mut lps, &mut recorders, &Nobody, options);
                finished.expect("toys do not fail").events
            };
            let executor = if asynchronous { "asynchronous" } else { "phases" };
            group.bench_function(format!("{executor}_{threads}_threads"), |bencher| {
                bencher.iter_batched(toys, run, BatchSize::LargeInput);
            });
        }
        group.finish();
    }
}

fn config() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(20)
}

criterion_group! { name = benches; config = config(); targets = empty, phold }
criterion_main!(benches);
