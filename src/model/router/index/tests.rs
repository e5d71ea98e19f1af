//! The index against counts per worker and block.

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

impl PrefixIndex {
    /// What nodes promise one another.
    fn check(&self) {
        for (id, node) in &self.nodes {
            assert!(node.first < node.end);
            assert_eq!(self.find(node.key), Some(id as u32));
            let chain = &self.sequences[node.chain as usize].chain;
            assert_eq!(node.key, self.layout.key(chain, node.first));
            assert_eq!(node.last, chain[self.layout.trace_block(node.end - 1)]);
            let [cached, active] = &node.holders;
            assert!(cached.reach().is_none_or(|reach| reach > node.first && reach <= node.end));
            assert!(active.reach().is_none_or(|reach| reach == node.end));
            let is_held_in_part = cached.reach().is_some_and(|reach| reach < node.end);
            assert!(!active.is_empty() || !(is_held_in_part || cached.is_empty()));
        }
        let of = |sequence| self.nodes.iter().filter(move |(_, node)| node.chain == sequence);
        for (id, sequence) in &self.sequences {
            assert_eq!(of(id as u32).count(), sequence.nodes as usize);
        }
    }
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

    /// A request is entered.
    fn enter(&mut self, worker: u32, prompt: Prompt, end: u32) {
        let expected = self.twins[Book::Active as usize].add(worker, &prompt, 0..end);
        let chain = &prompt.chain;
        self.index.walk(chain, end, &mut self.path);
        let (fresh, trail) = self.index.enter(worker, (chain, end), &self.path);
        assert_eq!(fresh, expected);
        let trail = Some(trail);
        self.held.push(Held { book: Book::Active, worker, prompt, first: 0, end, trail });
    }

    /// The cache of its worker takes in what it lacks of the prompt of a request, up to some block, or some of what it has once
    /// more.
    fn store(&mut self, request: usize) {
        let Held { worker, end, trail, ref prompt, .. } = self.held[request];
        let (prompt, end) = (prompt.clone(), self.rng.random_range(0..=end));
        let twin = &mut self.twins[Book::Cached as usize];
        let mut first = twin.overlap(worker, &prompt, end);
        if self.rng.random_bool(0.2) {
            first = self.rng.random_range(0..=first);
        }
        if first == end {
            return;
        }
        let expected = twin.add(worker, &prompt, first..end);
        let trail = trail.expect("only requests have one");
        assert_eq!(self.index.store(worker, trail, first, end), expected);
        self.held.push(Held { book: Book::Cached, worker, prompt, first, end, trail: None });
    }

    /// What hangs on something in a cache, at the end: that goes before it.
    fn leaf(&self, mut at: usize) -> usize {
        let hangs_on = |next: &Held, held: &Held| {
            let last = self.index.layout.trace_block(next.first.min(held.end).max(1) - 1);
            next.book == Book::Cached
                && next.worker == held.worker
                && next.first > held.first
                && next.prompt.chain.get(last) == held.prompt.chain.get(last)
        };
        while let Some(next) = self.held.iter().position(|next| hangs_on(next, &self.held[at])) {
            at = next;
        }
        at
    }

    fn remove(&mut self, at: usize) {
        let Held { book, worker, prompt, first, end, trail } = self.held.remove(at);
        let gone = self.twins[book as usize].remove(worker, &prompt, first..end);
        if let Some(trail) = trail {
            assert_eq!(self.index.leave(worker, trail), gone);
            return;
        }
        // From the end, in one or two pieces, as evictions do.
        let middle = self.rng.random_range(first..=end);
        let pieces = [(middle, end), (first, middle)];
        let pieces = pieces.into_iter().filter(|(first, end)| first < end);
        let removed = pieces
            .map(|(first, end)| self.index.evict(worker, &prompt.chain, first, end))
            .sum::<u32>();
        assert_eq!(removed, gone);
    }

