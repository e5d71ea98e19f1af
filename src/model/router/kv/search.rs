//! The search for the cheapest worker, without a look at all of them.
//!
//! Workers that hold a rare part of the prompt are few, and looked at one by one. All others are told apart by the common
//! parts they hold, in their caches and for active requests, if any: within such a crowd the cost grows with the load
//! alone, so that only the least loaded of each crowd can win.

use crate::model::router::index::Book;
use crate::model::router::kv::{Demand, KvAware, KvRouterConfig, key, key_of_base};
use crate::model::router::set::{WorkerSet, common};

/// Up to this many members a crowd is gone through one by one rather than in the order of loads.
const SMALL: usize = 256;

/// The cheapest worker so far: by cost, then active blocks, then number.
struct Best {
    cost: f64,
    active_blocks: u64,
    worker: u32,
    /// Whether sums of these costs are without rounding errors.
    exact: bool,
}

impl Best {
    fn offer(&mut self, cost: f64, active_blocks: u64, worker: u32) {
        let cheaper = cost.total_cmp(&self.cost);
        if cheaper.then((active_blocks, worker).cmp(&(self.active_blocks, self.worker))).is_lt() {
            *self = Best { cost, active_blocks, worker, ..*self };
        }
    }

    /// The load, as a key, below which a worker could still win when a request adds at least `least` to it.
    fn limit(&self, least: f64) -> u128 {
        if self.exact {
            let base = self.cost - least;
            return if base >= 0.0 { key(base, self.active_blocks, self.worker) } else { 0 };
        }
        let slack = 1e-9 * (1.0 + self.cost.abs() + least.abs());
        key_of_base((self.cost + slack - least).clamp(0.0, f64::MAX)) | u128::from(u64::MAX)
    }
}

/// Whether costs are sums of multiples of 2^-20, which are exact up to 2^33 blocks.
pub(super) fn is_exact(config: &KvRouterConfig, block_size: u32) -> bool {
    let short = |value: f64| value <= 16.0 && (value * 16.0).fract() == 0.0;
    block_size.is_power_of_two()
        && config.overlap_score_credit_decay == 0.0
        && short(config.overlap_score_credit)
        && short(config.prefill_load_scale)
        && short(config.decode_active_request_weight)
}

impl KvAware {
    /// The cheapest worker.
    pub(super) fn cheapest(&mut self, demand: Demand) -> u32 {
        self.candidates.clear();
        self.cache_crowds.clear();
        self.active_crowds.clear();
        for (book, crowds) in
            [(Book::Cached, &mut self.cache_crowds), (Book::Active, &mut self.active_crowds)]
        {
            self.index.holders(book, &self.path, &mut self.candidates, crowds);
        }
        let mut best = Best { cost: f64::INFINITY, active_blocks: 0, worker: 0, exact: self.exact };
        self.searches += 1;
        for &worker in &self.candidates {
            let visited = &mut self.visited[worker as usize];
            if std::mem::replace(visited, self.searches) != self.searches {
                self.offer(demand, worker, &mut best);
            }
        }
        let scale = self.config.prefill_load_scale;
        let prompt = demand.prompt_tokens as f64 / f64::from(self.layout.block_size);
        let fixed = scale * prompt + f64::from(demand.blocks);
        let everybody = (0, None);
        let index = &self.index;
        let cached = self.cache_crowds.iter();
        let cached = cached.map(|&(end, node)| (end, index.crowd(Book::Cached, node)));
        for (cached, cache) in cached.chain([everybody]) {
            let saved = scale * self.config.overlap_score_credit * f64::from(cached);
            let active = self.active_crowds.iter();
            let active = active.map(|&(end, node)| (end, index.crowd(Book::Active, node)));
            for (shared, active) in active.chain([everybody]) {
                let least = fixed - saved - f64::from(shared);
                self.search([cache, active], least, demand, &mut best);
            }
        }
        best.worker
    }

    /// Offers everybody in both sets who could win when the request adds at least `least` to the load.
    fn search(&self, sets: [Option<&WorkerSet>; 2], least: f64, demand: Demand, best: &mut Best) {
        let limit = best.limit(least);
        if !self.idle.is_empty() && limit > 0 {
            // Of those without load, the lowest is as good as any.
            let idle = match sets {
                [Some(a), Some(b)] => common(&[&self.idle, a, b]).next(),
                [Some(set), None] | [None, Some(set)] => common(&[&self.idle, set]).next(),
                [None, None] => common(&[&self.idle]).next(),
            };
            if let Some(worker) = idle {
                self.offer(demand, worker, best);
            }
        }
        let first_limit = best.limit(least);
        if self.base.min().0 >= first_limit {
            return;
        }
        let mut limit = first_limit;
        let mut visit = |load: u128, worker| {
            if load < limit {
                self.offer(demand, worker, best);
                limit = best.limit(least);
            }
            limit
        };
        let least_members = sets.iter().flatten().map(|set| set.len()).min();
        if least_members.is_some_and(|members| members <= SMALL) {
            let mut visit = |worker| _ = visit(self.base.get(worker), worker);
            match sets {
                [Some(a), Some(b)] => common(&[a, b]).for_each(visit),
                [Some(set), None] | [None, Some(set)] => common(&[set]).for_each(&mut visit),
                [None, None] => {}
            }
            return;
        }
        let holds = |first: u32, len: u32| {
            let members = |set: &&WorkerSet| set.word(first) >> (first % 64);
            let common = sets.iter().flatten().map(members).fold(u64::MAX, |all, set| all & set);
            len > 64 || common << (64 - len) != 0
        };
        self.base.visit_below(first_limit, holds, visit);
    }

    fn offer(&self, demand: Demand, worker: u32, best: &mut Best) {
        best.offer(self.cost(demand, worker), self.loads[worker as usize].active_blocks, worker);
    }
}
