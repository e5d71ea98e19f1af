//! The KV-aware router against a look at every worker, and against itself in parts.

use std::collections::VecDeque;
use std::sync::Arc;

use super::loads::WorkerLoad;
use super::*;
use crate::kernel::rng::stream;
use crate::kernel::time::{Span, Time};
use crate::model::class::ClassId;
use crate::model::request::{Prompt, Request};
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
    Request {
        id: RequestId(id),
        trace_line: id,
        arrival: Time::ZERO,
        prompt,
        output_tokens: 1,
        session: None,
        class: ClassId::default(),
        strict_priority: 0,
        priority_jump: 0.0,
    }
}

/// The search against a look at every worker, over random loads and caches.
#[test]
fn the_search_finds_what_a_full_scan_finds() {
    let layout = BlockLayout { block_size: 4, trace_block_size: 8 };
    for (case, workers) in [1, 2, 3, 10, 100, 300].into_iter().cycle().take(36).enumerate() {
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
                let chain = Arc::clone(&request.prompt.chain);
                let change = CacheChange { stored: true, chain, first: 0, end: blocks };
                policy.books.look_up(&request.prompt, &mut policy.overlaps);
                let known = policy.overlaps.of(Book::Cached).on(worker.0);
                if known < blocks {
                    let change = CacheChange { first: known, ..change };
                    policy.cache_changed(worker, std::slice::from_ref(&change));
                    cached.push((worker, change));
                }
            }
            open.push((worker, request));
            if rng.random_bool(0.5) {
                let (worker, request) = &open[rng.random_range(0..open.len())];
                policy.prefilled(*worker, request.id);
            }
            while open.len() > workers as usize * 2 || rng.random_bool(0.45) && !open.is_empty() {
                let (worker, request) = open.swap_remove(rng.random_range(0..open.len()));
                policy.finished(worker, request.id);
            }
        }
        for (worker, request) in open {
            policy.finished(worker, request.id);
        }
        for (worker, change) in cached.into_iter().rev() {
            let change = CacheChange { stored: false, ..change };
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
        let request = Request { id: RequestId(id), ..busy.clone() };
        let worker = policy.choose(request.visible());
        counts[worker.index()] += 1;
        policy.finished(worker, request.id);
    }
    // Costs are at the two ends of the spread, so the odds are e to one.
    let share = f64::from(counts[1]) / 1999.0;
    let expected = 1.0 / (1.0 + (-1.0_f64).exp());
    assert!((share - expected).abs() < 0.03, "{share}");
}

/// A router whose index is in parts, that hear of decisions late.
struct Parts {
    router: Divided,
    notice: Span,
    assigned: VecDeque<(Time, Request, Assigned)>,
}

impl Parts {
    fn part(&mut self, root: u64) -> &mut KvBooks {
        let parts = self.router.books.len() as u64;
        &mut self.router.books[(root % parts) as usize]
    }

    fn advance(&mut self, now: Time) {
        while self.assigned.front().is_some_and(|front| front.0 <= now) {
            let (_, request, assigned) = self.assigned.pop_front().unwrap();
            let root = request.mention().root;
            self.part(root).assign(request.id, &request.prompt, assigned);
        }
        self.router.recent.forget(now);
    }

    fn choose(&mut self, now: Time, request: &Request) -> WorkerId {
        let mut overlaps = Overlaps::default();
        self.part(request.mention().root).look_up(&request.prompt, &mut overlaps);
        let Divided { loads, recent, .. } = &mut self.router;
        recent.correct(request.visible(), &mut overlaps);
        let worker = loads.choose(request.visible(), &overlaps);
        let assigned = loads.assign(request.visible(), &overlaps, worker);
        recent.push(request.visible(), worker, now + self.notice);
        self.assigned.push_back((now + self.notice, request.clone(), assigned));
        worker
    }

    fn finish(&mut self, request: &Request) {
        let ended =
            self.part(request.mention().root).finished(request.id).expect("it was assigned");
        let lost = self.router.recent.lost_blocks(&ended) + ended.own_blocks;
        self.router.loads.finished(ended.worker, ended.prefill_tokens, lost);
    }
}

/// In parts it decides the same, although its books lag behind its decisions.
#[test]
fn a_divided_router_decides_as_a_whole_one() {
    let layout = BlockLayout { block_size: 4, trace_block_size: 8 };
    for (case, workers) in [1, 2, 3, 10, 100, 300].into_iter().cycle().take(24).enumerate() {
        let mut rng = stream(17, case as u64);
        let config = KvRouterConfig {
            overlap_score_credit_decay: [0.0, 0.7][case % 2],
            decode_active_request_weight: [0.0, 3.0, 0.0][case % 3],
            ..KvRouterConfig::default()
        };
        let mut whole = KvAware::new(config, layout, workers, stream(8, 0));
        let router = whole.divide(rng.random_range(1..5)).expect("it draws nothing");
        let notice = Span::from_ns(rng.random_range(1..200));
        let mut parts = Parts { router, notice, assigned: VecDeque::new() };
        let mut open: Vec<(Time, Request)> = Vec::new();
        let mut now = Time::ZERO;
        for id in 0..1500 {
            now += Span::from_ns(rng.random_range(0..20));
            parts.advance(now);
            let request = request(&mut rng, id);
            let worker = whole.choose(request.visible());
            assert_eq!(parts.choose(now, &request), worker, "case {case}, request {id}");
            let blocks = layout.full_blocks(request.prompt.shared_tokens);
            whole.books.look_up(&request.prompt, &mut whole.overlaps);
            let first = whole.overlaps.of(Book::Cached).on(worker.0);
            if first < blocks && rng.random_bool(0.5) {
                let chain = Arc::clone(&request.prompt.chain);
                let change = CacheChange { stored: true, chain, first, end: blocks };
                whole.cache_changed(worker, std::slice::from_ref(&change));
                parts.part(change.chain[0]).cache_changed(worker, &change);
            }
            open.push((now, request));
            // Nobody can end before the books have heard of it.
            let old = open.iter().take_while(|(start, _)| *start + notice <= now).count();
            if old > 0 && rng.random_bool(0.8) {
                let (_, request) = open.remove(rng.random_range(0..old));
                if rng.random_bool(0.7) {
                    whole.prefilled(worker, request.id);
                    let part = parts.part(request.mention().root);
                    let (worker, tokens) = part.prefilled(request.id).expect("it was assigned");
                    parts.router.loads.prefilled(worker, tokens);
                }
                whole.finished(worker, request.id);
                parts.finish(&request);
            }
            assert_eq!(parts.router.loads.loads, whole.loads.loads, "case {case}, request {id}");
        }
    }
}
