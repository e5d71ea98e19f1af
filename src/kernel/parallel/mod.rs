//! The parallel executor: the LPs of a star on several threads, with the result of the sequential executor.
//!
//! LP 0 is the hub, the others are spokes, which talk to the hub and within their group only. The README beside this file has the protocol.

mod account;
mod census;
mod empty;
mod gate;
mod horizon;
mod lane;
mod leader;
mod occupancy;
mod star;
#[cfg(test)]
mod tests;

pub use account::{Account, Prediction};
pub use empty::empty_phases;
pub use occupancy::Occupancy;

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam::utils::CachePadded;

use crate::kernel::lp::Lp;
use crate::kernel::parallel::account::Stopwatch;
use crate::kernel::parallel::census::Census;
use crate::kernel::parallel::gate::Gate;
use crate::kernel::parallel::leader::{Leader, Shares};
use crate::kernel::parallel::star::{Desk, EVENTS_PER_POLL, HUB, Star};
use crate::kernel::rng::mix64;
use crate::kernel::sequential::{Finished, Observer, Stopped, panic_message};
use crate::kernel::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, yield_now};
use crate::kernel::time::{Span, Time};

/// The leader polls for threads that had nothing to do after so many events.
const EVENTS_PER_SWEEP: u64 = 1 << 16;

/// How to run in parallel. None of it changes a result.
#[derive(Clone, Copy)]
pub struct ParallelOptions<'a> {
    /// How many spokes are run as one task.
    pub spokes_per_group: usize,
    /// Whether a thread that has nothing left to do in a phase helps others.
    pub stealing: bool,
    /// Whether each thread stays on one core.
    pub pin: bool,
    /// About how many events the hub handles in a phase, or messages it sends, while the spokes promise to send nothing.
    pub hub_budget: u64,
    /// A piece of work for threads that have to wait; says whether there was one.
    pub errand: &'a (dyn Fn() -> bool + Sync),
    /// Takes down what every task costs, if there is one thread.
    pub account: Option<&'a parking_lot::Mutex<Account>>,
    /// Takes down what the threads spend their time on.
    pub occupancy: Option<&'a parking_lot::Mutex<Occupancy>>,
    /// Gives up the core at random moments drawn from this seed, to try many schedules.
    pub fuzz: Option<u64>,
}

impl Default for ParallelOptions<'_> {
    fn default() -> Self {
        ParallelOptions {
            spokes_per_group: 32,
            stealing: true,
            pin: false,
            hub_budget: 1 << 14,
            errand: &|| false,
            account: None,
            occupancy: None,
            fuzz: None,
        }
    }
}

/// Whether these LPs can be run in parallel at all: a hub and its spokes need some lookahead between them.
pub fn can_run_parallel<L: Lp>(lps: &[L]) -> bool {
    lps.len() > 1 && Star::lookahead(lps).is_positive()
}

/// Runs the LPs until none has anything left to do, on as many threads as there are recorders.
///
/// # Errors
/// [`Stopped`], the same as the sequential executor's.
///
/// # Panics
/// If there is no recorder, or if [`can_run_parallel`] says no.
pub fn run<L, O>(
    lps: &mut [L],
    recorders: &mut [L::Recorder],
    observer: &O,
    options: ParallelOptions<'_>,
) -> Result<Finished, Stopped>
where
    L: Lp + Send,
    L::Message: Send,
    L::Recorder: Send,
    O: Observer<L::Recorder> + ?Sized,
{
    run_counted(lps, recorders, observer, options).0
}

