//! What can be wrong with a trace, in sentences for the person who has to mend it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::io::trace::sessions::LinkError;
use crate::model::session::PlanError;

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
    Missing(String),
    /// The header lacks a column.
    NoColumn {
        /// The column looked for.
        name: String,
        /// The columns there are.
        columns: Vec<String>,
    },
    /// Two columns have the name looked for.
    TwoColumns(String),
    /// The columns are separated by something else than commas: its name, in the plural.
    Separator(&'static str),
    /// A row has not as many fields as the header.
    FieldCount {
        /// Fields of the row.
        found: usize,
        /// Columns of the header.
        expected: usize,
    },
    /// A quoted field is not closed on its line.
    OpenQuote,
    /// The format is not in order of arrival, so it cannot be read as a stream.
    NoStream,
    /// Lines are to be left out of a trace that has to be whole.
    NoSkipping,
    /// Turns are to wait for one another, but the format does not say for what.
    NoTurns,
    /// The format is to be told from the first line of a pipe.
    Pipe,
    /// A pipe is to be read more than once.
    Once,
    /// Block ids are asked for in a CSV file.
    IdsInCsv,
    /// The first line, shown here, belongs to no format that can be told from it.
    UnknownFormat(String),
    /// The first line is not text, packed or not.
    NotText,
    /// The file to write exists already.
    Exists,
    /// The file cannot be written.
    Write(io::Error),
    /// A field has a value it cannot have.
    Field {
        /// Its name.
        name: String,
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
    /// The ids of a trace name blocks of another size than the configuration says.
    BlockSize {
        /// Tokens per id in the trace.
        found: u64,
        /// Tokens per id in the configuration.
        configured: u32,
    },
    /// A request is earlier than the one before it. Times count from the first request, ns.
    Backwards {
        /// Its time.
        earlier_ns: i64,
        /// The time of the one before.
        later_ns: i64,
    },
    /// Requests wait for one another in a way that leads nowhere. Calls are named by their lines.
    Plan(PlanError),
    /// Requests of sessions cannot be tied together.
    Link(LinkError),
    /// A request is more than 834 days after the first.
    TooLate,
}

impl Problem {
    /// The field `name` has a value it cannot have.
    pub(super) fn field(name: &str, found: String, expected: &'static str) -> Problem {
        Problem::Field { name: name.to_owned(), found, expected }
    }

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

const NOT_TEXT: &str =
    "not text, but a trace has to be lines of UTF-8, plain or packed with gzip or zstd";

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
            Problem::NoColumn { name, columns } => {
                write!(f, "no column is called `{name}`; there {}", column_list(columns))
            }
            Problem::TwoColumns(name) => write!(f, "two columns are called `{name}`"),
            Problem::Separator(found) => {
                write!(f, "the columns are separated by {found}, but have to be by commas")
            }
            Problem::FieldCount { found, expected } => {
                write!(f, "the row has {found} fields, but the header has {expected}")
            }
            Problem::OpenQuote => {
                f.write_str("a quoted field does not end on its line, but has to: no line breaks")
            }
            Problem::IdsInCsv => f.write_str(
                "block ids can be read from JSONL only; leave out workload.columns.hash_ids",
            ),
            Problem::UnknownFormat(line) => write!(
                f,
                "the first line, {line}, belongs to no known trace; set workload.format to csv or \
                 jsonl and name the fields in workload.columns"
            ),
            Problem::NotText => f.write_str(NOT_TEXT),
            Problem::Exists => f.write_str("exists already, and is overwritten only if forced"),
            Problem::Write(error) => write!(f, "cannot be written: {error}"),
            Problem::Field { name, found, expected } => {
                write!(f, "`{name}` is {found}, but has to be {expected}")
            }
            Problem::Uncovered { ids, block_size, tokens } => write!(
                f,
                "{ids} hash_ids of {block_size} tokens do not cover an input of {tokens} tokens; \
                 is workload.trace_block_size right?"
            ),
            Problem::BlockSize { found, configured } => write!(
                f,
                "`trace_block_size` is {found}, but has to be what workload.trace_block_size is, {configured}; set that to \
                 {found}"
            ),
            Problem::Backwards { earlier_ns, later_ns } => write!(
                f,
                "time runs backwards: {} s after {} s; sort the trace by timestamp",
                *earlier_ns as f64 / 1e9,
                *later_ns as f64 / 1e9
            ),
            Problem::NoStream => f.write_str("is in order of completion, so it is no stream of arrivals"),
            Problem::NoSkipping => f.write_str(
                "requests that wait for one another need every line: workload.skip_bad_lines has to be false",
            ),
            Problem::Pipe => f.write_str(
                "is no file that can be read twice, so its format cannot be told: say workload.format (--format)",
            ),
            Problem::Once => f.write_str("is no file that can be read more than once, which this needs"),
            Problem::NoTurns => f.write_str(
                "workload.turns_wait = true is for traces in Mooncake's format (and Dynamo's, which need it not)",
            ),
            Problem::Plan(error) => write!(f, "{error} (calls are named by their lines)"),
            Problem::Link(error) => write!(f, "{error}"),
            Problem::TooLate => f.write_str("timestamp is more than 834 days after the first"),
        }
    }
}

/// What a message shows of a value found in a file: numbers as they are, the rest in quotes, and not too much of it.
pub(super) fn shown(value: &[u8]) -> String {
    const CHARS_MAX: usize = 60;
    let start = &value[..value.len().min(4 * CHARS_MAX)];
    let text = String::from_utf8_lossy(start);
    if !text.is_empty() && text.len() <= CHARS_MAX && text.bytes().all(is_of_number) {
        return text.into_owned();
    }
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || b"+-.eE".contains(&byte)
}

/// The columns after "there"; a header of garbage can be long.
fn column_list(columns: &[String]) -> String {
    const COLUMNS_MAX: usize = 20;
    let names: Vec<_> =
        columns.iter().take(COLUMNS_MAX).map(|name| shown(name.as_bytes())).collect();
    let verb = if columns.len() == 1 { "is" } else { "are" };
    let more = if columns.len() > COLUMNS_MAX { ", …" } else { "" };
    format!("{verb} {}{more}", names.join(", "))
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
            Problem::Io(error) | Problem::Write(error) => Some(error),
            Problem::Json(error) => Some(error),
            _ => None,
        }
    }
}
