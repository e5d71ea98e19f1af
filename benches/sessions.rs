//! A hundred thousand sessions at once: a step of one, and whole runs of users who think and read for a minute between
//! turns, on 256 workers.

mod support;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fleetsim::kernel::rng::stream;
use fleetsim::kernel::{Span, Time};
use fleetsim::model::request::Prompt;
use fleetsim::model::session::{Ask, Opening, Plan, Sessions};
use rand::RngExt;

use support::{job, run};

/// As in `configs/experiments/sessions.toml`, but with three turns on average: about 110,000 sessions.
const CHATS: [&str; 11] = [
    "run.threads=1",
    "workload.preset=custom",
    "workload.turns_wait=true",
    "workload.concurrency=100000",
    "workload.requests=330000",
    "workload.generate.duration=30d",
    "workload.generate.turns=3.0",
    "workload.generate.turn_gap=60s",
    "workload.generate.output_tokens.mean=100.0",
    "engine.num_gpu_blocks=16384",
    "fleet.workers=256",
];

fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sessions");
    let clients: &[&str] = &["client.ttft_timeout=5s", "client.timeout=60s", "client.retries=1"];
    for (name, settings) in [("100000_chats", &[][..]), ("100000_chats_with_clients", clients)] {
        let job = job(&[&CHATS, settings].concat());
        let visited = run(&job).visited.expect("sessions");
        assert_eq!(visited.sessions.live_max, 100_000);
        group.throughput(Throughput::Elements(visited.clients.sent));
        group.bench_function(name, |bencher| bencher.iter(|| run(&job).digest));
    }
    group.finish();
}

/// One call is made and completes, among 100,000 sessions of 8 turns that begin anew when they end.
fn step(criterion: &mut Criterion) {
    let mut rng = stream(3, 0);
    let mut opening = move || {
        let plan = Plan::chain((0..7).map(|_| Span::from_ms(rng.random_range(1000..60_000))));
        let asks = vec![Ask::new(0, Prompt::unique(1), 1); plan.calls()];
        Opening { at: Time::ZERO, name: None, plan, asks }
    };
    let mut sessions = Sessions::new();
    (0..100_000).for_each(|number| {
        sessions.open(Time::ZERO + Span::from_us(300 * number), opening());
    });
    criterion.bench_function("session_step_100000", |bencher| {
        bencher.iter(|| {
            let now = sessions.next_ready().expect("sessions go on");
            let ready = sessions.pop(now).expect("it is ready");
            sessions.complete(now + Span::from_ms(800), ready.call);
            while sessions.live() < 100_000 {
                sessions.open(now, opening());
            }
            now
        });
    });
}

fn config() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(10)
}

criterion_group! { name = benches; config = config(); targets = step, sessions }
criterion_main!(benches);
