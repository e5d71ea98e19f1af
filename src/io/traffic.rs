//! Where the requests of a run come from: a trace or a generator, shaped.

use std::path::PathBuf;

use crate::io::trace::{Format, TraceError, TraceOptions, TraceReader};
use crate::model::workload::{Shape, Shaped, Source};

/// A source of requests, described but not opened.
#[derive(Clone, PartialEq, Debug)]
pub struct Traffic {
    /// Where requests come from.
    pub origin: Origin,
    /// What is done to them.
    pub shape: Shape,
}

/// Where requests come from.
#[derive(Clone, PartialEq, Debug)]
pub enum Origin {
    /// A trace.
    Trace {
        /// The file.
        path: PathBuf,
        /// How it is written; found out from the file if absent.
        format: Option<Format>,
        /// Tokens in a block that one of its ids names.
        block_size: u32,
        /// Leave out lines that make no sense.
        skip_bad_lines: bool,
    },
}

impl Traffic {
    /// A word for it, fit for a file name.
    pub fn name(&self) -> String {
        match &self.origin {
            Origin::Trace { path, .. } => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.split('.').next().unwrap_or_default().to_owned()
            }
        }
    }

    /// A few words for it.
    pub fn describe(&self) -> String {
        match &self.origin {
            Origin::Trace { path, .. } => path.display().to_string(),
        }
    }

    /// How many requests there will be, if it is known.
    pub fn requests(&self) -> Option<u64> {
        self.shape.requests
    }

    /// Opens the source.
    ///
    /// # Errors
    /// If it is a file that cannot be opened, or whose format cannot be told.
    pub fn open(&self, _seed: u64) -> Result<Box<dyn Source>, TraceError> {
        let source: Box<dyn Source> = match &self.origin {
            Origin::Trace { path, format, block_size, skip_bad_lines } => {
                let format = format.unwrap_or(Format::Mooncake);
                let (block_size, skip_bad_lines) = (*block_size, *skip_bad_lines);
                let options = TraceOptions { format, block_size, skip_bad_lines };
                Box::new(TraceReader::open(path, options)?)
            }
        };
        if self.shape == Shape::default() {
            return Ok(source);
        }
        Ok(Box::new(Shaped::new(source, self.shape.clone())))
    }
}
