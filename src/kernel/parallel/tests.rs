//! The parallel executors against the sequential one, on toys in which a single reordering changes everything after it.

use std::ops::ControlFlow;

use rand::RngExt;

use crate::kernel::asynchronous;
use crate::kernel::parallel::census::Census;
use crate::kernel::parallel::{ParallelOptions, can_run_parallel, run, run_counted};
use crate::kernel::rng::{mix64, stream};
use crate::kernel::sequential::{self, Finished, Observer, Stopped};
use crate::kernel::sync::{AtomicU32, Ordering};
use crate::kernel::time::{Span, Time};
use crate::kernel::toys::{self, Digest, StarSpec, Toy};

/// Stops after so many polls; 0 for never.
struct StopAfter(AtomicU32);

impl Observer<Digest> for StopAfter {
    fn poll(&self, _: Time, _: &mut Digest) -> ControlFlow<()> {
        match self.0.fetch_sub(1, Ordering::Relaxed) {
            1 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn never() -> StopAfter {
    StopAfter(AtomicU32::new(0))
}

type Executor =
    fn(&mut [Toy], &mut [Digest], &StopAfter, ParallelOptions<'_>) -> Result<Finished, Stopped>;

/// In phases, and with a clock for each group.
const EXECUTORS: [Executor; 2] = [run, asynchronous::run];

fn on(
    executor: Executor,
    lps: &mut [Toy],
    threads: usize,
    options: ParallelOptions<'_>,
) -> Result<Finished, Stopped> {
    executor(lps, &mut vec![Digest::default(); threads], &never(), options)
}

fn options(spokes_per_group: usize, seed: u64) -> ParallelOptions<'static> {
    ParallelOptions {
        spokes_per_group,
        stealing: seed.is_multiple_of(2),
        hub_budget: [1, 7, 1 << 14][seed as usize % 3],
        fuzz: (seed % 5 > 1).then_some(seed),
        ..ParallelOptions::default()
    }
}

fn spec(seed: u64) -> StarSpec {
    let mut rng = stream(seed, 1);
    let tick = [Span::ZERO, Span::from_ns(1), Span::from_ms(1)][rng.random_range(0..3)];
    let mut lookahead = |choices: &[Span]| choices[rng.random_range(0..choices.len())];
    let (none, short, long) = (Span::ZERO, Span::from_us(10), Span::from_ms(1));
    let mut hub = lookahead(&[none, short, long]);
    let spoke = lookahead(&[none, short, long, Span::from_ms(7), Span::FOREVER, Span::FOREVER]);
    if hub == none && spoke == none {
        hub = long;
    }
    let loop_ns = hub.as_ns() + if spoke == Span::FOREVER { 0 } else { spoke.as_ns() };
    StarSpec {
        spokes: rng.random_range(1..80),
        jobs: rng.random_range(1..200),
        paced: rng.random_bool(0.4),
        seed,
        hub,
        spoke,
        tick,
        end: Time::from_ns((loop_ns + 2 * tick.as_ns()) * rng.random_range(2..40)),
        family: [1, 1, 4][rng.random_range(0..3)],
    }
}

#[test]
fn every_schedule_gives_the_sequential_result() {
    let seeds = std::env::var("FLEETSIM_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(60) {
        let spec = spec(seed);
        let mut twin = toys::star(spec);
        let expected =
            sequential::run(&mut twin, &mut Digest::default(), &never()).expect("no panics");
        for threads in [1, 2, 3, 4, 7, 8, 16] {
            let families = [1, 3, 32, 100][(seed as usize + threads) % 4];
            let size = families * spec.family as usize;
            for (number, executor) in EXECUTORS.into_iter().enumerate() {
                let mut lps = toys::star(spec);
                let options = options(size, mix64(seed + threads as u64));
                let finished = on(executor, &mut lps, threads, options);
                let context =
                    format!("seed {seed}, executor {number}, {threads} threads, {spec:?}");
                assert_eq!(finished.expect(&context), expected, "{context}");
                assert_eq!(toys::digest(&lps), toys::digest(&twin), "{context}");
            }
        }
    }
}

/// Phases and their horizons follow from the LPs alone; how many tasks they have, from the size of groups too.
#[test]
fn every_thread_count_has_the_same_phases() {
    for seed in 0..40 {
        let spec = spec(seed);
        let mut phases = None;
        for size in [1, 3, 32].map(|families| families * spec.family as usize) {
            let mut first = None;
            for threads in [1, 2, 3, 5, 8] {
                let hub_budget = options(size, seed).hub_budget;
                let draw = mix64(seed + threads as u64);
                let options = ParallelOptions { hub_budget, ..options(size, draw) };
                let mut recorders = vec![Digest::default(); threads];
                let (_, census) =
                    run_counted(&mut toys::star(spec), &mut recorders, &never(), options);
                assert!(census.tasks >= census.phases && census.phases > 0, "{census:?}");
                assert_eq!(census, *first.get_or_insert(census), "{threads} threads, {spec:?}");
                let of_all_sizes = Census { tasks: 0, ..census };
                assert_eq!(of_all_sizes, *phases.get_or_insert(of_all_sizes), "{size}, {spec:?}");
            }
        }
    }
}

/// The panic that the sequential executor meets first is reported, whatever else panics in the same phase or before.
#[test]
fn the_first_panic_is_reported_by_any_number_of_threads() {
    for seed in 0..150 {
        let spec = spec(seed);
        let mut rng = stream(seed, 2);
        let mut bombs = Vec::new();
        for _ in 0..rng.random_range(1..5) {
            // The hub runs ahead of the spokes: what it panics at may not be the first panic.
            let hub = rng.random_bool(0.4);
            let lp = if hub { 0 } else { rng.random_range(1..=spec.spokes) as usize };
            let latest = spec.end.as_ns() >> rng.random_range(0..6);
            bombs.push((lp, Time::from_ns(rng.random_range(0..=latest))));
        }
        let armed = || {
            let mut lps = toys::star(spec);
            for &(lp, time) in &bombs {
                toys::panic_at(&mut lps, lp, time);
            }
            lps
        };
        let expected = sequential::run(&mut armed(), &mut Digest::default(), &never());
        let expected = expected.map_err(|stopped| stopped.to_string());
        for threads in [1, 2, 3, 8] {
            for (number, executor) in EXECUTORS.into_iter().enumerate() {
                let options = options(3 * spec.family as usize, seed);
                let result = on(executor, &mut armed(), threads, options);
                let found = result.map_err(|stopped| stopped.to_string());
                assert_eq!(found, expected, "seed {seed}, executor {number}");
            }
        }
    }
}

fn endless() -> StarSpec {
    let (hub, spoke, tick) = (Span::from_ms(1), Span::from_ms(1), Span::from_us(10));
    StarSpec {
        spokes: 20,
        family: 1,
        jobs: 100,
        paced: false,
        seed: 1,
        hub,
        spoke,
        tick,
        end: Time::MAX,
    }
}

#[test]
fn the_observer_can_stop_it() {
    for threads in [1, 2, 4] {
        for executor in EXECUTORS {
            let observer = StopAfter(AtomicU32::new(3));
            let mut recorders = vec![Digest::default(); threads];
            let options = ParallelOptions::default();
            let stopped = executor(&mut toys::star(endless()), &mut recorders, &observer, options);
            assert!(matches!(stopped, Err(Stopped::Halted)), "{stopped:?}");
        }
    }
}

#[test]
fn a_panic_outside_any_lp_ends_the_run() {
    for (threads, executor) in [2, 4].into_iter().flat_map(|n| EXECUTORS.map(|run| (n, run))) {
        let errand = || panic!("an errand of doom");
        let options = ParallelOptions { errand: &errand, ..ParallelOptions::default() };
        match on(executor, &mut toys::star(endless()), threads, options) {
            Err(Stopped::Broken { message }) => assert!(message.contains("doom"), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn without_lookahead_there_is_no_parallel_run() {
    let spec = StarSpec { hub: Span::ZERO, spoke: Span::ZERO, ..endless() };
    assert!(!can_run_parallel(&toys::star(spec)));
    assert!(can_run_parallel(&toys::star(StarSpec { spoke: Span::FOREVER, ..spec })));
}
