//! What every worker has to do, by the router's own books, and the choice of a worker.

use rand::RngExt;

use crate::kernel::rng::Stream;
use crate::kernel::tree::WinnerTree;
use crate::model::kv::BlockLayout;
use crate::model::request::{Visible, WorkerId};
use crate::model::router::index::Book;
use crate::model::router::kv::search;
use crate::model::router::kv::{KvRouterConfig, TieBreak};
use crate::model::router::load::weighted;
use crate::model::router::overlaps::Overlaps;
use crate::model::router::set::WorkerSet;

/// What a worker has to do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct WorkerLoad {
    pub(super) prefill_tokens: u64,
    pub(super) active_blocks: u64,
    pub(super) requests: u64,
}

/// What the search for a worker needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) prompt_tokens: u64,
    pub(super) blocks: u32,
}

/// What the worker that a request was assigned to has to do for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Assigned {
    /// Who serves it.
    pub(super) worker: WorkerId,
    /// The prompt tokens that its cache lacks, as far as the router knows.
    pub(super) prefill_tokens: u32,
    /// Full blocks of the prompt that its other requests do not hold.
    pub(super) fresh_blocks: u32,
}

/// The loads of all workers.
#[derive(Debug)]
pub(super) struct KvLoads {
    pub(super) config: KvRouterConfig,
    pub(super) layout: BlockLayout,
    pub(super) loads: Vec<WorkerLoad>,
    /// The load of each worker as a [`key`], if it costs anything.
    pub(super) base: WinnerTree<u128>,
    /// The other workers that may be chosen: nothing to do as far as the cost is concerned.
    pub(super) idle: WorkerSet,
    /// Workers that may be chosen.
    pub(super) members: WorkerSet,
    /// Whether costs are without rounding errors.
    pub(super) exact: bool,
    /// Prefill tokens of each worker that may be chosen, if the least of them matters.
    prefill: Option<WinnerTree<u64>>,
    rng: Stream,
}

impl KvLoads {
    /// All workers without load.
    pub(super) fn new(
        config: KvRouterConfig,
        layout: BlockLayout,
        workers: u32,
        rng: Stream,
    ) -> KvLoads {
        let watch_prefill =
            config.overlap_score_credit_decay > 0.0 || config.busy_prefill_tokens.is_some();
        let mut prefill = watch_prefill.then(|| WinnerTree::new(workers as usize, u64::MAX));
        if let Some(prefill) = &mut prefill {
            (0..workers).for_each(|worker| prefill.set(worker, 0));
        }
        KvLoads {
            config,
            layout,
            loads: vec![WorkerLoad::default(); workers as usize],
            base: WinnerTree::new(workers as usize, NO_LOAD),
            exact: search::is_exact(&config, layout.block_size),
            idle: WorkerSet::full(workers),
            members: WorkerSet::full(workers),
            prefill,
            rng,
        }
    }

    /// Chooses a worker for a request, given who holds how much of it.
    pub(super) fn choose(&mut self, request: Visible<'_>, overlaps: &Overlaps) -> WorkerId {
        let demand = self.demand(request);
        WorkerId(if self.config.router_temperature > 0.0 {
            self.by_temperature(demand, overlaps)
        } else if self.config.tie_break == TieBreak::Random {
            self.any_cheapest(demand, overlaps)
        } else {
            self.cheapest(demand, overlaps)
        })
    }

    /// What the request would cost on each worker, in blocks; on one that may not be chosen, infinity.
    pub(super) fn costs(&self, request: Visible<'_>, overlaps: &Overlaps) -> Vec<f64> {
        let demand = self.demand(request);
        let mut costs = vec![f64::INFINITY; self.loads.len()];
        for worker in self.members.iter() {
            costs[worker as usize] = self.cost(demand, overlaps, worker);
        }
        costs
    }

    /// A worker may be chosen from now on.
    pub(super) fn joined(&mut self, worker: WorkerId) {
        self.members.insert(worker.0);
        if self.base.get(worker.0) == NO_LOAD {
            self.idle.insert(worker.0);
        }
        if let Some(prefill) = &mut self.prefill {
            prefill.set(worker.0, self.loads[worker.index()].prefill_tokens);
        }
    }

    /// A worker may not be chosen from now on.
    pub(super) fn left(&mut self, worker: WorkerId) {
        self.members.remove(worker.0);
        self.idle.remove(worker.0);
        if let Some(prefill) = &mut self.prefill {
            prefill.set(worker.0, u64::MAX);
        }
    }

    /// Counts the request as a worker's from now on.
    pub(super) fn assign(
        &mut self,
        request: Visible<'_>,
        overlaps: &Overlaps,
        worker: WorkerId,
    ) -> Assigned {
        let tokens = request.prompt.tokens;
        let cached = overlaps.of(Book::Cached).on(worker.0) * self.layout.block_size;
        let shared = overlaps.of(Book::Active).on(worker.0);
        let prefill_tokens = tokens.saturating_sub(cached);
        let fresh_blocks = self.layout.full_blocks(tokens) - shared;
        self.change(worker.0, |load| {
            load.prefill_tokens += u64::from(prefill_tokens);
            load.active_blocks += u64::from(fresh_blocks);
            load.requests += 1;
        });
        Assigned { worker, prefill_tokens, fresh_blocks }
    }

