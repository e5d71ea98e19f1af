//! Throughput-based scaling, worked by hand.

use super::*;
use crate::model::planner::capacity::{Role, Targets};
use crate::model::planner::observation::{Traffic, WorkerLoad};
use crate::model::planner::testing::{constant, look, traffic};

fn last() -> ThroughputConfig {
    ThroughputConfig::default().with_predictor(PredictorSpec::Last)
}

fn from(config: &ThroughputConfig) -> ThroughputPolicy {
    let capacity = CapacityModel::new(constant(), Role::Aggregated, Targets::default());
    ThroughputPolicy::new(config, capacity)
}

fn policy(change_max: u32) -> ThroughputPolicy {
    from(&ThroughputConfig { change_max, ..last() })
}

fn at_target(traffic: Traffic, target: u32) -> Observation<'static> {
    Observation { target, ..look(traffic, &[]) }
}

/// A worker sustains 64 / (100 x 30 ms) = 21.3 requests/s of 1,000 tokens in and 100 out.
#[test]
fn demand_is_divided_by_capacity() {
    for (per_minute, expected) in [(60, 1), (1279, 1), (1281, 2), (6000, 5)] {
        let proposal = policy(8).propose(&at_target(traffic(per_minute, 1000, 100), 1));
        assert_eq!(proposal.workers, Some(expected), "{per_minute} per minute");
    }
    let proposal = policy(8).propose(&at_target(traffic(6000, 1000, 100), 1));
    let figures = proposal.figures;
    assert_eq!((figures.rate, figures.isl, figures.osl), (Some(100.0), Some(1000.0), Some(100.0)));
    assert_eq!((figures.ttft_ms, figures.itl_ms), (Some(30.0), Some(30.0)));
    assert!(matches!(proposal.reason, Reason::Demand { meets: true, .. }));
}

#[test]
fn one_look_changes_little() {
    let much = traffic(60_000, 1000, 100);
    assert_eq!(policy(8).propose(&at_target(much, 2)).workers, Some(10), "47 are needed");
    let little = traffic(60, 1000, 100);
    assert_eq!(policy(8).propose(&at_target(little, 20)).workers, Some(12));
    assert_eq!(policy(8).propose(&at_target(little, 3)).workers, Some(1));
}

#[test]
fn nothing_seen_is_no_opinion() {
    let mut policy = policy(8);
    let proposal = policy.propose(&at_target(Traffic::default(), 4));
    assert_eq!(proposal, Proposal::abstain(Reason::NoData(Missing::Traffic)));
    // Arrivals alone do not tell how long outputs are.
    let arrived = Traffic { completed: 0, output_tokens: 0, ..traffic(60, 1000, 100) };
    assert_eq!(policy.propose(&at_target(arrived, 4)).workers, None);
}

#[test]
fn a_quiet_interval_keeps_the_lengths() {
    let mut policy = policy(8);
    policy.propose(&at_target(traffic(6000, 1000, 100), 5));
    let proposal = policy.propose(&at_target(Traffic::default(), 5));
    assert_eq!(proposal.workers, Some(0), "no demand; limits are not its business");
    assert_eq!(proposal.figures.isl, Some(1000.0));
}

#[test]
fn cached_tokens_need_no_workers() {
    let hit = Traffic { prefilled_tokens: 1000, cached_tokens: 900, ..traffic(6000, 1500, 20) };
    let with = policy(100).propose(&at_target(hit, 5)).workers.unwrap();
    let without = policy(100).propose(&at_target(traffic(6000, 1500, 20), 5)).workers.unwrap();
    assert!(with < without, "{with} {without}");
}

#[test]
fn further_ahead_is_higher_on_a_slope() {
    let rate = |steps| {
        let config = ThroughputConfig {
            rate: PredictorSpec::Trend(10),
            isl: PredictorSpec::Last,
            osl: PredictorSpec::Last,
            steps,
            ..ThroughputConfig::default()
        };
        let capacity = CapacityModel::new(constant(), Role::Aggregated, Targets::default());
        let mut policy = ThroughputPolicy::new(&config, capacity);
        let mut last = None;
        for minute in 1..5 {
            last = policy.propose(&at_target(traffic(600 * minute, 1000, 100), 2)).figures.rate;
        }
        last.unwrap()
    };
    // 10 requests/s more per minute.
    assert!((rate(1) - 50.0).abs() < 1e-9 && (rate(3) - 70.0).abs() < 1e-9);
}

/// Workers that are all busy, each with so many requests in its queue.
fn queues(workers: usize, queued: u32) -> Vec<WorkerLoad> {
    vec![WorkerLoad { running: 8, queued, ..WorkerLoad::default() }; workers]
}

/// A worker sustains 21.3 requests/s. Of 10 that arrive per second one takes care; 1,200 that wait are 20 more per
/// second if they are to be gone within a minute.
#[test]
fn a_backlog_is_demand() {
    let config = ThroughputConfig { clear: Some(Span::from_secs(60)), ..last() };
    let propose = |waiting, loads: &[WorkerLoad]| {
        let observation = Observation { waiting, ..look(traffic(600, 1000, 100), loads) };
        from(&config).propose(&observation)
    };
    assert_eq!(propose(0, &[]).workers, Some(1));
    let proposal = propose(1000, &queues(2, 100));
    assert_eq!(proposal.workers, Some(2), "of {}", proposal.reason);
    let text = proposal.reason.to_string();
    assert!(text.contains("20.000 more are to clear the backlog"), "{text}");
    assert_eq!(proposal.figures.rate, Some(10.0), "the backlog is no prediction");
}

/// Two workers that are busy all the time finish 600 requests in a minute: 5 each per second, where 21.3 were expected.
#[test]
fn what_busy_workers_deliver_counts() {
    let config = ThroughputConfig { corrects: true, ..last() };
    let mut policy = from(&config);
    let (busy, idle) = (queues(2, 1), queues(2, 0));
    let mut workers = |loads: &[WorkerLoad]| {
        policy.propose(&look(traffic(600, 1000, 100), loads)).workers.unwrap()
    };
    assert_eq!(workers(&idle), 1);
    assert_eq!(workers(&busy), 1, "they may have been idle before");
    assert_eq!(workers(&busy), 2, "10 / 5.3, as the factor is at its least of 0.25");
    assert_eq!(workers(&idle), 2, "it is not forgotten");
}

#[test]
fn the_way_down_is_slow() {
    let config = ThroughputConfig { down_window: Span::from_secs(120), ..last() };
    let mut policy = from(&config);
    let mut at = |secs: u64, per_minute| {
        let now = Time::ZERO + Span::from_secs(secs);
        let look = at_target(traffic(per_minute, 1000, 100), 5);
        policy.propose(&Observation { now, ..look }).workers
    };
    assert_eq!(at(60, 6000), Some(5));
    assert_eq!(at(120, 60), Some(5));
    assert_eq!(at(180, 60), Some(5), "120 s ago there was need of 5");
    assert_eq!(at(240, 60), Some(1));
}
