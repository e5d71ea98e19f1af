//! Where requests come from.

mod demand;
pub mod generate;
mod shape;
mod shape_sessions;
mod stats;

pub use demand::{Demand, SessionSource, SingleCalls};
pub use shape::{Shape, Shaped, TooLate};
pub use shape_sessions::ShapedSessions;
pub use stats::{Figures, TraceStats, TraceSummary};

use std::error::Error;
use std::sync::Arc;

use crate::model::request::Request;

/// Why a source cannot go on.
pub type SourceError = Box<dyn Error + Send + Sync>;

/// A stream of requests in order of arrival, read one at a time so that memory does not grow with its length.
pub trait Source: Send {
    /// The next request; nothing after the last. Its number is given by the reader.
    ///
    /// # Errors
    /// When the requests come from a file that is broken or out of order.
    fn next_request(&mut self) -> Result<Option<Request>, SourceError>;

    /// How many bad entries it has left out so far, because it was told to.
    fn skipped(&self) -> u64 {
        0
    }

    /// Which share of itself it has given out, from 0 to 1, if it can tell.
    fn fraction(&self) -> Option<f64> {
        None
    }

    /// A hand to read ahead with, if others may share in the reading.
    fn read_ahead(&self) -> Option<Arc<dyn ReadAhead>> {
        None
    }
}

/// Prepares requests before they are asked for. Which requests come, and in which order, does not depend on it.
pub trait ReadAhead: Send + Sync {
    /// Does a piece of the work, some 5 to 100 µs of it; false if enough is prepared, or somebody else is at it.
    fn advance(&self) -> bool;
}

impl<I: Iterator<Item = Request> + Send> Source for I {
    fn next_request(&mut self) -> Result<Option<Request>, SourceError> {
        Ok(self.next())
    }
}
