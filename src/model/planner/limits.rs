//! What no policy may leave: numbers of workers, GPU budgets.

use std::fmt;

use crate::model::planner::decision::Limit;

/// Bounds on the size of one pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The fewest workers; zero lets a fleet without traffic vanish.
    workers_min: u32,
    /// The most workers.
    workers_max: u32,
    /// The fewest workers that use the lower GPU budget.
    gpus_min: u32,
    /// The most workers that the upper GPU budget holds.
    gpus_max: u32,
}

/// Bounds that contradict one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LimitsError {
    /// A worker without a GPU.
    NoGpu,
    /// More workers at least than at most.
    Workers {
        /// At least.
        min: u32,
        /// At most.
        max: u32,
    },
    /// The budget does not hold the fewest workers.
    Budget {
        /// GPUs at most.
        gpus_max: u32,
        /// GPUs that the fewest workers need.
        needed: u64,
    },
    /// More GPUs at least than at most.
    Gpus {
        /// At least.
        min: u32,
        /// At most.
        max: u32,
    },
    /// More GPUs at least than the most workers have.
    FewWorkers {
        /// GPUs at least.
        gpus_min: u32,
        /// The most workers.
        workers_max: u32,
        /// The GPUs of them.
        gpus: u64,
    },
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            LimitsError::NoGpu => f.write_str("a worker needs at least one GPU"),
            LimitsError::Workers { min, max } => {
                write!(f, "at least {min} workers and at most {max} cannot both hold")
            }
            LimitsError::Budget { gpus_max, needed } => write!(
                f,
                "a budget of {gpus_max} GPUs does not hold the least number of workers, which needs {needed}"
            ),
            LimitsError::Gpus { min, max } => {
                write!(f, "at least {min} GPUs and at most {max} cannot both hold")
            }
            LimitsError::FewWorkers { gpus_min, workers_max, gpus } => write!(
                f,
                "at least {gpus_min} GPUs are more than the largest number of workers, {workers_max}, has: {gpus}"
            ),
        }
    }
}

impl std::error::Error for LimitsError {}

impl Limits {
    /// From numbers of workers and GPUs; an absent budget is no bound. The upper GPU budget is hard. The lower one may be
    /// missed by less than a worker, as in the reference peer.
    ///
    /// # Errors
    /// When no number of workers keeps all of them.
    pub fn new(
        workers_min: u32,
        workers_max: u32,
        gpus_per_worker: u32,
        gpus_min: Option<u32>,
        gpus_max: Option<u32>,
    ) -> Result<Limits, LimitsError> {
        if gpus_per_worker == 0 {
            return Err(LimitsError::NoGpu);
        }
        if workers_min > workers_max {
            return Err(LimitsError::Workers { min: workers_min, max: workers_max });
        }
        let mut limits = Limits { workers_min, workers_max, gpus_min: 0, gpus_max: u32::MAX };
        if let Some(gpus_max) = gpus_max {
            let needed = u64::from(workers_min) * u64::from(gpus_per_worker);
            if u64::from(gpus_max) < needed {
                return Err(LimitsError::Budget { gpus_max, needed });
            }
            limits.gpus_max = gpus_max / gpus_per_worker;
        }
        if let Some(gpus_min) = gpus_min {
            if let Some(max) = gpus_max.filter(|&max| max < gpus_min) {
                return Err(LimitsError::Gpus { min: gpus_min, max });
            }
            limits.gpus_min = gpus_min / gpus_per_worker;
            if limits.gpus_min > workers_max {
                let gpus = u64::from(workers_max) * u64::from(gpus_per_worker);
                return Err(LimitsError::FewWorkers { gpus_min, workers_max, gpus });
            }
        }
        Ok(limits)
    }

    /// The nearest number of workers within the bounds, and the bound that moved it.
    pub fn clamp(&self, workers: u32) -> (u32, Option<Limit>) {
        let (mut clamped, mut limit) = (workers, None);
        let mut apply = |bounded: u32, by: Limit| {
            if bounded != clamped {
                (clamped, limit) = (bounded, Some(by));
            }
            clamped
        };
        let workers = apply(workers.max(self.workers_min), Limit::WorkersMin);
        let workers = apply(workers.max(self.gpus_min), Limit::GpusMin);
        let workers = apply(workers.min(self.workers_max), Limit::WorkersMax);
        apply(workers.min(self.gpus_max), Limit::GpusMax);
        (clamped, limit)
    }

    /// The most workers there can ever be.
    pub fn most(&self) -> u32 {
        self.workers_max.min(self.gpus_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_apply_in_order() {
        let limits = Limits::new(1, 10, 2, None, Some(16)).unwrap();
        assert_eq!(limits.clamp(0), (1, Some(Limit::WorkersMin)));
        assert_eq!(limits.clamp(5), (5, None));
        assert_eq!(limits.clamp(9), (8, Some(Limit::GpusMax)));
        assert_eq!(limits.clamp(99), (8, Some(Limit::GpusMax)));
        assert_eq!(limits.most(), 8);
        let limits = Limits::new(0, 3, 4, Some(9), None).unwrap();
        assert_eq!(limits.clamp(0), (2, Some(Limit::GpusMin)), "missed by less than a worker");
        assert_eq!(limits.clamp(7), (3, Some(Limit::WorkersMax)));
        assert!(Limits::new(0, 3, 4, Some(15), None).is_ok(), "missed by less than a worker");
        let pinned = Limits::new(1, 99, 2, Some(8), Some(8)).unwrap();
        assert_eq!([pinned.clamp(1).0, pinned.clamp(9).0], [4, 4]);
    }

    #[test]
    fn contradictions_are_refused() {
        let cases = [
            (Limits::new(1, 2, 0, None, None), "at least one GPU"),
            (Limits::new(3, 2, 1, None, None), "at least 3 workers and at most 2"),
            (Limits::new(3, 9, 4, None, Some(11)), "budget of 11 GPUs"),
            (Limits::new(1, 9, 1, Some(5), Some(4)), "at least 5 GPUs and at most 4"),
            (Limits::new(1, 3, 4, Some(16), None), "of workers, 3, has: 12"),
        ];
        for (result, expected) in cases {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
