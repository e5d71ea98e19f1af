//! What the phases do not have: clocks that would creep, and a hub that could run away. What both executors promise is
//! tested with the phases.

use std::ops::ControlFlow;

use crate::kernel::asynchronous::run;
use crate::kernel::lp::{Class, Context, Lp, LpId};
use crate::kernel::parallel::ParallelOptions;
use crate::kernel::sequential::{self, Observer};
use crate::kernel::sync::{AtomicU64, Ordering};
use crate::kernel::time::{Span, Time};
use crate::kernel::toys::{self, Digest, StarSpec};

struct Nobody;

impl<R> Observer<R> for Nobody {
    fn poll(&self, _: Time, _: &mut R) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Hours between events, and a lookahead of 1 ns: with promises alone, 10^12 steps from one event to the next.
#[test]
fn idle_stretches_are_jumped_over() {
    let (none, ns, hour) = (Span::ZERO, Span::from_ns(1), Span::from_secs(3600));
    for (hub, spoke) in [(ns, none), (none, ns), (ns, ns)] {
        let end = Time::ZERO + hour * 1000;
        let spec = StarSpec {
            spokes: 5,
            family: 1,
            jobs: 3,
            paced: false,
            seed: 4,
            hub,
            spoke,
            tick: hour,
            end,
        };
        let mut twin = toys::star(spec);
        let expected = sequential::run(&mut twin, &mut Digest::default(), &Nobody).unwrap();
        assert!(expected.events > 500, "{expected:?}");
        for threads in [1, 2, 3] {
            let mut lps = toys::star(spec);
            let mut recorders = vec![Digest::default(); threads];
            let options = ParallelOptions { spokes_per_group: 2, ..ParallelOptions::default() };
            assert_eq!(run(&mut lps, &mut recorders, &Nobody, options).unwrap(), expected);
            assert_eq!(toys::digest(&lps), toys::digest(&twin), "{threads} threads");
        }
    }
}

/// Messages sent and not yet received, and the most there have been.
struct Flight {
    now: AtomicU64,
    most: AtomicU64,
}

enum Relay<'a> {
    Hub { left: u32, flight: &'a Flight },
    Spoke { flight: &'a Flight },
}

impl Lp for Relay<'_> {
    type Message = ();
    type Recorder = ();

    fn lookahead(&self) -> Span {
        if matches!(self, Relay::Hub { .. }) { Span::ZERO } else { Span::FOREVER }
    }

    fn start(&mut self, context: &mut Context<'_, (), ()>) {
        if matches!(self, Relay::Hub { .. }) {
            context.wake(context.now(), Class::new(0));
        }
    }

    fn receive(&mut self, (): (), _: &mut Context<'_, (), ()>) {
        if let Relay::Spoke { flight } = self {
            flight.now.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn wake(&mut self, context: &mut Context<'_, (), ()>) {
        let Relay::Hub { left, flight } = self else { return };
        let now = flight.now.fetch_add(1, Ordering::Relaxed) + 1;
        let most = flight.most.load(Ordering::Relaxed).max(now);
        flight.most.store(most, Ordering::Relaxed);
        context.send(LpId::new(1 + *left % 4), context.now(), Class::new(1), ());
        *left -= 1;
        if *left > 0 {
            context.wake(context.now() + Span::from_ns(1), Class::new(0));
        }
    }
}

#[test]
fn a_hub_that_hears_of_nobody_does_not_run_away() {
    for threads in [1, 2, 4] {
        let flight = Flight { now: AtomicU64::new(0), most: AtomicU64::new(0) };
        let mut lps = vec![Relay::Hub { left: 50_000, flight: &flight }];
        lps.extend((0..4).map(|_| Relay::Spoke { flight: &flight }));
        let options = ParallelOptions {
            spokes_per_group: 1,
            hub_budget: 100,
            fuzz: Some(threads),
            ..ParallelOptions::default()
        };
        let mut recorders = vec![(); threads as usize];
        let finished = run(&mut lps, &mut recorders, &Nobody, options).unwrap();
        assert_eq!(finished.events, 100_000);
        let most = flight.most.load(Ordering::Relaxed);
        assert!(most <= 300, "{most} messages at once, three turns of the hub at most");
    }
}
