//! Which passes had to be extrapolated: the quick answer is the one that all figures give.

use std::fs;
use std::str::FromStr;
use std::sync::Arc;

use rand::RngExt;

use super::{NO_DECODE, NO_PREFILL, decode};
use crate::kernel::rng::{Stream, stream};
use crate::model::timing::measured::*;
use crate::model::timing::{PassTimer, Polynomial, TimingModel};

/// A field of a line; nothing if it is empty.
fn field<T: FromStr>(line: &str, column: usize) -> Option<T> {
    line.split(',').nth(column).and_then(|field| field.parse().ok())
}

/// A table that ships, without the rows with a value on an axis below these.
fn shipped(batch: u32, tokens: u32, prefix: u32) -> Table {
    let stem = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/timing/h200_sxm/qwen3-32b");
    let read = |kind| fs::read_to_string(format!("{stem}/vllm-0.12.0-tp2.{kind}.csv")).unwrap();
    let (other, prefill, decode) = (read("other"), read("prefill"), read("decode"));
    let at = |line: &str, column| field::<u32>(line, column).unwrap();
    let other = other.lines().skip(1).map(|line| OtherRow {
        tokens: at(line, 0),
        prefill_ms: field(line, 1).unwrap(),
        decode_ms: field(line, 2),
    });
    let prefill = prefill.lines().skip(1).map(|line| PrefillRow {
        batch: at(line, 0),
        new_tokens: at(line, 1),
        prefix_tokens: at(line, 2),
        attn_ms: field(line, 4).unwrap(),
    });
    let decode = decode.lines().skip(1).map(|line| DecodeRow {
        batch: at(line, 0),
        context_tokens: at(line, 1),
        attn_ms: field(line, 3).unwrap(),
    });
    let other: Vec<_> = other.filter(|row| row.tokens >= tokens).collect();
    let prefill = prefill.filter(|row| {
        row.batch >= batch && row.new_tokens >= tokens && row.prefix_tokens >= prefix
    });
    let decode = decode.filter(|row| row.batch >= batch && row.context_tokens >= tokens);
    let (prefill, decode) = (prefill.collect::<Vec<_>>(), decode.collect::<Vec<_>>());
    Table::new(Identity::default(), other, &prefill, &decode).unwrap()
}

/// A value of an axis, one next to it, or any number; from `least` on, up to twice as many as there are figures for.
fn near(rng: &mut Stream, axis: &[u32], least: u64) -> u64 {
    let value = u64::from(axis[rng.random_range(0..axis.len())]);
    let any = rng.random_range(0..=2 * value);
    let number = [value, value, value + 1, value.saturating_sub(1), any, any];
    number[rng.random_range(0..number.len())].max(least)
}

/// Requests of an axis with a mean that is one of another axis, or a token off.
fn sum(rng: &mut Stream, requests: u64, axis: &[u32], least: u64) -> u64 {
    let sum = requests * near(rng, axis, least);
    [sum, sum, sum + 1, sum.saturating_sub(1).max(least)][rng.random_range(0..4)]
}

fn load(rng: &mut Stream, table: &Table) -> (PrefillLoad, DecodeLoad) {
    let (grid, other) = (table.prefill(), table.other());
    let prompts = near(rng, grid.axis(0), 1);
    let mut new = sum(rng, prompts, grid.axis(1), 1);
    let prefix_tokens = sum(rng, prompts, grid.axis(2), 0);
    let requests = near(rng, table.decode().axis(0), 1);
    let kv_tokens = sum(rng, requests, table.decode().axis(1), 1);
    if rng.random_range(0..8) == 0 {
        // All tokens of the pass are at an end of the curve.
        let end = [other[0].tokens, other[other.len() - 1].tokens][rng.random_range(0..2)];
        let others = [0, requests][rng.random_range(0..2)] + rng.random_range(0..2);
        new = u64::from(end).saturating_sub(others).max(1);
    }
    let prefill =
        PrefillLoad { requests: prompts as u32, tokens: prefix_tokens + new, prefix_tokens };
    (prefill, decode(requests as u32, kv_tokens))
}

fn timers(table: &Arc<Table>) -> [(Measured, PassTimer); 4] {
    let fused = Measured::new(Arc::clone(table), Scales::default(), Span::from_us(300));
    let summed = fused.clone().with_mixed_pass(MixedPass::Sum);
    let split = Split { ranks: 2, stages: 2, chunk: 2048, hop_ns_per_token: 0.5 };
    let all = [fused.clone(), summed.clone(), fused.with_split(split), summed.with_split(split)];
    all.map(|measured| {
        let model = TimingModel::Measured(measured.clone());
        (measured, PassTimer::new(model, 1, 1.0, 0.7))
    })
}

#[test]
fn a_pass_is_extrapolated_if_it_is_outside() {
    let mut rng = stream(36, 0);
    // The second one has something below its first figures.
    for table in [shipped(1, 1, 0), shipped(4, 16, 512)].map(Arc::new) {
        let [mut inside, mut outside] = [[0; 3]; 2];
        let mut looked_up = 0;
        let timers = timers(&table);
        for _ in 0..10_000 {
            let (prefill, decode) = load(&mut rng, &table);
            let kinds = [(prefill, decode), (prefill, NO_DECODE), (NO_PREFILL, decode)];
            for (kind, (prefill, decode)) in (0..).zip(kinds) {
                for (measured, timer) in &timers {
                    let timed = timer.timed_pass(prefill, decode);
                    let is_outside = measured.is_outside(prefill, decode);
                    assert_eq!(timed.is_extrapolated, is_outside, "{prefill:?} {decode:?}");
                    assert_eq!(timed.duration, timer.pass(prefill, decode));
                    let count = if is_outside { &mut outside } else { &mut inside };
                    count[kind] += 1;
                }
                looked_up += usize::from(timers[0].0.look_up(prefill, decode).is_some());
            }
        }
        let least = inside.into_iter().chain(outside).min();
        assert!(least > Some(1000), "{inside:?} are inside, {outside:?} are outside");
        // Values that are the last of an axis, or where a hole begins, are not looked up.
        let all = inside.iter().sum::<usize>() / timers.len();
        assert!(looked_up > all / 2, "{looked_up} of {all} are looked up");
    }
}

#[test]
fn a_formula_is_never_extrapolated() {
    let model = TimingModel::Polynomial(Polynomial::default());
    let timer = PassTimer::new(model, 16_384, 1.0, 1.0);
    let prefill = PrefillLoad { requests: 1, tokens: 1 << 30, prefix_tokens: 1 };
    let answer = timer.timed_pass(prefill, decode(5000, 1 << 40));
    assert_eq!(answer.duration, timer.pass(prefill, decode(5000, 1 << 40)));
    assert!(!answer.is_extrapolated);
}
