//! Workers by the size of their batch: with as many requests, the one with the least KV or the most speaks for the others.

use crate::model::planner::observation::WorkerLoad;

/// The largest batch that is looked at.
const REQUESTS_MAX: u32 = 4096;

/// The least or the most KV of the workers with a batch of the same size.
#[derive(Debug)]
pub(super) struct Batches {
    /// By requests.
    kv_tokens: Vec<u64>,
    /// What there is no worker for, or none with KV.
    none: u64,
}

/// For which batch sizes something holds for all workers.
#[derive(Debug)]
pub(super) struct Known {
    batches: Vec<bool>,
}

impl Batches {
    /// What is picked of `kv_tokens` of workers with no more than `requests_max` requests, any rather than `none`. Of none if
    /// batches are too large.
    pub(super) fn of(
        loads: &[WorkerLoad],
        requests_max: u32,
        kv_tokens: impl Fn(&WorkerLoad) -> u64,
        none: u64,
        pick: impl Fn(u64, u64) -> u64,
    ) -> Batches {
        if requests_max > REQUESTS_MAX {
            return Batches { kv_tokens: Vec::new(), none };
        }
        let mut batches = vec![none; requests_max as usize + 1];
        for load in loads {
            let known = &mut batches[load.running as usize];
            *known = pick(*known, kv_tokens(load));
        }
        Batches { kv_tokens: batches, none }
    }

    /// What comes of a batch and its KV, for each of them.
    pub(super) fn map<T>(&self, of: impl Fn(u32, u64) -> T) -> Vec<Option<T>> {
        let batches = (0..).zip(&self.kv_tokens);
        let known = |(requests, &tokens)| (tokens != self.none).then(|| of(requests, tokens));
        batches.map(known).collect()
    }
}

impl Known {
    /// Nothing is known.
    pub(super) fn nothing() -> Known {
        Known { batches: Vec::new() }
    }

    /// Those of which it is said.
    pub(super) fn those<T>(batches: &[Option<T>], holds: impl Fn(&T) -> bool) -> Known {
        let holds = |batch: &Option<T>| batch.as_ref().is_some_and(&holds);
        Known { batches: batches.iter().map(holds).collect() }
    }

    /// Whether it is known of this one.
    #[inline]
    pub(super) fn holds(&self, load: &WorkerLoad) -> bool {
        self.batches.get(load.running as usize).copied().unwrap_or(false)
    }
}
