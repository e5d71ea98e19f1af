//! How far a run has come, on stderr while somebody watches.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use parking_lot::Mutex;

use crate::kernel::Time;

/// Shorter runs show nothing.
const DELAY: Duration = Duration::from_millis(500);

/// Between two changes of the line.
const PAUSE: Duration = Duration::from_millis(100);

/// Parts of the work that the bar tells apart.
const PARTS: u64 = 1000;

/// A progress line that appears when a run takes long enough to wonder.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    start: Instant,
    updated: Mutex<Instant>,
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
        Progress { bar, start: now, updated: Mutex::new(now), requests }
    }

    /// The run has come as far as `now`, at its end [`Time::NEVER`], and `ended` requests have ended; `fraction` of the workload has arrived, if that is
    /// known.
    #[expect(clippy::disallowed_methods, reason = "progress is about wall-clock time")]
    pub(super) fn update(&self, now: Time, ended: u64, fraction: Option<f64>) {
        let Some(bar) = &self.bar else { return };
        let wall = Instant::now();
        let elapsed = wall.duration_since(self.start);
        // One thread at a time is enough, and none waits for another.
        let Some(mut updated) = self.updated.try_lock() else { return };
        if elapsed < DELAY || wall.saturating_duration_since(*updated) < PAUSE || now == Time::NEVER
        {
            return;
        }
        *updated = wall;
        let rate = ended as f64 / elapsed.as_secs_f64();
        bar.set_message(format!("{:.0} s of virtual time, {rate:.0} requests/s", now.as_secs()));
        let share = self.requests.map(|requests| ended as f64 / requests as f64);
        if let Some(share) = share.or(fraction) {
            bar.set_position((share.min(1.0) * PARTS as f64) as u64);
        }
    }

    /// Takes the line away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
