//! The part of the coordinator that lets workers come and go: what the Planner is told, when it looks, and what comes of
//! it.

use crate::fleet::message::Feedback;
use crate::fleet::spec::{FleetSpec, Scaling};
use crate::kernel::Time;
use crate::model::lifecycle::{Counts, GpuTime, History, Lifecycle, State};
use crate::model::planner::{
    Decision, Planner, RecentPasses, Reports, Traffic, Window, WorkerLoad,
};
use crate::model::request::{Request, WorkerId};
use crate::model::router::Policy;

/// What the Planner saw and decided at one tick.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tick {
    /// When.
    pub at: Time,
    /// What was reported since the last tick.
    pub window: Window,
    /// Workers by state, before the decision.
    pub counts: Counts,
    /// Requests that waited in front of the fleet.
    pub waiting: u64,
    /// Requests that waited in ready workers, as last reported.
    pub queued: u64,
    /// Requests in the batches of ready workers, as last reported.
    pub running: u64,
    /// KV tokens of requests that decode on ready workers, as last reported.
    pub kv_tokens: u64,
    /// What came of it.
    pub decision: Decision,
}

/// How the workers of a run came and went.
#[derive(Clone, Debug)]
pub struct Scaled {
    /// Every tick, in order.
    pub ticks: Vec<Tick>,
    /// Workers by state, over time.
    pub history: History,
    /// Start-ups.
    pub started: u64,
    /// Of these, those that were over before the end of the run. Some may have been cancelled.
    pub arrived: u64,
    /// Workers with lower numbers than this were there at some time, the others never.
    pub used: u32,
    /// The GPU time of the whole run, by the books of the lifecycle.
    pub(super) gpu_time: GpuTime,
}

impl Scaled {
    /// How often the Planner asked for more workers, and how often for fewer.
    pub fn actions(&self) -> [usize; 2] {
        let acts = || self.ticks.iter().map(|tick| tick.decision).filter(|made| made.acts);
        let ups = acts().filter(|made| made.target > made.before).count();
        [ups, acts().count() - ups]
    }
}

/// Counts workers, tells the Planner, and does what it says.
pub(super) struct Scaler {
    planner: Planner,
    lifecycle: Lifecycle,
    traffic: Traffic,
    /// What each worker has to do, as last reported.
    loads: Vec<WorkerLoad>,
    /// The last passes of all workers, and who has ended one since it got ready; only if the Planner reads passes.
    passes: Option<(RecentPasses, Vec<bool>)>,
    /// Requests sent to each worker whose end has not been heard of.
    in_flight: Vec<u64>,
    /// Draining workers that have become empty.
    empty: Vec<WorkerId>,
    next_tick: Time,
    /// The time and the traffic at the last tick.
    last: (Time, Traffic),
    ticks: Vec<Tick>,
    history: History,
    started: u64,
    arrived: u64,
    used: u32,
}

impl Scaler {
    /// At the start of a run; `policy` hears which workers are not there.
    pub(super) fn new(spec: &FleetSpec, scaling: &Scaling, policy: &mut dyn Policy) -> Scaler {
        let Scaling { planner, lifecycle, cold_start } = scaling;
        let gpus_per_worker = lifecycle.gpus_per_worker;
        let (initial, workers) = (planner.initial, spec.workers());
        let passes = (RecentPasses::default(), vec![false; workers as usize]);
        let passes = planner.reads_passes().then_some(passes);
        let planner = planner.build(&spec.pools[0].engine);
        let ready = if *cold_start { 0 } else { initial };
        let mut lifecycle = Lifecycle::new(lifecycle.clone(), ready, spec.lifecycle_stream());
        lifecycle.aim(Time::ZERO, initial, |_| 0);
        let started = lifecycle.take_changes().iter().filter(|c| c.to == State::Starting).count();
        for worker in (0..workers).map(WorkerId) {
            if lifecycle.state(worker) != State::Ready {
                policy.left(worker);
            }
        }
        Scaler {
            next_tick: planner.next_tick(Time::ZERO),
            planner,
            traffic: Traffic::default(),
            passes,
            loads: vec![WorkerLoad::default(); workers as usize],
            in_flight: vec![0; workers as usize],
            empty: Vec::new(),
            last: (Time::ZERO, Traffic::default()),
            ticks: Vec::new(),
            history: History::new(gpus_per_worker, lifecycle.counts()),
            used: lifecycle.counts().present(),
            started: started as u64,
            arrived: 0,
            lifecycle,
        }
    }

    /// Whether any worker takes requests.
    pub(super) fn has_ready(&self) -> bool {
        self.lifecycle.counts().ready > 0
    }

    /// Whether a worker may leave when it has reported that it is empty.
    pub(super) fn is_draining(&self) -> bool {
        self.lifecycle.counts().draining > 0
    }

