//! Measured timing: parts, edges, runs, bounds.

use std::sync::Arc;

use rand::RngExt;

use super::*;
use crate::kernel::rng::{Stream, stream};
use crate::model::timing::{PassTimer, TimingModel};

mod inside;
mod reference;
mod rough;

fn timer(table: Table, scales: Scales, overhead: Span, speedup: f64) -> PassTimer {
    let measured = Measured::new(Arc::new(table), scales, overhead);
    PassTimer::new(TimingModel::Measured(measured), 1, speedup, speedup * 1.5)
}

fn plain(table: Table) -> PassTimer {
    let measured = Measured::new(Arc::new(table), Scales::default(), Span::ZERO);
    PassTimer::new(TimingModel::Measured(measured), 1, 1.0, 1.0)
}

fn prefill(requests: u32, new: u64, prefix: u64) -> PrefillLoad {
    let prefix_tokens = u64::from(requests) * prefix;
    PrefillLoad { requests, tokens: prefix_tokens + u64::from(requests) * new, prefix_tokens }
}

fn decode(requests: u32, kv_tokens: u64) -> DecodeLoad {
    DecodeLoad { requests, kv_tokens }
}

const NO_PREFILL: PrefillLoad = PrefillLoad { requests: 0, tokens: 0, prefix_tokens: 0 };
const NO_DECODE: DecodeLoad = DecodeLoad { requests: 0, kv_tokens: 0 };

fn prefill_attention(b: u32, n: u32, p: u32) -> f64 {
    0.1 + f64::from(b * n) * (f64::from(p) + 100.0) * 1e-6
}

fn decode_attention(b: u32, c: u32) -> f64 {
    0.05 + f64::from(b) * f64::from(c) * 1e-5
}

fn rows(tokens: &[u32]) -> (Vec<OtherRow>, Vec<PrefillRow>, Vec<DecodeRow>) {
    let other = tokens.iter().map(|&tokens| OtherRow {
        tokens,
        prefill_ms: 5.0 + f64::from(tokens) * 0.01,
        decode_ms: (tokens <= 256).then_some(4.0 + f64::from(tokens) * 0.01),
    });
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for batch in [1, 2, 8] {
        for new_tokens in [1, 64, 1024, 4096] {
            for prefix_tokens in [0, 512, 8192] {
                let attn_ms = prefill_attention(batch, new_tokens, prefix_tokens);
                if batch * new_tokens <= 8192 {
                    prefill.push(PrefillRow { batch, new_tokens, prefix_tokens, attn_ms });
                }
            }
        }
        for context_tokens in [1, 1000, 50_000] {
            let attn_ms = decode_attention(batch, context_tokens);
            if batch * context_tokens < 400_000 {
                decode.push(DecodeRow { batch, context_tokens, attn_ms });
            }
        }
    }
    (other.collect(), prefill, decode)
}

fn table() -> Table {
    let (other, prefill, decode) = rows(&[1, 2, 16, 128, 256, 512, 8192]);
    Table::new(Identity::default(), other, &prefill, &decode).unwrap()
}

#[track_caller]
fn near(span: Span, ms: f64) {
    assert!((span.as_ns() as f64 - ms * 1e6).abs() < 1.0, "{span} for {ms} ms");
}

