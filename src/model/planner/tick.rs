//! The Planner itself: who looks when, and what comes of it.

use std::collections::VecDeque;

use crate::kernel::time::{Span, Time};
use crate::model::planner::ScalingPolicy;
use crate::model::planner::decision::{Decision, Figures, Limit, Proposal, Reason};
use crate::model::planner::limits::Limits;
use crate::model::planner::observation::{Observation, Reports, Traffic, Window};

/// What a policy does while an earlier action has not come true yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhilePending {
    /// It goes on, from what was asked for.
    Act,
    /// It only observes, as the reference peer's load-based scaling does: for ever, if a worker never starts, unless
    /// there is a limit, after which it acts.
    Observe {
        /// The longest it waits.
        limit: Option<Span>,
    },
}

/// A policy and when it looks.
#[derive(Debug)]
pub struct Timed {
    policy: Box<dyn ScalingPolicy>,
    interval: Span,
    while_pending: WhilePending,
    /// The traffic at earlier looks, as far back as the window goes.
    looks: VecDeque<(Time, Traffic)>,
    looks_max: usize,
}

impl Timed {
    /// A policy that looks every `interval`, at a window of at least `window`, rounded up to whole intervals.
    ///
    /// # Panics
    /// When the interval is zero.
    pub fn new(
        policy: Box<dyn ScalingPolicy>,
        interval: Span,
        window: Span,
        while_pending: WhilePending,
    ) -> Timed {
        assert!(interval > Span::ZERO, "an interval of zero");
        let looks_max = window.as_ns().div_ceil(interval.as_ns()).max(1) as usize;
        let looks = VecDeque::from([(Time::ZERO, Traffic::default())]);
        Timed { policy, interval, while_pending, looks, looks_max }
    }

    /// The first look after `now`: a multiple of the interval.
    fn next_look(&self, now: Time) -> Time {
        let past = now.as_ns() / self.interval.as_ns();
        Time::from_ns((past + 1).saturating_mul(self.interval.as_ns()))
    }

    fn is_due(&self, now: Time) -> bool {
        now > Time::ZERO && now.as_ns().is_multiple_of(self.interval.as_ns())
    }

    /// The traffic since the look that begins the window.
    fn window(&mut self, now: Time, traffic: Traffic) -> Window {
        let (since, before) = self.looks[0];
        self.looks.push_back((now, traffic));
        if self.looks.len() > self.looks_max {
            self.looks.pop_front();
        }
        Window { length: now.since(since), traffic: traffic.since(&before) }
    }

    fn look(&mut self, reports: &Reports<'_>, target: u32) -> Proposal {
        let window = self.window(reports.now, reports.traffic);
        let observation = Observation {
            now: reports.now,
            interval: self.interval,
            window,
            counts: reports.counts,
            target,
            waiting: reports.waiting,
            loads: reports.loads,
            usual_pass: reports.usual_pass,
        };
        self.policy.propose(&observation)
    }
}

/// How policies are put together.
#[derive(Debug)]
pub struct PlannerConfig {
    /// The policy that decides.
    pub policy: Timed,
    /// A slow policy that sets a lower bound for it.
    pub floor: Option<Timed>,
    /// What no decision leaves.
    pub limits: Limits,
    /// Whether decisions are only written down.
    pub advisory: bool,
    /// Workers at the start.
    pub initial: u32,
}

/// Says how many workers there should be.
#[derive(Debug)]
pub struct Planner {
    policy: Timed,
    floor: Option<Timed>,
    limits: Limits,
    advisory: bool,
    target: u32,
    /// What the slow policy has set.
    bound: u32,
    /// Since when fewer or more workers are ready than were asked for.
    pending_since: Option<Time>,
}

impl Planner {
    /// Before the first tick.
    pub fn new(config: PlannerConfig) -> Planner {
        let PlannerConfig { policy, floor, limits, advisory, initial } = config;
        Planner { policy, floor, limits, advisory, target: initial, bound: 0, pending_since: None }
    }

    /// How many workers are asked for.
    pub fn target(&self) -> u32 {
        self.target
    }

    /// The first tick after `now`. Ticks are the multiples of either interval.
    pub fn next_tick(&self, now: Time) -> Time {
        let floor = self.floor.as_ref().map_or(Time::NEVER, |floor| floor.next_look(now));
        self.policy.next_look(now).min(floor)
    }

    /// What comes of this tick.
    pub fn tick(&mut self, reports: &Reports<'_>) -> Decision {
        let (ready, target) = (reports.counts.ready, self.target);
        if ready == target {
            self.pending_since = None;
        } else {
            self.pending_since.get_or_insert(reports.now);
        }
        let floor = self.floor.as_mut().filter(|floor| floor.is_due(reports.now));
        let bound = floor.map(|floor| floor.look(reports, target));
        if let Some(workers) = bound.as_ref().and_then(|bound| bound.workers) {
            self.bound = workers;
        }
        if !self.policy.is_due(reports.now) {
            return self.only_bound(bound);
        }
        let proposal = self.policy.look(reports, target);
        if self.observes_only(reports.now) {
            let reason = Reason::Pending { ready, target };
            return self.stay(Proposal { reason, ..proposal });
        }
        let mut decision = self.decide(proposal);
        if let Some(bound) = bound {
            decision.figures = merged(decision.figures, bound.figures);
        }
        decision
    }

    /// A tick of the slow policy alone: its bound takes effect when the fast one looks.
    fn only_bound(&self, bound: Option<Proposal>) -> Decision {
        let Some(bound) = bound else {
            return self.stay(Proposal::abstain(Reason::Within));
        };
        let reason = match bound.workers {
            Some(workers) => Reason::Bound { workers },
            None => bound.reason,
        };
        self.stay(Proposal { reason, ..bound })
    }

    fn observes_only(&self, now: Time) -> bool {
        match (self.policy.while_pending, self.pending_since) {
            (WhilePending::Act, _) | (_, None) => false,
            (WhilePending::Observe { limit }, Some(since)) => {
                limit.is_none_or(|limit| now.since(since) < limit)
            }
        }
    }

    fn stay(&self, proposal: Proposal) -> Decision {
        Decision {
            before: self.target,
            proposed: proposal.workers,
            target: self.target,
            reason: proposal.reason,
            limit: None,
            acts: false,
            advisory: self.advisory,
            figures: proposal.figures,
        }
    }

    fn decide(&mut self, proposal: Proposal) -> Decision {
        let before = self.target;
        let mut decision = self.stay(proposal);
        // Bounds hold also when the policy has no opinion.
        let proposed = proposal.workers.unwrap_or(before);
        let raised = if self.floor.is_some() { proposed.max(self.bound) } else { proposed };
        let (target, limit) = self.limits.clamp(raised);
        decision.target = target;
        decision.limit = limit.or((raised != proposed).then_some(Limit::Bound));
        decision.acts = target != before && !self.advisory;
        if decision.acts {
            self.target = target;
        }
        decision
    }
}

/// The figures of the fast policy, filled up with those of the slow one.
fn merged(fast: Figures, slow: Figures) -> Figures {
    Figures {
        rate: fast.rate.or(slow.rate),
        isl: fast.isl.or(slow.isl),
        osl: fast.osl.or(slow.osl),
        hit_rate: fast.hit_rate.or(slow.hit_rate),
        worker_rate: fast.worker_rate.or(slow.worker_rate),
        ttft_ms: fast.ttft_ms.or(slow.ttft_ms),
        itl_ms: fast.itl_ms.or(slow.itl_ms),
    }
}

#[cfg(test)]
mod tests;
