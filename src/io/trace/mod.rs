//! Request traces, read as streams.
//!
//! A [`TraceReader`] turns the lines of a file into requests. What a line means is the business of a [`Format`]; lines are
//! parsed in chunks, which idle threads may do ahead. The reader takes them in order, counts them, checks that time does
//! not run backwards, and moves the first request to time zero. Traces whose requests wait for one another are read
//! whole, by `sessions`. A [`TraceWriter`] writes requests as Mooncake's JSONL.

#[cfg(test)]
mod ahead_tests;
mod azure;
mod burstgpt;
mod chunks;
mod columns;
mod csv;
mod detect;
mod error;
mod jsonl;
mod lines;
mod mooncake;
mod number;
mod plain;
mod sessions;
#[cfg(test)]
mod tests;
mod timestamp;
mod write;

pub use columns::Columns;
pub use detect::{detect, is_pipe};
pub use error::{Problem, TraceError};
pub use sessions::{Contents, LinkError, read_dynamo, read_mooncake_sessions};
pub use timestamp::TimestampUnit;
pub use write::TraceWriter;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::io::ahead::Pipeline;
use crate::io::trace::chunks::{CHUNK, Chunks, Parsed, Parser};
use crate::io::trace::lines::{Lines, Position};
use crate::kernel::Time;
use crate::model::class::ClassId;
use crate::model::request::{Prompt, Request, RequestId, Ticket};
use crate::model::workload::{ReadAhead, Source, SourceError};

/// One request as a line of a trace describes it.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// When it was recorded: ns since whatever the trace counts from.
    pub timestamp_ns: i64,
    /// Its prompt.
    pub prompt: Prompt,
    /// Tokens to generate.
    pub output_tokens: u32,
    /// A number for its session, if it has one.
    pub session: Option<u64>,
    /// See [`Request::strict_priority`].
    pub strict_priority: i32,
    /// See [`Request::priority_jump`].
    pub priority_jump: f64,
}

/// How the lines of a trace are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Format {
    /// Mooncake's JSONL: one request per line, with `hash_ids`.
    Mooncake,
    /// The Azure LLM inference traces of 2023 and 2024, and CSV files with the same columns.
    Azure,
    /// `BurstGPT`, and CSV files with the same columns.
    Burstgpt,
    /// CSV with these columns.
    Csv(Columns),
    /// JSONL with these fields.
    Jsonl(Columns),
    /// Dynamo's request-trace JSONL, version 1. It is in the order of completion, so it cannot be a stream; see
    /// [`read_dynamo`].
    Dynamo,
}

/// How to read a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceOptions {
    /// How its lines are written.
    pub format: Format,
    /// Tokens in a block that one of its ids names.
    pub block_size: u32,
    /// Leave out lines that make no sense, and count them, instead of giving up.
    pub skip_bad_lines: bool,
}

/// A trace being read.
pub struct TraceReader {
    path: PathBuf,
    position: Option<Position>,
    chunks: Arc<Pipeline<Chunks>>,
    /// The chunk being read.
    chunk: Parsed,
    /// How many lines came before it.
    lines_before: u64,
    skip_bad_lines: bool,
    first_ns: Option<i64>,
    last_ns: i64,
    records: u64,
    skipped: u64,
}

impl TraceReader {
    /// Opens a trace; `.gz` and `.zst` are unpacked on the way. Reads the header, if the format has one.
    ///
    /// # Errors
    /// If the file cannot be opened, or has another header than its format asks for.
    pub fn open(path: &Path, options: TraceOptions) -> Result<TraceReader, TraceError> {
        TraceReader::open_in_chunks(path, options, CHUNK)
    }

    /// Reads so many bytes at a time, or a line if that is longer.
    fn open_in_chunks(
        path: &Path,
        options: TraceOptions,
        chunk: usize,
    ) -> Result<TraceReader, TraceError> {
        let TraceOptions { format, block_size, skip_bad_lines } = options;
        let (mut lines, position) = Lines::open(path, chunk)?;
        let mut parser = Parser::new(format).map_err(|problem| problem.at(path))?;
        if let Parser::Csv(parser) = &mut parser {
            match lines.take_line().map_err(|problem| problem.at(path))? {
                Some(header) => parser
                    .read_header(&header)
                    .map_err(|problem| problem.at_line(path, lines.number()))?,
                None => return Err(Problem::NoRequests { skipped: 0 }.at(path)),
            }
        }
        Ok(TraceReader {
            path: path.to_owned(),
            position,
            lines_before: lines.number(),
            chunks: Arc::new(Pipeline::new(Chunks::new(parser, block_size), lines)),
            chunk: Parsed::default(),
            skip_bad_lines,
            first_ns: None,
            last_ns: 0,
            records: 0,
            skipped: 0,
        })
    }

    /// The next request; arrival times count from the first.
    ///
    /// # Errors
    /// If the file is broken, or ends before it had any request.
    pub fn read(&mut self) -> Result<Option<Request>, TraceError> {
        loop {
            let Some((number, parsed)) = self.chunk.lines.next() else {
                if self.next_chunk()? {
                    continue;
                }
                if self.records == 0 {
                    return Err(Problem::NoRequests { skipped: self.skipped }.at(&self.path));
                }
                return Ok(None);
            };
            match parsed.and_then(|record| self.accept(record)) {
                Ok(request) => return Ok(Some(request)),
                Err(_) if self.skip_bad_lines => self.skipped += 1,
                Err(problem) => {
                    let line = self.lines_before + u64::from(number);
                    return Err(problem.at_line(&self.path, line));
                }
            }
        }
    }

    /// Goes on to the next chunk; false at the end of the file.
    fn next_chunk(&mut self) -> Result<bool, TraceError> {
        if let Some(problem) = self.chunk.problem.take() {
            return Err(problem.at(&self.path));
        }
        self.lines_before += std::mem::take(&mut self.chunk.count);
        let next = self.chunks.next();
        let is_there = next.is_some();
        self.chunk = next.unwrap_or_default();
        Ok(is_there)
    }

    fn accept(&mut self, record: Record) -> Result<Request, Problem> {
        let first = *self.first_ns.get_or_insert(record.timestamp_ns);
        if record.timestamp_ns < self.last_ns.max(first) && self.records > 0 {
            let earlier_ns = record.timestamp_ns.saturating_sub(first);
            let later_ns = self.last_ns.saturating_sub(first);
            return Err(Problem::Backwards { earlier_ns, later_ns });
        }
        let arrival_ns = record.timestamp_ns.abs_diff(first);
        if arrival_ns > Time::MAX.as_ns() {
            return Err(Problem::TooLate);
        }
        self.last_ns = record.timestamp_ns;
        let trace_line = self.records;
        self.records += 1;
        Ok(Request {
            id: RequestId(trace_line),
            ticket: Ticket::default(),
            trace_line,
            arrival: Time::from_ns(arrival_ns),
            prompt: record.prompt,
            output_tokens: record.output_tokens,
            session: record.session,
            class: ClassId::default(),
            strict_priority: record.strict_priority,
            priority_jump: record.priority_jump,
        })
    }
}

impl Source for TraceReader {
    fn next_request(&mut self) -> Result<Option<Request>, SourceError> {
        Ok(self.read()?)
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn fraction(&self) -> Option<f64> {
        self.position.as_ref().and_then(Position::fraction)
    }

    fn read_ahead(&self) -> Option<Arc<dyn ReadAhead>> {
        Some(Arc::clone(&self.chunks) as Arc<dyn ReadAhead>)
    }
}
