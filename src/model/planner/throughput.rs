//! Throughput-based scaling: as many workers as the expected traffic needs.
//!
//! ```text
//! workers = ceil(expected requests/s / requests/s that one worker sustains)
//! ```
//!
//! The rate, ISL and OSL are predicted, each by a predictor of its own; the hit rate is the last one observed. What a
//! worker sustains is [`CapacityModel::estimate`]. One look changes the number by at most `change_max`.
//!
//! Three things may be added, none of which the reference peer has. They matter when workers take long to start, because
//! by then requests have piled up that no rate of arrivals tells of:
//!
//! ```text
//! workers = ceil((expected requests/s + waiting requests / clear) / (requests/s that one worker sustains x correction))
//! ```
//!
//! `clear` is the time in which a backlog is to be worked off. The correction is what workers with full queues have
//! delivered, over the estimate ([`Correction`]). Going down, the highest number wanted within `down_window` counts.

mod correction;

use crate::kernel::time::{Span, Time};
use crate::model::planner::ScalingPolicy;
use crate::model::planner::capacity::{CapacityModel, Shape};
use crate::model::planner::decision::{Figures, Missing, Proposal, Reason};
use crate::model::planner::observation::Observation;
use crate::model::planner::predict::{Ahead, Foresight, PredictorSpec, Series};
use crate::model::planner::stabiliser::{Stabiliser, StabiliserConfig};
use crate::model::planner::throughput::correction::Correction;

/// The parameters of throughput-based scaling.
#[derive(Clone, PartialEq, Debug)]
pub struct ThroughputConfig {
    /// What predicts requests per second.
    pub rate: PredictorSpec,
    /// What predicts prompt lengths.
    pub isl: PredictorSpec,
    /// What predicts output lengths.
    pub osl: PredictorSpec,
    /// How many intervals ahead, at least 1. With slow start-ups, more than one.
    pub steps: u32,
    /// Whether predictors see log(1 + x).
    pub log1p: bool,
    /// Most workers that one look adds or takes away. The reference peer's 8.
    pub change_max: u32,
    /// In which time waiting requests are to be worked off, above zero; they do not count if absent.
    pub clear: Option<Span>,
    /// Whether the estimate of what a worker sustains is corrected by what is observed.
    pub corrects: bool,
    /// Going down, the highest number wanted within this time counts.
    pub down_window: Span,
}

impl ThroughputConfig {
    /// The same predictor for all three.
    #[must_use]
    pub fn with_predictor(self, predictor: PredictorSpec) -> ThroughputConfig {
        let (rate, isl) = (predictor.clone(), predictor.clone());
        ThroughputConfig { rate, isl, osl: predictor, ..self }
    }

    /// Whether it is to know the future.
    pub fn is_oracle(&self) -> bool {
        [&self.rate, &self.isl, &self.osl]
            .iter()
            .any(|predictor| matches!(predictor, PredictorSpec::Oracle(_)))
    }

    /// Tells all three predictors what is to come.
    pub fn foresee(&mut self, foresight: Foresight) {
        self.rate = PredictorSpec::Oracle(Some(foresight.rate));
        self.isl = PredictorSpec::Oracle(Some(foresight.isl));
        self.osl = PredictorSpec::Oracle(Some(foresight.osl));
    }
}

impl Default for ThroughputConfig {
    /// One interval ahead, at most 8 workers per look, as in the reference peer; the predictor is its default too.
    fn default() -> ThroughputConfig {
        ThroughputConfig {
            rate: PredictorSpec::Arima,
            isl: PredictorSpec::Arima,
            osl: PredictorSpec::Arima,
            steps: 1,
            log1p: false,
            change_max: 8,
            clear: None,
            corrects: false,
            down_window: Span::ZERO,
        }
    }
}

