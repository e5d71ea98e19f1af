//! Who was let in, and who was turned away at the door.

use serde_json::{Map, Value, json};

use crate::model::router::Admitted;
use crate::report::number::count;

/// The keys of `report.json` that a run with limits adds.
pub(super) fn to_json(admitted: &Admitted) -> Map<String, Value> {
    let figures = [
        ("queue_full_requests", admitted.queue_full),
        ("expired_requests", admitted.expired),
        ("max_fleet_requests", admitted.in_flight_max),
        ("max_queued_requests", admitted.waiting_max),
    ];
    figures.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

/// The same for the terminal.
pub(super) fn line(admitted: &Admitted) -> String {
    let of =
        |limit: Option<u64>| limit.map_or(String::new(), |limit| format!(" of {}", count(limit)));
    format!(
        "admission: at most {}{} requests in the fleet and {}{} waiting for it; {} turned away because the queue was full, \
         {} after waiting too long",
        count(admitted.in_flight_max),
        of(admitted.max_in_flight),
        count(admitted.waiting_max),
        of(admitted.queue_limit),
        count(admitted.queue_full),
        count(admitted.expired),
    )
}
