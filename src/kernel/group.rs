//! Consecutive LPs that are run together, one event after the other in key order: all of them in the sequential
//! executor, a part of them in the parallel ones.

use crate::kernel::activity::Place;
use crate::kernel::key::EventKey;
use crate::kernel::lp::{Class, Context, Envelope, Lp, LpId, Promises};
use crate::kernel::queue::MessageQueue;
use crate::kernel::time::Time;
use crate::kernel::tree::WinnerTree;

/// A group, with the messages and planned wakes of its LPs.
pub(crate) struct Group<'a, L: Lp> {
    /// The number of its first LP.
    first: u32,
    lps: &'a mut [L],
    books: Vec<Book>,
    messages: MessageQueue<L::Message>,
    /// When each LP wakes; [`EventKey::MAX`] if it does not.
    wakes: WinnerTree<EventKey>,
    sent: Vec<Envelope<L::Message>>,
    /// The LP and the event being handled, for the report of a panic.
    active: LpId,
    key: EventKey,
    /// The same for others, while it lasts.
    place: Place,
    events: u64,
    /// Whether a message was sent for after the end of time.
    sent_beyond: bool,
}

/// What is kept of an LP, in one piece: each is found cold.
struct Book {
    promises: Promises,
    /// How many events it has caused.
    sequence: u32,
    /// Whether its wake is planned for after the end of time.
    wakes_beyond: bool,
}

impl Book {
    fn new(lp: &impl Lp) -> Book {
        Book { promises: Promises::of(lp), sequence: 0, wakes_beyond: false }
    }
}

/// What an LP handles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Start,
    /// Uses up its planned wake.
    Wake,
    Message,
}

impl<'a, L: Lp> Group<'a, L> {
    /// The LPs from number `first` on, which say at this place what they do.
    pub(crate) fn new(first: u32, lps: &'a mut [L], place: Place) -> Self {
        Group {
            first,
            books: lps.iter().map(Book::new).collect(),
            messages: MessageQueue::default(),
            wakes: WinnerTree::new(lps.len(), EventKey::MAX),
            sent: Vec::new(),
            active: LpId::new(first),
            key: EventKey::new(Time::ZERO, 0, Class::new(0), LpId::new(0), 0),
            place,
            events: 0,
            sent_beyond: false,
            lps,
        }
    }

    /// How many events it has handled.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Whether anything is to happen after the end of time.
    pub(crate) fn is_beyond(&self) -> bool {
        self.sent_beyond || self.books.iter().any(|book| book.wakes_beyond)
    }

    /// The last event it has handled, or is handling.
    pub(crate) fn key(&self) -> EventKey {
        self.key
    }

    /// The LP that handles it.
    pub(crate) fn active(&self) -> LpId {
        self.active
    }

    /// The next event it knows of; [`EventKey::MAX`] if there is none.
    pub(crate) fn next(&self) -> EventKey {
        self.wakes.min().min(self.messages.peek())
    }

    /// The next planned wake of its LPs; [`EventKey::MAX`] if there is none.
    pub(crate) fn next_wake(&self) -> EventKey {
        self.wakes.min()
    }

    /// Whether a message may make any of them act.
    pub(crate) fn reacts(&self) -> bool {
        self.lps.iter().any(Lp::reacts)
    }

    /// Takes in a message for one of its LPs, which may not lie in its past (INV-2, at the receiver).
    pub(crate) fn accept(&mut self, envelope: Envelope<L::Message>) {
        let key = envelope.key;
        assert!(key > self.key || self.events == 0, "INV-2: {key:?} arrives after {:?}", self.key);
        self.messages.push(envelope);
    }

    /// Lets every LP start. What they send to others goes to `post`.
    pub(crate) fn start(
        &mut self,
        recorder: &mut L::Recorder,
        post: &mut impl FnMut(Envelope<L::Message>),
    ) {
        // Nobody has handled anything yet, so that no message is too early.
        for index in 0..self.lps.len() {
            let promises = std::mem::replace(&mut self.books[index].promises, Promises::NOTHING);
            self.handle(index, Event::Start, recorder, post, L::start);
            self.books[index].promises = promises;
        }
        self.place.leave();
    }

    /// Handles events as long as they are before `horizon` and at most `budget`; says how many it were. What LPs send to
    /// others goes to `post`.
    pub(crate) fn run_before(
        &mut self,
        horizon: Time,
        budget: u64,
        recorder: &mut L::Recorder,
        post: &mut impl FnMut(Envelope<L::Message>),
    ) -> u64 {
        let horizon = EventKey::first_at(horizon);
        let before = self.events;
        while self.events - before < budget {
            let wake = self.wakes.min();
            let next = wake.min(self.messages.peek());
            if next >= horizon {
                break;
            }
            assert!(next > self.key || self.events == 0, "INV-1: {next:?} follows {:?}", self.key);
            self.key = next;
            if next == wake {
                let index = (wake.source().get() - self.first) as usize;
                self.handle(index, Event::Wake, recorder, post, L::wake);
            } else if let Some(Envelope { to, message, .. }) = self.messages.pop() {
                let index = (to.get() - self.first) as usize;
                self.handle(index, Event::Message, recorder, post, |lp, context| {
                    lp.receive(message, context);
                });
            }
            self.events += 1;
        }
        self.place.leave();
        self.events - before
    }

    /// Lets an LP handle an event.
    fn handle(
        &mut self,
        index: usize,
        event: Event,
        recorder: &mut L::Recorder,
        post: &mut impl FnMut(Envelope<L::Message>),
        handler: impl FnOnce(&mut L, &mut Context<'_, L::Message, L::Recorder>),
    ) {
        self.active = LpId::new(self.first + index as u32);
        self.place.enter(self.active, self.key.time());
        let planned = self.wakes.get(index as u32);
        let mut wake = if event == Event::Wake { EventKey::MAX } else { planned };
        let book = &mut self.books[index];
        let mut context = Context {
            key: self.key,
            id: self.active,
            promises: book.promises,
            may_act: event != Event::Message || self.lps[index].reacts(),
            sequence: &mut book.sequence,
            sent: &mut self.sent,
            wake: &mut wake,
            wakes_beyond: &mut book.wakes_beyond,
            sent_beyond: &mut self.sent_beyond,
            recorder,
        };
        handler(&mut self.lps[index], &mut context);
        if wake != planned {
            self.wakes.set(index as u32, wake);
        }
        for envelope in self.sent.drain(..) {
            let own = envelope.to.get().wrapping_sub(self.first) < self.lps.len() as u32;
            if own {
                self.messages.push(envelope);
            } else {
                post(envelope);
            }
        }
    }
}
