//! How far each side of the star may run in a phase.
//!
//! The hub promises that what it sends arrives at least `hub_lookahead` later, the spokes theirs. All events before a
//! side's horizon have been handled. From what is known of the next events of both sides follows how early the next one
//! can be at all, and from that, through the promise of the other side, how far each may run: see the README.

use crate::kernel::time::{Span, Time};

/// Where the two sides stand: every event before these times has been handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Horizons {
    pub(super) hub: Time,
    pub(super) spokes: Time,
}

/// The lookahead of both sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookahead {
    pub(super) hub: Span,
    pub(super) spokes: Span,
}

impl Lookahead {
    /// Whether horizons advance at all.
    pub(super) fn is_positive(self) -> bool {
        self.hub > Span::ZERO || self.spokes > Span::ZERO
    }

    /// The horizons of the next phase, when the earliest known events of both sides are these. `sends` is the earliest event
    /// that can make the hub send something, if that is known.
    pub(super) fn next(self, reached: Horizons, next: Horizons, sends: Option<Time>) -> Horizons {
        // An event that nobody knows of yet is caused by a known one, through a message that takes its lookahead. Neither
        // bound can undercut the other in turn, since the lookahead around the loop is positive.
        let spokes = reached.spokes.max(next.spokes);
        let heard = || reached.hub.max(next.hub.min(spokes.saturating_add(self.spokes)));
        let hub = sends.unwrap_or_else(heard);
        let spokes = reached.spokes.max(next.spokes.min(hub.saturating_add(self.hub)));
        let bounds = Horizons {
            hub: spokes.saturating_add(self.spokes),
            spokes: hub.saturating_add(self.hub),
        };
        let silence = hub.as_ns().saturating_sub(reached.hub.as_ns());
        self.leave_some(reached, bounds, silence)
    }

    /// Lets the hub go as far as it may, and leaves the spokes something to do while it works through what they did: they take
    /// half of what they may, but at least half of what the loop takes, and half of the silence on top, if that is no more.
    fn leave_some(self, reached: Horizons, bounds: Horizons, silence: u64) -> Horizons {
        if self.spokes == Span::FOREVER {
            return bounds;
        }
        let lap = self.hub.as_ns().saturating_add(self.spokes.as_ns());
        let least = lap.div_ceil(2) + silence.min(lap) / 2;
        let room = bounds.spokes.as_ns().saturating_sub(reached.spokes.as_ns());
        let taken = Span::from_ns(room.min(least.max(room / 2)));
        Horizons { hub: bounds.hub.max(reached.hub), spokes: reached.spokes.saturating_add(taken) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKAHEAD: Lookahead = Lookahead { hub: Span::from_ms(1), spokes: Span::from_ms(9) };

    fn ms(hub: u64, spokes: u64) -> Horizons {
        let time = |ms| Time::ZERO.saturating_add(Span::from_ms(ms));
        Horizons { hub: time(hub), spokes: time(spokes) }
    }

    /// The horizons after a few phases in which both sides always have something to do at once.
    fn after(phases: u64, sends: impl Fn(Horizons) -> Option<Time>) -> Horizons {
        (0..phases).fold(ms(0, 0), |reached, _| LOOKAHEAD.next(reached, reached, sends(reached)))
    }

    #[test]
    fn both_sides_advance_by_half_of_what_the_loop_takes() {
        assert_eq!(after(1, |_| None), ms(9, 1), "the spokes wait for the hub at first");
        assert_eq!(after(2, |_| None), ms(10, 6));
        assert_eq!(after(9, |_| None), ms(45, 41));
    }

    #[test]
    fn a_hub_that_is_silent_makes_phases_long() {
        let silent = |reached: Horizons| Some(reached.hub.saturating_add(Span::from_ms(20)));
        let (four, six) = (after(4, silent), after(6, silent));
        assert_eq!(six.hub.since(four.hub), Span::from_ms(20));
        assert_eq!(six.spokes.since(four.spokes), Span::from_ms(20));
        let long = LOOKAHEAD.next(ms(7, 3), ms(7, 3), Some(ms(1000, 0).hub));
        assert_eq!(long, ms(12, 502));
        let last = LOOKAHEAD.next(ms(7, 3), ms(7, 3), Some(Time::NEVER));
        assert!(last.spokes > Time::MAX, "nobody sends them anything any more");
    }

    #[test]
    fn idle_stretches_are_jumped_over() {
        let next = LOOKAHEAD.next(ms(5, 1), ms(1000, 2000), None);
        assert_eq!(next, ms(1010, 501));
    }
}
