//! A Kalman filter for a local linear trend (Harvey, 1989, section 2.3): the level moves by the trend and some noise, the
//! trend by some noise, and what is observed is the level and some noise.
//!
//! ```text
//! level' = level + trend + N(0, q_level)      observed = level + N(0, r)
//! trend' = trend + N(0, q_trend)
//! ```

use crate::model::planner::predict::{Ahead, Predictor};

/// The variances.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KalmanConfig {
    /// Of the level, per step, above 0.
    pub q_level: f64,
    /// Of the trend, per step, above 0.
    pub q_trend: f64,
    /// Of an observation, above 0.
    pub r: f64,
    /// With fewer values than this the last one is the prediction.
    pub points_min: u32,
}

impl Default for KalmanConfig {
    /// The reference peer's.
    fn default() -> KalmanConfig {
        KalmanConfig { q_level: 1.0, q_trend: 0.1, r: 10.0, points_min: 5 }
    }
}

/// Variance of level and trend when the first value sets the level. The reference peer's.
const INITIAL_VARIANCE: f64 = 1000.0;

/// The filtered series.
#[derive(Debug)]
pub struct Kalman {
    config: KalmanConfig,
    points: u32,
    last: f64,
    level: f64,
    trend: f64,
    /// The covariance matrix: level, level with trend, trend.
    covariance: [f64; 3],
}

impl Kalman {
    /// Before the first value.
    pub fn new(config: KalmanConfig) -> Kalman {
        let covariance = [INITIAL_VARIANCE, 0.0, INITIAL_VARIANCE];
        Kalman { config, points: 0, last: 0.0, level: 0.0, trend: 0.0, covariance }
    }

    /// A step in time, without an observation.
    fn advance(&mut self) {
        let [level, both, trend] = self.covariance;
        self.level += self.trend;
        self.covariance = [
            level + 2.0 * both + trend + self.config.q_level,
            both + trend,
            trend + self.config.q_trend,
        ];
    }

    fn correct(&mut self, value: f64) {
        let [level, both, trend] = self.covariance;
        let total = level + self.config.r;
        let (gain_level, gain_trend) = (level / total, both / total);
        let surprise = value - self.level;
        self.level += gain_level * surprise;
        self.trend += gain_trend * surprise;
        self.covariance =
            [(1.0 - gain_level) * level, (1.0 - gain_level) * both, trend - gain_trend * both];
    }
}

impl Predictor for Kalman {
    fn observe(&mut self, value: f64) {
        if self.points == 0 {
            self.level = value;
        } else {
            self.advance();
            self.correct(value);
        }
        self.points = self.points.saturating_add(1);
        self.last = value;
    }

    fn predict(&self, ahead: Ahead) -> Option<f64> {
        match self.points {
            0 => None,
            points if points < self.config.points_min => Some(self.last),
            _ => Some(self.level + f64::from(ahead.steps) * self.trend),
        }
    }
}
