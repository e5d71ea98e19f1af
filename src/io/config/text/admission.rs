//! The part of the configuration that is about who is let in, and of what class.

use serde::{Deserialize, Serialize};

use crate::io::config::text::{Duration, Slo};

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

/// `[classes.NAME]`
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Class {
    /// Its share of the requests, relative to the sum of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// What its requests have in strict priority on top of their own.
    pub priority: i32,
    /// The most of its requests that wait, in place of `admission.queue_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_limit: Option<u64>,
    /// The longest that its requests wait, in place of `admission.max_wait`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Duration>,
    /// What counts as good service, in place of `[slo]` if any of it is set.
    pub slo: Slo,
}
