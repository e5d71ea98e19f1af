//! Who of a fleet is at work while it runs, for whoever asks from another thread.

use std::fmt;

use crate::fleet::message::worker_at;
use crate::kernel::{self, Time};
use crate::model::request::WorkerId;

/// Looks into a run from another thread.
#[derive(Clone, Debug)]
pub struct Activity(kernel::Activity);

/// The coordinator or a worker at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy {
    /// Which worker; the coordinator if none.
    pub worker: Option<WorkerId>,
    /// The virtual time of the event it handles.
    pub time: Time,
}

impl Activity {
    pub(super) fn new(activity: kernel::Activity) -> Activity {
        Activity(activity)
    }

    /// Who handles an event at this moment. In a run that has stopped moving, that is who keeps it from moving.
    pub fn busy(&self) -> Vec<Busy> {
        let busy = self.0.busy().into_iter();
        busy.map(|(lp, time)| Busy { worker: worker_at(lp), time }).collect()
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.worker {
            Some(worker) => write!(f, "{worker}")?,
            None => f.write_str("the coordinator")?,
        }
        write!(f, " at {}", self.time)
    }
}
