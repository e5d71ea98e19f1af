//! Why requests of a trace cannot be tied together to sessions.

use std::fmt;

use crate::io::trace::error::Problem;

/// What is wrong with the names by which requests refer to one another. Names are as they are shown in messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkError {
    /// Two requests have the same name.
    SameRequest {
        /// The name.
        name: String,
        /// The line of the first.
        first: u64,
    },
    /// A request waits for one of this name, which the file does not have.
    UnknownRequest(String),
    /// Some requests have an `agent_context`, this one has none.
    MixedSessions,
    /// A session was spawned by one that it has itself spawned, or that has come of that.
    OwnAncestor {
        /// Its name.
        session: String,
        /// The name of its parent.
        parent: String,
    },
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::SameRequest { name, first } => {
                write!(
                    f,
                    "the request {name} was there on line {first}, but names have to be unique"
                )
            }
            LinkError::UnknownRequest(name) => {
                write!(f, "waits for the request {name}, which the file does not have")
            }
            LinkError::MixedSessions => f.write_str(
                "`agent_context` is missing, but other requests have one: all or none have to",
            ),
            LinkError::OwnAncestor { session, parent } => write!(
                f,
                "`parent_session_id` is {parent}, but session {session} cannot come of one that is itself or comes of it"
            ),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<LinkError> for Problem {
    fn from(error: LinkError) -> Problem {
        Problem::Link(error)
    }
}
