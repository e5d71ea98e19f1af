//! What format a trace has, told from its first line.

use std::path::Path;

use crate::io::trace::chunks::CHUNK;
use crate::io::trace::error::{Problem, TraceError, shown};
use crate::io::trace::lines::Lines;
use crate::io::trace::sessions::SCHEMA;
use crate::io::trace::{Format, azure, burstgpt, csv};

/// Whether what is read of a file is gone, so that the next reader would miss it.
pub fn is_pipe(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about| !about.is_file() && !about.is_dir())
}

/// Looks at the first line of a trace.
///
/// Only formats whose lines say what they mean can be told: Mooncake's by its `hash_ids`, Dynamo's by its schema, those of Azure and `BurstGPT`
/// by their headers. Any other has to be named, along with its columns.
///
/// # Errors
/// If the file cannot be read, is empty, or has another format.
pub fn detect(path: &Path) -> Result<Format, TraceError> {
    if is_pipe(path) {
        return Err(Problem::Pipe.at(path));
    }
    let (mut lines, _) = Lines::open(path, CHUNK)?;
    match lines.take_line().map_err(|problem| problem.at(path))? {
        None => Err(Problem::NoRequests { skipped: 0 }.at(path)),
        Some(line) => {
            let format = detect_line(&line);
            format.map_err(|problem| problem.at_line(path, lines.number()))
        }
    }
}

fn detect_line(line: &[u8]) -> Result<Format, Problem> {
    if std::str::from_utf8(line).is_err() {
        return Err(Problem::NotText);
    }
    if line.trim_ascii_start().starts_with(b"{") {
        // Not parsed: what is wrong with a broken line is for the reader to say.
        let names = |text: &[u8]| line.windows(text.len()).any(|window| window == text);
        if names(SCHEMA.as_bytes()) {
            return Ok(Format::Dynamo);
        }
        if names(b"\"hash_ids\"") {
            return Ok(Format::Mooncake);
        }
        return Err(Problem::UnknownFormat(shown(line)));
    }
    if let Some(format) = detect_header(line) {
        return Ok(format);
    }
    for (separator, name) in [(b';', "semicolons"), (b'\t', "tabs")] {
        let with_commas: Vec<u8> =
            line.iter().map(|&byte| if byte == separator { b',' } else { byte }).collect();
        if detect_header(&with_commas).is_some() {
            return Err(Problem::Separator(name));
        }
    }
    Err(Problem::UnknownFormat(shown(line)))
}

fn detect_header(line: &[u8]) -> Option<Format> {
    let header = csv::names(line).ok()?;
    if azure::is_header(&header) {
        Some(Format::Azure)
    } else if burstgpt::is_header(&header) {
        Some(Format::Burstgpt)
    } else {
        None
    }
}
