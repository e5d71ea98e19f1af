//! Where the requests of a run come from: a trace or a generator, shaped.

use std::path::PathBuf;

use crate::io::ahead::Ahead;
use crate::io::trace::{self, Contents, Format, TraceError, TraceOptions, TraceReader};
use crate::kernel::Span;
use crate::model::workload::generate::{self, AgentsSpec, GeneratorSpec};
use crate::model::workload::{Demand, SessionSource, Shape, Shaped, ShapedSessions, Source};

/// A source of requests, described but not opened.
#[derive(Clone, PartialEq, Debug)]
pub struct Traffic {
    /// Where requests come from.
    pub origin: Origin,
    /// Whether a turn of a session waits for the one before. Agents and traces of Dynamo's with sessions always do.
    pub turns_wait: bool,
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
    /// See [`generate::custom`], or [`generate::chats`] if turns wait.
    Custom(GeneratorSpec),
    /// See [`generate::agents`].
    Agents(AgentsSpec),
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
            Origin::Custom(_) if self.turns_wait => "chat".to_owned(),
            Origin::Custom(_) => "custom".to_owned(),
            Origin::Agents(_) => "agents".to_owned(),
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
            Origin::Trace { .. } | Origin::Custom(_) | Origin::Agents(_) => None,
        };
        let requests = requests.filter(|_| whole).map(|all| all * u64::from(self.shape.copies));
        match (requests, self.shape.requests) {
            (Some(requests), Some(limit)) => Some(requests.min(limit)),
            (requests, limit) => requests.or(limit),
        }
    }

    /// A time of the run after which no request arrives, if it is known before: not for traces without an end of their
    /// window, nor where calls wait for one another.
    pub fn arrivals_end(&self) -> Option<Span> {
        let Shape { from, until, speedup, copies, copy_spread, .. } = self.shape;
        let length = match &self.origin {
            Origin::Agents(_) => return None,
            Origin::Toolagent | Origin::Conversation => Some(generate::PRESET_LENGTH),
            Origin::Custom(spec) => Some(spec.duration),
            Origin::Trace { .. } => None,
        };
        if self.turns_wait {
            return None;
        }
        let end = length.into_iter().chain(until).min()?;
        let spread = if copies > 1 { copy_spread } else { Span::ZERO };
        let window = end.as_ns().saturating_sub(from.as_ns());
        Some(Span::from_secs_f64(Span::from_ns(window).as_secs() / speedup + spread.as_secs()))
    }

    /// A trace that is read as a stream, without anything done to it; nothing if requests are generated, or wait for one
    /// another.
    ///
    /// # Errors
    /// If it cannot be opened, or its format cannot be told.
    pub fn open_trace(&self) -> Result<Option<TraceReader>, TraceError> {
        let Origin::Trace { path, skip_bad_lines, .. } = &self.origin else { return Ok(None) };
        let format = self.format()?;
        if self.turns_wait || format == Some(Format::Dynamo) {
            return Ok(None);
        }
        let (block_size, skip_bad_lines) = (self.block_size, *skip_bad_lines);
        let options = |format| TraceOptions { format, block_size, skip_bad_lines };
        format.map(|format| TraceReader::open(path, options(format))).transpose()
    }

    /// A trace that has to be read whole, without anything done to it.
    ///
    /// # Errors
    /// If it cannot be read, or a line makes no sense.
    pub fn read_trace(&self) -> Result<Option<Contents>, TraceError> {
        let Origin::Trace { path, skip_bad_lines, .. } = &self.origin else { return Ok(None) };
        let problem = |problem| Err(TraceError { path: path.clone(), line: None, problem });
        let is_whole = |format: &Format| self.turns_wait || *format == Format::Dynamo;
        let format = self.format()?.filter(is_whole);
        if format.is_some() && *skip_bad_lines {
            return problem(trace::Problem::NoSkipping);
        }
        match format {
            None => Ok(None),
            Some(Format::Dynamo) => trace::read_dynamo(path, self.block_size).map(Some),
            Some(Format::Mooncake) => {
                let openings = trace::read_mooncake_sessions(path, self.block_size)?;
                Ok(Some(Contents::Sessions(openings)))
            }
            Some(_) => problem(trace::Problem::NoTurns),
        }
    }

    /// That it can be opened more than once.
    ///
    /// # Errors
    /// If it is a trace that comes through a pipe.
    pub fn check_repeatable(&self) -> Result<(), TraceError> {
        match &self.origin {
            Origin::Trace { path, .. } if trace::is_pipe(path) => {
                Err(TraceError { path: path.clone(), line: None, problem: trace::Problem::Once })
            }
            _ => Ok(()),
        }
    }

    /// How the trace is written, if there is one.
    fn format(&self) -> Result<Option<Format>, TraceError> {
        match &self.origin {
            Origin::Trace { format: Some(format), .. } => Ok(Some(format.clone())),
            Origin::Trace { path, format: None, .. } => trace::detect(path).map(Some),
            _ => Ok(None),
        }
    }

    /// Opens the source; generators draw from `seed`.
    ///
    /// # Errors
    /// If it is a trace that cannot be opened or, if it has to be read whole, makes no sense.
    pub fn open(&self, seed: u64) -> Result<Demand, TraceError> {
        let sessions: Box<dyn SessionSource> = match (&self.origin, self.read_trace()?) {
            (_, Some(Contents::Requests(requests))) => {
                return Ok(Demand::Requests(self.ahead(Box::new(requests.into_iter()))));
            }
            (_, Some(Contents::Sessions(openings))) => Box::new(openings.into_iter()),
            (Origin::Custom(spec), None) if self.turns_wait => generate::chats(spec.clone(), seed),
            (Origin::Agents(spec), None) => generate::agents(spec.clone(), seed),
            _ => return self.open_stream(seed).map(Demand::Requests),
        };
        if self.shape.changes_nothing() {
            return Ok(Demand::Sessions(sessions));
        }
        Ok(Demand::Sessions(Box::new(ShapedSessions::new(sessions, self.shape.clone()))))
    }

    /// Requests that wait for nobody, which can be read ahead.
    fn open_stream(&self, seed: u64) -> Result<Box<dyn Source>, TraceError> {
        let source: Box<dyn Source> = match (&self.origin, self.open_trace()?) {
            // It reads ahead by itself.
            (_, Some(trace)) if self.shape.changes_nothing() => return Ok(Box::new(trace)),
            (_, Some(trace)) => Box::new(trace),
            (Origin::Conversation, None) => generate::conversation(seed),
            (Origin::Custom(spec), None) => generate::custom(spec.clone(), seed),
            (_, None) => generate::toolagent(seed),
        };
        Ok(self.ahead(source))
    }

    fn ahead(&self, source: Box<dyn Source>) -> Box<dyn Source> {
        if self.shape.changes_nothing() {
            return Box::new(Ahead::new(source));
        }
        Box::new(Ahead::new(Box::new(Shaped::new(source, self.shape.clone()))))
    }
}
