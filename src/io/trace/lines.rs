//! Lines of a file, unpacked on the way if it is compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::ops::Range;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::io::trace::error::{Problem, TraceError};

const BUFFER: usize = 64 * 1024;

/// Longer lines are a mistake: a binary file, or one without line ends.
const LINE_MAX: usize = 64 * 1024 * 1024;

pub(super) struct Lines {
    reader: Box<dyn Read + Send>,
    /// What has been read, `line` in front of `unread`.
    buffer: Vec<u8>,
    line: Range<usize>,
    unread: Range<usize>,
    number: u64,
    /// The file again, to ask how far it has been read, and its size.
    position: Option<(File, u64)>,
}

impl Lines {
    /// Opens a file; its first bytes say whether it is compressed.
    pub(super) fn open(path: &Path) -> Result<Lines, TraceError> {
        let file = File::open(path).map_err(|error| Problem::Io(error).at(path))?;
        let metadata = file.metadata().map_err(|error| Problem::Io(error).at(path))?;
        if metadata.is_dir() {
            return Err(Problem::Directory.at(path));
        }
        let position = file.try_clone().ok().map(|file| (file, metadata.len()));
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
        Ok(Lines::new(reader, position))
    }

    fn new(reader: Box<dyn Read + Send>, position: Option<(File, u64)>) -> Lines {
        Lines { reader, buffer: vec![0; BUFFER], line: 0..0, unread: 0..0, number: 0, position }
    }

    /// Lines of text in memory, for tests.
    #[cfg(test)]
    pub(super) fn from_text(text: &'static str) -> Lines {
        Lines { buffer: vec![0; 3], ..Lines::new(Box::new(text.as_bytes()), None) }
    }

    /// Which share of the file has been read, from 0 to 1; a pipe does not tell.
    pub(super) fn fraction(&self) -> Option<f64> {
        let (file, size) = self.position.as_ref().filter(|(_, size)| *size > 0)?;
        let position = { file }.stream_position().ok()?;
        Some((position as f64 / *size as f64).min(1.0))
    }

    /// The next line that is not blank, without its end.
    pub(super) fn next_line(&mut self) -> Result<Option<&[u8]>, Problem> {
        while self.advance()? {
            if !self.current().iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(self.current()));
            }
        }
        Ok(None)
    }

    /// Finds the next line; false at the end of the file.
    fn advance(&mut self) -> Result<bool, Problem> {
        let mut searched = 0;
        loop {
            let unread = &self.buffer[self.unread.clone()];
            if let Some(at) = memchr::memchr(b'\n', &unread[searched..]) {
                self.take_line(searched + at, 1);
                return Ok(true);
            }
            searched = unread.len();
            if searched > LINE_MAX {
                return Err(Problem::LineTooLong(LINE_MAX));
            }
            if self.read_more()? == 0 {
                self.take_line(searched, 0);
                return Ok(searched > 0);
            }
        }
    }

    /// Makes the first `length` unread bytes the current line and passes over what ends it.
    fn take_line(&mut self, length: usize, end: usize) {
        let start = self.unread.start;
        self.line = start..start + length;
        self.unread.start += length + end;
        self.number += u64::from(length + end > 0);
    }

    /// Reads what fits behind the unread bytes, which move to the front of a buffer that grows when they fill it.
    fn read_more(&mut self) -> Result<usize, Problem> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == self.buffer.len() {
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.unread.end..]) {
                Ok(bytes) => {
                    self.unread.end += bytes;
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Problem::Io(explain(error))),
            }
        }
    }

    /// The line found last, without its end.
    fn current(&self) -> &[u8] {
        let line = &self.buffer[self.line.clone()];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 {
            // Spreadsheets put a byte order mark first.
            return line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        line
    }

    /// The number of the last line, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
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

    #[test]
    fn line_ends_and_blank_lines_are_left_out() {
        let mut lines = Lines::from_text("\u{feff}a\r\nbc\n \r\n\nd");
        for (number, expected) in [(1, "a"), (2, "bc"), (5, "d")] {
            assert_eq!(lines.next_line().unwrap(), Some(expected.as_bytes()));
            assert_eq!(lines.number(), number);
        }
        assert!(lines.next_line().unwrap().is_none());
    }
}
