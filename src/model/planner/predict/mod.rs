//! What a series will be next.
//!
//! One value per interval of the policy that asks. A [`Series`] prepares the values for a [`Predictor`] and turns its
//! answer back.
//!
//! | predictor | k steps ahead |
//! |---|---|
//! | [`LastValue`] | the last value |
//! | [`MovingAverage`] | the mean of the last values |
//! | [`LinearTrend`] | the least-squares line through the last values |
//! | [`HoltWinters`] | level, trend and season, exponentially smoothed |
//! | [`Kalman`] | level and trend, by a Kalman filter |
//! | [`Arima`] | an autoregression of the series or of its differences |
//! | [`Oracle`] | what the trace holds |

mod arima;
mod foresight;
mod holt_winters;
mod kalman;
mod oracle;
mod simple;

use std::fmt::Debug;

pub use arima::Arima;
pub use foresight::Foresight;
pub use holt_winters::{HoltWinters, HoltWintersConfig};
pub use kalman::{Kalman, KalmanConfig};
pub use oracle::{Future, Oracle};
pub use simple::{LastValue, LinearTrend, MovingAverage};

use crate::kernel::time::{Span, Time};

/// Which value is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ahead {
    /// The end of the last interval that was observed.
    pub now: Time,
    /// Length of an interval.
    pub interval: Span,
    /// How many intervals ahead: 1 is the one that begins now.
    pub steps: u32,
}

/// A way to tell the next values of a series from those so far.
pub trait Predictor: Send + Debug {
    /// Takes in the next value, a finite one.
    fn observe(&mut self, value: f64);

    /// The value so far ahead; nothing before the first one was observed.
    fn predict(&self, ahead: Ahead) -> Option<f64>;
}

/// Which predictor, with its parameters.
#[derive(Clone, PartialEq, Debug)]
pub enum PredictorSpec {
    /// [`LastValue`], the reference peer's "constant".
    Last,
    /// [`MovingAverage`] over so many values.
    Average(usize),
    /// [`LinearTrend`] through so many values.
    Trend(usize),
    /// [`HoltWinters`]
    HoltWinters(HoltWintersConfig),
    /// [`Kalman`]
    Kalman(KalmanConfig),
    /// [`Arima`]
    Arima,
    /// [`Oracle`]. The future is not known before the workload has been read: see [`Foresight`].
    Oracle(Option<Future>),
}

impl PredictorSpec {
    /// The predictor, before the first value.
    ///
    /// # Panics
    /// If it is an oracle that has not been told the future.
    pub fn build(&self) -> Box<dyn Predictor> {
        match self {
            PredictorSpec::Last => Box::new(LastValue::default()),
            PredictorSpec::Average(window) => Box::new(MovingAverage::new(*window)),
            PredictorSpec::Trend(window) => Box::new(LinearTrend::new(*window)),
            PredictorSpec::HoltWinters(config) => Box::new(HoltWinters::new(*config)),
            PredictorSpec::Kalman(config) => Box::new(Kalman::new(*config)),
            PredictorSpec::Arima => Box::new(Arima::new()),
            PredictorSpec::Oracle(future) => {
                let future = future.clone().expect("nobody has told the oracle the future");
                Box::new(Oracle::new(future))
            }
        }
    }
}

/// A series of counts or lengths and its predictor, with the habits of the reference peer: zeros at the start are
/// skipped, values may be seen as log(1 + x), and nothing is predicted below zero.
#[derive(Debug)]
pub struct Series {
    predictor: Box<dyn Predictor>,
    log1p: bool,
    /// Whether a value other than zero has come.
    has_begun: bool,
}

impl Series {
    /// A series without values.
    pub fn new(predictor: Box<dyn Predictor>, log1p: bool) -> Series {
        Series { predictor, log1p, has_begun: false }
    }

    /// Takes in the next value. What is not finite or negative counts as zero.
    pub fn observe(&mut self, value: f64) {
        let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
        if value <= 0.0 && !self.has_begun {
            return;
        }
        self.has_begun = true;
        self.predictor.observe(if self.log1p { value.ln_1p() } else { value });
    }

    /// The value so far ahead; nothing before the first one.
    pub fn predict(&self, ahead: Ahead) -> Option<f64> {
        let value = self.predictor.predict(ahead)?;
        let value = if self.log1p { value.exp_m1() } else { value };
        Some(if value.is_finite() { value.max(0.0) } else { 0.0 })
    }
}

#[cfg(test)]
mod tests;
