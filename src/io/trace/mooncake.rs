//! Mooncake's JSONL: `{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [..]}`.
//!
//! Field names and aliases are those the reference peer accepts. Fields it does not know are ignored.

use serde::Deserialize;
use serde_json::Number;
use xxhash_rust::xxh3::xxh3_64;

use crate::io::trace::error::Problem;
use crate::io::trace::{Record, TOKENS_MAX};
use crate::model::request::Prompt;

#[derive(Deserialize)]
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
    priority: Option<f64>,
    strict_priority: Option<i32>,
}

/// Reads one line; its ids name blocks of `block_size` tokens.
pub(super) fn parse(line: &[u8], block_size: u32) -> Result<Record, Problem> {
    let line: Line = serde_json::from_slice(line).map_err(Problem::Json)?;
    let timestamp_ns = timestamp_ns(line.timestamp.as_ref().ok_or(Problem::Missing("timestamp"))?)?;
    let ids = line.hash_ids.ok_or(Problem::Missing("hash_ids"))?;
    let covered = ids.len() as u64 * u64::from(block_size);
    let prompt_tokens = match &line.input_length {
        Some(number) => tokens("input_length", number, 1)?,
        None => covered,
    };
    let output_length = line.output_length.as_ref().ok_or(Problem::Missing("output_length"))?;
    let output_tokens = tokens("output_length", output_length, 0)? as u32;
    if prompt_tokens > covered || prompt_tokens == 0 {
        return Err(Problem::Uncovered { ids: ids.len(), block_size, tokens: prompt_tokens });
    }
    if let Some(delay) = line.delay {
        let expected = "absent: turns that wait for one another are not supported yet";
        return Err(Problem::Field { name: "delay", found: delay.to_string(), expected });
    }
    let used = prompt_tokens.div_ceil(u64::from(block_size)) as usize;
    Ok(Record {
        timestamp_ns,
        prompt: Prompt::named(prompt_tokens as u32, ids.into_iter().take(used), 0),
        output_tokens,
        session: line.session_id.map(|id| xxh3_64(id.to_string().as_bytes())),
        strict_priority: line.strict_priority.unwrap_or(0),
        priority_jump: line.priority.unwrap_or(0.0),
    })
}

fn timestamp_ns(ms: &Number) -> Result<i64, Problem> {
    let ns = match ms.as_i64() {
        Some(ms) => ms.checked_mul(1_000_000),
        None => {
            ms.as_f64().map(|ms| ms * 1e6).filter(|ns| ns.abs() < 9e18).map(|ns| ns.round() as i64)
        }
    };
    let expected = "a number of milliseconds";
    ns.ok_or_else(|| Problem::Field { name: "timestamp", found: ms.to_string(), expected })
}

fn tokens(name: &'static str, number: &Number, min: u64) -> Result<u64, Problem> {
    let expected =
        if min == 0 { "a whole number from 0 to 2^30" } else { "a whole number from 1 to 2^30" };
    let whole = number.as_u64().filter(|tokens| (min..=TOKENS_MAX).contains(tokens));
    whole.ok_or_else(|| Problem::Field { name, found: number.to_string(), expected })
}
