//! What a fleet has to serve: requests that come on their own, or sessions whose calls wait for one another.

use crate::model::session::{Ask, Opening, Plan};
use crate::model::workload::{Source, SourceError};

/// A stream of sessions in order of opening, read one at a time.
pub trait SessionSource: Send {
    /// The next session; nothing after the last.
    ///
    /// # Errors
    /// When they come from a file that is broken.
    fn next_session(&mut self) -> Result<Option<Opening>, SourceError>;

    /// How many bad entries it has left out so far, because it was told to.
    fn skipped(&self) -> u64 {
        0
    }

    /// Which share of itself it has given out, from 0 to 1, if it can tell.
    fn fraction(&self) -> Option<f64> {
        None
    }
}

impl<I: Iterator<Item = Opening> + Send> SessionSource for I {
    fn next_session(&mut self) -> Result<Option<Opening>, SourceError> {
        Ok(self.next())
    }
}

/// What a fleet has to serve.
pub enum Demand {
    /// Requests, each at a time of its own.
    Requests(Box<dyn Source>),
    /// Sessions, whose calls come when those they wait for have completed.
    Sessions(Box<dyn SessionSource>),
}

impl From<Box<dyn Source>> for Demand {
    fn from(source: Box<dyn Source>) -> Demand {
        Demand::Requests(source)
    }
}

impl<S: Source + 'static> From<Box<S>> for Demand {
    fn from(source: Box<S>) -> Demand {
        Demand::Requests(source)
    }
}

/// Every request of a source as a session of one call, so that a client can wait for it.
pub struct SingleCalls(pub Box<dyn Source>);

impl SessionSource for SingleCalls {
    fn next_session(&mut self) -> Result<Option<Opening>, SourceError> {
        let Some(request) = self.0.next_request()? else { return Ok(None) };
        let ask = Ask {
            strict_priority: request.strict_priority,
            priority_jump: request.priority_jump,
            ..Ask::new(request.trace_line, request.prompt, request.output_tokens)
        };
        let (at, name) = (request.arrival, request.session);
        Ok(Some(Opening { at, name, plan: Plan::chain([]), asks: vec![ask] }))
    }

    fn skipped(&self) -> u64 {
        self.0.skipped()
    }

    fn fraction(&self) -> Option<f64> {
        self.0.fraction()
    }
}
