//! The part of the configuration that is about who is let in.

use serde::{Deserialize, Serialize};

use crate::io::config::text::Duration;

/// `[admission]`
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admission {
    /// The most requests in the fleet: sent to workers, and not known to have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u64>,
    /// The most requests that wait in the router's queue; who comes then is turned away at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_limit: Option<u64>,
    /// The longest that a request waits there before it is turned away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Duration>,
}
