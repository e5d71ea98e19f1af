//! The reference executor: one thread, one order, the definition of the right answer.

use std::any::Any;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::kernel::key::EventKey;
use crate::kernel::lp::{Class, Context, Envelope, Lp, LpId};
use crate::kernel::queue::MessageQueue;
use crate::kernel::time::{Span, Time};
use crate::kernel::tree::WinnerTree;

/// How many events pass between two calls of the observer.
const EVENTS_PER_POLL: u64 = 1024;

/// Takes results out of a run while it goes on, and may end it early. Shared by all threads of a run.
pub trait Observer<R>: Sync {
    /// Called on each thread with its recorder every thousand events or so, and once at the end. Every event before `done`
    /// has been handled, whichever thread it ran on; at the end `done` is `Time::NEVER`. The result of a run never depends
    /// on when it is called.
    fn poll(&self, done: Time, recorder: &mut R) -> ControlFlow<()>;
}

/// What a completed run did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    /// How many events were handled.
    pub events: u64,
    /// The time of the last one.
    pub end: Time,
}

/// Why a run ended before its work was done.
#[derive(Debug)]
pub enum Stopped {
    /// The observer asked for it.
    Halted,
    /// A bug: an LP panicked.
    Panicked {
        /// Which LP.
        lp: LpId,
        /// The virtual time of the event it was handling.
        time: Time,
        /// What it said.
        message: String,
    },
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stopped::Halted => f.write_str("the run was stopped"),
            Stopped::Panicked { lp, time, message } => {
                write!(f, "{lp} panicked at {time}: {message}")
            }
        }
    }
}

impl std::error::Error for Stopped {}

/// Runs the LPs until none has anything left to do.
///
/// # Errors
/// [`Stopped`] when the observer halts the run or an LP panics. The LPs are then in the middle of their work.
pub fn run<L, O>(
    lps: &mut [L],
    recorder: &mut L::Recorder,
    observer: &O,
) -> Result<Finished, Stopped>
where
    L: Lp,
    O: Observer<L::Recorder> + ?Sized,
{
    let mut executor = Sequential::new(lps, recorder);
    let result = catch_unwind(AssertUnwindSafe(|| executor.run(observer)));
    result.unwrap_or_else(|payload| {
        let message = panic_message(payload.as_ref());
        Err(Stopped::Panicked { lp: executor.active, time: executor.key.time(), message })
    })
}

struct Sequential<'a, L: Lp> {
    lps: &'a mut [L],
    recorder: &'a mut L::Recorder,
    lookahead: Vec<Span>,
    sequence: Vec<u32>,
    messages: MessageQueue<L::Message>,
    /// When each LP wakes; [`EventKey::MAX`] if it does not.
    wakes: WinnerTree<EventKey>,
    sent: Vec<Envelope<L::Message>>,
    /// The LP and the event being handled, for the report of a panic.
    active: LpId,
    key: EventKey,
}

impl<'a, L: Lp> Sequential<'a, L> {
    fn new(lps: &'a mut [L], recorder: &'a mut L::Recorder) -> Self {
        Sequential {
            lookahead: lps.iter().map(Lp::lookahead).collect(),
            sequence: vec![0; lps.len()],
            messages: MessageQueue::default(),
            wakes: WinnerTree::new(lps.len(), EventKey::MAX),
            sent: Vec::new(),
            active: LpId::new(0),
            key: EventKey::new(Time::ZERO, 0, Class::new(0), LpId::new(0), 0),
            lps,
            recorder,
        }
    }

    fn run<O>(&mut self, observer: &O) -> Result<Finished, Stopped>
    where
        O: Observer<L::Recorder> + ?Sized,
    {
        for index in 0..self.lps.len() {
            self.handle(LpId::new(index as u32), false, L::start);
        }
        let mut events = 0;
        loop {
            let (wake, sleeper) = self.wakes.min();
            let next = wake.min(self.messages.peek());
            if next == EventKey::MAX {
                break;
            }
            assert!(next > self.key || events == 0, "INV-1: {next:?} follows {:?}", self.key);
            self.key = next;
            if next == wake {
                self.handle(LpId::new(sleeper), true, L::wake);
            } else if let Some(Envelope { to, message, .. }) = self.messages.pop() {
                self.handle(to, false, |lp, context| lp.receive(message, context));
            }
            events += 1;
            if events % EVENTS_PER_POLL == 0 && observer.poll(next.time(), self.recorder).is_break()
            {
                return Err(Stopped::Halted);
            }
        }
        match observer.poll(Time::NEVER, self.recorder) {
            ControlFlow::Continue(()) => Ok(Finished { events, end: self.key.time() }),
            ControlFlow::Break(()) => Err(Stopped::Halted),
        }
    }

