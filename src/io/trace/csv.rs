//! CSV traces: a header that names the columns, then one request per line.
//!
//! Columns are found by name, in any order and whatever their case; others are ignored. Quotes follow RFC 4180, except
//! that a quoted field cannot have line breaks: a line is a request, so that one bad line cannot swallow the next.

use std::io::{self, Read};

use ::csv::{ByteRecord, Reader, ReaderBuilder, Terminator};
use parking_lot::Mutex;

use crate::io::trace::Record;
use crate::io::trace::columns::Columns;
use crate::io::trace::error::Problem;
use crate::io::trace::mooncake::session_number;
use crate::io::trace::number;
use crate::model::request::Prompt;

/// Reads the lines of one file.
pub(super) struct CsvParser {
    columns: Columns,
    /// Whether the trace is one of a format whose session column not every version has.
    session_may_lack: bool,
    layout: Layout,
    /// Splitters that nobody uses at the moment.
    splitters: Mutex<Vec<Splitter>>,
}

/// Where the columns are, counted from 0.
#[derive(Default)]
struct Layout {
    timestamp: usize,
    input_tokens: usize,
    output_tokens: usize,
    session: Option<usize>,
    count: usize,
}

impl CsvParser {
    /// For a file with these columns. `session_may_lack`: its session column may be absent.
    pub(super) fn new(columns: Columns, session_may_lack: bool) -> CsvParser {
        let (layout, splitters) = (Layout::default(), Mutex::new(Vec::new()));
        CsvParser { columns, session_may_lack, layout, splitters }
    }

    /// Takes the header; has to come before any row.
    pub(super) fn read_header(&mut self, line: &[u8]) -> Result<(), Problem> {
        let header = names(line)?;
        let columns = &self.columns;
        let session = match &columns.session {
            Some(name) if self.session_may_lack => find(&header, name)?,
            Some(name) => Some(require(&header, name)?),
            None => None,
        };
        self.layout = Layout {
            timestamp: require(&header, &columns.timestamp)?,
            input_tokens: require(&header, &columns.input_tokens)?,
            output_tokens: require(&header, &columns.output_tokens)?,
            session,
            count: header.len(),
        };
        Ok(())
    }

    /// Lends out a splitter, which is dear to make and serves one thread at a time.
    pub(super) fn with_splitter<T>(&self, work: impl FnOnce(&mut Splitter) -> T) -> T {
        let idle = self.splitters.lock().pop();
        let mut splitter = idle.unwrap_or_else(Splitter::new);
        let result = work(&mut splitter);
        self.splitters.lock().push(splitter);
        result
    }

    /// Reads a row.
    pub(super) fn parse(&self, line: &[u8], splitter: &mut Splitter) -> Result<Record, Problem> {
        let (columns, layout) = (&self.columns, &self.layout);
        let row = splitter.split(line)?;
        if row.len() != layout.count {
            return Err(Problem::FieldCount { found: row.len(), expected: layout.count });
        }
        let text = |index| String::from_utf8_lossy(row.get(index).unwrap_or_default().trim_ascii());
        let timestamp = columns.timestamp_unit.read(&columns.timestamp, &text(layout.timestamp))?;
        let input = number::tokens_of_text(&columns.input_tokens, &text(layout.input_tokens), 1)?;
        let output =
            number::tokens_of_text(&columns.output_tokens, &text(layout.output_tokens), 0)?;
        let session = layout.session.and_then(|index| row.get(index)).map(<[u8]>::trim_ascii);
        Ok(Record {
            timestamp_ns: timestamp,
            prompt: Prompt::unique(input),
            output_tokens: output,
            session: session.filter(|name| !name.is_empty()).map(session_number),
            strict_priority: 0,
            priority_jump: 0.0,
        })
    }
}

/// The names in a header line, without the white space around them.
pub(super) fn names(line: &[u8]) -> Result<Vec<String>, Problem> {
    let mut splitter = Splitter::new();
    let row = splitter.split(line)?;
    Ok(row.iter().map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned()).collect())
}

