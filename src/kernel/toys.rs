//! Small LPs with known behaviour, for tests and benchmarks of the executors: PHOLD and a tandem queue.
//!
//! Every toy keeps a [`Digest`] of what it saw, and PHOLD draws its random numbers once per message: a single
//! reordering changes everything after it.

use rand::{Rng, RngExt};

use crate::kernel::lp::{Class, Context, Lp, LpId};
use crate::kernel::rng::{Stream, lp_stream, mix64};
use crate::kernel::time::{Span, Time};

const JOB: Class = Class::new(1);
const DONE: Class = Class::new(2);

/// An order-sensitive hash chain over what an LP handled.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Digest(u64);

impl Digest {
    fn add(&mut self, value: u64) {
        self.0 = mix64(self.0 ^ value);
    }
}

/// The digest of a whole run: of every LP, in order.
pub fn digest(lps: &[Toy]) -> Digest {
    let mut digest = Digest::default();
    for lp in lps {
        digest.add(lp.digest.0);
    }
    digest
}

/// A toy LP.
#[derive(Debug)]
pub struct Toy {
    kind: Kind,
    digest: Digest,
    panic_at: Time,
}

#[derive(Debug)]
enum Kind {
    Phold { peers: u32, jobs: u32, lookahead: Span, end: Time, rng: Stream },
    Source { jobs: u32, gap: Span },
    Server { next: Option<LpId>, service: Span, waiting: u32, busy: bool, last: Time },
}

/// PHOLD: `lps` peers pass `jobs` jobs each to one another, after the lookahead plus a random delay of the same mean.
pub fn phold(lps: u32, jobs: u32, seed: u64, lookahead: Span, end: Time) -> Vec<Toy> {
    let toy = |id| {
        let rng = lp_stream(seed, LpId::new(id), 0);
        Toy::new(Kind::Phold { peers: lps, jobs, lookahead, end, rng })
    };
    (0..lps).map(toy).collect()
}

/// A tandem queue: `jobs` jobs, one every `gap` ns, pass one server after the other; service times in ns.
pub fn tandem(jobs: u32, gap: u64, services: &[u64]) -> Vec<Toy> {
    let mut lps = vec![Toy::new(Kind::Source { jobs, gap: Span::from_ns(gap) })];
    for (stage, service) in services.iter().enumerate() {
        let next = (stage + 1 < services.len()).then(|| LpId::new(stage as u32 + 2));
        let service = Span::from_ns(*service);
        lps.push(Toy::new(Kind::Server {
            next,
            service,
            waiting: 0,
            busy: false,
            last: Time::ZERO,
        }));
    }
    lps
}

/// When the last job left the last server of a [`tandem`] queue.
pub fn tandem_last_departure(lps: &[Toy]) -> Time {
    match lps.last() {
        Some(Toy { kind: Kind::Server { last, .. }, .. }) => *last,
        _ => Time::ZERO,
    }
}

/// Makes one LP panic at the first event it handles at or after `time`.
pub fn panic_at(lps: &mut [Toy], lp: usize, time: Time) {
    lps[lp].panic_at = time;
}

impl Toy {
    fn new(kind: Kind) -> Toy {
        Toy { kind, digest: Digest::default(), panic_at: Time::NEVER }
    }
}

impl Lp for Toy {
    type Message = u64;
    type Recorder = Digest;

    fn lookahead(&self) -> Span {
        match self.kind {
            Kind::Phold { lookahead, .. } => lookahead,
            Kind::Source { .. } | Kind::Server { .. } => Span::ZERO,
        }
    }

    fn start(&mut self, context: &mut Context<'_, u64, Digest>) {
        match &mut self.kind {
            Kind::Phold { jobs, lookahead, .. } => {
                for job in 0..u64::from(*jobs) {
                    context.send(context.id(), context.now() + *lookahead, JOB, job);
                }
            }
            Kind::Source { .. } => context.wake(context.now(), DONE),
            Kind::Server { .. } => {}
        }
    }

    fn receive(&mut self, message: u64, context: &mut Context<'_, u64, Digest>) {
        let now = context.now();
        assert!(now < self.panic_at, "panic on request");
        self.digest.add(now.as_ns() ^ message);
        match &mut self.kind {
            Kind::Phold { peers, lookahead, end, rng, .. } => {
                let delay = *lookahead + Span::from_ns(rng.random_range(0..=2 * lookahead.as_ns()));
                let to = LpId::new(rng.random_range(0..*peers));
                let message = rng.next_u64();
                self.digest.add(message);
                if now + delay < *end {
                    context.send(to, now + delay, JOB, message);
                }
            }
            Kind::Server { waiting, busy, service, .. } => {
                *waiting += 1;
                if !*busy {
                    *busy = true;
                    context.wake(now + *service, DONE);
                }
            }
            Kind::Source { .. } => {}
        }
    }

    fn wake(&mut self, context: &mut Context<'_, u64, Digest>) {
        let now = context.now();
        assert!(now < self.panic_at, "panic on request");
        self.digest.add(now.as_ns());
        match &mut self.kind {
            Kind::Source { jobs, gap } => {
                context.send(LpId::new(1), now, JOB, u64::from(*jobs));
                *jobs -= 1;
                if *jobs > 0 {
                    context.wake(now + *gap, DONE);
                }
            }
            Kind::Server { next, service, waiting, busy, last } => {
                *last = now;
                *waiting -= 1;
                *busy = *waiting > 0;
                if *busy {
                    context.wake(now + *service, DONE);
                }
                if let Some(next) = *next {
                    context.send(next, now, JOB, 0);
                }
            }
            Kind::Phold { .. } => {}
        }
    }
}
