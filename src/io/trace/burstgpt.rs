//! `BurstGPT`: `Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type`.
//!
//! Timestamps are seconds since midnight of the first day. Some versions lack `Session ID` and `Elapsed time`;
//! rows that leave the session empty belong to none.
//!
//! Rows with 0 response tokens are requests that failed. They are kept, with an output of 0 tokens: they reached the
//! service and were part of its load, and an engine ends them after their prefill, without a token. Files
//! without them are published beside these (`BurstGPT_without_fails`).

use crate::io::trace::columns::Columns;
use crate::io::trace::csv::find;
use crate::io::trace::timestamp::TimestampUnit;

/// The columns of these files; the one of the session may be absent.
pub(super) fn columns() -> Columns {
    Columns {
        timestamp: "Timestamp".to_owned(),
        timestamp_unit: TimestampUnit::S,
        input_tokens: "Request tokens".to_owned(),
        output_tokens: "Response tokens".to_owned(),
        session: Some("Session ID".to_owned()),
        hash_ids: None,
    }
}

/// Whether a header is theirs.
pub(super) fn is_header(header: &[String]) -> bool {
    ["Timestamp", "Request tokens", "Response tokens"]
        .iter()
        .all(|name| find(header, name).is_ok_and(|found| found.is_some()))
}
