//! Sessions by hand, and random ones against a simple twin.

use std::collections::BTreeMap;

use rand::RngExt;

use super::*;
use crate::kernel::rng::{Stream, stream};
use crate::model::request::Prompt;
use crate::model::session::CallSpec;

fn ms(ms: u64) -> Time {
    Time::ZERO + Span::from_ms(ms)
}

fn call(id: u64, wait_for: &[u64], delay_ms: f64, tool_ms: f64) -> CallSpec {
    CallSpec { id, wait_for: wait_for.to_vec(), delay_ms, tool_ms }
}

/// A session whose calls ask for next to nothing.
fn opening(plan: Plan) -> Opening {
    let asks = (0..plan.calls()).map(|line| Ask::new(line as u64, Prompt::unique(1), 1)).collect();
    Opening { at: Time::ZERO, name: None, plan, asks }
}

/// The places of the calls that are ready by now, and since when.
fn ready(sessions: &mut Sessions, now: Time) -> Vec<(CallId, Time)> {
    std::iter::from_fn(|| sessions.pop(now)).map(|ready| (ready.call, ready.at)).collect()
}

#[test]
fn a_turn_starts_when_the_one_before_has_completed() {
    let mut sessions = Sessions::new();
    sessions.open(ms(100), opening(Plan::chain([Span::from_ms(30), Span::from_ms(50)])));
    let first = sessions.pop(ms(100)).unwrap();
    assert_eq!((first.call.call, first.at), (0, ms(100)));
    assert_eq!(sessions.next_ready(), None, "all wait for the first");
    assert_eq!(sessions.complete(ms(250), first.call), Progress::GoesOn);
    assert_eq!(sessions.next_ready(), Some(ms(280)));
    assert_eq!(sessions.pop(ms(279)), None);
    let second = sessions.pop(ms(300)).unwrap();
    assert_eq!(second.at, ms(280), "it was ready before somebody asked");
    sessions.complete(ms(400), second.call);
    let third = sessions.pop(ms(450)).unwrap();
    assert_eq!((sessions.live(), sessions.counts().done), (1, 0));
    assert_eq!(sessions.complete(ms(460), third.call), Progress::Ended(Span::from_ms(360)));
    assert_eq!((sessions.live(), sessions.counts().done), (0, 1));
}

/// 1 fans out to 2 and 3, which take different times; 4 waits for both and for its tools.
#[test]
fn an_agent_fans_out_and_comes_together() {
    let specs = [
        call(1, &[], 0.0, 0.0),
        call(2, &[1], 10.0, 0.0),
        call(3, &[1], 0.0, 20.0),
        call(4, &[2, 3], 5.0, 7.0),
    ];
    let mut sessions = Sessions::new();
    sessions.open(ms(0), opening(Plan::new(&specs).unwrap()));
    let root = ready(&mut sessions, ms(0))[0].0;
    sessions.complete(ms(100), root);
    let fan = ready(&mut sessions, ms(1000));
    assert_eq!(
        fan.iter().map(|(id, at)| (id.call, *at)).collect::<Vec<_>>(),
        [(1, ms(110)), (2, ms(120))]
    );
    sessions.complete(ms(300), fan[0].0);
    assert_eq!(sessions.next_ready(), None);
    // The later end counts, whichever is told first.
    sessions.complete(ms(200), fan[1].0);
    assert_eq!(ready(&mut sessions, ms(1000))[0].1, ms(312));
}

