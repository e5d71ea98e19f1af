//! Traces whose requests wait for one another, read as sessions.
//!
//! A session has to be known whole before it opens, and its requests may be anywhere in the file. So these files are read
//! to their end before a run, and every call is kept until its session has ended. All other traces are streams.

mod dynamo;
mod error;
mod graph;
mod mooncake;
#[cfg(test)]
mod tests;

pub(super) use dynamo::SCHEMA;
pub use error::LinkError;

use std::path::Path;

use crate::io::trace::chunks::CHUNK;
use crate::io::trace::error::{Problem, TraceError};
use crate::io::trace::lines::{Lines, is_blank};
use crate::kernel::Time;
use crate::model::request::Request;
use crate::model::session::Opening;

/// What a trace holds.
#[derive(Clone, PartialEq, Debug)]
pub enum Contents {
    /// Requests that have nothing to do with one another, in order of arrival.
    Requests(Vec<Request>),
    /// Sessions, in order of opening.
    Sessions(Vec<Opening>),
}

impl Contents {
    /// How many requests there are.
    pub fn requests(&self) -> usize {
        match self {
            Contents::Requests(requests) => requests.len(),
            Contents::Sessions(openings) => openings.iter().map(|opening| opening.asks.len()).sum(),
        }
    }
}

/// Reads a trace in Mooncake's JSONL as sessions; an id names `block_size` tokens.
///
/// # Errors
/// If the file cannot be read, a line makes no sense, or a request could never be made.
pub fn read_mooncake_sessions(path: &Path, block_size: u32) -> Result<Vec<Opening>, TraceError> {
    let mut rows = Vec::new();
    for_each_line(path, |line, number| {
        rows.push(mooncake::parse(line, number, block_size)?);
        Ok(())
    })?;
    let nodes = mooncake::link(rows).map_err(|(line, problem)| problem.at_line(path, line))?;
    sessions(path, nodes)
}

/// Reads a trace that Dynamo has recorded, request-trace JSONL version 1. Its ids have to name `block_size` tokens.
///
/// # Errors
/// As above.
pub fn read_dynamo(path: &Path, block_size: u32) -> Result<Contents, TraceError> {
    let mut rows = Vec::new();
    for_each_line(path, |line, number| {
        rows.extend(dynamo::parse(line, number, block_size)?);
        Ok(())
    })?;
    if rows.iter().any(|row| row.session.is_some()) {
        let nodes = dynamo::link(rows).map_err(|(line, problem)| problem.at_line(path, line))?;
        return Ok(Contents::Sessions(sessions(path, nodes)?));
    }
    let requests = dynamo::requests(rows);
    let requests = requests.map_err(|(line, problem)| problem.at_line(path, line))?;
    if requests.is_empty() {
        return Err(Problem::NoRequests { skipped: 0 }.at(path));
    }
    Ok(Contents::Requests(requests))
}

fn sessions(path: &Path, nodes: Vec<graph::Node>) -> Result<Vec<Opening>, TraceError> {
    if nodes.is_empty() {
        return Err(Problem::NoRequests { skipped: 0 }.at(path));
    }
    graph::openings(nodes).map_err(|(line, problem)| problem.at_line(path, line))
}

/// Calls for every line that is not blank, with its number, counted from 1.
fn for_each_line(
    path: &Path,
    mut call: impl FnMut(&[u8], u64) -> Result<(), Problem>,
) -> Result<(), TraceError> {
    let (mut lines, _) = Lines::open(path, CHUNK)?;
    let (mut number, mut buffer) = (0, Vec::new());
    while let Some(chunk) = lines.next_chunk(buffer) {
        for line in chunk.lines() {
            number += 1;
            if !is_blank(line) {
                call(line, number).map_err(|problem| problem.at_line(path, number))?;
            }
        }
        if let Some(problem) = chunk.problem {
            return Err(problem.at(path));
        }
        buffer = chunk.buffer;
    }
    Ok(())
}

/// A time of a trace, counted from its first request.
fn offset(at_ns: i64, first_ns: i64) -> Result<Time, Problem> {
    let ns = at_ns.abs_diff(first_ns);
    if ns > Time::MAX.as_ns() { Err(Problem::TooLate) } else { Ok(Time::from_ns(ns)) }
}
