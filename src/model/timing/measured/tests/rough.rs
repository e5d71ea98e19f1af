//! Rough times are off by what they say, and more KV takes less by what rounding can do only.

use rand::RngExt;

use super::{decode, prefill, random_timer};
use crate::kernel::rng::stream;
use crate::kernel::time::Span;
use crate::model::timing::{DecodeLoad, PassTimer, Polynomial, RoughTimes, TimingModel, scale};

const TOKENS: u64 = 2048;
const REQUESTS: u32 = 200;

fn decode_ns(rough: &RoughTimes, load: DecodeLoad) -> f64 {
    let mut ns = [0.0];
    rough.decode_ns(&[load.requests], &[load.kv_tokens as f64], &mut ns);
    ns[0]
}

#[test]
fn rough_times_are_off_by_rounding() {
    let mut rng = stream(37, 0);
    let (mut known, mut unknown, mut largest) = (0, 0, [0.0_f64; 3]);
    for round in 0..300 {
        let constant = [Span::from_ms(12), Span::from_ms(7)];
        let (kind, timer) = match round % 3 {
            0 => (0, random_timer(&mut rng)),
            1 => {
                let model = TimingModel::Polynomial(Polynomial::default());
                (1, PassTimer::new(model, 200_000, 0.7, 1.3))
            }
            _ => {
                let [prefill, decode] = constant;
                (2, PassTimer::new(TimingModel::Constant { prefill, decode }, 1, 3.0, 0.7))
            }
        };
        let Some(rough) = timer.rough(TOKENS, REQUESTS) else { continue };
        for _ in 0..200 {
            let (tokens, kv_tokens) = (rng.random_range(1..2200), rng.random_range(0..1 << 20));
            let load = decode(rng.random_range(0..220), kv_tokens >> rng.random_range(0..20));
            let exact = timer.pass(prefill(1, tokens, 0), load).as_ns() as f64;
            let decode_ns = decode_ns(&rough, load);
            let ns = rough.prompt_ns(tokens, load.requests) + decode_ns;
            if ns.is_nan() {
                assert!(tokens > TOKENS || load.requests > REQUESTS, "{tokens} {load:?}");
                unknown += 1;
                continue;
            }
            known += 1;
            let off = (ns - exact).abs();
            assert!(off <= rough.error_ns() + 1e-11 * exact, "{off}: {tokens} {load:?}");
            largest[kind] = largest[kind].max(off / rough.error_ns());
            let longest = rough.longest_ns(tokens, load.requests);
            assert!(longest.is_nan() || ns <= longest + decode_ns, "{tokens} {load:?}");
        }
    }
    assert!(known > 20_000 && unknown > 1000, "{known} {unknown}");
    // Half as much would not do.
    assert!(largest[0] > 0.6 && largest[1] > 0.5, "{largest:?}");
}

#[test]
fn no_pass_that_only_decodes_is_longer_than_the_longest() {
    let mut rng = stream(38, 0);
    let mut passes = 0;
    for _ in 0..100 {
        let timer = random_timer(&mut rng);
        let Some(rough) = timer.rough(TOKENS, REQUESTS) else { continue };
        for _ in 0..100 {
            let load = decode(rng.random_range(1..=REQUESTS), rng.random_range(0..1 << 20));
            let alone = timer.pass(prefill(0, 0, 0), load).as_ns() as f64;
            let longest = rough.longest_ns(TOKENS, REQUESTS) + decode_ns(&rough, load);
            assert!(alone <= longest + rough.error_ns(), "{load:?}");
            let off = (rough.pass_ns(0, load) - alone).abs();
            assert!(off <= rough.error_ns() + 1e-11 * alone, "{off}: {load:?}");
            passes += 1;
        }
    }
    assert!(passes > 2000);
}

/// Floats that should be equal or rise make whole ns fall by one at most, which a speed-up ratio makes more of.
#[test]
fn a_ns_less_is_what_rounding_allows_for() {
    for speedup in [0.1, 0.3, 0.7, 1.0, 1.3, 3.0] {
        let ms = Span::from_ms(1);
        let model = TimingModel::Constant { prefill: ms, decode: ms };
        let rounding_ns = PassTimer::new(model, 1, 1.0, speedup).kv_rounding_ns().unwrap();
        let falls = (1..100_000).map(|ns| scale(ns, speedup) - scale(ns - 1, speedup));
        let most = falls.max().unwrap();
        // Half as much would not do.
        assert!(most < rounding_ns && rounding_ns <= 2 * most, "{most} {rounding_ns} {speedup}");
    }
}

/// Random figures hardly ever fall between ns, so this is about falls for another reason.
#[test]
fn more_kv_takes_less_by_rounding_only() {
    let mut rng = stream(39, 0);
    for _ in 0..300 {
        let timer = random_timer(&mut rng);
        let rounding_ns = timer.kv_rounding_ns().unwrap();
        for _ in 0..50 {
            let new = [0, 700][rng.random_range(0..2)];
            let load = decode(rng.random_range(1..220), rng.random_range(0..1 << 20));
            let more = decode(load.requests, load.kv_tokens + rng.random_range(0..1000));
            let ns = |load| timer.pass(prefill(u32::from(new > 0), new, 0), load).as_ns();
            assert!(ns(more) + rounding_ns >= ns(load), "{load:?} {more:?}");
        }
    }
}
