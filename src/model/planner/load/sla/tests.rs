//! What a look at a few corners tells is what a look at every worker tells.

use std::sync::Arc;

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::*;
use crate::kernel::rng::{Stream, stream};
use crate::model::planner::testing::{engine, look, polynomial, traffic};
use crate::model::timing::{
    DecodeRow, Identity, Measured, OtherRow, PrefillRow, Scales, Table, TimingModel,
};

/// Everything but attention, in ms, with a prompt and without, by tokens.
type Others = &'static [(u32, f64, f64)];

/// More with every token.
const RISING: Others =
    &[(1, 5.02, 4.015), (16, 5.32, 4.24), (256, 10.12, 7.84), (4096, 86.92, f64::NAN)];

/// Less with more tokens in many places: of the batch, of a rest, of a whole chunk and the batch, and with a prompt.
const FALLING: Others = &[
    (1, 9.0, 14.0),
    (2, 8.0, 12.0),
    (16, 8.4, 9.0),
    (256, 11.0, 6.8),
    (700, 24.0, f64::NAN),
    (1000, 17.0, f64::NAN),
    (1500, 37.0, f64::NAN),
    (2048, 44.0, f64::NAN),
    (2200, 38.0, f64::NAN),
    (4096, 80.0, f64::NAN),
];

/// An engine with such times, and attention of one request that costs so many times as much with batches of 1, 16 and 256.
/// It rises with every request of the batch if that is the same for all.
fn measured_engine(other: Others, dear: [f64; 3]) -> EngineModel {
    let other = other.iter().map(|&(tokens, prefill_ms, decode_ms)| OtherRow {
        tokens,
        prefill_ms,
        decode_ms: Some(decode_ms).filter(|ms| !ms.is_nan()),
    });
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for (batch, dear) in [1_u32, 16, 256].into_iter().zip(dear) {
        for tokens in [1_u32, 64, 1024] {
            let attn_ms = dear * f64::from(batch) * (0.01 + f64::from(tokens) * 1e-3);
            let [new_tokens, context_tokens] = [tokens; 2];
            for prefix_tokens in [0, 1024] {
                prefill.push(PrefillRow { batch, new_tokens, prefix_tokens, attn_ms });
            }
            decode.push(DecodeRow { batch, context_tokens, attn_ms });
        }
    }
    let table = Table::new(Identity::default(), other.collect(), &prefill, &decode).unwrap();
    engine(TimingModel::Measured(Measured::new(Arc::new(table), Scales::default(), Span::ZERO)))
}

/// A fleet, and what is asked of it.
#[derive(Debug)]
struct Case {
    role: Role,
    engine: EngineModel,
    basis: Basis,
    usual: UsualPass,
    /// The target of the other latency, if there are two.
    lax: Span,
    latency: Latency,
    step: u32,
    loads: Vec<WorkerLoad>,
}

impl Case {
    fn random(rng: &mut Stream, engines: &[EngineModel]) -> Case {
        let role = *[Role::Aggregated, Role::Prefill, Role::Decode].choose(rng).unwrap();
        let both = [Latency::Ttft, Latency::Itl];
        let latency = match role {
            Role::Aggregated => *both.choose(rng).unwrap(),
            Role::Prefill => Latency::Ttft,
            Role::Decode => Latency::Itl,
        };
        let basis = *[Basis::Requests, Basis::Passes].choose(rng).unwrap();
        let usual = UsualPass {
            chunk: 400.0,
            context: 1000.0,
            prefill_share: rng.random(),
            prefill_tokens: 800.0,
        };
        // Now and then both targets are near what there is.
        let lax = Span::from_ms(if rng.random() { 100_000 } else { rng.random_range(20..2000) });
        let engine = engines.choose(rng).unwrap().clone();
        let workers =
            if rng.random() { rng.random_range(2..12) } else { rng.random_range(12..300) };
        let step = rng.random_range(1..workers.min(5));
        let loads = loads(rng, workers);
        Case { role, engine, basis, usual, lax, latency, step, loads }
    }

    fn rule(&self) -> SlaRule {
        let engine = self.engine.clone();
        let mut rule = SlaRule::new(self.role, engine, Targets::default(), 0.8, self.basis);
        assert!(rule.falls.is_some());
        let usual_pass = Some(self.usual);
        rule.observe(&Observation { usual_pass, ..look(traffic(600, 1000, 100), &[]) });
        rule
    }

    /// What a rule finds under a target.
    fn judge(&self, rule: &mut SlaRule, target: Span) -> (Verdict, Reason, Figures) {
        rule.targets = match self.latency {
            Latency::Ttft => Targets { ttft: target, itl: self.lax },
            Latency::Itl => Targets { ttft: self.lax, itl: target },
        };
        let mut figures = Figures::default();
        let (verdict, reason) = rule.judge(&self.loads, self.step, &mut figures).unwrap();
        (verdict, reason, figures)
    }

