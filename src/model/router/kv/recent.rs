//! Requests that were assigned to a worker, but are not in the books yet.
//!
//! Where the books are kept in parts, what the router decides reaches them a little later. Until then, it remembers its
//! decisions itself, and corrects what the books say. A request can't end that soon.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::kernel::time::Time;
use crate::model::kv::BlockLayout;
use crate::model::request::{Visible, WorkerId};
use crate::model::router::index::Book;
use crate::model::router::kv::books::Ended;
use crate::model::router::overlaps::Overlaps;

/// A request whose books will hear of it.
#[derive(Debug)]
struct Entry {
    /// When they do.
    entered: Time,
    worker: WorkerId,
    chain: Arc<[u64]>,
    named_blocks: u32,
}

/// The latest requests.
#[derive(Debug)]
pub struct Recent {
    layout: BlockLayout,
    entries: VecDeque<Entry>,
    /// The first link of the chain of each: most have nothing in common, and that is all one has to look at.
    roots: VecDeque<u64>,
}

impl Recent {
    /// No requests.
    pub fn new(layout: BlockLayout) -> Recent {
        Recent { layout, entries: VecDeque::new(), roots: VecDeque::new() }
    }

    /// Remembers a request that was assigned to a worker until `entered`, when the books know.
    pub fn push(&mut self, request: Visible<'_>, worker: WorkerId, entered: Time) {
        let prompt = &request.prompt;
        let named_blocks = self.layout.full_blocks(prompt.shared_tokens);
        if named_blocks > 0 {
            let chain = Arc::clone(&prompt.chain);
            self.roots.push_back(chain[0]);
            self.entries.push_back(Entry { entered, worker, chain, named_blocks });
        }
    }

    /// Forgets what the books know by `now`.
    pub fn forget(&mut self, now: Time) {
        while self.entries.front().is_some_and(|entry| entry.entered <= now) {
            self.entries.pop_front();
            self.roots.pop_front();
        }
    }

    /// Adds what the books don't know of the prompt of a request.
    pub fn correct(&self, request: Visible<'_>, overlaps: &mut Overlaps) {
        let prompt = &request.prompt;
        let named_blocks = self.layout.full_blocks(prompt.shared_tokens);
        for entry in self.alike(&prompt.chain) {
            let common = self.common(entry, &prompt.chain, named_blocks);
            let overlap = overlaps.of_mut(Book::Active);
            if common > overlap.on(entry.worker.0) {
                overlap.add(entry.worker.0, common);
            }
        }
    }

    /// How many of the named blocks of a request that has ended no other active request of its worker holds.
    pub fn lost_blocks(&self, ended: &Ended) -> u32 {
        let others = self.alike(&ended.chain).filter(|entry| entry.worker == ended.worker);
        let held = others.map(|entry| self.common(entry, &ended.chain, ended.named_blocks)).max();
        ended.lost_blocks.min(ended.named_blocks - held.unwrap_or(0))
    }

    /// Those that begin like a chain.
    fn alike(&self, chain: &[u64]) -> impl Iterator<Item = &Entry> {
        let root = chain.first().copied();
        let roots = self.roots.iter().enumerate();
        roots.filter(move |(_, other)| Some(**other) == root).map(|(at, _)| &self.entries[at])
    }

    /// How many leading blocks an entry has in common with the first `blocks` of a sequence.
    fn common(&self, entry: &Entry, chain: &[u64], blocks: u32) -> u32 {
        let end = entry.named_blocks.min(blocks);
        if end > 0 { self.layout.common_blocks(&entry.chain, chain, 0, end) } else { 0 }
    }
}