/// The column called `name`: exactly so if there is one, otherwise but for case.
pub(super) fn find(header: &[String], name: &str) -> Result<Option<usize>, Problem> {
    let matches = |same: fn(&str, &str) -> bool| {
        let mut found = (0..header.len()).filter(move |&index| same(&header[index], name));
        (found.next(), found.next())
    };
    let found = match matches(|a, b| a == b) {
        (None, _) => matches(str::eq_ignore_ascii_case),
        exact => exact,
    };
    match found {
        (_, Some(_)) => Err(Problem::TwoColumns(name.to_owned())),
        (index, None) => Ok(index),
    }
}

fn require(header: &[String], name: &str) -> Result<usize, Problem> {
    if let Some(index) = find(header, name)? {
        return Ok(index);
    }
    match header {
        [only] if only.contains(';') => Err(Problem::Separator("semicolons")),
        [only] if only.contains('\t') => Err(Problem::Separator("tabs")),
        _ => Err(Problem::NoColumn { name: name.to_owned(), columns: header.to_vec() }),
    }
}

/// Splits lines into fields: a CSV reader that is fed line by line.
pub(super) struct Splitter {
    reader: Reader<Feed>,
    row: ByteRecord,
}

impl Splitter {
    fn new() -> Splitter {
        Splitter { reader: new_reader(), row: ByteRecord::new() }
    }

    /// The fields of a line, which must not be blank.
    fn split(&mut self, line: &[u8]) -> Result<&ByteRecord, Problem> {
        self.reader.get_mut().fill(line);
        let result = self.reader.read_byte_record(&mut self.row);
        // The line break at its end ends the row, unless a quoted field is open and the reader asks for more.
        if self.reader.get_ref().exhausted || result.is_err() {
            self.reader = new_reader();
            return Err(result.err().map_or(Problem::OpenQuote, |error| Problem::Io(error.into())));
        }
        Ok(&self.row)
    }
}

fn new_reader() -> Reader<Feed> {
    ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .terminator(Terminator::Any(b'\n'))
        .from_reader(Feed::default())
}

/// One line and its end, as a file.
#[derive(Default)]
struct Feed {
    bytes: Vec<u8>,
    used: usize,
    /// Somebody wanted to read past the end.
    exhausted: bool,
}

impl Feed {
    fn fill(&mut self, line: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        self.used = 0;
        self.exhausted = false;
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&self.bytes[self.used..]).read(buffer)?;
        self.used += count;
        self.exhausted |= count == 0;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_row() {
        let mut splitter = Splitter::new();
        let long = "x".repeat(20_000);
        let long_row = format!("{long},2");
        let cases: [(&str, &[&str]); 6] = [
            ("a,b", &["a", "b"]),
            ("\"a,\"\"b\",", &["a,\"b", ""]),
            (&long_row, &[&long, "2"]),
            ("a\rb", &["a\rb"]),
            ("\"\"", &[""]),
            (",", &["", ""]),
        ];
        for (line, fields) in cases {
            let row = splitter.split(line.as_bytes()).unwrap();
            assert!(row.iter().eq(fields.iter().map(|field| field.as_bytes())), "{line}: {row:?}");
            // An open quote leaves nothing behind for the next line.
            assert!(matches!(splitter.split(b"1,\"2"), Err(Problem::OpenQuote)));
        }
    }

    #[test]
    fn an_exact_name_comes_first() {
        let header = ["Time", "time", "TOKENS"].map(str::to_owned);
        assert_eq!(find(&header, "time").unwrap(), Some(1));
        assert_eq!(find(&header, "tokens").unwrap(), Some(2));
        assert_eq!(find(&header, "absent").unwrap(), None);
        assert!(matches!(find(&header, "TIME"), Err(Problem::TwoColumns(_))));
    }
}
