//! The part of the configuration that says how workers come and go.

use serde::{Deserialize, Serialize};

use crate::io::config::text::Duration;
use crate::kernel::Span;

/// `[planner]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Planner {
    /// What says how many workers there should be.
    pub policy: ScalingPolicy,
    /// `hpa`, `keda`, `fixed`, `schedule`: how often it looks.
    pub interval: Duration,
    /// `throughput`, `both`: how often the throughput-based part looks.
    pub throughput_interval: Duration,
    /// `load`, `both`: how often the load-based part looks.
    pub load_interval: Duration,
    /// `load`, `both`: over which time the load-based part takes its means; `load_interval` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_window: Option<Duration>,
    /// The fewest workers.
    pub workers_min: u32,
    /// The most workers, those that drain or are kept warm included.
    pub workers_max: u32,
    /// The fewest GPUs; may be missed by less than one worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus_min: Option<u32>,
    /// The most GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus_max: Option<u32>,
    /// Whether decisions are only written down.
    pub advisory: bool,
    /// Longest time to first token.
    pub ttft: Duration,
    /// Longest gap between tokens.
    pub itl: Duration,
    /// What predicts the traffic.
    pub predictor: Predictor,
    /// `average`, `trend`: how many intervals it looks at.
    pub predictor_window: u32,
    /// `holt-winters`: intervals in a season.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictor_period: Option<u32>,
    /// Whether predictors see log(1 + x).
    pub predictor_log1p: bool,
    /// How many intervals ahead.
    pub predictor_steps: u32,
    /// Most workers that one look of the throughput-based part adds or takes away.
    pub change_max: u32,
    /// Throughput-based: in which time waiting requests are to be worked off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog_clear: Option<Duration>,
    /// Throughput-based: whether what a worker is taken to sustain is corrected by what busy workers deliver.
    pub capacity_correction: bool,
    /// Throughput-based: going down, the highest number wanted within this time counts.
    pub throughput_down_window: Duration,
    /// What the load-based part aims at.
    pub load_target: LoadTarget,
    /// `load`: above this load of one worker, there are too few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_up: Option<f64>,
    /// `load`: below this load of every worker, there are too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_down: Option<f64>,
    /// `sla`: what the next request is taken to be like.
    pub load_basis: LoadBasis,
    /// `sla`: fewer workers have to stay below this share of the targets.
    pub sensitivity: f64,
    /// Workers that one look of the load-based part adds.
    pub step_up: u32,
    /// Workers that it takes away.
    pub step_down: u32,
    /// What the load-based part does until what it asked for has come true.
    pub while_pending: WhilePending,
    /// `observe`: for how long at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_limit: Option<Duration>,
    /// `hpa`: what is a load.
    pub hpa_metric: HpaMetric,
    /// `hpa`: the mean load to keep.
    pub hpa_target: f64,
    /// `keda`: waiting requests per worker.
    pub keda_queue: f64,
    /// `hpa`, `keda`: going down, the highest number recommended within this time counts.
    pub down_window: Duration,
    /// `fixed`: how many; `fleet.workers` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed_workers: Option<u32>,
    /// `schedule`: from when on, in seconds, how many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<(f64, u32)>,
    /// `schedule`: after which it starts anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_period: Option<Duration>,
}

impl Default for Planner {
    fn default() -> Planner {
        let secs = |secs| Duration(Span::from_secs(secs));
        Planner {
            policy: ScalingPolicy::None,
            interval: secs(15),
            throughput_interval: secs(180),
            load_interval: secs(5),
            metric_window: None,
            workers_min: 1,
            workers_max: 64,
            gpus_min: None,
            gpus_max: None,
            advisory: false,
            ttft: Duration(Span::from_ms(500)),
            itl: Duration(Span::from_ms(50)),
            predictor: Predictor::Arima,
            predictor_window: 10,
            predictor_period: None,
            predictor_log1p: false,
            predictor_steps: 1,
            change_max: 8,
            backlog_clear: None,
            capacity_correction: false,
            throughput_down_window: secs(0),
            load_target: LoadTarget::Sla,
            load_up: None,
            load_down: None,
            load_basis: LoadBasis::Requests,
            sensitivity: 0.8,
            step_up: 1,
            step_down: 1,
            while_pending: WhilePending::Observe,
            pending_limit: None,
            hpa_metric: HpaMetric::Kv,
            hpa_target: 0.8,
            keda_queue: 10.0,
            down_window: secs(300),
            fixed_workers: None,
            schedule: Vec::new(),
            schedule_period: None,
        }
    }
}

/// What says how many workers there should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScalingPolicy {
    /// Nobody: there are always `fleet.workers`.
    None,
    /// As many as the expected traffic needs.
    Throughput,
    /// More when they have too much to do.
    Load,
    /// Load-based, not below what is throughput-based.
    Both,
    /// A target utilisation.
    Hpa,
    /// A queue length per worker.
    Keda,
    /// Always the same number.
    Fixed,
    /// Numbers by the clock.
    Schedule,
}

/// What predicts the traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Predictor {
    /// The last value.
    Last,
    /// The mean of the last ones.
    Average,
    /// A line through the last ones.
    Trend,
    /// Level, trend and season.
    HoltWinters,
    /// A filtered level and trend.
    Kalman,
    /// An autoregression.
    Arima,
    /// What the workload holds.
    Oracle,
}

/// What the load-based part aims at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadTarget {
    /// The latencies `ttft` and `itl`.
    Sla,
    /// Full KV pools.
    Throughput,
    /// Pools with room to spare.
    Latency,
    /// `load_up` and `load_down`.
    Load,
}

/// What estimates of latencies are made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadBasis {
    /// The mean request of the window.
    Requests,
    /// The mean of the last 64 passes.
    Passes,
}

/// What the load-based part does until what it asked for has come true.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhilePending {
    /// It goes on.
    Act,
    /// It waits.
    Observe,
}

/// What is a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HpaMetric {
    /// The used share of the KV pool.
    Kv,
    /// Requests / most in a batch.
    Batch,
}

/// `[lifecycle]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lifecycle {
    /// How long a worker takes to start; the median if there is a `startup_sigma`.
    pub startup: Duration,
    /// Above zero, start-up times are log-normal: standard deviation of the logarithm.
    pub startup_sigma: f64,
    /// Idle workers to be kept started.
    pub warm: u32,
    /// Most workers that start at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting_max: Option<u32>,
    /// Who drains when there are too many.
    pub victims: Victims,
    /// Whether the workers of the start have to start up first.
    pub cold_start: bool,
    /// In place of `startup`: what it is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
}

impl Default for Lifecycle {
    fn default() -> Lifecycle {
        Lifecycle {
            startup: Duration(Span::from_secs(60)),
            startup_sigma: 0.0,
            warm: 0,
            starting_max: None,
            victims: Victims::Newest,
            cold_start: false,
            stages: Vec::new(),
        }
    }
}

/// Who drains when there are too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Victims {
    /// Those that started last.
    Newest,
    /// Those that started first.
    Oldest,
    /// Those with the fewest requests.
    LeastLoaded,
}

/// A part of a start-up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// What it is called: for whoever reads the file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How long it takes; the median if there is a `sigma`.
    pub median: Duration,
    /// Above zero, it is log-normal: standard deviation of the logarithm.
    #[serde(default)]
    pub sigma: f64,
}
