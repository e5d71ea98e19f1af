//! Who of a fleet is at work while it runs, for whoever asks from another thread.

use std::fmt;

use crate::fleet::layout::{Layout, Role};
use crate::kernel::{self, Time};

/// Looks into a run from another thread.
#[derive(Clone, Debug)]
pub struct Activity {
    activity: kernel::Activity,
    layout: Layout,
}

/// Somebody at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy {
    /// Who.
    pub role: Role,
    /// The virtual time of the event it handles.
    pub time: Time,
}

impl Activity {
    pub(super) fn new(activity: kernel::Activity, layout: Layout) -> Activity {
        Activity { activity, layout }
    }

    /// Who handles an event at this moment. In a run that has stopped moving, that is who keeps it from moving.
    pub fn busy(&self) -> Vec<Busy> {
        let busy = self.activity.busy().into_iter();
        busy.map(|(lp, time)| Busy { role: self.layout.role(lp), time }).collect()
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.role, self.time)
    }
}