#[test]
fn equal_times_go_by_session_and_call() {
    let mut sessions = Sessions::new();
    for _ in 0..3 {
        let specs = [call(1, &[], 5.0, 0.0), call(2, &[], 5.0, 0.0)];
        sessions.open(ms(0), opening(Plan::new(&specs).unwrap()));
    }
    let order: Vec<(u64, u32)> =
        ready(&mut sessions, ms(5)).iter().map(|(id, _)| (id.session, id.call)).collect();
    assert_eq!(order, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
}

#[test]
fn who_gives_up_is_forgotten() {
    let mut sessions = Sessions::new();
    let specs = [call(1, &[], 0.0, 0.0), call(2, &[], 50.0, 0.0), call(3, &[1], 0.0, 0.0)];
    sessions.open(ms(0), opening(Plan::new(&specs).unwrap()));
    let first = sessions.pop(ms(0)).unwrap();
    sessions.abandon(first.call);
    assert_eq!((sessions.live(), sessions.next_ready()), (0, None));
    // Another session takes its place; what is said about the old one does not touch it.
    sessions.open(ms(10), opening(Plan::chain([Span::ZERO])));
    assert_eq!(sessions.complete(ms(20), first.call), Progress::Late);
    sessions.abandon(first.call);
    assert_eq!(sessions.live(), 1);
    let counts = sessions.counts();
    assert_eq!((counts.abandoned, counts.dropped, counts.completed), (1, 3, 0));
}

/// A graph in which each call waits for some of those before.
fn random_specs(rng: &mut Stream) -> Vec<CallSpec> {
    let calls = rng.random_range(1..20);
    let mut specs = Vec::new();
    for place in 0..calls {
        let wait_for: Vec<u64> = (0..place)
            .filter(|_| rng.random_range(0..place.min(4) + 1) == 0)
            .map(|p| 70 - p)
            .collect();
        let time = |rng: &mut Stream| f64::from(rng.random_range(0..50));
        specs.push(call(70 - place, &wait_for, time(rng), time(rng)));
    }
    specs
}

/// Looks at everything, every time.
struct Twin {
    opened: Time,
    specs: Vec<CallSpec>,
    handed_out: Vec<bool>,
    ended: BTreeMap<u64, Time>,
}

impl Twin {
    /// When a call is ready, if what it waits for has completed.
    fn ready(&self, spec: &CallSpec) -> Option<Time> {
        let ends: Option<Vec<Time>> =
            spec.wait_for.iter().map(|id| self.ended.get(id).copied()).collect();
        let last = ends?.into_iter().max().unwrap_or(self.opened);
        Some(last + Span::from_ms((spec.delay_ms + spec.tool_ms) as u64))
    }

    fn due(&mut self, now: Time) -> Vec<(u32, Time)> {
        let mut due = Vec::new();
        for place in 0..self.specs.len() {
            let at = self.ready(&self.specs[place]).filter(|&at| at <= now);
            if let Some(at) = at
                && !self.handed_out[place]
            {
                self.handed_out[place] = true;
                due.push((place as u32, at));
            }
        }
        due
    }
}

/// Random graphs side by side. Calls take random times; every call is made once, at the right time.
#[test]
fn every_call_is_made_once_and_in_time() {
    for seed in 0..100 {
        let mut rng = stream(seed, 0);
        let mut sessions = Sessions::new();
        let mut twins: BTreeMap<u64, Twin> = BTreeMap::new();
        let mut running: Vec<(Time, CallId)> = Vec::new();
        let (mut calls, mut dropped) = (0, 0);
        for now in (0..3000).map(ms) {
            if rng.random_range(0..40) == 0 && twins.len() < 30 {
                let specs = random_specs(&mut rng);
                let number = sessions.open(now, opening(Plan::new(&specs).unwrap()));
                let handed_out = vec![false; specs.len()];
                calls += specs.len() as u64;
                twins.insert(
                    number,
                    Twin { opened: now, specs, handed_out, ended: BTreeMap::new() },
                );
            }
            let (done, still): (Vec<_>, Vec<_>) =
                running.into_iter().partition(|(at, _)| *at <= now);
            running = still;
            for (_, id) in done {
                let twin = twins.get_mut(&id.session);
                let is_late = sessions.complete(now, id) == Progress::Late;
                assert_eq!(is_late, twin.is_none(), "seed {seed}");
                if let Some(twin) = twin {
                    let name = twin.specs[id.call as usize].id;
                    assert_eq!(twin.ended.insert(name, now), None, "seed {seed}");
                    if twin.ended.len() == twin.specs.len() {
                        twins.remove(&id.session);
                    }
                }
            }
            let mut got: Vec<(u64, u32, Time)> = Vec::new();
            for (id, at) in ready(&mut sessions, now) {
                got.push((id.session, id.call, at));
                running.push((now + Span::from_ms(rng.random_range(1..80)), id));
            }
            let due = twins.iter_mut().flat_map(|(&number, twin)| {
                twin.due(now).into_iter().map(move |(call, at)| (number, call, at))
            });
            let mut due: Vec<(u64, u32, Time)> = due.collect();
            due.sort_by_key(|&(number, call, at)| (at, number, call));
            assert_eq!(got, due, "seed {seed} at {now}");
            if rng.random_range(0..200) == 0
                && let Some(&(_, id)) = running.first()
                && let Some(twin) = twins.remove(&id.session)
            {
                dropped += (twin.specs.len() - twin.ended.len()) as u64;
                sessions.abandon(id);
            }
            assert_eq!(sessions.live(), twins.len(), "seed {seed}");
        }
        let counts = sessions.counts();
        let left: usize = twins.values().map(|twin| twin.specs.len() - twin.ended.len()).sum();
        assert_eq!(counts.completed + counts.dropped + left as u64, calls, "seed {seed}");
        assert_eq!((counts.dropped, counts.planned), (dropped, calls), "seed {seed}");
        assert_eq!(counts.opened, counts.done + counts.abandoned + twins.len() as u64);
    }
}
