//! What can be said of a run before it starts.

use std::fmt;

use crate::fleet::{FleetSpec, Load, Scaling};
use crate::io::traffic::Traffic;
use crate::kernel::Span;
use crate::model::planner::Late;

/// Sentences for the reader, before the run, and whether the Planner comes too late.
pub(super) fn foreseen(fleet: &FleetSpec, traffic: &Traffic) -> (Vec<String>, Option<Late>) {
    let Some(scaling) = &fleet.scaling else { return (Vec::new(), None) };
    let is_open =
        matches!(fleet.load, Load::Open) && fleet.client.is_none_or(|client| client.retries == 0);
    let end = traffic.arrivals_end().filter(|_| is_open);
    let look = |end| Some((late_look(scaling, end)?, Late::Look));
    let startups = |end| Some((late_startups(scaling, end)?, Late::Startups));
    let (sentence, late) = end.and_then(|end| look(end).or_else(|| startups(end))).unzip();
    (cold_reserve(scaling).into_iter().chain(sentence).collect(), late)
}

/// A first look after the last arrival.
fn late_look(scaling: &Scaling, end: Span) -> Option<String> {
    let first = scaling.planner.first_look();
    (end <= first).then(|| {
        let (first, end) = (Rounded(first), Rounded(end));
        format!(
            "the Planner looks for the first time after {first}, and all requests arrive within {end}: what it \
             decides changes little or nothing, see the intervals in [planner]"
        )
    })
}

/// Start-ups that last until after the last arrival. The Planner looks for the first time when some of it has passed, so
/// what it starts comes even later. Warm workers are there at once.
fn late_startups(scaling: &Scaling, end: Span) -> Option<String> {
    let startup = scaling.lifecycle.startup.shortest();
    (end <= startup && scaling.lifecycle.warm == 0).then(|| {
        let (startup, end) = (Rounded(startup), Rounded(end));
        format!(
            "a start-up takes {startup}, and all requests arrive within {end}: workers that the Planner \
             starts cost GPU time and get no request but those that wait in the router until then, \
             see [lifecycle]"
        )
    })
}

/// Warm workers for which there is no place beside those that serve at the start.
fn cold_reserve(scaling: &Scaling) -> Option<String> {
    let (initial, most) = (scaling.planner.initial, scaling.lifecycle.workers_max);
    let (warm, room) = (scaling.lifecycle.warm, most.saturating_sub(initial));
    (warm > room).then(|| {
        format!(
            "lifecycle.warm is {warm}, but beside the {initial} workers of the start there is room for {room} of \
             the {most} there can be (planner.workers_max, planner.gpus_max): until fewer are asked for, no more \
             are kept warm"
        )
    })
}

/// A time for a reader: as it is if that is short, else in the largest unit that it has one of, with one decimal.
struct Rounded(Span);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHORT: usize = 6;
        let exact = self.0.to_string();
        let units = [(86_400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s")];
        let seconds = self.0.as_secs();
        match units.into_iter().find(|&(unit, _)| seconds >= unit) {
            Some((unit, name)) if exact.len() > SHORT => write!(f, "{:.1}{name}", seconds / unit),
            _ => f.write_str(&exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_units_that_people_read() {
        for (ns, text) in [
            (1 << 51, "26.1d"),
            (3_456_789_012_345, "57.6m"),
            (90_000_000_000, "90s"),
            (86_400_000_000_000, "1d"),
            (1_234_567_890, "1.2s"),
            (1_234_567, "1234567ns"),
        ] {
            assert_eq!(Rounded(Span::from_ns(ns)).to_string(), text);
        }
    }
}
