//! `[workload]`: where requests come from.

use serde::{Deserialize, Serialize};

use crate::io::config::text::{Agents, Duration};
use crate::kernel::Span;

/// `[workload]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// A trace file; without one, requests are generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// How the trace is written.
    pub format: TraceFormat,
    /// Tokens in a block that one of the trace's ids names.
    pub trace_block_size: u32,
    /// A turn of a session comes when the one before has completed, not at its time.
    pub turns_wait: bool,
    /// Leave out lines of the trace that make no sense, and count them.
    pub skip_bad_lines: bool,
    /// Which generator makes the requests when there is no trace.
    pub preset: Preset,
    /// Start this long after the first request of the source.
    pub from: Duration,
    /// Stop this long after the first request of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Duration>,
    /// Stop after so many requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Requests arrive so many times faster.
    pub speedup: f64,
    /// Play the source so many times at once, every copy with prefixes of its own.
    pub copies: u32,
    /// The copies of a request are spread evenly over this time.
    pub copy_spread: Duration,
    /// Keep so many requests in flight instead of following the source's times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Names of columns or fields, for the formats `csv` and `jsonl`.
    #[serde(skip_serializing_if = "Columns::is_unset")]
    pub columns: Columns,
    /// Parameters of the presets `custom` and `agents`.
    #[serde(skip_serializing_if = "Generate::is_unset")]
    pub generate: Generate,
    /// More parameters of the preset `agents`.
    #[serde(skip_serializing_if = "Agents::is_unset")]
    pub agents: Agents,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            trace: None,
            format: TraceFormat::Auto,
            trace_block_size: 512,
            turns_wait: false,
            skip_bad_lines: false,
            preset: Preset::Toolagent,
            from: Duration::default(),
            until: None,
            requests: None,
            speedup: 1.0,
            copies: 1,
            copy_spread: Duration(Span::from_secs(60)),
            concurrency: None,
            columns: Columns::default(),
            generate: Generate::default(),
            agents: Agents::default(),
        }
    }
}

/// How a trace is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceFormat {
    /// Found out from the file's first line.
    Auto,
    /// Mooncake's JSONL.
    Mooncake,
    /// The Azure LLM inference trace of 2023, and files with the same columns.
    Azure,
    /// BurstGPT.
    Burstgpt,
    /// CSV with the columns named in `workload.columns`.
    Csv,
    /// JSONL with the fields named in `workload.columns`.
    Jsonl,
    /// Dynamo's request-trace JSONL, version 1.
    Dynamo,
}

/// A generator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Chats and two tools, fitted to the published statistics of Mooncake's `toolagent` trace.
    Toolagent,
    /// The chats alone, fitted to the `conversation` trace.
    Conversation,
    /// As `workload.generate` says.
    Custom,
    /// Agents, as `workload.generate` and `workload.agents` say.
    Agents,
}

/// `[workload.columns]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// When a request arrived.
    pub timestamp: String,
    /// What the timestamp counts.
    pub timestamp_unit: TimestampUnit,
    /// Tokens of the prompt.
    pub input_tokens: String,
    /// Tokens to generate.
    pub output_tokens: String,
    /// The session, if the trace has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The ids of the prompt's blocks, if a JSONL trace has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_ids: Option<String>,
}

impl Columns {
    fn is_unset(&self) -> bool {
        *self == Columns::default()
    }
}

impl Default for Columns {
    fn default() -> Columns {
        Columns {
            timestamp: "timestamp".to_owned(),
            timestamp_unit: TimestampUnit::S,
            input_tokens: "input_tokens".to_owned(),
            output_tokens: "output_tokens".to_owned(),
            session: None,
            hash_ids: None,
        }
    }
}

/// What the timestamps of a trace count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
    /// A date and time, such as `2023-11-16 18:17:03.98`.
    Datetime,
}

/// `[workload.generate]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Generate {
    /// How long requests arrive.
    pub duration: Duration,
    /// The arrival process.
    pub arrivals: Arrivals,
    /// Requests (first turns) per second, on average over a flat or diurnal rate.
    pub rate: f64,
    /// Coefficient of variation of the gaps, for `gamma`: above 1 is bursty.
    pub cv: f64,
    /// Swing of a daily rate around its mean, from 0 (flat) to 1.
    pub diurnal_amplitude: f64,
    /// Length of the daily cycle; the rate is lowest at its start.
    pub diurnal_period: Duration,
    /// A rate that changes: pairs of a time in seconds and the rate from then on. Replaces `rate`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<(f64, f64)>,
    /// New prompt tokens of a turn, without prefix and earlier turns.
    pub prompt_tokens: Lengths,
    /// Tokens to generate.
    pub output_tokens: Lengths,
    /// How many shared prefixes (system prompts, tools) there are.
    pub prefix_groups: u32,
    /// Tokens in each of them.
    pub prefix_tokens: u32,
    /// The share of sessions that start with one.
    pub prefix_share: f64,
    /// Popularity of the k-th prefix falls with k to this power; 0 makes all alike.
    pub prefix_skew: f64,
    /// Turns of a session, on average; each turn's prompt is all that was said before and something new.
    pub turns: f64,
    /// From one turn's arrival, or its answer if turns wait, to the next, on average; exponentially distributed.
    pub turn_gap: Duration,
    /// Longest prompt; a session ends before it.
    pub prompt_tokens_max: u32,
}

impl Generate {
    fn is_unset(&self) -> bool {
        *self == Generate::default()
    }
}

impl Default for Generate {
    fn default() -> Generate {
        Generate {
            duration: Duration(Span::from_secs(3600)),
            arrivals: Arrivals::Poisson,
            rate: 5.0,
            cv: 1.0,
            diurnal_amplitude: 0.0,
            diurnal_period: Duration(Span::from_secs(86_400)),
            steps: Vec::new(),
            prompt_tokens: Lengths::default(),
            output_tokens: Lengths::default(),
            prefix_groups: 0,
            prefix_tokens: 0,
            prefix_share: 1.0,
            prefix_skew: 1.0,
            turns: 1.0,
            turn_gap: Duration(Span::from_secs(60)),
            prompt_tokens_max: 131_072,
        }
    }
}

/// An arrival process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Equal gaps.
    Constant,
    /// Exponential gaps.
    Poisson,
    /// Gamma gaps with the coefficient of variation `cv`.
    Gamma,
}

/// A distribution of lengths, in tokens.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lengths {
    /// Its shape.
    pub distribution: LengthDistribution,
    /// The mean of `fixed` and `lognormal`.
    pub mean: f64,
    /// The standard deviation of the logarithm, for `lognormal`.
    pub sigma: f64,
    /// The quantiles of `empirical`, evenly spaced from the smallest to the largest value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<f64>,
    /// No value is below this.
    pub min: u32,
    /// No value is above this.
    pub max: u32,
}

impl Default for Lengths {
    fn default() -> Lengths {
        Lengths {
            distribution: LengthDistribution::Lognormal,
            mean: 500.0,
            sigma: 1.0,
            quantiles: Vec::new(),
            min: 1,
            max: 131_072,
        }
    }
}

/// The shape of a distribution of lengths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LengthDistribution {
    /// Always the mean.
    Fixed,
    /// Log-normal.
    Lognormal,
    /// By its quantiles.
    Empirical,
}
