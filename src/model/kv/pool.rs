//! The KV pool: who holds which blocks, what is cached, what is evicted next.
//!
//! Every block is pinned (some sequence holds it), cached (complete, held by nobody, in the list of victims) or free.
//! Fresh blocks come from the free ones first, then from the victims. A sequence that lets go releases its last block
//! first, so suffixes are evicted before the prefixes they hang on; hence an identity that is absent has no descendants
//! that are present, which the lookup relies on.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::kernel::rng::mix64;
use crate::model::kv::extent::{Extent, Extents, NONE, Owner};
use crate::model::kv::layout::{BlockLayout, own_key};
use crate::model::request::{Prompt, Ticket};

/// A change of what a worker could serve from its prefix cache, as a router would be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CacheChange {
    /// Blocks have appeared.
    Stored {
        /// A request in the fleet that has them in its prompt, and so identifies them: the router knows its chain.
        ticket: Ticket,
        /// The first block.
        first: u32,
        /// One past the last.
        end: u32,
    },
    /// Blocks have gone.
    Removed {
        /// The chain that identifies them.
        chain: Arc<[u64]>,
        /// The first block.
        first: u32,
        /// One past the last.
        end: u32,
    },
}

/// What a pass changes; most change one thing at most, which then needs no memory of its own.
pub type CacheChanges = SmallVec<[CacheChange; 1]>;

/// The longest prefix of a sequence that is in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Hit {
    /// How many leading blocks.
    pub blocks: u32,
    /// How many of them are pinned by others at this moment.
    pub pinned: u32,
}

/// Extents in order; mostly the cached part of a prompt and the rest of it.
type ExtentIds = SmallVec<[u32; 4]>;

/// What one sequence holds in the pool.
#[derive(PartialEq, Eq, Default, Debug)]
pub struct Holding {
    /// Extents with a cacheable identity, from the first block on. An entry stands for itself and the pieces cut off
    /// its front since, as far as the entry before it ends.
    extents: ExtentIds,
    /// How many blocks those are.
    shared: u32,
    /// Blocks beyond them: not complete yet, or of no use to anybody else.
    private: u32,
}

impl Holding {
    /// All blocks it holds.
    pub fn blocks(&self) -> u32 {
        self.shared + self.private
    }

    /// The leading blocks that others could use.
    pub fn shared_blocks(&self) -> u32 {
        self.shared
    }
}

/// The KV memory of one worker. What passes that only decode look at comes first.
#[repr(C)]
#[derive(Debug)]
pub struct KvPool {
    layout: BlockLayout,
    capacity: u32,
    pinned: u32,
    cached: u32,
    caching: bool,
    extents: Extents,
    /// The oldest copy of an extent, by the identity of its first block.
    index: FxHashMap<u64, u32>,
    /// The extents of the last lookup, and one past the last block that each has in common with the sequence.
    path: Vec<(u32, u32)>,
    /// Changes since the last drain, if anybody wants to know.
    changes: Option<Vec<CacheChange>>,
}

impl KvPool {
    /// An empty pool of `capacity` blocks. Without `caching`, released blocks are free at once. With `notify`, changes
    /// of the cache are kept for [`KvPool::drain_changes`].
    pub fn new(layout: BlockLayout, capacity: u32, caching: bool, notify: bool) -> KvPool {
        KvPool {
            layout,
            capacity,
            pinned: 0,
            cached: 0,
            extents: Extents::new(),
            index: FxHashMap::default(),
            path: Vec::new(),
            caching,
            changes: (caching && notify).then(Vec::new),
        }
    }

    /// Tokens in a block, here and in the trace.
    pub fn layout(&self) -> BlockLayout {
        self.layout
    }

    /// All blocks.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Blocks that some sequence holds.
    pub fn pinned(&self) -> u32 {
        self.pinned
    }

    /// Blocks that could be handed out: free, or cached and held by nobody.
    pub fn available(&self) -> u32 {
        self.capacity - self.pinned
    }

