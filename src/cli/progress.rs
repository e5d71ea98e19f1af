//! How far a run has come, on stderr while somebody watches.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use parking_lot::Mutex;

use crate::kernel::Time;

/// Shorter runs show nothing.
const DELAY: Duration = Duration::from_millis(500);

/// Between two changes of the line.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Parts of the work of a run that the bar tells apart.
pub(super) const PARTS: u64 = 1000;

/// A line that shows so many parts of work, and goes away when it is dropped. Only on a terminal, and not if `quiet`.
pub(super) fn line(quiet: bool, parts: u64) -> Option<ProgressBar> {
    let visible = !quiet && std::io::stderr().is_terminal();
    visible.then(|| {
        let target = ProgressDrawTarget::stderr_with_hz(5);
        let style = ProgressStyle::with_template("{bar:30} {percent} %, {msg}, ETA {eta}");
        ProgressBar::with_draw_target(Some(parts), target)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_finish(ProgressFinish::AndClear)
    })
}

/// The share of a run that is done, in [`PARTS`], if it is known: `ended` of its requests have ended, `fraction` has
/// arrived.
pub(super) fn parts_done(ended: u64, requests: Option<u64>, fraction: Option<f64>) -> Option<u64> {
    let share = requests.map(|requests| ended as f64 / requests as f64).or(fraction);
    share.map(|share| (share.min(1.0) * PARTS as f64) as u64)
}

/// A progress line that appears when a run takes long enough to wonder, and goes away when it is dropped.
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
        let now = Instant::now();
        let bar = line(quiet, PARTS);
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
        if let Some(parts) = parts_done(ended, self.requests, fraction) {
            bar.set_position(parts);
        }
    }
}
