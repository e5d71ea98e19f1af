//! Which workers hold which prefixes.
//!
//! A tree over block identities, without links: a node is a run of blocks that the same workers hold, and is found by
//! the identity of its first block. Where a sequence parts from a node in its middle, the node of its next block is found
//! the same way. What a worker holds is closed under prefixes, so along a prompt the sets of holders only shrink, and how
//! far a worker's copy reaches is where the prompt leaves the last node that lists it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;

use crate::model::kv::BlockLayout;
use crate::model::router::set::WorkerSet;

/// Up to this many workers a set is a sorted list, and can be walked.
const FEW: usize = 16;

/// How often each worker holds the blocks of a node.
#[derive(Clone, Debug)]
enum Holders {
    One(u32, u32),
    Few(Vec<(u32, u32)>),
    /// Everybody who holds them, and how often beyond once.
    Many(WorkerSet, FxHashMap<u32, u32>),
}

impl Holders {
    fn contains(&self, worker: u32) -> bool {
        match self {
            Holders::One(holder, _) => *holder == worker,
            Holders::Few(list) => list.binary_search_by_key(&worker, |&(holder, _)| holder).is_ok(),
            Holders::Many(set, _) => set.contains(worker),
        }
    }

    /// Whether the worker is new.
    fn add(&mut self, worker: u32) -> bool {
        match self {
            Holders::One(holder, count) if *holder == worker => *count += 1,
            Holders::One(holder, count) => {
                let mut list = vec![(*holder, *count), (worker, 1)];
                list.sort_unstable();
                *self = Holders::Few(list);
                return true;
            }
            Holders::Few(list) => match list.binary_search_by_key(&worker, |&(holder, _)| holder) {
                Ok(at) => list[at].1 += 1,
                Err(at) => {
                    list.insert(at, (worker, 1));
                    if list.len() > FEW {
                        let set = list.iter().map(|&(holder, _)| holder).collect();
                        let often = list.iter().filter(|&&(_, count)| count > 1);
                        let more = often.map(|&(holder, count)| (holder, count - 1)).collect();
                        *self = Holders::Many(set, more);
                    }
                    return true;
                }
            },
            Holders::Many(set, more) => {
                if set.insert(worker) {
                    return true;
                }
                *more.entry(worker).or_insert(0) += 1;
            }
        }
        false
    }

    /// Whether the worker is gone. The set may then be empty.
    fn remove(&mut self, worker: u32) -> bool {
        match self {
            Holders::One(holder, count) if *holder == worker => {
                *count -= 1;
                *count == 0
            }
            Holders::One(..) => false,
            Holders::Few(list) => {
                let Ok(at) = list.binary_search_by_key(&worker, |&(holder, _)| holder) else {
                    return false;
                };
                list[at].1 -= 1;
                if list[at].1 > 0 {
                    return false;
                }
                list.remove(at);
                if let [(holder, count)] = list[..] {
                    *self = Holders::One(holder, count);
                }
                true
            }
            Holders::Many(set, more) => {
                let Some(count) = more.get_mut(&worker) else { return set.remove(worker) };
                *count -= 1;
                if *count == 0 {
                    more.remove(&worker);
                }
                false
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Holders::One(_, count) => *count == 0,
            Holders::Few(list) => list.is_empty(),
            Holders::Many(set, _) => set.is_empty(),
        }
    }
}

#[derive(Debug)]
struct Node {
    chain: Arc<[u64]>,
    first: u32,
    end: u32,
    holders: Holders,
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

/// Nodes with many holders along one prompt, the last first: one past the last block they share with it, and number.
pub(super) type Crowds = Vec<(u32, u32)>;

impl PrefixIndex {
    /// An empty index.
    pub fn new(layout: BlockLayout) -> PrefixIndex {
        PrefixIndex { layout, nodes: Slab::new(), index: FxHashMap::default() }
    }

