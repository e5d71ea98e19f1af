//! The reference executor: one thread, one order, the definition of the right answer.

use std::any::Any;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::kernel::activity::Activity;
use crate::kernel::group::Group;
use crate::kernel::lp::{Envelope, Lp, LpId};
use crate::kernel::time::Time;

/// How many events pass between two calls of the observer.
const EVENTS_PER_POLL: u64 = 1024;

/// Takes results out of a run while it goes on, and may end it early. Shared by all threads of a run.
pub trait Observer<R>: Sync {
    /// Called on each thread with its recorder every thousand events or so, and once at the end. Every event before
    /// `done` has been handled, whichever thread it ran on; at the end `done` is [`Time::NEVER`]. The result of a run
    /// never depends on when it is called.
    fn poll(&self, done: Time, recorder: &mut R) -> ControlFlow<()>;

    /// A run begins, and may be watched from other threads.
    fn watch(&self, _activity: &Activity) {}
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
    /// Something was to happen after [`Time::MAX`]; everything before it has happened.
    OutOfTime,
    /// A bug: an LP panicked.
    Panicked {
        /// Which LP.
        lp: LpId,
        /// The virtual time of the event it was handling.
        time: Time,
        /// What it said.
        message: String,
    },
    /// A bug in the executor itself, outside any LP.
    Broken {
        /// What it said.
        message: String,
    },
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stopped::Halted => f.write_str("the run was stopped"),
            Stopped::OutOfTime => f.write_str("the run would go on after the end of virtual time"),
            Stopped::Panicked { lp, time, message } => {
                write!(f, "{lp} panicked at {time}: {message}")
            }
            Stopped::Broken { message } => write!(f, "the executor panicked: {message}"),
        }
    }
}

impl std::error::Error for Stopped {}

/// Runs the LPs until none has anything left to do.
///
/// # Errors
/// [`Stopped`] when the observer halts the run, an LP panics, or time is over. The LPs are then in the middle of their work.
pub fn run<L, O>(
    lps: &mut [L],
    recorder: &mut L::Recorder,
    observer: &O,
) -> Result<Finished, Stopped>
where
    L: Lp,
    O: Observer<L::Recorder> + ?Sized,
{
    let activity = Activity::new(1);
    observer.watch(&activity);
    let mut group = Group::new(0, lps, activity.place(0));
    let result = catch_unwind(AssertUnwindSafe(|| run_group(&mut group, recorder, observer)));
    result.unwrap_or_else(|payload| {
        let message = panic_message(payload.as_ref());
        Err(Stopped::Panicked { lp: group.active(), time: group.key().time(), message })
    })
}

fn run_group<L, O>(
    group: &mut Group<'_, L>,
    recorder: &mut L::Recorder,
    observer: &O,
) -> Result<Finished, Stopped>
where
    L: Lp,
    O: Observer<L::Recorder> + ?Sized,
{
    let mut nobody = |envelope: Envelope<L::Message>| panic!("there is no {}", envelope.to);
    group.start(recorder, &mut nobody);
    while group.run_before(Time::NEVER, EVENTS_PER_POLL, recorder, &mut nobody) > 0 {
        if observer.poll(group.key().time(), recorder).is_break() {
            return Err(Stopped::Halted);
        }
    }
    match observer.poll(Time::NEVER, recorder) {
        ControlFlow::Continue(()) if group.is_beyond() => Err(Stopped::OutOfTime),
        ControlFlow::Continue(()) => {
            Ok(Finished { events: group.events(), end: group.key().time() })
        }
        ControlFlow::Break(()) => Err(Stopped::Halted),
    }
}