/// The same; says also what the phases were.
fn run_counted<L, O>(
    lps: &mut [L],
    recorders: &mut [L::Recorder],
    observer: &O,
    options: ParallelOptions<'_>,
) -> (Result<Finished, Stopped>, Census)
where
    L: Lp + Send,
    L::Message: Send,
    L::Recorder: Send,
    O: Observer<L::Recorder> + ?Sized,
{
    assert!(can_run_parallel(lps), "no lookahead, no parallel run");
    let threads = recorders.len();
    let lookahead = Star::lookahead(lps);
    let star = Star::new(lps, options.spokes_per_group, threads, options.hub_budget);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (groups, hub_hears) = (star.tasks() - 1, lookahead.spokes < Span::FOREVER);
    if let Some(account) = options.account {
        *account.lock() = Account::new(groups as u32, hub_hears);
    }
    let run = Run {
        gate: Gate::new(threads + 1, star.tasks(), threads <= cores),
        leader: Mutex::new(Leader::new(lookahead, Shares::new(threads, groups, hub_hears))),
        slots: recorders.iter_mut().map(Slot::new).collect(),
        events: CachePadded::new(AtomicU64::new(0)),
        done: AtomicU64::new(0),
        is_halted: AtomicBool::new(false),
        draws: (0..threads).map(|_| AtomicU64::new(0)).collect(),
        broken: Mutex::new(None),
        star,
        observer,
        options,
    };
    observer.watch(&run.star.activity);
    run.star.start(run.slots[0].lock().recorder);
    let mut clock = Stopwatch::start(run.options.occupancy.is_some());
    if threads == 1 {
        run.thread(0, false);
    } else {
        thread::scope(|scope| {
            for thread in 0..threads {
                let run = &run;
                scope.spawn(move || run.thread(thread, run.options.pin));
            }
        });
    }
    run.take_down(clock.lap());
    let census = run.leader.lock().census;
    (run.result(census), census)
}

/// Keeps this thread, of all of a run, on one core.
pub(in crate::kernel) fn pin_to_core(thread: usize) {
    if let Some(core) = core_affinity::get_core_ids().unwrap_or_default().get(thread) {
        core_affinity::set_for_current(*core);
    }
}

/// A recorder and its thread's own books.
struct Slot<'a, R> {
    recorder: &'a mut R,
    /// Events since it was last polled.
    unpolled: u64,
    /// Tasks that the thread has run.
    tasks: u64,
    /// What the thread has spent its time on, if that is asked for.
    occupancy: Occupancy,
}

type Slots<'a, R> = Box<[CachePadded<Mutex<Slot<'a, R>>>]>;

impl<'a, R> Slot<'a, R> {
    fn new(recorder: &'a mut R) -> CachePadded<Mutex<Self>> {
        CachePadded::new(Mutex::new(Slot {
            recorder,
            unpolled: 0,
            tasks: 0,
            occupancy: Occupancy::default(),
        }))
    }
}

/// One run, as all its threads see it.
struct Run<'a, L: Lp, O: ?Sized> {
    star: Star<'a, L>,
    gate: Gate,
    leader: Mutex<Leader>,
    /// One per thread.
    slots: Slots<'a, L::Recorder>,
    observer: &'a O,
    options: ParallelOptions<'a>,
    /// Events handled, as far as threads have told.
    events: CachePadded<AtomicU64>,
    /// Every event before this time has been handled.
    done: AtomicU64,
    is_halted: AtomicBool,
    /// How often each thread has drawn whether to give up its core.
    draws: Box<[AtomicU64]>,
    /// What went wrong outside any LP.
    broken: Mutex<Option<String>>,
}

