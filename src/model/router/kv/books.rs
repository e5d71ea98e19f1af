//! What the caches of the workers hold, and what their active requests do: the router's index, and the requests in it.

use crate::model::kv::{BlockLayout, CacheChange};
use crate::model::request::{Prompt, Ticket, WorkerId};
use crate::model::router::index::{Path, PrefixIndex, Trail};
use crate::model::router::kv::loads::Assigned;
use crate::model::router::overlaps::Overlaps;

/// An active request.
#[derive(Debug)]
struct InFlight {
    worker: WorkerId,
    /// Where the full blocks of the prompt that its chain names are.
    trail: Trail,
    /// The others.
    own_blocks: u32,
    prefill_tokens: u32,
}

/// A request that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    /// Who served it.
    pub(super) worker: WorkerId,
    /// Prompt tokens that were not known to be computed.
    pub(super) prefill_tokens: u32,
    /// Full blocks of the prompt that no other active request of the worker holds.
    pub(super) lost_blocks: u32,
}

/// The books on prompts.
#[derive(Debug)]
pub(super) struct KvBooks {
    layout: BlockLayout,
    index: PrefixIndex,
    /// By ticket.
    in_flight: Vec<Option<InFlight>>,
    /// The nodes along the prompt last looked up.
    path: Path,
}

impl KvBooks {
    /// Empty caches, and no requests.
    pub(super) fn new(layout: BlockLayout) -> KvBooks {
        let (index, in_flight) = (PrefixIndex::new(layout), Vec::new());
        KvBooks { layout, index, in_flight, path: Path::new() }
    }

    /// Who holds how much of a prompt.
    pub(super) fn look_up(&mut self, prompt: &Prompt, overlaps: &mut Overlaps) {
        let named_blocks = self.layout.full_blocks(prompt.shared_tokens);
        self.index.walk(&prompt.chain, named_blocks, &mut self.path);
        self.index.overlaps(&self.path, overlaps);
    }

    /// Counts a request as a worker's; its prompt was looked up last, and nothing has changed since. Says how many blocks of
    /// it no other active request of the worker holds.
    pub(super) fn assign(&mut self, ticket: Ticket, prompt: &Prompt, assigned: Assigned) -> u32 {
        let named_blocks = self.layout.full_blocks(prompt.shared_tokens);
        let own_blocks = self.layout.full_blocks(prompt.tokens) - named_blocks;
        let Assigned { worker, prefill_tokens, .. } = assigned;
        let named = (&prompt.chain, named_blocks);
        let (fresh, trail) = self.index.enter(worker.0, named, &self.path);
        let in_flight = InFlight { worker, trail, own_blocks, prefill_tokens };
        if ticket.index() >= self.in_flight.len() {
            self.in_flight.resize_with(ticket.index() + 1, || None);
        }
        self.in_flight[ticket.index()] = Some(in_flight);
        fresh + own_blocks
    }

    /// The first token of a request is out: says who serves it, and how many prompt tokens are computed by that.
    pub(super) fn prefilled(&mut self, request: Ticket) -> Option<(WorkerId, u32)> {
        let in_flight = self.in_flight.get_mut(request.index())?.as_mut()?;
        Some((in_flight.worker, std::mem::take(&mut in_flight.prefill_tokens)))
    }

    /// A request has ended.
    pub(super) fn finished(&mut self, request: Ticket) -> Option<Ended> {
        let InFlight { worker, trail, own_blocks, prefill_tokens } =
            self.in_flight.get_mut(request.index())?.take()?;
        let lost = self.index.leave(worker.0, trail);
        Some(Ended { worker, prefill_tokens, lost_blocks: lost + own_blocks })
    }

    /// The prefix cache of a worker has changed.
    pub(super) fn cache_changed(&mut self, worker: WorkerId, change: &CacheChange) {
        match change {
            CacheChange::Stored { ticket, first, end } => {
                let in_flight = self.in_flight[ticket.index()].as_ref();
                let trail = in_flight.expect("whoever stores blocks has not ended").trail;
                let fresh = self.index.store(worker.0, trail, *first, *end);
                debug_assert_eq!(fresh, end - first, "caches report what is new");
            }
            CacheChange::Removed { chain, first, end } => {
                let lost = self.index.evict(worker.0, chain, *first, *end);
                debug_assert_eq!(lost, end - first, "caches report what is gone");
            }
        }
    }

    /// Whether nobody holds anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty() && self.in_flight.iter().all(Option::is_none)
    }
}
