//! What the terminal shows while several runs go on at once.

use std::io::{self, Write};
use std::time::Instant;

use indicatif::ProgressBar;
use parking_lot::Mutex;

use crate::cli::interrupt;
use crate::cli::progress::{PARTS, PAUSE, line, parts_done};
use crate::experiment::{OnProgress, Watch};

/// Names runs on stderr, shows in one line how far all of them are, and listens to Ctrl-C.
pub(super) struct Crowd {
    quiet: bool,
    bar: Option<ProgressBar>,
    /// How many runs there will be.
    runs: usize,
    count: Mutex<Count>,
}

#[derive(Default)]
struct Count {
    done: usize,
    going_on: usize,
}

impl Crowd {
    /// Shows nothing if `quiet`.
    pub(super) fn new(quiet: bool, runs: usize) -> Crowd {
        let bar = line(quiet, PARTS * runs as u64);
        Crowd { quiet, bar, runs, count: Mutex::default() }
    }

    /// Counts runs that start and end.
    fn count(&self, change: impl FnOnce(&mut Count)) {
        let mut count = self.count.lock();
        change(&mut count);
        if let Some(bar) = &self.bar {
            bar.set_message(message(count.done, self.runs, count.going_on));
        }
    }
}

fn message(done: usize, runs: usize, going_on: usize) -> String {
    format!("{done} of {runs} runs done, {going_on} going on")
}

impl Watch for Crowd {
    fn start(&self, name: &str, requests: Option<u64>) -> Box<OnProgress<'_>> {
        let member = Member::new(self, requests);
        if let Some(bar) = &self.bar {
            // Above the line.
            bar.println(name);
        } else if !self.quiet {
            // Nobody is left to hear of an error on stderr itself.
            let _ = writeln!(io::stderr(), "{name}");
        }
        Box::new(move |_, ended, fraction| {
            member.update(ended, fraction);
            interrupt::poll()
        })
    }
}

/// A run that goes on.
struct Member<'a> {
    crowd: &'a Crowd,
    requests: Option<u64>,
    shown: Mutex<Shown>,
}

/// How far the line says the run is.
struct Shown {
    parts: u64,
    updated: Instant,
}

impl<'a> Member<'a> {
    #[expect(clippy::disallowed_methods, reason = "progress is about wall-clock time")]
    fn new(crowd: &'a Crowd, requests: Option<u64>) -> Member<'a> {
        crowd.count(|count| count.going_on += 1);
        let shown = Shown { parts: 0, updated: Instant::now() };
        Member { crowd, requests, shown: Mutex::new(shown) }
    }

    /// See [`OnProgress`].
    #[expect(clippy::disallowed_methods, reason = "progress is about wall-clock time")]
    fn update(&self, ended: u64, fraction: Option<f64>) {
        let Some(bar) = &self.crowd.bar else { return };
        // One thread at a time is enough, and none waits for another.
        let Some(mut shown) = self.shown.try_lock() else { return };
        let now = Instant::now();
        if now.saturating_duration_since(shown.updated) < PAUSE {
            return;
        }
        shown.updated = now;
        if let Some(parts) = parts_done(ended, self.requests, fraction) {
            bar.inc(parts.saturating_sub(shown.parts));
            shown.parts = shown.parts.max(parts);
        }
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.crowd.bar {
            bar.inc(PARTS - self.shown.get_mut().parts);
        }
        self.crowd.count(|count| {
            count.going_on -= 1;
            count.done += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted() {
        let crowd = Crowd::new(true, 3);
        let counts = || {
            let count = crowd.count.lock();
            (count.done, count.going_on)
        };
        let (first, second) = (crowd.start("first", None), crowd.start("second", Some(9)));
        assert_eq!(counts(), (0, 2));
        drop(first);
        assert_eq!(counts(), (1, 1));
        drop(second);
        assert_eq!(counts(), (2, 0));
        assert_eq!(message(7, 30, 4), "7 of 30 runs done, 4 going on");
    }
}
