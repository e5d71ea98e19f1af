//! The graph of a session's calls, and what can be wrong with it.

use std::fmt;

use rustc_hash::FxHashMap;

use crate::kernel::time::{Span, Time};

/// A call as it is written down.
#[derive(Clone, PartialEq, Debug)]
pub struct CallSpec {
    /// Its name within the session.
    pub id: u64,
    /// The calls that have to complete first.
    pub wait_for: Vec<u64>,
    /// From the completion of the last of these, or from the opening of the session, ms: a user thinks, an agent waits.
    pub delay_ms: f64,
    /// How long the tools take that run before the call, ms. Comes on top of the delay.
    pub tool_ms: f64,
}

/// Why a session cannot go on, or not even begin.
#[derive(Clone, PartialEq, Debug)]
pub enum PlanError {
    /// It has no calls.
    Empty,
    /// Two calls have the same name.
    Duplicate {
        /// The name.
        call: u64,
    },
    /// A call waits for itself.
    Itself {
        /// The call.
        call: u64,
    },
    /// A call waits for one that does not exist.
    Unknown {
        /// The call.
        call: u64,
        /// What it waits for.
        wait_for: u64,
    },
    /// Calls wait for one another in a circle.
    Cycle {
        /// One of them.
        call: u64,
        /// What it waits for, likewise in the circle.
        wait_for: u64,
    },
    /// A time is negative, not a number, or too long.
    Time {
        /// The call.
        call: u64,
        /// Which of its times.
        field: &'static str,
        /// What it says.
        ms: f64,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PlanError::Empty => f.write_str("a session needs at least one call"),
            PlanError::Duplicate { call } => {
                write!(f, "call {call} occurs twice, but names have to be unique in a session")
            }
            PlanError::Itself { call } => {
                write!(f, "call {call} waits for itself, so it could never start")
            }
            PlanError::Unknown { call, wait_for } => {
                write!(f, "call {call} waits for call {wait_for}, which the session does not have")
            }
            PlanError::Cycle { call, wait_for } => write!(
                f,
                "call {call} waits for call {wait_for}, which waits for call {call} in the end, so neither could start"
            ),
            PlanError::Time { call, field, ms } => write!(
                f,
                "{field} of call {call} is {ms} ms, but has to lie between 0 and {LONGEST_MS:e} ms"
            ),
        }
    }
}

impl std::error::Error for PlanError {}

/// The longest delay that a session may be written down with: 26 days, in ms.
pub const LONGEST_MS: f64 = 2.25e9;

/// The calls of one session, by their place in the list they were given in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    calls: Vec<Call>,
    /// The calls that wait for each call, one call after the other.
    followers: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Call {
    /// Where its followers begin.
    followers: u32,
    /// How many calls it waits for.
    waits: u32,
    /// Delay and tools together.
    delay: Span,
    /// The latest end of a call that it waits for, so far.
    latest: Time,
}

impl Plan {
    /// Checks the calls of a session.
    ///
    /// # Errors
    /// When they could not all be made. Naming a call twice among those to wait for is allowed.
    pub fn new(specs: &[CallSpec]) -> Result<Plan, PlanError> {
        if specs.is_empty() {
            return Err(PlanError::Empty);
        }
        let mut places = FxHashMap::default();
        for (place, spec) in (0..).zip(specs) {
            if places.insert(spec.id, place).is_some() {
                return Err(PlanError::Duplicate { call: spec.id });
            }
        }
        let mut edges: Vec<(u32, u32)> = Vec::new();
        let mut calls = Vec::with_capacity(specs.len());
        for (place, spec) in (0_u32..).zip(specs) {
            let first = edges.len();
            for &wait_for in &spec.wait_for {
                if wait_for == spec.id {
                    return Err(PlanError::Itself { call: spec.id });
                }
                let unknown = PlanError::Unknown { call: spec.id, wait_for };
                let before: u32 = *places.get(&wait_for).ok_or(unknown)?;
                if !edges[first..].contains(&(before, place)) {
                    edges.push((before, place));
                }
            }
            let waits = (edges.len() - first) as u32;
            let delay = span(spec.id, "delay", spec.delay_ms)?;
            let tool = span(spec.id, "tool time", spec.tool_ms)?;
            calls.push(Call { followers: 0, waits, delay: delay + tool, latest: Time::ZERO });
        }
        edges.sort_unstable();
        for (place, call) in (0_u32..).zip(&mut calls) {
            call.followers = edges.partition_point(|&(before, _)| before < place) as u32;
        }
        let plan = Plan { calls, followers: edges.into_iter().map(|(_, after)| after).collect() };
        plan.check_order(specs)?;
        Ok(plan)
    }

