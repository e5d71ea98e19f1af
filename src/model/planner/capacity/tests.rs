//! Capacities worked by hand, and against a loop over everything.

use rand::RngExt;

use super::*;
use crate::kernel::rng::stream;
use crate::model::planner::testing::{constant, polynomial};

fn estimate(engine: EngineModel, role: Role, shape: Shape) -> Option<Capacity> {
    CapacityModel::new(engine, role, Targets::default()).estimate(shape)
}

fn assert_rate(capacity: Capacity, expected: f64) {
    assert!((capacity.rate / expected - 1.0).abs() < 1e-12, "{} {expected}", capacity.rate);
}

/// 1,000 tokens in and 100 out make a context of 1,050, of which the pool holds 64.
#[test]
fn by_hand_with_constant_passes() {
    let shape = Shape::new(1000.0, 100.0, 0.0);
    // 64 x 1000 / 100 = 640 prompt tokens per pass; both parts, 30 ms. 640 + 1000 tokens are one chunk.
    let capacity = estimate(constant(), Role::Aggregated, shape).unwrap();
    assert_rate(capacity, 64.0 / (100.0 * 0.030));
    assert_eq!((capacity.batch, capacity.meets), (64, true));
    assert_eq!(capacity.itl, Some(Span::from_ms(30)));
    assert_eq!(capacity.ttft, Some(Span::from_ms(30)));
    // Two prompts fit 2,048 tokens.
    let capacity = estimate(constant(), Role::Prefill, shape).unwrap();
    assert_rate(capacity, 2.0 / 0.010);
    assert_eq!((capacity.batch, capacity.itl), (2, None));
    let capacity = estimate(constant(), Role::Decode, shape).unwrap();
    assert_rate(capacity, 64.0 / (100.0 * 0.020));
    assert_eq!((capacity.batch, capacity.ttft), (64, None));
}

#[test]
fn a_hit_rate_saves_prefill_but_no_memory() {
    let shape = Shape::new(1000.0, 100.0, 0.75);
    assert_eq!((shape.computed_tokens(), shape.context_tokens()), (250, 1050));
    let capacity = estimate(constant(), Role::Prefill, shape).unwrap();
    assert_eq!(capacity.batch, 8);
    assert_eq!(estimate(constant(), Role::Decode, shape).unwrap().batch, 64);
    assert_eq!(Shape::new(1000.0, 100.0, 1.0).computed_tokens(), 50, "at most 95 %");
}

#[test]
fn targets_that_nobody_keeps_give_the_best_of_the_bad() {
    let targets = Targets { ttft: Span::from_ms(500), itl: Span::from_ms(25) };
    let mut model = CapacityModel::new(constant(), Role::Aggregated, targets);
    let capacity = model.estimate(Shape::new(1000.0, 100.0, 0.0)).unwrap();
    assert_eq!((capacity.batch, capacity.meets), (64, false));
}

#[test]
fn a_tight_target_makes_batches_small() {
    let shape = Shape::new(1000.0, 100.0, 0.0);
    let rate = |itl| {
        let targets = Targets { ttft: Span::from_secs(5), itl: Span::from_ms(itl) };
        let capacity = CapacityModel::new(polynomial(), Role::Aggregated, targets).estimate(shape);
        let capacity = capacity.unwrap();
        assert!(capacity.meets && capacity.itl.unwrap() <= Span::from_ms(itl), "{capacity:?}");
        capacity.rate
    };
    assert!(rate(25) < rate(30) && rate(30) < rate(40), "{} {} {}", rate(25), rate(30), rate(40));
}

/// Prompts that prefill cannot keep up with, whatever the batch: 3,000 tokens for one token of output.
#[test]
fn hardly_any_output_is_served_one_by_one() {
    let capacity = estimate(constant(), Role::Aggregated, Shape::new(3000.0, 1.0, 0.0)).unwrap();
    assert_eq!((capacity.batch, capacity.ttft), (1, Some(Span::from_ms(20))), "two chunks");
    assert_rate(capacity, 1.0 / 0.020);
}

#[test]
fn what_does_not_fit_has_no_capacity() {
    let shape = Shape::new(70_000.0, 10.0, 0.0);
    assert_eq!(estimate(constant(), Role::Decode, shape), None);
}

#[test]
fn candidates_are_evenly_spaced() {
    let all = |largest| candidates(largest).collect::<Vec<u32>>();
    assert_eq!(all(0), [0_u32; 0]);
    assert_eq!(all(1), [1]);
    assert_eq!(all(128), (1..=128).collect::<Vec<u32>>());
    let many = all(1000);
    assert_eq!((many.len(), many[0], many[127]), (128, 1, 1000));
    assert!(many.windows(2).all(|pair| [7, 8].contains(&(pair[1] - pair[0]))));
}

/// In floats and without a thought for speed: every batch up to the bounds.
fn naive(engine: &EngineModel, isl: u64, osl: u64, targets: Targets) -> Option<(bool, f64)> {
    let context = isl + osl / 2;
    let mut best: Option<(bool, f64)> = None;
    for batch in 1..=256.min(engine.pool_tokens / context) {
        let prefill = (batch as f64 * isl as f64 / osl as f64).ceil() as u64;
        if prefill + batch > 2048 {
            continue;
        }
        let decode = DecodeLoad { requests: batch as u32, kv_tokens: batch * context };
        let itl = engine.pass(prefill, decode);
        let (mut left, mut ttft) = (prefill + isl, Span::ZERO);
        while left > 0 {
            ttft += engine.pass(left.min(2048), decode);
            left -= left.min(2048);
        }
        let rate = batch as f64 / (osl as f64 * itl.as_secs());
        let found = (itl <= targets.itl && ttft <= targets.ttft, rate);
        if best.is_none_or(|best| found > best) {
            best = Some(found);
        }
    }
    best
}

#[test]
fn the_search_finds_what_a_loop_finds() {
    let mut rng = stream(4, 0);
    let mut met = 0;
    for _ in 0..300 {
        // At most 128 batches fit the pool, so that no candidate is left out.
        let isl = rng.random_range(600..4000);
        let osl = rng.random_range(20..800);
        let targets = Targets {
            ttft: Span::from_ms(rng.random_range(30..400)),
            itl: Span::from_ms(rng.random_range(10..60)),
        };
        let engine = polynomial();
        let expected = naive(&engine, isl, osl, targets);
        let mut model = CapacityModel::new(engine, Role::Aggregated, targets);
        let Some((meets, rate)) = expected else { continue };
        let found = model.estimate(Shape::new(isl as f64, osl as f64, 0.0)).unwrap();
        assert_eq!(found.meets, meets, "{isl} {osl} {targets:?}");
        assert!((found.rate / rate - 1.0).abs() < 1e-9, "{isl} {osl} {targets:?}");
        met += u32::from(meets);
    }
    assert!((30..270).contains(&met), "{met} of 300 meet their targets");
}
