//! What travels between the coordinator and the workers, and the order of things that happen at one instant.
//!
//! At equal time: feedback reaches the coordinator, then requests arrive there, then dispatches reach the workers, then
//! idle workers and those at the end of a pass start their next one. So a request that arrives at the very instant a pass
//! ends joins the next pass, and is routed with the knowledge of what that pass did.

use crate::kernel::Class;
use crate::model::kv::CacheChange;
use crate::model::request::{Request, RequestId, WorkerId};

/// Feedback reaches the coordinator.
pub(super) const FEEDBACK: Class = Class::new(1);
/// Requests arrive at the coordinator.
pub(super) const ARRIVAL: Class = Class::new(2);
/// A dispatch reaches a worker.
pub(super) const DISPATCH: Class = Class::new(3);
/// A worker ends a pass and starts the next.
pub(super) const PASS: Class = Class::new(4);

/// Everything that LPs of a fleet say to one another.
#[derive(Debug)]
pub(super) enum Message {
    /// To a worker: serve this request.
    Dispatch(Box<Request>),
    /// To the coordinator: this has happened.
    Feedback(Box<Feedback>),
}

/// What a worker reports about one pass, as far as somebody reads it.
#[derive(Debug)]
pub(super) struct Feedback {
    /// Who reports.
    pub worker: WorkerId,
    /// Requests whose first token is out.
    pub prefilled: Vec<RequestId>,
    /// Requests that have ended.
    pub finished: Vec<RequestId>,
    /// Changes of the prefix cache.
    pub changes: Vec<CacheChange>,
}
