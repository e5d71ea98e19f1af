//! Which workers hold which prefixes.
//!
//! A tree over block identities: a node is a run of blocks that the same workers hold. It is found by the identity of its
//! first block, and knows the node before it. Where a sequence parts from a node in its middle, the node is cut there.
//! What a worker holds is closed under prefixes, so along a prompt the sets of holders only shrink, and how far a worker's
//! copy reaches is where the prompt leaves the last node that lists it.
//!
//! Two books are kept in one tree, so that a prompt is looked up once: what the caches hold, and what active requests do.
//!
//! A cache fills as a prompt is computed, and conversations grow from turn to turn. To have one node for all that, a worker
//! whose cache is the only one with a node may hold no more than its first blocks, and a node is lengthened by a request that
//! goes on where it ends, if no other request has it. A node ends where its last block does that anybody holds.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use slab::Slab;

use crate::model::kv::BlockLayout;
use crate::model::router::holders::Holders;
use crate::model::router::overlaps::Overlaps;

/// Who counts as a holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Book {
    /// Workers whose prefix cache has the blocks.
    Cached,
    /// Workers with active requests that have the blocks.
    Active,
}

/// A run of blocks; as large as a line of the processor's cache, because each is found cold.
#[derive(Debug)]
struct Node {
    /// The identity of its first block.
    key: u64,
    /// The link of the chain at its last block.
    last: u64,
    /// By book.
    holders: [Holders; 2],
    /// A sequence that it is part of.
    chain: u32,
    first: u32,
    end: u32,
    /// The node of the blocks before it.
    parent: u32,
}

/// A sequence that nodes refer to. They are counted here and not in the `Arc`: its memory belongs to other cores.
#[derive(Debug)]
struct Sequence {
    chain: Arc<[u64]>,
    nodes: u32,
}

/// An index of prefixes by worker, counting how often each worker holds each block.
#[derive(Debug)]
pub(super) struct PrefixIndex {
    layout: BlockLayout,
    nodes: Slab<Node>,
    sequences: Slab<Sequence>,
    /// Nodes by their key.
    table: HashTable<u32>,
}

/// The nodes along one prompt, from the first block on: number, and one past the last block they share with it.
pub(super) type Path = Vec<(u32, u32)>;

/// No node.
const NONE: u32 = u32::MAX;

/// Where a sequence was entered: its last node, if it has blocks. That outlives what is done to others, and keeps its end,
/// but pieces may be cut off its front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trail(u32);

fn hash(key: u64) -> u64 {
    FxBuildHasher.hash_one(key)
}

impl PrefixIndex {
    /// An empty index.
    pub(super) fn new(layout: BlockLayout) -> PrefixIndex {
        let (nodes, sequences, table) = (Slab::new(), Slab::new(), HashTable::new());
        PrefixIndex { layout, nodes, sequences, table }
    }

    /// The cache of a worker holds the blocks `first..end` of an active request that left this trail (once more). Says how
    /// many it did not hold before.
    pub(super) fn store(&mut self, worker: u32, trail: Trail, first: u32, end: u32) -> u32 {
        let (mut id, mut fresh, mut end) = (trail.0, 0, end);
        while id != NONE && first < end {
            let node = &self.nodes[id as usize];
            if node.first < end {
                let part = first.max(node.first)..end.min(node.end);
                end = part.start;
                fresh += self.store_part(worker, id, part);
            }
            id = self.nodes[id as usize].parent;
        }
        fresh
    }

    /// The same for a part of a node.
    fn store_part(&mut self, worker: u32, id: u32, part: Range<u32>) -> u32 {
        let Range { start: first, end } = part;
        let node = &mut self.nodes[id as usize];
        match &mut node.holders[Book::Cached as usize] {
            holders @ Holders::None if first == node.first => {
                *holders = Holders::One(worker, 1, end);
                return end - first;
            }
            Holders::One(holder, 1, reach) if *holder == worker && *reach == first => {
                *reach = end;
                return end - first;
            }
            _ => {}
        }
        let mut fresh = 0;
        for id in self.pieces(id, first, end).into_iter().flatten() {
            let node = &mut self.nodes[id as usize];
            if node.holders[Book::Cached as usize].add(worker, node.end) {
                fresh += node.end - node.first;
            }
        }
        fresh
    }

    /// Cuts a node so that `first..end` are a node of their own, or two if the only cache with them holds the first part.
    fn pieces(&mut self, id: u32, first: u32, end: u32) -> [Option<u32>; 2] {
        let id = self.cut(id, end);
        if first > self.nodes[id as usize].first {
            self.cut(id, first);
        }
        match self.nodes[id as usize].holders[Book::Cached as usize].reach() {
            Some(reach) if reach < end => [Some(self.cut(id, reach)), Some(id)],
            _ => [Some(id), None],
        }
    }