/// The text of a panic, whatever type it was thrown with.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::lp::{Class, Context};
    use crate::kernel::sync::{AtomicU32, Ordering};
    use crate::kernel::time::Span;
    use crate::kernel::toys::{self, Digest};

    /// Stops after so many polls.
    struct StopAfter(AtomicU32);

    impl<R> Observer<R> for StopAfter {
        fn poll(&self, _: Time, _: &mut R) -> ControlFlow<()> {
            match self.0.fetch_sub(1, Ordering::Relaxed) {
                1 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }

    fn stop_after(polls: u32) -> StopAfter {
        StopAfter(AtomicU32::new(polls))
    }

    #[test]
    fn a_run_repeats_itself() {
        let digest = |seed| {
            let mut digest = Digest::default();
            let mut lps = toys::phold(16, 4, seed, Span::from_ms(1), Time::from_ns(200_000_000));
            let finished = run(&mut lps, &mut digest, &stop_after(u32::MAX)).unwrap();
            assert!(finished.events > 2_000);
            toys::digest(&lps)
        };
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }

    #[test]
    fn the_observer_can_stop_it() {
        let mut lps = toys::phold(16, 4, 1, Span::from_ms(1), Time::MAX);
        let stopped = run(&mut lps, &mut Digest::default(), &stop_after(3));
        assert!(matches!(stopped, Err(Stopped::Halted)));
    }

    /// Exactly the departures that queueing theory gives: each stage starts a job when the job and the server are free.
    #[test]
    fn a_tandem_queue_agrees_with_its_recursion() {
        let (jobs, services) = (200, [3, 7, 2]);
        let mut lps = toys::tandem(jobs, 5, &services);
        run(&mut lps, &mut Digest::default(), &stop_after(u32::MAX)).unwrap();
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
        let stopped = run(&mut lps, &mut Digest::default(), &stop_after(u32::MAX));
        match stopped {
            Err(Stopped::Panicked { message, .. }) => {
                assert!(message.contains("steps in one instant"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends itself a message, then works in parts that follow each other at once.
    struct Parts {
        left: u32,
        received: Option<u32>,
    }

    impl Lp for Parts {
        type Message = ();
        type Recorder = ();

        fn lookahead(&self) -> Span {
            Span::ZERO
        }

        fn start(&mut self, context: &mut Context<'_, (), ()>) {
            context.wake(Time::from_ns(5), Class::new(1));
        }

        fn receive(&mut self, (): (), _: &mut Context<'_, (), ()>) {
            self.received = Some(self.left);
        }

        fn wake(&mut self, context: &mut Context<'_, (), ()>) {
            assert_eq!((context.now(), context.round()), (Time::from_ns(5), 0));
            context.send(LpId::new(0), context.now(), Class::new(2), ());
            self.left -= 1;
            if self.left > 0 {
                context.go_on();
            }
        }
    }

    #[test]
    fn what_goes_on_comes_before_everything_else_and_can_be_stopped() {
        let mut lps = [Parts { left: 5000, received: None }];
        let stopped = run(&mut lps, &mut (), &stop_after(3));
        assert!(matches!(stopped, Err(Stopped::Halted)));
        assert_eq!((lps[0].left, lps[0].received), (5000 - 3 * 1024, None));
        let mut lps = [Parts { left: 5000, received: None }];
        let finished = run(&mut lps, &mut (), &stop_after(u32::MAX)).unwrap();
        assert_eq!((finished.events, finished.end), (10_000, Time::from_ns(5)));
        assert_eq!((lps[0].left, lps[0].received), (0, Some(0)));
    }

    #[test]
    fn a_panic_names_the_lp_and_the_time() {
        let mut lps = toys::tandem(3, 5, &[1]);
        toys::panic_at(&mut lps, 1, Time::from_ns(5));
        match run(&mut lps, &mut Digest::default(), &stop_after(u32::MAX)) {
            Err(Stopped::Panicked { lp, time, message }) => {
                assert_eq!((lp, time), (LpId::new(1), Time::from_ns(5)));
                assert!(message.contains("on request"));
            }
            other => panic!("{other:?}"),
        }
    }
}
