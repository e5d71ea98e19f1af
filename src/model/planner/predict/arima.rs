//! ARIMA(p, d, 0): an autoregression of a series, or of its differences.
//!
//! Order and coefficients are chosen anew from the last values at every prediction:
//!
//! - coefficients: the Yule-Walker equations of all orders up to p = 5, by Levinson's recursion; always stationary.
//! - p, and d up to 2: those with the lowest corrected Akaike criterion per value; of equals the lowest d.
//!
//! If p = 0 comes out and that does not explain everything, the same is tried on log(1 + x), as the reference peer does
//! when its automatic ARIMA collapses.
//! The peer's has moving-average terms (q) as well, and is fitted once and then only updated.

use crate::model::planner::predict::simple::Recent;
use crate::model::planner::predict::{Ahead, Predictor};

/// Values that are looked at.
const WINDOW: usize = 256;
/// Fewer values than this are not enough to fit anything. The reference peer's.
const POINTS_MIN: usize = 5;
/// Highest order of the autoregression. The default bound of automatic ARIMA in the field.
const ORDER_MAX: usize = 5;
/// Most times that a series is differenced, likewise.
const DIFFERENCES_MAX: usize = 2;

/// The series so far.
#[derive(Debug)]
pub struct Arima {
    recent: Recent,
}

impl Default for Arima {
    fn default() -> Arima {
        Arima::new()
    }
}

impl Arima {
    /// Before the first value.
    pub fn new() -> Arima {
        Arima { recent: Recent::new(WINDOW) }
    }
}

impl Predictor for Arima {
    fn observe(&mut self, value: f64) {
        self.recent.push(value);
    }

    fn predict(&self, ahead: Ahead) -> Option<f64> {
        let values: Vec<f64> = self.recent.values().iter().copied().collect();
        let last = *values.last()?;
        if values.len() < POINTS_MIN {
            return Some(last);
        }
        let fit = Fit::new(values.clone());
        if fit.order() == 0 && !fit.is_exact && values.iter().all(|&value| value >= 0.0) {
            let logarithms = Fit::new(values.iter().map(|value| value.ln_1p()).collect());
            if logarithms.order() > 0 {
                return Some(logarithms.forecast(ahead.steps).exp_m1());
            }
        }
        Some(fit.forecast(ahead.steps))
    }
}

/// A fitted model.
#[derive(Debug)]
pub(super) struct Fit {
    /// The last value of the series, of its differences, and so on, without the series that is modelled.
    lasts: Vec<f64>,
    /// The series that is modelled, less its mean.
    centred: Vec<f64>,
    mean: f64,
    /// The weights of the last value, of the one before, and so on.
    pub(super) coefficients: Vec<f64>,
    /// Whether it leaves nothing unexplained.
    is_exact: bool,
}

impl Fit {
    /// Fits a series of at least one value.
    pub(super) fn new(mut series: Vec<f64>) -> Fit {
        // What rounding leaves of a constant series is no signal.
        let noise = series.iter().fold(0.0_f64, |most, value| most.max(value.abs())) * 1e-12;
        let mut lasts = Vec::new();
        let mut best: Option<(f64, Fit)> = None;
        loop {
            let mean = mean(&series);
            let centred: Vec<f64> = series.iter().map(|value| value - mean).collect();
            let (score, coefficients) = autoregression(&centred, noise);
            if best.as_ref().is_none_or(|(lowest, _)| score < *lowest) {
                let is_exact = score == f64::NEG_INFINITY;
                let lasts = lasts.clone();
                best = Some((score, Fit { lasts, centred, mean, coefficients, is_exact }));
            }
            if lasts.len() == DIFFERENCES_MAX || series.len() <= POINTS_MIN {
                return best.expect("a first one").1;
            }
            lasts.push(series[series.len() - 1]);
            series = series.windows(2).map(|pair| pair[1] - pair[0]).collect();
        }
    }

    pub(super) fn order(&self) -> usize {
        self.coefficients.len()
    }

    /// The value so many steps ahead.
    pub(super) fn forecast(&self, steps: u32) -> f64 {
        let order = self.coefficients.len();
        let mut past = self.centred[self.centred.len() - order..].to_vec();
        let mut lasts = self.lasts.clone();
        let mut value = *self.lasts.first().unwrap_or(&self.mean);
        for _ in 0..steps {
            let terms = self.coefficients.iter().zip(past.iter().rev());
            let next: f64 = terms.map(|(weight, past)| weight * past).sum();
            past.push(next);
            // Undo the differences, the innermost first.
            value = next + self.mean;
            for last in lasts.iter_mut().rev() {
                *last += value;
                value = *last;
            }
        }
        value
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The coefficients of the best order and its criterion per value, by Levinson's recursion on the autocovariances of a
/// centred series. Values below `noise` are none.
fn autoregression(centred: &[f64], noise: f64) -> (f64, Vec<f64>) {
    let count = centred.len();
    let autocovariance = |lag: usize| -> f64 {
        centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum::<f64>() / count as f64
    };
    let covariances: Vec<f64> = (0..=ORDER_MAX.min(count / 3)).map(autocovariance).collect();
    if covariances[0] <= noise * noise {
        return (f64::NEG_INFINITY, Vec::new());
    }
    let mut innovation = covariances[0];
    let mut coefficients: Vec<f64> = Vec::new();
    let mut best = (criterion(count, 0, innovation), Vec::new());
    for order in 1..covariances.len() {
        let explained: f64 =
            (1..order).map(|lag| coefficients[lag - 1] * covariances[order - lag]).sum();
        let reflection = (covariances[order] - explained) / innovation;
        let before = coefficients.clone();
        for lag in 1..order {
            coefficients[lag - 1] -= reflection * before[order - lag - 1];
        }
        coefficients.push(reflection);
        innovation *= 1.0 - reflection * reflection;
        if innovation <= covariances[0] * 1e-12 {
            // Nothing is left to explain.
            return (f64::NEG_INFINITY, coefficients);
        }
        let score = criterion(count, order, innovation);
        if score < best.0 {
            best = (score, coefficients.clone());
        }
    }
    best
}

/// Akaike's criterion, corrected for short series, per value.
fn criterion(count: usize, order: usize, innovation: f64) -> f64 {
    let (count, parameters) = (count as f64, order as f64 + 1.0);
    let correction = 2.0 * parameters * (parameters + 1.0) / (count - parameters - 1.0).max(1.0);
    innovation.ln() + (2.0 * parameters + correction) / count
}
