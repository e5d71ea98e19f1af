//! Policies that look at the number of requests each worker has, or at nothing: random, power of two choices, least
//! loaded, session affinity.

use rand::{Rng, RngExt};

use crate::kernel::rng::{Stream, mix64};
use crate::kernel::tree::WinnerTree;
use crate::model::request::{RequestId, Visible, WorkerId};
use crate::model::router::{Policy, Reads};

/// A uniformly random worker.
#[derive(Debug)]
pub struct Random {
    workers: u32,
    rng: Stream,
}

impl Random {
    /// Draws from `rng`.
    pub fn new(workers: u32, rng: Stream) -> Random {
        Random { workers, rng }
    }
}

impl Policy for Random {
    fn choose(&mut self, _request: Visible<'_>) -> WorkerId {
        WorkerId(self.rng.random_range(0..self.workers))
    }
}

/// The less loaded of two random workers; the first on a tie. Load is requests in flight, as far as it is known.
#[derive(Debug)]
pub struct PowerOfTwo {
    loads: Vec<u64>,
    rng: Stream,
}

impl PowerOfTwo {
    /// Draws from `rng`.
    pub fn new(workers: u32, rng: Stream) -> PowerOfTwo {
        PowerOfTwo { loads: vec![0; workers as usize], rng }
    }
}

impl Policy for PowerOfTwo {
    fn reads(&self) -> Reads {
        Reads { finished: true, ..Reads::default() }
    }

    fn choose(&mut self, _request: Visible<'_>) -> WorkerId {
        let workers = self.loads.len();
        let first = self.rng.random_range(0..workers);
        // Two different ones, if there are two.
        let second = (first + self.rng.random_range(1..workers.max(2))) % workers;
        let worker = if self.loads[second] < self.loads[first] { second } else { first };
        self.loads[worker] += 1;
        WorkerId(worker as u32)
    }

    fn finished(&mut self, worker: WorkerId, _request: RequestId) {
        self.loads[worker.index()] -= 1;
    }
}

/// The worker with the fewest requests in flight, as far as it is known; the lowest number on a tie.
#[derive(Debug)]
pub struct LeastLoaded {
    loads: WinnerTree<u64>,
}

impl LeastLoaded {
    /// All workers without load.
    pub fn new(workers: u32) -> LeastLoaded {
        let mut loads = WinnerTree::new(workers as usize, u64::MAX);
        for worker in 0..workers {
            loads.set(worker, 0);
        }
        LeastLoaded { loads }
    }
}

impl Policy for LeastLoaded {
    fn reads(&self) -> Reads {
        Reads { finished: true, ..Reads::default() }
    }

    fn choose(&mut self, _request: Visible<'_>) -> WorkerId {
        let (load, worker) = self.loads.min();
        self.loads.set(worker, load + 1);
        WorkerId(worker)
    }

    fn finished(&mut self, worker: WorkerId, _request: RequestId) {
        self.loads.set(worker.0, self.loads.get(worker.0) - 1);
    }
}

/// All requests of a session go to one worker; a request without a session goes wherever its number says.
///
/// The worker is a jump consistent hash of the session (Lamping and Veach, 2014), so a fleet that grows from N to N + 1
/// workers moves one session in N + 1.
#[derive(Debug)]
pub struct SessionAffine {
    workers: u32,
}

impl SessionAffine {
    /// Over this many workers.
    pub fn new(workers: u32) -> SessionAffine {
        SessionAffine { workers }
    }
}

impl Policy for SessionAffine {
    fn choose(&mut self, request: Visible<'_>) -> WorkerId {
        WorkerId(jump_hash(mix64(request.session.unwrap_or(request.id.0)), self.workers))
    }
}

/// A bucket of `0..buckets` such that one more bucket changes as few keys as possible.
fn jump_hash(mut key: u64, buckets: u32) -> u32 {
    let (mut bucket, mut next) = (0, 0.0_f64);
    while next < f64::from(buckets) {
        bucket = next as u32;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = f64::from(bucket + 1) * ((1_u64 << 31) as f64 / ((key >> 33) + 1) as f64);
    }
    bucket
}

/// Draws an index with these weights, which are not all zero.
pub(super) fn weighted(rng: &mut impl Rng, weights: &[f64]) -> usize {
    let total: f64 = weights.iter().sum();
    let mut left = rng.random::<f64>() * total;
    for (index, weight) in weights.iter().enumerate() {
        if left < *weight {
            return index;
        }
        left -= weight;
    }
    // Rounding may leave a sliver behind the last positive weight.
    weights.iter().rposition(|&weight| weight > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use crate::kernel::time::Time;
    use crate::model::request::{Prompt, Request};

    fn request(id: u64, session: Option<u64>) -> Request {
        Request {
            id: RequestId(id),
            trace_line: id,
            arrival: Time::ZERO,
            prompt: Prompt::unique(1),
            output_tokens: 1,
            session,
            strict_priority: 0,
            priority_jump: 0.0,
        }
    }

    #[test]
    fn least_loaded_fills_up_evenly() {
        let mut policy = LeastLoaded::new(3);
        let chosen: Vec<u32> =
            (0..6).map(|id| policy.choose(request(id, None).visible()).0).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
        policy.finished(WorkerId(1), RequestId(1));
        assert_eq!(policy.choose(request(6, None).visible()), WorkerId(1));
    }

    #[test]
    fn two_choices_balance_better_than_one() {
        let spread = |policy: &mut dyn Policy| {
            let mut loads = [0_u32; 100];
            for id in 0..10_000 {
                loads[policy.choose(request(id, None).visible()).index()] += 1;
            }
            loads.iter().max().unwrap() - loads.iter().min().unwrap()
        };
        let one = spread(&mut Random::new(100, stream(1, 0)));
        let two = spread(&mut PowerOfTwo::new(100, stream(1, 0)));
        assert!(two * 4 < one, "{two} against {one}");
        let only = PowerOfTwo::new(1, stream(1, 0)).choose(request(0, None).visible());
        assert_eq!(only, WorkerId(0));
    }

    #[test]
    fn sessions_stay_where_they_are() {
        let place = |workers, session| {
            SessionAffine::new(workers).choose(request(session, Some(session)).visible()).0
        };
        let moved = (0..1000).filter(|&session| place(10, session) != place(11, session)).count();
        assert!((50..130).contains(&moved), "one in eleven: {moved}");
        let by_session = |id| SessionAffine::new(10).choose(request(id, Some(7)).visible());
        assert_eq!(by_session(1), by_session(2));
        let mut counts = [0; 10];
        (0..10_000).for_each(|session| counts[place(10, session) as usize] += 1);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn weights_are_followed() {
        let mut rng = stream(2, 0);
        let mut counts = [0; 3];
        (0..10_000).for_each(|_| counts[weighted(&mut rng, &[1.0, 0.0, 3.0])] += 1);
        assert_eq!(counts[1], 0);
        assert!((2300..2700).contains(&counts[0]), "{counts:?}");
    }
}