    /// Blocks that could be handed out without evicting any.
    pub fn free(&self) -> u32 {
        self.capacity - self.pinned - self.cached
    }

    /// Whether somebody is told about changes of the cache.
    pub fn notifies(&self) -> bool {
        self.changes.is_some()
    }

    /// Moves the changes of the cache since the last call to the end of `changes`; nothing unless the pool was built to
    /// notify.
    pub fn drain_changes(&mut self, changes: &mut CacheChanges) {
        if let Some(noted) = &mut self.changes {
            changes.extend(noted.drain(..));
        }
    }

    /// The longest cached prefix of a sequence, of at most `limit` blocks. `request` is its number.
    pub fn lookup(&mut self, prompt: &Prompt, request: u64, limit: u32) -> Hit {
        let mut hit = Hit::default();
        self.path.clear();
        // Blocks that end past the named part of the prompt are the request's own.
        let named = self.layout.full_blocks(prompt.shared_tokens).min(limit);
        self.walk(&Owner::Prompt(Arc::clone(&prompt.chain)), named, &mut hit);
        if hit.blocks == named && named < limit {
            self.walk(&Owner::Request(request), limit, &mut hit);
        }
        hit
    }

    fn walk(&mut self, owner: &Owner, limit: u32, hit: &mut Hit) {
        while hit.blocks < limit {
            let key =
                self.identity(owner, hit.blocks).expect("blocks of nobody are never asked for");
            let Some(&id) = self.index.get(&key) else {
                return;
            };
            let extent = self.extents.get(id);
            let end = self.matched(extent, owner, extent.end.min(limit));
            if extent.references > 0 {
                hit.pinned += end - hit.blocks;
            }
            // Where the sequence leaves this extent, another one may go on: it began when this one ended here.
            hit.blocks = end;
            self.path.push((id, end));
        }
    }

    /// Gives the prefix found by the last lookup, which must not have been outdated since, to a sequence that holds
    /// nothing yet.
    pub fn pin(&mut self, hit: Hit, holding: &mut Holding) {
        debug_assert_eq!(holding.blocks(), 0, "the sequence holds blocks already");
        let path = std::mem::take(&mut self.path);
        for &(found, end) in &path {
            let partial = self.extents.get(found).end > end;
            let id = if partial { self.split(found, end) } else { found };
            let extent = self.extents.get_mut(id);
            let blocks = extent.blocks();
            extent.references += 1;
            if extent.references == 1 {
                self.extents.take_unreferenced(id);
                self.cached -= blocks;
                self.pinned += blocks;
            }
            holding.extents.push(id);
        }
        holding.shared = hit.blocks;
        self.path = path;
    }

    /// Hands out `blocks` fresh blocks. The caller has checked that as many are available.
    pub fn take(&mut self, blocks: u32, holding: &mut Holding) {
        holding.private += blocks;
        self.take_anonymous(blocks);
    }

    /// As [`KvPool::take`], for a group of sequences whose holdings the caller settles later.
    pub fn take_anonymous(&mut self, blocks: u32) {
        debug_assert!(blocks <= self.available(), "INV-6: {blocks} of {} blocks", self.available());
        if blocks == 0 {
            return;
        }
        if blocks > self.free() {
            self.evict(blocks - self.free());
        }
        self.pinned += blocks;
    }

    /// Adds blocks taken with [`KvPool::take_anonymous`] to the holding they were meant for, which now has `blocks` blocks.
    pub fn settle(&mut self, blocks: u32, holding: &mut Holding) {
        holding.private = holding.private.max(blocks - holding.shared);
    }

