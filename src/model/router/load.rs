//! Policies that look at the number of requests each worker has, or at nothing: random, power of two choices, least
//! loaded, session affinity.

use rand::{Rng, RngExt};

use crate::kernel::rng::{Stream, mix64};
use crate::kernel::tree::WinnerTree;
use crate::model::request::{Ticket, Visible, WorkerId};
use crate::model::router::members::Members;
use crate::model::router::{Policy, Reads};

/// A uniformly random worker.
#[derive(Debug)]
pub struct Random {
    members: Members,
    rng: Stream,
}

impl Random {
    /// Draws from `rng`.
    pub fn new(workers: u32, rng: Stream) -> Random {
        Random { members: Members::full(workers), rng }
    }
}

impl Policy for Random {
    fn choose(&mut self, _request: Visible<'_>) -> WorkerId {
        self.members.at(self.rng.random_range(0..self.members.len() as u32) as usize)
    }

    fn joined(&mut self, worker: WorkerId) {
        self.members.add(worker);
    }

    fn left(&mut self, worker: WorkerId) {
        self.members.remove(worker);
    }
}

/// The less loaded of two random workers; the first on a tie. Load is requests in flight, as far as it is known.
#[derive(Debug)]
pub struct PowerOfTwo {
    members: Members,
    /// Of all workers, also those that may not be chosen.
    loads: Vec<u64>,
    rng: Stream,
}

impl PowerOfTwo {
    /// Draws from `rng`.
    pub fn new(workers: u32, rng: Stream) -> PowerOfTwo {
        PowerOfTwo { members: Members::full(workers), loads: vec![0; workers as usize], rng }
    }
}

impl Policy for PowerOfTwo {
    fn reads(&self) -> Reads {
        Reads { finished: true, ..Reads::default() }
    }

    fn choose(&mut self, _request: Visible<'_>) -> WorkerId {
        let workers = self.members.len();
        let first = self.rng.random_range(0..workers);
        // Two different ones, if there are two.
        let second = (first + self.rng.random_range(1..workers.max(2))) % workers;
        let [first, second] = [first, second].map(|place| self.members.at(place));
        let is_less = self.loads[second.index()] < self.loads[first.index()];
        let worker = if is_less { second } else { first };
        self.loads[worker.index()] += 1;
        worker
    }

    fn joined(&mut self, worker: WorkerId) {
        self.members.add(worker);
    }

    fn left(&mut self, worker: WorkerId) {
        self.members.remove(worker);
    }

    fn finished(&mut self, worker: WorkerId, _request: Ticket) {
        self.loads[worker.index()] -= 1;
    }
}

/// The worker with the fewest requests in flight, as far as it is known; the lowest number on a tie.
#[derive(Debug)]
pub struct LeastLoaded {
    /// Load and worker, with [`AWAY`] on top for workers that may not be chosen.
    loads: WinnerTree<(u64, u32)>,
}

/// More than any load.
const AWAY: u64 = 1 << 63;

impl LeastLoaded {
    /// All workers without load.
    pub fn new(workers: u32) -> LeastLoaded {
        let mut loads = WinnerTree::new(workers as usize, (u64::MAX, 0));
        for worker in 0..workers {
            loads.set(worker, (0, worker));
        }
        LeastLoaded { loads }
    }

    fn change(&mut self, worker: WorkerId, change: impl FnOnce(u64) -> u64) {
        let (load, _) = self.loads.get(worker.0);
        self.loads.set(worker.0, (change(load), worker.0));
    }
}

impl Policy for LeastLoaded {
    fn reads(&self) -> Reads {
        Reads { finished: true, ..Reads::default() }
    }

    fn choose(&mut self, _request: Visible<'_>) -> WorkerId {
        let (load, worker) = self.loads.min();
        self.loads.set(worker, (load + 1, worker));
        WorkerId(worker)
    }

    fn joined(&mut self, worker: WorkerId) {
        self.change(worker, |load| load & !AWAY);
    }

    fn left(&mut self, worker: WorkerId) {
        self.change(worker, |load| load | AWAY);
    }