/// The figures are straight lines in most directions, so what is between them is known as well.
#[test]
fn a_pass_is_the_sum_of_its_parts() {
    let timer = plain(table());
    for (b, n, p) in [(1, 64, 0), (2, 1024, 512), (1, 2000, 8192), (4, 100, 300)] {
        let other = 5.0 + f64::from(b * n) * 0.01;
        let load = prefill(b, u64::from(n), u64::from(p));
        near(timer.pass(load, NO_DECODE), other + prefill_attention(b, n, p));
        assert!(!timer.is_extrapolated(load, NO_DECODE));
        let (requests, context) = (5, 700);
        let mixed = other + f64::from(requests) * 0.01 + prefill_attention(b, n, p);
        let load = (load, decode(requests, u64::from(requests * context)));
        near(timer.pass(load.0, load.1), mixed + decode_attention(requests, context));
        assert!(!timer.is_extrapolated(load.0, load.1));
    }
    for (b, c) in [(1, 1), (2, 1000), (3, 777), (8, 900)] {
        let load = decode(b, u64::from(b * c));
        let expected = 4.0 + f64::from(b) * 0.01 + decode_attention(b, c);
        near(timer.pass(NO_PREFILL, load), expected);
        // Whatever is cached, nothing new means that the pass only decodes.
        near(timer.pass(prefill(1, 0, 100), load), expected);
    }
    assert_eq!(timer.pass(NO_PREFILL, NO_DECODE), Span::ZERO);
}

/// A summed pass takes as long as its parts alone, with the overhead once; passes of one kind are what they were.
#[test]
fn a_summed_pass_takes_as_long_as_two() {
    let overhead = Span::from_us(700);
    let fused = Measured::new(Arc::new(table()), Scales::default(), overhead);
    let summed = fused.clone().with_mixed_pass(MixedPass::Sum);
    assert_ne!(fused, summed);
    let timer = |measured| PassTimer::new(TimingModel::Measured(measured), 1, 1.0, 1.0);
    let (fused, summed) = (timer(fused), timer(summed));
    for load in [prefill(2, 1024, 512), prefill(1, 1, 0)] {
        for decoding in [decode(1, 10), decode(8, 5000)] {
            let alone = [(load, NO_DECODE), (NO_PREFILL, decoding)];
            let [one, other] = alone.map(|(load, decoding)| summed.pass(load, decoding));
            near(summed.pass(load, decoding), (one + other).as_ms() - 0.7);
            assert!(summed.pass(load, decoding) > fused.pass(load, decoding));
            for (load, decoding) in alone {
                assert_eq!(summed.pass(load, decoding), fused.pass(load, decoding));
            }
        }
    }
    // The curve of passes that only decode ends at 256 requests; the other one goes on.
    let (load, decoding) = (prefill(1, 64, 0), decode(8, 800));
    assert!(!summed.is_extrapolated(load, decoding) && !fused.is_extrapolated(load, decoding));
    assert!(summed.is_extrapolated(load, decode(300, 300)));
}

/// Two stages: the pass of a batch takes what half of it takes on all layers, and the way between them.
#[test]
fn stages_share_a_batch() {
    let measured = Measured::new(Arc::new(table()), Scales::default(), Span::ZERO);
    let split = Split { ranks: 1, stages: 2, chunk: 1024, hop_ns_per_token: 500.0 };
    let whole = plain(table());
    let timer = PassTimer::new(TimingModel::Measured(measured.with_split(split)), 1, 1.0, 1.0);
    let hop = |tokens: u64| tokens as f64 * 500e-6;
    for (requests, kv_tokens) in [(8, 6400), (2, 1000)] {
        let half = decode(requests / 2, kv_tokens / 2);
        let expected = whole.pass(NO_PREFILL, half).as_ms() + hop(u64::from(requests) / 2);
        near(timer.pass(NO_PREFILL, decode(requests, kv_tokens)), expected);
        let both = (prefill(1, 300, 512), half);
        let expected = whole.pass(both.0, both.1).as_ms() + hop(300 + u64::from(requests) / 2);
        near(timer.pass(prefill(2, 300, 512), decode(requests, kv_tokens)), expected);
    }
    // One request leaves a stage idle.
    let alone = decode(1, 700);
    near(timer.pass(NO_PREFILL, alone), whole.pass(NO_PREFILL, alone).as_ms() + hop(1));
    // A prompt of two chunks: the second sees the first, and comes half a pass later.
    let chunk = PrefillLoad { requests: 1, tokens: 1000 + 500, prefix_tokens: 500 };
    let expected = whole.pass(chunk, NO_DECODE).as_ms() * 1.5 + hop(1000);
    near(timer.pass(prefill(1, 2000, 0), NO_DECODE), expected);
    // Summed passes hand on the tokens of both.
    let measured = Measured::new(Arc::new(table()), Scales::default(), Span::ZERO);
    let measured = measured.with_mixed_pass(MixedPass::Sum).with_split(split);
    let timer = PassTimer::new(TimingModel::Measured(measured), 1, 1.0, 1.0);
    let both = (prefill(2, 300, 512), decode(8, 6400));
    let alone = timer.pass(both.0, NO_DECODE).as_ms() + timer.pass(NO_PREFILL, both.1).as_ms();
    near(timer.pass(both.0, both.1), alone);
}

