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
use crate::model::router::set::WorkerSet;

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

/// The holders of a node, if they are many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// How many leading blocks of the prompt they hold.
    pub(super) end: u32,
    pub(super) node: u32,
    pub(super) members: usize,
}

/// The crowds along one prompt, the last node first.
pub(super) type Crowds = Vec<Crowd>;

/// How many nodes a trail names.
const TRAIL: usize = 4;

/// No node.
const NONE: u32 = u32::MAX;

/// Where a sequence was entered: its first nodes and its last one. They outlive what is done to others, and keep their
/// ends, but pieces may be cut off their fronts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trail([u32; TRAIL]);

impl Trail {
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

    /// A worker holds the blocks `first..end` of a sequence (once more). Says how many it did not hold before.
    pub fn add(
        &mut self,
        book: Book,
        worker: u32,
        chain: &Arc<[u64]>,
        first: u32,
        end: u32,
    ) -> u32 {
        let (mut at, mut fresh) = (first, 0);
        while at < end {
            let Some(&id) = self.index.get(&self.layout.key(chain, at)) else {
                self.insert(book, worker, chain, at, end);
                return fresh + end - at;
            };
            let common = self.common(id, chain, end);
            let id = self.cut(id, common);
            if self.nodes[id as usize].holders[book as usize].add(worker) {
                fresh += common - at;
            }
            at = common;
        }
        fresh
    }

