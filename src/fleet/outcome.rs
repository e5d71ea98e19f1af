//! What a run yields.

use crate::fleet::execution::Executed;
use crate::fleet::scaler::Scaled;
use crate::fleet::visits::Visited;
use crate::kernel::{Account, Occupancy, Span, Time};
use crate::model::lifecycle::GpuTime;
use crate::model::metrics::{Recorder, Work};
use crate::model::router::Admitted;

/// The aggregates of a completed run. The rows of its requests have gone to the sink.
#[derive(Debug)]
pub struct Outcome {
    /// Distributions, totals and time series.
    pub recorder: Recorder,
    /// What each worker did.
    pub workers: Vec<Work>,
    /// How they came and went, if they did.
    pub scaled: Option<Scaled>,
    /// What became of sessions and their clients, if there were any.
    pub visited: Option<Visited>,
    /// What the limits of the front end did, if there were any.
    pub admitted: Option<Admitted>,
    /// Bad entries that the source left out.
    pub skipped: u64,
    /// Requests that the balancer of a fleet of cells had nothing to go by for.
    pub undirected: u64,
    /// A hash over all rows: equal for equal results, whatever the order in which they were produced.
    pub digest: u128,
    /// Events of the model: arrivals, dispatches that reach a worker, and passes and decode runs that end.
    pub events: u64,
    /// The time of the last event.
    pub end: Time,
    /// How it was simulated: the only thing in here that depends on it.
    pub executed: Executed,
    /// What every task cost, if that was asked for.
    pub account: Option<Account>,
    /// What the threads spent their time on, if that was asked for.
    pub occupancy: Option<Occupancy>,
}

impl Outcome {
    /// The GPU time between the first arrival and the end of the last request, if workers came and went.
    pub fn gpu_time(&self) -> Option<GpuTime> {
        let end = self.recorder.last_end;
        let start = self.recorder.first_arrival.unwrap_or(end).min(end);
        self.scaled.as_ref().map(|scaled| scaled.history.gpu_time(start, end))
    }

    /// From the first arrival to the end of the last request.
    pub fn duration(&self) -> Span {
        let first = self.recorder.first_arrival.unwrap_or(Time::ZERO);
        self.recorder.last_end.max(first).since(first)
    }

    /// The work of all workers together.
    pub fn work(&self) -> Work {
        let mut sum = Work::default();
        for work in &self.workers {
            sum.add(work);
        }
        sum
    }
}
