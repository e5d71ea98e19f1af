//! Workers that come and go.
//!
//! A [`Lifecycle`] holds the state of every worker of a pool and moves it towards a target number of ready ones. It has no
//! events of its own: methods take the present time, [`Lifecycle::next_ready`] says when something will happen by itself, and
//! [`Lifecycle::take_changes`] what has happened.
//!
//! ```text
//!            start            start-up over            taken into service
//!   gone ----------> starting ------------> (warm) ---------------------> ready
//!    ^                  |                     ^                             |
//!    |    cancelled     |      idle, kept     |                             | target lowered
//!    +------------------+          +----------+                             v
//!    +-----------------------------+------------------------------------ draining
//!                      nothing left to do
//! ```
//!
//! Workers are numbered 0, 1, … up to the most there can be. A worker that starts takes the lowest free number; what had
//! it before has left nothing behind.
//!
//! The rules, each time anything changes, in this order:
//!
//! 1. Warm workers are taken into service while fewer are ready than asked for.
//! 2. If there are more workers than asked for and to be kept warm, start-ups are cancelled, the latest first; then warm
//!    workers leave.
//! 3. If more are ready than asked for, some drain ([`Victims`]).
//! 4. If there are fewer workers than asked for and to be kept warm, new ones start, as far as there are free numbers, room
//!    for start-ups and GPUs. The rest waits.
//!
//! A draining worker is never called back: in production it has been told to end. Only when it is empty may it join the
//! warm pool, if there is one.

mod gpu_time;
mod history;
mod startup;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub use gpu_time::GpuTime;
pub use history::History;
pub use startup::{StageTime, Startup};

use crate::kernel::rng::Stream;
use crate::kernel::time::{Span, Time};
use crate::model::request::WorkerId;

/// What a worker is doing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum State {
    /// It does not exist.
    #[default]
    Gone,
    /// It is on its way, and paid for.
    Starting,
    /// It is started, idle, paid for, and gets no requests.
    Warm,
    /// It takes requests.
    Ready,
    /// It takes no more requests, and leaves when it has none.
    Draining,
}

/// Workers by state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Wanted, but without a place to start.
    pub waiting: u32,
    /// Starting.
    pub starting: u32,
    /// Started and kept in reserve.
    pub warm: u32,
    /// Taking requests.
    pub ready: u32,
    /// Finishing what they have.
    pub draining: u32,
}

impl Counts {
    /// Those that hold GPUs.
    pub fn present(&self) -> u32 {
        self.starting + self.warm + self.ready + self.draining
    }

    fn of(&mut self, state: State) -> Option<&mut u32> {
        match state {
            State::Gone => None,
            State::Starting => Some(&mut self.starting),
            State::Warm => Some(&mut self.warm),
            State::Ready => Some(&mut self.ready),
            State::Draining => Some(&mut self.draining),
        }
    }
}

/// Which ready workers drain when there are too many.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Victims {
    /// Those that started last, as in the reference peer.
    #[default]
    Newest,
    /// Those that started first.
    Oldest,
    /// Those with the least load; of equals those that started last.
    LeastLoaded,
}

/// The pool.
#[derive(Clone, PartialEq, Debug)]
pub struct LifecycleSpec {
    /// Most workers there can be at once, those that drain included.
    pub workers_max: u32,
    /// GPUs that one worker holds.
    pub gpus_per_worker: u32,
    /// How long it takes to start one.
    pub startup: Startup,
    /// Workers to be kept warm.
    pub warm: u32,
    /// Most workers that start at once.
    pub starting_max: Option<u32>,
    /// Most GPUs that there are, for workers in any state.
    pub gpus_max: Option<u32>,
    /// Who drains.
    pub victims: Victims,
}

/// A worker changed its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// When.
    pub at: Time,
    /// Which.
    pub worker: WorkerId,
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
}

#[derive(Clone, Copy, Default, Debug)]
struct Worker {
    state: State,
    /// Counts start-ups: the later, the higher.
    serial: u64,
}

/// All workers of a pool.
#[derive(Debug)]
pub struct Lifecycle {
    spec: LifecycleSpec,
    workers: Vec<Worker>,
    counts: Counts,
    target: u32,
    /// Start-ups by their end. An entry whose serial is not its worker's any more, or whose worker has left, is void.
    starting: BinaryHeap<Reverse<(Time, u64, u32)>>,
    /// Numbers that nobody has, the lowest first.
    free: BinaryHeap<Reverse<u32>>,
    serials: u64,
    gpu_time: GpuTime,
    changes: Vec<Change>,
    rng: Stream,
}

