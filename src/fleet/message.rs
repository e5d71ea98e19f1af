//! What travels between the LPs of a fleet, who they are, and the order of things that happen at one instant.
//!
//! At equal time: feedback reaches the coordinator, then requests arrive there, then dispatches reach the workers, then
//! idle workers and those at the end of a pass start their next one. So a request that arrives at the very instant a pass
//! ends joins the next pass, and is routed with the knowledge of what that pass did.

use crate::kernel::rng::mix64;
use crate::kernel::{Class, LpId};
use crate::model::kv::CacheChanges;
use crate::model::planner::{PassLoad, Traffic, WorkerLoad};
use crate::model::request::{Mentions, Request, RequestId, WorkerId};
use crate::model::router::{Assigned, Ended, Overlaps};

/// A part of the index hears where a request was sent.
pub(super) const ASSIGNMENT: Class = Class::new(0);
/// Feedback reaches the coordinator, or a part of its index.
pub(super) const FEEDBACK: Class = Class::new(1);
/// What follows from that reaches the coordinator.
pub(super) const LOAD: Class = Class::new(2);
/// Requests arrive at the coordinator, or are looked up in a part of its index.
pub(super) const ARRIVAL: Class = Class::new(3);
/// The coordinator is told what a part of its index knows of a request.
pub(super) const ANSWER: Class = Class::new(4);
/// A dispatch reaches a worker.
pub(super) const DISPATCH: Class = Class::new(5);
/// A worker ends a pass and starts the next.
pub(super) const PASS: Class = Class::new(6);

/// Everything that LPs of a fleet say to one another.
#[derive(Debug)]
pub(super) enum Message {
    /// To a worker: serve this request.
    Dispatch(Box<Request>),
    /// To a worker that is empty: its process ends, and what it has cached is gone.
    Leave,
    /// To the coordinator, or a part of its index: this has happened.
    Feedback(Feedback),
    /// To a part of the index: who has how much of this request, which arrives now?
    LookUp(Box<Request>),
    /// From it: they have so much.
    Answer(Box<Answer>),
    /// To it: the request was assigned.
    Assigned(RequestId, Assigned),
    /// From it: a worker has computed so many prompt tokens.
    Prefilled(WorkerId, u32),
    /// From it: a request has ended.
    Ended(Box<Ended>),
}

/// What a worker reports about one pass, as far as somebody reads it.
///
/// It travels as it is, without a box: the coordinator reads it on another core than the one that wrote it, and every piece
/// of memory that it has to follow to there, and to give back, is one more line that has to come over.
#[derive(Debug)]
pub(super) struct Feedback {
    /// Who reports.
    pub worker: WorkerId,
    /// Requests whose first token is out.
    pub prefilled: Mentions,
    /// Requests that have ended.
    pub finished: Mentions,
    /// Changes of the prefix cache.
    pub changes: CacheChanges,
    /// What the Planner sees, if there is one and it is news.
    pub observed: Option<Box<Observed>>,
}

/// What the Planner sees of a worker.
#[derive(Debug)]
pub(super) struct Observed {
    /// First tokens and completions of the pass, summed.
    pub traffic: Traffic,
    /// What the worker has to do then.
    pub load: WorkerLoad,
    /// What the pass did, if the Planner reads that.
    pub pass: Option<PassLoad>,
}

impl Feedback {
    /// Nothing has happened.
    pub(super) fn new(worker: WorkerId) -> Feedback {
        let (prefilled, finished) = (Mentions::new(), Mentions::new());
        Feedback { worker, prefilled, finished, changes: CacheChanges::new(), observed: None }
    }
}

/// What a part of the index knows of a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub request: Box<Request>,
    pub overlaps: Overlaps,
}

/// The LP of the coordinator.
pub(super) const COORDINATOR: LpId = LpId::new(0);

/// Which LPs the parts of the index and the workers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Places {
    /// How many parts the index has, if it is divided at all.
    pub parts: u32,
}

impl Places {
    /// The index is the coordinator's own.
    pub(super) const UNDIVIDED: Places = Places { parts: 0 };

    /// The LP of a worker.
    pub(super) fn worker(self, id: WorkerId) -> LpId {
        LpId::new(1 + self.parts + id.0)
    }

    /// Which worker an LP is, if it is one.
    pub(super) fn worker_at(self, lp: LpId) -> Option<WorkerId> {
        lp.get().checked_sub(1 + self.parts).map(WorkerId)
    }

    /// The LP of the part of the index that looks after prompts which begin so, or of the coordinator if it does that.
    pub(super) fn part(self, root: u64) -> LpId {
        match self.parts {
            0 => COORDINATOR,
            parts => LpId::new(1 + (mix64(root) % u64::from(parts)) as u32),
        }
    }
}
