//! Which workers hold which prefixes.
//!
//! A tree over block identities: a node is a run of blocks that the same workers hold. It is found by the identity of its
//! first block, and knows the node before it. Where a sequence parts from a node in its middle, the node is cut there.
//! What a worker holds is closed under prefixes, so along a prompt the sets of holders only shrink, and how far a worker's
//! copy reaches is where the prompt leaves the last node that lists it.
//!
//! Two books are kept in one tree, so that a prompt is looked up once: what the caches hold, and what active requests do.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use slab::Slab;

use crate::model::kv::BlockLayout;
use crate::model::router::holders::Holders;
use crate::model::router::overlaps::Overlaps;

/// Who counts as a holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Book {
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
pub struct PrefixIndex {
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
    pub fn new(layout: BlockLayout) -> PrefixIndex {
        let (nodes, sequences, table) = (Slab::new(), Slab::new(), HashTable::new());
        PrefixIndex { layout, nodes, sequences, table }
    }

    /// A worker holds the blocks `first..end` of a sequence that left this trail, and is still entered along it (once
    /// more). Says how many it did not hold before.
    pub(super) fn add_again(
        &mut self,
        book: Book,
        worker: u32,
        trail: Trail,
        first: u32,
        end: u32,
    ) -> u32 {
        let (mut id, mut fresh) = (trail.0, 0);
        while id != NONE && self.nodes[id as usize].end > first {
            if self.nodes[id as usize].first < end {
                id = self.cut(id, self.nodes[id as usize].end.min(end));
                let node = &mut self.nodes[id as usize];
                debug_assert!(node.first >= first, "nobody holds a part of a node");
                if node.holders[book as usize].add(worker) {
                    fresh += node.end - node.first;
                }
            }
            id = self.nodes[id as usize].parent;
        }
        fresh
    }

    /// A worker holds `end` blocks of a sequence that has just been walked (once more). Says how many it did not hold
    /// before.
    pub(super) fn add_along(
        &mut self,
        book: Book,
        worker: u32,
        (chain, end): (&Arc<[u64]>, u32),
        path: &Path,
    ) -> (u32, Trail) {
        let (mut at, mut fresh, mut last) = (0, 0, NONE);
        for &(id, common) in path {
            last = self.cut(id, common);
            if self.nodes[last as usize].holders[book as usize].add(worker) {
                fresh += common - at;
            }
            at = common;
        }
        if at < end {
            let mut holders = [Holders::None, Holders::None];
            holders[book as usize] = Holders::One(worker, 1);
            let key = self.layout.key(chain, at);
            let last_link = chain[self.layout.trace_block(end - 1)];
            let sequence = Sequence { chain: Arc::clone(chain), nodes: 1 };
            let chain = self.sequences.insert(sequence) as u32;
            let node = Node { key, last: last_link, holders, chain, first: at, end, parent: last };
            last = self.insert(node);
            fresh += end - at;
        }
        (fresh, Trail(last))
    }

    fn insert(&mut self, node: Node) -> u32 {
        let key = node.key;
        let id = self.nodes.insert(node) as u32;
        self.enter(key, id);
        id
    }

    /// Lets a node be found.
    fn enter(&mut self, key: u64, id: u32) {
        let nodes = &self.nodes;
        self.table.insert_unique(hash(key), id, |&id| hash(nodes[id as usize].key));
    }

    /// The node that starts with the block of this identity.
    fn find(&self, key: u64) -> Option<u32> {
        self.table.find(hash(key), |&id| self.nodes[id as usize].key == key).copied()
    }

    /// A worker no longer holds the blocks `first..end` of a sequence (or once less). Says how many it has lost.
    pub fn remove(&mut self, book: Book, worker: u32, chain: &[u64], first: u32, end: u32) -> u32 {
        let (mut at, mut lost) = (first, 0);
        if first < end && self.shrink(book, worker, chain, first, end) {
            return end - first;
        }
        while at < end {
            let Some(id) = self.find(self.layout.key(chain, at)) else { return lost };
            let common = self.common(id, chain, end);
            let id = self.cut(id, common);
            lost += self.release(book, worker, id);
            at = common;
        }
        lost
    }

    /// As [`PrefixIndex::remove`], for all blocks of a sequence that left this trail.
    pub(super) fn remove_along(&mut self, book: Book, worker: u32, trail: Trail) -> u32 {
        let (mut id, mut lost) = (trail.0, 0);
        while id != NONE {
            let parent = self.nodes[id as usize].parent;
            lost += self.release(book, worker, id);
            id = parent;
        }
        lost
    }

    /// A worker holds a node once less. Says how many blocks it has lost.
    fn release(&mut self, book: Book, worker: u32, id: u32) -> u32 {
        let node = &mut self.nodes[id as usize];
        if !node.holders[book as usize].remove(worker) {
            return 0;
        }
        let lost = node.end - node.first;
        if node.holders.iter().all(Holders::is_empty) {
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
        lost
    }

    /// Makes sure that a node starts at `first`, unless the blocks are the tail of one that the worker alone holds: then
    /// they are cut off, and that was all.
    fn shrink(&mut self, book: Book, worker: u32, chain: &[u64], first: u32, end: u32) -> bool {
        if self.find(self.layout.key(chain, first)).is_some() {
            return false;
        }
        let mut at = 0;
        while let Some(id) = self.find(self.layout.key(chain, at)) {
            at = self.common(id, chain, first + 1);
            if at <= first {
                continue;
            }
            let node = &mut self.nodes[id as usize];
            let (holders, others) =
                (&node.holders[book as usize], &node.holders[1 - book as usize]);
            if node.end == end && others.is_empty() && holders.is_only(worker) {
                node.end = first;
                node.last = chain[self.layout.trace_block(first - 1)];
                return true;
            }
            self.cut(id, first);
            return false;
        }
        false
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
        let front = Node { last, holders: node.holders.clone(), end: at, ..*node };
        let key = front.key;
        let front = self.nodes.insert(front) as u32;
        if let Some(entry) = self.table.find_mut(hash(key), |&other| other == id) {
            *entry = front;
        }
        let node = &mut self.nodes[id as usize];
        (node.key, node.first, node.parent) = (behind, at, front);
        self.enter(behind, id);
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
                if !holders.is_empty() {
                    overlaps.longest = overlaps.longest.max(end);
                }
                match holders {
                    Holders::None => {}
                    Holders::One(worker, _) => overlaps.few.push((*worker, end)),
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
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nobody holds anything.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
mod tests;