impl Lifecycle {
    /// At the start of a run: `ready` workers are ready and the warm pool is full, as far as GPUs and numbers go. They are
    /// the first changes to be taken.
    pub fn new(spec: LifecycleSpec, ready: u32, rng: Stream) -> Lifecycle {
        let workers = vec![Worker::default(); spec.workers_max as usize];
        let free = (0..spec.workers_max).map(Reverse).collect();
        let mut lifecycle = Lifecycle {
            gpu_time: GpuTime::new(spec.gpus_per_worker, Time::ZERO),
            spec,
            workers,
            counts: Counts::default(),
            target: ready,
            starting: BinaryHeap::new(),
            free,
            serials: 0,
            changes: Vec::new(),
            rng,
        };
        while lifecycle.counts.present() < ready.saturating_add(lifecycle.spec.warm)
            && lifecycle.has_room()
        {
            let Some(worker) = lifecycle.take_number() else { break };
            let is_ready = lifecycle.counts.ready < ready;
            lifecycle.enter(Time::ZERO, worker, if is_ready { State::Ready } else { State::Warm });
        }
        lifecycle.fit(Time::ZERO, |_| 0);
        lifecycle
    }

    /// Workers by state.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many should be ready.
    pub fn target(&self) -> u32 {
        self.target
    }

    /// What a worker is doing.
    pub fn state(&self, worker: WorkerId) -> State {
        self.workers[worker.index()].state
    }

    /// The workers in a state, in order of their numbers.
    pub fn workers(&self, state: State) -> impl Iterator<Item = WorkerId> {
        let all = (0..).zip(&self.workers);
        all.filter(move |(_, worker)| worker.state == state).map(|(number, _)| WorkerId(number))
    }

    /// When a start-up ends next.
    pub fn next_ready(&mut self) -> Option<Time> {
        while let Some(&Reverse((at, serial, number))) = self.starting.peek() {
            if self.is_starting(number, serial) {
                return Some(at);
            }
            self.starting.pop();
        }
        None
    }

    /// Asks for this many ready workers. `load` tells how busy a worker is; it is asked about ready ones, and only if the
    /// rule for victims needs it.
    pub fn aim(&mut self, now: Time, target: u32, load: impl Fn(WorkerId) -> u64) {
        self.target = target;
        self.fit(now, load);
    }

    /// Ends the start-ups that are due.
    pub fn advance(&mut self, now: Time) {
        while let Some(at) = self.next_ready().filter(|&at| at <= now) {
            let Some(Reverse((_, _, number))) = self.starting.pop() else { break };
            self.enter(at, number, State::Warm);
            self.fit(at, |_| 0);
        }
    }

    /// A draining worker has nothing left to do. It is kept if the warm pool is short of workers, and leaves otherwise.
    ///
    /// # Panics
    /// When the worker is not draining.
    pub fn drained(&mut self, now: Time, worker: WorkerId) {
        assert_eq!(self.state(worker), State::Draining, "{worker} has drained");
        let is_kept = self.counts.warm < self.spec.warm;
        self.enter(now, worker.0, if is_kept { State::Warm } else { State::Gone });
        self.fit(now, |_| 0);
    }

    /// What has changed since the last time, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The GPU time of all workers from the start of the run until now.
    pub fn gpu_time(&self, now: Time) -> GpuTime {
        let mut gpu_time = self.gpu_time;
        gpu_time.advance(now, self.counts);
        gpu_time
    }

    /// Workers to be ready or warm.
    fn wanted(&self) -> u32 {
        self.target.saturating_add(self.spec.warm)
    }

    /// Those that are, or will be without further ado. Ready ones that are too many will drain, and do not count.
    fn coming(&self) -> u32 {
        self.counts.starting + self.counts.warm + self.counts.ready.min(self.target)
    }

    fn is_starting(&self, number: u32, serial: u64) -> bool {
        let worker = self.workers[number as usize];
        worker.state == State::Starting && worker.serial == serial
    }

    /// Whether the GPU budget holds another worker.
    fn has_room(&self) -> bool {
        let gpus = (u64::from(self.counts.present()) + 1) * u64::from(self.spec.gpus_per_worker);
        self.spec.gpus_max.is_none_or(|max| gpus <= u64::from(max))
    }

    fn may_start(&self) -> bool {
        self.has_room() && self.spec.starting_max.is_none_or(|max| self.counts.starting < max)
    }

