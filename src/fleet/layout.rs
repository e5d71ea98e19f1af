//! Which LP of a fleet is who.
//!
//! ```text
//! one front end: coordinator, worker, worker, ...
//! cells:         balancer, coordinator, worker, worker, ..., coordinator, worker, worker, ...
//! ```

use std::ops::Range;

use crate::fleet::spec::FleetSpec;
use crate::kernel::LpId;
use crate::model::request::WorkerId;

/// Who an LP is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Deals requests to the cells.
    Balancer,
    /// The front end of the fleet, or of this cell.
    Coordinator {
        /// Which; nothing if the fleet is not divided.
        cell: Option<u32>,
    },
    /// This worker.
    Worker(WorkerId),
}

/// The order of LPs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    cells: Option<u32>,
    /// The workers of each pool.
    pools: Vec<u32>,
}

impl Layout {
    pub(super) fn new(spec: &FleetSpec) -> Layout {
        let cells = spec.cells.map(|cells| cells.count);
        Layout { cells, pools: spec.pools.iter().map(|pool| pool.workers).collect() }
    }

    /// How many LPs a cell has, its coordinator included; all cells are alike.
    pub(super) fn lps_per_cell(&self) -> usize {
        let workers: u32 = self.pools.iter().sum();
        1 + (workers / self.cells.unwrap_or(1)) as usize
    }

    /// The coordinator of a cell, or of an undivided fleet.
    pub(super) fn coordinator(&self, cell: u32) -> LpId {
        let first = u32::from(self.cells.is_some());
        LpId::new(first + cell * self.lps_per_cell() as u32)
    }

    /// The workers of a cell, or of an undivided fleet, in the order in which its coordinator numbers them: an equal part of
    /// each pool.
    pub(super) fn workers(&self, cell: u32) -> impl Iterator<Item = WorkerId> + use<> {
        let mut first = 0;
        let cells = self.cells.unwrap_or(1);
        let part = |&workers: &u32| {
            let (start, size) = (first, workers / cells);
            first += workers;
            start + cell * size..start + (cell + 1) * size
        };
        let ranges: Vec<Range<u32>> = self.pools.iter().map(part).collect();
        ranges.into_iter().flatten().map(WorkerId)
    }

    /// Who an LP is.
    pub(super) fn role(&self, lp: LpId) -> Role {
        let Some(place) = lp.get().checked_sub(u32::from(self.cells.is_some())) else {
            return Role::Balancer;
        };
        let size = self.lps_per_cell() as u32;
        let (cell, place) = (place / size, place % size);
        match place.checked_sub(1).and_then(|place| self.workers(cell).nth(place as usize)) {
            Some(worker) => Role::Worker(worker),
            None => Role::Coordinator { cell: self.cells.map(|_| cell) },
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Role::Balancer => f.write_str("the balancer"),
            Role::Coordinator { cell: None } => f.write_str("the coordinator"),
            Role::Coordinator { cell: Some(cell) } => write!(f, "the coordinator of cell {cell}"),
            Role::Worker(worker) => write!(f, "{worker}"),
        }
    }
}

/// The coordinator of an undivided fleet.
pub(super) const COORDINATOR: LpId = LpId::new(0);

/// The LP of a worker that has this number at its coordinator.
pub(super) fn worker_lp(coordinator: LpId, worker: WorkerId) -> LpId {
    LpId::new(coordinator.get() + 1 + worker.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lp_is_somebody() {
        let fleets =
            [(None, vec![5]), (Some(1), vec![4]), (Some(3), vec![6, 3]), (Some(2), vec![8])];
        for (cells, pools) in fleets {
            let layout = Layout { cells, pools };
            let mut expected = Vec::new();
            expected.extend(cells.map(|_| Role::Balancer));
            for cell in 0..cells.unwrap_or(1) {
                assert_eq!(layout.coordinator(cell).index(), expected.len());
                expected.push(Role::Coordinator { cell: cells.map(|_| cell) });
                for (local, worker) in (0..).zip(layout.workers(cell)) {
                    let lp = worker_lp(layout.coordinator(cell), WorkerId(local));
                    assert_eq!(lp.index(), expected.len());
                    expected.push(Role::Worker(worker));
                }
            }
            let found: Vec<Role> =
                (0..expected.len() as u32).map(|lp| layout.role(LpId::new(lp))).collect();
            assert_eq!(found, expected, "{layout:?}");
        }
        let mixed = Layout { cells: Some(3), pools: vec![6, 3] };
        assert_eq!(mixed.workers(1).map(|worker| worker.0).collect::<Vec<_>>(), [2, 3, 7]);
    }
}
