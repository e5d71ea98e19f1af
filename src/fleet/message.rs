//! What travels between the LPs of a fleet, and the order of things that happen at one instant.
//!
//! At equal time: feedback reaches the coordinators, then the balancer deals requests to the cells, if there are cells, then
//! requests arrive at coordinators, then dispatches reach the workers, then idle workers and those at the end of a pass start
//! their next one. So a request that arrives at the very instant a pass ends joins the next pass, and is routed with the
//! knowledge of what that pass did.

use crate::kernel::Class;
use crate::model::kv::CacheChanges;
use crate::model::planner::{PassLoad, Traffic, WorkerLoad};
use crate::model::request::{Mentions, Request, WorkerId};

/// Feedback reaches a coordinator.
pub(super) const FEEDBACK: Class = Class::new(0);
/// Requests reach the balancer.
pub(super) const BALANCE: Class = Class::new(1);
/// Requests are dealt to a coordinator.
pub(super) const DEAL: Class = Class::new(2);
/// A coordinator takes in the requests that are due.
pub(super) const ARRIVAL: Class = Class::new(3);
/// A dispatch reaches a worker.
pub(super) const DISPATCH: Class = Class::new(4);
/// A worker ends a pass and starts the next.
pub(super) const PASS: Class = Class::new(5);

/// Everything that LPs of a fleet say to one another.
#[derive(Debug)]
pub(super) enum Message {
    /// To a worker: serve this request.
    Dispatch(Request),
    /// To a worker that is empty: its process ends, and what it has cached is gone.
    Leave,
    /// From the balancer to the coordinator of a cell: this request is yours.
    Deal(Request),
    /// To the coordinator: this has happened.
    Feedback(Feedback),
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
