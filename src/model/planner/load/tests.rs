//! Load-based scaling, worked by hand.

use super::*;
use crate::kernel::time::Span;
use crate::model::lifecycle::Counts;
use crate::model::planner::decision::Latency;
use crate::model::planner::observation::Traffic;
use crate::model::planner::passes::UsualPass;
use crate::model::planner::testing::{constant, look, traffic};

const POOL: u64 = 67_200;

fn config(role: Role, target: LoadTarget) -> LoadConfig {
    LoadConfig { role, target, up: 1, down: 1, context_length: 10_000 }
}

fn by_thresholds(role: Role, thresholds: Thresholds) -> LoadPolicy {
    LoadPolicy::new(config(role, LoadTarget::Thresholds(thresholds)), constant())
}

fn by_sla(role: Role, ttft_ms: u64, itl_ms: u64) -> LoadPolicy {
    let targets = Targets { ttft: Span::from_ms(ttft_ms), itl: Span::from_ms(itl_ms) };
    LoadPolicy::new(
        config(role, LoadTarget::Sla { targets, sensitivity: 0.8, basis: Basis::Requests }),
        constant(),
    )
}

/// Workers whose KV pools are used to these shares.
fn using(shares: &[f64]) -> Vec<WorkerLoad> {
    let load = |share: &f64| WorkerLoad {
        running: 1,
        scheduled_kv_tokens: (share * POOL as f64) as u64,
        ..WorkerLoad::default()
    };
    shares.iter().map(load).collect()
}

/// Workers with so many prompt tokens in their queues.
fn queueing(tokens: &[u64]) -> Vec<WorkerLoad> {
    let load = |&tokens: &u64| WorkerLoad {
        running: 8,
        queued: 1,
        queued_prefill_tokens: tokens,
        ..WorkerLoad::default()
    };
    tokens.iter().map(load).collect()
}

fn judge(policy: &mut LoadPolicy, loads: &[WorkerLoad]) -> (Option<u32>, Reason) {
    let proposal = policy.propose(&look(traffic(600, 1000, 100), loads));
    (proposal.workers, proposal.reason)
}

#[test]
fn one_worker_above_is_enough() {
    let mut policy = by_thresholds(Role::Aggregated, Thresholds::throughput(Role::Aggregated));
    let (workers, reason) = judge(&mut policy, &using(&[0.1, 1.2, 0.1]));
    assert_eq!(workers, Some(4));
    assert!(matches!(reason, Reason::OneAbove { place: 1, .. }), "{reason:?}");
    assert_eq!(judge(&mut policy, &using(&[1.0, 0.7])).0, Some(2), "100 % is not above 100 %");
    let mut policy = by_thresholds(Role::Aggregated, Thresholds::latency(Role::Aggregated));
    assert_eq!(judge(&mut policy, &using(&[0.41, 0.0])).0, Some(3));
}

#[test]
fn all_workers_have_to_be_below() {
    let mut policy = by_thresholds(Role::Aggregated, Thresholds::throughput(Role::Aggregated));
    assert_eq!(judge(&mut policy, &using(&[0.1, 0.1, 0.65])), (Some(3), Reason::Within));
    let (workers, reason) = judge(&mut policy, &using(&[0.5, 0.5, 0.5]));
    assert_eq!((workers, reason), (Some(2), Reason::Respread { step: 1 }), "0.75 each then");
    // 0.55 x 2 = 1.1: the one that is left would call for two again.
    let (workers, reason) = judge(&mut policy, &using(&[0.1, 0.55]));
    assert_eq!((workers, reason), (Some(2), Reason::RespreadRefused { place: 1 }));
    assert_eq!(judge(&mut policy, &using(&[0.0])).0, Some(1), "the last one stays");
}

