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

    /// The first horizons. The hub gets half of what the spokes promise more than it does as a lead, so that both sides
    /// advance by the same amount in every phase.
    pub(super) fn first(self) -> Horizons {
        let (hub, spokes) = (self.hub.as_ns(), self.spokes.as_ns());
        if self.spokes == Span::FOREVER {
            return Horizons { hub: Time::NEVER, spokes: Time::ZERO.saturating_add(self.hub) };
        }
        let lead = |ahead: u64, behind: u64| Time::from_ns(ahead.saturating_sub(behind) / 2);
        Horizons { hub: lead(spokes, hub), spokes: lead(hub, spokes) }
    }

    /// The horizons of the next phase, when the earliest known events of both sides are these.
    pub(super) fn next(self, reached: Horizons, next: Horizons) -> Horizons {
        // An event that nobody knows of yet is caused by a known one, through a message that takes its lookahead. Neither
        // bound can undercut the other in turn, since the lookahead around the loop is positive.
        let spokes = reached.spokes.max(next.spokes);
        let hub = reached.hub.max(next.hub.min(spokes.saturating_add(self.spokes)));
        let spokes = reached.spokes.max(next.spokes.min(hub.saturating_add(self.hub)));
        let bounds = Horizons {
            hub: spokes.saturating_add(self.spokes),
            spokes: hub.saturating_add(self.hub),
        };
        let Horizons { hub, spokes } = self.balance(bounds);
        Horizons { hub: hub.max(reached.hub), spokes: spokes.max(reached.spokes) }
    }

    /// Takes back one side so far that the hub keeps its lead; see [`Lookahead::first`]. Without that, both sides would
    /// take turns in being busy: a lead that is too large in one phase is too small in the next.
    fn balance(self, bounds: Horizons) -> Horizons {
        if self.spokes == Span::FOREVER {
            return bounds;
        }
        let Horizons { hub: ahead, spokes: behind } = self.first();
        let (hub, spokes) = (bounds.hub.as_ns(), bounds.spokes.as_ns());
        let spokes_with_lead = hub.saturating_add(behind.as_ns()).saturating_sub(ahead.as_ns());
        let hub_with_lead = spokes.saturating_add(ahead.as_ns()).saturating_sub(behind.as_ns());
        Horizons {
            hub: Time::from_ns(hub.min(hub_with_lead)),
            spokes: Time::from_ns(spokes.min(spokes_with_lead)),
        }
    }
}