#[test]
fn beyond_the_figures_the_work_counts() {
    let timer = plain(table());
    let outside = |prefill, decode, ms: f64| {
        assert!(timer.is_extrapolated(prefill, decode), "{prefill:?} {decode:?}");
        near(timer.pass(prefill, decode), ms);
    };
    // Context, requests, and a missing combination.
    outside(NO_PREFILL, decode(1, 100_000), 4.01 + decode_attention(1, 100_000));
    outside(NO_PREFILL, decode(16, 16_000), 4.16 + 2.0 * decode_attention(8, 1000));
    outside(NO_PREFILL, decode(8, 8 * 50_000), 4.08 + 4.0 * decode_attention(2, 50_000));
    // More decoding requests than the curve of decoding has: as the other curve goes on, in proportion.
    let factor = (4.0 + 2.56) / (5.0 + 2.56);
    let attention = 37.5 * decode_attention(8, 1000);
    outside(NO_PREFILL, decode(300, 300_000), (5.0 + 3.0) * factor + attention);
    // More tokens, a longer prefix, more requests, a missing combination.
    let attention = |b, n, p| prefill_attention(b, n, p);
    let work = 2.0 * (512.0 + 4096.0) / (512.0 + 2048.0);
    outside(prefill(1, 8192, 512), NO_DECODE, 5.0 + 81.92 + work * attention(1, 4096, 512));
    outside(prefill(1, 64, 16_384), NO_DECODE, 5.64 + attention(1, 64, 16_384));
    outside(prefill(16, 64, 0), NO_DECODE, 5.0 + 10.24 + 2.0 * attention(8, 64, 0));
    outside(prefill(8, 4096, 0), NO_DECODE, 5.0 + 327.68 + 4.0 * attention(2, 4096, 0));
    // The prefill part is inside, the decode part is not.
    let mixed = 5.0 + 0.65 + attention(1, 64, 0) + decode_attention(1, 100_000);
    outside(prefill(1, 64, 0), decode(1, 100_000), mixed);
}

/// What lies around a missing figure is outside, and so is everything behind it.
#[test]
fn a_hole_between_contexts_is_outside() {
    let (other, prompts, mut decode_rows) = rows(&[1, 2, 256, 8192]);
    decode_rows.retain(|row| (row.batch, row.context_tokens) != (8, 1000));
    let attn_ms = decode_attention(8, 50_000);
    decode_rows.push(DecodeRow { batch: 8, context_tokens: 50_000, attn_ms });
    let timer = plain(Table::new(Identity::default(), other, &prompts, &decode_rows).unwrap());
    let outside = [(8, 2), (8, 1000), (8, 30_000), (8, 50_000), (3, 1000)];
    for (requests, context) in outside {
        let load = decode(requests, u64::from(requests * context));
        assert!(timer.is_extrapolated(NO_PREFILL, load), "{load:?}");
        assert!(timer.is_extrapolated(prefill(1, 64, 0), load), "{load:?}");
        assert_eq!(timer.passes_inside(load, 1, 10), 0);
    }
    for (requests, context) in [(8, 1), (3, 1), (2, 1), (2, 1000), (2, 49_000), (1, 50_000)] {
        let load = decode(requests, u64::from(requests * context));
        assert!(!timer.is_extrapolated(NO_PREFILL, load), "{load:?}");
        assert!(timer.passes_inside(load, 1, 10) > 0);
    }
}

