//! Says so when a run has not moved for a while: a handler that never returns, or a source of requests that never comes.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, RecvTimeoutError, Sender};
use parking_lot::Mutex;

use crate::fleet::{Activity, Role};
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
    /// A view into the run, once it has begun.
    activity: Mutex<Option<Activity>>,
}

impl Signs {
    /// What to say of a run that has not moved for so many seconds.
    fn note(&self, seconds: u32, seed: u64) -> String {
        let now = Time::from_ns(self.now.load(Ordering::Relaxed));
        let busy = self.activity.lock().as_ref().map_or_else(Vec::new, Activity::busy);
        let who = match &busy[..] {
            [] => format!("no event is being handled at {now}"),
            [first] => format!("what keeps it is {first}"),
            [first, others @ ..] => format!("at work are {first} and {} others", others.len()),
        };
        // The coordinator asks for requests.
        let why = match &busy[..] {
            [busy] if matches!(busy.role, Role::Balancer | Role::Coordinator { cell: None }) => {
                "requests that do not come, or a bug in fleetsim"
            }
            [] => "a large fleet or many intervals that take their time, or a bug in fleetsim",
            _ => "a bug in fleetsim",
        };
        format!(
            "note: nothing has moved for {seconds} s; {who} of virtual time, seed {seed}: {why}"
        )
    }
}

/// A thread that watches a run until it is dropped.
pub(super) struct Watchdog {
    signs: Arc<Signs>,
    leash: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Watchdog {
    /// Watches a run with this seed, and speaks on stderr.
    pub(super) fn start(seed: u64) -> Watchdog {
        Watchdog::with(seed, TICK, |note| {
            // Nobody is left to hear of an error on stderr itself.
            let _ = writeln!(io::stderr(), "{note}");
        })
    }

    /// Looks after every `tick`, and tells `speak` what it finds.
    fn with(seed: u64, tick: Duration, speak: impl Fn(&str) + Send + 'static) -> Watchdog {
        let signs = Arc::new(Signs::default());
        let (sender, receiver) = channel::bounded::<()>(0);
        let shared = Arc::clone(&signs);
        let watch = move || {
            let mut patience = Patience::default();
            while receiver.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                if let Some(seconds) = patience.look(shared.beats.load(Ordering::Relaxed)) {
                    speak(&shared.note(seconds, seed));
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

    /// The run has begun.
    pub(super) fn watch(&self, activity: Activity) {
        *self.signs.activity.lock() = Some(activity);
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
    use std::ops::ControlFlow;
    use std::sync::atomic::AtomicBool;

    use crossbeam::channel::Receiver;

    use super::*;
    use crate::fleet::{self, Execution, ExecutionOptions, Executor, FleetSpec, Sink, Threads};
    use crate::io::config::Loaded;
    use crate::model::metrics::Row;
    use crate::model::request::{Visible, WorkerId};
    use crate::model::router::Policy;

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

    /// Sends three requests on, and is stuck over the fourth until it is released.
    struct Stuck {
        chosen: u32,
        waits: Arc<AtomicBool>,
        release: Receiver<()>,
    }

    impl Policy for Stuck {
        fn choose(&mut self, _: Visible<'_>) -> WorkerId {
            self.chosen += 1;
            if self.chosen == 4 {
                self.waits.store(true, Ordering::Relaxed);
                self.release.recv().expect("the watchdog speaks");
            }
            WorkerId(0)
        }

        fn joined(&mut self, _: WorkerId) {}

        fn left(&mut self, _: WorkerId) {}
    }

    impl Sink for Watchdog {
        fn rows(&self, _: &[Row]) -> io::Result<()> {
            Ok(())
        }

        fn progress(&self, now: Time, _: u64, _: Option<f64>) -> ControlFlow<()> {
            self.beat(now);
            ControlFlow::Continue(())
        }

        fn watch(&self, activity: Activity) {
            Watchdog::watch(self, activity);
        }
    }

    #[test]
    fn the_watchdog_names_who_is_stuck() {
        let set = |text: &str| ("--set".to_owned(), text.to_owned());
        let overrides = [set("workload.requests=20")];
        let job = Loaded::load(None, &overrides).and_then(|loaded| loaded.resolve()).unwrap();
        for (threads, executor) in [
            (1, Executor::Sequential),
            (1, Executor::Phases),
            (2, Executor::Phases),
            (2, Executor::Clocks),
        ] {
            let mut spec = job.fleet.clone();
            let options =
                ExecutionOptions { executor, oversubscribe: true, ..ExecutionOptions::default() };
            spec.execution = Execution { threads: Threads::Count(threads), pin: false, options };
            let (released, release) = channel::bounded(1);
            let (told, notes) = channel::unbounded();
            let waits = Arc::new(AtomicBool::new(false));
            let stuck = Arc::clone(&waits);
            let watchdog = Watchdog::with(7, Duration::from_millis(1), move |note| {
                if stuck.load(Ordering::Relaxed) {
                    let _ = told.send(note.to_owned());
                    let _ = released.try_send(());
                }
            });
            let source = job.traffic.open(spec.seed).unwrap();
            let policy = |_: &FleetSpec| -> Box<dyn Policy> {
                let (waits, release) = (Arc::clone(&waits), release.clone());
                Box::new(Stuck { chosen: 0, waits, release })
            };
            let outcome = fleet::run(&spec, source, &policy, &watchdog).unwrap();
            assert_eq!(outcome.recorder.totals.arrived, 20);
            let note = notes.recv().unwrap();
            let expected = "what keeps it is the coordinator at ";
            assert!(note.contains(expected) && note.contains("seed 7"), "{note}");
        }
    }
}
