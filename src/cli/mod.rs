//! The command line: parse, call, print.

mod args;
mod catalog;
mod crowd;
mod exit;
mod interrupt;
mod progress;
mod run;
mod scaling;
mod screen;
mod sweep;
mod timing;
mod trace;
mod watchdog;

pub use exit::{Exit, report_panic};

use std::ffi::OsString;

use clap::Parser;

use crate::cli::args::{Args, Command, RunOptions};

/// Does what the arguments say.
///
/// # Errors
/// One sentence for the user, with the exit code that goes with it.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Result<(), Exit> {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return exit::from_clap(&error),
    };
    match args.command {
        None => run::run(&RunOptions::default()),
        Some(Command::Run(options)) => run::run(&options),
        Some(Command::Sweep(options)) => sweep::sweep(&options),
        Some(Command::Scaling(options)) => scaling::scaling(&options),
        Some(Command::Catalog(options)) => catalog::catalog(&options),
        Some(Command::Trace(command)) => trace::trace(&command),
        Some(Command::Timing(command)) => timing::timing(&command),
    }
}
