//! Where the requests of a run come from: a trace or a generator, shaped.

use std::path::PathBuf;

use crate::io::ahead::Ahead;
use crate::io::trace::{self, Format, TraceError, TraceOptions, TraceReader};
use crate::model::workload::generate::{self, GeneratorSpec};
use crate::model::workload::{Shape, Shaped, Source};

/// A source of requests, described but not opened.
#[derive(Clone, PartialEq, Debug)]
pub struct Traffic {
    /// Where requests come from.
    pub origin: Origin,
    /// What is done to them.
    pub shape: Shape,
    /// Tokens in a block that one element of a prompt's chain names.
    pub block_size: u32,
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
        /// Leave out lines that make no sense.
        skip_bad_lines: bool,
    },
    /// See [`generate::toolagent`].
    Toolagent,
    /// See [`generate::conversation`].
    Conversation,
    /// See [`generate::custom`].
    Custom(GeneratorSpec),
}

impl Traffic {
    /// A word for it, fit for a file name.
    pub fn name(&self) -> String {
        match &self.origin {
            Origin::Trace { path, .. } => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.split('.').next().unwrap_or_default().to_owned()
            }
            Origin::Toolagent => "toolagent".to_owned(),
            Origin::Conversation => "conversation".to_owned(),
            Origin::Custom(_) => "custom".to_owned(),
        }
    }

    /// A few words for it.
    pub fn describe(&self) -> String {
        match &self.origin {
            Origin::Trace { path, .. } => path.display().to_string(),
            _ => format!("generated {} traffic", self.name()),
        }
    }

    /// How many requests there will be, if it is known.
    pub fn requests(&self) -> Option<u64> {
        let whole = self.shape.until.is_none() && self.shape.from.as_ns() == 0;
        let requests = match self.origin {
            Origin::Toolagent => Some(generate::TOOLAGENT_REQUESTS),
            Origin::Conversation => Some(generate::CONVERSATION_REQUESTS),
            Origin::Trace { .. } | Origin::Custom(_) => None,
        };
        let requests = requests.filter(|_| whole).map(|all| all * u64::from(self.shape.copies));
        match (requests, self.shape.requests) {
            (Some(requests), Some(limit)) => Some(requests.min(limit)),
            (requests, limit) => requests.or(limit),
        }
    }

    /// The trace, without anything done to it; nothing if requests are generated.
    ///
    /// # Errors
    /// If it cannot be opened, or its format cannot be told.
    pub fn open_trace(&self) -> Result<Option<TraceReader>, TraceError> {
        let Origin::Trace { path, format, skip_bad_lines } = &self.origin else {
            return Ok(None);
        };
        let format = match format {
            Some(format) => format.clone(),
            None => trace::detect(path)?,
        };
        let (block_size, skip_bad_lines) = (self.block_size, *skip_bad_lines);
        TraceReader::open(path, TraceOptions { format, block_size, skip_bad_lines }).map(Some)
    }

    /// Opens the source, which can be read ahead; generators draw from `seed`.
    ///
    /// # Errors
    /// If it is a trace that cannot be opened, or whose format cannot be told.
    pub fn open(&self, seed: u64) -> Result<Box<dyn Source>, TraceError> {
        let as_is = self.shape.changes_nothing();
        let mut source: Box<dyn Source> = match (&self.origin, self.open_trace()?) {
            // It reads ahead by itself.
            (_, Some(trace)) if as_is => return Ok(Box::new(trace)),
            (_, Some(trace)) => Box::new(trace),
            (Origin::Conversation, None) => generate::conversation(seed),
            (Origin::Custom(spec), None) => generate::custom(spec.clone(), seed),
            (_, None) => generate::toolagent(seed),
        };
        if !as_is {
            source = Box::new(Shaped::new(source, self.shape.clone()));
        }
        Ok(Box::new(Ahead::new(source)))
    }
}
