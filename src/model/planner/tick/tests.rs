//! Intervals, windows, bounds, pending actions, advice.

use super::*;
use crate::model::lifecycle::Counts;
use crate::model::planner::Fixed;
use crate::model::planner::testing::traffic;

/// Proposes one number after the other, and remembers what it saw.
#[derive(Debug)]
struct Script {
    proposals: Vec<Option<u32>>,
    next: usize,
}

fn script(proposals: &[Option<u32>]) -> Box<dyn ScalingPolicy> {
    Box::new(Script { proposals: proposals.to_vec(), next: 0 })
}

impl ScalingPolicy for Script {
    fn propose(&mut self, observation: &Observation<'_>) -> Proposal {
        let workers = self.proposals[self.next.min(self.proposals.len() - 1)];
        self.next += 1;
        let figures = Figures {
            rate: Some(observation.window.traffic.requests as f64),
            isl: Some(observation.window.length.as_secs()),
            ..Figures::default()
        };
        Proposal { workers, reason: Reason::Fixed, figures }
    }
}

fn secs(secs: u64) -> Span {
    Span::from_secs(secs)
}

fn timed(policy: Box<dyn ScalingPolicy>, interval: u64) -> Timed {
    Timed::new(policy, secs(interval), secs(interval), WhilePending::Act)
}

fn planner(policy: Timed, floor: Option<Timed>) -> Planner {
    let limits = Limits::new(1, 8, 1, None, None).unwrap();
    Planner::new(PlannerConfig { policy, floor, limits, advisory: false, initial: 2 })
}

fn reports(at: u64, ready: u32) -> Reports<'static> {
    Reports {
        now: Time::ZERO + secs(at),
        traffic: traffic(10 * at, 100, 10),
        counts: Counts { ready, ..Counts::default() },
        waiting: 0,
        loads: &[],
        usual_pass: None,
    }
}

#[test]
fn ticks_are_the_multiples_of_both_intervals() {
    let planner = planner(timed(script(&[None]), 4), Some(timed(script(&[None]), 6)));
    let (mut now, mut ticks) = (Time::ZERO, Vec::new());
    while now < Time::ZERO + secs(24) {
        now = planner.next_tick(now);
        ticks.push(now.as_ns() / 1_000_000_000);
    }
    assert_eq!(ticks, [4, 6, 8, 12, 16, 18, 20, 24]);
}

#[test]
fn every_policy_has_its_own_window() {
    let mut planner = planner(timed(script(&[None]), 4), Some(timed(script(&[None]), 6)));
    let seen = |planner: &mut Planner, at| {
        let figures = planner.tick(&reports(at, 2)).figures;
        (figures.rate.unwrap(), figures.isl.unwrap())
    };
    assert_eq!(seen(&mut planner, 4), (40.0, 4.0));
    assert_eq!(seen(&mut planner, 6), (60.0, 6.0), "the slow one alone");
    assert_eq!(seen(&mut planner, 8), (40.0, 4.0));
    assert_eq!(seen(&mut planner, 12), (40.0, 4.0), "both: the fast one is shown");
}

#[test]
fn a_window_may_be_longer_than_the_interval() {
    let policy = Timed::new(script(&[None]), secs(5), secs(12), WhilePending::Act);
    let mut planner = planner(policy, None);
    let windows: Vec<f64> =
        (1..=5).map(|tick| planner.tick(&reports(5 * tick, 2)).figures.isl.unwrap()).collect();
    assert_eq!(windows, [5.0, 10.0, 15.0, 15.0, 15.0], "12 s in whole intervals");
}

/// As in the reference peer: the slow policy sets a lower bound, the fast one moves above it.
#[test]
fn the_slow_policy_sets_a_bound() {
    let fast = timed(script(&[Some(3), Some(1), Some(6), None]), 4);
    let mut planner = planner(fast, Some(timed(script(&[Some(4), Some(2)]), 6)));
    let first = planner.tick(&reports(4, 2));
    assert_eq!((first.target, first.acts), (3, true), "no bound yet");
    let bound = planner.tick(&reports(6, 3));
    assert_eq!((bound.target, bound.acts), (3, false), "it waits for the fast one");
    assert_eq!(bound.reason, Reason::Bound { workers: 4 });
    let raised = planner.tick(&reports(8, 3));
    assert_eq!((raised.target, raised.proposed, raised.limit), (4, Some(1), Some(Limit::Bound)));
    assert_eq!(planner.tick(&reports(12, 4)).target, 6, "above the new bound of 2");
    assert_eq!(planner.tick(&reports(16, 6)).target, 6, "no opinion");
}

#[test]
fn a_bound_holds_without_an_opinion() {
    let mut planner = planner(timed(script(&[None]), 4), Some(timed(Box::new(Fixed::new(5)), 2)));
    planner.tick(&reports(2, 2));
    let decision = planner.tick(&reports(4, 2));
    assert_eq!((decision.proposed, decision.target, decision.acts), (None, 5, true));
}

#[test]
fn nothing_leaves_the_limits() {
    let mut planner = planner(timed(script(&[Some(99), Some(0)]), 1), None);
    let up = planner.tick(&reports(1, 2));
    assert_eq!((up.target, up.limit), (8, Some(Limit::WorkersMax)));
    assert_eq!(
        up.to_string(),
        "goes from 2 to 8 workers: the number is fixed (99 proposed, changed by the greatest number of workers)"
    );
    let down = planner.tick(&reports(2, 8));
    assert_eq!((down.target, down.limit, planner.target()), (1, Some(Limit::WorkersMin), 1));
}

#[test]
fn a_pending_action_is_waited_for() {
    let observe = WhilePending::Observe { limit: None };
    let policy = Timed::new(script(&[Some(4), Some(8)]), secs(1), secs(1), observe);
    let mut planner = planner(policy, None);
    assert_eq!(planner.tick(&reports(1, 2)).target, 4);
    for at in 2..100 {
        let decision = planner.tick(&reports(at, 3));
        assert_eq!((decision.target, decision.acts), (4, false));
        assert_eq!(decision.reason, Reason::Pending { ready: 3, target: 4 });
        assert_eq!(decision.proposed, Some(8), "it looks on");
    }
    assert_eq!(planner.tick(&reports(100, 4)).target, 8);
}

#[test]
fn waiting_may_have_an_end() {
    let observe = WhilePending::Observe { limit: Some(secs(10)) };
    let policy = Timed::new(script(&[Some(4), Some(8)]), secs(1), secs(1), observe);
    let mut planner = planner(policy, None);
    let targets: Vec<u32> = (1..=13).map(|at| planner.tick(&reports(at, 2)).target).collect();
    // Asked for at 1 s, missing since 2 s, waited for until 12 s.
    assert_eq!(targets, [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 8, 8]);
}

#[test]
fn advice_changes_nothing() {
    let limits = Limits::new(1, 8, 1, None, None).unwrap();
    let policy = timed(script(&[Some(5)]), 1);
    let config = PlannerConfig { policy, floor: None, limits, advisory: true, initial: 2 };
    let mut planner = Planner::new(config);
    for at in 1..4 {
        let decision = planner.tick(&reports(at, 2));
        assert_eq!((decision.before, decision.target, decision.acts), (2, 5, false));
        assert!(decision.to_string().starts_with("would go from 2 to 5 workers"), "{decision}");
        assert_eq!(planner.target(), 2);
    }
}