/// What is counted differs by role: all tokens, those of decoding requests, the queue against the context length.
#[test]
fn roles_look_at_different_things() {
    let load = WorkerLoad {
        queued_prefill_tokens: POOL / 2,
        scheduled_kv_tokens: POOL / 4,
        queued_kv_tokens: POOL / 2,
        ..WorkerLoad::default()
    };
    let thresholds = Thresholds { up: 1.0, down: 0.1 };
    let up = |role, load| judge(&mut by_thresholds(role, thresholds), &[load]).0 == Some(2);
    assert!(up(Role::Aggregated, load), "125 %");
    assert!(!up(Role::Decode, load), "75 %");
    let queue = |tokens| WorkerLoad { queued_prefill_tokens: tokens, ..WorkerLoad::default() };
    assert!(up(Role::Prefill, queue(10_000)), "a prefill queue is too long when it reaches 1");
    assert!(!up(Role::Prefill, queue(9_999)));
}

#[test]
fn a_lower_threshold_of_zero_means_empty_queues() {
    let mut policy = by_thresholds(Role::Prefill, Thresholds::latency(Role::Prefill));
    assert_eq!(judge(&mut policy, &queueing(&[0, 1])).0, Some(2));
    assert_eq!(judge(&mut policy, &queueing(&[0, 0])).0, Some(1));
}

/// Passes of 30 ms with prefill. A new request of 1,000 tokens behind q waits for ceil((q + 1000) / 2048) of them.
#[test]
fn more_workers_only_if_all_are_too_slow() {
    let mut policy = by_sla(Role::Aggregated, 100, 50);
    // 4 chunks, 120 ms; 3 chunks, 90 ms.
    assert_eq!(judge(&mut policy, &queueing(&[5200, 5000])).0, Some(2));
    let (workers, reason) = judge(&mut policy, &queueing(&[7200, 5200]));
    assert_eq!(workers, Some(3));
    assert!(matches!(reason, Reason::AllAbove { latency: Latency::Ttft, .. }), "{reason:?}");
    assert!(reason.to_string().contains("none is below 120.0 ms"), "{reason}");
}

#[test]
fn a_slow_decode_is_reason_enough() {
    let mut policy = by_sla(Role::Aggregated, 100, 25);
    let (workers, reason) = judge(&mut policy, &queueing(&[0, 0]));
    assert_eq!(workers, Some(3), "a pass with prefill takes 30 ms");
    assert!(matches!(reason, Reason::AllAbove { latency: Latency::Itl, .. }), "{reason:?}");
    let mut policy = by_sla(Role::Decode, 100, 25);
    assert_eq!(judge(&mut policy, &queueing(&[0, 0])).0, Some(2), "20 ms is not below 80 %");
    let mut policy = by_sla(Role::Decode, 100, 26);
    assert_eq!(judge(&mut policy, &queueing(&[0, 0])).0, Some(1));
}

/// Own time 30 ms, so the queue may cause (100 - 30) x 0.8 = 56 ms on a worker of the smaller fleet: one pass more, not two.
#[test]
fn fewer_workers_if_the_respread_load_keeps_the_targets() {
    let mut policy = by_sla(Role::Aggregated, 100, 50);
    // Two workers with 1,500 each: 3,000 on the one that is left, 4,000 with the new one, 2 chunks.
    assert_eq!(judge(&mut policy, &queueing(&[1500, 1500])).0, Some(1));
    // 3,200 + 1,000 are 3 chunks, 90 ms, 60 of them caused by the queue.
    let (workers, reason) = judge(&mut policy, &queueing(&[1500, 1600]));
    assert_eq!((workers, reason), (Some(2), Reason::RespreadRefused { place: 1 }));
    // Of three workers, one can go: 1,600 x 3 / 2 = 2,400, two chunks with the new one.
    assert_eq!(judge(&mut policy, &queueing(&[1500, 1600, 1600])).0, Some(2));
}

#[test]
fn fewer_workers_only_if_the_pool_holds_it() {
    let mut policy = by_sla(Role::Aggregated, 500, 50);
    assert_eq!(judge(&mut policy, &using(&[0.49, 0.4])).0, Some(1));
    assert_eq!(judge(&mut policy, &using(&[0.51, 0.4])).0, Some(2));
}