#[test]
fn scales_overhead_and_speed_ups() {
    let scales = Scales { other: 2.0, prefill_attention: 3.0, decode_attention: 5.0 };
    let timer = timer(table(), scales, Span::from_ms(7), 2.0);
    let (b, c) = (2, 1000);
    let attention = 5.0 * decode_attention(b, c);
    let load = decode(b, u64::from(b * c));
    near(timer.pass(NO_PREFILL, load), (7.0 + 2.0 * 4.02 + attention) / 3.0);
    let part = 7.0 + 2.0 * (5.0 + 0.66) + 3.0 * prefill_attention(1, 64, 0);
    near(timer.pass(prefill(1, 64, 0), load), part / 2.0 + attention / 3.0);
}

/// A tile of 128 tokens: the time jumps with the first token of the next one, and is even within.
#[test]
fn a_jump_lies_right_after_a_figure() {
    let points = [64, 96, 128, 160, 192, 256].map(|tokens: u32| {
        let tiles = f64::from(tokens.div_ceil(128));
        (f64::from(tokens), 1e6 * (10.0 + 5.0 * tiles) + f64::from(tokens))
    });
    let curve = Curve::new(&points);
    for tokens in [64, 100, 127, 128, 129, 140, 160, 161, 192, 250, 256, 300] {
        let tiles = f64::from(tokens_to_tiles(tokens));
        let expected = 1e6 * (10.0 + 5.0 * tiles) + f64::from(tokens);
        assert!((curve.ns(f64::from(tokens)) - expected).abs() < 1e-6, "{tokens}");
    }
    assert!((curve.ns(1.0) - points[0].1).abs() < 1e-9, "held below the first figure");
    assert!(curve.covers(64.0) && curve.covers(256.0) && !curve.covers(63.0));
    assert!(!curve.covers(257.0));
    assert!((curve.least() - points[0].1).abs() < 1e-9);
    // A steep stretch that goes on is no jump.
    let points = [(1.0, 1.0), (10.0, 1.1), (20.0, 9.0), (30.0, 18.0), (40.0, 26.0)];
    assert!((Curve::new(&points).ns(15.0) - 5.05).abs() < 1e-9);
}

/// The tile that goes on beyond the last figure never ends.
fn tokens_to_tiles(tokens: u32) -> u32 {
    tokens.div_ceil(128).min(2)
}

#[test]
fn attention_never_falls_with_the_context() {
    let (other, prefill, mut decode_rows) = rows(&[1, 2, 256, 8192]);
    decode_rows[1].attn_ms = 0.01;
    assert_eq!((decode_rows[1].batch, decode_rows[1].context_tokens), (1, 1000));
    let timer = plain(Table::new(Identity::default(), other, &prefill, &decode_rows).unwrap());
    let first = timer.pass(NO_PREFILL, decode(1, 1));
    assert_eq!(timer.pass(NO_PREFILL, decode(1, 1000)), first);
    let mut run = [0.0; 2000];
    assert!(timer.decode_run(decode(1, 1), 1, &mut run) && run.is_sorted());
}

