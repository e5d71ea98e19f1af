//! The KV-aware router: the worker where a request costs least, counting what its cache saves and what it has to do.
//!
//! All in blocks, for worker w (the reference peer's formula, lower is better):
//!
//! ```text
//! prefill = max(0, (active prefill tokens + prompt tokens) / block size - credit x overlap)
//! decode  = active blocks + the prompt's full blocks not among them
//! cost    = prefill_load_scale x prefill + decode + decode_active_request_weight x active requests
//! credit  = overlap_score_credit / (1 + decay x (active prefill tokens - the least of all) / block size / prompt blocks)
//! ```
//!
//! *Overlap* is what the workers' cache events say, as late as they arrive; the *active* terms are the router's own
//! books: a request counts from the moment it is routed, its prefill until its first token is heard of, its blocks until
//! its end is.
//!
//! Looking at every worker for every request would cost more than anything else in a large fleet. The search visits only
//! workers that could win (`search.rs`).

mod books;
mod loads;
mod search;
#[cfg(test)]
mod tests;

use books::KvBooks;
use loads::KvLoads;

use crate::kernel::rng::Stream;
use crate::model::kv::{BlockLayout, CacheChange};
use crate::model::request::{Ticket, Visible, WorkerId};
use crate::model::router::index::Book;
use crate::model::router::overlaps::Overlaps;
use crate::model::router::{Policy, Reads};

/// Who gets a request when several workers cost the same.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum TieBreak {
    /// The one with the fewest active blocks, then the lowest number.
    #[default]
    Fewest,
    /// Any of them, drawn from the router's own stream. Needs a look at every worker.
    Random,
}

/// The parameters of the cost, under the reference peer's names.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KvRouterConfig {
    /// What a cached block is worth, in blocks to compute; 0 or more.
    pub overlap_score_credit: f64,
    /// How fast that falls with the prefill load a worker has more than the least loaded one, in prompts like
    /// this one; 0 or more.
    pub overlap_score_credit_decay: f64,
    /// What a block to compute weighs against an active one; 0 or more.
    pub prefill_load_scale: f64,
    /// Blocks that every active request counts on top; 0 or more.
    pub decode_active_request_weight: f64,
    /// 0 or more. Above 0, workers are drawn with probability exp(-cost / (spread x temperature)), which needs a look at every
    /// worker.
    pub router_temperature: f64,
    /// See [`TieBreak`].
    pub tie_break: TieBreak,
    /// A worker is busy when it has more prefill tokens than this, 0 or more; never if absent.
    pub busy_prefill_tokens: Option<f64>,
}

impl Default for KvRouterConfig {
    /// The reference peer's, but for ties.
    fn default() -> KvRouterConfig {
        KvRouterConfig {
            overlap_score_credit: 1.0,
            overlap_score_credit_decay: 0.0,
            prefill_load_scale: 1.0,
            decode_active_request_weight: 0.0,
            router_temperature: 0.0,
            tie_break: TieBreak::Fewest,
            busy_prefill_tokens: None,
        }
    }
}

/// The KV-aware policy.
#[derive(Debug)]
pub struct KvAware {
    loads: KvLoads,
    books: KvBooks,
    /// What is known of the prompt last looked up.
    overlaps: Overlaps,
}

impl KvAware {
    /// All workers without load and with empty caches.
    pub fn new(config: KvRouterConfig, layout: BlockLayout, workers: u32, rng: Stream) -> KvAware {
        let loads = KvLoads::new(config, layout, workers, rng);
        KvAware { loads, books: KvBooks::new(layout), overlaps: Overlaps::default() }
    }

    /// What the request would cost on each worker, in blocks.
    pub fn costs(&mut self, request: Visible<'_>) -> Vec<f64> {
        self.books.look_up(request.prompt, &mut self.overlaps);
        self.loads.costs(request, &self.overlaps)
    }

    /// Counts the request last looked at as a worker's, whoever chose it.
    pub fn assign(&mut self, request: Visible<'_>, worker: WorkerId) {
        let assigned = self.loads.assign(request, &self.overlaps, worker);
        // Sets that are shared with it would be copied when they change.
        self.overlaps.clear();
        let fresh_blocks = self.books.assign(request.ticket, request.prompt, assigned);
        debug_assert_eq!(
            fresh_blocks, assigned.fresh_blocks,
            "what a worker holds is closed under prefixes"
        );
    }
}

impl Policy for KvAware {
    fn reads(&self) -> Reads {
        Reads { prefilled: true, finished: true, cache: true }
    }

    fn choose(&mut self, request: Visible<'_>) -> WorkerId {
        self.books.look_up(request.prompt, &mut self.overlaps);
        let worker = self.loads.choose(request, &self.overlaps);
        self.assign(request, worker);
        worker
    }

    fn joined(&mut self, worker: WorkerId) {
        self.loads.joined(worker);
    }

    fn left(&mut self, worker: WorkerId) {
        self.loads.left(worker);
    }

    fn prefilled(&mut self, _: WorkerId, request: Ticket) {
        if let Some((worker, tokens)) = self.books.prefilled(request) {
            self.loads.prefilled(worker, tokens);
        }
    }

    fn finished(&mut self, _: WorkerId, request: Ticket) {
        if let Some(ended) = self.books.finished(request) {
            self.loads.finished(ended.worker, ended.prefill_tokens, ended.lost_blocks);
        }
    }

    fn cache_changed(&mut self, worker: WorkerId, changes: &[CacheChange]) {
        for change in changes {
            self.books.cache_changed(worker, change);
        }
    }

    fn is_busy(&self) -> bool {
        self.loads.is_busy()
    }

    fn uncached_tokens(&mut self, request: Visible<'_>) -> u32 {
        self.books.look_up(request.prompt, &mut self.overlaps);
        let best = self.overlaps.of(Book::Cached).longest * self.loads.layout.block_size;
        self.overlaps.clear();
        request.prompt.tokens.saturating_sub(best)
    }
}