    fn compare(&mut self, prompt: &Prompt, blocks: u32, workers: u32) {
        self.index.check();
        self.index.walk(&prompt.chain, blocks, &mut self.path);
        let mut overlaps = Overlaps::default();
        self.index.overlaps(&self.path, &mut overlaps);
        for book in [Book::Cached, Book::Active] {
            let mut longest = 0;
            for worker in 0..workers {
                let expected = self.twins[book as usize].overlap(worker, prompt, blocks);
                longest = longest.max(expected);
                assert_eq!(overlaps.of(book).on(worker), expected);
            }
            assert_eq!(overlaps.of(book).longest, longest);
        }
    }
}

fn check(block_size: u32, workers: u32) {
    let layout = BlockLayout { block_size, trace_block_size: 8 };
    let mut rng = stream(6, u64::from(block_size * workers));
    let mut rig = Rig::new(layout, stream(7, u64::from(block_size * workers)));
    for _ in 0..4000 {
        let worker = rng.random_range(0..workers);
        if rng.random_bool(0.35) {
            let prompt = prompt(&mut rng);
            let blocks = layout.full_blocks(prompt.chain.len() as u32 * 8);
            rig.enter(worker, prompt, blocks);
        } else if rng.random_bool(0.4) {
            let requests = rig.held.iter().enumerate().filter(|(_, held)| held.trail.is_some());
            let requests: Vec<usize> = requests.map(|(at, _)| at).collect();
            if !requests.is_empty() {
                rig.store(requests[rng.random_range(0..requests.len())]);
            }
        } else if !rig.held.is_empty() {
            let at = rng.random_range(0..rig.held.len());
            let at = if rig.held[at].book == Book::Cached { rig.leaf(at) } else { at };
            rig.remove(at);
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
fn a_conversation_is_one_node_as_long_as_it_stays_with_a_worker() {
    let layout = BlockLayout { block_size: 8, trace_block_size: 8 };
    let mut index = PrefixIndex::new(layout);
    let mut path = Path::new();
    let turn = |blocks: u32| Prompt::named(1, (0..blocks).map(u64::from), 0);
    let mut enter = |index: &mut PrefixIndex, worker, prompt: &Prompt| {
        let end = prompt.chain.len() as u32;
        index.walk(&prompt.chain, end, &mut path);
        index.enter(worker, (&prompt.chain, end), &path)
    };
    let mut cached = 0;
    for blocks in [3, 7, 12] {
        let prompt = turn(blocks);
        let (fresh, trail) = enter(&mut index, 0, &prompt);
        assert_eq!(fresh, blocks);
        // In two passes.
        assert_eq!(index.store(0, trail, cached, blocks - 1), blocks - 1 - cached);
        assert_eq!(index.store(0, trail, blocks - 1, blocks), 1);
        assert_eq!(index.leave(0, trail), blocks);
        assert_eq!(index.len(), 1);
        cached = blocks;
    }
    // The end is evicted, and computed again.
    assert_eq!(index.evict(0, &turn(12).chain, 5, 12), 7);
    let (_, trail) = enter(&mut index, 0, &turn(9));
    assert_eq!(index.store(0, trail, 5, 9), 4);
    assert_eq!(index.len(), 1);
    // A second cache has but a part of it, and another request meanwhile all of that and more.
    let (_, first) = enter(&mut index, 1, &turn(6));
    let (fresh, second) = enter(&mut index, 1, &turn(14));
    assert_eq!(fresh, 8);
    assert_eq!(index.store(1, first, 0, 4), 4);
    index.check();
    assert_eq!((index.leave(1, first), index.leave(1, second), index.leave(0, trail)), (0, 14, 9));
    assert_eq!(
        (index.evict(0, &turn(9).chain, 0, 9), index.evict(1, &turn(6).chain, 0, 4)),
        (9, 4)
    );
    assert!(index.is_empty());
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
