//! The workers that may be chosen, as a sorted list: for policies that draw one, or go through all.

use crate::model::request::WorkerId;

/// Workers in the order of their numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Members(Vec<u32>);

impl Members {
    /// The workers `0..len`.
    pub(super) fn full(len: u32) -> Members {
        Members((0..len).collect())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The one at a place of the list.
    pub(super) fn at(&self, place: usize) -> WorkerId {
        WorkerId(self.0[place])
    }

    /// Adds a worker, if it is new. Says where it stands then.
    pub(super) fn add(&mut self, worker: WorkerId) -> Option<usize> {
        let place = self.0.binary_search(&worker.0).err()?;
        self.0.insert(place, worker.0);
        Some(place)
    }

    /// Takes a worker out, if it is there. Says where it stood.
    pub(super) fn remove(&mut self, worker: WorkerId) -> Option<usize> {
        let place = self.0.binary_search(&worker.0).ok()?;
        self.0.remove(place);
        Some(place)
    }
}
