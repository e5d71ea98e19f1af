//! The LPs of a run as tasks of its phases: the hub, and the spokes in groups.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::utils::CachePadded;

use crate::kernel::activity::Activity;
use crate::kernel::group::Group;
use crate::kernel::key::EventKey;
use crate::kernel::lp::{Envelope, Lp, LpId};
use crate::kernel::parallel::horizon::{Horizons, Lookahead};
use crate::kernel::parallel::lane::{Earliest, Lanes, Writer};
use crate::kernel::sequential::panic_message;
use crate::kernel::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering};
use crate::kernel::time::{Span, Time};

/// How many events pass between two looks at the world outside.
pub(super) const EVENTS_PER_POLL: u64 = 1024;

/// How many events pass between two looks at the budget: one of them may send a lot.
const EVENTS_PER_SLICE: u64 = 64;

/// Messages that a lane has room for. Where the hub hears from the spokes, few go to one group in one phase, and slots that are
/// used again soon are near. Without feedback phases are long, and what is more than this spills over.
const ROOM_TO_GROUP: usize = 4;
const ROOM_TO_HUB: usize = 32;

/// The task of the hub. The groups of spokes come next.
pub(super) const HUB: u32 = 0;

/// An LP that panicked.
pub(super) struct Failure {
    pub(super) key: EventKey,
    pub(super) lp: LpId,
    pub(super) message: String,
}

/// The LPs, and what is on its way between them.
pub(super) struct Star<'a, L: Lp> {
    /// The hub, then the groups of spokes.
    groups: Box<[CachePadded<Mutex<Group<'a, L>>>]>,
    spokes_per_group: u32,
    /// The next event each group knows of, its lanes apart.
    next: Earliest,
    /// By the parity of the phase in which they are written. The hub has a lane to each group, each thread one to the hub.
    to_spokes: [Lanes<L::Message>; 2],
    to_hub: [Lanes<L::Message>; 2],
    /// The phase, written by the leader between phases.
    phase: AtomicU32,
    hub_horizon: AtomicU64,
    spokes_horizon: AtomicU64,
    hub_budget: u64,
    /// When the hub wakes next, and whether a message may make it act before.
    hub_wake: AtomicU64,
    hub_reacts: AtomicBool,
    failure: Mutex<Option<Failure>>,
    failed: Box<[AtomicBool]>,
    pub(super) activity: Activity,
}

/// What a task may do beside handling events.
pub(super) trait Desk<R> {
    /// Which thread it is.
    fn thread(&self) -> usize;

    /// Where results go.
    fn recorder(&mut self) -> &mut R;

    /// So many events were handled; says whether the run is to end.
    fn count(&mut self, events: u64) -> bool;
}

impl<'a, L: Lp> Star<'a, L> {
    /// The first LP is the hub. In a phase it handles events and sends messages up to about `hub_budget`.
    pub(super) fn new(
        lps: &'a mut [L],
        spokes_per_group: usize,
        threads: usize,
        hub_budget: u64,
    ) -> Self {
        let (hub, spokes) = lps.split_at_mut(1);
        let spoke_groups = spokes.len().div_ceil(spokes_per_group);
        let activity = Activity::new(1 + spoke_groups);
        let mut groups = vec![Group::new(0, hub, activity.place(0))];
        for (index, spokes) in spokes.chunks_mut(spokes_per_group).enumerate() {
            let first = (1 + index * spokes_per_group) as u32;
            groups.push(Group::new(first, spokes, activity.place(1 + index)));
        }
        let count = groups.len();
        Star {
            groups: groups.into_iter().map(|group| CachePadded::new(Mutex::new(group))).collect(),
            spokes_per_group: spokes_per_group as u32,
            next: Earliest::new(count),
            to_spokes: [(); 2].map(|()| Lanes::new(1, spoke_groups, ROOM_TO_GROUP)),
            to_hub: [(); 2].map(|()| Lanes::new(threads, 1, ROOM_TO_HUB)),
            phase: AtomicU32::new(0),
            hub_horizon: AtomicU64::new(0),
            spokes_horizon: AtomicU64::new(0),
            hub_budget,
            hub_wake: AtomicU64::new(Time::NEVER.as_ns()),
            hub_reacts: AtomicBool::new(true),
            failure: Mutex::new(None),
            failed: (0..count).map(|_| AtomicBool::new(false)).collect(),
            activity,
        }
    }

