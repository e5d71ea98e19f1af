//! Workers that come and go, by hand and at random.

use std::collections::BTreeSet;

use rand::RngExt;

use super::*;
use crate::kernel::rng::stream;

fn at(secs: u64) -> Time {
    Time::ZERO + Span::from_secs(secs)
}

/// Up to 8 workers of 2 GPUs that take 60 s to start.
fn spec() -> LifecycleSpec {
    LifecycleSpec {
        workers_max: 8,
        gpus_per_worker: 2,
        startup: Startup::constant(Span::from_secs(60)),
        warm: 0,
        starting_max: None,
        gpus_max: None,
        victims: Victims::Newest,
    }
}

fn lifecycle(spec: LifecycleSpec, ready: u32) -> Lifecycle {
    let mut lifecycle = Lifecycle::new(spec, ready, stream(1, 0));
    lifecycle.take_changes();
    lifecycle
}

/// What changed: worker and new state.
fn changes(lifecycle: &mut Lifecycle) -> Vec<(u32, State)> {
    lifecycle.take_changes().iter().map(|change| (change.worker.0, change.to)).collect()
}

fn counts(lifecycle: &Lifecycle) -> [u32; 5] {
    let Counts { waiting, starting, warm, ready, draining } = lifecycle.counts();
    [waiting, starting, warm, ready, draining]
}

#[test]
fn a_worker_lives() {
    let mut lifecycle = lifecycle(spec(), 2);
    lifecycle.aim(at(10), 3, |_| 0);
    assert_eq!(changes(&mut lifecycle), [(2, State::Starting)]);
    assert_eq!(lifecycle.next_ready(), Some(at(70)));
    lifecycle.advance(at(69));
    assert_eq!(counts(&lifecycle), [0, 1, 0, 2, 0]);
    lifecycle.advance(at(70));
    assert_eq!(changes(&mut lifecycle), [(2, State::Warm), (2, State::Ready)]);
    assert_eq!(lifecycle.next_ready(), None);
    lifecycle.aim(at(100), 2, |_| 0);
    assert_eq!(changes(&mut lifecycle), [(2, State::Draining)]);
    lifecycle.drained(at(130), WorkerId(2));
    assert_eq!(changes(&mut lifecycle), [(2, State::Gone)]);
    // Two workers of 2 GPUs for 200 s; a third one starting for 60, ready for 30, draining for 30.
    let gpu_time = lifecycle.gpu_time(at(200));
    let secs = |gpu_ns: u128| gpu_ns / 1_000_000_000;
    assert_eq!(
        [gpu_time.starting, gpu_time.ready, gpu_time.draining, gpu_time.warm].map(secs),
        [120, 800 + 60, 60, 0]
    );
    assert_eq!(secs(gpu_time.total()), 1040);
    assert!((gpu_time.hours() - 1040.0 / 3600.0).abs() < 1e-12);
    assert!((gpu_time.cost(3.6) - 1.04).abs() < 1e-12);
}

/// As in the reference peer: those on their way are called off first, the latest first.
#[test]
fn start_ups_are_cancelled_before_anybody_drains() {
    let mut lifecycle = lifecycle(spec(), 2);
    lifecycle.aim(at(0), 4, |_| 0);
    lifecycle.aim(at(10), 5, |_| 0);
    lifecycle.take_changes();
    lifecycle.aim(at(20), 3, |_| 0);
    assert_eq!(changes(&mut lifecycle), [(4, State::Gone), (3, State::Gone)]);
    assert_eq!(lifecycle.next_ready(), Some(at(60)));
    lifecycle.aim(at(30), 1, |_| 0);
    assert_eq!(changes(&mut lifecycle), [(2, State::Gone), (1, State::Draining)]);
    assert_eq!(lifecycle.next_ready(), None, "nobody is on the way");
    // Number 1 is still there, so number 2 is the lowest free one; what was due at 60 s is void.
    lifecycle.aim(at(40), 2, |_| 0);
    assert_eq!(changes(&mut lifecycle), [(2, State::Starting)]);
    lifecycle.advance(at(60));
    assert_eq!(counts(&lifecycle), [0, 1, 0, 1, 1]);
    lifecycle.advance(at(100));
    assert_eq!(counts(&lifecycle), [0, 0, 0, 2, 1]);
}

