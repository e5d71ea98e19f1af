//! Small LPs with known behaviour, for tests and benchmarks of the executors: PHOLD, PHOLD on a star, a tandem queue.
//!
//! Every toy keeps a [`Digest`] of what it saw, and the PHOLDs draw its random numbers once per message: a single
//! reordering changes everything after it.

use rand::{Rng, RngExt};

use crate::kernel::lp::{Class, Context, Lp, LpId};
use crate::kernel::rng::{Stream, lp_stream, mix64};
use crate::kernel::time::{Span, Time};

/// The hub of a star.
const HUB: LpId = LpId::new(0);

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
    Hub { star: StarSpec, rng: Stream },
    Spoke { star: StarSpec, rng: Stream, held: u32 },
}

/// PHOLD on a star: the hub passes every job it gets to a random spoke, which passes it back, at once or after a while. A paced
/// hub sends out jobs of its own, one after the other, and passes on what it gets only now and then.
#[derive(Clone, Copy, Debug)]
pub struct StarSpec {
    /// How many spokes.
    pub spokes: u32,
    /// So many neighbours among the spokes pass jobs to one another too, and need no lookahead for it. Groups of spokes have to
    /// be whole families.
    pub family: u32,
    /// Jobs at the start. If spokes never answer, or the hub is paced, the number of jobs that it sends out, one after the
    /// other.
    pub jobs: u32,
    /// Whether the hub is paced.
    pub paced: bool,
    /// Where random numbers come from.
    pub seed: u64,
    /// The lookahead of the hub.
    pub hub: Span,
    /// The lookahead of the spokes; [`Span::FOREVER`] if they never answer.
    pub spoke: Span,
    /// Delays are the lookahead plus 0 to 3 of these, so there are as many ties as one likes.
    pub tick: Span,
    /// Nothing is sent to arrive later than this.
    pub end: Time,
}

/// A star of PHOLD; see [`StarSpec`]. LP 0 is the hub.
pub fn star(star: StarSpec) -> Vec<Toy> {
    let rng = |id| lp_stream(star.seed, LpId::new(id), 0);
    let toy = |id| match id {
        0 => Toy::new(Kind::Hub { star, rng: rng(0) }),
        id => Toy::new(Kind::Spoke { star, rng: rng(id), held: 0 }),
    };
    (0..=star.spokes).map(toy).collect()
}

impl StarSpec {
    /// Whether the hub passes on what it gets at present.
    fn passes_on(&self) -> bool {
        !self.paced || self.jobs % 4 == 1
    }

    /// Somebody of a spoke's family.
    fn any_of_family(&self, spoke: LpId, rng: &mut Stream) -> LpId {
        let first = (spoke.get() - 1) / self.family * self.family + 1;
        LpId::new(rng.random_range(first..first + self.family).min(self.spokes))
    }

    /// Whom the hub passes a job to.
    fn any_spoke(&self, rng: &mut Stream) -> LpId {
        LpId::new(rng.random_range(1..=self.spokes))
    }
}

/// Sends a job after `lookahead` and a few ticks, unless that is too late.
fn pass_on(
    star: &StarSpec,
    lookahead: Span,
    rng: &mut Stream,
    to: LpId,
    context: &mut Context<'_, u64, Digest>,
) {
    let at = context.now() + lookahead + star.tick * rng.random_range(0..4);
    let message = rng.next_u64();
    if at <= star.end {
        context.send(to, at, JOB, message);
    }
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
            Kind::Hub { star, .. } => star.hub,
            Kind::Spoke { star, .. } if star.family > 1 => Span::ZERO,
            Kind::Spoke { star, .. } => star.spoke,
        }
    }

    fn promise(&self) -> Span {
        match self.kind {
            Kind::Spoke { star, .. } => star.spoke,
            _ => self.lookahead(),
        }
    }

    fn reacts(&self) -> bool {
        match self.kind {
            Kind::Hub { star, .. } => star.passes_on(),
            _ => true,
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
            Kind::Hub { star, .. } if star.spoke == Span::FOREVER || star.paced => {
                context.wake(context.now(), DONE);
            }
            Kind::Hub { star, rng } => {
                for _ in 0..star.jobs {
                    // At the start nothing is too early.
                    let to = star.any_spoke(rng);
                    pass_on(star, Span::ZERO, rng, to, context);
                }
            }
            Kind::Server { .. } | Kind::Spoke { .. } => {}
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
            Kind::Hub { star, rng } => {
                let to = star.any_spoke(rng);
                self.digest.add(rng.next_u64());
                if star.passes_on() {
                    pass_on(star, star.hub, rng, to, context);
                }
            }
            Kind::Spoke { star, rng, held } => {
                self.digest.add(rng.next_u64());
                if star.family > 1 && rng.random_bool(0.3) {
                    let to = star.any_of_family(context.id(), rng);
                    pass_on(star, Span::ZERO, rng, to, context);
                } else if star.spoke < Span::FOREVER && rng.random_bool(0.5) {
                    pass_on(star, star.spoke, rng, HUB, context);
                } else {
                    *held += 1;
                    context.wake(now + star.tick * rng.random_range(0..4), DONE);
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
            Kind::Hub { star, rng } => {
                star.jobs -= 1;
                let to = star.any_spoke(rng);
                pass_on(star, star.hub, rng, to, context);
                if star.jobs > 0 {
                    context.wake(now + star.tick * rng.random_range(0..4), DONE);
                }
            }
            Kind::Spoke { star, rng, held } => {
                for _ in 0..std::mem::take(held) {
                    self.digest.add(rng.next_u64());
                    if star.spoke < Span::FOREVER {
                        pass_on(star, star.spoke, rng, HUB, context);
                    }
                }
            }
            Kind::Phold { .. } => {}
        }
    }
}
