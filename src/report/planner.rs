//! `planner.csv`: what the Planner saw and decided, and the figures of workers that come and go.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::fleet::{FleetSpec, Outcome, Tick};
use crate::kernel::{Span, Time};
use crate::model::lifecycle::GpuTime;
use crate::report::number::{count, decimal};

pub(super) const HEADER: [&str; 30] = [
    "time_s",
    "ready",
    "starting",
    "warm",
    "draining",
    "without_place",
    "requests_per_s",
    "mean_isl",
    "mean_osl",
    "hit_rate",
    "mean_ttft_ms",
    "mean_itl_ms",
    "waiting",
    "queued",
    "running",
    "kv_tokens",
    "before",
    "proposed",
    "target",
    "acts",
    "limit",
    "expected_requests_per_s",
    "expected_isl",
    "expected_osl",
    "expected_hit_rate",
    "worker_requests_per_s",
    "estimated_ttft_ms",
    "estimated_itl_ms",
    "advisory",
    "decision",
];

const NS_PER_HOUR: f64 = 3600e9;

/// Writes one line per tick of the Planner; nothing but the header for a fleet without one.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_planner(out: impl Write, outcome: &Outcome) -> io::Result<()> {
    let mut out = csv::Writer::from_writer(out);
    out.write_record(HEADER)?;
    for tick in outcome.scaled.iter().flat_map(|scaled| &scaled.ticks) {
        out.write_record(fields(tick))?;
    }
    out.flush()
}

fn fields(tick: &Tick) -> [String; 30] {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let Tick { window, counts, decision, .. } = tick;
    let figures = decision.figures;
    [
        tick.at.as_secs().to_string(),
        counts.ready.to_string(),
        counts.starting.to_string(),
        counts.warm.to_string(),
        counts.draining.to_string(),
        counts.waiting.to_string(),
        window.rate().to_string(),
        number(window.isl()),
        number(window.osl()),
        number(window.hit_rate()),
        number(window.ttft_ms()),
        number(window.itl_ms()),
        tick.waiting.to_string(),
        tick.queued.to_string(),
        tick.running.to_string(),
        tick.kv_tokens.to_string(),
        decision.before.to_string(),
        decision.proposed.map_or(String::new(), |workers| workers.to_string()),
        decision.target.to_string(),
        decision.acts.to_string(),
        decision.limit.map_or(String::new(), |limit| limit.to_string()),
        number(figures.rate),
        number(figures.isl),
        number(figures.osl),
        number(figures.hit_rate),
        number(figures.worker_rate),
        number(figures.ttft_ms),
        number(figures.itl_ms),
        decision.advisory.to_string(),
        decision.to_string(),
    ]
}

/// How workers came and went.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScalingFigures {
    /// What reports call the Planner's policy.
    pub policy: &'static str,
    /// Ticks of the Planner.
    pub ticks: usize,
    /// How often it asked for more workers.
    pub ups: usize,
    /// How often it asked for fewer.
    pub downs: usize,
    /// Start-ups.
    pub started: u64,
    /// Of these, those that were over before the end, and were not called off.
    pub arrived: u64,
    /// The fewest and the most ready workers between the first arrival and the end of the last request.
    pub ready_range: (u32, u32),
    /// The most workers that held GPUs at once, within the same bounds.
    pub present_max: u32,
    /// Workers that were there at some time of the run: those with the lowest numbers.
    pub used: u32,
    /// GPU time within the same bounds.
    pub gpu_time: GpuTime,
    /// GPUs in each worker.
    pub gpus_per_worker: u32,
    /// How long that was.
    pub duration: Span,
}

impl ScalingFigures {
    /// Absent for a fleet of a fixed size.
    pub(super) fn new(fleet: &FleetSpec, outcome: &Outcome) -> Option<ScalingFigures> {
        let (scaling, scaled) = (fleet.scaling.as_ref()?, outcome.scaled.as_ref()?);
        let end = outcome.recorder.last_end;
        let start = outcome.recorder.first_arrival.unwrap_or(end);
        let [ups, downs] = scaled.actions();
        Some(ScalingFigures {
            policy: scaling.planner.name,
            ticks: scaled.ticks.len(),
            ups,
            downs,
            started: scaled.started,
            arrived: scaled.arrived,
            ready_range: scaled.history.ready_range(start, end),
            present_max: scaled.history.present_max(start, end),
            used: scaled.used,
            gpu_time: outcome.gpu_time()?,
            gpus_per_worker: scaling.lifecycle.gpus_per_worker,
            duration: outcome.duration(),
        })
    }

    /// Ready workers, averaged over time.
    pub fn ready_mean(&self) -> Option<f64> {
        let ns = self.duration.as_ns() as f64 * f64::from(self.gpus_per_worker);
        (ns > 0.0).then(|| self.gpu_time.ready as f64 / ns)
    }

    /// GPUs that were paid for, averaged over time; absent for a run that took no time or had no worker.
    pub fn gpus_mean(&self) -> Option<f64> {
        let (paid, ns) = (self.gpu_time.total(), self.duration.as_ns());
        (paid > 0 && ns > 0).then(|| paid as f64 / ns as f64)
    }

    /// Time of all workers, paid for, seconds.
    pub(super) fn worker_seconds(&self) -> f64 {
        self.gpu_time.total() as f64 / f64::from(self.gpus_per_worker) / 1e9
    }

    pub(super) fn to_json(self) -> Map<String, Value> {
        let hours = |ns: u128| json!(ns as f64 / NS_PER_HOUR);
        let GpuTime { starting, warm, ready, draining, .. } = self.gpu_time;
        let figures = [
            ("planner_policy", json!(self.policy)),
            ("planner_ticks", json!(self.ticks)),
            ("scale_up_events", json!(self.ups)),
            ("scale_down_events", json!(self.downs)),
            ("startups", json!(self.started)),
            ("startups_completed", json!(self.arrived)),
            ("min_ready_workers", json!(self.ready_range.0)),
            ("max_ready_workers", json!(self.ready_range.1)),
            ("mean_ready_workers", json!(self.ready_mean())),
            ("max_present_workers", json!(self.present_max)),
            ("starting_gpu_hours", hours(starting)),
            ("warm_gpu_hours", hours(warm)),
            ("ready_gpu_hours", hours(ready)),
            ("draining_gpu_hours", hours(draining)),
        ];
        figures.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The same in words.
    pub(super) fn line(&self) -> String {
        let (least, most) = self.ready_range;
        format!(
            "planner ({}): {} ticks, {} up, {} down; {} to {} ready workers, {} on average; \
             {} start-ups, {} of them over before the end",
            self.policy,
            count(self.ticks as u64),
            count(self.ups as u64),
            count(self.downs as u64),
            count(u64::from(least)),
            count(u64::from(most)),
            self.ready_mean().map_or("none".to_owned(), decimal),
            count(self.started),
            count(self.arrived),
        )
    }
}

/// Workers that have requests, or could get some, at the end of an interval of the time series.
pub(super) fn serving(fleet: &FleetSpec, outcome: &Outcome, interval: usize) -> u32 {
    let Some(scaled) = &outcome.scaled else { return fleet.workers() };
    let length = outcome.recorder.series.length().as_ns();
    let end = Time::from_ns((interval as u64 + 1).saturating_mul(length));
    let counts = scaled.history.at(end.before());
    counts.ready + counts.draining
}