    /// An active request of a worker has the first `end` blocks of a sequence that has just been walked. Says how many of
    /// them no other one of the worker has.
    pub(super) fn enter(
        &mut self,
        worker: u32,
        (chain, end): (&Arc<[u64]>, u32),
        path: &Path,
    ) -> (u32, Trail) {
        let (mut at, mut fresh, mut last) = (0, 0, NONE);
        for &(id, common) in path {
            let id = self.cut(id, common);
            let node = &mut self.nodes[id as usize];
            // The one before it may have been lengthened on another branch, and cut, since.
            node.parent = last;
            if node.holders[Book::Active as usize].add(worker, common) {
                fresh += common - at;
            }
            (at, last) = (common, id);
        }
        if at < end {
            fresh += end - at;
            if !self.lengthen(last, chain, end) {
                let mut holders = [Holders::None, Holders::None];
                holders[Book::Active as usize] = Holders::One(worker, 1, end);
                let key = self.layout.key(chain, at);
                let last_link = chain[self.layout.trace_block(end - 1)];
                let sequence = Sequence { chain: Arc::clone(chain), nodes: 1 };
                let chain = self.sequences.insert(sequence) as u32;
                let (first, parent) = (at, last);
                last =
                    self.insert(Node { key, last: last_link, holders, chain, first, end, parent });
            }
        }
        (fresh, Trail(last))
    }

    /// Lengthens a node by the blocks of this sequence up to `end`, which nobody holds, for its only active request, unless
    /// several caches hold the node.
    fn lengthen(&mut self, id: u32, chain: &Arc<[u64]>, end: u32) -> bool {
        let Some(node) = self.nodes.get_mut(id as usize) else { return false };
        let [cached, active] = &mut node.holders;
        let (Holders::None | Holders::One(..), Holders::One(_, 1, reach)) = (cached, active) else {
            return false;
        };
        *reach = end;
        node.end = end;
        node.last = chain[self.layout.trace_block(end - 1)];
        let sequence = &mut self.sequences[node.chain as usize];
        if sequence.nodes == 1 {
            sequence.chain = Arc::clone(chain);
        } else {
            sequence.nodes -= 1;
            let sequence = Sequence { chain: Arc::clone(chain), nodes: 1 };
            node.chain = self.sequences.insert(sequence) as u32;
        }
        true
    }

    fn insert(&mut self, node: Node) -> u32 {
        let key = node.key;
        let id = self.nodes.insert(node) as u32;
        self.list(key, id);
        id
    }

    /// Lets a node be found.
    fn list(&mut self, key: u64, id: u32) {
        let nodes = &self.nodes;
        self.table.insert_unique(hash(key), id, |&id| hash(nodes[id as usize].key));
    }

    /// The node that starts with the block of this identity.
    fn find(&self, key: u64) -> Option<u32> {
        self.table.find(hash(key), |&id| self.nodes[id as usize].key == key).copied()
    }

    /// The cache of a worker no longer holds the blocks `first..end` of a sequence (or once less). Says how many it has lost.
    pub(super) fn evict(&mut self, worker: u32, chain: &[u64], first: u32, end: u32) -> u32 {
        let (mut at, mut lost) = (first, 0);
        let mut next = self.node_at(chain, first);
        while let Some(id) = next {
            let common = self.common(id, chain, end);
            lost += self.evict_part(worker, id, at, common);
            at = common;
            next = if at < end { self.find(self.layout.key(chain, at)) } else { None };
        }
        lost
    }

    /// The node with this block of a sequence.
    fn node_at(&self, chain: &[u64], block: u32) -> Option<u32> {
        let start = self.find(self.layout.key(chain, block));
        if start.is_some() {
            return start;
        }
        let mut at = 0;
        loop {
            let id = self.find(self.layout.key(chain, at))?;
            at = self.common(id, chain, block + 1);
            if at > block {
                return Some(id);
            }
        }
    }

    /// The same for a part of a node.
    fn evict_part(&mut self, worker: u32, id: u32, first: u32, end: u32) -> u32 {
        let node = &mut self.nodes[id as usize];
        let holders = &mut node.holders[Book::Cached as usize];
        if let Holders::One(holder, 1, reach) = holders
            && *holder == worker
            && (first..=end).contains(reach)
        {
            let lost = *reach - first;
            if first == node.first {
                *holders = Holders::None;
            } else {
                *reach = first;
            }
            self.shorten(id);
            return lost;
        }
        let [id, _] = self.pieces(id, first, end);
        id.map_or(0, |id| self.release(Book::Cached, worker, id))
    }

