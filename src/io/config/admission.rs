//! From what the user typed about who is let in to what the program runs.

use crate::io::config::check::{COUNT, LONGER_THAN_ZERO, Ranges, Violation};
use crate::io::config::classes;
use crate::io::config::text::{Admission, Config, Duration, ScalingPolicy};
use crate::kernel::Span;
use crate::model::router::AdmissionSpec;

/// What a value of this key has to be, in words, if it is narrower than its type.
pub(super) fn range_of(key: &str) -> Option<&'static str> {
    match key {
        "admission.max_in_flight" => Some(COUNT),
        "admission.max_wait" => Some(LONGER_THAN_ZERO),
        _ => None,
    }
}

/// Every value by itself.
pub(super) fn ranges(admission: &Admission, ranges: &mut Ranges) {
    ranges.count("admission.max_in_flight", admission.max_in_flight.unwrap_or(1), u64::MAX);
    if let Some(Duration(time)) = admission.max_wait {
        ranges.check("admission.max_wait", format!("\"{time}\""), time > Span::ZERO);
    }
}

/// The limits, if there are any, for all or for some class.
pub(super) fn admission(config: &Config) -> Option<AdmissionSpec> {
    let Admission { max_in_flight, queue_limit, max_wait } = config.admission;
    let limits =
        AdmissionSpec { max_in_flight, queue_limit, max_wait: max_wait.map(|Duration(time)| time) };
    (limits != AdmissionSpec::default() || classes::have_limits(config)).then_some(limits)
}

/// Why some keys change nothing.
pub(super) const NOBODY_WAITS: &str = "without admission.max_in_flight, \
    router.router_queue_threshold or planner.policy: nobody waits in the router then";

/// Whether anybody ever waits in the router's queue.
pub(super) fn has_queue(config: &Config) -> bool {
    config.admission.max_in_flight.is_some()
        || config.router.router_queue_threshold.is_some()
        || config.planner.policy != ScalingPolicy::None
}

/// Keys that change nothing in this configuration: the section, the keys, and why.
pub(super) fn idle(
    config: &Config,
) -> Option<(&'static str, &'static [&'static str], &'static str)> {
    let keys = &["queue_limit", "max_wait"];
    (!has_queue(config)).then_some(("admission", keys, NOBODY_WAITS))
}

/// That a closed loop without patience fits: who is turned away is followed by the next one at the same instant, so that one
/// that does not fit would turn the whole workload away at once.
pub(super) fn contradictions(config: &Config) -> Result<(), Violation> {
    let Admission { max_in_flight: Some(fleet), queue_limit, .. } = config.admission else {
        return Ok(());
    };
    let own = || config.classes.values().map(|class| class.queue_limit);
    // What all share is nobody's if every class has a limit of its own.
    let is_shared = own().len() == 0 || own().any(|limit| limit.is_none());
    let Some(shared) = (if is_shared { queue_limit } else { Some(0) }) else { return Ok(()) };
    let room = own().flatten().fold(fleet.saturating_add(shared), u64::saturating_add);
    match config.workload.concurrency {
        Some(concurrency) if concurrency > room && config.client.retries == 0 => {
            let reason = format!(
                "is {concurrency}, but [admission] has room for {room}: the rest of the workload would \
                 be turned away at once; take less, or set client.retries above 0"
            );
            Err(Violation::contradiction("workload.concurrency", reason))
        }
        _ => Ok(()),
    }
}