    /// Makes the leading blocks of a request's prompt up to `end` visible to others, now that they are computed. They end
    /// within the part of the prompt that the trace names.
    pub fn publish(&mut self, prompt: &Prompt, ticket: Ticket, end: u32, holding: &mut Holding) {
        if !self.caching || end <= holding.shared {
            return;
        }
        debug_assert!(end <= self.layout.full_blocks(prompt.shared_tokens));
        holding.private -= end - holding.shared;
        let owner = Owner::Prompt(Arc::clone(&prompt.chain));
        let fresh = self.insert(&owner, holding.shared, end, 1, &mut holding.extents);
        if fresh < end
            && let Some(changes) = &mut self.changes
        {
            changes.push(CacheChange::Stored { ticket, first: fresh, end });
        }
        holding.shared = end;
    }

    /// Takes back everything a sequence holds, its last block first. `computed` is how many tokens it has computed,
    /// `resumes` the number of the request if it will come back for them.
    pub fn release(&mut self, computed: u32, resumes: Option<u64>, holding: &mut Holding) {
        self.pinned -= holding.private;
        let full = self.layout.full_blocks(computed);
        if self.caching && full > holding.shared {
            self.cached += full - holding.shared;
            let first = holding.shared;
            if let Some(request) = resumes {
                let mut ids = ExtentIds::new();
                self.insert(&Owner::Request(request), first, full, 0, &mut ids);
                for id in ids.into_iter().rev() {
                    self.extents.append_unreferenced(id);
                }
            } else {
                let id = self.extents.insert(Extent::new(Owner::Nobody, first, full, 0));
                self.extents.append_unreferenced(id);
            }
        }
        while let Some(mut id) = holding.extents.pop() {
            let front_end =
                holding.extents.last().map_or(0, |&before| self.extents.get(before).end);
            loop {
                self.unpin(id);
                let extent = self.extents.get(id);
                if extent.first == front_end {
                    break;
                }
                id = extent.front;
            }
        }
        (holding.shared, holding.private) = (0, 0);
    }

    fn unpin(&mut self, id: u32) {
        let extent = self.extents.get_mut(id);
        extent.references -= 1;
        if extent.references == 0 {
            let blocks = extent.blocks();
            self.extents.append_unreferenced(id);
            self.pinned -= blocks;
            self.cached += blocks;
        }
    }

    /// Enters the blocks `first..end` of a sequence, each with so many references, and lists their extents. Says which is
    /// the first block that was not there before; `end` if there is none.
    fn insert(
        &mut self,
        owner: &Owner,
        first: u32,
        end: u32,
        references: u32,
        ids: &mut ExtentIds,
    ) -> u32 {
        let mut at = first;
        while at < end {
            let key = self.identity(owner, at).expect("blocks of nobody are never entered");
            let Some(&found) = self.index.get(&key) else {
                if !self.grow(owner, at, end, ids.last().copied()) {
                    let id = self.extents.insert(Extent::new(owner.clone(), at, end, references));
                    self.index.insert(key, id);
                    ids.push(id);
                }
                return at;
            };
            // Somebody has computed the same blocks: this is a second copy, cut where the first one is cut.
            let extent = self.extents.get(found);
            let matched = self.matched(extent, owner, extent.end.min(end));
            let mut newest = if matched < extent.end { self.split(found, matched) } else { found };
            while self.extents.get(newest).newer != NONE {
                newest = self.extents.get(newest).newer;
            }
            let mut copy = Extent::new(owner.clone(), at, matched, references);
            copy.older = newest;
            let id = self.extents.insert(copy);
            self.extents.get_mut(newest).newer = id;
            ids.push(id);
            at = matched;
        }
        end
    }

    /// The next chunk of a prompt: the extent of the last one grows, if it is still this sequence's alone.
    fn grow(&mut self, owner: &Owner, at: u32, end: u32, last: Option<u32>) -> bool {
        let Some(last) = last else { return false };
        let extent = self.extents.get_mut(last);
        let own = extent.references == 1 && extent.is_only_copy();
        if own && extent.end == at && extent.owner.is(owner) {
            extent.end = end;
            return true;
        }
        false
    }

