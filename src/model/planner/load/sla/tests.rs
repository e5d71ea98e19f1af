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
            context: 1000,
            prefill_share: rng.random(),
            prefill_tokens: 800,
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
        let usual_pass = Some(self.usual);
        rule.observe(&Observation { usual_pass, ..look(traffic(600, 1000, 100), &[]) });
        rule
    }

    /// What a rule finds under a target.
    fn judge(&self, rule: &mut SlaRule, target: Span) -> (Verdict, Reason, Figures) {
        rule.targets = self.targets(target);
        let mut figures = Figures::default();
        let (verdict, reason) = rule.judge(&self.loads, self.step, &mut figures).unwrap();
        (verdict, reason, figures)
    }

    fn targets(&self, target: Span) -> Targets {
        match self.latency {
            Latency::Ttft => Targets { ttft: target, itl: self.lax },
            Latency::Itl => Targets { ttft: self.lax, itl: target },
        }
    }

    /// Brings the target of the other latency to where some workers could not take their share, but not many.
    fn tighten(&mut self, rule: &SlaRule) {
        let (latency, lax) = (self.latency, self.lax);
        self.latency = match latency {
            Latency::Ttft => Latency::Itl,
            Latency::Itl => Latency::Ttft,
        };
        self.lax = Span::from_secs(100);
        let edge = self.edge(rule, |verdict| matches!(verdict, Verdict::Down));
        (self.latency, self.lax) = (latency, lax.min(Span::from_ns(edge - edge / 200)));
    }

    /// Brings the TTFT of all workers to that of the first one, or what their queues cause: to the last token that fits, or
    /// the first one that does not.
    fn tie(&mut self, rule: &SlaRule, grows: bool) {
        let naive = Naive::new(rule, self);
        let factor = respread(self.loads.len() as u32, self.step).filter(|_| grows).unwrap_or(1.0);
        let time = |load: &WorkerLoad| {
            let decode = naive.decode(load, factor);
            let ttft = naive.ttft((load.queued_prefill_tokens as f64 * factor) as u64, decode);
            ttft.as_ms() - if grows { 0.2 * naive.ttft(0, decode).as_ms() } else { 0.0 }
        };
        let level = time(&self.loads[0]);
        let mut loads = self.loads.clone();
        for load in &mut loads {
            let (mut low, mut high) = (0, 1 << 20);
            while high - low > 1 {
                let tokens = u64::midpoint(low, high);
                let load = WorkerLoad { queued_prefill_tokens: tokens, ..*load };
                *(if time(&load) > level { &mut high } else { &mut low }) = tokens;
            }
            load.queued_prefill_tokens = if grows { low } else { high };
        }
        self.loads = loads;
    }

    /// The first target under which it holds, or one that is too long.
    fn edge(&self, rule: &SlaRule, holds: impl Fn(Verdict) -> bool) -> u64 {
        let mut naive = Naive::new(rule, self);
        let (mut low, mut high) = (0, 1 << 37);
        while high - low > 1 {
            let middle = u64::midpoint(low, high);
            naive.targets = self.targets(Span::from_ns(middle));
            let (verdict, ..) = naive.judge();
            *(if holds(verdict) { &mut high } else { &mut low }) = middle;
        }
        high
    }
}

/// The rule as it is written: every worker is estimated, pass by pass.
struct Naive<'a> {
    rule: &'a SlaRule,
    case: &'a Case,
    targets: Targets,
    shape: Shape,
}