impl<L, O> Run<'_, L, O>
where
    L: Lp + Send,
    L::Message: Send,
    L::Recorder: Send,
    O: Observer<L::Recorder> + ?Sized,
{
    /// What each thread does. Whatever goes wrong in it ends the run for all.
    fn thread(&self, thread: usize, pin: bool) {
        let work = AssertUnwindSafe(|| {
            if pin {
                pin_to_core(thread);
            }
            self.work(thread);
        });
        if let Err(payload) = catch_unwind(work) {
            self.break_off(payload.as_ref());
        }
    }

    fn break_off(&self, payload: &(dyn Any + Send)) {
        self.broken.lock().get_or_insert_with(|| panic_message(payload));
        self.gate.stop();
    }

    fn work(&self, thread: usize) {
        let mut errand = || self.errand(thread);
        if thread == 0 && self.lead(thread) {
            // The leader is an unfinished task of the phase it has opened.
            self.share(thread, 1);
        }
        while !self.gate.is_stopped() {
            let seen = self.gate.phase();
            self.share(thread, 0);
            if self.gate.is_stopped() {
                break;
            }
            self.gate.wait(seen, &mut errand);
        }
    }

    /// Does a piece of work for later, if there is one.
    fn errand(&self, thread: usize) -> bool {
        let mut clock = self.stopwatch();
        let was_one = (self.options.errand)();
        if was_one {
            self.note(thread, &mut clock, |occupancy| &mut occupancy.errands);
        }
        was_one
    }

    /// Runs if somebody asks what the threads spend their time on.
    fn stopwatch(&self) -> Stopwatch {
        Stopwatch::start(self.options.occupancy.is_some())
    }

    /// Takes down what a thread has spent its time on since its clock was looked at last.
    fn note(&self, thread: usize, clock: &mut Stopwatch, on: impl Fn(&mut Occupancy) -> &mut f64) {
        if self.options.occupancy.is_some() {
            *on(&mut self.slots[thread].lock().occupancy) += clock.lap();
        }
    }

    /// Passes on what the threads have spent their time on in a run of this length.
    fn take_down(&self, length: f64) {
        if let Some(occupancy) = self.options.occupancy {
            let mut sum = Occupancy { threads: self.slots.len(), length, ..Occupancy::default() };
            self.slots.iter().for_each(|slot| sum.add(&slot.lock().occupancy));
            *occupancy.lock() = sum;
        }
    }

    /// Takes part in phases until there is nothing to claim.
    fn share(&self, thread: usize, mut finished: u32) {
        loop {
            if let Some(task) = self.claim(thread) {
                let mut seat = Seat::take(self, thread);
                let mut task = Some(task);
                while let Some(next) = task {
                    seat.run(next);
                    finished += 1;
                    task = self.claim(thread);
                }
            }
            self.fuzz(thread);
            if finished == 0 || !self.gate.finish(finished) || !self.lead(thread) {
                return;
            }
            finished = 1;
        }
    }

    /// A task of this thread's own share, or somebody else's.
    fn claim(&self, thread: usize) -> Option<u32> {
        self.fuzz(thread);
        let threads = self.slots.len();
        let hub = || self.gate.claim(threads);
        if thread == 0
            && let Some(task) = hub()
        {
            return Some(task);
        }
        let own = self.gate.claim(thread);
        if own.is_some() {
            return own;
        }
        if !self.options.stealing {
            return None;
        }
        let others = (1..threads).map(|offset| (thread + offset) % threads);
        // What the hub knows is large and warm in the caches of thread 0: it is the last thing to take away.
        others.into_iter().find_map(|victim| self.gate.claim(victim)).or_else(hub)
    }

    /// Between two phases, alone: opens the next one, or stops the run; says which. What is not worth sharing is done
    /// here.
    fn lead(&self, thread: usize) -> bool {
        let mut leader = self.leader.try_lock().expect("INV-12: one leader");
        let mut swept = self.events.load(Ordering::Relaxed);
        let mut leading = self.stopwatch();
        loop {
            let clock = Stopwatch::start(self.options.account.is_some());
            let is_over = self.gate.is_stopped() || self.is_halted.load(Ordering::Relaxed);
            if is_over || !leader.plan(&self.star) {
                self.gate.stop();
                return false;
            }
            self.done.store(leader.done().as_ns(), Ordering::Relaxed);
            let events = self.events.load(Ordering::Relaxed);
            if events - swept > EVENTS_PER_SWEEP {
                swept = events;
                self.sweep();
            }
            let is_shared = leader.is_worth_sharing(events);
            self.note(thread, &mut leading, |occupancy| &mut occupancy.leading);
            if is_shared {
                self.gate.open(&leader.tasks, &leader.ends);
                return true;
            }
            self.run_alone(&leader, thread, clock);
            leading = self.stopwatch();
        }
    }

    /// Does all tasks of a phase.
    fn run_alone(&self, leader: &Leader, thread: usize, mut clock: Stopwatch) {
        let mut seat = Seat::take(self, thread);
        let Some(account) = self.options.account.filter(|_| self.slots.len() == 1) else {
            leader.tasks.iter().for_each(|&task| seat.run(task));
            return;
        };
        let mut account = account.lock();
        let plan = clock.lap();
        for &task in &leader.tasks {
            seat.run(task);
            account.task(task, clock.lap());
        }
        account.end_phase(seat.events, plan);
        while (self.options.errand)() {}
        account.errands(clock.lap());
    }

    /// Polls for every thread.
    fn sweep(&self) {
        for slot in &self.slots {
            self.poll(&mut slot.lock());
        }
    }

    fn poll(&self, slot: &mut Slot<'_, L::Recorder>) {
        slot.unpolled = 0;
        let done = Time::from_ns(self.done.load(Ordering::Relaxed));
        if self.observer.poll(done, slot.recorder).is_break() {
            self.is_halted.store(true, Ordering::Relaxed);
        }
    }

    /// Gives up the core now and then, if asked to.
    fn fuzz(&self, thread: usize) {
        if let Some(seed) = self.options.fuzz {
            let draw = self.draws[thread].fetch_add(1, Ordering::Relaxed);
            if mix64(seed ^ mix64(draw << 8 | thread as u64)).is_multiple_of(4) {
                yield_now();
            }
        }
    }

    fn result(self, census: Census) -> Result<Finished, Stopped> {
        if let Some(message) = self.broken.into_inner() {
            return Err(Stopped::Broken { message });
        }
        let run = self.slots.iter().map(|slot| slot.lock().tasks).sum::<u64>();
        if run != census.tasks {
            let message = format!("INV-12: {run} tasks were run, of {}", census.tasks);
            return Err(Stopped::Broken { message });
        }
        if let Some(failure) = self.star.take_failure() {
            let (lp, time, message) = (failure.lp, failure.key.time(), failure.message);
            return Err(Stopped::Panicked { lp, time, message });
        }
        if self.is_halted.into_inner() {
            return Err(Stopped::Halted);
        }
        for slot in self.slots {
            let Slot { recorder, .. } = slot.into_inner().into_inner();
            if let ControlFlow::Break(()) = self.observer.poll(Time::NEVER, recorder) {
                return Err(Stopped::Halted);
            }
        }
        if self.star.is_beyond() {
            return Err(Stopped::OutOfTime);
        }
        let (events, end) = self.star.totals();
        Ok(Finished { events, end })
    }
}

