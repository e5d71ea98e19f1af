//! What takes results out of the recorders while a run goes on, on all its threads.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::fleet::layout::Layout;
use crate::fleet::{Activity, FleetSpec, Sink};
use crate::kernel::{self, Observer, Time};
use crate::model::metrics::{Collector, Recorder, Series};

/// Passes on rows and progress, from any thread.
pub(super) struct Drain<'a> {
    sink: &'a dyn Sink,
    layout: Layout,
    /// Why the sink could not take a row.
    error: Mutex<Option<io::Error>>,
    /// The time series of the run.
    collector: Mutex<Collector>,
    /// Requests that have ended, over all threads.
    ended: AtomicU64,
    /// The bits of the share of the workload that has arrived; of no number if nobody knows it.
    fraction: AtomicU64,
}

impl Drain<'_> {
    /// For a run of this fleet with so many recorders.
    pub(super) fn new<'a>(sink: &'a dyn Sink, spec: &FleetSpec, recorders: usize) -> Drain<'a> {
        Drain {
            sink,
            layout: Layout::new(spec),
            error: Mutex::new(None),
            collector: Mutex::new(Collector::new(spec.series_interval, recorders)),
            ended: AtomicU64::new(0),
            fraction: AtomicU64::new(f64::NAN.to_bits()),
        }
    }

    /// The time series of the run, which is complete if the run is.
    ///
    /// # Errors
    /// Why the sink could not take a row.
    pub(super) fn finish(self) -> io::Result<Series> {
        match self.error.into_inner() {
            Some(error) => Err(error),
            None => Ok(self.collector.into_inner().into_series()),
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

    /// Takes over the intervals that are over.
    fn drain_series(&self, done: Time, recorder: &mut Recorder) {
        if recorder.series.is_due(done) {
            // At the end everything has to be handed over. Before that, a later time does as well.
            let collector = match done {
                Time::NEVER => Some(self.collector.lock()),
                _ => self.collector.try_lock(),
            };
            if let Some(mut collector) = collector {
                collector.collect(&mut recorder.series, done);
            }
        }
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
        self.drain_series(done, recorder);
        let ended = self.ended.load(Ordering::Relaxed);
        self.sink.progress(done, ended, self.fraction(recorder))
    }

    fn watch(&self, activity: &kernel::Activity) {
        self.sink.watch(Activity::new(activity.clone(), self.layout.clone()));
    }
}
