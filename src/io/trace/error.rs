//! What can be wrong with a trace, in sentences for the person who has to mend it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A problem, and where it is.
#[derive(Debug)]
pub struct TraceError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, if it is one line's problem.
    pub line: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a trace or a line of it.
#[derive(Debug)]
pub enum Problem {
    /// The file cannot be read or unpacked.
    Io(io::Error),
    /// It is a directory.
    Directory,
    /// It ends without a single request.
    NoRequests {
        /// How many lines were left out.
        skipped: u64,
    },
    /// A line is longer than this many bytes.
    LineTooLong(usize),
    /// A line is not JSON, or not of the shape the format asks for.
    Json(serde_json::Error),
    /// A field is missing.
    Missing(&'static str),
    /// A field has a value it cannot have.
    Field {
        /// Its name.
        name: &'static str,
        /// The value found.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The block ids do not cover the prompt.
    Uncovered {
        /// How many ids there are.
        ids: usize,
        /// Tokens per id.
        block_size: u32,
        /// Tokens of the prompt.
        tokens: u64,
    },
    /// A request is earlier than the one before it. Times count from the first request, ns.
    Backwards {
        /// Its time.
        earlier_ns: i64,
        /// The time of the one before.
        later_ns: i64,
    },
    /// A request is more than 834 days after the first.
    TooLate,
}

impl Problem {
    pub(super) fn at(self, path: &Path) -> TraceError {
        TraceError { path: path.to_owned(), line: None, problem: self }
    }

    pub(super) fn at_line(self, path: &Path, line: u64) -> TraceError {
        TraceError { path: path.to_owned(), line: Some(line), problem: self }
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Io(error) => write!(f, "cannot be read: {error}"),
            Problem::Directory => f.write_str("is a directory, not a trace"),
            Problem::NoRequests { skipped: 0 } => f.write_str("has no requests"),
            Problem::NoRequests { skipped } => {
                write!(f, "has no requests; all {skipped} lines were skipped as bad")
            }
            Problem::LineTooLong(max) => write!(f, "line of more than {max} bytes: not a trace"),
            Problem::Json(error) => write!(f, "not the JSON expected here: {}", json_text(error)),
            Problem::Missing(name) => write!(f, "`{name}` is missing"),
            Problem::Field { name, found, expected } => {
                write!(f, "`{name}` is {found}, but has to be {expected}")
            }
            Problem::Uncovered { ids, block_size, tokens } => write!(
                f,
                "{ids} hash_ids of {block_size} tokens do not cover an input of {tokens} tokens; \
                 is workload.trace_block_size right?"
            ),
            Problem::Backwards { earlier_ns, later_ns } => write!(
                f,
                "time runs backwards: {} s after {} s; sort the trace by timestamp",
                *earlier_ns as f64 / 1e9,
                *later_ns as f64 / 1e9
            ),
            Problem::TooLate => f.write_str("timestamp is more than 834 days after the first"),
        }
    }
}

/// A JSON error without serde's own line number, which is always 1 in a line.
fn json_text(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => format!("{} (column {})", &text[..at], error.column()),
        None => text,
    }
}

impl std::error::Error for TraceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Io(error) => Some(error),
            Problem::Json(error) => Some(error),
            _ => None,
        }
    }
}
