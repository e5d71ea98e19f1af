//! The KV-aware router against a look at every worker.

use std::sync::Arc;

use super::loads::WorkerLoad;
use super::*;
use crate::kernel::rng::stream;
use crate::kernel::time::Time;
use crate::model::request::{Prompt, Request, RequestId, Ticket};
use rand::RngExt;

fn request(rng: &mut Stream, id: u64) -> Request {
    let trunk = rng.random_range(0..3);
    let length = rng.random_range(0..10);
    let ids: Vec<u64> =
        (0..=length).map(|at| if at < 3 { trunk } else { rng.random_range(0..2) }).collect();
    let tokens = rng.random_range(1..=ids.len() as u32 * 8);
    let mut prompt = Prompt::named(tokens, ids.into_iter(), 0);
    if rng.random_bool(0.1) {
        prompt.shared_tokens /= 2;
    }
    Request { ticket: Ticket(id as u32), ..Request::new(id, Time::ZERO, prompt, 1) }
}

/// The search against a look at every worker, over random loads and caches.
#[test]
fn the_search_finds_what_a_full_scan_finds() {
    let layout = BlockLayout { block_size: 4, trace_block_size: 8 };
    for (case, workers) in [1, 2, 3, 10, 100, 300, 4096].into_iter().cycle().take(42).enumerate() {
        let mut rng = stream(7, case as u64);
        let mut pick = |values: &[f64]| values[rng.random_range(0..values.len())];
        let config = KvRouterConfig {
            overlap_score_credit: pick(&[0.0, 0.5, 1.0, 1.0, 2.0]),
            overlap_score_credit_decay: pick(&[0.0, 0.0, 0.7]),
            prefill_load_scale: pick(&[0.0, 1.0, 1.0, 2.5]),
            decode_active_request_weight: pick(&[0.0, 0.0, 3.0]),
            ..KvRouterConfig::default()
        };
        let mut policy = KvAware::new(config, layout, workers, stream(8, 0));
        let mut open: Vec<(WorkerId, Request)> = Vec::new();
        let mut cached: Vec<(WorkerId, CacheChange)> = Vec::new();
        for id in 0..600 {
            let somebody = WorkerId(rng.random_range(0..workers));
            if policy.loads.members.contains(somebody.0) {
                // In most cases some are away, in some nobody ever is.
                if case % 4 != 0 && policy.loads.members.len() > 1 && rng.random_bool(0.3) {
                    policy.left(somebody);
                }
            } else if rng.random_bool(0.6) {
                policy.joined(somebody);
            }
            let request = request(&mut rng, id);
            let costs = policy.costs(request.visible());
            let key = |worker: usize| (policy.loads.loads[worker].active_blocks, worker);
            let cheapest =
                |&a: &usize, &b: &usize| costs[a].total_cmp(&costs[b]).then(key(a).cmp(&key(b)));
            let expected = (0..workers as usize).min_by(cheapest).unwrap();
            let worker = policy.choose(request.visible());
            assert_eq!(worker.index(), expected, "case {case}, request {id}, {config:?}");
            let blocks = layout.full_blocks(request.prompt.shared_tokens);
            if blocks > 0 && rng.random_bool(0.8) {
                let (chain, ticket) = (Arc::clone(&request.prompt.chain), request.ticket);
                policy.books.look_up(&request.prompt, &mut policy.overlaps);
                let known = policy.overlaps.of(Book::Cached).on(worker.0);
                if known < blocks {
                    let stored = CacheChange::Stored { ticket, first: known, end: blocks };
                    policy.cache_changed(worker, &[stored]);
                    let removed = CacheChange::Removed { chain, first: known, end: blocks };
                    cached.push((worker, removed));
                }
            }
            open.push((worker, request));
            if rng.random_bool(0.5) {
                let (worker, request) = &open[rng.random_range(0..open.len())];
                policy.prefilled(*worker, request.ticket);
            }
            while open.len() > workers as usize * 2 || rng.random_bool(0.45) && !open.is_empty() {
                let (worker, request) = open.swap_remove(rng.random_range(0..open.len()));
                policy.finished(worker, request.ticket);
            }
        }
        for (worker, request) in open {
            policy.finished(worker, request.ticket);
        }
        for (worker, change) in cached.into_iter().rev() {
            policy.cache_changed(worker, &[change]);
        }
        (0..workers).for_each(|worker| policy.joined(WorkerId(worker)));
        assert!(policy.books.is_empty());
        assert!(policy.loads.loads.iter().all(|load| *load == WorkerLoad::default()));
        assert_eq!(policy.loads.idle.len(), workers as usize);
    }
}

#[test]
fn temperature_prefers_the_cheap_without_insisting() {
    let layout = BlockLayout { block_size: 4, trace_block_size: 8 };
    let config = KvRouterConfig { router_temperature: 1.0, ..KvRouterConfig::default() };
    let mut policy = KvAware::new(config, layout, 2, stream(9, 0));
    let mut rng = stream(10, 0);
    let busy = request(&mut rng, 0);
    policy.costs(busy.visible());
    policy.assign(busy.visible(), WorkerId(0));
    let mut counts = [0; 2];
    for id in 1..2000 {
        let request = Request { id: RequestId(id), ticket: Ticket(id as u32), ..busy.clone() };
        let worker = policy.choose(request.visible());
        counts[worker.index()] += 1;
        policy.finished(worker, request.ticket);
    }
    // Costs are at the two ends of the spread, so the odds are e to one.
    let share = f64::from(counts[1]) / 1999.0;
    let expected = 1.0 / (1.0 + (-1.0_f64).exp());
    assert!((share - expected).abs() < 0.03, "{share}");
}