    /// Brings the target of the other latency to where some workers could not take their share, but not many.
    fn tighten(&mut self, rule: &mut SlaRule) {
        let (latency, lax) = (self.latency, self.lax);
        self.latency = match latency {
            Latency::Ttft => Latency::Itl,
            Latency::Itl => Latency::Ttft,
        };
        self.lax = Span::from_secs(100);
        let edge = self.edge(rule, |verdict| matches!(verdict, Verdict::Down));
        (self.latency, self.lax) = (latency, lax.min(Span::from_ns(edge - edge / 200)));
    }

    /// The first target under which it holds, or one that is too long.
    fn edge(&self, rule: &mut SlaRule, holds: impl Fn(Verdict) -> bool) -> u64 {
        let (mut low, mut high) = (0, 1 << 37);
        while high - low > 1 {
            let middle = u64::midpoint(low, high);
            let (verdict, ..) = self.judge(rule, Span::from_ns(middle));
            *(if holds(verdict) { &mut high } else { &mut low }) = middle;
        }
        high
    }
}

/// Loads that have little to do with one another, or where one thing is the less, the more another one is.
fn loads(rng: &mut Stream, workers: u32) -> Vec<WorkerLoad> {
    let queue_max = [100.0, 2000.0, 200_000.0].choose(rng).copied().unwrap();
    let kv_max = [1000.0, 20_000.0, 50_000.0].choose(rng).copied().unwrap();
    let running_max = [3.0, 250.0, 900.0].choose(rng).copied().unwrap();
    let (opposed, base) = (rng.random_range(0..3), rng.random_range(0.0..1.0));
    let mut load = || {
        let mut share = || (base + rng.random_range(0.0..1.0)) / (base + 1.0);
        let [mut queue, running, mut kv]: [f64; 3] = [share(), share(), share()];
        match opposed {
            0 => queue = 1.0 - kv,
            1 => kv = 1.0 - running,
            _ => {}
        }
        WorkerLoad {
            running: (running * running_max) as u32,
            queued: 0,
            queued_prefill_tokens: (queue * queue_max) as u64,
            scheduled_kv_tokens: (kv * kv_max) as u64,
            queued_kv_tokens: rng.random_range(0..=(kv_max / 10.0) as u64),
        }
    };
    (0..workers).map(|_| load()).collect()
}

/// Whether two reasons are the same, but for the estimate of a fictitious worker with the least of everything.
fn agree(found: Reason, expected: Reason) -> bool {
    match (found, expected) {
        (
            Reason::AllAbove { latency, least_ms, target_ms },
            Reason::AllAbove { latency: expected, least_ms: least, .. },
        ) => latency == expected && least_ms > target_ms && least_ms <= least,
        _ => found == expected,
    }
}

#[test]
fn a_look_at_the_corners_is_enough() {
    let mut rng = stream(5, 0);
    let (even, odd) = ([1.0; 3], [2.0, 0.8, 1.1]);
    let measured = [(RISING, even), (FALLING, even), (RISING, odd), (FALLING, odd)];
    let engines = measured.map(|(other, dear)| measured_engine(other, dear));
    let engines = [&[polynomial()], &engines[..]].concat();
    let mut verdicts = [0; 3];
    for _ in 0..1000 {
        let mut case = Case::random(&mut rng, &engines);
        let mut rule = case.rule();
        let mut look_at_all = SlaRule { falls: None, ..case.rule() };
        let ns = [
            rng.random_range(5_000_000..2_000_000_000),
            case.edge(&mut look_at_all, |verdict| !matches!(verdict, Verdict::Up)),
            case.edge(&mut look_at_all, |verdict| matches!(verdict, Verdict::Down)),
        ];
        if case.role == Role::Aggregated && rng.random() {
            case.tighten(&mut look_at_all);
        }
        let near = |ns| [ns - ns / 200, ns - 1, ns, ns + 1, ns + ns / 50];
        for target in ns.into_iter().flat_map(near) {
            let target = Span::from_ns(target);
            let (verdict, reason, figures) = case.judge(&mut rule, target);
            let (expected, expected_reason, all_figures) = case.judge(&mut look_at_all, target);
            let same = agree(reason, expected_reason);
            assert!(same, "{reason:?}, not {expected_reason:?}: {target:?} {case:?}");
            assert_eq!(verdict as u8, expected as u8, "{target:?} {case:?}");
            if !matches!(verdict, Verdict::Up) {
                assert_eq!(figures, all_figures, "{target:?} {case:?}");
            }
            verdicts[verdict as usize] += 1;
        }
    }
    assert!(verdicts.iter().all(|&count| count > 500), "{verdicts:?}");
}