#[test]
fn victims_follow_the_rule() {
    let loads = [5, 1, 9, 1];
    let drained = |victims| {
        let mut lifecycle = lifecycle(LifecycleSpec { victims, ..spec() }, 4);
        lifecycle.aim(at(1), 2, |worker| loads[worker.index()]);
        let draining: Vec<u32> =
            lifecycle.workers(State::Draining).map(|worker| worker.0).collect();
        draining
    };
    assert_eq!(drained(Victims::Newest), [2, 3]);
    assert_eq!(drained(Victims::Oldest), [0, 1]);
    assert_eq!(drained(Victims::LeastLoaded), [1, 3]);
}

/// The newest is the one that started last, not the one with the highest number.
#[test]
fn numbers_are_used_again() {
    let mut lifecycle = lifecycle(LifecycleSpec { victims: Victims::Oldest, ..spec() }, 3);
    lifecycle.aim(at(0), 2, |_| 0);
    lifecycle.drained(at(1), WorkerId(0));
    lifecycle.aim(at(2), 3, |_| 0);
    lifecycle.advance(at(62));
    assert_eq!(lifecycle.state(WorkerId(0)), State::Ready);
    lifecycle.aim(at(63), 2, |_| 0);
    assert_eq!(lifecycle.state(WorkerId(1)), State::Draining, "0 is the youngest now");
}

#[test]
fn the_warm_pool_is_taken_first_and_filled_again() {
    let mut lifecycle = lifecycle(LifecycleSpec { warm: 2, ..spec() }, 2);
    assert_eq!(counts(&lifecycle), [0, 0, 2, 2, 0]);
    lifecycle.aim(at(10), 5, |_| 0);
    // Two are taken at once, three start: one to serve, two to be warm.
    assert_eq!(counts(&lifecycle), [0, 3, 0, 4, 0]);
    lifecycle.advance(at(70));
    assert_eq!(counts(&lifecycle), [0, 0, 2, 5, 0]);
    lifecycle.aim(at(80), 4, |_| 0);
    assert_eq!(counts(&lifecycle), [0, 0, 2, 4, 1], "the pool is full");
    lifecycle.drained(at(90), WorkerId(4));
    assert_eq!(counts(&lifecycle), [0, 0, 2, 4, 0]);
}

/// A worker that has drained while another one starts for the warm pool takes its place.
#[test]
fn a_drained_worker_may_stay_warm() {
    let mut lifecycle = lifecycle(LifecycleSpec { warm: 1, ..spec() }, 2);
    lifecycle.aim(at(0), 3, |_| 0);
    assert_eq!(counts(&lifecycle), [0, 1, 0, 3, 0]);
    lifecycle.aim(at(10), 2, |_| 0);
    assert_eq!(counts(&lifecycle), [0, 1, 0, 2, 1]);
    lifecycle.drained(at(20), WorkerId(2));
    assert_eq!(counts(&lifecycle), [0, 0, 1, 2, 0], "the start-up is cancelled");
}

#[test]
fn few_start_at_once() {
    let mut lifecycle = lifecycle(LifecycleSpec { starting_max: Some(2), ..spec() }, 1);
    lifecycle.aim(at(0), 6, |_| 0);
    assert_eq!(counts(&lifecycle), [3, 2, 0, 1, 0]);
    lifecycle.advance(at(60));
    assert_eq!(counts(&lifecycle), [1, 2, 0, 3, 0]);
    lifecycle.advance(at(1000));
    assert_eq!(counts(&lifecycle), [0, 0, 0, 6, 0]);
    // 60, 120 and 180 s: each batch begins when the one before ends, also if nobody looks in between.
    let ends: Vec<Time> = lifecycle.take_changes().iter().map(|change| change.at).collect();
    assert_eq!(ends.last(), Some(&at(180)));
}