    /// A worker has computed so many prompt tokens.
    pub(super) fn prefilled(&mut self, worker: WorkerId, prefill_tokens: u32) {
        self.change(worker.0, |load| load.prefill_tokens -= u64::from(prefill_tokens));
    }

    /// A request of a worker has ended; of its prompt, so many tokens were not computed, and so many blocks are nobody
    /// else's.
    pub(super) fn finished(&mut self, worker: WorkerId, prefill_tokens: u32, lost_blocks: u32) {
        self.change(worker.0, |load| {
            load.prefill_tokens -= u64::from(prefill_tokens);
            load.active_blocks -= u64::from(lost_blocks);
            load.requests -= 1;
        });
    }

    /// Whether every worker has more prefill tokens than it should.
    pub(super) fn is_busy(&self) -> bool {
        match (&self.prefill, self.config.busy_prefill_tokens) {
            (Some(prefill), Some(threshold)) => prefill.min() as f64 > threshold,
            _ => false,
        }
    }

    fn demand(&self, request: Visible<'_>) -> Demand {
        let tokens = request.prompt.tokens;
        Demand { prompt_tokens: u64::from(tokens), blocks: self.layout.full_blocks(tokens) }
    }

    /// The cost of a request on one worker that may be chosen.
    pub(super) fn cost(&self, demand: Demand, overlaps: &Overlaps, worker: u32) -> f64 {
        let load = self.loads[worker as usize];
        let block_size = f64::from(self.layout.block_size);
        let overlap = f64::from(overlaps.of(Book::Cached).on(worker));
        let credit = self.config.overlap_score_credit * self.decay(demand, load);
        let prompt = (load.prefill_tokens + demand.prompt_tokens) as f64 / block_size;
        let prefill = (prompt - credit * overlap).max(0.0);
        let shared = overlaps.of(Book::Active).on(worker);
        let decode = (load.active_blocks + u64::from(demand.blocks - shared)) as f64;
        let requests = self.config.decode_active_request_weight * load.requests as f64;
        self.config.prefill_load_scale * prefill + decode + requests
    }

    fn decay(&self, demand: Demand, load: WorkerLoad) -> f64 {
        match &self.prefill {
            Some(prefill) if self.config.overlap_score_credit_decay > 0.0 => {
                let excess = load.prefill_tokens - prefill.min();
                let excess = excess as f64 / f64::from(self.layout.block_size);
                let share = excess / f64::from(demand.blocks.max(1));
                1.0 / (1.0 + self.config.overlap_score_credit_decay * share)
            }
            _ => 1.0,
        }
    }

    /// A random one of the cheapest workers.
    fn any_cheapest(&mut self, demand: Demand, overlaps: &Overlaps) -> u32 {
        let (mut best, mut ties, mut chosen) = (f64::INFINITY, 0, 0);
        for worker in self.members.iter() {
            let cost = self.cost(demand, overlaps, worker);
            if cost < best {
                (best, ties, chosen) = (cost, 1, worker);
            } else if cost <= best {
                ties += 1;
                if self.rng.random_range(0..ties) == 0 {
                    chosen = worker;
                }
            }
        }
        chosen
    }

    /// A random worker, the cheaper the likelier.
    fn by_temperature(&mut self, demand: Demand, overlaps: &Overlaps) -> u32 {
        let mut weights: Vec<f64> = Vec::with_capacity(self.members.len());
        weights.extend(self.members.iter().map(|worker| self.cost(demand, overlaps, worker)));
        let min = weights.iter().copied().fold(f64::INFINITY, f64::min);
        let max = weights.iter().copied().fold(0.0, f64::max);
        let scale = (max - min) * self.config.router_temperature;
        for weight in &mut weights {
            *weight = if scale > 0.0 { (-(*weight - min) / scale).exp() } else { 1.0 };
        }
        let place = weighted(&mut self.rng, &weights);
        self.members.iter().nth(place).expect("one weight per member")
    }

    /// Enters a change of a worker's load into the books.
    fn change(&mut self, worker: u32, change: impl FnOnce(&mut WorkerLoad)) {
        let load = &mut self.loads[worker as usize];
        change(load);
        let is_member = self.members.contains(worker);
        if let Some(prefill) = self.prefill.as_mut().filter(|_| is_member) {
            prefill.set(worker, load.prefill_tokens);
        }
        let prefill = load.prefill_tokens as f64 / f64::from(self.layout.block_size);
        let base = self.config.prefill_load_scale * prefill
            + load.active_blocks as f64
            + self.config.decode_active_request_weight * load.requests as f64;
        let key = if base > 0.0 { key(base, load.active_blocks, worker) } else { NO_LOAD };
        let before = self.base.get(worker);
        if key != before {
            if before == NO_LOAD {
                self.idle.remove(worker);
            } else if key == NO_LOAD && is_member {
                self.idle.insert(worker);
            }
            self.base.set(worker, key);
        }
    }
}

/// In place of the key of a worker whose load costs nothing.
pub(super) const NO_LOAD: u128 = u128::MAX;

/// A load as it is compared: by what it adds to the cost, then by active blocks, then by the worker's number.
pub(super) fn key(base: f64, active_blocks: u64, worker: u32) -> u128 {
    key_of_base(base) | u128::from(active_blocks) << 20 | u128::from(worker)
}

pub(super) fn key_of_base(base: f64) -> u128 {
    // The bits of floats that are not negative sort like the floats.
    u128::from(base.to_bits()) << 64
}
