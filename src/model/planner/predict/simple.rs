//! Predictors that look at the last few values.

use std::collections::VecDeque;

use crate::model::planner::predict::{Ahead, Predictor};

/// Tomorrow is like today.
#[derive(Default, Debug)]
pub struct LastValue {
    last: Option<f64>,
}

impl Predictor for LastValue {
    fn observe(&mut self, value: f64) {
        self.last = Some(value);
    }

    fn predict(&self, _ahead: Ahead) -> Option<f64> {
        self.last
    }
}

/// The last values of a series.
#[derive(Debug)]
pub(super) struct Recent {
    values: VecDeque<f64>,
    window: usize,
}

impl Recent {
    /// At most `window` of them, at least one.
    pub(super) fn new(window: usize) -> Recent {
        Recent { values: VecDeque::new(), window: window.max(1) }
    }

    pub(super) fn push(&mut self, value: f64) {
        if self.values.len() == self.window {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    pub(super) fn values(&self) -> &VecDeque<f64> {
        &self.values
    }

    fn mean(&self) -> Option<f64> {
        // Summed anew every time: a running sum would carry rounding errors for ever.
        let sum: f64 = self.values.iter().sum();
        (!self.values.is_empty()).then(|| sum / self.values.len() as f64)
    }
}

/// The mean of the last values.
#[derive(Debug)]
pub struct MovingAverage {
    recent: Recent,
}

impl MovingAverage {
    /// Over at most `window` values.
    pub fn new(window: usize) -> MovingAverage {
        MovingAverage { recent: Recent::new(window) }
    }
}

impl Predictor for MovingAverage {
    fn observe(&mut self, value: f64) {
        self.recent.push(value);
    }

    fn predict(&self, _ahead: Ahead) -> Option<f64> {
        self.recent.mean()
    }
}

/// The least-squares line through the last values.
#[derive(Debug)]
pub struct LinearTrend {
    recent: Recent,
}

impl LinearTrend {
    /// Through at most `window` values.
    pub fn new(window: usize) -> LinearTrend {
        LinearTrend { recent: Recent::new(window) }
    }
}

impl Predictor for LinearTrend {
    fn observe(&mut self, value: f64) {
        self.recent.push(value);
    }

    fn predict(&self, ahead: Ahead) -> Option<f64> {
        let mean = self.recent.mean()?;
        let values = self.recent.values();
        let middle = (values.len() as f64 - 1.0) / 2.0;
        let (mut covariance, mut variance) = (0.0, 0.0);
        for (place, value) in values.iter().enumerate() {
            let x = place as f64 - middle;
            covariance += x * (value - mean);
            variance += x * x;
        }
        let slope = if variance > 0.0 { covariance / variance } else { 0.0 };
        Some(mean + slope * (middle + f64::from(ahead.steps)))
    }
}
