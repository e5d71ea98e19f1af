//! Exponential smoothing with a trend and an additive season (Holt, 1957; Winters, 1960).
//!
//! ```text
//! level'  = a (y - season[t]) + (1 - a) (level + trend)
//! trend'  = b (level' - level) + (1 - b) trend
//! season' = g (y - level') + (1 - g) season[t]
//! y(t + k) = level + k trend + season[t + k]
//! ```
//!
//! The first two seasons set it up: the trend is the difference of their means, the season what is left of them without
//! the line through those means. So a line with an additive season is followed exactly from then on. Before, the last
//! value is the prediction.

use crate::model::planner::predict::{Ahead, Predictor};

/// The parameters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HoltWintersConfig {
    /// Weight of a new level, from 0 to 1.
    pub level: f64,
    /// Weight of a new trend, from 0 to 1.
    pub trend: f64,
    /// Weight of a new season, from 0 to 1.
    pub season: f64,
    /// Intervals in a season, at least 1.
    pub period: usize,
}

impl HoltWintersConfig {
    /// Weights that forget slowly, for a season of so many intervals. Plausible figures, not fitted ones.
    pub fn with_period(period: usize) -> HoltWintersConfig {
        HoltWintersConfig { level: 0.5, trend: 0.1, season: 0.3, period }
    }
}

/// The smoothed series.
#[derive(Debug)]
pub struct HoltWinters {
    config: HoltWintersConfig,
    /// The first two seasons, until they are complete.
    first: Vec<f64>,
    last: Option<f64>,
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    level: f64,
    trend: f64,
    /// By place in the season; `next` is that of the next value.
    season: Vec<f64>,
    next: usize,
}

impl HoltWinters {
    /// Before the first value.
    pub fn new(config: HoltWintersConfig) -> HoltWinters {
        let config = HoltWintersConfig { period: config.period.max(1), ..config };
        HoltWinters { config, first: Vec::new(), last: None, state: None }
    }
}

impl State {
    /// From two whole seasons.
    fn new(values: &[f64]) -> State {
        let period = values.len() / 2;
        let (first, second) = values.split_at(period);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / period as f64;
        let (mean_first, mean_second) = (mean(first), mean(second));
        let trend = (mean_second - mean_first) / period as f64;
        let middle = (period as f64 - 1.0) / 2.0;
        let rest = |place: usize| {
            let line = trend * (place as f64 - middle);
            let first = first[place] - (mean_first + line);
            f64::midpoint(first, second[place] - (mean_second + line))
        };
        let season = (0..period).map(rest).collect();
        State { level: mean_second + trend * middle, trend, season, next: 0 }
    }

    fn observe(&mut self, value: f64, config: &HoltWintersConfig) {
        let season = &mut self.season[self.next];
        let expected = self.level + self.trend;
        let level = config.level * (value - *season) + (1.0 - config.level) * expected;
        self.trend = config.trend * (level - self.level) + (1.0 - config.trend) * self.trend;
        *season = config.season * (value - level) + (1.0 - config.season) * *season;
        self.level = level;
        self.next = (self.next + 1) % self.season.len();
    }
}

impl Predictor for HoltWinters {
    fn observe(&mut self, value: f64) {
        self.last = Some(value);
        if let Some(state) = &mut self.state {
            state.observe(value, &self.config);
            return;
        }
        self.first.push(value);
        if self.first.len() == 2 * self.config.period {
            self.state = Some(State::new(&self.first));
            self.first = Vec::new();
        }
    }

    fn predict(&self, ahead: Ahead) -> Option<f64> {
        let Some(state) = &self.state else { return self.last };
        let place = (state.next + ahead.steps as usize - 1) % state.season.len();
        Some(state.level + f64::from(ahead.steps) * state.trend + state.season[place])
    }
}
