//! The figures of a run, computed once for the table and for JSON.

use crate::fleet::{FleetSpec, Outcome};
use crate::kernel::Span;
use crate::model::metrics::{Distribution, Interval};
use crate::model::planner::Late;
use crate::model::timing::TimingModel;
use crate::report::planner::{ScalingFigures, serving};
use crate::report::pools::PoolFigures;

/// What a report says about a run beside its outcome.
#[derive(Clone, Debug)]
pub struct Context {
    /// The fleet that was simulated.
    pub fleet: FleetSpec,
    /// The router's policy.
    pub policy: String,
    /// Where the requests came from.
    pub workload: String,
    /// What the reader should know about the configuration: a sentence each.
    pub notes: Vec<String>,
    /// What the reader has been told before the run.
    pub foreseen: Vec<String>,
    /// Whether it is among this that the Planner comes too late.
    pub late: Option<Late>,
    /// How long the simulation took, with reading requests as they come and writing rows, without what is read whole before.
    pub wall: std::time::Duration,
}

/// A metric with a distribution.
#[derive(Clone, Debug)]
pub struct Metric {
    /// The middle of its keys in JSON.
    pub key: &'static str,
    /// The end of its keys in JSON, such as `_ms`.
    pub suffix: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// How many values there are.
    pub samples: u64,
    /// Absent if there are no values.
    pub figures: Option<Figures>,
}

/// What a distribution comes down to, in the metric's unit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figures {
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Population standard deviation.
    pub std: f64,
    /// p50, p75, p90, p95, p99 and p99.9.
    pub percentiles: [f64; 6],
}

/// The percentiles of every report: the prefix of the JSON key, and which.
pub(super) const PERCENTILES: [(&str, f64); 6] =
    [("median", 50.0), ("p75", 75.0), ("p90", 90.0), ("p95", 95.0), ("p99", 99.0), ("p99_9", 99.9)];

/// How evenly the router kept the workers busy, at the ends of the intervals of the time series. Every interval counts
/// by its load, so that the last stragglers of a run weigh as little as they are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LoadBalance {
    /// Requests of the busiest worker / requests of the mean worker: 1 is even.
    pub imbalance: f64,
    /// Standard deviation over the workers / requests of the mean worker: 0 is even.
    pub cv: f64,
    /// The most requests that any worker had.
    pub worker_max: u64,
}

impl LoadBalance {
    /// Absent for a single worker, and if no interval ended with a request in a worker. `workers` tells how many there
    /// were at the end of each interval.
    fn new(intervals: &[Interval], workers: impl Fn(usize) -> u32) -> Option<LoadBalance> {
        let (mut mean, mut max, mut std, mut most) = (0.0, 0.0, 0.0, 0);
        for (number, interval) in intervals.iter().enumerate() {
            let workers = workers(number);
            let spread = interval.spread(workers);
            most = most.max(workers);
            mean += spread.mean;
            max += spread.max;
            std += spread.std;
        }
        let worker_max = intervals.iter().map(|interval| interval.load_max).max()?;
        let balance = LoadBalance { imbalance: max / mean, cv: std / mean, worker_max };
        (most > 1 && mean > 0.0).then_some(balance)
    }
}

/// Everything a report says.
#[derive(Clone, Debug)]
pub struct Summary {
    /// About the run.
    pub context: Context,
    /// The metrics, in the order of the table.
    pub metrics: Vec<Metric>,
    /// From the first arrival to the end of the last request.
    pub duration: Span,
    /// Completed requests per virtual second.
    pub request_throughput_rps: Option<f64>,
    /// Prompt tokens of completed requests per virtual second.
    pub input_throughput_tok_s: Option<f64>,
    /// Tokens generated for completed requests per virtual second.
    pub output_throughput_tok_s: Option<f64>,
    /// Completed requests within the SLO per virtual second; absent without an SLO.
    pub goodput_rps: Option<f64>,
    /// Tokens generated for these per virtual second; absent without an SLO.
    pub goodput_tok_s: Option<f64>,
    /// GPUs in the fleet times the duration; of workers that come and go, from the beginning of their start-up to the end
    /// of their drain.
    pub gpu_hours: f64,
    /// What they cost, US dollars, if every GPU has a price.
    pub cost_usd: Option<f64>,
    /// How workers came and went, if they did.
    pub scaling: Option<ScalingFigures>,
    /// Every pool by itself; nothing for a fleet without pools.
    pub pools: Vec<PoolFigures>,
    /// Share of prompt tokens of completed requests that came from the prefix cache: the most over the
    /// admissions of each.
    pub reused_ratio: Option<f64>,
    /// The same at the first admission.
    pub first_reused_ratio: Option<f64>,
    /// The most requests in the router's queue and the workers together, at the ends of the intervals of the time series.
    pub in_flight_max: u64,
    /// How evenly the workers were loaded.
    pub load: Option<LoadBalance>,
}