    /// A chain: each call waits for the one before and then for its delay; the first one comes at once.
    pub fn chain(delays: impl IntoIterator<Item = Span>) -> Plan {
        let call = |delay, place: u32| Call {
            followers: place,
            waits: u32::from(place > 0),
            delay,
            latest: Time::ZERO,
        };
        let mut calls = vec![call(Span::ZERO, 0)];
        calls.extend((1..).zip(delays).map(|(place, delay)| call(delay, place)));
        let followers = (1..calls.len() as u32).collect();
        Plan { calls, followers }
    }

    /// How many calls there are; at least one.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Divides all delays by `factor`, which is above 0.
    pub fn speed_up(&mut self, factor: f64) {
        for call in &mut self.calls {
            // It may become longer than virtual time: then the session cannot go on.
            call.delay = Span::from_ns((call.delay.as_ns() as f64 / factor).round() as u64);
        }
    }

    /// The calls that wait for none, and their delays.
    pub(super) fn first(&self) -> impl Iterator<Item = (u32, Span)> {
        let calls = (0..).zip(&self.calls);
        calls.filter(|(_, call)| call.waits == 0).map(|(place, call)| (place, call.delay))
    }

    /// The calls that wait for this one.
    fn followers(&self, place: u32) -> std::ops::Range<usize> {
        let next = self.calls.get(place as usize + 1);
        let end = next.map_or(self.followers.len(), |next| next.followers as usize);
        self.calls[place as usize].followers as usize..end
    }

    /// A call has ended; `ready` hears which calls wait no more, and when they are to be made.
    pub(super) fn complete(&mut self, place: u32, at: Time, mut ready: impl FnMut(u32, Time)) {
        for index in self.followers(place) {
            let follower = self.followers[index];
            let call = &mut self.calls[follower as usize];
            call.latest = call.latest.max(at);
            call.waits -= 1;
            if call.waits == 0 {
                ready(follower, call.latest.saturating_add(call.delay));
            }
        }
    }

    /// That there is an order in which all calls can be made.
    fn check_order(&self, specs: &[CallSpec]) -> Result<(), PlanError> {
        let mut left: Vec<u32> = self.calls.iter().map(|call| call.waits).collect();
        let mut free: Vec<u32> = self.first().map(|(place, _)| place).collect();
        while let Some(place) = free.pop() {
            for index in self.followers(place) {
                let follower = self.followers[index];
                left[follower as usize] -= 1;
                if left[follower as usize] == 0 {
                    free.push(follower);
                }
            }
        }
        let Some(mut place) = left.iter().position(|&left| left > 0) else { return Ok(()) };
        // Every call that is left waits for one that is left. Going from one to the next leads into a circle.
        let place_of: FxHashMap<u64, usize> =
            specs.iter().enumerate().map(|(place, spec)| (spec.id, place)).collect();
        let before = |place: usize| {
            let waits = specs[place].wait_for.iter().map(|id| place_of[id]);
            waits.into_iter().find(|&before| left[before] > 0).unwrap_or(place)
        };
        for _ in 0..specs.len() {
            place = before(place);
        }
        Err(PlanError::Cycle { call: specs[place].id, wait_for: specs[before(place)].id })
    }
}

/// A time in ms that was written down.
fn span(call: u64, field: &'static str, ms: f64) -> Result<Span, PlanError> {
    if (0.0..=LONGEST_MS).contains(&ms) {
        Ok(Span::from_ms_f64(ms))
    } else {
        Err(PlanError::Time { call, field, ms })
    }
}

#[cfg(test)]
mod tests;