/// Figures with noise, holes and steps.
fn random_table(rng: &mut Stream) -> Table {
    let mut axis = |from: u32, to: u32, values: usize| {
        let mut axis: Vec<u32> = (0..values).map(|_| rng.random_range(from..to)).collect();
        axis.extend([from, to]);
        axis.sort_unstable();
        axis.dedup();
        axis
    };
    let tokens = axis(1, 3000, 40);
    let [batches, contexts] = [axis(1, 64, 5), axis(1, 5000, 12)];
    let [prompts, news, prefixes] = [axis(1, 16, 3), axis(1, 2000, 6), axis(0, 9000, 4)];
    let mut noisy = |ms: f64| ms * rng.random_range(0.8..1.2);
    // A table has two decode rows at least.
    let other = tokens.iter().enumerate().map(|(row, &tokens)| OtherRow {
        tokens,
        prefill_ms: noisy(3.0 + f64::from(tokens.div_ceil(256))),
        decode_ms: (row < 2 || tokens < 500).then(|| noisy(2.0 + f64::from(tokens) * 0.01)),
    });
    let other: Vec<OtherRow> = other.collect();
    let mut prefill = Vec::new();
    for &batch in &prompts {
        for &new_tokens in &news {
            for &prefix_tokens in &prefixes {
                let attn_ms = noisy(prefill_attention(batch, new_tokens, prefix_tokens));
                if batch == 1 || batch * new_tokens < 10_000 {
                    prefill.push(PrefillRow { batch, new_tokens, prefix_tokens, attn_ms });
                }
            }
        }
    }
    let mut decode = Vec::new();
    for &batch in &batches {
        for &context_tokens in &contexts {
            let attn_ms = noisy(decode_attention(batch, context_tokens));
            if batch == 1 || batch * context_tokens < 100_000 {
                decode.push(DecodeRow { batch, context_tokens, attn_ms });
            }
        }
    }
    Table::new(Identity::default(), other, &prefill, &decode).unwrap()
}

fn random_timer(rng: &mut Stream) -> PassTimer {
    let mut scale = || rng.random_range(0.5..2.0);
    let scales = Scales { other: scale(), prefill_attention: scale(), decode_attention: scale() };
    let speedup = [1.0, 1.0, 0.7][rng.random_range(0..3)];
    let overhead = Span::from_ns(rng.random_range(0..100_000));
    let mut measured = Measured::new(Arc::new(random_table(rng)), scales, overhead);
    if rng.random() {
        let [ranks, stages] = [0, 1].map(|_| rng.random_range(1..5));
        let hop_ns_per_token = rng.random_range(0.0..2.0);
        let chunk = rng.random_range(1..5000);
        measured = measured.with_split(Split { ranks, stages, chunk, hop_ns_per_token });
    }
    PassTimer::new(TimingModel::Measured(measured), 1, speedup, speedup * 1.5)
}

#[test]
fn a_run_is_the_sum_of_its_passes() {
    let mut rng = stream(32, 0);
    let (mut rising, mut crossing, mut leaving) = (0, 0, 0);
    for _ in 0..60 {
        let timer = random_timer(&mut rng);
        for _ in 0..20 {
            let requests = rng.random_range(1..80);
            let growth = [0, 1, requests, 50 * requests][rng.random_range(0..4)];
            let first = decode(requests, u64::from(requests * rng.random_range(0..6000)));
            let mut run = vec![0.0; rng.random_range(1..256)];
            if timer.decode_run(first, growth, &mut run) {
                rising += 1;
                assert!(run.is_sorted(), "{first:?} {growth}: {run:?}");
            }
            let mut inside = 0;
            for (pass, &duration) in (0..).zip(&run) {
                let kv_tokens = first.kv_tokens + pass * u64::from(growth);
                let load = DecodeLoad { requests, kv_tokens };
                assert_eq!(timer.pass(NO_PREFILL, load).as_ns(), duration as u64, "{load:?}");
                if inside == pass && !timer.is_extrapolated(NO_PREFILL, load) {
                    inside += 1;
                }
            }
            assert_eq!(timer.passes_inside(first, growth, run.len()), inside as usize);
            leaving += usize::from(inside > 0 && inside < run.len() as u64);
            crossing += usize::from(run.len() > 100 && growth >= requests);
        }
    }
    assert!(rising > 1000, "{rising} of 1200 rise");
    assert!(crossing > 100 && leaving > 10, "{crossing} cross figures, {leaving} leave them");
}

