//! Passes as the figures say in so many words, without tables of where things are: the same nanoseconds.

use std::sync::Arc;

use rand::RngExt;

use super::{NO_DECODE, NO_PREFILL, decode, decode_attention, prefill_attention};
use crate::kernel::rng::{Stream, stream};
use crate::model::timing::measured::*;
use crate::model::timing::{PassTimer, TimingModel};

/// Where `x` is between ascending values: the index of the one before, and the share of the way to the next one.
fn between(values: &[u32], x: f64) -> (usize, f64) {
    let index = (0..values.len() - 1).rev().find(|&index| f64::from(values[index]) <= x);
    let index = index.unwrap_or(0);
    let [from, to] = [index, index + 1].map(|index| f64::from(values[index]));
    (index, ((x - from) * (1.0 / (to - from))).clamp(0.0, 1.0))
}

fn mix(from: f64, to: f64, share: f64) -> f64 {
    from * (1.0 - share) + to * share
}

/// A figure in ns. A missing one is that of the next smaller batch, request by request.
fn figure<const AXES: usize>(grid: &Grid<AXES>, at: [usize; AXES], factor: f64) -> f64 {
    let Some(ms) = grid.at(at) else {
        let mut above = at;
        above[0] -= 1;
        let [requests, fewer] = [at, above].map(|at| f64::from(grid.axis(0)[at[0]]));
        return figure(grid, above, factor) * requests / fewer;
    };
    ms * 1e6 * factor
}

/// The same over decoding requests and contexts: a longer context never costs less.
fn decode_figure(grid: &Grid<2>, [b, c]: [usize; 2], factor: f64) -> f64 {
    let own = if let Some(ms) = grid.at([b, c]) {
        ms * 1e6 * factor
    } else {
        let [requests, fewer] = [b, b - 1].map(|b| f64::from(grid.axis(0)[b]));
        decode_figure(grid, [b - 1, c], factor) * requests / fewer
    };
    if c == 0 { own } else { own.max(decode_figure(grid, [b, c - 1], factor)) }
}

fn prefill_ns(measured: &Measured, load: PrefillLoad) -> f64 {
    let grid = measured.table.prefill();
    let requests = f64::from(load.requests);
    let new = (load.tokens - load.prefix_tokens) as f64 / requests;
    let prefix = load.prefix_tokens as f64 / requests;
    let last = [0, 1, 2].map(|axis| f64::from(*grid.axis(axis).last().unwrap()));
    let at = |prefix: f64| {
        let (b, batch) = between(grid.axis(0), requests);
        let (n, new) = between(grid.axis(1), new);
        let (p, prefix) = between(grid.axis(2), prefix);
        let ns = |at: [usize; 3]| figure(grid, at, measured.scales.prefill_attention);
        let line = |b, n| mix(ns([b, n, p]), ns([b, n, p + 1]), prefix);
        let plane = |b| mix(line(b, n), line(b, n + 1), new);
        mix(plane(b), plane(b + 1), batch)
    };
    let mut ns = at(prefix);
    if prefix > last[2] {
        let before = f64::from(grid.axis(2)[grid.axis(2).len() - 2]);
        ns += (ns - at(before)).max(0.0) / (last[2] - before) * (prefix - last[2]);
    }
    let work = |requests: f64, new: f64| requests * new * (prefix + new / 2.0);
    ns * (work(requests, new) / work(requests.min(last[0]), new.min(last[1]))).max(1.0)
}

fn decode_ns(measured: &Measured, load: DecodeLoad, other: f64) -> f64 {
    let grid = measured.table.decode();
    let (requests, tokens) = (f64::from(load.requests), load.kv_tokens as f64);
    let largest = f64::from(*grid.axis(0).last().unwrap());
    let times = (requests / largest).max(1.0);
    let (b, batch) = between(grid.axis(0), requests);
    let edge = |c: usize| f64::from(grid.axis(1)[c]) * requests;
    let c = (0..grid.axis(1).len() - 1).rev().find(|&c| edge(c) <= tokens).unwrap_or(0);
    let at = |c: usize| {
        let [own, next] =
            [b, b + 1].map(|b| decode_figure(grid, [b, c], measured.scales.decode_attention));
        own * (times * (1.0 - batch)) + next * (times * batch)
    };
    let width = f64::from(grid.axis(1)[c + 1]) - f64::from(grid.axis(1)[c]);
    let slope = (at(c + 1) - at(c)) * ((1.0 / width) * (1.0 / requests));
    other + at(c) + slope * (tokens - edge(c)).max(0.0)
}