/// Throughput-based scaling.
#[derive(Debug)]
pub struct ThroughputPolicy {
    capacity: CapacityModel,
    rate: Series,
    isl: Series,
    osl: Series,
    hit_rate: f64,
    steps: u32,
    change_max: u32,
    clear: Option<Span>,
    correction: Option<Correction>,
    stabiliser: Option<Stabiliser>,
}

impl ThroughputPolicy {
    /// Before anything was seen.
    pub fn new(config: &ThroughputConfig, capacity: CapacityModel) -> ThroughputPolicy {
        let series = |spec: &PredictorSpec| Series::new(spec.build(), config.log1p);
        ThroughputPolicy {
            capacity,
            rate: series(&config.rate),
            isl: series(&config.isl),
            osl: series(&config.osl),
            hit_rate: 0.0,
            steps: config.steps.max(1),
            change_max: config.change_max,
            clear: config.clear,
            correction: config.corrects.then(Correction::default),
            stabiliser: (config.down_window > Span::ZERO).then(|| {
                Stabiliser::new(StabiliserConfig {
                    down_window: config.down_window,
                    up_workers_max: config.change_max,
                    ..StabiliserConfig::default()
                })
            }),
        }
    }

    /// Takes in what was seen. Lengths without a request are not zero but unknown.
    fn observe(&mut self, observation: &Observation<'_>) {
        let window = observation.window;
        self.rate.observe(window.rate());
        if let Some(isl) = window.isl() {
            self.isl.observe(isl);
        }
        if let Some(osl) = window.osl() {
            self.osl.observe(osl);
        }
        self.hit_rate = window.hit_rate().unwrap_or(self.hit_rate);
    }

    /// The number of workers for this rate, no further than one step from the present one.
    fn workers(&mut self, now: Time, rate: f64, worker_rate: f64, target: u32) -> u32 {
        let needed = (rate / worker_rate).ceil() as u32;
        let settled = match &mut self.stabiliser {
            Some(stabiliser) => stabiliser.settle(now, target, needed),
            None => needed,
        };
        let least = target.saturating_sub(self.change_max);
        settled.clamp(least, target.saturating_add(self.change_max))
    }

    /// Requests per second that have to be served beside those that arrive, so that the backlog is gone in time.
    fn backlog_rate(&self, observation: &Observation<'_>) -> f64 {
        self.clear.map_or(0.0, |clear| observation.backlog() as f64 / clear.as_secs())
    }
}

impl ScalingPolicy for ThroughputPolicy {
    fn propose(&mut self, observation: &Observation<'_>) -> Proposal {
        self.observe(observation);
        let Observation { now, interval, .. } = *observation;
        let ahead = Ahead { now, interval, steps: self.steps };
        let predicted = [&self.rate, &self.isl, &self.osl].map(|series| series.predict(ahead));
        let [Some(rate), Some(isl), Some(osl)] = predicted else {
            return Proposal::abstain(Reason::NoData(Missing::Traffic));
        };
        let mut figures = Figures {
            rate: Some(rate),
            isl: Some(isl),
            osl: Some(osl),
            hit_rate: Some(self.hit_rate),
            ..Figures::default()
        };
        let Some(capacity) = self.capacity.estimate(Shape::new(isl, osl, self.hit_rate)) else {
            let reason = Reason::NoCapacity { isl, osl };
            return Proposal { workers: None, reason, figures };
        };
        let mut worker_rate = capacity.rate;
        if let Some(correction) = &mut self.correction {
            correction.observe(observation, capacity.rate);
            worker_rate *= correction.factor();
        }
        figures.worker_rate = Some(worker_rate);
        figures.ttft_ms = capacity.ttft.map(Span::as_ms);
        figures.itl_ms = capacity.itl.map(Span::as_ms);
        let backlog_rate = self.backlog_rate(observation);
        let workers = self.workers(now, rate + backlog_rate, worker_rate, observation.target);
        let meets = capacity.meets;
        let reason = Reason::Demand { rate, backlog_rate, worker_rate, meets };
        Proposal { workers: Some(workers), reason, figures }
    }
}

#[cfg(test)]
mod tests;