/// A thread's place at its recorder while it does tasks.
struct Seat<'r, 'a, L: Lp, O: ?Sized> {
    run: &'r Run<'a, L, O>,
    thread: usize,
    slot: MutexGuard<'r, Slot<'a, L::Recorder>>,
    events: u64,
}

impl<'r, 'a, L: Lp, O: ?Sized> Seat<'r, 'a, L, O> {
    fn take(run: &'r Run<'a, L, O>, thread: usize) -> Self {
        Seat { run, thread, slot: run.slots[thread].lock(), events: 0 }
    }
}

impl<L, O> Seat<'_, '_, L, O>
where
    L: Lp + Send,
    L::Message: Send,
    L::Recorder: Send,
    O: Observer<L::Recorder> + ?Sized,
{
    /// Does a task of the phase.
    fn run(&mut self, task: u32) {
        self.slot.tasks += 1;
        let mut clock = self.run.stopwatch();
        self.run.star.run(task, self);
        let Occupancy { hub, spokes, .. } = &mut self.slot.occupancy;
        *if task == HUB { hub } else { spokes } += clock.lap();
    }
}

impl<L, O> Desk<L::Recorder> for Seat<'_, '_, L, O>
where
    L: Lp + Send,
    L::Message: Send,
    L::Recorder: Send,
    O: Observer<L::Recorder> + ?Sized,
{
    fn thread(&self) -> usize {
        self.thread
    }

    fn recorder(&mut self) -> &mut L::Recorder {
        self.slot.recorder
    }

    fn count(&mut self, events: u64) -> bool {
        self.events += events;
        self.slot.unpolled += events;
        if self.slot.unpolled >= EVENTS_PER_POLL {
            self.run.poll(&mut self.slot);
        }
        self.run.is_halted.load(Ordering::Relaxed)
    }
}

impl<L: Lp, O: ?Sized> Drop for Seat<'_, '_, L, O> {
    fn drop(&mut self) {
        self.run.events.fetch_add(self.events, Ordering::Relaxed);
    }
}
