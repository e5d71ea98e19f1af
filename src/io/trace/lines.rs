//! Lines of a file, unpacked on the way if it is compressed, in chunks of whole ones.
//!
//! Reading is serial. What is made of a chunk need not be, so the lines in it are told apart by whoever parses them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::ops::Range;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::io::trace::error::{Problem, TraceError};

/// Longer lines are a mistake: a binary file, or one without line ends.
const LINE_MAX: usize = 64 << 20;

/// A file on its way into chunks.
pub(super) struct Lines {
    reader: Box<dyn Read + Send>,
    /// Bytes of a chunk, if its lines are not longer.
    chunk: usize,
    /// What was read behind the last chunk.
    unread: Vec<u8>,
    /// Nothing has been taken yet.
    at_start: bool,
    /// The file has been read to its end, or to the problem.
    at_end: bool,
    problem: Option<Problem>,
    /// How many lines were taken one by one.
    number: u64,
}

/// Whole lines of a file.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) buffer: Vec<u8>,
    range: Range<usize>,
    /// What keeps the file from being read further.
    pub(super) problem: Option<Problem>,
}

/// How far a file has been read.
pub(super) struct Position {
    file: File,
    size: u64,
}

impl Position {
    /// Which share of the file has been read, from 0 to 1; a pipe does not tell.
    pub(super) fn fraction(&self) -> Option<f64> {
        let position = { &self.file }.stream_position().ok()?;
        (self.size > 0).then(|| (position as f64 / self.size as f64).min(1.0))
    }
}

impl Lines {
    /// Opens a file to be read in chunks of about so many bytes; its first bytes say whether it is compressed.
    pub(super) fn open(path: &Path, chunk: usize) -> Result<(Lines, Option<Position>), TraceError> {
        let file = File::open(path).map_err(|error| Problem::Io(error).at(path))?;
        let metadata = file.metadata().map_err(|error| Problem::Io(error).at(path))?;
        if metadata.is_dir() {
            return Err(Problem::Directory.at(path));
        }
        let position = file.try_clone().ok().map(|file| Position { file, size: metadata.len() });
        let mut file = BufReader::new(file);
        let magic = file.fill_buf().map_err(|error| Problem::Io(error).at(path))?;
        let reader: Box<dyn Read + Send> = match magic {
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(file)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let decoder = zstd::Decoder::with_buffer(file)
                    .map_err(|error| Problem::Io(error).at(path))?;
                Box::new(decoder)
            }
            _ => Box::new(file),
        };
        Ok((Lines::new(reader, chunk), position))
    }

    pub(super) fn new(reader: Box<dyn Read + Send>, chunk: usize) -> Lines {
        Lines {
            reader,
            chunk,
            unread: Vec::new(),
            at_start: true,
            at_end: false,
            problem: None,
            number: 0,
        }
    }

    /// The next chunk, in this buffer, whatever is in it; nothing after the last.
    pub(super) fn next_chunk(&mut self, mut buffer: Vec<u8>) -> Option<Chunk> {
        let mut filled = self.unread.len();
        if buffer.len() < self.chunk.max(filled) {
            buffer.resize(self.chunk.max(filled), 0);
        }
        buffer[..filled].copy_from_slice(&self.unread);
        let mut searched = 0;
        let end = loop {
            filled += self.fill(&mut buffer[filled..]);
            if let Some(at) = memchr::memrchr(b'\n', &buffer[searched..filled]) {
                break searched + at + 1;
            }
            if self.at_end {
                break 0;
            }
            searched = filled;
            if filled > LINE_MAX {
                self.problem = Some(Problem::LineTooLong(LINE_MAX));
                self.at_end = true;
                break 0;
            }
            buffer.resize((2 * buffer.len()).min(LINE_MAX + 1), 0);
        };
        // The last line need not have an end, but what a problem cuts off is none.
        let end = if self.at_end && self.problem.is_none() { filled } else { end };
        self.unread.clear();
        if !self.at_end {
            self.unread.extend_from_slice(&buffer[end..filled]);
        }
        let problem = self.problem.take();
        if end == 0 && problem.is_none() {
            return None;
        }
        // Spreadsheets put a byte order mark first.
        let mark = b"\xef\xbb\xbf";
        let has_mark = std::mem::take(&mut self.at_start) && buffer[..end].starts_with(mark);
        let start = if has_mark { mark.len() } else { 0 };
        Some(Chunk { buffer, range: start..end, problem })
    }

    /// Fills the buffer as far as the file goes; gives the number of bytes.
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buffer.len() && !self.at_end {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(bytes) => {
                    filled += bytes;
                    self.at_end = bytes == 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.problem = Some(Problem::Io(explain(error)));
                    self.at_end = true;
                }
            }
        }
        filled
    }

    /// Takes off the next line that is not blank, without its end.
    pub(super) fn take_line(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        while let Some(chunk) = self.next_chunk(Vec::new()) {
            let mut lines = chunk.lines();
            while let Some(line) = lines.next() {
                self.number += 1;
                if !is_blank(line) {
                    let line = line.to_vec();
                    let rest = lines.rest;
                    self.unread.splice(..0, rest.iter().copied());
                    self.problem = chunk.problem;
                    return Ok(Some(line));
                }
            }
            if let Some(problem) = chunk.problem {
                return Err(problem);
            }
        }
        Ok(None)
    }

    /// The number of the line taken off last, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Chunk {
    /// Its text.
    pub(super) fn text(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }

    /// Its lines, blank ones too, without their ends.
    pub(super) fn lines(&self) -> Split<'_> {
        Split { rest: self.text() }
    }
}

