//! The autoscalers that everybody knows, by their documentation.

use super::*;
use crate::model::planner::testing::{look, traffic};

fn at(secs: u64, target: u32, loads: &[WorkerLoad]) -> Observation<'_> {
    let now = Time::ZERO + Span::from_secs(secs);
    Observation { now, target, ..look(traffic(0, 0, 0), loads) }
}

#[test]
fn a_fixed_size_is_fixed() {
    assert_eq!(Fixed::new(7).propose(&at(0, 3, &[])).workers, Some(7));
}

#[test]
fn a_schedule_follows_the_clock() {
    let entry =
        |hours: u64, workers| ScheduleEntry { from: Span::from_secs(hours * 3600), workers };
    let workers = |schedule: &mut Schedule, hours: u64| {
        schedule.propose(&at(hours * 3600, 1, &[])).workers.unwrap()
    };
    let day = Some(Span::from_secs(86_400));
    let mut daily = Schedule::new(vec![entry(20, 2), entry(8, 10)], day);
    let hours = [0, 7, 8, 19, 20, 23, 24, 32, 44];
    assert_eq!(hours.map(|hour| workers(&mut daily, hour)), [2, 2, 10, 10, 2, 2, 2, 10, 2]);
    let reason = daily.propose(&at(30 * 3600, 1, &[])).reason;
    assert_eq!(reason, Reason::Schedule { since: Span::from_secs(10 * 3600) }, "since 20:00");
    let mut once = Schedule::new(vec![entry(1, 5), entry(3, 6)], None);
    assert_eq!([0, 1, 2, 3, 99].map(|hour| workers(&mut once, hour)), [5, 5, 5, 6, 6]);
}

fn busy(shares: &[u32]) -> Vec<WorkerLoad> {
    shares.iter().map(|&running| WorkerLoad { running, ..WorkerLoad::default() }).collect()
}

fn hpa(target: f64) -> TargetUtilisation {
    let metric = HpaMetric::Batch { max_num_seqs: 100 };
    TargetUtilisation::new(metric, target, StabiliserConfig::default())
}

#[test]
fn utilisation_is_brought_to_its_target() {
    // The example of the documentation: twice the target doubles the number.
    assert_eq!(hpa(0.5).propose(&at(0, 2, &busy(&[100, 100]))).workers, Some(4));
    // 0.56 / 0.5 x 3 = 3.36.
    assert_eq!(hpa(0.5).propose(&at(0, 3, &busy(&[56, 56, 56]))).workers, Some(4));
    assert_eq!(hpa(0.5).propose(&at(0, 3, &busy(&[54, 54, 54]))).workers, Some(3), "within 10 %");
    let mut calm = hpa(0.5);
    let mut idle = |secs| calm.propose(&at(secs, 4, &busy(&[20; 4]))).workers;
    assert_eq!([15, 315, 330].map(&mut idle), [Some(4), Some(4), Some(2)], "the window is 300 s");
    assert_eq!(hpa(0.5).propose(&at(0, 4, &[])).workers, None);
}

/// Two ready and two on their way: 1.8 counts as 0.9 when going up.
#[test]
fn workers_on_their_way_count_as_idle() {
    assert_eq!(hpa(0.5).propose(&at(0, 4, &busy(&[90, 90]))).workers, Some(4), "0.45 over all");
    assert_eq!(hpa(0.5).propose(&at(0, 3, &busy(&[100, 100]))).workers, Some(4), "0.67 over all");
}

#[test]
fn kv_usage_is_a_metric_too() {
    let load = WorkerLoad { scheduled_kv_tokens: 900, ..WorkerLoad::default() };
    let metric = HpaMetric::Kv { pool_tokens: 1000 };
    let mut policy = TargetUtilisation::new(metric, 0.6, StabiliserConfig::default());
    assert_eq!(policy.propose(&at(0, 2, &[load, load])).workers, Some(3));
}

#[test]
fn queues_are_divided_among_workers() {
    let queued = |count: u32| WorkerLoad { queued: count, ..WorkerLoad::default() };
    let mut policy = QueueLength::new(5.0, StabiliserConfig::default());
    let proposal = policy.propose(&at(0, 2, &[queued(11), queued(3)]));
    assert_eq!(proposal.workers, Some(3), "14 / 5");
    assert_eq!(proposal.reason, Reason::Queue { queued: 14, per_worker: 5.0 });
    assert_eq!(policy.propose(&at(15, 3, &[queued(16), queued(0)])).workers, Some(3), "6.7 % more");
    assert_eq!(policy.propose(&at(30, 3, &[queued(0)])).workers, Some(3), "not yet");
    assert_eq!(policy.propose(&at(331, 3, &[queued(0)])).workers, Some(0));
    let mut fresh = QueueLength::new(5.0, StabiliserConfig::default());
    let mut quiet = |secs| fresh.propose(&at(secs, 8, &[queued(0); 8])).workers;
    assert_eq!([15, 315, 330].map(&mut quiet), [Some(8), Some(8), Some(0)], "no fall at the start");
}
