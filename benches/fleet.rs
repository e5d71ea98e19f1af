//! Whole runs without files: an hour of generated chats in the cases that are compared with the peer, and equal load per
//! worker on 8 and on 1,024 workers.

mod support;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fleetsim::fleet::{Executor, Threads};

use support::{job, run};

/// The cases of `docs/performance.md`: an hour of chats, with the settings that each adds.
const HOUR: [(&str, &[&str]); 6] = [
    ("rr8_block512", &["engine.block_size=512", "engine.num_gpu_blocks=16384"]),
    ("rr8_block16", &["engine.block_size=16", "engine.num_gpu_blocks=524288"]),
    ("rr2over", &["engine.block_size=512", "engine.num_gpu_blocks=600", "fleet.workers=2"]),
    ("conc256", &["engine.block_size=512", "workload.concurrency=256"]),
    ("kv8", &["engine.block_size=512", "router.policy=kv"]),
    (
        "kv1024_128x",
        &[
            "engine.block_size=512",
            "router.policy=kv",
            "fleet.workers=1024",
            "workload.speedup=128",
        ],
    ),
];

const IDEAL: [&str; 4] = [
    "run.threads=1",
    "workload.preset=conversation",
    "control_plane.dispatch_latency=0",
    "control_plane.feedback_latency=0",
];

fn hour(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hour");
    for (name, settings) in HOUR {
        let job = job(&[&IDEAL, settings].concat());
        group.throughput(Throughput::Elements(job.traffic.requests().unwrap_or(0)));
        group.bench_function(name, |bencher| bencher.iter(|| run(&job).digest));
    }
    group.finish();
}

fn scaling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scaling");
    for policy in ["round-robin", "kv"] {
        let router = format!("router.policy={policy}");
        let small =
            ["workload.preset=conversation", "run.threads=1", "workload.requests=1000", &router];
        let large = [
            &small[..2],
            &["workload.requests=12800", "workload.copies=128", "fleet.workers=1024", &router],
        ]
        .concat();
        for job in [job(&small), job(&large)] {
            group.throughput(Throughput::Elements(job.traffic.shape.requests.unwrap_or(0)));
            let name = format!("{policy}_{}_workers", job.fleet.workers());
            group.bench_function(name, |bencher| bencher.iter(|| run(&job).digest));
        }
    }
    group.finish();
}

/// The same load per worker on fleets of four sizes, with the parallel executor on every power of two of threads that the
/// machine has; KV routing also in cells, a router each. Rows of equal size are strong scaling; from 1,024 workers on one thread to 4,096 on four is weak scaling.
fn threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("threads");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (policy, cells) in [("round-robin", 1), ("kv", 1), ("kv", 16), ("kv", 64)] {
        for workers in [64_u64, 1024, 4096, 16384] {
            let mut job = job(&[
                "workload.preset=conversation",
                "workload.copy_spread=30s",
                &format!("workload.copies={}", workers / 8),
                &format!("workload.requests={}", 20 * workers),
                &format!("fleet.workers={workers}"),
                &format!("router.policy={policy}"),
                &format!("fleet.cells={cells}"),
            ]);
            group.throughput(Throughput::Elements(20 * workers));
            for threads in (0..).map(|power| 1 << power).take_while(|&threads| threads <= cores) {
                job.fleet.execution.threads = Threads::Count(threads);
                job.fleet.execution.options.executor = Executor::Phases;
                let cells = if cells == 1 { String::new() } else { format!("_{cells}_cells") };
                let name = format!("{policy}_{workers}_workers{cells}_{threads}_threads");
                group.bench_function(name, |bencher| bencher.iter(|| run(&job).digest));
            }
        }
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(10)
}

criterion_group! { name = benches; config = config(); targets = hour, scaling, threads }
criterion_main!(benches);
