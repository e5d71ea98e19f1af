//! The part of the configuration that is about sessions: agents, and clients that wait.

use serde::{Deserialize, Serialize};

use crate::io::config::text::Duration;
use crate::kernel::Span;

/// `[workload.agents]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agents {
    /// Rounds of branches in a session, on average; a geometric distribution.
    pub rounds: f64,
    /// The fewest branches of a round.
    pub fan_out_min: u32,
    /// The most; all numbers in between are alike.
    pub fan_out_max: u32,
    /// Calls of a branch, on average; a geometric distribution.
    pub branch_calls: f64,
    /// How long a tool takes; the median of a log-normal distribution.
    pub tool_time: Duration,
    /// Standard deviation of the logarithm of that.
    pub tool_sigma: f64,
}

impl Agents {
    pub(super) fn is_unset(&self) -> bool {
        *self == Agents::default()
    }
}

impl Default for Agents {
    fn default() -> Agents {
        Agents {
            rounds: 2.0,
            fan_out_min: 1,
            fan_out_max: 4,
            branch_calls: 3.0,
            tool_time: Duration(Span::from_secs(2)),
            tool_sigma: 1.0,
        }
    }
}

/// `[client]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// The longest wait for the first token of a try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_timeout: Option<Duration>,
    /// The longest wait for the last token of a try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Tries after the first one.
    pub retries: u32,
    /// The pause after the first try.
    pub backoff: Duration,
    /// By how much pauses grow from one try to the next.
    pub backoff_factor: f64,
    /// The longest pause.
    pub backoff_max: Duration,
    /// Which share of a pause is random, from 0 to 1.
    pub backoff_jitter: f64,
}

impl Default for Client {
    fn default() -> Client {
        Client {
            ttft_timeout: None,
            timeout: None,
            retries: 0,
            backoff: Duration(Span::from_secs(1)),
            backoff_factor: 2.0,
            backoff_max: Duration(Span::from_secs(30)),
            backoff_jitter: 0.5,
        }
    }
}
