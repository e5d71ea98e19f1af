//! What the phases of a run were, whoever ran them.

use crate::kernel::parallel::horizon::Horizons;
use crate::kernel::rng::mix64;

/// Kept by the leaders, one after the other. For the same LPs it is the same on any number of threads (INV-14).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Census {
    pub(super) phases: u64,
    /// A hash chain over the horizons of all phases.
    pub(super) horizons: u64,
    /// How many tasks all phases had. It depends on the size of groups.
    pub(super) tasks: u64,
}

impl Census {
    /// One more phase, with these horizons and so many tasks.
    pub(super) fn add(&mut self, horizons: Horizons, tasks: usize) {
        let Horizons { hub, spokes } = horizons;
        self.phases += 1;
        self.horizons = mix64(self.horizons ^ hub.as_ns().rotate_left(32) ^ spokes.as_ns());
        self.tasks += tasks as u64;
    }
}
