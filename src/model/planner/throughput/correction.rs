//! How far the estimate of what a worker sustains is off, by what workers with full queues deliver.
//!
//! The estimate prices requests of the mean length. Real ones differ: the attention of a prompt grows with the square of
//! its length, so a mix costs more than as many mean requests.

use crate::model::planner::observation::Observation;

/// Weight of a new observation against those before it.
const WEIGHT: f64 = 0.3;

/// The least and the most of the factor.
const BOUNDS: (f64, f64) = (0.25, 2.0);

/// Delivered over estimated, smoothed.
#[derive(Debug, Default)]
pub(super) struct Correction {
    factor: Option<f64>,
    /// Ready workers at the last look, if they had full queues then.
    busy_before: Option<usize>,
}

impl Correction {
    /// What to multiply an estimate by; 1 before anything was observed.
    pub(super) fn factor(&self) -> f64 {
        self.factor.unwrap_or(1.0)
    }

    /// Takes in what was delivered since the last look, if there was a request waiting for every ready worker at both
    /// ends of that time. `estimate` is in requests per second and worker.
    pub(super) fn observe(&mut self, observation: &Observation<'_>, estimate: f64) {
        let ready = observation.loads.len();
        let is_busy = ready > 0 && observation.backlog() >= ready as u64;
        let before = std::mem::replace(&mut self.busy_before, is_busy.then_some(ready));
        let (true, Some(before)) = (is_busy, before) else { return };
        let window = &observation.window;
        let worker_secs = window.length.as_secs() * (before + ready) as f64 / 2.0;
        let found = window.traffic.completed as f64 / worker_secs / estimate;
        let smoothed = self.factor.map_or(found, |factor| factor + WEIGHT * (found - factor));
        self.factor = Some(smoothed.clamp(BOUNDS.0, BOUNDS.1));
    }
}
