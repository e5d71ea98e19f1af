//! How the columns of a CSV trace, or the fields of a JSONL trace, are called.

use crate::io::trace::timestamp::TimestampUnit;

/// Where in a line to find what.
///
/// Names of CSV columns match whatever their case, names of JSON fields exactly. Other columns and fields are ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Columns {
    /// When a request arrived.
    pub timestamp: String,
    /// What the timestamp counts.
    pub timestamp_unit: TimestampUnit,
    /// Tokens of the prompt: from 1 to 2^30.
    pub input_tokens: String,
    /// Tokens to generate: from 0 to 2^30.
    pub output_tokens: String,
    /// The session, if the trace has one; requests that leave it empty belong to none.
    pub session: Option<String>,
    /// The ids of the prompt's blocks, if a JSONL trace has them. Without, no prompt shares anything with another.
    pub hash_ids: Option<String>,
}