#[test]
fn own_time_above_the_target_keeps_the_fleet() {
    // A prompt takes 30 ms, the target is 30 ms: not above it, and nothing to spare either.
    let mut policy = by_sla(Role::Aggregated, 30, 50);
    let (workers, reason) = judge(&mut policy, &queueing(&[0, 0]));
    assert_eq!((workers, reason), (Some(2), Reason::RespreadRefused { place: 0 }));
}

#[test]
fn steps_may_be_large() {
    let target = LoadTarget::Thresholds(Thresholds { up: 1.0, down: 0.6 });
    let config = LoadConfig { up: 3, down: 2, ..config(Role::Aggregated, target) };
    let mut policy = LoadPolicy::new(config, constant());
    assert_eq!(judge(&mut policy, &using(&[1.1; 5])).0, Some(8));
    assert_eq!(judge(&mut policy, &using(&[0.5; 5])).0, Some(3), "0.83 each then");
    assert_eq!(judge(&mut policy, &using(&[0.59; 3])).0, Some(3), "1.77 on one");
    assert_eq!(judge(&mut policy, &using(&[0.3; 2])).0, Some(1), "two of two cannot go");
}

/// Passes of which so many compute 800 prompt tokens of two requests.
fn usual(prefill_share: f64) -> UsualPass {
    UsualPass { chunk: 400.0, context: 0, prefill_share, prefill_tokens: 800 }
}

/// Passes take 30 ms with prefill and 20 ms without, whatever the requests are like.
#[test]
fn estimates_can_come_from_the_last_passes() {
    let judge = |ttft_ms, itl_ms, share: Option<f64>, loads: &[WorkerLoad]| {
        let targets = Targets { ttft: Span::from_ms(ttft_ms), itl: Span::from_ms(itl_ms) };
        let target = LoadTarget::Sla { targets, sensitivity: 0.8, basis: Basis::Passes };
        let mut policy = LoadPolicy::new(config(Role::Aggregated, target), constant());
        let usual_pass = share.map(usual);
        policy.propose(&Observation { usual_pass, ..look(traffic(600, 9000, 1), loads) })
    };
    let idle = queueing(&[0, 0]);
    let (up, stay, down) = (Some(3), Some(2), Some(1));
    assert_eq!(judge(500, 24, Some(0.5), &idle).workers, up, "25 ms on average");
    assert_eq!(judge(500, 26, Some(0.5), &idle).workers, stay, "but above 80 % of 26 ms");
    assert_eq!(judge(500, 26, Some(0.0), &idle).workers, down, "20 ms");
    // A chunk of 400 tokens behind 1,648 is one pass, behind 1,649 two.
    assert_eq!(judge(59, 500, Some(0.5), &queueing(&[1649, 1649])).workers, up);
    assert_ne!(judge(59, 500, Some(0.5), &queueing(&[1649, 1648])).workers, up);
    let figures = judge(500, 26, Some(0.5), &idle).figures;
    assert_eq!((figures.isl, figures.osl, figures.hit_rate), (Some(400.0), None, None));
    let nothing = Proposal::abstain(Reason::NoData(Missing::Traffic));
    assert_eq!(judge(500, 24, None, &idle), nothing, "no prompt yet");
}

#[test]
fn missing_reports_are_no_opinion() {
    let mut policy = by_thresholds(Role::Aggregated, Thresholds::throughput(Role::Aggregated));
    let loads = using(&[0.1; 2]);
    let counts = Counts { ready: 3, ..Counts::default() };
    let proposal = policy.propose(&Observation { counts, ..look(traffic(1, 1, 1), &loads) });
    assert_eq!(proposal, Proposal::abstain(Reason::NoData(Missing::Loads)));
    let mut policy = by_sla(Role::Aggregated, 500, 50);
    let proposal = policy.propose(&look(traffic(0, 0, 0), &loads));
    assert_eq!(proposal.workers, None, "no request has told its length");
}

