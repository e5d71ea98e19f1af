//! Throughput-based scaling, worked by hand.

use super::*;
use crate::model::planner::capacity::{Role, Targets};
use crate::model::planner::observation::Traffic;
use crate::model::planner::testing::{constant, look, traffic};

fn policy(change_max: u32) -> ThroughputPolicy {
    let config = ThroughputConfig {
        rate: PredictorSpec::Last,
        isl: PredictorSpec::Last,
            osl: PredictorSpec::Last,
        change_max,
        ..ThroughputConfig::default()
    };
    let capacity = CapacityModel::new(constant(), Role::Aggregated, Targets::default());
    ThroughputPolicy::new(&config, capacity)
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
fn a_warm_up_counts_as_past() {
    let config = ThroughputConfig {
        rate: PredictorSpec::Trend(10),
        isl: PredictorSpec::Last,
            osl: PredictorSpec::Last,
        ..ThroughputConfig::default()
    };
    let capacity = CapacityModel::new(constant(), Role::Aggregated, Targets::default());
    let mut policy = ThroughputPolicy::new(&config, capacity);
    policy.warm_up([[10.0, 1000.0, 100.0], [20.0, 1000.0, 100.0]]);
    let proposal = policy.propose(&at_target(traffic(30 * 60, 1000, 100), 2));
    let rate = proposal.figures.rate.unwrap();
    assert!((rate - 40.0).abs() < 1e-9, "10, 20, 30, then {rate}");
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