    fn take_number(&mut self) -> Option<u32> {
        let Reverse(number) = self.free.pop()?;
        self.serials += 1;
        self.workers[number as usize].serial = self.serials;
        Some(number)
    }

    fn enter(&mut self, now: Time, number: u32, to: State) {
        self.gpu_time.advance(now, self.counts);
        let worker = &mut self.workers[number as usize];
        let from = std::mem::replace(&mut worker.state, to);
        if let Some(count) = self.counts.of(from) {
            *count -= 1;
        }
        if let Some(count) = self.counts.of(to) {
            *count += 1;
        }
        if to == State::Gone {
            self.free.push(Reverse(number));
        }
        self.changes.push(Change { at: now, worker: WorkerId(number), from, to });
    }

    /// Applies the rules.
    fn fit(&mut self, now: Time, load: impl Fn(WorkerId) -> u64) {
        self.promote(now);
        self.dismiss(now, State::Starting);
        self.dismiss(now, State::Warm);
        self.drain(now, load);
        self.start(now);
        self.counts.waiting = self.wanted().saturating_sub(self.coming());
        debug_assert!(self.is_consistent());
    }

    fn promote(&mut self, now: Time) {
        let missing = self.target.saturating_sub(self.counts.ready).min(self.counts.warm);
        if missing > 0 {
            for worker in self.by_age(State::Warm, |_| 0, missing, false) {
                self.enter(now, worker, State::Ready);
            }
        }
    }

    /// Lets workers that do nothing go, the latest first.
    fn dismiss(&mut self, now: Time, state: State) {
        let count = if state == State::Starting { self.counts.starting } else { self.counts.warm };
        let excess = self.coming().saturating_sub(self.wanted()).min(count);
        if excess > 0 {
            for worker in self.by_age(state, |_| 0, excess, true) {
                self.enter(now, worker, State::Gone);
            }
        }
    }

    fn drain(&mut self, now: Time, load: impl Fn(WorkerId) -> u64) {
        let excess = self.counts.ready.saturating_sub(self.target);
        if excess > 0 {
            let victims = match self.spec.victims {
                Victims::Newest => self.by_age(State::Ready, |_| 0, excess, true),
                Victims::Oldest => self.by_age(State::Ready, |_| 0, excess, false),
                Victims::LeastLoaded => self.by_age(State::Ready, load, excess, true),
            };
            for worker in victims {
                self.enter(now, worker, State::Draining);
            }
        }
    }

    fn start(&mut self, now: Time) {
        while self.coming() < self.wanted() && self.may_start() {
            let Some(number) = self.take_number() else { return };
            let time = self.spec.startup.sample(&mut self.rng);
            if time == Span::ZERO {
                self.enter(now, number, State::Warm);
                self.promote(now);
            } else {
                self.enter(now, number, State::Starting);
                self.starting.push(Reverse((now + time, self.serials, number)));
            }
        }
    }

    /// The first `count` workers in a state by load, then by age.
    fn by_age(
        &self,
        state: State,
        load: impl Fn(WorkerId) -> u64,
        count: u32,
        newest_first: bool,
    ) -> Vec<u32> {
        let key = |worker: WorkerId| {
            let serial = self.workers[worker.index()].serial;
            (load(worker), if newest_first { u64::MAX - serial } else { serial }, worker.0)
        };
        let mut keys: Vec<_> = self.workers(state).map(key).collect();
        let count = count as usize;
        // Hardly ever all of them: to sort the rest would be most of the work.
        if count < keys.len() {
            keys.select_nth_unstable(count);
            keys.truncate(count);
        }
        keys.sort_unstable();
        keys.into_iter().map(|(_, _, number)| number).collect()
    }

    /// Every worker is counted once, numbers are taken or free, GPUs suffice.
    fn is_consistent(&self) -> bool {
        let count = |state| self.workers(state).count() as u32;
        let Counts { starting, warm, ready, draining, .. } = self.counts;
        let counted = [State::Starting, State::Warm, State::Ready, State::Draining].map(count);
        let gpus = u64::from(self.counts.present()) * u64::from(self.spec.gpus_per_worker);
        counted == [starting, warm, ready, draining]
            && self.free.len() + self.counts.present() as usize == self.workers.len()
            && self.spec.gpus_max.is_none_or(|max| gpus <= u64::from(max))
            && self.spec.starting_max.is_none_or(|max| starting <= max)
    }
}

#[cfg(test)]
mod tests;
