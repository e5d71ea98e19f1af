//! What a logical process is, and what it may do while it handles an event.

use std::fmt;
use std::panic::resume_unwind;

use crate::kernel::key::EventKey;
use crate::kernel::time::{Span, Time};

/// The number of an LP: its index in the list given to the executor, at most 2^20 - 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LpId(u32);

impl LpId {
    /// The largest number an event key can hold.
    pub const MAX: LpId = LpId((1 << 20) - 1);

    /// The LP with this number.
    ///
    /// # Panics
    /// If the number is past [`LpId::MAX`].
    pub const fn new(number: u32) -> LpId {
        assert!(number <= LpId::MAX.0, "too many LPs");
        LpId(number)
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Its index in the executor's list.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for LpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LP {}", self.0)
    }
}

/// The field of an event key that orders kinds of events at equal time: 0 to 15, lower first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Class(u8);

impl Class {
    /// The class with this rank.
    ///
    /// # Panics
    /// If the rank is past 15.
    pub const fn new(rank: u8) -> Class {
        assert!(rank < 16, "an event key holds four bits of class");
        Class(rank)
    }

    /// Its rank.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A sequential state machine with a virtual clock of its own.
///
/// An LP promises to depend on nothing but its own state and the events it is given; to draw random numbers only from
/// a stream of its own; and that whatever it sends arrives at least [`Lp::lookahead`] after the event that made it
/// send (INV-2). In return it is given its events in strictly increasing key order (INV-1), in every executor.
pub trait Lp {
    /// What LPs send to one another.
    type Message;
    /// Where results go. One per thread, merged at the end: recording must commute, or the thread count shows.
    type Recorder;

    /// The least delay of anything this LP sends to another. Constant over a run.
    ///
    /// An LP that sends what comes of something when that begins may declare the shortest time that it takes on top of the
    /// latency of its link: this is what makes the window of a parallel run wide. See *Pre-sending* in docs/architecture.md.
    fn lookahead(&self) -> Span;

    /// The least delay of anything this LP sends to LP 0; no less than [`Lp::lookahead`]. Constant over a run.
    ///
    /// It matters where LPs talk among themselves: those of one group of a star may, and need no lookahead for it. Only what
    /// they promise the hub holds its horizon back.
    fn promise(&self) -> Span {
        self.lookahead()
    }

    /// Whether a message that comes before its next wake may make it send anything or plan a wake. As long as none may, others
    /// know how long it will be silent, whatever it hears. Only a wake may change the answer from no to yes.
    fn reacts(&self) -> bool {
        true
    }

    /// Called once before the first event, to send or to plan a first wake. What it sends may arrive at any time.
    fn start(&mut self, context: &mut Context<'_, Self::Message, Self::Recorder>);

    /// A message has arrived.
    fn receive(
        &mut self,
        message: Self::Message,
        context: &mut Context<'_, Self::Message, Self::Recorder>,
    );

    /// The time planned with [`Context::wake`] has come.
    fn wake(&mut self, context: &mut Context<'_, Self::Message, Self::Recorder>);
}

/// What an LP promises: nothing it sends arrives sooner than so long after the event that makes it send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Promises {
    /// To LP 0.
    pub(crate) hub: Span,
    /// To all others.
    pub(crate) others: Span,
}

impl Promises {
    /// Those of this LP.
    pub(crate) fn of(lp: &impl Lp) -> Promises {
        Promises { hub: lp.promise(), others: lp.lookahead() }
    }

