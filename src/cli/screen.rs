//! What the terminal shows while an experiment goes on.

use std::io::{self, Write};
use std::ops::ControlFlow;

use crate::cli::interrupt;
use crate::cli::progress::Progress;
use crate::experiment::Watch;
use crate::kernel::Time;

/// Names runs on stderr, shows their progress, and listens to Ctrl-C.
pub(super) struct Screen {
    quiet: bool,
    progress: Option<Progress>,
}

impl Screen {
    /// Shows nothing if `quiet`.
    pub(super) fn new(quiet: bool) -> Screen {
        Screen { quiet, progress: None }
    }

    /// The bar of the last run goes away.
    pub(super) fn clear(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish();
        }
    }
}

impl Watch for Screen {
    fn start(&mut self, name: &str, requests: Option<u64>) {
        self.clear();
        if !self.quiet {
            // Nobody is left to hear of an error on stderr itself.
            let _ = writeln!(io::stderr(), "{name}");
        }
        self.progress = Some(Progress::new(self.quiet, requests));
    }

    fn progress(&self, now: Time, ended: u64, fraction: Option<f64>) -> ControlFlow<()> {
        if let Some(progress) = &self.progress {
            progress.update(now, ended, fraction);
        }
        if interrupt::is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