    /// Cuts an extent, and every other copy of it, before block `at`. The pieces behind keep their numbers, so that a
    /// holding that ends there stays right; the number of the piece in front of `id` is returned.
    fn split(&mut self, id: u32, at: u32) -> u32 {
        let mut copy = id;
        while self.extents.get(copy).older != NONE {
            copy = self.extents.get(copy).older;
        }
        let (oldest, mut front_of_id, mut older) = (copy, NONE, NONE);
        while copy != NONE {
            let extent = self.extents.get_mut(copy);
            let mut front = Extent::new(extent.owner.clone(), extent.first, at, extent.references);
            (front.front, front.older) = (extent.front, older);
            extent.first = at;
            let (unreferenced, next) = (extent.references == 0, extent.newer);
            let front = self.extents.insert(front);
            self.extents.get_mut(copy).front = front;
            if older != NONE {
                self.extents.get_mut(older).newer = front;
            }
            if unreferenced {
                self.extents.insert_unreferenced(front, copy);
            }
            if copy == id {
                front_of_id = front;
            }
            (older, copy) = (front, next);
        }
        let mut front = older;
        while self.extents.get(front).older != NONE {
            front = self.extents.get(front).older;
        }
        self.index_oldest(front);
        self.index_oldest(oldest);
        front_of_id
    }

    fn index_oldest(&mut self, id: u32) {
        let extent = self.extents.get(id);
        let key = self.identity(&extent.owner, extent.first);
        self.index.insert(key.expect("blocks of nobody are never cut"), id);
    }

    /// Frees everything that is cached and held by nobody.
    pub fn clear(&mut self) {
        self.evict(self.cached);
    }

    /// Frees `blocks` cached blocks, the least recently used first.
    fn evict(&mut self, mut blocks: u32) {
        self.cached -= blocks;
        while blocks > 0 {
            let victim = self.extents.victim();
            debug_assert_ne!(victim, NONE, "INV-6: nothing left to evict");
            let extent = self.extents.get(victim);
            if extent.blocks() > blocks {
                if !extent.is_only_copy() {
                    self.split(victim, extent.end - blocks);
                    continue;
                }
                let extent = self.extents.get_mut(victim);
                extent.end -= blocks;
                let (owner, end) = (extent.owner.clone(), extent.end);
                self.note_removed(&owner, end, end + blocks);
                return;
            }
            blocks -= extent.blocks();
            self.evict_extent(victim);
        }
    }

    fn evict_extent(&mut self, id: u32) {
        self.extents.take_unreferenced(id);
        let extent = self.extents.remove(id);
        let Extent { older, newer, .. } = extent;
        if older != NONE {
            self.extents.get_mut(older).newer = newer;
        }
        if newer != NONE {
            self.extents.get_mut(newer).older = older;
        }
        if older == NONE
            && let Some(key) = self.identity(&extent.owner, extent.first)
        {
            if newer == NONE {
                self.index.remove(&key);
                self.note_removed(&extent.owner, extent.first, extent.end);
            } else {
                self.index.insert(key, newer);
            }
        }
    }

    /// How far a sequence agrees with an extent that starts with one of its blocks: one past the last common block, at
    /// most `end`.
    fn matched(&self, extent: &Extent, owner: &Owner, end: u32) -> u32 {
        let (Owner::Prompt(chain), Owner::Prompt(other)) = (owner, &extent.owner) else {
            return end;
        };
        self.layout.common_blocks(chain, other, extent.first, end)
    }

    /// What identifies a block in the index; nothing when nobody will ask for it again.
    fn identity(&self, owner: &Owner, block: u32) -> Option<u64> {
        match owner {
            Owner::Prompt(chain) => Some(self.layout.key(chain, block)),
            Owner::Request(request) => Some(own_key(mix64(!request), block)),
            Owner::Nobody => None,
        }
    }

    fn note_removed(&mut self, owner: &Owner, first: u32, end: u32) {
        if let (Some(changes), Owner::Prompt(chain)) = (&mut self.changes, owner) {
            changes.push(CacheChange::Removed { chain: Arc::clone(chain), first, end });
        }
    }
}
