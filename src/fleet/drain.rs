//! What takes results out of the recorders while a run goes on, on all its threads.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::fleet::Sink;
use crate::kernel::{Observer, Time};
use crate::model::metrics::Recorder;

/// Passes on rows and progress, from any thread.
pub(super) struct Drain<'a> {
    sink: &'a dyn Sink,
    /// Why the sink could not take a row.
    pub(super) error: Mutex<Option<io::Error>>,
    /// Requests that have ended, over all threads.
    ended: AtomicU64,
    /// The bits of the share of the workload that has arrived; of no number if nobody knows it.
    fraction: AtomicU64,
}

impl Drain<'_> {
    pub(super) fn new(sink: &dyn Sink) -> Drain<'_> {
        Drain {
            sink,
            error: Mutex::new(None),
            ended: AtomicU64::new(0),
            fraction: AtomicU64::new(f64::NAN.to_bits()),
        }
    }

    /// Passes on the rows of a recorder.
    fn drain_rows(&self, recorder: &mut Recorder) -> ControlFlow<()> {
        let taken = recorder.drain_rows(|rows| {
            self.ended.fetch_add(rows.len() as u64, Ordering::Relaxed);
            if rows.is_empty() { Ok(()) } else { self.sink.rows(rows) }
        });
        if let Err(error) = taken {
            self.error.lock().get_or_insert(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Which share of the workload has arrived, whichever thread knows it.
    fn fraction(&self, recorder: &Recorder) -> Option<f64> {
        if let Some(fraction) = recorder.fraction {
            self.fraction.store(fraction.to_bits(), Ordering::Relaxed);
        }
        let fraction = f64::from_bits(self.fraction.load(Ordering::Relaxed));
        (!fraction.is_nan()).then_some(fraction)
    }
}

impl Observer<Recorder> for Drain<'_> {
    fn poll(&self, done: Time, recorder: &mut Recorder) -> ControlFlow<()> {
        self.drain_rows(recorder)?;
        if recorder.halt {
            return ControlFlow::Break(());
        }
        recorder.series.settle(done);
        let ended = self.ended.load(Ordering::Relaxed);
        self.sink.progress(done, ended, self.fraction(recorder))
    }
}