    /// None.
    pub(crate) const NOTHING: Promises = Promises { hub: Span::ZERO, others: Span::ZERO };
}

/// Ends the run at the event being handled: what no LP can go on from, and no bug. It is reported as a panic would be, the first of
/// all in every executor, and nothing is printed. The LP keeps for itself why.
pub fn give_up() -> ! {
    resume_unwind(Box::new("an LP gave up"))
}

/// A message on its way.
#[derive(Debug)]
pub struct Envelope<M> {
    /// Its place in the order.
    pub key: EventKey,
    /// Who gets it.
    pub to: LpId,
    /// What it says.
    pub message: M,
}

/// What an LP may do while it handles an event: read the clock, send, plan its next wake, record results.
#[derive(Debug)]
pub struct Context<'a, M, R> {
    /// The event being handled; before the first event, a key at time zero.
    pub(crate) key: EventKey,
    pub(crate) id: LpId,
    pub(crate) promises: Promises,
    /// Whether it may send and plan now; see [`Lp::reacts`].
    pub(crate) may_act: bool,
    pub(crate) sequence: &'a mut u32,
    pub(crate) sent: &'a mut Vec<Envelope<M>>,
    pub(crate) wake: &'a mut EventKey,
    /// Whether its wake is planned for after the end of time.
    pub(crate) wakes_beyond: &'a mut bool,
    /// Whether anybody has sent anything for after it.
    pub(crate) sent_beyond: &'a mut bool,
    pub(crate) recorder: &'a mut R,
}

impl<M, R> Context<'_, M, R> {
    /// The time of the event being handled.
    pub fn now(&self) -> Time {
        self.key.time()
    }

    /// The LP that handles it.
    pub fn id(&self) -> LpId {
        self.id
    }

    /// Where results go.
    pub fn recorder(&mut self) -> &mut R {
        self.recorder
    }

    /// Sends `message`, to arrive at `at`. After [`Time::MAX`] nothing arrives; the run is an error then.
    ///
    /// # Panics
    /// If it would arrive sooner than the lookahead this LP declared, or if the LP acts on a message although it said that it
    /// would not (INV-2): a bug in a model, not bad input.
    pub fn send(&mut self, to: LpId, at: Time, class: Class, message: M) {
        self.check_that_it_may_act();
        let lookahead = if to.get() == 0 { self.promises.hub } else { self.promises.others };
        let earliest = self.now().saturating_add(lookahead);
        assert!(
            at >= earliest,
            "INV-2: {} sends for {at}, before its lookahead {earliest}",
            self.id
        );
        if at > Time::MAX {
            *self.sent_beyond = true;
            return;
        }
        let key = self.next_key(at, class);
        self.sent.push(Envelope { key, to, message });
    }

    /// Plans the one wake of this LP, in place of the one planned before. After [`Time::MAX`] nothing wakes; if that is
    /// still planned in the end, the run is an error.
    ///
    /// # Panics
    /// If `at` is in the past, or as [`Context::send`].
    pub fn wake(&mut self, at: Time, class: Class) {
        self.check_that_it_may_act();
        assert!(at >= self.now(), "{} plans a wake for {at}, in its past", self.id);
        *self.wakes_beyond = at > Time::MAX;
        *self.wake = if *self.wakes_beyond { EventKey::MAX } else { self.next_key(at, class) };
    }

    /// Plans the next wake as a part of the one being handled: at once, before anything else at this instant. For a wake
    /// with so much to do that the observer should be heard in between.
    pub fn go_on(&mut self) {
        let (now, round, class) = (self.now(), self.key.round(), self.key.class());
        *self.sequence = self.sequence.wrapping_add(1);
        let key = EventKey::new(now, round, class, self.id, *self.sequence);
        // The count of events may begin anew in between.
        *self.wake = if key > self.key { key } else { self.next_key(now, class) };
    }

    /// How many zero-latency round trips have led to the event being handled, within its instant.
    pub fn round(&self) -> u16 {
        self.key.round()
    }

    /// Takes back the planned wake.
    pub fn sleep(&mut self) {
        *self.wakes_beyond = false;
        *self.wake = EventKey::MAX;
    }

    fn check_that_it_may_act(&self) {
        assert!(self.may_act, "INV-2: {} acts on a message, but said that it would not", self.id);
    }

    /// Later than the event being handled, also within its instant; see [`crate::kernel::key`] for rounds.
    fn next_key(&mut self, at: Time, class: Class) -> EventKey {
        let round = if at > self.now() {
            0
        } else if class > self.key.class() {
            self.key.round()
        } else {
            self.key.round().checked_add(1).expect(
                "more than 65,535 steps in one instant; latencies or passes that take some time break the loop",
            )
        };
        *self.sequence = self.sequence.wrapping_add(1);
        EventKey::new(at, round, class, self.id, *self.sequence)
    }
}