#[test]
fn nothing_is_below_the_floor() {
    let mut rng = stream(33, 0);
    for _ in 0..60 {
        let timer = random_timer(&mut rng);
        let floor = timer.floor();
        assert!(floor > Span::from_us(500), "{floor}");
        for _ in 0..200 {
            let [requests, new] = [8, 13].map(|bits| {
                let bits = rng.random_range(1..bits);
                rng.random_range(1..1_u32 << bits)
            });
            let load = decode(requests, u64::from(requests) * rng.random_range(0..20_000));
            let prompt =
                prefill(rng.random_range(1..30), u64::from(new), rng.random_range(0..20_000));
            for pass in [(prompt, NO_DECODE), (NO_PREFILL, load), (prompt, load)] {
                assert!(timer.pass(pass.0, pass.1) >= floor, "{pass:?}");
            }
        }
        let least = (1..600).map(|n| timer.pass(NO_PREFILL, decode(n, u64::from(n)))).min();
        assert!(least.unwrap().as_ns() as f64 <= 1.7 * floor.as_ns() as f64, "a loose bound");
    }
}

type Change<'a> = dyn Fn(&mut Vec<OtherRow>, &mut Vec<PrefillRow>, &mut Vec<DecodeRow>) + 'a;

#[test]
fn what_is_no_table_is_refused() {
    let check = |change: &Change| {
        let (mut other, mut prefill, mut decode) = rows(&[1, 2, 256, 8192]);
        change(&mut other, &mut prefill, &mut decode);
        let table = Table::new(Identity::default(), other, &prefill, &decode);
        table.map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(check(&|other, _, _| other.clear()), "there are no other rows");
    assert_eq!(check(&|_, prefill, _| prefill.clear()), "there are no prefill rows");
    assert_eq!(
        check(&|_, _, decode| decode[3].attn_ms = -0.5),
        "`attn_ms` of the decode row at batch 2, context_tokens 1 is -0.5, but has to be 0 to \
         1000000 ms"
    );
    assert!(check(&|other, _, _| other[1].prefill_ms = f64::NAN).contains("tokens 2 is NaN"));
    assert_eq!(
        check(&|_, prefill, _| prefill[4].batch = 0),
        "`batch` of a prefill row is 0, but has to be 1 to 67108864"
    );
    assert_eq!(
        check(&|_, prefill, _| prefill[1].prefix_tokens = u32::MAX),
        "`prefix_tokens` of a prefill row is 4294967295, but has to be 0 to 67108864"
    );
    assert_eq!(
        check(&|_, prefill, _| prefill.push(prefill[4])),
        "two prefill rows are at batch 1, new_tokens 64, prefix_tokens 512"
    );
    assert_eq!(check(&|other, _, _| other.push(other[2])), "two other rows are at tokens 256");
    assert_eq!(
        check(&|_, _, decode| _ = decode.remove(1)),
        "the decode rows have no `attn_ms` at batch 1, context_tokens 1000; only the larger batches \
         of a combination may be left out"
    );
    assert!(check(&|_, _, decode| decode.truncate(0)).contains("no decode rows"));
    assert!(check(&|_, _, decode| _ = decode.remove(4)).contains("no `attn_ms` at batch 2"));
    assert!(check(&|other, _, _| other[0].decode_ms = None).contains("no `decode_other_ms`"));
    assert!(
        check(&|other, _, _| other[1].decode_ms = None).contains("`decode_other_ms` at tokens")
    );
    assert_eq!(
        check(&|_, _, decode| decode.retain(|row| row.batch == 2)),
        "`batch` is 2 in all decode rows, but has to have two values at least"
    );
    assert!(check(&|other, _, _| other.truncate(1)).contains("`tokens` is 1 in all other rows"));
    assert!(
        check(&|_, _, decode| {
            decode.extend((1..3000).map(|n| DecodeRow {
                batch: n + 10,
                context_tokens: n + 2000,
                attn_ms: 1.0,
            }));
        })
        .contains("are not on a grid")
    );
}