    /// An active request of a worker that left this trail has ended. Says how many blocks no other one of the worker has.
    pub(super) fn leave(&mut self, worker: u32, trail: Trail) -> u32 {
        let (mut id, mut lost) = (trail.0, 0);
        while id != NONE {
            let parent = self.nodes[id as usize].parent;
            lost += self.release(Book::Active, worker, id);
            id = parent;
        }
        lost
    }

    /// A worker holds a node once less. Says how many blocks it has lost.
    fn release(&mut self, book: Book, worker: u32, id: u32) -> u32 {
        let node = &mut self.nodes[id as usize];
        if !node.holders[book as usize].remove(worker, node.end) {
            return 0;
        }
        let lost = node.end - node.first;
        self.shorten(id);
        lost
    }

    /// Lets a node end where somebody holds its last block.
    fn shorten(&mut self, id: u32) {
        let node = &mut self.nodes[id as usize];
        let end = match &node.holders {
            [Holders::None, Holders::None] => node.first,
            [Holders::One(_, _, reach), Holders::None] => *reach,
            _ => return,
        };
        if end == node.first {
            self.drop_node(id);
        } else if end < node.end {
            node.end = end;
            let chain = &self.sequences[node.chain as usize].chain;
            node.last = chain[self.layout.trace_block(end - 1)];
        }
    }

    /// Nobody holds any of it.
    fn drop_node(&mut self, id: u32) {
        let Node { key, chain, .. } = self.nodes.remove(id as usize);
        if let Ok(entry) = self.table.find_entry(hash(key), |&other| other == id) {
            entry.remove();
        }
        let sequence = &mut self.sequences[chain as usize];
        sequence.nodes -= 1;
        if sequence.nodes == 0 {
            self.sequences.remove(chain as usize);
        }
    }

    /// How far a sequence that has a node's first block agrees with it: one past the last common block, at most `end`.
    fn common(&self, id: u32, chain: &[u64], end: u32) -> u32 {
        let node = &self.nodes[id as usize];
        if node.end <= end && chain[self.layout.trace_block(node.end - 1)] == node.last {
            return node.end;
        }
        let other = &self.sequences[node.chain as usize].chain;
        self.layout.common_blocks(chain, other, node.first, node.end.min(end))
    }

    /// Makes a node end at `at`: what is behind keeps its number, the number of the piece in front is returned.
    fn cut(&mut self, id: u32, at: u32) -> u32 {
        let node = &self.nodes[id as usize];
        if node.end == at {
            return id;
        }
        let sequence = &mut self.sequences[node.chain as usize];
        sequence.nodes += 1;
        let last = sequence.chain[self.layout.trace_block(at - 1)];
        let behind = self.layout.key(&sequence.chain, at);
        let node = &mut self.nodes[id as usize];
        let holders = node.holders.each_mut().map(|holders| holders.split(at));
        let front = Node { last, holders, end: at, ..*node };
        let key = front.key;
        let front = self.nodes.insert(front) as u32;
        if let Some(entry) = self.table.find_mut(hash(key), |&other| other == id) {
            *entry = front;
        }
        let node = &mut self.nodes[id as usize];
        (node.key, node.first, node.parent) = (behind, at, front);
        self.list(behind, id);
        front
    }

    /// Lists the nodes along the first `blocks` blocks of a sequence.
    pub(super) fn walk(&self, chain: &[u64], blocks: u32, path: &mut Path) {
        path.clear();
        let mut at = 0;
        while at < blocks {
            let Some(id) = self.find(self.layout.key(chain, at)) else { return };
            // Where the prompt parts from this node, another one may start: a branch of whoever came later.
            at = self.common(id, chain, blocks);
            path.push((id, at));
        }
    }

    /// Who holds how much of a walked sequence.
    pub(super) fn overlaps(&self, path: &Path, overlaps: &mut Overlaps) {
        overlaps.clear();
        for book in [Book::Cached, Book::Active] {
            let overlaps = overlaps.of_mut(book);
            for &(node, end) in path.iter().rev() {
                let holders = self.holders_of(book, node);
                let end = holders.reach().map_or(end, |reach| reach.min(end));
                if !holders.is_empty() {
                    overlaps.longest = overlaps.longest.max(end);
                }
                match holders {
                    Holders::None => {}
                    Holders::One(worker, ..) => overlaps.few.push((*worker, end)),
                    Holders::Few(list) => {
                        overlaps.few.extend(list.iter().map(|&(worker, _)| (worker, end)));
                    }
                    Holders::Many(many) => overlaps.add_crowd(end, &many.set),
                }
            }
        }
    }

    fn holders_of(&self, book: Book, node: u32) -> &Holders {
        &self.nodes[node as usize].holders[book as usize]
    }

    /// How many nodes there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nobody holds anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
mod tests;
