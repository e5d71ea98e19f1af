//! A second parallel executor, to check the first: every group of LPs has a clock of its own, and there are no phases.
//!
//! The LPs form a star, as for the phases. A *station* is the hub or a group of spokes; a thread owns some of them and
//! runs one after the other. Each publishes how far it has come. From that and from its lookahead follows what it can no
//! longer send: the shared-memory form of the null messages of Chandy, Misra and Bryant. A station runs what is strictly
//! before the promises of those who send to it.
//!
//! Promises alone would creep through an idle stretch by one lookahead at a time. So [`Books`] find the moment at which
//! nothing is on its way; the earliest event of that moment is the *floor*, below which nothing will ever happen, and
//! every station counts as having come that far. If there is no such event, the run is over, and exactly so.
//!
//! It shares with the phases the groups of LPs and the bell that threads wait for, but none of the protocol. It is not
//! the default: a thread can't help another, and each step is paid with looks at the clocks of all.

mod books;
mod member;
mod station;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::kernel::activity::Activity;
use crate::kernel::asynchronous::books::Books;
use crate::kernel::asynchronous::member::Member;
use crate::kernel::asynchronous::station::Station;
use crate::kernel::bell::Bell;
use crate::kernel::group::Group;
use crate::kernel::key::EventKey;
use crate::kernel::lp::{Envelope, Lp, LpId};
use crate::kernel::parallel::{ParallelOptions, can_run_parallel, pin_to_core};
use crate::kernel::rng::mix64;
use crate::kernel::sequential::{Finished, Observer, Stopped, panic_message};
use crate::kernel::sync::{AtomicBool, AtomicU64, Mutex, Ordering, yield_now};
use crate::kernel::time::{Span, Time};

/// How many events pass between two looks at the world outside, and at most in one turn of a group.
const EVENTS_PER_POLL: u64 = 1024;

/// How many events pass between two looks at the budget: one of them may send a lot.
const EVENTS_PER_SLICE: u64 = 64;

/// The station of the hub; group g of the spokes is station g + 1.
const HUB: usize = 0;

/// Runs the LPs until none has anything left to do, on as many threads as there are recorders. A thread runs the groups
/// that are its own: of the options, `stealing`, `account` and `occupancy` have no meaning here.
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
    assert!(can_run_parallel(lps), "no lookahead, no parallel run");
    let threads = recorders.len();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let size = options.spokes_per_group;
    let groups = (lps.len() - 1).div_ceil(size);
    let activity = Activity::new(1 + groups);
    observer.watch(&activity);
    let (mut stations, mut members) = (Vec::new(), Vec::new());
    let hub_lookahead = lps[0].lookahead();
    let (hub, spokes) = lps.split_at_mut(1);
    for (index, lps) in [hub].into_iter().chain(spokes.chunks_mut(size)).enumerate() {
        let spokes_lookahead = || lps.iter().map(Lp::promise).min().unwrap_or(Span::FOREVER);
        let lookahead = if index == HUB { hub_lookahead } else { spokes_lookahead() };
        stations.push(Station::new(lookahead));
        let (first, partners) =
            if index == HUB { (0, groups) } else { ((index - 1) * size + 1, 1) };
        let group = Group::new(first as u32, lps, activity.place(index));
        members.push(Member::new(index, group, partners));
    }
    let run = Run {
        floor: AtomicU64::new(0),
        books: Mutex::new(Books::new(stations.len())),
        bell: Bell::new(threads <= cores),
        is_over: AtomicBool::new(false),
        is_halted: AtomicBool::new(false),
        stop: AtomicU64::new(u64::MAX),
        failure: Mutex::new(None),
        broken: Mutex::new(None),
        stations: stations.into(),
        observer,
        options,
    };
    if !members.iter_mut().all(|member| run.start(member, &mut recorders[0])) {
        return run.result(&members, recorders);
    }
    let members = run.all_threads(members, recorders);
    run.result(&members, recorders)
}

/// One run, as all its threads see it.
struct Run<'a, L: Lp, O: ?Sized> {
    stations: Box<[Station<L::Message>]>,
    /// No event before this time, ns, is left or will ever be. Only rises.
    floor: AtomicU64,
    books: Mutex<Books>,
    bell: Bell,
    is_over: AtomicBool,
    is_halted: AtomicBool,
    /// Nothing at this time, ns, or later matters: an LP panicked before. Only falls.
    stop: AtomicU64,
    /// The first panic of an LP, as far as is known.
    failure: Mutex<Option<(EventKey, LpId, String)>>,
    /// What went wrong outside any LP.
    broken: Mutex<Option<String>>,
    observer: &'a O,
    options: ParallelOptions<'a>,
}

