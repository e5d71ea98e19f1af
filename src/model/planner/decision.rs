//! What the Planner decides, and why.

use std::fmt;

use crate::kernel::time::Span;

/// The numbers behind a decision, as far as the policy has them.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Figures {
    /// Requests per second that are expected.
    pub rate: Option<f64>,
    /// Prompt length that is expected, in tokens.
    pub isl: Option<f64>,
    /// Output length that is expected, in tokens.
    pub osl: Option<f64>,
    /// Share of prompt tokens that are expected to be cached.
    pub hit_rate: Option<f64>,
    /// Requests per second that one worker sustains.
    pub worker_rate: Option<f64>,
    /// Estimated time to first token, ms: that of a sustained worker, or of the worker that decides.
    pub ttft_ms: Option<f64>,
    /// Estimated gap between tokens, ms, likewise.
    pub itl_ms: Option<f64>,
}

/// A latency that has a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Latency {
    /// Time to first token.
    Ttft,
    /// Gap between tokens.
    Itl,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Latency::Ttft => "TTFT",
            Latency::Itl => "ITL",
        })
    }
}

/// What has to be known before anything can be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// No request has arrived, or none has completed.
    Traffic,
    /// Not every ready worker has reported its load.
    Loads,
    /// No worker is ready.
    Workers,
}

/// Why a policy proposes what it proposes. Its text is one clause, without the number of workers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Reason {
    /// Nothing can be said.
    NoData(Missing),
    /// The number is fixed.
    Fixed,
    /// The schedule says so.
    Schedule {
        /// For how long this entry has been in force.
        since: Span,
    },
    /// So much traffic is expected, and one worker sustains so much.
    Demand {
        /// Requests per second.
        rate: f64,
        /// Requests per second that have to be served beside them to clear a backlog in time; zero if that is not asked.
        backlog_rate: f64,
        /// Requests per second.
        worker_rate: f64,
        /// Whether a worker keeps its targets at that rate.
        meets: bool,
    },
    /// A worker cannot serve such requests.
    NoCapacity {
        /// Expected prompt length, in tokens.
        isl: f64,
        /// Expected output length, in tokens.
        osl: f64,
    },
    /// Every worker is above its target.
    AllAbove {
        /// Of which latency.
        latency: Latency,
        /// What no estimate is below, ms.
        least_ms: f64,
        /// The target, ms.
        target_ms: f64,
    },
    /// One worker is above a threshold.
    OneAbove {
        /// Its place among the workers that reported.
        place: usize,
        /// Its load.
        load: f64,
        /// The threshold.
        threshold: f64,
    },
    /// Fewer workers would do.
    Respread {
        /// How many fewer.
        step: u32,
    },
    /// Neither more nor fewer workers are called for.
    Within,
    /// Fewer workers would not do.
    RespreadRefused {
        /// The worker that would be overloaded: its place among those that reported.
        place: usize,
    },
    /// Fewer workers would do for what they have, but requests wait in front of the fleet.
    Front {
        /// How many.
        waiting: u64,
    },
    /// The time to first token behind those that wait in front of the fleet is above its target.
    FrontAbove {
        /// How many wait.
        waiting: u64,
        /// That time, on the worker that decides, ms.
        ttft_ms: f64,
        /// The target, ms.
        target_ms: f64,
    },
    /// The mean load against its target.
    Utilisation {
        /// Mean load.
        load: f64,
        /// Its target.
        target: f64,
    },
    /// The queues against their target.
    Queue {
        /// Requests that wait.
        queued: u64,
        /// How many may wait per worker.
        per_worker: f64,
    },
    /// An earlier action has not come true yet.
    Pending {
        /// Workers that are ready.
        ready: u32,
        /// Workers that were asked for.
        target: u32,
    },
    /// The slow policy has set a bound for the fast one.
    Bound {
        /// Workers.
        workers: u32,
    },
}

