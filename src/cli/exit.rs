//! How the program ends: one sentence on stderr, and an exit code that means something.

use std::any::Any;
use std::fmt;
use std::io::{self, ErrorKind};

use crate::experiment::{Cause, ExperimentError};
use crate::fleet::RunError;
use crate::io::config::ConfigError;
use crate::io::files::OutputError;
use crate::io::timing::{NotFound, Problem as TimingProblem, TimingError};
use crate::io::trace::{Problem, TraceError};

/// Why the program ends early.
#[derive(Debug)]
pub enum Exit {
    /// A bug in the simulator: 1.
    Bug(String),
    /// Wrong arguments or configuration: 2.
    Usage(String),
    /// Bad input: 3.
    Input(String),
    /// Output cannot be written: 4.
    Output(String),
    /// Interrupted by the user: 130.
    Interrupted,
    /// Whoever read stdout has gone: 0.
    ClosedPipe,
}

impl Exit {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Exit::ClosedPipe => 0,
            Exit::Bug(_) => 1,
            Exit::Usage(_) => 2,
            Exit::Input(_) => 3,
            Exit::Output(_) => 4,
            Exit::Interrupted => 130,
        }
    }

    /// What to make of a failure to write to stdout.
    pub(super) fn stdout(error: &io::Error) -> Exit {
        if error.kind() == ErrorKind::BrokenPipe {
            Exit::ClosedPipe
        } else {
            Exit::Output(format!("stdout: cannot be written: {error}"))
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Bug(text) => write!(
                f,
                "error: this is a bug in fleetsim, please report it with your configuration: {text}"
            ),
            Exit::Usage(text) | Exit::Input(text) | Exit::Output(text) => {
                write!(f, "error: {text}")
            }
            Exit::Interrupted => f.write_str("interrupted: no results were kept"),
            Exit::ClosedPipe => Ok(()),
        }
    }
}

impl From<ConfigError> for Exit {
    fn from(error: ConfigError) -> Exit {
        Exit::Usage(error.to_string())
    }
}

impl From<TraceError> for Exit {
    fn from(error: TraceError) -> Exit {
        match &error.problem {
            Problem::Write(io) if io.kind() == ErrorKind::BrokenPipe => Exit::ClosedPipe,
            Problem::Exists | Problem::Write(_) => Exit::Output(error.to_string()),
            _ => Exit::Input(error.to_string()),
        }
    }
}

impl From<TimingError> for Exit {
    fn from(error: TimingError) -> Exit {
        match &error.problem {
            TimingProblem::Exists | TimingProblem::Capitals(_) | TimingProblem::Write(_) => {
                Exit::Output(error.to_string())
            }
            TimingProblem::Name => Exit::Usage(error.to_string()),
            _ => Exit::Input(error.to_string()),
        }
    }
}

impl From<NotFound> for Exit {
    fn from(error: NotFound) -> Exit {
        Exit::Usage(error.to_string())
    }
}

impl From<ExperimentError> for Exit {
    fn from(error: ExperimentError) -> Exit {
        let text = error.to_string();
        let kind = match error.cause {
            Cause::Config(error) => error.into(),
            Cause::Trace(error) => error.into(),
            Cause::Run(error) => error.into(),
            Cause::Option(_) => Exit::Usage(String::new()),
            Cause::NoRequests(_) => Exit::Input(String::new()),
            Cause::Differ(..) => Exit::Bug(String::new()),
            Cause::Output(_) => Exit::Output(String::new()),
        };
        match kind {
            Exit::Bug(_) => Exit::Bug(text),
            Exit::Usage(_) => Exit::Usage(text),
            Exit::Input(_) => Exit::Input(text),
            Exit::Output(_) => Exit::Output(text),
            other @ (Exit::Interrupted | Exit::ClosedPipe) => other,
        }
    }
}

impl From<OutputError> for Exit {
    fn from(error: OutputError) -> Exit {
        Exit::Output(error.to_string())
    }
}

impl From<RunError> for Exit {
    fn from(error: RunError) -> Exit {
        match error {
            RunError::Halted => Exit::Interrupted,
            RunError::Sink(error) => Exit::Output(error.to_string()),
            RunError::Source(error) => Exit::Input(error.to_string()),
            RunError::Endless { .. } | RunError::OutOfTime => Exit::Usage(error.to_string()),
            RunError::LawBroken { .. } | RunError::Panicked { .. } | RunError::Broken { .. } => {
                Exit::Bug(error.to_string())
            }
        }
    }
}

/// Help and version go to stdout and are no errors; everything else is the user's to mend.
pub(super) fn from_clap(error: &clap::Error) -> Result<(), Exit> {
    if error.use_stderr() {
        let text = error.to_string();
        return Err(Exit::Usage(text.trim_start_matches("error: ").trim_end().to_owned()));
    }
    match error.print() {
        Ok(()) => Ok(()),
        Err(error) => Err(Exit::stdout(&error)),
    }
}

/// A panic that nothing caught closer to its cause.
pub fn report_panic(payload: &(dyn Any + Send)) -> Exit {
    let text = payload.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    Exit::Bug(text.unwrap_or_else(|| "a panic without a message".to_owned()))
}