impl Summary {
    /// Computes the figures.
    pub fn new(context: Context, outcome: &Outcome) -> Summary {
        let (recorder, totals) = (&outcome.recorder, outcome.recorder.totals);
        let duration = outcome.duration();
        let seconds = duration.as_secs();
        let intervals = recorder.series.intervals();
        let in_flight = |interval: &Interval| interval.queued + interval.waiting + interval.running;
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let per_second = |count: u64| per_second(count, seconds);
        let good = |count: u64| per_second(count).filter(|_| context.fleet.slo.is_set());
        let hours = seconds / 3600.0;
        let scaling = ScalingFigures::new(&context.fleet, outcome);
        let paid = scaling.map(|figures| figures.gpu_time.hours());
        let price = context.fleet.pools[0].gpu_hour_usd;
        let workers = |interval| serving(&context.fleet, outcome, interval);
        let ms = |key, title, distribution| Metric::new(key, "_ms", title, distribution, 1e-6);
        let tokens = |key, title, distribution| Metric::new(key, "", title, distribution, 1.0);
        let waits = outcome.visited.iter().flat_map(|visited| {
            [
                ms("session_duration", "Session Duration (ms)", &visited.duration),
                ms("call_latency", "Call Latency, All Tries (ms)", &visited.call_latency),
            ]
        });
        Summary {
            metrics: [
                ms("ttft", "Time to First Token (ms)", &recorder.ttft),
                ms("ttst", "Time to Second Token (ms)", &recorder.ttst),
                ms("e2e_latency", "Request Latency (ms)", &recorder.e2e),
                ms("tpot", "Inter Token Latency (ms)", &recorder.tpot),
                ms("itl", "Every Token Gap (ms)", &recorder.itl),
                per_user(&recorder.itl),
                tokens("output_sequence_length", "Output Sequence Length (tokens)", &recorder.osl),
                tokens("input_sequence_length", "Input Sequence Length (tokens)", &recorder.isl),
            ]
            .into_iter()
            .chain(waits)
            .collect(),
            duration,
            request_throughput_rps: per_second(totals.completed),
            input_throughput_tok_s: per_second(totals.prompt_tokens),
            output_throughput_tok_s: per_second(totals.output_tokens),
            goodput_rps: good(totals.good),
            goodput_tok_s: good(totals.good_tokens),
            gpu_hours: paid.unwrap_or(context.fleet.gpus() as f64 * hours),
            cost_usd: match scaling {
                Some(figures) => price.map(|usd| figures.gpu_time.cost(usd)),
                None => PoolFigures::cost(&context.fleet, hours),
            },
            scaling,
            pools: PoolFigures::all(&context.fleet, outcome),
            reused_ratio: ratio(totals.reused_tokens, totals.prompt_tokens),
            first_reused_ratio: ratio(totals.first_reused_tokens, totals.prompt_tokens),
            in_flight_max: intervals.iter().map(in_flight).max().unwrap_or(0),
            load: LoadBalance::new(intervals, workers),
            context,
        }
    }

    /// Output tokens per virtual second and GPU; of workers that come and go, per second of GPU time.
    pub fn output_per_gpu(&self) -> Option<f64> {
        let gpus = match &self.scaling {
            Some(scaling) => scaling.gpus_mean()?,
            None => self.context.fleet.gpus() as f64,
        };
        self.output_throughput_tok_s.map(|rate| rate / gpus)
    }

    /// What a million tokens cost, US dollars, if all cost that there was is put on these.
    pub fn usd_per_million(&self, tokens: u64) -> Option<f64> {
        self.cost_usd.filter(|_| tokens > 0).map(|usd| usd * 1e6 / tokens as f64)
    }

    /// What the times of this run rest on: one source, or several with commas between them.
    pub fn timing_source(&self) -> String {
        distinct(self.timings().map(source)).join(", ")
    }

    /// The tables that pass times were taken from.
    pub fn timing_tables(&self) -> Vec<String> {
        distinct(self.timings().filter_map(table))
    }

    /// The timing of every pool.
    fn timings(&self) -> impl Iterator<Item = &TimingModel> {
        self.context.fleet.pools.iter().map(|pool| &pool.engine.timing)
    }

