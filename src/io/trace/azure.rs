//! The Azure LLM inference traces of 2023 and 2024: `TIMESTAMP,ContextTokens,GeneratedTokens`.
//!
//! They name no blocks and no sessions, so no prompt shares anything with another.

use crate::io::trace::columns::Columns;
use crate::io::trace::csv::find;
use crate::io::trace::timestamp::TimestampUnit;

/// The columns of these files.
pub(super) fn columns() -> Columns {
    Columns {
        timestamp: "TIMESTAMP".to_owned(),
        timestamp_unit: TimestampUnit::Datetime,
        input_tokens: "ContextTokens".to_owned(),
        output_tokens: "GeneratedTokens".to_owned(),
        session: None,
        hash_ids: None,
    }
}

/// Whether a header is theirs.
pub(super) fn is_header(header: &[String]) -> bool {
    ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
        .iter()
        .all(|name| find(header, name).is_ok_and(|found| found.is_some()))
}