/// The lines of a text.
pub(super) struct Split<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', self.rest);
        let (line, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.get(1..).unwrap_or_default();
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Whether a line has nothing but white space.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Decoders report a file that stops in the middle in words of their own.
fn explain(error: io::Error) -> io::Error {
    let text = error.to_string();
    if error.kind() == io::ErrorKind::UnexpectedEof || text.contains("incomplete frame") {
        io::Error::new(io::ErrorKind::UnexpectedEof, "the compressed file is truncated")
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\u{feff}a\r\nbc\n \r\n\nd";

    fn lines(chunk: usize) -> Lines {
        Lines::new(Box::new(TEXT.as_bytes()), chunk)
    }

    #[test]
    fn chunks_are_whole_lines() {
        for size in 1..=TEXT.len() + 1 {
            let mut lines = lines(size);
            let mut chunks = Vec::new();
            while let Some(chunk) = lines.next_chunk(vec![b'\n'; 3]) {
                chunks.push(String::from_utf8(chunk.text().to_vec()).unwrap());
            }
            assert_eq!(chunks.concat(), TEXT[3..], "{size}");
            let (_, whole) = chunks.split_last().unwrap();
            assert!(whole.iter().all(|chunk| chunk.ends_with('\n')), "{size}: {chunks:?}");
            assert!(lines.next_chunk(Vec::new()).is_none());
        }
        assert!(Lines::new(Box::new(&b""[..]), 7).next_chunk(Vec::new()).is_none());
    }

    #[test]
    fn ends_of_lines_are_no_part_of_them() {
        let chunk = lines(100).next_chunk(Vec::new()).unwrap();
        assert!(chunk.lines().eq([&b"a"[..], b"bc", b" ", b"", b"d"]));
    }

    #[test]
    fn lines_taken_one_by_one_leave_the_rest() {
        for size in 1..=TEXT.len() + 1 {
            let mut lines = lines(size);
            for (number, line) in [(1, "a"), (2, "bc")] {
                assert_eq!(lines.take_line().unwrap().unwrap(), line.as_bytes());
                assert_eq!(lines.number(), number);
            }
            assert_eq!(lines.take_line().unwrap().unwrap(), b"d");
            assert_eq!(lines.number(), 5);
            assert!(lines.take_line().unwrap().is_none());
        }
    }

    /// What can be read before a problem is read.
    #[test]
    fn a_problem_comes_after_the_lines_before_it() {
        struct Breaks(usize);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let text = &b"a\nbc\nd"[self.0..];
                let count = 2.min(buffer.len()).min(text.len());
                buffer[..count].copy_from_slice(&text[..count]);
                self.0 += count;
                if count == 0 { Err(io::Error::other("broken")) } else { Ok(count) }
            }
        }
        for size in 1..20 {
            let mut lines = Lines::new(Box::new(Breaks(0)), size);
            assert_eq!(lines.take_line().unwrap().unwrap(), b"a");
            let (mut text, mut problem) = (Vec::new(), None);
            while let Some(chunk) = lines.next_chunk(Vec::new()) {
                assert!(problem.is_none());
                text.extend_from_slice(chunk.text());
                problem = chunk.problem;
            }
            assert_eq!(text, b"bc\n", "{size}");
            assert_eq!(problem.unwrap().to_string(), "cannot be read: broken");
        }
    }

    #[test]
    fn a_line_has_a_longest_length() {
        for (length, allowed) in [(LINE_MAX, true), (LINE_MAX + 1, false)] {
            let text = io::Cursor::new(b"a\n").chain(io::repeat(b'x').take(length as u64));
            let mut lines = Lines::new(Box::new(text), 1 << 20);
            assert_eq!(lines.take_line().unwrap().unwrap(), b"a");
            let chunk = lines.next_chunk(Vec::new()).unwrap();
            assert_eq!(chunk.text().len(), if allowed { length } else { 0 });
            assert_eq!(chunk.problem.is_none(), allowed);
            assert!(lines.next_chunk(Vec::new()).is_none());
        }
    }
}