#[test]
fn a_fleet_of_none_comes_back_with_traffic() {
    let mut policy = by_sla(Role::Aggregated, 500, 50);
    assert_eq!(policy.propose(&look(traffic(0, 0, 0), &[])).workers, None);
    assert_eq!(policy.propose(&look(traffic(1, 100, 10), &[])).workers, Some(1));
}

/// A look at workers while `waiting` requests of 1,000 tokens wait in front of them; ten a second get their first token.
fn behind(waiting: u64, loads: &[WorkerLoad]) -> Observation<'_> {
    let traffic = Traffic { first_tokens: 600, ..traffic(600, 1000, 100) };
    Observation { waiting, ..look(traffic, loads) }
}

/// Idle workers of which one could go, were it not for the queue.
#[test]
fn nobody_goes_while_requests_wait_in_front() {
    let loads = using(&[0.1, 0.1]);
    let mut policies = [
        by_thresholds(Role::Aggregated, Thresholds::throughput(Role::Aggregated)),
        by_sla(Role::Aggregated, 5000, 50),
    ];
    for policy in &mut policies {
        let proposal = policy.propose(&behind(0, &loads));
        assert_eq!((proposal.workers, proposal.reason), (Some(1), Reason::Respread { step: 1 }));
        let proposal = policy.propose(&behind(1, &loads));
        assert_eq!((proposal.workers, proposal.reason), (Some(2), Reason::Front { waiting: 1 }));
    }
}

/// Ten a second: 100 ms for everyone in front. A prompt of 1,000 tokens then takes one pass of 30 ms.
#[test]
fn the_wait_in_front_is_part_of_the_ttft() {
    let loads = using(&[0.1, 0.1]);
    let mut policy = by_sla(Role::Aggregated, 500, 50);
    let mut at = |waiting| {
        let proposal = policy.propose(&behind(waiting, &loads));
        (proposal.workers, proposal.reason, proposal.figures.ttft_ms.unwrap().round() as u64)
    };
    assert_eq!(at(4), (Some(2), Reason::Front { waiting: 4 }, 430));
    let (workers, reason, ttft_ms) = at(5);
    assert_eq!((workers, ttft_ms), (Some(3), 530));
    let text = "behind the 5 requests in front of the fleet the TTFT is 530.0 ms, above the target of 500.0 ms";
    assert_eq!(reason.to_string(), text);
    // The workers' own loads come first, and nothing changes without a queue.
    assert!(matches!(
        policy.propose(&behind(9, &queueing(&[32_000; 2]))).reason,
        Reason::AllAbove { .. }
    ));
    let without = Observation { waiting: 0, ..behind(0, &loads) };
    assert!((policy.propose(&without).figures.ttft_ms.unwrap() - 30.0).abs() < 1e-9);
    // No first token for a minute: the one that waits may wait as long again.
    let stuck = Observation { waiting: 1, ..look(traffic(600, 1000, 100), &loads) };
    assert_eq!(policy.propose(&stuck).figures.ttft_ms, Some(60_030.0));
}

/// 67,200 tokens fit into a pool, half of which is used.
#[test]
fn those_in_front_count_as_queues_of_all_workers() {
    let mut policy = by_thresholds(Role::Aggregated, Thresholds::throughput(Role::Aggregated));
    let loads = using(&[0.5, 0.5]);
    let mut at = |waiting| policy.propose(&behind(waiting, &loads)).workers;
    assert_eq!([at(0), at(67), at(68)], [Some(1), Some(2), Some(3)], "33,600 tokens more each");
    // Before the first arrival is heard of, nobody knows how long prompts are.
    let mut policy = by_thresholds(Role::Aggregated, Thresholds::throughput(Role::Aggregated));
    let unheard = Observation { waiting: 900, ..look(Traffic::default(), &loads) };
    assert_eq!(policy.propose(&unheard).workers, Some(2));
}
