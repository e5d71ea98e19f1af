//! One query of a timing table, and a run of decode passes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fleetsim::io::timing::Library;
use fleetsim::kernel::Span;
use fleetsim::model::timing::measured::Scales;
use fleetsim::model::timing::{
    DecodeLoad, Measured, PassTimer, Polynomial, PrefillLoad, TimingModel,
};

const NAME: &str = "h200_sxm/qwen3-32b/vllm-0.12.0-tp2";

/// Queries in a row: their loads differ, so that branches and caches see what a simulation makes them see.
const QUERIES: u64 = 1024;

fn polynomial() -> PassTimer {
    PassTimer::new(TimingModel::Polynomial(Polynomial::default()), 16_384 * 512, 1.0, 1.0)
}

fn timer() -> PassTimer {
    let library = Library::open(None).expect("the built-in tables");
    let measurement = library.load(library.named(NAME).expect("it ships")).expect("it is right");
    let timing = Measured::new(measurement.table, Scales::default(), Span::from_us(500));
    PassTimer::new(TimingModel::Measured(timing), 1, 1.0, 1.0)
}

/// Loads that jump about: the middle bits of a product.
fn number(query: u64, limit: u64) -> u64 {
    ((query + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % limit
}

fn prefill(query: u64) -> PrefillLoad {
    let requests = 1 + number(query, 8) as u32;
    let prefix_tokens = u64::from(requests) * number(query + 7, 40_000);
    let tokens = prefix_tokens + u64::from(requests) + number(query + 3, 8000);
    PrefillLoad { requests, tokens, prefix_tokens }
}

fn decode(query: u64) -> DecodeLoad {
    let requests = 1 + number(query + 11, 256) as u32;
    DecodeLoad { requests, kv_tokens: u64::from(requests) * (1 + number(query + 13, 30_000)) }
}

/// The loads of a pass, by query.
type Loads = fn(u64) -> (PrefillLoad, DecodeLoad);

fn passes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pass");
    group.throughput(Throughput::Elements(QUERIES));
    let kinds: [(&str, Loads); 3] = [
        ("prefill", |query| (prefill(query), DecodeLoad::default())),
        ("mixed", |query| (prefill(query), decode(query))),
        ("decode", |query| (PrefillLoad::default(), decode(query))),
    ];
    for (name, loads) in kinds {
        let loads: Vec<_> = (0..QUERIES).map(loads).collect();
        for (model, timer) in [("polynomial", polynomial()), ("measured", timer())] {
            group.bench_function(format!("{model}/{name}"), |bencher| {
                bencher.iter(|| {
                    let spans = loads.iter().map(|&(prefill, decode)| timer.pass(prefill, decode));
                    spans.fold(0, |sum, span| sum ^ span.as_ns())
                });
            });
        }
    }
    group.finish();
}

fn decode_run(criterion: &mut Criterion) {
    let timer = timer();
    let mut group = criterion.benchmark_group("measured_decode_run");
    for passes in [16, 256] {
        let mut run = vec![0.0; passes];
        group.throughput(Throughput::Elements(passes as u64));
        group.bench_function(format!("passes_{passes}"), |bencher| {
            let mut query = 0;
            bencher.iter(|| {
                query += 1;
                let load = decode(query);
                timer.decode_run(black_box(load), load.requests, &mut run)
            });
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(20)
}

criterion_group! { name = benches; config = config(); targets = passes, decode_run }
criterion_main!(benches);
