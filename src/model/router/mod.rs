//! Which worker gets a request.

mod admission;
mod balancer;
mod holders;
mod index;
mod kv;
mod load;
mod members;
mod overlaps;
mod queue;
mod round_robin;
mod set;
mod spec;

pub use admission::{AdmissionSpec, Admitted};
pub use balancer::{BalancerSpec, Dealer};
pub use kv::{KvAware, KvRouterConfig, TieBreak};
pub use load::{LeastLoaded, PowerOfTwo, Random, SessionAffine};
pub use queue::{QueueOrder, RouterQueue};
pub use round_robin::RoundRobin;
pub use spec::PolicySpec;

use crate::model::kv::CacheChange;
use crate::model::request::{Ticket, Visible, WorkerId};

/// What a policy needs to hear back from the workers. Whoever reads nothing lets the workers run independently.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Reads {
    /// That a request's first token is out.
    pub prefilled: bool,
    /// That a request has ended.
    pub finished: bool,
    /// What a worker's prefix cache holds.
    pub cache: bool,
}

/// A way to choose workers.
///
/// It sees requests as they arrive, but not how many tokens they will generate (INV-9), and what the workers report as
/// late as it reaches the router.
pub trait Policy: Send {
    /// What it needs to hear.
    fn reads(&self) -> Reads {
        Reads::default()
    }

    /// Chooses a worker that may be chosen, and counts the request as its own from now on. Only called while there is one.
    fn choose(&mut self, request: Visible<'_>) -> WorkerId;

    /// A worker may be chosen from now on. At the start, all may.
    fn joined(&mut self, worker: WorkerId);

    /// A worker may not be chosen from now on. What it still has to do goes on being reported.
    fn left(&mut self, worker: WorkerId);

    /// The first token of a request is out.
    fn prefilled(&mut self, _worker: WorkerId, _request: Ticket) {}

    /// A request has ended.
    fn finished(&mut self, _worker: WorkerId, _request: Ticket) {}

    /// A worker's prefix cache has changed.
    fn cache_changed(&mut self, _worker: WorkerId, _changes: &[CacheChange]) {}

    /// Whether every worker is too busy to be given anything; requests then wait in the router's queue, if it has one.
    fn is_busy(&self) -> bool {
        false
    }

    /// The prompt tokens of a request that the best worker would have to compute.
    fn uncached_tokens(&mut self, request: Visible<'_>) -> u32 {
        request.prompt.tokens
    }
}
