//! Extents: runs of blocks with one identity prefix and one fate, in a slab with two kinds of links.
//!
//! An extent is one physical copy of the blocks `first..end` of some token sequence. Copies of the same blocks that were
//! computed independently are chained from the oldest to the newest and always cut at the same places. Extents that
//! nobody references stand in one least-recently-used list.

use std::sync::Arc;

use slab::Slab;

/// "No extent".
pub(super) const NONE: u32 = u32::MAX;

/// Whose tokens an extent holds: what its identity derives from.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// Prompt tokens named by a trace: whoever has the same chain may use them.
    Prompt(Arc<[u64]>),
    /// Tokens of one request alone (its number): used again only if it resumes after a preemption.
    Request(u64),
    /// Tokens that nobody will ask for again.
    Nobody,
}

impl Owner {
    /// Whether these are the same tokens. Chains that end alike are alike.
    pub(super) fn is(&self, other: &Owner) -> bool {
        match (self, other) {
            (Owner::Prompt(chain), Owner::Prompt(other)) => {
                Arc::ptr_eq(chain, other)
                    || chain.len() == other.len() && chain.last() == other.last()
            }
            (Owner::Request(request), Owner::Request(other)) => request == other,
            _ => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Extent {
    pub(super) owner: Owner,
    /// Index of the first block in its sequence.
    pub(super) first: u32,
    /// One past the last block.
    pub(super) end: u32,
    /// How many sequences hold it.
    pub(super) references: u32,
    /// The piece in front of this one, if both were one extent once. Only meaningful to a sequence that holds both.
    pub(super) front: u32,
    /// The next older and newer copy of the same blocks.
    pub(super) older: u32,
    pub(super) newer: u32,
    /// Neighbours in the list of unreferenced extents, towards the next victim and away from it.
    pub(super) before: u32,
    pub(super) after: u32,
}

impl Extent {
    pub(super) fn new(owner: Owner, first: u32, end: u32, references: u32) -> Extent {
        debug_assert!(first < end, "an empty extent");
        let (front, older, newer, before, after) = (NONE, NONE, NONE, NONE, NONE);
        Extent { owner, first, end, references, front, older, newer, before, after }
    }

    pub(super) fn blocks(&self) -> u32 {
        self.end - self.first
    }

    pub(super) fn is_only_copy(&self) -> bool {
        self.older == NONE && self.newer == NONE
    }
}

/// The extents of a pool, and the list of the unreferenced ones in order of eviction.
#[derive(Debug)]
pub(super) struct Extents {
    slab: Slab<Extent>,
    /// The next victim, and the last.
    first: u32,
    last: u32,
}

impl Extents {
    pub(super) fn new() -> Extents {
        Extents { slab: Slab::new(), first: NONE, last: NONE }
    }

    pub(super) fn get(&self, id: u32) -> &Extent {
        &self.slab[id as usize]
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut Extent {
        &mut self.slab[id as usize]
    }

    pub(super) fn insert(&mut self, extent: Extent) -> u32 {
        self.slab.insert(extent) as u32
    }

    pub(super) fn remove(&mut self, id: u32) -> Extent {
        self.slab.remove(id as usize)
    }

    /// The extent to evict next; [`NONE`] when every extent is referenced.
    pub(super) fn victim(&self) -> u32 {
        self.first
    }

    /// Makes an extent the last to be evicted.
    pub(super) fn append_unreferenced(&mut self, id: u32) {
        self.insert_unreferenced(id, self.last);
    }

    /// Puts an extent into the list, to be evicted right after `before`.
    pub(super) fn insert_unreferenced(&mut self, id: u32, before: u32) {
        let after = if before == NONE { self.first } else { self.get(before).after };
        let extent = self.get_mut(id);
        (extent.before, extent.after) = (before, after);
        self.link(before, id, after);
    }

    /// Takes an extent out of the list.
    pub(super) fn take_unreferenced(&mut self, id: u32) {
        let (before, after) = (self.get(id).before, self.get(id).after);
        if before == NONE {
            self.first = after;
        } else {
            self.get_mut(before).after = after;
        }
        if after == NONE {
            self.last = before;
        } else {
            self.get_mut(after).before = before;
        }
    }

    fn link(&mut self, before: u32, id: u32, after: u32) {
        if before == NONE {
            self.first = id;
        } else {
            self.get_mut(before).after = id;
        }
        if after == NONE {
            self.last = id;
        } else {
            self.get_mut(after).before = id;
        }
    }
}