    /// How many tasks a phase can have.
    pub(super) fn tasks(&self) -> usize {
        self.groups.len()
    }

    /// Lets all LPs start, in order.
    pub(super) fn start(&self, recorder: &mut L::Recorder) {
        for (task, group) in self.groups.iter().enumerate() {
            let mut group = group.lock();
            let mut writer = self.writer(task, 1, 0);
            let start = AssertUnwindSafe(|| {
                group.start(recorder, &mut |envelope| self.post(&mut writer, envelope));
            });
            if let Err(payload) = catch_unwind(start) {
                let message = panic_message(payload.as_ref());
                self.fail(task, Failure { key: group.key(), lp: group.active(), message });
                return;
            }
            self.note_next(task, &group);
        }
    }

    /// Notes what a task knows to come.
    fn note_next(&self, task: usize, group: &Group<'_, L>) {
        self.next.set(task, time_of(group.next()));
        if task == HUB as usize {
            self.hub_wake.store(time_of(group.next_wake()).as_ns(), Ordering::Relaxed);
            self.hub_reacts.store(group.reacts(), Ordering::Relaxed);
        }
    }

    /// Opens the next phase, with these horizons.
    pub(super) fn set_phase(&self, phase: u32, horizons: Horizons) {
        self.phase.store(phase, Ordering::Relaxed);
        self.hub_horizon.store(horizons.hub.as_ns(), Ordering::Relaxed);
        self.spokes_horizon.store(horizons.spokes.as_ns(), Ordering::Relaxed);
    }

    /// The earliest events that are known of after phase `phase`.
    pub(super) fn next_events(&self, phase: u32) -> Horizons {
        let sent = (phase % 2) as usize;
        let known = |tasks: Range<usize>| {
            tasks.map(|task| self.next.get(task)).min().unwrap_or(Time::NEVER)
        };
        Horizons {
            hub: self.hub_next().min(self.to_hub[sent].earliest.min()),
            spokes: known(1..self.groups.len()).min(self.to_spokes[sent].earliest.min()),
        }
    }

    /// The next event of the hub, messages on their way apart.
    pub(super) fn hub_next(&self) -> Time {
        self.next.get(HUB as usize)
    }

    /// When the hub may send something next, if only its wake can make it.
    pub(super) fn hub_sends(&self) -> Option<Time> {
        (!self.hub_reacts.load(Ordering::Relaxed))
            .then(|| Time::from_ns(self.hub_wake.load(Ordering::Relaxed)))
    }

    /// Whether the hub has anything to do before `horizon`, after phase `phase`.
    pub(super) fn hub_is_due(&self, phase: u32, horizon: Time) -> bool {
        let sent = (phase % 2) as usize;
        self.hub_next() < horizon || self.to_hub[sent].earliest.min() < Time::NEVER
    }

    /// Whether the group of spokes with this task has.
    pub(super) fn spokes_are_due(&self, task: u32, phase: u32, horizon: Time) -> bool {
        let sent = (phase % 2) as usize;
        let lane = task as usize - 1;
        self.next.get(task as usize) < horizon
            || self.to_spokes[sent].earliest.get(lane) < Time::NEVER
    }

    /// Does a task of the phase. A panic in it is noted down.
    pub(super) fn run(&self, task: u32, desk: &mut impl Desk<L::Recorder>) {
        let index = task as usize;
        let work = AssertUnwindSafe(|| self.run_group(index, desk));
        if let Err(payload) = catch_unwind(work) {
            let group = self.groups[index].lock();
            let message = panic_message(payload.as_ref());
            self.fail(index, Failure { key: group.key(), lp: group.active(), message });
        }
    }