    /// What a reader has to know before quoting a figure.
    pub fn approximations(&self) -> Vec<&'static str> {
        let mut list = vec![
            "percentiles come from histograms with three significant digits (at most 0.05 % off); \
             means, extremes and standard deviations of times are exact",
            "output_token_throughput_per_user is derived from the histogram of token gaps",
        ];
        let is_estimate = |timing: &TimingModel| match timing {
            TimingModel::Measured(measured) => measured.table().identity().estimate,
            TimingModel::Polynomial(_) | TimingModel::Constant { .. } => false,
        };
        if self.timings().any(is_estimate) {
            list.push(
                "roofline timing is an estimate from data sheets: against measured tables its median \
                 error is 12 % for a typical shape, and a factor of 2 and more for some with experts",
            );
        }
        if self.timings().any(|timing| matches!(timing, TimingModel::Polynomial(_))) {
            list.push(
                "polynomial timing ignores model, GPU and batch size: compare simulators with it, \
                 do not size a fleet",
            );
        }
        list
    }
}

/// The mean per second, over so many seconds; absent if there were none.
pub(super) fn per_second(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count as f64 / seconds)
}

/// What a timing model rests on.
pub(super) fn source(timing: &TimingModel) -> &'static str {
    match timing {
        TimingModel::Measured(measured) if measured.table().identity().estimate => "estimate",
        TimingModel::Measured(_) => "measured",
        TimingModel::Polynomial(_) => "polynomial",
        TimingModel::Constant { .. } => "constant",
    }
}

/// The table of a timing model, if it has one.
pub(super) fn table(timing: &TimingModel) -> Option<String> {
    match timing {
        TimingModel::Measured(measured) => Some(measured.table().identity().to_string()),
        TimingModel::Polynomial(_) | TimingModel::Constant { .. } => None,
    }
}

/// Every value once, in the order of the first of each.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut list = Vec::new();
    for value in values {
        if !list.contains(&value) {
            list.push(value);
        }
    }
    list
}

impl Metric {
    pub(super) fn new(
        key: &'static str,
        suffix: &'static str,
        title: &'static str,
        distribution: &Distribution,
        scale: f64,
    ) -> Metric {
        let figures = || {
            let percentile = |p: f64| Some(distribution.percentile(p)? as f64 * scale);
            let mut percentiles = [0.0; 6];
            for (figure, (_, p)) in percentiles.iter_mut().zip(PERCENTILES) {
                *figure = percentile(p)?;
            }
            Some(Figures {
                mean: distribution.mean()? * scale,
                min: distribution.min()? as f64 * scale,
                max: distribution.max()? as f64 * scale,
                std: distribution.std()? * scale,
                percentiles,
            })
        };
        Metric { key, suffix, title, samples: distribution.count(), figures: figures() }
    }
}

/// Tokens per second that a user sees: 1 s / gap, over all gaps above zero.
fn per_user(gaps: &Distribution) -> Metric {
    let rate = |ns: u64| 1e9 / ns as f64;
    let (mut samples, mut sum, mut squares) = (0, 0.0, 0.0);
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for (ns, count) in gaps.buckets().filter(|&(ns, _)| ns > 0) {
        samples += count;
        sum += rate(ns) * count as f64;
        squares += rate(ns).powi(2) * count as f64;
        least = least.min(rate(ns));
        most = most.max(rate(ns));
    }
    let figures = (samples > 0).then(|| {
        let mean = sum / samples as f64;
        let min = gaps.max().map_or(least, rate);
        // If the least gap is none at all, the least above it is known by its bucket only.
        let max = gaps.min().filter(|&ns| ns > 0).map_or(most.max(min), rate);
        Figures {
            mean,
            min,
            max,
            std: (squares / samples as f64 - mean * mean).max(0.0).sqrt(),
            percentiles: PERCENTILES.map(|(_, p)| {
                gaps.percentile(100.0 - p).filter(|&ns| ns > 0).map_or(max, rate).clamp(min, max)
            }),
        }
    });
    Metric {
        key: "output_token_throughput_per_user",
        suffix: "",
        title: "Output Token Throughput Per User (tokens/sec/user)",
        samples,
        figures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_users_are_in_order_where_some_gaps_are_nothing() {
        let mut gaps = Distribution::new();
        gaps.record(0, 3);
        // In a bucket whose middle is longer.
        gaps.record(100_000, 5);
        let figures = per_user(&gaps).figures.expect("there are gaps");
        assert!((figures.min - 10_000.0).abs() < 1e-9);
        assert!(figures.max >= figures.min);
        assert!(figures.percentiles.iter().all(|rate| (figures.min..=figures.max).contains(rate)));
    }
}
