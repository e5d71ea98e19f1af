//! Mooncake's JSONL with the fields that tie requests together: `session_id`, `delay`, and `request_id`, `wait_for`,
//! `tool_wait_ms` of agentic traces.

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::{Number, Value};

use crate::io::trace::error::{Problem, shown};
use crate::io::trace::mooncake;
use crate::io::trace::sessions::error::LinkError;
use crate::io::trace::sessions::graph::Node;
use crate::io::trace::sessions::offset;
use crate::model::session::{Ask, LONGEST_MS};

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Links {
    #[serde(alias = "created_time")]
    timestamp: Option<Number>,
    #[serde(alias = "delay_ms")]
    delay: Option<Number>,
    tool_wait_ms: Option<Number>,
    request_id: Option<Value>,
    wait_for: Option<Vec<Value>>,
}

/// A line.
pub(super) struct Row {
    line: u64,
    timestamp_ns: Option<i64>,
    session: Option<u64>,
    delay_ms: Option<f64>,
    tool_ms: f64,
    request: Option<String>,
    wait_for: Option<Vec<String>>,
    ask: Ask,
}

const MS: &str = "a number of milliseconds from 0 to 2.25e9 (26 days)";

pub(super) fn parse(line: &[u8], number: u64, block_size: u32) -> Result<Row, Problem> {
    let links: Links = serde_json::from_slice(line).map_err(Problem::Json)?;
    let timestamp_ns = links.timestamp.as_ref().map(mooncake::timestamp_ns).transpose()?;
    let record = mooncake::parse_turn(line, block_size)?;
    let name = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let ask = Ask {
        strict_priority: record.strict_priority,
        priority_jump: record.priority_jump,
        ..Ask::new(0, record.prompt, record.output_tokens)
    };
    Ok(Row {
        line: number,
        timestamp_ns,
        session: record.session,
        delay_ms: links.delay.map(|delay| ms("delay", &delay)).transpose()?,
        tool_ms: links.tool_wait_ms.map_or(Ok(0.0), |wait| ms("tool_wait_ms", &wait))?,
        request: links.request_id.map(name),
        wait_for: links.wait_for.map(|list| list.into_iter().map(name).collect()),
        ask,
    })
}

fn ms(field: &str, value: &Number) -> Result<f64, Problem> {
    let ms = value.as_f64().filter(|ms| (0.0..=LONGEST_MS).contains(ms));
    ms.ok_or_else(|| Problem::field(field, value.to_string(), MS))
}

/// Finds out who waits for whom. In a file in which any line has `wait_for`, those lists say it; else every request with a
/// session waits for the one before of the same session. A problem comes with its line.
pub(super) fn link(rows: Vec<Row>) -> Result<Vec<Node>, (u64, Problem)> {
    let is_graph = rows.iter().any(|row| row.wait_for.is_some());
    let mut places: FxHashMap<String, usize> = FxHashMap::default();
    for (place, row) in rows.iter().enumerate() {
        if let Some(request) = &row.request
            && is_graph
            && let Some(first) = places.insert(request.clone(), place)
        {
            let first = rows[first].line;
            return Err((
                row.line,
                LinkError::SameRequest { name: shown(request.as_bytes()), first }.into(),
            ));
        }
    }
    let first_ns = rows.iter().filter_map(|row| row.timestamp_ns).min().unwrap_or(0);
    let mut last_of: FxHashMap<u64, (usize, Option<i64>)> = FxHashMap::default();
    let mut nodes = Vec::with_capacity(rows.len());
    for (place, row) in rows.into_iter().enumerate() {
        let line = row.line;
        let mut before = None;
        if let Some(session) = row.session.filter(|_| !is_graph) {
            before = last_of.insert(session, (place, row.timestamp_ns));
        }
        let node = if is_graph {
            listed(row, place, &places, first_ns)
        } else {
            chained(row, place, before, first_ns)
        };
        nodes.push(node.map_err(|problem| (line, problem))?);
    }
    Ok(nodes)
}

/// A request that waits for those it lists.
fn listed(
    row: Row,
    place: usize,
    places: &FxHashMap<String, usize>,
    first_ns: i64,
) -> Result<Node, Problem> {
    let mut wait_for = Vec::new();
    for name in row.wait_for.iter().flatten() {
        let unknown = || LinkError::UnknownRequest(shown(name.as_bytes()));
        wait_for.push(*places.get(name).ok_or_else(unknown)?);
    }
    node(row, place, wait_for, None, first_ns)
}

/// A request that waits for the one before of its session.
fn chained(
    row: Row,
    place: usize,
    before: Option<(usize, Option<i64>)>,
    first_ns: i64,
) -> Result<Node, Problem> {
    let Some((before, before_ns)) = before else {
        return node(row, place, Vec::new(), None, first_ns);
    };
    // Without a delay, the next turn comes as long after this one has completed as it came after it was sent.
    let gap_ns = row.timestamp_ns.zip(before_ns).map(|(own, before)| own.saturating_sub(before));
    if let Some(gap) = gap_ns.filter(|&gap| gap < 0 && row.delay_ms.is_none()) {
        let found = format!("{} ms before the turn before", gap.unsigned_abs() as f64 / 1e6);
        let expected = "not earlier than that, since it waits for it";
        return Err(Problem::field("timestamp", found, expected));
    }
    node(row, place, vec![before], gap_ns.map(|ns| ns as f64 / 1e6), first_ns)
}

fn node(
    row: Row,
    place: usize,
    wait_for: Vec<usize>,
    gap_ms: Option<f64>,
    first_ns: i64,
) -> Result<Node, Problem> {
    if wait_for.is_empty() {
        if row.timestamp_ns.is_none() {
            return Err(Problem::Missing("timestamp".to_owned()));
        }
        if let Some(delay) = row.delay_ms.filter(|&delay| delay != 0.0) {
            let expected = "absent or 0 in a request that waits for none";
            return Err(Problem::field("delay", delay.to_string(), expected));
        }
    } else if row.delay_ms.is_none() && gap_ms.is_none() && row.wait_for.is_none() {
        return Err(Problem::Missing("delay".to_owned()));
    }
    Ok(Node {
        line: row.line,
        session: row.session,
        at: offset(row.timestamp_ns.unwrap_or(first_ns), first_ns)?,
        wait_for,
        delay_ms: row.delay_ms.or(gap_ms).unwrap_or(0.0),
        tool_ms: row.tool_ms,
        ask: Ask { trace_line: place as u64, ..row.ask },
    })
}
