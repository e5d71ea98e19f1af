//! JSONL traces whose fields are named by the user: one JSON object per line, one request each.
//!
//! The fields are looked for at the top of the object only. Everything else in it is skipped without being kept.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::io::trace::Record;
use crate::io::trace::columns::Columns;
use crate::io::trace::error::{Problem, shown};
use crate::io::trace::mooncake::{named_prompt, session_number};
use crate::io::trace::number;
use crate::io::trace::timestamp::TimestampUnit;
use crate::model::request::Prompt;

/// Reads one line; its ids, if it has any, name blocks of `block_size` tokens.
pub(super) fn parse(line: &[u8], columns: &Columns, block_size: u32) -> Result<Record, Problem> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let line = Fields(columns).deserialize(&mut json).map_err(Problem::Json)?;
    json.end().map_err(Problem::Json)?;
    let timestamp_ns = timestamp_ns(columns, line.timestamp)?;
    let input_tokens = tokens(&columns.input_tokens, line.input_tokens, 1)?;
    let output_tokens = tokens(&columns.output_tokens, line.output_tokens, 0)?;
    let prompt = match &columns.hash_ids {
        Some(name) => {
            let ids = line.hash_ids.ok_or_else(|| Problem::Missing(name.clone()))?;
            named_prompt(input_tokens, ids, block_size)?
        }
        None => Prompt::unique(input_tokens),
    };
    Ok(Record {
        timestamp_ns,
        prompt,
        output_tokens,
        session: line.session.map(|id| session_number(id.to_string().as_bytes())),
        strict_priority: 0,
        priority_jump: 0.0,
    })
}

fn timestamp_ns(columns: &Columns, value: Option<Value>) -> Result<i64, Problem> {
    let (name, unit) = (&columns.timestamp, columns.timestamp_unit);
    match (value, unit) {
        (None, _) => Err(Problem::Missing(name.clone())),
        (Some(Value::Number(number)), _) => unit.read(name, &number.to_string()),
        (Some(Value::String(text)), TimestampUnit::Datetime) => unit.read(name, &text),
        (Some(other), _) => Err(Problem::field(name, shown_json(&other), unit.expected())),
    }
}

fn tokens(name: &str, value: Option<Value>, min: u64) -> Result<u32, Problem> {
    match value {
        None => Err(Problem::Missing(name.to_owned())),
        Some(Value::Number(number)) => number::tokens_of_json(name, &number, min),
        Some(other) => Err(number::refuse(name, shown_json(&other), min)),
    }
}

fn shown_json(value: &Value) -> String {
    match value {
        Value::Bool(_) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => shown_quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null => "null".to_owned(),
    }
}

/// A string that looks like a number is refused because it is a string, so the quotes have to show.
fn shown_quoted(text: &str) -> String {
    let shown = shown(text.as_bytes());
    if shown.starts_with('"') { shown } else { format!("{shown:?}") }
}

/// What a line has of the fields looked for; `null` counts as absent.
#[derive(Default)]
struct Line {
    timestamp: Option<Value>,
    input_tokens: Option<Value>,
    output_tokens: Option<Value>,
    session: Option<Value>,
    hash_ids: Option<Vec<u64>>,
}

/// Picks the named fields out of an object.
struct Fields<'a>(&'a Columns);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Line;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Line, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
        let Fields(columns) = self;
        let mut line = Line::default();
        while let Some(key) = map.next_key::<String>()? {
            if key == columns.timestamp {
                line.timestamp = map.next_value()?;
            } else if key == columns.input_tokens {
                line.input_tokens = map.next_value()?;
            } else if key == columns.output_tokens {
                line.output_tokens = map.next_value()?;
            } else if Some(&key) == columns.session.as_ref() {
                line.session = map.next_value()?;
            } else if Some(&key) == columns.hash_ids.as_ref() {
                line.hash_ids = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(line)
    }
}
