//! A predictor that knows: the bound for all others.

use std::sync::Arc;

use crate::kernel::time::Span;
use crate::model::planner::predict::{Ahead, Predictor};

/// What a series will be, in equal intervals from the start of the run.
#[derive(Clone, PartialEq, Debug)]
pub struct Future {
    /// Its mean in each interval.
    pub values: Arc<[f64]>,
    /// Length of an interval, above zero.
    pub interval: Span,
}

impl Future {
    /// The mean from one point, ns since the start, to another; what lies after the last interval is zero.
    fn mean(&self, from: u64, until: u64) -> f64 {
        let length = self.interval.as_ns();
        let (first, last) = (from / length, (until - 1) / length);
        let known = self.values.len() as u64;
        let overlap = |number: u64| {
            let start = number * length;
            (until.min(start + length) - from.max(start)) as f64
        };
        let parts = (first..(last + 1).min(known))
            .map(|number| overlap(number) * self.values[number as usize]);
        parts.sum::<f64>() / (until - from) as f64
    }
}

/// Reads the answer.
#[derive(Debug)]
pub struct Oracle {
    future: Future,
}

impl Oracle {
    /// Of this future.
    ///
    /// # Panics
    /// When its intervals have no length.
    pub fn new(future: Future) -> Oracle {
        assert!(future.interval > Span::ZERO, "a future in intervals of zero");
        Oracle { future }
    }
}

impl Predictor for Oracle {
    fn observe(&mut self, _value: f64) {}

    fn predict(&self, ahead: Ahead) -> Option<f64> {
        let length = ahead.interval.as_ns().max(1);
        let from =
            ahead.now.as_ns().saturating_add((u64::from(ahead.steps) - 1).saturating_mul(length));
        Some(self.future.mean(from, from.saturating_add(length)))
    }
}