    fn run_group(&self, task: usize, desk: &mut impl Desk<L::Recorder>) {
        let phase = self.phase.load(Ordering::Relaxed);
        let (arrived, sent) = ((phase + 1) as usize % 2, phase as usize % 2);
        let thread = desk.thread();
        let mut group = self.groups[task].try_lock().expect("INV-12: one thread per task");
        let mut accept = |envelope| group.accept(envelope);
        let (horizon, mut budget) = if task == HUB as usize {
            let lanes = &self.to_hub[arrived];
            (0..lanes.len()).for_each(|lane| lanes.drain(lane, &mut accept));
            (&self.hub_horizon, self.hub_budget)
        } else {
            self.to_spokes[arrived].drain(task - 1, &mut accept);
            (&self.spokes_horizon, u64::MAX)
        };
        if self.failed[task].load(Ordering::Relaxed) {
            return;
        }
        let horizon = Time::from_ns(horizon.load(Ordering::Relaxed));
        let mut writer = self.writer(task, sent, thread);
        loop {
            let mut posted = 0;
            let mut post = |envelope| {
                posted += 1;
                self.post(&mut writer, envelope);
            };
            let slice = budget.min(EVENTS_PER_SLICE);
            let events = group.run_before(horizon, slice, desk.recorder(), &mut post);
            budget = budget.saturating_sub(events.max(posted));
            if desk.count(events) || events < slice || budget == 0 {
                break;
            }
        }
        self.note_next(task, &group);
    }

    /// Where a task that runs on this thread writes what it sends.
    fn writer(&self, task: usize, sent: usize, thread: usize) -> Writer<'_, L::Message> {
        if task == HUB as usize {
            self.to_spokes[sent].writer(0)
        } else {
            self.to_hub[sent].writer(thread)
        }
    }

    /// Sends a message on its way, to be delivered in the next phase.
    fn post(&self, writer: &mut Writer<'_, L::Message>, envelope: Envelope<L::Message>) {
        let (to, from) = (envelope.to.get(), envelope.key.source().get());
        assert!(
            (to == HUB) != (from == HUB),
            "spokes talk to the hub and within their group only, but LP {from} sends to LP {to}"
        );
        let lane = if to == HUB { 0 } else { (to - 1) / self.spokes_per_group };
        writer.push(lane as usize, envelope);
    }

    fn fail(&self, task: usize, failure: Failure) {
        self.failed[task].store(true, Ordering::Relaxed);
        self.next.set(task, Time::NEVER);
        if task == HUB as usize {
            self.hub_wake.store(Time::NEVER.as_ns(), Ordering::Relaxed);
        }
        let mut first = self.failure.lock();
        let order = |failure: &Failure| (failure.key, failure.lp);
        if first.as_ref().is_none_or(|first| order(&failure) < order(first)) {
            *first = Some(failure);
        }
    }

    /// When the first panic happened. Everything else goes on until then, so that it is certain to be the first.
    pub(super) fn failure_time(&self) -> Option<Time> {
        self.failure.lock().as_ref().map(|failure| failure.key.time())
    }

    /// The first panic.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.failure.lock().take()
    }

    /// The least promises of both sides.
    pub(super) fn lookahead(lps: &[L]) -> Lookahead {
        let spokes = lps.iter().skip(1).map(Lp::promise).min();
        Lookahead { hub: lps[0].lookahead(), spokes: spokes.unwrap_or(Span::FOREVER) }
    }

    /// Whether anything was to happen after the end of time.
    pub(super) fn is_beyond(&self) -> bool {
        self.groups.iter().any(|group| group.lock().is_beyond())
    }

    /// How many events were handled, and when the last of them was.
    pub(super) fn totals(&self) -> (u64, Time) {
        let (mut events, mut end) = (0, Time::ZERO);
        for group in &self.groups {
            let group = group.lock();
            events += group.events();
            end = end.max(group.key().time());
        }
        (events, end)
    }
}

fn time_of(key: EventKey) -> Time {
    if key == EventKey::MAX { Time::NEVER } else { key.time() }
}