    /// A worker holds the blocks `first..end` of a sequence (once more). Says how many it did not hold before.
    pub fn add(&mut self, worker: u32, chain: &Arc<[u64]>, first: u32, end: u32) -> u32 {
        let (mut at, mut fresh) = (first, 0);
        while at < end {
            let key = self.layout.key(chain, at);
            let Some(&id) = self.index.get(&key) else {
                let (chain, holders) = (Arc::clone(chain), Holders::One(worker, 1));
                let id = self.nodes.insert(Node { chain, first: at, end, holders });
                self.index.insert(key, id as u32);
                return fresh + end - at;
            };
            let common = self.cut_common(id, chain, end);
            if self.nodes[id as usize].holders.add(worker) {
                fresh += common - at;
            }
            at = common;
        }
        fresh
    }

    /// A worker no longer holds the blocks `first..end` of a sequence (or once less). Says how many it has lost.
    pub fn remove(&mut self, worker: u32, chain: &Arc<[u64]>, first: u32, end: u32) -> u32 {
        let (mut at, mut lost) = (first, 0);
        if first < end && self.shrink(worker, chain, first, end) {
            return end - first;
        }
        while at < end {
            let Some(&id) = self.index.get(&self.layout.key(chain, at)) else { return lost };
            let common = self.cut_common(id, chain, end);
            let node = &mut self.nodes[id as usize];
            if node.holders.remove(worker) {
                lost += common - at;
                if node.holders.is_empty() {
                    self.nodes.remove(id as usize);
                    self.index.remove(&self.layout.key(chain, at));
                }
            }
            at = common;
        }
        lost
    }

    /// Makes sure that a node starts at `first`, unless the blocks are the tail of one that the worker alone holds: then
    /// they are cut off, and that was all.
    fn shrink(&mut self, worker: u32, chain: &Arc<[u64]>, first: u32, end: u32) -> bool {
        if self.index.contains_key(&self.layout.key(chain, first)) {
            return false;
        }
        let mut at = 0;
        while let Some(&id) = self.index.get(&self.layout.key(chain, at)) {
            let node = &mut self.nodes[id as usize];
            let limit = node.end.min(first + 1);
            at = self.layout.common_blocks(chain, &node.chain, node.first, limit);
            if at <= first {
                continue;
            }
            if node.end == end
                && matches!(node.holders, Holders::One(holder, 1) if holder == worker)
            {
                node.end = first;
                return true;
            }
            self.cut(id, first);
            return false;
        }
        false
    }

    /// Cuts a node that starts with a block of `chain` where the two part, or at `end`; says where.
    fn cut_common(&mut self, id: u32, chain: &Arc<[u64]>, end: u32) -> u32 {
        let node = &self.nodes[id as usize];
        let limit = node.end.min(end);
        let common = self.layout.common_blocks(chain, &node.chain, node.first, limit);
        if common < node.end {
            self.cut(id, common);
        }
        common
    }

    fn cut(&mut self, id: u32, at: u32) {
        let node = &mut self.nodes[id as usize];
        let (chain, holders, end) = (Arc::clone(&node.chain), node.holders.clone(), node.end);
        node.end = at;
        let key = self.layout.key(&chain, at);
        let tail = self.nodes.insert(Node { chain, first: at, end, holders });
        self.index.insert(key, tail as u32);
    }

    /// Lists the nodes along the first `blocks` blocks of a sequence.
    pub(super) fn walk(&self, chain: &[u64], blocks: u32, path: &mut Path) {
        path.clear();
        let mut at = 0;
        while at < blocks {
            let Some(&id) = self.index.get(&self.layout.key(chain, at)) else { return };
            let node = &self.nodes[id as usize];
            let limit = node.end.min(blocks);
            // Where the prompt parts from this node, another one may start: a branch of whoever came later.
            at = self.layout.common_blocks(chain, &node.chain, node.first, limit);
            path.push((id, at));
        }
    }

    /// How many leading blocks of a walked sequence a worker holds.
    pub(super) fn overlap(&self, path: &Path, worker: u32) -> u32 {
        let holds = |&&(id, _): &&(u32, u32)| self.nodes[id as usize].holders.contains(worker);
        path.iter().rev().find(holds).map_or(0, |&(_, end)| end)
    }