    fn finished(&mut self, worker: WorkerId, _request: Ticket) {
        self.change(worker, |load| load - 1);
    }
}

/// All requests of a session go to one worker; a request without a session goes wherever its number says.
///
/// The worker is a jump consistent hash of the session (Lamping and Veach, 2014), so a fleet that grows from N to N + 1
/// workers moves one session in N + 1. Buckets are places in the sorted list of workers that may be chosen: where one
/// leaves from the middle, the sessions of all after it move too.
#[derive(Debug)]
pub struct SessionAffine {
    members: Members,
}

impl SessionAffine {
    /// Over this many workers.
    pub fn new(workers: u32) -> SessionAffine {
        SessionAffine { members: Members::full(workers) }
    }
}

impl Policy for SessionAffine {
    fn choose(&mut self, request: Visible<'_>) -> WorkerId {
        let key = mix64(request.session.unwrap_or(request.id.0));
        self.members.at(jump_hash(key, self.members.len() as u32) as usize)
    }

    fn joined(&mut self, worker: WorkerId) {
        self.members.add(worker);
    }

    fn left(&mut self, worker: WorkerId) {
        self.members.remove(worker);
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
    use crate::model::kv::BlockLayout;
    use crate::model::request::{Prompt, Request};
    use crate::model::router::{KvRouterConfig, PolicySpec, TieBreak};

    fn request(id: u64, session: Option<u64>) -> Request {
        Request {
            ticket: Ticket(id as u32),
            session,
            ..Request::new(id, Time::ZERO, Prompt::unique(1), 1)
        }
    }

    #[test]
    fn least_loaded_fills_up_evenly() {
        let mut policy = LeastLoaded::new(3);
        let chosen: Vec<u32> =
            (0..6).map(|id| policy.choose(request(id, None).visible()).0).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
        policy.finished(WorkerId(1), Ticket(1));
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

    /// Every policy: nobody who has left is chosen, and whoever joins again is.
    #[test]
    fn only_members_are_chosen() {
        let layout = BlockLayout { block_size: 4, trace_block_size: 8 };
        let kv = |router_temperature, tie_break| {
            let busy_prefill_tokens = Some(100.0);
            let config = KvRouterConfig {
                router_temperature,
                tie_break,
                busy_prefill_tokens,
                ..KvRouterConfig::default()
            };
            PolicySpec::Kv(config)
        };
        for spec in [
            PolicySpec::RoundRobin,
            PolicySpec::Random,
            PolicySpec::PowerOfTwo,
            PolicySpec::LeastLoaded,
            PolicySpec::SessionAffine,
            kv(0.0, TieBreak::Fewest),
            kv(0.0, TieBreak::Random),
            kv(1.0, TieBreak::Fewest),
        ] {
            let mut policy = spec.build(9, layout, stream(4, 0));
            let mut rng = stream(5, 0);
            let (mut members, mut open) = ((0..9).collect::<Vec<u32>>(), Vec::new());
            let (mut chosen, mut away) = ([0; 9], Vec::new());
            for id in 0..3000 {
                if rng.random_bool(0.2) && members.len() > 1 {
                    let worker = members.swap_remove(rng.random_range(0..members.len()));
                    policy.left(WorkerId(worker));
                    away.push(worker);
                }
                if rng.random_bool(0.2) && !away.is_empty() {
                    let worker = away.swap_remove(rng.random_range(0..away.len()));
                    policy.joined(WorkerId(worker));
                    members.push(worker);
                }
                let worker = policy.choose(request(id, Some(id % 50)).visible());
                assert!(members.contains(&worker.0), "{spec:?} chose {worker}");
                chosen[worker.index()] += 1;
                open.push((worker, id));
                while open.len() > 20 {
                    let (worker, id) = open.swap_remove(rng.random_range(0..open.len()));
                    policy.prefilled(worker, Ticket(id as u32));
                    policy.finished(worker, Ticket(id as u32));
                }
            }
            assert!(chosen.iter().all(|&count| count > 50), "{spec:?}: {chosen:?}");
        }
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
