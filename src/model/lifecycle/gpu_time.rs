//! What the workers of a pool cost.

use crate::kernel::time::Time;
use crate::model::lifecycle::Counts;

/// GPU time by what the workers were doing, in GPUs x ns. Whole numbers, so that no order of addition shows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GpuTime {
    /// Starting.
    pub starting: u128,
    /// Kept warm.
    pub warm: u128,
    /// Taking requests.
    pub ready: u128,
    /// Finishing.
    pub draining: u128,
    gpus_per_worker: u32,
    until: Time,
}

const NS_PER_HOUR: f64 = 3600e9;

impl GpuTime {
    pub(super) fn new(gpus_per_worker: u32, from: Time) -> GpuTime {
        GpuTime { gpus_per_worker, until: from, ..GpuTime::default() }
    }

    /// Adds the time until now, during which the counts were these.
    pub(super) fn advance(&mut self, now: Time, counts: Counts) {
        let ns = u128::from(now.since(self.until).as_ns()) * u128::from(self.gpus_per_worker);
        self.starting += ns * u128::from(counts.starting);
        self.warm += ns * u128::from(counts.warm);
        self.ready += ns * u128::from(counts.ready);
        self.draining += ns * u128::from(counts.draining);
        self.until = now;
    }

    /// All of it: a GPU is paid for from the beginning of the start-up to the end of the drain.
    pub fn total(&self) -> u128 {
        self.starting + self.warm + self.ready + self.draining
    }

    /// All of it, in GPU-hours.
    pub fn hours(&self) -> f64 {
        self.total() as f64 / NS_PER_HOUR
    }

    /// What it costs, at a price per GPU-hour.
    pub fn cost(&self, price_per_hour: f64) -> f64 {
        self.hours() * price_per_hour
    }
}