    /// Lists the workers that hold something of a walked sequence, those with most first; in place of the workers of a
    /// node which too many hold, the node is listed among the crowds.
    pub(super) fn holders(&self, path: &Path, workers: &mut Vec<u32>, crowds: &mut Crowds) {
        let mut size = 0;
        for &(id, end) in path.iter().rev() {
            match &self.nodes[id as usize].holders {
                Holders::One(worker, _) => workers.push(*worker),
                Holders::Few(list) => workers.extend(list.iter().map(|&(worker, _)| worker)),
                // Whoever holds a node holds those before it, so crowds of one size are the same.
                Holders::Many(set, _) if set.len() > size => {
                    size = set.len();
                    crowds.push((end, id));
                }
                Holders::Many(..) => {}
            }
        }
    }

    /// Who holds a node, if they are many.
    pub(super) fn crowd(&self, node: u32) -> Option<&WorkerSet> {
        match &self.nodes[node as usize].holders {
            Holders::Many(set, _) => Some(set),
            Holders::One(..) | Holders::Few(_) => None,
        }
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

    /// With `counted`, workers add whole sequences, as often as they like; without, what they lack, as cache events say.
    fn check(counted: bool, block_size: u32, workers: u32) {
        let layout = BlockLayout { block_size, trace_block_size: 8 };
        let mut rng = stream(6, u64::from(block_size * workers));
        let mut index = PrefixIndex::new(layout);
        let mut twin = Counts { layout, counts: BTreeMap::new() };
        let mut held: Vec<(u32, Prompt, u32, u32)> = Vec::new();
        let mut path = Path::new();
        for _ in 0..3000 {
            let worker = rng.random_range(0..workers);
            if rng.random_bool(0.55) {
                let prompt = prompt(&mut rng);
                let blocks = layout.full_blocks(prompt.chain.len() as u32 * 8);
                let first = if counted { 0 } else { twin.overlap(worker, &prompt, blocks) };
                let fresh = twin.add(worker, &prompt, first..blocks);
                assert_eq!(index.add(worker, &prompt.chain, first, blocks), fresh);
                held.push((worker, prompt, first, blocks));
            } else if !held.is_empty() {
                // What hangs on a prefix goes before it: with events, the last of some worker.
                let at = rng.random_range(0..held.len());
                let other = held[at].0;
                let last = held.iter().rposition(|held| held.0 == other).unwrap();
                let (worker, prompt, first, blocks) = held.remove(if counted { at } else { last });
                let gone = twin.remove(worker, &prompt, first..blocks);
                // From the end, in one or two pieces, as evictions do.
                let middle = rng.random_range(first..=blocks);
                let pieces = [(middle, blocks), (first, middle)];
                let pieces = pieces.into_iter().filter(|(first, end)| first < end);
                let removed = pieces
                    .map(|(first, end)| index.remove(worker, &prompt.chain, first, end))
                    .sum::<u32>();
                assert_eq!(removed, gone);
            }
            let prompt = prompt(&mut rng);
            let blocks = layout.full_blocks(prompt.chain.len() as u32 * 8);
            index.walk(&prompt.chain, blocks, &mut path);
            let (mut listed, mut crowds) = (Vec::new(), Crowds::new());
            index.holders(&path, &mut listed, &mut crowds);
            for worker in 0..workers {
                let expected = twin.overlap(worker, &prompt, blocks);
                assert_eq!(index.overlap(&path, worker), expected);
                let holds = |&&(_, node): &&(u32, u32)| index.crowd(node).unwrap().contains(worker);
                let crowd = crowds.iter().find(holds);
                assert!(listed.contains(&worker) || expected == crowd.map_or(0, |&(end, _)| end));
            }
        }
        for (worker, prompt, first, blocks) in held.into_iter().rev() {
            index.remove(worker, &prompt.chain, first, blocks);
        }
        assert!(index.is_empty());
    }

    #[test]
    fn the_index_matches_counted_blocks() {
        for (block_size, workers) in [(4, 3), (8, 3), (3, 3), (20, 2), (8, 200)] {
            check(true, block_size, workers);
            check(false, block_size, workers);
        }
    }
}
