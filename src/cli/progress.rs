//! How far a run has come, on stderr while somebody watches.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::kernel::Time;
use crate::model::metrics::Recorder;

/// Shorter runs show nothing.
const DELAY: Duration = Duration::from_millis(500);

/// Parts of the work that the bar tells apart.
const PARTS: u64 = 1000;

/// A progress line that appears when a run takes long enough to wonder.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    start: Instant,
    updated: Instant,
    /// How many requests there will be, if it is known.
    requests: Option<u64>,
}

impl Progress {
    /// Shown only on a terminal, and not if `quiet`.
    #[expect(clippy::disallowed_methods, reason = "progress is about wall-clock time")]
    pub(super) fn new(quiet: bool, requests: Option<u64>) -> Progress {
        let visible = !quiet && std::io::stderr().is_terminal();
        let now = Instant::now();
        let bar = visible.then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(5);
            let bar = ProgressBar::with_draw_target(Some(PARTS), target);
            let style = ProgressStyle::with_template("{bar:30} {percent} %, {msg}, ETA {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Progress { bar, start: now, updated: now, requests }
    }

    /// The run has come as far as `now`.
    #[expect(clippy::disallowed_methods, reason = "progress is about wall-clock time")]
    pub(super) fn update(&mut self, now: Time, recorder: &Recorder) {
        let Some(bar) = &self.bar else { return };
        let wall = Instant::now();
        let elapsed = wall.duration_since(self.start);
        if elapsed < DELAY || wall.duration_since(self.updated) < Duration::from_millis(100) {
            return;
        }
        self.updated = wall;
        let totals = &recorder.totals;
        let ended = totals.completed + totals.rejected + totals.aborted;
        let rate = ended as f64 / elapsed.as_secs_f64();
        bar.set_message(format!("{:.0} s of virtual time, {rate:.0} requests/s", now.as_secs()));
        let share = self.requests.map(|requests| ended as f64 / requests as f64);
        if let Some(share) = share.or(recorder.fraction) {
            bar.set_position((share * PARTS as f64) as u64);
        }
    }

    /// Takes the line away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
