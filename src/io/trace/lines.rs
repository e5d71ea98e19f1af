//! Lines of a file, unpacked on the way if it is compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::io::trace::error::{Problem, TraceError};

const BUFFER: usize = 256 * 1024;

/// Longer lines are a mistake: a binary file, or one without line ends.
const LINE_MAX: usize = 64 * 1024 * 1024;

pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    line: Vec<u8>,
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
        let mut file = BufReader::with_capacity(BUFFER, file);
        let magic = file.fill_buf().map_err(|error| Problem::Io(error).at(path))?;
        let reader: Box<dyn BufRead + Send> = match magic {
            [0x1f, 0x8b, ..] => {
                Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file)))
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let decoder = zstd::Decoder::with_buffer(file)
                    .map_err(|error| Problem::Io(error).at(path))?;
                Box::new(BufReader::with_capacity(BUFFER, decoder))
            }
            _ => Box::new(file),
        };
        Ok(Lines { reader, line: Vec::new(), number: 0, position })
    }

    /// Lines of text in memory, for tests.
    #[cfg(test)]
    pub(super) fn from_text(text: &'static str) -> Lines {
        Lines { reader: Box::new(text.as_bytes()), line: Vec::new(), number: 0, position: None }
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

    /// Reads a line; false at the end of the file.
    fn advance(&mut self) -> Result<bool, Problem> {
        self.line.clear();
        let mut limited = self.reader.by_ref().take(LINE_MAX as u64 + 1);
        limited.read_until(b'\n', &mut self.line).map_err(|error| Problem::Io(explain(error)))?;
        if self.line.len() > LINE_MAX {
            return Err(Problem::LineTooLong(LINE_MAX));
        }
        self.number += u64::from(!self.line.is_empty());
        Ok(!self.line.is_empty())
    }

    /// The line read last, without its end.
    fn current(&self) -> &[u8] {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
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
