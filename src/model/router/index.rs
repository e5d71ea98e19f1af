//! Which workers hold which prefixes.
//!
//! A tree over block identities, without links: a node is a run of blocks that the same workers hold, and is found by
//! the identity of its first block. Where a sequence parts from a node in its middle, the node of its next block is found
//! the same way. What a worker holds is closed under prefixes, so along a prompt the sets of holders only shrink, and how
//! far a worker's copy reaches is where the prompt leaves the last node that lists it.
//!
//! Two books are kept in one tree, so that a prompt is looked up once: what the caches hold, and what active requests do.

use std::sync::Arc;

use rustc_hash::FxHashMap;
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
    chain: Arc<[u64]>,
    first: u32,
    end: u32,
    /// The link of the chain at the last block.
    last: u64,
    /// By book.
    holders: [Holders; 2],
}

/// An index of prefixes by worker, counting how often each worker holds each block.
#[derive(Debug)]
pub struct PrefixIndex {
    layout: BlockLayout,
    nodes: Slab<Node>,
    /// Nodes by the identity of their first block.
    index: FxHashMap<u64, u32>,
}

/// The nodes along one prompt, from the first block on: number, and one past the last block they share with it.
pub(super) type Path = Vec<(u32, u32)>;

/// How many nodes a trail names.
const TRAIL: usize = 4;

/// No node.
const NONE: u32 = u32::MAX;

/// Where a sequence was entered: its first nodes and its last one. They outlive what is done to others, and keep their
/// ends, but pieces may be cut off their fronts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trail([u32; TRAIL]);

impl Trail {
    fn nodes(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.0.into_iter().filter(|&id| id != NONE)
    }

    fn push(&mut self, node: u32) {
        let free = self.0.iter().position(|&id| id == NONE);
        self.0[free.unwrap_or(TRAIL - 1)] = node;
    }
}

impl PrefixIndex {
    /// An empty index.
    pub fn new(layout: BlockLayout) -> PrefixIndex {
        PrefixIndex { layout, nodes: Slab::new(), index: FxHashMap::default() }
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
        let (mut at, mut fresh) = (first, 0);
        while at < end {
            // What is new to a worker is the end of the trail, and seldom anything else.
            let starts_here = |&id: &u32| self.nodes[id as usize].first == at;
            let by_trail = trail.nodes().rev().find(starts_here);
            let id = by_trail.unwrap_or_else(|| self.off_trail(trail, at));
            let node_end = self.nodes[id as usize].end.min(end);
            let id = self.cut(id, node_end);
            if self.nodes[id as usize].holders[book as usize].add(worker) {
                fresh += node_end - at;
            }
            at = node_end;
        }
        fresh
    }

    /// The node that starts at `at`, of a sequence that is entered along this trail: a piece that was cut off since, or that
    /// the trail leaves out. Its last node has the identity of all.
    fn off_trail(&self, trail: Trail, at: u32) -> u32 {
        let last = trail.nodes().next_back().expect("a sequence with blocks leaves a trail");
        self.index[&self.layout.key(&self.nodes[last as usize].chain, at)]
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
        let (mut at, mut fresh, mut trail) = (0, 0, Trail([NONE; TRAIL]));
        for &(id, common) in path {
            let id = self.cut(id, common);
            if self.nodes[id as usize].holders[book as usize].add(worker) {
                fresh += common - at;
            }
            trail.push(id);
            at = common;
        }
        if at < end {
            trail.push(self.insert(book, worker, chain, at, end));
            fresh += end - at;
        }
        (fresh, trail)
    }

    fn insert(&mut self, book: Book, worker: u32, chain: &Arc<[u64]>, first: u32, end: u32) -> u32 {
        let mut holders = [Holders::None, Holders::None];
        holders[book as usize] = Holders::One(worker, 1);
        let last = chain[self.layout.trace_block(end - 1)];
        let node = Node { chain: Arc::clone(chain), first, end, last, holders };
        let id = self.nodes.insert(node) as u32;
        self.index.insert(self.layout.key(chain, first), id);
        id
    }

    /// A worker no longer holds the blocks `first..end` of a sequence (or once less). Says how many it has lost.
    pub fn remove(&mut self, book: Book, worker: u32, chain: &[u64], first: u32, end: u32) -> u32 {
        let (mut at, mut lost) = (first, 0);
        if first < end && self.shrink(book, worker, chain, first, end) {
            return end - first;
        }
        while at < end {
            let Some(&id) = self.index.get(&self.layout.key(chain, at)) else { return lost };
            let common = self.common(id, chain, end);
            let id = self.cut(id, common);
            lost += self.release(book, worker, id);
            at = common;
        }
        lost
    }

    /// As [`PrefixIndex::remove`], for a sequence of `end` blocks that left this trail.
    pub(super) fn remove_along(&mut self, book: Book, worker: u32, trail: Trail, end: u32) -> u32 {
        let mut named = trail.nodes();
        let mut next = named.next();
        let (mut at, mut lost) = (0, 0);
        while at < end {
            let id = match next {
                Some(id) if self.nodes[id as usize].first == at => {
                    next = named.next();
                    id
                }
                _ => self.off_trail(trail, at),
            };
            at = self.nodes[id as usize].end;
            lost += self.release(book, worker, id);
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
            let node = self.nodes.remove(id as usize);
            self.index.remove(&self.layout.key(&node.chain, node.first));
        }
        lost
    }

    /// Makes sure that a node starts at `first`, unless the blocks are the tail of one that the worker alone holds: then
    /// they are cut off, and that was all.
    fn shrink(&mut self, book: Book, worker: u32, chain: &[u64], first: u32, end: u32) -> bool {
        if self.index.contains_key(&self.layout.key(chain, first)) {
            return false;
        }
        let mut at = 0;
        while let Some(&id) = self.index.get(&self.layout.key(chain, at)) {
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
        self.layout.common_blocks(chain, &node.chain, node.first, node.end.min(end))
    }

    /// Makes a node end at `at`: what is behind keeps its number, the number of the piece in front is returned.
    fn cut(&mut self, id: u32, at: u32) -> u32 {
        let node = &mut self.nodes[id as usize];
        if node.end == at {
            return id;
        }
        let last = node.chain[self.layout.trace_block(at - 1)];
        let (chain, holders) = (Arc::clone(&node.chain), node.holders.clone());
        let front = Node { chain, first: node.first, end: at, last, holders };
        node.first = at;
        let keys = [front.first, at].map(|first| self.layout.key(&front.chain, first));
        let front = self.nodes.insert(front) as u32;
        self.index.insert(keys[0], front);
        self.index.insert(keys[1], id);
        front
    }

    /// Lists the nodes along the first `blocks` blocks of a sequence.
    pub(super) fn walk(&self, chain: &[u64], blocks: u32, path: &mut Path) {
        path.clear();
        let mut at = 0;
        while at < blocks {
            let Some(&id) = self.index.get(&self.layout.key(chain, at)) else { return };
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