impl Reason {
    /// What kind of reason it is, without its numbers: what decisions are counted by.
    pub fn kind(&self) -> &'static str {
        match self {
            Reason::NoData(Missing::Traffic) => "no traffic seen yet",
            Reason::NoData(Missing::Loads) => "not every ready worker has reported",
            Reason::NoData(Missing::Workers) => "no worker is ready",
            Reason::Fixed => "the number is fixed",
            Reason::Schedule { .. } => "the schedule",
            Reason::Demand { meets: true, .. } => "expected traffic",
            Reason::Demand { meets: false, .. } => "expected traffic, no rate keeps the targets",
            Reason::NoCapacity { .. } => "no worker can serve such requests",
            Reason::AllAbove { latency: Latency::Ttft, .. } => "every worker above the TTFT target",
            Reason::AllAbove { latency: Latency::Itl, .. } => "every worker above the ITL target",
            Reason::OneAbove { .. } => "a worker above the upper threshold",
            Reason::Respread { .. } => "the load fits on fewer",
            Reason::Within => "the load is within its bounds",
            Reason::RespreadRefused { .. } => "the load would not fit on fewer",
            Reason::Front { .. } => "requests wait in front of the fleet",
            Reason::FrontAbove { .. } => "the wait in front is above the TTFT target",
            Reason::Utilisation { .. } => "the mean load",
            Reason::Queue { .. } => "the queues",
            Reason::Pending { .. } => "an earlier action is pending",
            Reason::Bound { .. } => "a lower bound for the load-based policy",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::NoData(Missing::Traffic) => f.write_str("no traffic has been seen yet"),
            Reason::NoData(Missing::Loads) => f.write_str("not every ready worker has reported"),
            Reason::NoData(Missing::Workers) => f.write_str("no worker is ready"),
            Reason::Fixed => f.write_str("the number is fixed"),
            Reason::Schedule { since } => write!(f, "the schedule has said so for {since}"),
            Reason::Demand { rate, backlog_rate, worker_rate, meets } => {
                write!(f, "{rate:.3} requests/s are expected")?;
                if backlog_rate > 0.0 {
                    write!(f, ", {backlog_rate:.3} more are to clear the backlog,")?;
                }
                write!(f, " and a worker sustains {worker_rate:.3}")?;
                f.write_str(if meets { "" } else { ", without keeping its targets" })
            }
            Reason::NoCapacity { isl, osl } => {
                write!(f, "no worker can serve prompts of {isl:.0} and outputs of {osl:.0} tokens")
            }
            Reason::AllAbove { latency, least_ms, target_ms } => write!(
                f,
                "every worker is above the {latency} target of {target_ms:.1} ms, none is below {least_ms:.1} ms"
            ),
            Reason::OneAbove { place, load, threshold } => {
                write!(f, "ready worker no. {place} has a load of {load:.3}, over {threshold:.3}")
            }
            Reason::Respread { step } => write!(f, "the load fits on {step} fewer"),
            Reason::Within => f.write_str("the load is between its bounds"),
            Reason::RespreadRefused { place } => {
                write!(f, "ready worker no. {place} could not take its share of a smaller fleet")
            }
            Reason::Front { waiting } => {
                write!(f, "{waiting} requests wait in front of the fleet")
            }
            Reason::FrontAbove { waiting, ttft_ms, target_ms } => write!(
                f,
                "behind the {waiting} requests in front of the fleet the TTFT is {ttft_ms:.1} ms, above the target \
                 of {target_ms:.1} ms"
            ),
            Reason::Utilisation { load, target } => {
                write!(f, "the mean load is {load:.3} and should be {target:.3}")
            }
            Reason::Queue { queued, per_worker } => {
                write!(f, "{queued} requests wait and {per_worker} may per worker")
            }
            Reason::Pending { ready, target } => {
                write!(f, "an earlier action is pending: {ready} of {target} are ready")
            }
            Reason::Bound { workers } => {
                write!(f, "at least {workers} are needed, a bound for the load-based policy")
            }
        }
    }
}

/// What a policy would do, before any limit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Proposal {
    /// How many workers; nothing if the policy abstains.
    pub workers: Option<u32>,
    /// Why.
    pub reason: Reason,
    /// The numbers behind it.
    pub figures: Figures,
}

impl Proposal {
    /// No opinion, for this reason.
    pub fn abstain(reason: Reason) -> Proposal {
        Proposal { workers: None, reason, figures: Figures::default() }
    }
}