/// 9 GPUs hold 4 workers of 2, those that drain included.
#[test]
fn the_budget_holds_for_all_states() {
    let mut lifecycle = lifecycle(LifecycleSpec { gpus_max: Some(9), ..spec() }, 3);
    lifecycle.aim(at(0), 6, |_| 0);
    assert_eq!(counts(&lifecycle), [2, 1, 0, 3, 0]);
    lifecycle.aim(at(1), 2, |_| 0);
    assert_eq!(counts(&lifecycle), [0, 0, 0, 2, 1]);
    lifecycle.aim(at(2), 4, |_| 0);
    assert_eq!(counts(&lifecycle), [1, 1, 0, 2, 1], "the one that drains is in the way");
    lifecycle.drained(at(3), WorkerId(2));
    assert_eq!(counts(&lifecycle), [0, 2, 0, 2, 0]);
}

#[test]
fn no_start_up_time_means_at_once() {
    let mut lifecycle = lifecycle(LifecycleSpec { startup: Startup::default(), ..spec() }, 1);
    lifecycle.aim(at(5), 4, |_| 0);
    assert_eq!((counts(&lifecycle), lifecycle.next_ready()), ([0, 0, 0, 4, 0], None));
    lifecycle.aim(at(6), 0, |_| 0);
    assert_eq!(counts(&lifecycle), [0, 0, 0, 0, 4]);
    assert_eq!(lifecycle.workers(State::Draining).count(), 4);
}

/// Random targets and drains, against a walk through all workers second by second.
#[test]
fn nothing_is_lost_and_every_second_is_paid() {
    for seed in 0..200 {
        let mut rng = stream(seed, 0);
        let spec = LifecycleSpec {
            workers_max: rng.random_range(1..12),
            gpus_per_worker: rng.random_range(1..4),
            startup: Startup::constant(Span::from_secs(rng.random_range(0..20))),
            warm: rng.random_range(0..3),
            starting_max: rng.random::<bool>().then(|| rng.random_range(1..4)),
            gpus_max: rng.random::<bool>().then(|| rng.random_range(1..30)),
            victims: [Victims::Newest, Victims::Oldest, Victims::LeastLoaded]
                [rng.random_range(0..3)],
        };
        let mut lifecycle = Lifecycle::new(spec.clone(), rng.random_range(0..8), stream(seed, 1));
        let mut states = vec![State::Gone; spec.workers_max as usize];
        let (mut paid, mut starting) = (0_u128, BTreeSet::new());
        for now in 0..200 {
            lifecycle.advance(at(now));
            if rng.random_range(0..6) == 0 {
                lifecycle.aim(at(now), rng.random_range(0..12), |worker| u64::from(worker.0 % 3));
            }
            let draining: Vec<WorkerId> = lifecycle.workers(State::Draining).collect();
            for worker in draining {
                if rng.random_range(0..4) == 0 {
                    lifecycle.drained(at(now), worker);
                }
            }
            for change in lifecycle.take_changes() {
                let state = &mut states[change.worker.index()];
                assert_eq!((*state, change.at), (change.from, at(now)), "seed {seed}");
                *state = change.to;
                if change.to == State::Starting {
                    starting.insert((change.worker, now));
                }
            }
            let present = states.iter().filter(|&&state| state != State::Gone).count();
            paid += present as u128 * u128::from(spec.gpus_per_worker) * 1_000_000_000;
            assert_eq!(lifecycle.gpu_time(at(now + 1)).total(), paid, "seed {seed}");
            assert!(lifecycle.is_consistent(), "seed {seed}");
            let counts = lifecycle.counts();
            assert!(counts.ready <= lifecycle.target() && counts.warm <= spec.warm, "seed {seed}");
            assert!(counts.warm == 0 || counts.ready == lifecycle.target(), "seed {seed}");
            for worker in lifecycle.workers(State::Starting) {
                let since = starting.iter().filter(|(other, _)| *other == worker).map(|(_, t)| t);
                let age = now - since.max().unwrap();
                assert!(at(age) < Time::ZERO + spec.startup.sample(&mut rng), "seed {seed}");
            }
        }
    }
}
