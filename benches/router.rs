//! What a routing decision costs, by policy and size of the fleet.
//!
//! Requests come from the generated conversation. Each has a first token while the next 8 N come, and ends 8 N later, so
//! that every worker has about 16 of them. Caches grow with the turns of a session and forget the oldest sessions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use fleetsim::kernel::rng::stream;
use fleetsim::model::kv::{BlockLayout, CacheChange};
use fleetsim::model::request::{Request, RequestId, Ticket, WorkerId};
use fleetsim::model::router::{KvRouterConfig, Policy, PolicySpec};
use fleetsim::model::workload::generate;

const LAYOUT: BlockLayout = BlockLayout { block_size: 64, trace_block_size: 512 };

/// Requests that a worker has at a time, and prompts that its cache holds.
const IN_FLIGHT: usize = 16;
const CACHED: usize = 8;

/// A router among workers that do what they are told.
struct Rig {
    policy: Box<dyn Policy>,
    requests: Vec<Request>,
    next: u64,
    workers: usize,
    in_flight: VecDeque<(WorkerId, Ticket)>,
    /// By worker, oldest first: chains, and how many blocks of them.
    caches: Vec<VecDeque<(Arc<[u64]>, u32)>>,
}

impl Rig {
    fn new(spec: PolicySpec, workers: u32, requests: Vec<Request>) -> Rig {
        let mut rig = Rig {
            policy: spec.build(workers, LAYOUT, stream(5, 0)),
            requests,
            next: 0,
            workers: workers as usize,
            in_flight: VecDeque::new(),
            caches: vec![VecDeque::new(); workers as usize],
        };
        // Until loads and caches are those of a fleet at work.
        (0..2 * IN_FLIGHT * rig.workers).for_each(|_| rig.step());
        rig
    }

    /// One request comes, another one gets its first token, a third one ends.
    fn step(&mut self) {
        let mut request = self.requests[self.next as usize % self.requests.len()].clone();
        request.id = RequestId(self.next);
        // As many as can be in flight, and the one that comes.
        request.ticket = Ticket((self.next % (IN_FLIGHT * self.workers + 1) as u64) as u32);
        self.next += 1;
        let worker = self.policy.choose(request.visible());
        self.in_flight.push_back((worker, request.ticket));
        if self.policy.reads().cache {
            self.cache(worker, &request);
        }
        let half = IN_FLIGHT * self.workers / 2;
        if let Some(young) = self.in_flight.len().checked_sub(half + 1) {
            let (worker, request) = self.in_flight[young];
            self.policy.prefilled(worker, request);
        }
        if self.in_flight.len() > 2 * half
            && let Some((worker, request)) = self.in_flight.pop_front()
        {
            self.policy.finished(worker, request);
        }
    }

    /// The worker's cache takes a prompt in, or the turn that follows one it holds.
    fn cache(&mut self, worker: WorkerId, request: &Request) {
        let cache = &mut self.caches[worker.index()];
        let end = LAYOUT.full_blocks(request.prompt.tokens);
        let (ticket, chain) = (request.ticket, Arc::clone(&request.prompt.chain));
        let mut changes = Vec::new();
        if let Some((old, old_end)) = cache.iter_mut().find(|(old, _)| old[0] == chain[0]) {
            let known = LAYOUT.common_blocks(old, &chain, 0, end.min(*old_end).max(1));
            if known == *old_end && known < end {
                changes.push(CacheChange::Stored { ticket, first: known, end });
                (*old, *old_end) = (chain, end);
            }
        } else if end > 0 {
            changes.push(CacheChange::Stored { ticket, first: 0, end });
            cache.push_back((chain, end));
            let old = if cache.len() > CACHED { cache.pop_front() } else { None };
            changes.extend(old.map(|(chain, end)| CacheChange::Removed { chain, first: 0, end }));
        }
        if !changes.is_empty() {
            self.policy.cache_changed(worker, &changes);
        }
    }
}

fn decisions(criterion: &mut Criterion) {
    let mut source = generate::conversation(6);
    let next = || source.next_request().expect("a generator does not fail");
    let requests: Vec<Request> = std::iter::from_fn(next).take(12_000).collect();
    let policies = [
        PolicySpec::RoundRobin,
        PolicySpec::Random,
        PolicySpec::PowerOfTwo,
        PolicySpec::LeastLoaded,
        PolicySpec::SessionAffine,
        PolicySpec::Kv(KvRouterConfig::default()),
    ];
    for policy in policies {
        let mut group = criterion.benchmark_group(format!("route_{}", policy.name()));
        for workers in [8, 1024, 4096] {
            let mut rig = Rig::new(policy, workers, requests.clone());
            group.bench_function(workers.to_string(), |bencher| bencher.iter(|| rig.step()));
        }
        group.finish();
    }
}

fn config() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(1)).sample_size(20)
}

criterion_group! { name = benches; config = config(); targets = decisions }
criterion_main!(benches);
