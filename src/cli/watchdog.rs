//! Says so when a run has not moved for a while: a handler that never returns, or a source of requests that never comes.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, RecvTimeoutError, Sender};

use crate::kernel::Time;

/// How often the watchdog looks.
const TICK: Duration = Duration::from_secs(1);
/// After so many looks at a run that does not move it speaks, and again after so many more.
const FIRST: u32 = 10;
const AGAIN: u32 = 60;

/// What a run tells its watchdog.
#[derive(Default)]
struct Signs {
    beats: AtomicU64,
    /// How far the run has come, ns.
    now: AtomicU64,
}

/// A thread that watches a run until it is dropped.
pub(super) struct Watchdog {
    signs: Arc<Signs>,
    leash: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Watchdog {
    /// Watches a run with this seed, and speaks on stderr.
    pub(super) fn start(seed: u64) -> Watchdog {
        let signs = Arc::new(Signs::default());
        let (sender, receiver) = channel::bounded::<()>(0);
        let shared = Arc::clone(&signs);
        let watch = move || {
            let mut patience = Patience::default();
            while receiver.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if let Some(seconds) = patience.look(shared.beats.load(Ordering::Relaxed)) {
                    let now = Time::from_ns(shared.now.load(Ordering::Relaxed));
                    // Nobody is left to hear of an error on stderr itself.
                    let _ = writeln!(
                        io::stderr(),
                        "note: nothing has moved for {seconds} s, at {now} of virtual time, seed {seed}: requests that \
                         do not come, or a bug in fleetsim"
                    );
                }
            }
        };
        // A run does not need its watchdog.
        let watcher = thread::Builder::new().name("watchdog".to_owned()).spawn(watch);
        Watchdog { signs, leash: watcher.ok().map(|watcher| (sender, watcher)) }
    }

    /// The run moves, and has come as far as `now`.
    pub(super) fn beat(&self, now: Time) {
        self.signs.beats.fetch_add(1, Ordering::Relaxed);
        if now < Time::NEVER {
            self.signs.now.store(now.as_ns(), Ordering::Relaxed);
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some((sender, watcher)) = self.leash.take() {
            drop(sender);
            // It has nothing to say any more, a panic included.
            let _ = watcher.join();
        }
    }
}

/// How long a run has not moved.
#[derive(Default)]
struct Patience {
    beats: u64,
    looks: u32,
}

impl Patience {
    /// One look. Says for how many seconds nothing has moved when it is time to speak.
    fn look(&mut self, beats: u64) -> Option<u32> {
        if beats != self.beats {
            *self = Patience { beats, looks: 0 };
            return None;
        }
        self.looks += 1;
        let is_time = self.looks >= FIRST && (self.looks - FIRST).is_multiple_of(AGAIN);
        is_time.then_some(self.looks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_speaks_after_ten_seconds_and_then_every_minute() {
        let mut patience = Patience::default();
        let mut spoken = Vec::new();
        for second in 1..=200 {
            // The run moves until second 20, and again at second 150.
            let beats = if second < 20 { second } else { 20 + u64::from(second >= 150) };
            spoken.extend(patience.look(beats).map(|seconds| (second, seconds)));
        }
        assert_eq!(spoken, [(30, 10), (90, 70), (160, 10)]);
    }
}
