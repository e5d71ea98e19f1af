//! Limits that the front end keeps: how many requests may be in the fleet, how many may wait, and for how long.

use crate::kernel::time::Span;

/// The limits; each that is absent does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AdmissionSpec {
    /// The most requests that have been sent to workers and are not known to have ended; above 0.
    pub max_in_flight: Option<u64>,
    /// The most requests that wait in the router's queue; who comes then is turned away at once.
    pub queue_limit: Option<u64>,
    /// The longest that a request waits there, above zero; then it is turned away.
    pub max_wait: Option<Span>,
}

/// What came of them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Admitted {
    /// The most requests that might be in the fleet, if there is a limit.
    pub max_in_flight: Option<u64>,
    /// The most that might wait, of all classes together, if there is a limit.
    pub queue_limit: Option<u64>,
    /// Requests that were sent to workers.
    pub let_in: u64,
    /// Requests that were turned away because as many waited as may.
    pub queue_full: u64,
    /// Requests that were turned away because they had waited too long.
    pub expired: u64,
    /// The most requests that had been sent to workers and were not known to have ended.
    pub in_flight_max: u64,
    /// The most requests that waited at once.
    pub waiting_max: u64,
}