    /// Lets an LP handle an event; one that uses up its planned wake, if it is `woken`.
    fn handle(
        &mut self,
        id: LpId,
        woken: bool,
        handler: impl FnOnce(&mut L, &mut Context<'_, L::Message, L::Recorder>),
    ) {
        self.active = id;
        let planned = self.wakes.get(id.get());
        let mut wake = if woken { EventKey::MAX } else { planned };
        let mut context = Context {
            key: self.key,
            id,
            lookahead: self.lookahead[id.index()],
            sequence: &mut self.sequence[id.index()],
            sent: &mut self.sent,
            wake: &mut wake,
            recorder: self.recorder,
        };
        handler(&mut self.lps[id.index()], &mut context);
        if wake != planned {
            self.wakes.set(id.get(), wake);
        }
        for envelope in self.sent.drain(..) {
            self.messages.push(envelope);
        }
    }
}

/// The text of a panic, whatever type it was thrown with.
fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::kernel::toys::{self, Digest};

    /// Stops after so many polls.
    struct StopAfter(AtomicU32);

    impl StopAfter {
        fn new(polls: u32) -> StopAfter {
            StopAfter(AtomicU32::new(polls))
        }
    }

    impl<R> Observer<R> for StopAfter {
        fn poll(&self, _: Time, _: &mut R) -> ControlFlow<()> {
            match self.0.fetch_sub(1, Ordering::Relaxed) {
                1 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }

    #[test]
    fn a_run_repeats_itself() {
        let digest = |seed| {
            let mut digest = Digest::default();
            let mut lps = toys::phold(16, 4, seed, Span::from_ms(1), Time::from_ns(200_000_000));
            let finished = run(&mut lps, &mut digest, &StopAfter::new(u32::MAX)).unwrap();
            assert!(finished.events > 2_000);
            toys::digest(&lps)
        };
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }

    #[test]
    fn the_observer_can_stop_it() {
        let mut lps = toys::phold(16, 4, 1, Span::from_ms(1), Time::MAX);
        let stopped = run(&mut lps, &mut Digest::default(), &StopAfter::new(3));
        assert!(matches!(stopped, Err(Stopped::Halted)));
    }

    /// Exactly the departures that queueing theory gives: each stage starts a job when the job and the server are free.
    #[test]
    fn a_tandem_queue_agrees_with_its_recursion() {
        let (jobs, services) = (200, [3, 7, 2]);
        let mut lps = toys::tandem(jobs, 5, &services);
        run(&mut lps, &mut Digest::default(), &StopAfter::new(u32::MAX)).unwrap();
        let mut free = [0; 3];
        let mut last = 0;
        for job in 0..u64::from(jobs) {
            last = job * 5;
            for (stage, service) in services.iter().enumerate() {
                last = last.max(free[stage]) + service;
                free[stage] = last;
            }
        }
        assert_eq!(toys::tandem_last_departure(&lps), Time::from_ns(last));
    }

    #[test]
    fn zero_latency_loops_run_in_rounds_and_end_with_an_error() {
        let mut lps = toys::phold(2, 1, 1, Span::ZERO, Time::MAX);
        let stopped = run(&mut lps, &mut Digest::default(), &StopAfter::new(u32::MAX));
        match stopped {
            Err(Stopped::Panicked { message, .. }) => {
                assert!(message.contains("round trips"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_panic_names_the_lp_and_the_time() {
        let mut lps = toys::tandem(3, 5, &[1]);
        toys::panic_at(&mut lps, 1, Time::from_ns(5));
        match run(&mut lps, &mut Digest::default(), &StopAfter::new(u32::MAX)) {
            Err(Stopped::Panicked { lp, time, message }) => {
                assert_eq!((lp, time), (LpId::new(1), Time::from_ns(5)));
                assert!(message.contains("on request"));
            }
            other => panic!("{other:?}"),
        }
    }
}