    /// When something happens next that nobody reports: a tick, or the end of a start-up.
    pub(super) fn next(&mut self) -> Time {
        self.lifecycle.next_ready().map_or(self.next_tick, |ready| ready.min(self.next_tick))
    }

    /// A request has arrived.
    pub(super) fn arrive(&mut self, request: &Request) {
        self.traffic.add_arrival(request.prompt.tokens);
    }

    /// A request is on its way to a worker.
    pub(super) fn route(&mut self, worker: WorkerId) {
        self.in_flight[worker.index()] += 1;
    }

    /// A worker has reported. Says whether that makes it leave.
    pub(super) fn hear(&mut self, feedback: &Feedback) -> bool {
        let worker = feedback.worker;
        if let Some(observed) = &feedback.observed {
            self.traffic.add(&observed.traffic);
            self.loads[worker.index()] = observed.load;
            if let (Some((recent, seen)), Some(pass)) = (&mut self.passes, &observed.pass) {
                recent.add(pass);
                seen[worker.index()] = true;
            }
        }
        let in_flight = &mut self.in_flight[worker.index()];
        *in_flight -= feedback.finished.len() as u64;
        let leaves = !feedback.finished.is_empty()
            && *in_flight == 0
            && self.lifecycle.state(worker) == State::Draining;
        if leaves {
            self.empty.push(worker);
        }
        leaves
    }

    /// Does what is due now, `waiting` requests being in front of the fleet. Says which workers have left.
    pub(super) fn advance(
        &mut self,
        now: Time,
        waiting: u64,
        policy: &mut dyn Policy,
    ) -> Vec<WorkerId> {
        self.lifecycle.advance(now);
        for worker in std::mem::take(&mut self.empty) {
            self.lifecycle.drained(now, worker);
        }
        if now >= self.next_tick {
            self.tick(now, waiting);
        }
        let gone = self.apply(now, policy);
        self.history.push(now, self.lifecycle.counts());
        gone
    }

    fn tick(&mut self, now: Time, waiting: u64) {
        let has_reported =
            |worker: &WorkerId| self.passes.as_ref().is_none_or(|(_, seen)| seen[worker.index()]);
        let ready = self.lifecycle.workers(State::Ready).filter(has_reported);
        let loads: Vec<WorkerLoad> = ready.map(|worker| self.loads[worker.index()]).collect();
        let (traffic, counts) = (self.traffic, self.lifecycle.counts());
        let usual_pass = self.passes.as_ref().and_then(|(recent, _)| recent.usual());
        let reports = Reports { now, traffic, counts, waiting, loads: &loads, usual_pass };
        let decision = self.planner.tick(&reports);
        let (since, before) = std::mem::replace(&mut self.last, (now, traffic));
        let sum = |part: fn(&WorkerLoad) -> u64| loads.iter().map(part).sum::<u64>();
        self.ticks.push(Tick {
            at: now,
            window: Window { length: now.since(since), traffic: traffic.since(&before) },
            counts,
            waiting,
            queued: sum(|load| u64::from(load.queued)),
            running: sum(|load| u64::from(load.running)),
            kv_tokens: sum(|load| load.scheduled_kv_tokens),
            decision,
        });
        if decision.acts {
            let in_flight = &self.in_flight;
            self.lifecycle.aim(now, decision.target, |worker| in_flight[worker.index()]);
        }
        self.next_tick = self.planner.next_tick(now);
    }

    /// Lets the policy know who has come and who goes; those that go and have nothing to do are gone at once.
    fn apply(&mut self, now: Time, policy: &mut dyn Policy) -> Vec<WorkerId> {
        let mut gone = Vec::new();
        loop {
            let changes = self.lifecycle.take_changes();
            if changes.is_empty() {
                return gone;
            }
            for change in changes {
                let worker = change.worker;
                self.started += u64::from(change.from == State::Gone);
                self.used = self.used.max(worker.0 + 1);
                self.arrived += u64::from(matches!(
                    (change.from, change.to),
                    (State::Starting | State::Gone, State::Warm)
                ));
                match (change.from, change.to) {
                    (_, State::Ready) => policy.joined(worker),
                    (_, State::Draining) => {
                        policy.left(worker);
                        if self.in_flight[worker.index()] == 0 {
                            self.lifecycle.drained(now, worker);
                        }
                    }
                    (State::Warm | State::Draining, State::Gone) => {
                        gone.push(worker);
                        if let Some((_, seen)) = &mut self.passes {
                            seen[worker.index()] = false;
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// What has become of it, at the end of the run.
    pub(super) fn finish(self, end: Time) -> Scaled {
        Scaled {
            gpu_time: self.lifecycle.gpu_time(end),
            ticks: self.ticks,
            history: self.history,
            started: self.started,
            arrived: self.arrived,
            used: self.used,
        }
    }
}
