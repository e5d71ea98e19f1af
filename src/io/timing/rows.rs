//! Rows of numbers from CSV files with known columns, and where each came from.

use std::path::Path;

use csv::{ErrorKind, Position, StringRecord};

use crate::io::timing::error::{Problem, TimingError};
use crate::model::timing::measured::{COORDINATE_MAX, MS_MAX};

/// A CSV file in memory. Columns may come in any order, and others may stand between them.
pub(super) struct Rows<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    reader: csv::Reader<&'a [u8]>,
    record: StringRecord,
    columns: Vec<Option<usize>>,
    names: &'static [&'static str],
}

impl<'a> Rows<'a> {
    /// Looks for the columns `names`, of which the last `optional` may be missing.
    pub(super) fn new(
        path: &'a Path,
        bytes: &'a [u8],
        names: &'static [&'static str],
        optional: usize,
    ) -> Result<Rows<'a>, TimingError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.trim_ascii().is_empty() {
            return Err(Problem::Empty(names).at(path));
        }
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(bytes);
        let header = reader.headers().map_err(|error| to_error(path, bytes, error))?.clone();
        let line = line_at(bytes, 0);
        let mut columns = Vec::new();
        for (index, &name) in names.iter().enumerate() {
            let mut found = header.iter().enumerate().filter(|(_, column)| *column == name);
            let column = found.next().map(|(column, _)| column);
            if found.next().is_some() {
                return Err(Problem::TwoColumns(name).at_line(path, line));
            }
            if column.is_none() && index + optional < names.len() {
                let columns = header.iter().map(str::to_owned).collect();
                return Err(Problem::NoColumn(name, columns).at_line(path, line));
            }
            columns.push(column);
        }
        Ok(Rows { path, bytes, reader, record: StringRecord::new(), columns, names })
    }

    /// Reads the next row; says whether there was one.
    pub(super) fn next(&mut self) -> Result<bool, TimingError> {
        let read = self.reader.read_record(&mut self.record);
        read.map_err(|error| to_error(self.path, self.bytes, error))
    }

    fn text(&self, column: usize) -> &str {
        self.columns[column].and_then(|column| self.record.get(column)).unwrap_or("")
    }

    fn problem(&self, column: usize, expected: &'static str) -> TimingError {
        let (name, found) = (self.names[column], self.text(column).to_owned());
        let line = line_at(self.bytes, self.record.position().map_or(0, Position::byte));
        Problem::Field { name, found, expected }.at_line(self.path, line)
    }

    /// A number of requests or tokens.
    pub(super) fn count(&self, column: usize) -> Result<u32, TimingError> {
        let value = self.text(column).parse().ok().filter(|&value| value <= COORDINATE_MAX);
        value.ok_or_else(|| self.problem(column, "a whole number up to 67108864"))
    }

    /// Milliseconds.
    pub(super) fn ms(&self, column: usize) -> Result<f64, TimingError> {
        let value = self.text(column).parse().ok();
        match value {
            Some(value) if (0.0..=MS_MAX).contains(&value) => Ok(value),
            Some(value) if value > MS_MAX => {
                Err(self.problem(column, "milliseconds, 0 to 1000000: are units mixed up?"))
            }
            _ => Err(self.problem(column, "milliseconds, 0 to 1000000")),
        }
    }

    /// Milliseconds, or nothing if the field is empty or the column missing.
    pub(super) fn optional_ms(&self, column: usize) -> Result<Option<f64>, TimingError> {
        if self.text(column).is_empty() { Ok(None) } else { self.ms(column).map(Some) }
    }
}

/// The line of the row that the reader found from this byte on: it stands behind blank lines and comments.
fn line_at(bytes: &[u8], byte: u64) -> u64 {
    let mut at = byte as usize;
    loop {
        match bytes.get(at) {
            Some(b'\r' | b'\n') => at += 1,
            Some(b'#') => at += bytes[at..].iter().take_while(|&&byte| byte != b'\n').count(),
            _ => break,
        }
    }
    let is_end = |at: usize| match bytes[at] {
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        byte => byte == b'\n',
    };
    (0..at).filter(|&at| is_end(at)).count() as u64 + 1
}

fn to_error(path: &Path, bytes: &[u8], error: csv::Error) -> TimingError {
    let line = error.position().map(|position| line_at(bytes, position.byte()));
    let problem = match *error.kind() {
        ErrorKind::UnequalLengths { expected_len: expected, len: found, .. } => {
            Problem::FieldCount { found, expected }
        }
        _ => Problem::Csv(error),
    };
    TimingError { path: path.to_owned(), line, problem }
}