/// Which rule changed a proposal. If several did, the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// The bound of the slow policy.
    Bound,
    /// The fewest workers.
    WorkersMin,
    /// The most workers.
    WorkersMax,
    /// The fewest GPUs.
    GpusMin,
    /// The most GPUs.
    GpusMax,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Bound => "the throughput-based lower bound",
            Limit::WorkersMin => "the least number of workers",
            Limit::WorkersMax => "the greatest number of workers",
            Limit::GpusMin => "the least number of GPUs",
            Limit::GpusMax => "the GPU budget",
        })
    }
}

/// The outcome of a tick.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Decision {
    /// Workers asked for before.
    pub before: u32,
    /// What the policy proposed, if it did.
    pub proposed: Option<u32>,
    /// Workers asked for from now on, limits applied; in advisory mode, those that would be.
    pub target: u32,
    /// Why the policy proposed it.
    pub reason: Reason,
    /// What changed the proposal.
    pub limit: Option<Limit>,
    /// Whether the target is to be acted upon: it differs, and this is not advice only.
    pub acts: bool,
    /// Whether this is advice only.
    pub advisory: bool,
    /// The numbers behind it.
    pub figures: Figures,
}

impl fmt::Display for Decision {
    /// One sentence: what happens, why, and which limit had a say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision { before, target, .. } = self;
        if self.advisory && target != before {
            write!(f, "would go from {before} to {target} workers: {}", self.reason)?;
        } else if target == before {
            write!(f, "stays at {target} workers: {}", self.reason)?;
        } else {
            write!(f, "goes from {before} to {target} workers: {}", self.reason)?;
        }
        match (self.limit, self.proposed) {
            (Some(limit), Some(proposed)) => {
                write!(f, " ({proposed} proposed, changed by {limit})")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(before: u32, target: u32, reason: Reason) -> Decision {
        Decision {
            before,
            proposed: Some(9),
            target,
            reason,
            limit: None,
            acts: target != before,
            advisory: false,
            figures: Figures::default(),
        }
    }

    #[test]
    fn decisions_explain_themselves() {
        let demand = Reason::Demand { rate: 8.0, backlog_rate: 0.0, worker_rate: 1.5, meets: true };
        let mut decision_made = decision(2, 4, demand);
        decision_made.limit = Some(Limit::GpusMax);
        assert_eq!(
            decision_made.to_string(),
            "goes from 2 to 4 workers: 8.000 requests/s are expected and a worker sustains 1.500 \
             (9 proposed, changed by the GPU budget)"
        );
        decision_made.advisory = true;
        assert!(decision_made.to_string().starts_with("would go from 2 to 4"));
        let stays = decision(3, 3, Reason::Pending { ready: 2, target: 3 });
        assert_eq!(
            stays.to_string(),
            "stays at 3 workers: an earlier action is pending: 2 of 3 are ready"
        );
    }

    #[test]
    fn every_reason_is_one_line() {
        let reasons = [
            Reason::NoData(Missing::Traffic),
            Reason::NoData(Missing::Loads),
            Reason::NoData(Missing::Workers),
            Reason::Fixed,
            Reason::Schedule { since: Span::from_secs(60) },
            Reason::Demand { rate: 1.0, backlog_rate: 0.0, worker_rate: 0.5, meets: false },
            Reason::NoCapacity { isl: 1e6, osl: 10.0 },
            Reason::AllAbove { latency: Latency::Itl, least_ms: 60.0, target_ms: 50.0 },
            Reason::OneAbove { place: 3, load: 1.2, threshold: 1.0 },
            Reason::Respread { step: 1 },
            Reason::Within,
            Reason::RespreadRefused { place: 0 },
            Reason::Front { waiting: 11 },
            Reason::FrontAbove { waiting: 11, ttft_ms: 1504.0, target_ms: 500.0 },
            Reason::Utilisation { load: 0.9, target: 0.6 },
            Reason::Queue { queued: 40, per_worker: 5.0 },
            Reason::Bound { workers: 3 },
        ];
        for reason in reasons {
            let text = reason.to_string();
            assert!(!text.contains('\n') && text.len() > 10, "{text}");
            assert!(!text.ends_with('.'), "{text}");
        }
    }
}