/// A thread's own books.
struct Seat<'r, R> {
    thread: usize,
    recorder: &'r mut R,
    /// Events since the recorder was last polled.
    unpolled: u64,
    /// How often it has drawn whether to give up its core.
    draws: u64,
}

impl<L, O> Run<'_, L, O>
where
    L: Lp + Send,
    L::Message: Send,
    L::Recorder: Send,
    O: Observer<L::Recorder> + ?Sized,
{
    /// Lets the LPs of a station start; says whether they do.
    fn start(&self, member: &mut Member<'_, L>, recorder: &mut L::Recorder) -> bool {
        let Member { station, group, sent, .. } = member;
        let start = || group.start(recorder, &mut |envelope| self.post(*station, sent, envelope));
        let caught = catch_unwind(AssertUnwindSafe(start));
        caught.map_err(|payload| self.fail(member, panic_message(payload.as_ref()))).is_ok()
    }

    /// Runs every station on its thread, and hands all of them back.
    fn all_threads<'g>(
        &self,
        mut members: Vec<Member<'g, L>>,
        recorders: &mut [L::Recorder],
    ) -> Vec<Member<'g, L>> {
        let (threads, groups) = (recorders.len(), self.stations.len() - 1);
        let mut shares: Vec<_> = (0..threads).map(|_| Vec::new()).collect();
        for member in members.drain(..) {
            shares[member.station.saturating_sub(1) * threads / groups].push(member);
        }
        thread::scope(|scope| {
            let crew = shares.into_iter().zip(recorders).enumerate();
            let crew = crew.map(|(thread, (mut share, recorder))| {
                scope.spawn(move || {
                    self.thread(thread, &mut share, recorder);
                    share
                })
            });
            let crew: Vec<_> = crew.collect();
            crew.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        })
    }

    /// What each thread does. Whatever goes wrong in it ends the run for all.
    fn thread(&self, thread: usize, share: &mut [Member<'_, L>], recorder: &mut L::Recorder) {
        let mut seat = Seat { thread, recorder, unpolled: 0, draws: 0 };
        let work = AssertUnwindSafe(|| {
            if self.options.pin {
                pin_to_core(thread);
            }
            self.work(share, &mut seat);
        });
        if let Err(payload) = catch_unwind(work) {
            self.broken.lock().get_or_insert_with(|| panic_message(payload.as_ref()));
            self.end();
        }
    }

    fn work(&self, share: &mut [Member<'_, L>], seat: &mut Seat<'_, L::Recorder>) {
        let mut errand = || (self.options.errand)();
        loop {
            // Before the look at anything else: whoever changes something rings afterwards.
            let seen = self.bell.count();
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            let mut has_moved = false;
            for member in &mut *share {
                has_moved |= self.turn(member, seat);
            }
            if !has_moved {
                self.bell.wait(seen, &mut errand);
            }
        }
    }

    /// Takes in what has arrived and runs what is safe; says whether there was anything.
    fn turn(&self, member: &mut Member<'_, L>, seat: &mut Seat<'_, L::Recorder>) -> bool {
        self.fuzz(seat);
        // Before the look at the inbox; see `Station::promise`.
        let horizon = self.horizon(member);
        let events = member.group.events();
        let mut has_moved = false;
        self.stations[member.station].drain(|envelope| {
            has_moved = true;
            member.take_in(self.station_of(envelope.key.source()), envelope);
        });
        if !member.has_failed {
            let run = AssertUnwindSafe(|| self.run_group(member, horizon, seat));
            if let Err(payload) = catch_unwind(run) {
                has_moved = true;
                self.fail(member, panic_message(payload.as_ref()));
            }
        }
        let station = &self.stations[member.station];
        let (old, new) = (station.reached(), member.next().min(horizon));
        if member.group.events() > events {
            has_moved = true;
            member.mark = old;
        }
        if new > old {
            station.reach(new);
        }
        if has_moved || new > old {
            self.bell.ring();
        }
        member.is_entered &= !has_moved;
        if !member.is_entered && !has_moved {
            self.enter(member);
        }
        has_moved
    }

    /// What others send to this station from now on arrives at this time or later.
    fn horizon(&self, member: &Member<'_, L>) -> Time {
        let (hub, groups) = (&self.stations[HUB], &self.stations[HUB + 1..]);
        let floor = Time::from_ns(self.floor.load(Ordering::Acquire));
        let mut horizon = hub.promise(floor);
        if member.station == HUB {
            let promises = groups.iter().map(|group| group.promise(floor));
            horizon = promises.min().unwrap_or(Time::NEVER);
            // A hub that hears of nobody would run to its end at once, and all it sends would lie in memory.
            let reached = || groups.iter().map(Station::reached).min();
            if horizon == Time::NEVER && reached() < Some(member.mark) {
                horizon = hub.reached();
            }
        }
        horizon.min(Time::from_ns(self.stop.load(Ordering::Relaxed)))
    }

    fn run_group(
        &self,
        member: &mut Member<'_, L>,
        horizon: Time,
        seat: &mut Seat<'_, L::Recorder>,
    ) {
        let is_hub = member.station == HUB;
        let mut budget = if is_hub { self.options.hub_budget } else { EVENTS_PER_POLL };
        while budget > 0 {
            let (mut posted, slice) = (0, budget.min(EVENTS_PER_SLICE));
            let Member { station, group, sent, .. } = &mut *member;
            let mut post = |envelope| {
                posted += 1;
                self.post(*station, sent, envelope);
            };
            let events = group.run_before(horizon, slice, seat.recorder, &mut post);
            seat.unpolled += events;
            if seat.unpolled >= EVENTS_PER_POLL && self.poll(seat).is_break() || events < slice {
                break;
            }
            budget = budget.saturating_sub(events.max(posted));
        }
    }

    fn post(&self, from: usize, sent: &mut [u64], envelope: Envelope<L::Message>) {
        let to = self.station_of(envelope.to);
        assert!(
            (to == HUB) != (from == HUB),
            "spokes talk to the hub and within their group only, but {} sends to {}",
            envelope.key.source(),
            envelope.to
        );
        sent[to.saturating_sub(1)] += 1;
        self.stations[to].push(envelope);
    }

    fn station_of(&self, lp: LpId) -> usize {
        lp.index().div_ceil(self.options.spokes_per_group)
    }

    /// Enters a station without anything to do in the books, and draws the conclusions.
    fn enter(&self, member: &mut Member<'_, L>) {
        member.is_entered = true;
        let mut books = self.books.lock();
        let Some(floor) = books.enter(member.station, member.report()) else { return };
        let floor = floor.as_ns();
        if floor >= self.stop.load(Ordering::Relaxed) {
            self.end();
        } else if floor > self.floor.load(Ordering::Relaxed) {
            self.floor.store(floor, Ordering::Release);
            self.bell.ring();
        }
    }

    /// Notes a panic. Everything else goes on until then, so that the first one is certain to be met.
    fn fail(&self, member: &mut Member<'_, L>, message: String) {
        member.has_failed = true;
        let (key, lp) = (member.group.key(), member.group.active());
        let mut first = self.failure.lock();
        if first.as_ref().is_none_or(|first| (key, lp) < (first.0, first.1)) {
            let stop = key.time().saturating_add(Span::from_ns(1));
            self.stop.store(stop.as_ns(), Ordering::Relaxed);
            *first = Some((key, lp, message));
        }
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.bell.ring();
    }

    fn poll(&self, seat: &mut Seat<'_, L::Recorder>) -> ControlFlow<()> {
        seat.unpolled = 0;
        let reached = self.stations.iter().map(Station::reached).min();
        let flow = self.observer.poll(reached.unwrap_or(Time::ZERO), seat.recorder);
        if flow.is_break() {
            self.is_halted.store(true, Ordering::Relaxed);
            self.end();
        }
        flow
    }

    /// Gives up the core now and then, if asked to.
    fn fuzz(&self, seat: &mut Seat<'_, L::Recorder>) {
        if let Some(seed) = self.options.fuzz {
            seat.draws += 1;
            if mix64(seed ^ mix64(seat.draws << 8 | seat.thread as u64)).is_multiple_of(4) {
                yield_now();
            }
        }
    }

    fn result(
        self,
        members: &[Member<'_, L>],
        recorders: &mut [L::Recorder],
    ) -> Result<Finished, Stopped> {
        if let Some(message) = self.broken.into_inner() {
            return Err(Stopped::Broken { message });
        }
        if let Some((key, lp, message)) = self.failure.into_inner() {
            return Err(Stopped::Panicked { lp, time: key.time(), message });
        }
        if self.is_halted.load(Ordering::Relaxed) {
            return Err(Stopped::Halted);
        }
        for recorder in recorders {
            if self.observer.poll(Time::NEVER, recorder).is_break() {
                return Err(Stopped::Halted);
            }
        }
        if members.iter().any(|member| member.group.is_beyond()) {
            return Err(Stopped::OutOfTime);
        }
        let events = members.iter().map(|member| member.group.events()).sum();
        let end = members.iter().map(|member| member.group.key().time()).max();
        Ok(Finished { events, end: end.unwrap_or(Time::ZERO) })
    }
}