impl<'a> Naive<'a> {
    fn new(rule: &'a SlaRule, case: &'a Case) -> Naive<'a> {
        let shape = Shape::new(rule.isl.unwrap(), rule.osl.unwrap_or(1.0), rule.hit_rate);
        Naive { rule, case, targets: rule.targets, shape }
    }

    fn judge(&self) -> (Verdict, Reason, Figures) {
        let (loads, rule) = (&self.case.loads, self.rule);
        let mut figures = Figures { isl: rule.isl, osl: rule.osl, ..Figures::default() };
        figures.hit_rate = (rule.basis == Basis::Requests).then_some(rule.hit_rate);
        for &latency in rule.latencies() {
            let (target, estimates) = match latency {
                Latency::Ttft => {
                    let ttft = |load: &WorkerLoad| {
                        self.ttft(load.queued_prefill_tokens, self.decode(load, 1.0))
                    };
                    (self.targets.ttft, loads.iter().map(ttft).collect::<Vec<_>>())
                }
                Latency::Itl => {
                    let itl = |load: &WorkerLoad| self.itl(load, kv_tokens(load));
                    (self.targets.itl, loads.iter().map(itl).collect())
                }
            };
            let lightest = self.ends(|value, least| value < least).into_iter();
            let mut order = lightest.chain(0..loads.len()).map(|place| estimates[place]);
            let within = order.find(|&estimate| estimate <= target);
            let least_ms = within.or(estimates.iter().min().copied()).unwrap().as_ms();
            match latency {
                Latency::Ttft => figures.ttft_ms = Some(least_ms),
                Latency::Itl => figures.itl_ms = Some(least_ms),
            }
            if within.is_none() {
                let target_ms = target.as_ms();
                return (Verdict::Up, Reason::AllAbove { latency, least_ms, target_ms }, figures);
            }
        }
        let step = self.case.step;
        let Some(factor) = respread(loads.len() as u32, step) else {
            return (Verdict::Stay, Reason::Within, figures);
        };
        let heaviest = self.ends(|value, most| value > most).into_iter();
        match heaviest.chain(0..loads.len()).find(|&place| !self.fits(&loads[place], factor)) {
            Some(place) => (Verdict::Stay, Reason::RespreadRefused { place }, figures),
            None => (Verdict::Down, Reason::Respread { step }, figures),
        }
    }

    /// The first workers with a queue and with KV that no other one is better at.
    fn ends(&self, is_better: impl Fn(u64, u64) -> bool) -> [usize; 2] {
        let loads = &self.case.loads;
        let figures: [fn(&WorkerLoad) -> u64; 2] =
            [|load| load.queued_prefill_tokens, |load| load.scheduled_kv_tokens];
        figures.map(|figure| {
            let better = |best: usize, place: usize| {
                let [value, other] = [best, place].map(|place| figure(&loads[place]));
                if is_better(other, value) { place } else { best }
            };
            (0..loads.len()).reduce(better).unwrap()
        })
    }

    fn fits(&self, load: &WorkerLoad, factor: f64) -> bool {
        let (role, sensitivity) = (self.rule.role, self.rule.sensitivity);
        let grown = |tokens: u64| (tokens as f64 * factor) as u64;
        let decode = self.decode(load, factor);
        let (own, queued) = (self.ttft(0, decode).as_ms(), grown(load.queued_prefill_tokens));
        let budget = (self.targets.ttft.as_ms() - own) * sensitivity;
        let caused = if queued > 0 { self.ttft(queued, decode).as_ms() - own } else { 0.0 };
        let queue = if role == Role::Aggregated { load.queued_prefill_tokens } else { 0 };
        let kv_tokens = grown(kv_tokens(load) + queue);
        let itl = self.itl(load, kv_tokens).as_ms();
        (role == Role::Decode || (budget > 0.0 && caused < budget))
            && (role == Role::Prefill
                || (kv_tokens < self.rule.engine.pool_tokens()
                    && itl < self.targets.itl.as_ms() * sensitivity))
    }

    fn decode(&self, load: &WorkerLoad, factor: f64) -> DecodeLoad {
        if self.rule.role == Role::Prefill {
            return DecodeLoad::default();
        }
        let kv_tokens = (load.scheduled_kv_tokens as f64 * factor) as u64;
        DecodeLoad { requests: load.running, kv_tokens }
    }

    fn ttft(&self, queued_tokens: u64, decode: DecodeLoad) -> Span {
        let computed = self.shape.computed_share(queued_tokens) + self.shape.computed_tokens();
        self.rule.engine.chunked(computed, decode)
    }

    fn itl(&self, load: &WorkerLoad, kv_tokens: u64) -> Span {
        let engine = &self.rule.engine;
        let (requests, aggregated) = (load.running.max(1), self.rule.role == Role::Aggregated);
        let pass = |tokens, kv_tokens| engine.pass(tokens, DecodeLoad { requests, kv_tokens });
        let Some(usual) = self.rule.usual else {
            let tokens = engine.typical_prefill(self.shape, load.running.into());
            return pass(if aggregated { tokens } else { 0 }, kv_tokens);
        };
        let kv_tokens = kv_tokens + usual.context;
        let share = if aggregated { usual.prefill_share } else { 0.0 };
        let with = pass(usual.prefill_tokens, kv_tokens).as_secs();
        Span::from_secs_f64(share * with + (1.0 - share) * pass(0, kv_tokens).as_secs())
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
        if case.latency == Latency::Ttft && rng.random() {
            case.tie(&rule, rng.random());
        }
        let ns = [
            rng.random_range(5_000_000..2_000_000_000),
            case.edge(&rule, |verdict| !matches!(verdict, Verdict::Up)),
            case.edge(&rule, |verdict| matches!(verdict, Verdict::Down)),
        ];
        if case.role == Role::Aggregated && rng.random() {
            case.tighten(&rule);
        }
        let near = |ns| [ns - ns / 200, ns - 1, ns, ns + 1, ns + ns / 50];
        for target in ns.into_iter().flat_map(near) {
            let target = Span::from_ns(target);
            let (verdict, reason, figures) = case.judge(&mut rule, target);
            let naive = Naive::new(&rule, &case);
            let (expected, expected_reason, all_figures) = naive.judge();
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

#[test]
fn rough_itls_are_off_by_rounding() {
    let mut rng = stream(6, 0);
    let engines = [
        polynomial(),
        measured_engine(RISING, [1.0; 3]),
        measured_engine(FALLING, [2.0, 0.8, 1.1]),
    ];
    let (mut known, mut largest) = (0, 0.0_f64);
    for _ in 0..200 {
        let case = Case::random(&mut rng, &engines);
        let rule = case.rule();
        let shape = Shape::new(rule.isl.unwrap(), rule.osl.unwrap_or(1.0), rule.hit_rate);
        let look = Look::new(&rule, shape, &case.loads);
        for load in &case.loads {
            let [ns, error] = look.rough_itl(load.running, kv_tokens(load));
            let exact = look.itl(load.running, kv_tokens(load)).as_ns() as f64;
            let off = (ns - exact).abs();
            assert!(off <= error, "{off} instead of {error}: {load:?} {case:?}");
            known += u32::from(error > 1.0);
            largest = largest.max(off);
        }
    }
    // Without a margin they would not do.
    assert!(known > 5000 && largest > 0.5, "{known} {largest}");
}

/// Passes that all take as long, and as long as the longest one: a part of each is rounded up by 0.4 ns, which rough times
/// leave out.
#[test]
fn the_longest_pass_has_a_margin() {
    let ms = 5.000_000_6;
    let other = [1, 4096].map(|tokens| OtherRow { tokens, prefill_ms: ms, decode_ms: Some(ms) });
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for batch in [1, 256] {
        for tokens in [1, 1024] {
            let [new_tokens, context_tokens] = [tokens; 2];
            for prefix_tokens in [0, 1024] {
                prefill.push(PrefillRow { batch, new_tokens, prefix_tokens, attn_ms: 0.0 });
            }
            decode.push(DecodeRow { batch, context_tokens, attn_ms: ms });
        }
    }
    let table = Table::new(Identity::default(), other.to_vec(), &prefill, &decode).unwrap();
    let measured = Measured::new(Arc::new(table), Scales::default(), Span::ZERO);
    let load = WorkerLoad { running: 4, scheduled_kv_tokens: 1000, ..WorkerLoad::default() };
    let case = Case {
        role: Role::Aggregated,
        engine: engine(TimingModel::Measured(measured)),
        basis: Basis::Requests,
        usual: UsualPass::default(),
        lax: Span::from_secs(100),
        latency: Latency::Itl,
        step: 1,
        loads: vec![load; 8],
    };
    let mut rule = case.rule();
    let edge = case.edge(&rule, |verdict| matches!(verdict, Verdict::Down));
    let mut verdicts = [0; 3];
    for target in edge - 3000..edge + 3000 {
        let (verdict, reason, _) = case.judge(&mut rule, Span::from_ns(target));
        let mut naive = Naive::new(&rule, &case);
        naive.targets = case.targets(Span::from_ns(target));
        let (expected, expected_reason, _) = naive.judge();
        assert_eq!((verdict as u8, reason), (expected as u8, expected_reason), "{target}");
        verdicts[verdict as usize] += 1;
    }
    // Of the ones that fit, some are known to by the longest pass, and those next to the edge are not.
    assert!(verdicts[Verdict::Down as usize] >= 3000 && verdicts[Verdict::Stay as usize] >= 2900);
    let longest_fits = |target: u64| {
        let mut rule = case.rule();
        rule.targets = case.targets(Span::from_ns(target));
        let shape = Shape::new(rule.isl.unwrap(), rule.osl.unwrap(), rule.hit_rate);
        Look::new(&rule, shape, &case.loads).all_fit_decode(8.0 / 7.0)
    };
    assert!(longest_fits(edge + 2000) && !longest_fits(edge + 1000));
}
