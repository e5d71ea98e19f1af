//! Dynamo's request traces, JSONL version 1 (`dynamo.request.trace.v1`): one object per request, written when it ended.
//!
//! ```text
//! {"schema": "dynamo.request.trace.v1", "event_type": "request_end", "event_time_unix_ms": ..,
//!  "agent_context": {"session_id": .., "parent_session_id": ..},
//!  "request": {"request_id": .., "request_received_ms": .., "total_time_ms": .., "output_tokens": ..,
//!              "replay": {"trace_block_size": .., "input_length": .., "input_sequence_hashes": [..]}}}
//! ```
//!
//! An object may stand alone or as the `event` of another. Events of other types are left out. Fields and dependencies are
//! as NVIDIA's documentation and its converter have them; see `docs/formats.md`.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::io::trace::error::{Problem, shown};
use crate::io::trace::mooncake::{named_prompt, session_number};
use crate::io::trace::number;
use crate::io::trace::sessions::error::LinkError;
use crate::io::trace::sessions::graph::Node;
use crate::kernel::Time;
use crate::model::request::Request;
use crate::model::session::Ask;

/// The name of the schema.
pub(in crate::io::trace) const SCHEMA: &str = "dynamo.request.trace.v1";

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Wrapped {
    event: Event,
}

/// Something around an event, whatever that is.
#[derive(Deserialize)]
struct Wrapper {
    #[serde(rename = "event")]
    _event: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Event {
    schema: Option<String>,
    #[serde(rename = "event_type")]
    kind: Option<String>,
    #[serde(rename = "event_time_unix_ms")]
    time_ms: Option<u64>,
    agent_context: Option<AgentContext>,
    request: Option<Recorded>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct AgentContext {
    session_id: Option<String>,
    parent_session_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Recorded {
    request_id: Option<String>,
    request_received_ms: Option<u64>,
    total_time_ms: Option<f64>,
    output_tokens: Option<serde_json::Number>,
    replay: Option<Replay>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Replay {
    trace_block_size: Option<u64>,
    input_length: Option<serde_json::Number>,
    input_sequence_hashes: Option<Vec<u64>>,
}

/// A request.
pub(super) struct Row {
    line: u64,
    request: String,
    pub(super) session: Option<String>,
    parent: Option<String>,
    start_ms: u64,
    end_ms: u64,
    ask: Ask,
}

impl Row {
    /// The order in which requests were made.
    fn order(&self) -> (u64, u64, &str) {
        (self.start_ms, self.end_ms, &self.request)
    }
}

/// Reads a line; nothing if it is about something else than a request.
pub(super) fn parse(line: &[u8], number: u64, block_size: u32) -> Result<Option<Row>, Problem> {
    let event = event(line).map_err(Problem::Json)?;
    let schema = event.schema.ok_or_else(|| missing("schema"))?;
    if schema != SCHEMA {
        return Err(Problem::field("schema", shown(schema.as_bytes()), SCHEMA));
    }
    let kind = event.kind.ok_or_else(|| missing("event_type"))?;
    if kind != "request_end" {
        return Ok(None);
    }
    let request = event.request.ok_or_else(|| missing("request"))?;
    let replay = request.replay.ok_or_else(|| missing("request.replay"))?;
    let size = replay.trace_block_size.ok_or_else(|| missing("trace_block_size"))?;
    if size != u64::from(block_size) {
        return Err(Problem::BlockSize { found: size, configured: block_size });
    }
    let length = replay.input_length.ok_or_else(|| missing("input_length"))?;
    let input = number::tokens_of_json("input_length", &length, 1)?;
    let hashes = replay.input_sequence_hashes.ok_or_else(|| missing("input_sequence_hashes"))?;
    let prompt = named_prompt(input, hashes, block_size)?;
    let output = request.output_tokens.ok_or_else(|| missing("output_tokens"))?;
    let output = number::tokens_of_json("output_tokens", &output, 0)?;
    let (start_ms, end_ms) =
        times(event.time_ms, request.request_received_ms, request.total_time_ms)?;
    let context = event.agent_context;
    let (session, parent) = match context {
        None => (None, None),
        Some(context) => {
            let session = context.session_id.ok_or_else(|| missing("agent_context.session_id"))?;
            (Some(session), context.parent_session_id)
        }
    };
    Ok(Some(Row {
        line: number,
        request: request.request_id.ok_or_else(|| missing("request_id"))?,
        session,
        parent,
        start_ms,
        end_ms,
        ask: Ask::new(0, prompt, output),
    }))
}

/// The event of a line, wrapped or not.
fn event(line: &[u8]) -> serde_json::Result<Event> {
    let wrong = match serde_json::from_slice::<Wrapped>(line) {
        Ok(wrapped) => return Ok(wrapped.event),
        Err(error) => error,
    };
    let event: serde_json::Result<Event> = serde_json::from_slice(line);
    let is_one = event.as_ref().is_ok_and(|event| event.schema.is_some());
    let is_wrapper = || serde_json::from_slice::<Wrapper>(line).is_ok();
    if !is_one && is_wrapper() { Err(wrong) } else { event }
}

fn missing(name: &str) -> Problem {
    Problem::Missing(name.to_owned())
}

/// When a request was made and when it ended.
fn times(
    event: Option<u64>,
    received: Option<u64>,
    total: Option<f64>,
) -> Result<(u64, u64), Problem> {
    let total = match total {
        Some(ms) if !(0.0..=1e15).contains(&ms) => {
            let expected = "a number of milliseconds, 0 or more";
            return Err(Problem::field("total_time_ms", ms.to_string(), expected));
        }
        total => total.map(|ms| ms.round() as u64),
    };
    let since = |event| since_1970("event_time_unix_ms", event);
    let start = match (received, event, total) {
        (Some(received), ..) => since_1970("request_received_ms", received)?,
        (None, Some(event), Some(total)) => since(event)?.saturating_sub(total),
        (None, ..) => return Err(missing("request_received_ms")),
    };
    let end = match (total, event) {
        (Some(total), _) => start + total,
        (None, Some(event)) => since(event)?.max(start),
        (None, None) => return Err(missing("event_time_unix_ms")),
    };
    Ok((start, end))
}

/// A time as a field has it, if it is one.
fn since_1970(field: &str, ms: u64) -> Result<u64, Problem> {
    if ms > 1 << 60 {
        return Err(Problem::field(field, ms.to_string(), "milliseconds since 1970"));
    }
    Ok(ms)
}

/// Requests without sessions, in order of arrival. A problem comes with its line.
pub(super) fn requests(mut rows: Vec<Row>) -> Result<Vec<Request>, (u64, Problem)> {
    rows.sort_by(|one, other| one.order().cmp(&other.order()));
    let first = rows.first().map_or(0, |row| row.start_ms);
    let request = |(place, row): (u64, Row)| {
        let arrival = arrival(&row, first)?;
        Ok(Request::new(place, arrival, row.ask.prompt(), row.ask.output_tokens))
    };
    (0..).zip(rows).map(request).collect()
}

/// When a request comes, counted from the first.
fn arrival(row: &Row, first_ms: u64) -> Result<Time, (u64, Problem)> {
    let at = (row.start_ms - first_ms).checked_mul(1_000_000).map(Time::from_ns);
    at.filter(|&at| at <= Time::MAX).ok_or((row.line, Problem::TooLate))
}

/// Finds out who waited for whom: every request for the one before of its session, the first of a child session for the
/// last one of its parent that had ended by then, and the first of the parent that began after the child's end for the
/// child's last one. A problem comes with its line.
pub(super) fn link(mut rows: Vec<Row>) -> Result<Vec<Node>, (u64, Problem)> {
    if let Some(row) = rows.iter().find(|row| row.session.is_none()) {
        return Err((row.line, LinkError::MixedSessions.into()));
    }
    rows.sort_by(|one, other| one.order().cmp(&other.order()));
    let mut names: FxHashMap<&str, u64> = FxHashMap::default();
    for row in &rows {
        if let Some(first) = names.insert(&row.request, row.line) {
            let name = shown(row.request.as_bytes());
            return Err((
                row.line.max(first),
                LinkError::SameRequest { name, first: row.line.min(first) }.into(),
            ));
        }
    }
    let mut numbers: FxHashMap<&str, usize> = FxHashMap::default();
    let mut sessions: Vec<Vec<usize>> = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let number = *numbers.entry(row.session.as_deref().unwrap_or("")).or_insert(sessions.len());
        if number == sessions.len() {
            sessions.push(Vec::new());
        }
        sessions[number].push(place);
    }
    let mut wait_for: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
    for own in &sessions {
        for pair in own.windows(2) {
            wait_for[pair[1]].push(pair[0]);
        }
    }
    let parents = sessions.iter().map(|own| {
        let parent = parent_of(&rows, own)?;
        Ok(parent.and_then(|(place, parent)| Some((place, *numbers.get(parent)?))))
    });
    let parents: Vec<Option<(usize, usize)>> = parents.collect::<Result<_, _>>()?;
    if let Some(place) = circle(&parents) {
        let name = |text: &Option<String>| shown(text.as_deref().unwrap_or("").as_bytes());
        let (session, parent) = (name(&rows[place].session), name(&rows[place].parent));
        return Err((rows[place].line, LinkError::OwnAncestor { session, parent }.into()));
    }
    for (own, parent) in sessions.iter().zip(parents) {
        if let Some((_, parent)) = parent {
            tie(&rows, own, &sessions[parent], &mut wait_for);
        }
    }
    nodes(rows, wait_for)
}

/// A request that says which session has spawned its own, if that goes round in a circle. Of every session is given its
/// parent and a request that names it, if it has one.
fn circle(parents: &[Option<(usize, usize)>]) -> Option<usize> {
    // Which walk towards the ancestors came by first.
    let mut seen = vec![usize::MAX; parents.len()];
    for walk in 0..parents.len() {
        let mut session = walk;
        while seen[session] == usize::MAX
            && let Some((place, parent)) = parents[session]
        {
            seen[session] = walk;
            if seen[parent] == walk {
                return Some(place);
            }
            session = parent;
        }
    }
    None
}

/// The parent of a session, which all its requests have to agree on, and the first of them that names it.
fn parent_of<'a>(
    rows: &'a [Row],
    own: &[usize],
) -> Result<Option<(usize, &'a str)>, (u64, Problem)> {
    let mut known: Option<(usize, &str)> = None;
    for &place in own {
        let Some(parent) = rows[place].parent.as_deref() else { continue };
        if known.is_some_and(|(_, known)| known != parent) {
            let expected = "the same in all requests of a session";
            let problem = Problem::field("parent_session_id", shown(parent.as_bytes()), expected);
            return Err((rows[place].line, problem));
        }
        known.get_or_insert((place, parent));
    }
    Ok(known)
}

/// A child session begins after a request of its parent, and another one waits for its end.
fn tie(rows: &[Row], child: &[usize], parent: &[usize], wait_for: &mut [Vec<usize>]) {
    let Some(&first) = child.first() else { return };
    let Some(&last) = child.iter().max_by_key(|&&place| (rows[place].end_ms, place)) else {
        return;
    };
    let start = rows[first].start_ms;
    let ended = parent.iter().copied().filter(|&place| rows[place].end_ms <= start);
    if let Some(spawn) = ended.max_by_key(|&place| (rows[place].end_ms, place))
        && spawn != first
    {
        wait_for[first].push(spawn);
    }
    let end = rows[last].end_ms;
    let later = parent.iter().copied().filter(|&place| rows[place].start_ms >= end);
    if let Some(join) = later.min_by_key(|&place| (rows[place].start_ms, Reverse(place)))
        && join != last
    {
        wait_for[join].push(last);
    }
}

fn nodes(rows: Vec<Row>, wait_for: Vec<Vec<usize>>) -> Result<Vec<Node>, (u64, Problem)> {
    let first = rows.first().map_or(0, |row| row.start_ms);
    let ends: Vec<u64> = rows.iter().map(|row| row.end_ms).collect();
    let node = |(place, (row, wait_for)): (usize, (Row, Vec<usize>))| {
        let last = wait_for.iter().map(|&other| ends[other]).max();
        // A request that was sent before the end of what it is said to wait for follows at once.
        let delay = last.map_or(0, |last| row.start_ms.saturating_sub(last));
        Ok(Node {
            line: row.line,
            session: row.session.as_ref().map(|name| session_number(name.as_bytes())),
            at: arrival(&row, first)?,
            wait_for,
            delay_ms: delay as f64,
            tool_ms: 0.0,
            ask: Ask { trace_line: place as u64, ..row.ask },
        })
    };
    rows.into_iter().zip(wait_for).enumerate().map(node).collect()
}
