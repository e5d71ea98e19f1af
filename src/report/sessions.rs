//! What became of sessions and their clients.

use serde_json::{Map, Value, json};

use crate::fleet::Visited;
use crate::report::number::count;

/// The keys of `report.json` that a run with sessions or clients adds.
pub(super) fn to_json(visited: &Visited) -> Map<String, Value> {
    let Visited { sessions, clients, late, .. } = visited;
    let figures = [
        ("num_sessions", sessions.opened),
        ("completed_sessions", sessions.done),
        ("abandoned_sessions", sessions.abandoned),
        ("max_live_sessions", sessions.live_max),
        ("planned_calls", sessions.planned),
        ("num_calls", sessions.calls),
        ("completed_calls", sessions.completed),
        ("dropped_calls", sessions.dropped),
        ("tries", clients.sent),
        ("retries", clients.retries),
        ("timeouts", clients.timeouts),
        ("refused_tries", clients.refused),
        ("late_tries", *late),
    ];
    figures.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

/// The same for the terminal.
pub(super) fn line(visited: &Visited) -> String {
    let Visited { sessions, clients, late, .. } = visited;
    format!(
        "sessions: {} opened, {} completed, {} given up, at most {} at once; calls: {} planned, {} answered; tries: {}, \
         of these {} repeated, {} timed out, {} refused, {} ended too late for anybody",
        count(sessions.opened),
        count(sessions.done),
        count(sessions.abandoned),
        count(sessions.live_max),
        count(sessions.planned),
        count(sessions.completed),
        count(clients.sent),
        count(clients.retries),
        count(clients.timeouts),
        count(clients.refused),
        count(*late),
    )
}
