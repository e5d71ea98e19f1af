//! Mooncake's JSONL: `{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [..]}`.
//!
//! Field names and aliases are those the reference peer accepts. Fields it does not know are ignored.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Number;
use xxhash_rust::xxh3::xxh3_64;

use crate::io::trace::Record;
use crate::io::trace::error::Problem;
use crate::io::trace::number::{self, TOKENS_MAX};
use crate::io::trace::plain::Plain;
use crate::model::request::Prompt;

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Line {
    #[serde(alias = "created_time")]
    timestamp: Option<Number>,
    #[serde(alias = "input_tokens")]
    input_length: Option<Number>,
    #[serde(alias = "output_tokens")]
    output_length: Option<Number>,
    hash_ids: Option<Vec<u64>>,
    session_id: Option<serde_json::Value>,
    #[serde(alias = "delay_ms")]
    delay: Option<Number>,
    wait_for: Option<IgnoredAny>,
    priority: Option<f64>,
    strict_priority: Option<i32>,
}

/// Reads one line; its ids name blocks of `block_size` tokens.
pub(super) fn parse(line: &[u8], block_size: u32) -> Result<Record, Problem> {
    let Some(plain) = Plain::scan(line) else { return parse_any(line, block_size) };
    let timestamp_ns = timestamp_ns(&plain.timestamp_ms.into())?;
    let prompt_tokens = number::tokens_of_json("input_length", &plain.input_length.into(), 1)?;
    let output_tokens = number::tokens_of_json("output_length", &plain.output_length.into(), 0)?;
    let used = blocks_used(prompt_tokens, plain.chain.len(), block_size)?;
    let prompt = Prompt {
        tokens: prompt_tokens,
        shared_tokens: prompt_tokens,
        chain: Arc::from(&plain.chain[..used]),
    };
    let (session, strict_priority, priority_jump) = (None, 0, 0.0);
    Ok(Record { timestamp_ns, prompt, output_tokens, session, strict_priority, priority_jump })
}

/// Reads one line with the general parser.
pub(super) fn parse_any(line: &[u8], block_size: u32) -> Result<Record, Problem> {
    let line: Line = serde_json::from_slice(line).map_err(Problem::Json)?;
    let expected =
        "absent, or workload.turns_wait = true: else requests don't wait for one another";
    if let Some(delay) = &line.delay {
        return Err(Problem::field("delay", delay.to_string(), expected));
    }
    if line.wait_for.is_some() {
        return Err(Problem::field("wait_for", "a list".to_owned(), expected));
    }
    if line.timestamp.is_none() {
        return Err(missing("timestamp"));
    }
    record(line, block_size)
}

/// Reads one line of a trace whose requests wait for one another; a turn may lack its timestamp, and is at zero then.
pub(super) fn parse_turn(line: &[u8], block_size: u32) -> Result<Record, Problem> {
    record(serde_json::from_slice(line).map_err(Problem::Json)?, block_size)
}

fn record(line: Line, block_size: u32) -> Result<Record, Problem> {
    let timestamp_ns = line.timestamp.as_ref().map_or(Ok(0), timestamp_ns)?;
    let ids = line.hash_ids.ok_or_else(|| missing("hash_ids"))?;
    let prompt_tokens = match &line.input_length {
        Some(number) => number::tokens_of_json("input_length", number, 1)?,
        None => tokens_covered(&ids, block_size)?,
    };
    let output_length = line.output_length.as_ref().ok_or_else(|| missing("output_length"))?;
    let output_tokens = number::tokens_of_json("output_length", output_length, 0)?;
    let prompt = named_prompt(prompt_tokens, ids, block_size)?;
    Ok(Record {
        timestamp_ns,
        prompt,
        output_tokens,
        session: line.session_id.map(|id| session_number(id.to_string().as_bytes())),
        strict_priority: line.strict_priority.unwrap_or(0),
        priority_jump: line.priority.unwrap_or(0.0),
    })
}

/// A prompt whose blocks have ids; those past its end are ignored.
pub(super) fn named_prompt(tokens: u32, ids: Vec<u64>, block_size: u32) -> Result<Prompt, Problem> {
    let used = blocks_used(tokens, ids.len(), block_size)?;
    Ok(Prompt::named(tokens, ids.into_iter().take(used), 0))
}

/// How many of its ids a prompt fills, the last one perhaps in part.
fn blocks_used(tokens: u32, ids: usize, block_size: u32) -> Result<usize, Problem> {
    let covered = ids as u64 * u64::from(block_size);
    if u64::from(tokens) > covered || tokens == 0 {
        return Err(Problem::Uncovered { ids, block_size, tokens: u64::from(tokens) });
    }
    Ok(tokens.div_ceil(block_size) as usize)
}

/// The number of a session: a hash of its name.
pub(super) fn session_number(name: &[u8]) -> u64 {
    xxh3_64(name)
}

fn missing(name: &str) -> Problem {
    Problem::Missing(name.to_owned())
}

/// The length of a prompt that fills all its blocks.
fn tokens_covered(ids: &[u64], block_size: u32) -> Result<u32, Problem> {
    let tokens = ids.len() as u64 * u64::from(block_size);
    if tokens > TOKENS_MAX {
        let found = format!("a list of {} blocks of {block_size} tokens", ids.len());
        return Err(Problem::field("hash_ids", found, "of at most 2^30 tokens"));
    }
    Ok(tokens as u32)
}

/// A time in ms, as ns.
pub(super) fn timestamp_ns(ms: &Number) -> Result<i64, Problem> {
    let ns = match ms.as_i64() {
        Some(ms) => ms.checked_mul(1_000_000),
        None => {
            ms.as_f64().map(|ms| ms * 1e6).filter(|ns| ns.abs() < 9e18).map(|ns| ns.round() as i64)
        }
    };
    ns.ok_or_else(|| Problem::field("timestamp", ms.to_string(), "a number of milliseconds"))
}