fn pass_ns(measured: &Measured, prefill: PrefillLoad, decode: DecodeLoad) -> u64 {
    let Compiled { prefill_other, decode_other, .. } = &*measured.compiled;
    let new = prefill.tokens - prefill.prefix_tokens;
    let ns = |ns: f64| ns.round_ties_even() as u64;
    match (new, decode.requests) {
        (0, 0) => 0,
        (0, _) => ns(decode_ns(measured, decode, decode_other.decode_ns(decode.requests))),
        (_, requests) => {
            let other = prefill_other.ns((new + u64::from(requests)) as f64);
            let alone = ns(other + prefill_ns(measured, prefill));
            alone + if requests > 0 { ns(decode_ns(measured, decode, 0.0)) } else { 0 }
        }
    }
}

/// On the axes of the tables that ship, or nearly so: noisy figures, with holes.
fn table(rng: &mut Stream) -> Table {
    let mut noisy = |ms: f64| ms * rng.random_range(0.7..1.3);
    let octave = |octave: u32| (16..32).map(move |part| part << octave);
    let other = (1..16).chain((0..9).flat_map(octave)).map(|tokens: u32| OtherRow {
        tokens,
        prefill_ms: noisy(5.0 + 0.1 * f64::from(tokens.div_ceil(64))),
        decode_ms: (tokens <= 512).then(|| noisy(4.0 + 0.01 * f64::from(tokens))),
    });
    let other: Vec<_> = other.collect();
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for batch in [1, 2, 4, 8, 16, 32] {
        for new_tokens in [1, 4, 16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096] {
            for prefix_tokens in [0, 128, 512, 1024, 3072, 8192, 32768] {
                let attn_ms = noisy(prefill_attention(batch, new_tokens, prefix_tokens));
                if batch * new_tokens <= 16_384 {
                    prefill.push(PrefillRow { batch, new_tokens, prefix_tokens, attn_ms });
                }
            }
        }
    }
    for batch in [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128] {
        for context_tokens in [1, 64, 128, 256, 512, 768, 1024, 1536, 2048, 4096, 8192, 32768] {
            let attn_ms = noisy(decode_attention(batch, context_tokens));
            if batch == 1 || batch * context_tokens <= 1 << 20 {
                decode.push(DecodeRow { batch, context_tokens, attn_ms });
            }
        }
    }
    Table::new(Identity::default(), other, &prefill, &decode).unwrap()
}

/// Passes of all sizes, also beyond the figures, with means that are figures exactly, or nearly.
fn load(rng: &mut Stream) -> (PrefillLoad, DecodeLoad) {
    let mut number = |bits: u32| {
        let bits = rng.random_range(1..=bits);
        let number = rng.random_range(0..1_u64 << bits);
        if rng.random_range(0..4) == 0 { number.next_power_of_two() } else { number }
    };
    let (prompts, requests) = (number(6).max(1), number(8));
    let [prefix_tokens, new, kv_tokens] = [(prompts, 16), (prompts, 13), (requests, 16)]
        .map(|(requests, bits)| number(bits) * requests + number(2).saturating_sub(1) * number(4));
    let tokens = prefix_tokens + new;
    let prefill = PrefillLoad { requests: prompts as u32, tokens, prefix_tokens };
    (prefill, decode(requests as u32, kv_tokens))
}

#[test]
fn tables_of_places_change_nothing() {
    let mut rng = stream(34, 0);
    let (mut passes, mut looked_up) = (0, 0);
    for _ in 0..10 {
        let [other, prefill_attention, decode_attention] =
            [0, 1, 2].map(|_| rng.random_range(0.5..2.0));
        let scales = Scales { other, prefill_attention, decode_attention };
        let measured = Measured::new(Arc::new(table(&mut rng)), scales, Span::from_us(300));
        let timer = PassTimer::new(TimingModel::Measured(measured.clone()), 1, 1.0, 1.0);
        for _ in 0..3000 {
            let (prefill, decode) = load(&mut rng);
            for (prefill, decode) in [(prefill, decode), (prefill, NO_DECODE), (NO_PREFILL, decode)]
            {
                let expected = pass_ns(&measured, prefill, decode);
                assert_eq!(timer.pass(prefill, decode).as_ns(), expected, "{prefill:?} {decode:?}");
                looked_up += usize::from(measured.look_up(prefill, decode).is_some());
                passes += 1;
            }
        }
    }
    assert!((passes / 2..passes).contains(&looked_up), "{looked_up} of {passes} are looked up");
}
