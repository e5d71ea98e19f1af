//! The search for the cheapest worker, without a look at all of them.
//!
//! Workers that hold a rare part of the prompt are few, and looked at one by one. All others are told apart by the common
//! parts they hold, in their caches and for active requests, if any: within such a crowd the cost grows with the load
//! alone, so that only the least loaded of each crowd can win.

use crate::model::router::index::Book;
use crate::model::router::kv::KvRouterConfig;
use crate::model::router::kv::loads::{Demand, KvLoads, NO_LOAD, key, key_of_base};
use crate::model::router::overlaps::{Crowd, Overlaps};
use crate::model::router::set::WorkerSet;

/// A crowd of at most one in so many workers is gone through one by one rather than in the order of loads.
const SMALL: usize = 128;

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

/// What a request that was looked up adds to a load, in cost.
struct Added {
    config: KvRouterConfig,
    /// Without any blocks that a worker holds.
    fixed: f64,
}

impl Added {
    /// On a worker that has so many leading blocks cached, and so many in active requests; or less.
    fn least(&self, cached: u32, active: u32) -> f64 {
        let saved = self.config.prefill_load_scale * self.config.overlap_score_credit;
        self.fixed - saved * f64::from(cached) - f64::from(active)
    }
}

/// A request, and what is known of its prompt.
#[derive(Clone, Copy)]
struct Query<'a> {
    demand: Demand,
    overlaps: &'a Overlaps,
}

impl KvLoads {
    /// The cheapest worker.
    pub(super) fn cheapest(&self, demand: Demand, overlaps: &Overlaps) -> u32 {
        let prompt = demand.prompt_tokens as f64 / f64::from(self.layout.block_size);
        let fixed = self.config.prefill_load_scale * prompt + f64::from(demand.blocks);
        let added = Added { config: self.config, fixed };
        let mut best = Best { cost: f64::INFINITY, active_blocks: 0, worker: 0, exact: self.exact };
        let query = Query { demand, overlaps };
        let longest = [Book::Cached, Book::Active].map(|book| overlaps.of(book).longest);
        for book in [Book::Cached, Book::Active] {
            for &(worker, end) in &overlaps.of(book).few {
                let mut blocks = longest;
                blocks[book as usize] = end;
                let load = self.base.get(worker);
                if load == NO_LOAD || load < best.limit(added.least(blocks[0], blocks[1])) {
                    self.offer(query, worker, &mut best);
                }
            }
        }
        self.search([None, None], added.least(0, 0), query, &mut best);
        let crowds = [Book::Cached, Book::Active].map(|book| &overlaps.of(book).crowds[..]);
        let small = |crowds: &[Crowd]| match crowds {
            [] => true,
            [crowd] => crowd.members.len() <= self.loads.len().div_ceil(SMALL),
            _ => false,
        };
        if crowds.into_iter().all(small) {
            self.search_small(crowds.map(<[Crowd]>::first), &added, query, &mut best);
        } else {
            self.search_crowds(crowds, &added, query, &mut best);
        }
        best.worker
    }

    /// Offers everybody in at most one crowd by either book who could win.
    fn search_small(
        &self,
        crowds: [Option<&Crowd>; 2],
        added: &Added,
        query: Query<'_>,
        best: &mut Best,
    ) {
        let [cached, active] = crowds.map(|crowd| crowd.map_or(0, |crowd| crowd.end));
        // By membership: bit 0 in the one by caches, bit 1 in the one by active requests.
        let least =
            [0, 1, 2, 3].map(|member| added.least(cached * (member & 1), active * (member >> 1)));
        let sets = crowds.map(|crowd| crowd.map(|crowd| &*crowd.members));
        for (member, sets) in [(3, sets), (1, [sets[0], None]), (2, [None, sets[1]])] {
            if sets.iter().any(Option::is_some) {
                self.offer_idle(sets, least[member], query, best);
            }
        }
        let mut limits = least.map(|least| best.limit(least));
        let least_load = self.base.min();
        if limits[1..].iter().all(|&limit| limit <= least_load) {
            return;
        }
        WorkerSet::for_each_of_either(sets, |worker, member| {
            if self.base.get(worker) < limits[member] {
                self.offer(query, worker, best);
                limits = least.map(|least| best.limit(least));
            }
        });
    }

    /// Offers the best of those in every combination of crowds, unless somebody else is better.
    fn search_crowds(
        &self,
        crowds: [&[Crowd]; 2],
        added: &Added,
        query: Query<'_>,
        best: &mut Best,
    ) {
        let everybody = (0, None);
        let [cached, active] = crowds.map(|crowds| {
            let sets = crowds.iter().map(|crowd| (crowd.end, Some(&*crowd.members)));
            sets.chain([everybody])
        });
        for (cached, cache) in cached {
            for (shared, active) in active.clone() {
                if cache.is_some() || active.is_some() {
                    self.search([cache, active], added.least(cached, shared), query, best);
                }
            }
        }
    }

    /// Offers everybody in both sets who could win when the request adds at least `least` to the load.
    fn search(&self, sets: [Option<&WorkerSet>; 2], least: f64, query: Query<'_>, best: &mut Best) {
        self.offer_idle(sets, least, query, best);
        let first_limit = best.limit(least);
        if self.base.min() >= first_limit {
            return;
        }
        let mut limit = first_limit;
        let mut visit = |load: u128, worker| {
            if load < limit {
                self.offer(query, worker, best);
                limit = best.limit(least);
            }
            limit
        };
        let holds = |first: u32, len: u32| {
            let members = |set: &&WorkerSet| set.word(first) >> (first % 64);
            let common = sets.iter().flatten().map(members).fold(u64::MAX, |all, set| all & set);
            len > 64 || common << (64 - len) != 0
        };
        let smallest = sets.iter().flatten().min_by_key(|set| set.len());
        match smallest {
            Some(set) if set.len() <= self.loads.len().div_ceil(SMALL) => {
                WorkerSet::for_each_of_either([Some(set), None], |worker, _| {
                    if holds(worker, 1) {
                        visit(self.base.get(worker), worker);
                    }
                });
            }
            _ => self.base.visit_below(first_limit, holds, visit),
        }
    }

    /// Of those in both sets without load, the lowest is as good as any.
    fn offer_idle(
        &self,
        sets: [Option<&WorkerSet>; 2],
        least: f64,
        query: Query<'_>,
        best: &mut Best,
    ) {
        if !self.idle.is_empty() && best.limit(least) > 0 {
            let [a, b] = sets.map(|set| set.unwrap_or(&self.idle));
            if let Some(worker) = self.idle.first_common(a, b) {
                self.offer(query, worker, best);
            }
        }
    }

    fn offer(&self, query: Query<'_>, worker: u32, best: &mut Best) {
        // Whoever may not be chosen can still be a holder of blocks, or have a load.
        if !self.members.contains(worker) {
            return;
        }
        let cost = self.cost(query.demand, query.overlaps, worker);
        best.offer(cost, self.loads[worker as usize].active_blocks, worker);
    }
}