    /// As [`PrefixIndex::add`], for a sequence of `end` blocks that has just been walked.
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
        let named = trail.0.iter().take_while(|&&id| id != NONE);
        let Some(&final_node) = named.last() else { return 0 };
        let mut named = trail.0.iter().copied();
        let mut next = named.next();
        let (mut at, mut lost) = (0, 0);
        while at < end {
            let id = match next {
                Some(id) if id != NONE && self.nodes[id as usize].first == at => {
                    next = named.next();
                    id
                }
                // A piece that was cut off since, or that the trail leaves out; the last node has its identity.
                _ => self.index[&self.layout.key(&self.nodes[final_node as usize].chain, at)],
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

    /// How many leading blocks of a walked sequence a worker holds.
    pub(super) fn overlap(&self, book: Book, path: &Path, worker: u32) -> u32 {
        let holds = |&&(id, _): &&(u32, u32)| self.holders_of(book, id).contains(worker);
        path.iter().rev().find(holds).map_or(0, |&(_, end)| end)
    }

    /// How many leading blocks of a walked sequence anybody holds.
    pub(super) fn longest(&self, book: Book, path: &Path) -> u32 {
        let held = |&&(id, _): &&(u32, u32)| !self.holders_of(book, id).is_empty();
        path.iter().rev().find(held).map_or(0, |&(_, end)| end)
    }

    /// Shows the workers that hold something of a walked sequence to `visit`, with the number of leading blocks that they
    /// hold; those with most come first, and may come again with less. Nodes that too many hold are listed instead.
    pub(super) fn holders(
        &self,
        book: Book,
        path: &Path,
        mut visit: impl FnMut(u32, u32),
        crowds: &mut Crowds,
    ) {
        let mut size = 0;
        for &(node, end) in path.iter().rev() {
            match self.holders_of(book, node) {
                Holders::One(worker, _) => visit(*worker, end),
                Holders::Few(list) => list.iter().for_each(|&(worker, _)| visit(worker, end)),
                // Whoever holds a node holds those before it, so crowds of one size are the same.
                Holders::Many(many) if many.set.len() > size => {
                    size = many.set.len();
                    crowds.push(Crowd { end, node, members: size });
                }
                Holders::None | Holders::Many(_) => {}
            }
        }
    }

    /// Who holds a node, if they are many.
    pub(super) fn crowd(&self, book: Book, node: u32) -> Option<&WorkerSet> {
        match self.holders_of(book, node) {
            Holders::Many(many) => Some(&many.set),
            _ => None,
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
mod tests {
    use super::*;
    use crate::kernel::rng::{Stream, stream};
    use crate::model::request::Prompt;
    use rand::RngExt;
    use std::collections::BTreeMap;
    use std::ops::Range;

    /// A prompt from a small family of sequences that share prefixes.
    fn prompt(rng: &mut Stream) -> Prompt {
        let length = rng.random_range(1..12);
        let ids: Vec<u64> = (0..length).map(|_| u64::from(rng.random_bool(0.2))).collect();
        Prompt::named(1, ids.into_iter(), 0)
    }

    /// The obvious twin: a count per worker and block identity.
    struct Counts {
        layout: BlockLayout,
        counts: BTreeMap<(u32, u64), u32>,
    }

    impl Counts {
        fn holds(&self, worker: u32, prompt: &Prompt, block: u32) -> bool {
            self.counts.contains_key(&(worker, self.layout.key(&prompt.chain, block)))
        }

        /// Leading blocks of a prompt, of `blocks`, that a worker holds.
        fn overlap(&self, worker: u32, prompt: &Prompt, blocks: u32) -> u32 {
            (0..blocks).take_while(|&block| self.holds(worker, prompt, block)).count() as u32
        }

        /// Counts blocks once more; says how many are new.
        fn add(&mut self, worker: u32, prompt: &Prompt, blocks: Range<u32>) -> u32 {
            let mut fresh = 0;
            for block in blocks {
                let key = (worker, self.layout.key(&prompt.chain, block));
                let count = self.counts.entry(key).or_insert(0);
                fresh += u32::from(*count == 0);
                *count += 1;
            }
            fresh
        }

        /// Counts blocks once less; says how many are gone.
        fn remove(&mut self, worker: u32, prompt: &Prompt, blocks: Range<u32>) -> u32 {
            let mut lost = 0;
            for block in blocks {
                let key = (worker, self.layout.key(&prompt.chain, block));
                let count = self.counts.get_mut(&key).unwrap();
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&key);
                    lost += 1;
                }
            }
            lost
        }
    }

    /// What a worker holds by one of the books: which blocks, and the trail if the sequence was entered along its path.
    struct Held {
        book: Book,
        worker: u32,
        prompt: Prompt,
        first: u32,
        end: u32,
        trail: Option<Trail>,
    }

    struct Rig {
        index: PrefixIndex,
        /// By book.
        twins: [Counts; 2],
        held: Vec<Held>,
        path: Path,
        rng: Stream,
    }

    impl Rig {
        fn new(layout: BlockLayout, rng: Stream) -> Rig {
            let twins = [(); 2].map(|()| Counts { layout, counts: BTreeMap::new() });
            let (index, held, path) = (PrefixIndex::new(layout), Vec::new(), Path::new());
            Rig { index, twins, held, path, rng }
        }

        /// Caches add what they lack, requests whole sequences, as often as they like.
        fn add(&mut self, book: Book, worker: u32, prompt: Prompt, end: u32) {
            let twin = &mut self.twins[book as usize];
            let mut held = Held { book, worker, prompt, first: 0, end, trail: None };
            if book == Book::Cached {
                held.first = twin.overlap(worker, &held.prompt, end);
            }
            let expected = twin.add(worker, &held.prompt, held.first..end);
            let chain = &held.prompt.chain;
            let fresh = if book == Book::Active && self.rng.random_bool(0.8) {
                self.index.walk(chain, end, &mut self.path);
                let (fresh, trail) = self.index.add_along(book, worker, (chain, end), &self.path);
                held.trail = Some(trail);
                fresh
            } else {
                self.index.add(book, worker, chain, held.first, end)
            };
            assert_eq!(fresh, expected);
            self.held.push(held);
        }

        fn remove(&mut self, at: usize) {
            let Held { book, worker, prompt, first, end, trail } = self.held.remove(at);
            let gone = self.twins[book as usize].remove(worker, &prompt, first..end);
            if let Some(trail) = trail {
                assert_eq!(self.index.remove_along(book, worker, trail, end), gone);
                return;
            }
            // From the end, in one or two pieces, as evictions do.
            let middle = self.rng.random_range(first..=end);
            let pieces = [(middle, end), (first, middle)];
            let pieces = pieces.into_iter().filter(|(first, end)| first < end);
            let removed = pieces
                .map(|(first, end)| self.index.remove(book, worker, &prompt.chain, first, end))
                .sum::<u32>();
            assert_eq!(removed, gone);
        }

        fn compare(&mut self, prompt: &Prompt, blocks: u32, workers: u32) {
            self.index.walk(&prompt.chain, blocks, &mut self.path);
            for book in [Book::Cached, Book::Active] {
                let (mut listed, mut crowds) = (Vec::new(), Crowds::new());
                let list = |worker, end| listed.push((worker, end));
                self.index.holders(book, &self.path, list, &mut crowds);
                let mut longest = 0;
                for worker in 0..workers {
                    let expected = self.twins[book as usize].overlap(worker, prompt, blocks);
                    longest = longest.max(expected);
                    assert_eq!(self.index.overlap(book, &self.path, worker), expected);
                    let holds = |crowd: &&Crowd| {
                        self.index.crowd(book, crowd.node).unwrap().contains(worker)
                    };
                    let crowd = crowds.iter().find(holds).map_or(0, |crowd| crowd.end);
                    let first = listed.iter().find(|listed| listed.0 == worker);
                    assert_eq!(first.map_or(crowd, |&(_, end)| end), expected);
                }
                assert_eq!(self.index.longest(book, &self.path), longest);
            }
        }
    }

    fn check(block_size: u32, workers: u32) {
        let layout = BlockLayout { block_size, trace_block_size: 8 };
        let mut rng = stream(6, u64::from(block_size * workers));
        let mut rig = Rig::new(layout, stream(7, u64::from(block_size * workers)));
        for _ in 0..4000 {
            let worker = rng.random_range(0..workers);
            if rng.random_bool(0.55) {
                let book = if rng.random_bool(0.5) { Book::Cached } else { Book::Active };
                let prompt = prompt(&mut rng);
                let blocks = layout.full_blocks(prompt.chain.len() as u32 * 8);
                rig.add(book, worker, prompt, blocks);
            } else if !rig.held.is_empty() {
                let at = rng.random_range(0..rig.held.len());
                // In a cache, what hangs on a prefix goes before it: the last of some worker.
                let Held { book, worker, .. } = rig.held[at];
                let last = |held: &Held| held.book == book && held.worker == worker;
                let last = rig.held.iter().rposition(last).unwrap();
                rig.remove(if book == Book::Cached { last } else { at });
            }
            let prompt = prompt(&mut rng);
            let blocks = layout.full_blocks(prompt.chain.len() as u32 * 8);
            rig.compare(&prompt, blocks, workers);
        }
        while !rig.held.is_empty() {
            rig.remove(rig.held.len() - 1);
        }
        assert!(rig.index.is_empty());
    }

    #[test]
    fn a_node_fills_one_cache_line() {
        assert_eq!(size_of::<Node>(), 64);
    }

    #[test]
    fn the_index_matches_counted_blocks() {
        for (block_size, workers) in [(4, 3), (8, 3), (3, 3), (20, 2), (8, 200)] {
            check(block_size, workers);
        }
    }
}
