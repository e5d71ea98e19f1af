//! What can be wrong with the files of a timing table, in sentences for the person who has to mend them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::timing::measured::TableError;

/// A problem, and where it is.
#[derive(Debug)]
pub struct TimingError {
    /// The file or directory.
    pub path: PathBuf,
    /// The line, counted from 1, if it is one line's problem.
    pub line: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum Problem {
    /// It cannot be read.
    Io(io::Error),
    /// It is not there, although the table has a `prefill.csv`.
    Absent,
    /// It is larger than this many bytes.
    TooLarge(u64),
    /// It has no header. These are the columns it has to name.
    Empty(&'static [&'static str]),
    /// Its header lacks a column. These are the columns it has.
    NoColumn(&'static str, Vec<String>),
    /// Two columns have the same name.
    TwoColumns(&'static str),
    /// It is not CSV as it should be.
    Csv(csv::Error),
    /// A row has not as many fields as the header.
    FieldCount {
        /// Fields of the row.
        found: u64,
        /// Columns of the header.
        expected: u64,
    },
    /// A field has a value it cannot have.
    Field {
        /// Its column.
        name: &'static str,
        /// The value found.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The rows together are no table.
    Table(TableError),
    /// The JSON cannot be understood.
    Json(serde_json::Error),
    /// It does not have the name of a table.
    Name,
    /// It exists already.
    Exists,
    /// It is a table with this name already, which has other capitals.
    Capitals(String),
    /// It cannot be written.
    Write(io::Error),
}

impl Problem {
    pub(super) fn at(self, path: &Path) -> TimingError {
        TimingError { path: path.to_owned(), line: None, problem: self }
    }

    pub(super) fn at_line(self, path: &Path, line: u64) -> TimingError {
        TimingError { path: path.to_owned(), line: Some(line), problem: self }
    }
}

impl fmt::Display for TimingError {
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
            Problem::Absent => f.write_str(
                "is missing; a table is made of .prefill.csv, .decode.csv and .other.csv",
            ),
            Problem::TooLarge(bytes) => {
                write!(f, "is larger than {bytes} bytes: not a timing table")
            }
            Problem::Empty(columns) => {
                write!(f, "is empty, but has to start with the columns {}", columns.join(","))
            }
            Problem::NoColumn(name, columns) => {
                let columns: Vec<String> = columns.iter().take(20).map(|name| shown(name)).collect();
                write!(f, "no column is called `{name}`; there are {}", columns.join(", "))
            }
            Problem::TwoColumns(name) => write!(f, "two columns are called `{name}`"),
            Problem::Csv(error) => match error.kind() {
                // Alone it says where, but the line may be one of a comment before.
                csv::ErrorKind::Utf8 { err, .. } => write!(f, "not CSV: {err}"),
                _ => write!(f, "not CSV: {error}"),
            },
            Problem::FieldCount { found, expected } => {
                write!(f, "the row has {found} fields, but the header has {expected}")
            }
            Problem::Field { name, found, expected } => {
                write!(f, "`{name}` is {}, but has to be {expected}", shown(found))
            }
            Problem::Table(error) => write!(f, "{error}"),
            Problem::Json(error) => write!(f, "not the JSON expected here: {error}"),
            Problem::Name => f.write_str(
                "is not the name of a table, which is <gpu>/<model>/<backend>-<version>-tp<k>, such \
                 as h200_sxm/qwen3-32b/vllm-0.12.0-tp2",
            ),
            Problem::Exists => f.write_str("exists already, and is replaced only with --force"),
            Problem::Capitals(name) => write!(
                f,
                "there is {name} already, which is the same name: import it under that one with --as"
            ),
            Problem::Write(error) => write!(f, "cannot be written: {error}"),
        }
    }
}

/// What a message shows of a value: numbers as they are, the rest in quotes, and not too much of it.
fn shown(value: &str) -> String {
    const CHARS_MAX: usize = 60;
    let is_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    match value.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None if !value.is_empty() && value.chars().all(is_number) => value.to_owned(),
        None => format!("{value:?}"),
    }
}

impl std::error::Error for TimingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Io(error) | Problem::Write(error) => Some(error),
            Problem::Csv(error) => Some(error),
            Problem::Table(error) => Some(error),
            Problem::Json(error) => Some(error),
            _ => None,
        }
    }
}
