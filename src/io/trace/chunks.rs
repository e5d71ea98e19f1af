//! Chunks of lines made into records, on whatever thread.
//!
//! What a line says is found out here, a chunk at a time; whether it fits the lines before it is for the reader to say,
//! who takes them in order.

use std::vec;

use parking_lot::Mutex;

use crate::io::ahead::Stages;
use crate::io::trace::csv::CsvParser;
use crate::io::trace::error::Problem;
use crate::io::trace::lines::{Chunk, Lines, is_blank};
use crate::io::trace::{Columns, Format, Record, azure, burstgpt, jsonl, mooncake};

/// Bytes of a chunk: parsing takes some 40 µs.
pub(super) const CHUNK: usize = 16 << 10;

/// Buffers kept for later chunks: about as many as there are threads.
const SPARE_MAX: usize = 64;

/// The two stages of reading a trace: to cut off chunks, and to parse them.
pub(super) struct Chunks {
    parser: Parser,
    block_size: u32,
    /// Buffers of chunks that have been parsed.
    spare: Mutex<Vec<Vec<u8>>>,
}

/// A format, and what its parser remembers of the header.
pub(super) enum Parser {
    Mooncake,
    Csv(Box<CsvParser>),
    Jsonl(Columns),
}

/// What the lines of a chunk say.
#[derive(Default)]
pub(super) struct Parsed {
    /// For every line that is not blank: its number in the chunk, counted from 1, and what it says.
    pub(super) lines: vec::IntoIter<(u32, Result<Record, Problem>)>,
    /// How many lines there are, blank ones too.
    pub(super) count: u64,
    /// What keeps the file from being read further.
    pub(super) problem: Option<Problem>,
}

impl Parser {
    pub(super) fn new(format: Format) -> Result<Parser, Problem> {
        match format {
            Format::Mooncake => Ok(Parser::Mooncake),
            Format::Azure => Ok(Parser::csv(azure::columns(), false)),
            Format::Burstgpt => Ok(Parser::csv(burstgpt::columns(), true)),
            Format::Csv(Columns { hash_ids: Some(_), .. }) => Err(Problem::IdsInCsv),
            Format::Csv(columns) => Ok(Parser::csv(columns, false)),
            Format::Jsonl(columns) => Ok(Parser::Jsonl(columns)),
            Format::Dynamo => Err(Problem::NoStream),
        }
    }

    fn csv(columns: Columns, session_may_lack: bool) -> Parser {
        Parser::Csv(Box::new(CsvParser::new(columns, session_may_lack)))
    }
}

impl Chunks {
    /// Ids of blocks name `block_size` tokens.
    pub(super) fn new(parser: Parser, block_size: u32) -> Chunks {
        Chunks { parser, block_size, spare: Mutex::new(Vec::new()) }
    }

    fn parse(&self, chunk: &Chunk) -> Parsed {
        match &self.parser {
            Parser::Mooncake => parse_lines(chunk, |line| mooncake::parse(line, self.block_size)),
            Parser::Csv(csv) => {
                csv.with_splitter(|splitter| parse_lines(chunk, |line| csv.parse(line, splitter)))
            }
            Parser::Jsonl(columns) => {
                parse_lines(chunk, |line| jsonl::parse(line, columns, self.block_size))
            }
        }
    }
}

fn parse_lines(chunk: &Chunk, mut parse: impl FnMut(&[u8]) -> Result<Record, Problem>) -> Parsed {
    let ends = memchr::memchr_iter(b'\n', chunk.text()).count();
    let mut lines = Vec::with_capacity(ends + 1);
    let mut number = 0;
    for line in chunk.lines() {
        number += 1;
        if !is_blank(line) {
            lines.push((number, parse(line)));
        }
    }
    Parsed { lines: lines.into_iter(), count: u64::from(number), problem: None }
}

impl Stages for Chunks {
    type State = Lines;
    type Raw = Chunk;
    type Piece = Parsed;

    fn cut(&self, lines: &mut Lines) -> Option<Chunk> {
        let buffer = self.spare.lock().pop().unwrap_or_default();
        lines.next_chunk(buffer)
    }

    fn finish(&self, chunk: Chunk) -> Parsed {
        let mut parsed = self.parse(&chunk);
        parsed.problem = chunk.problem;
        let mut spare = self.spare.lock();
        // A long line makes a large buffer.
        if spare.len() < SPARE_MAX && chunk.buffer.len() <= CHUNK {
            spare.push(chunk.buffer);
        }
        parsed
    }

    fn size(chunk: &Chunk) -> usize {
        chunk.text().len()
    }
}
