//! What the terminal shows while an experiment goes on, one run after the other.

use std::io::{self, Write};

use crate::cli::interrupt;
use crate::cli::progress::Progress;
use crate::experiment::{OnProgress, Watch};

/// Names runs on stderr, shows their progress, and listens to Ctrl-C.
pub(super) struct Screen {
    quiet: bool,
}

impl Screen {
    /// Shows nothing if `quiet`.
    pub(super) fn new(quiet: bool) -> Screen {
        Screen { quiet }
    }
}

impl Watch for Screen {
    fn start(&self, name: &str, requests: Option<u64>) -> Box<OnProgress<'_>> {
        if !self.quiet {
            // Nobody is left to hear of an error on stderr itself.
            let _ = writeln!(io::stderr(), "{name}");
        }
        let progress = Progress::new(self.quiet, requests);
        Box::new(move |now, ended, fraction| {
            progress.update(now, ended, fraction);
            interrupt::poll()
        })
    }
}
