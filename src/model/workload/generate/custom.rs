//! The generator behind the preset `custom`: everything about the requests is the user's choice.
//!
//! Sessions start by the arrival process; the turns of those that are live wait in a heap, and whichever is due first
//! comes out. So memory follows the number of live sessions, never the length of the run. Blocks are named by the
//! number of their session (or shared prefix) and their place in the prompt, so nothing has to be kept to name them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt;
use rand_distr::{Distribution, Exp1};

use super::STREAMS;
use super::arrivals::{ArrivalTimes, Arrivals, Rate};
use super::lengths::{LengthSampler, Lengths};
use super::prefixes::Prefixes;
use crate::kernel::rng::{Stream, stream};
use crate::kernel::time::{Span, Time};
use crate::model::request::Request;
use crate::model::workload::Source;

/// What to generate.
#[derive(Clone, PartialEq, Debug)]
pub struct GeneratorSpec {
    /// How long requests arrive; a turn due at its end or later is never sent.
    pub duration: Span,
    /// How the starts of sessions scatter.
    pub arrivals: Arrivals,
    /// How many sessions start per second.
    pub rate: Rate,
    /// New prompt tokens of each turn, without prefix and earlier turns.
    pub prompt_tokens: Lengths,
    /// Output tokens of each turn.
    pub output_tokens: Lengths,
    /// How many shared prefixes there are; none is possible.
    pub prefix_groups: u32,
    /// Tokens in each prefix. Only whole blocks of it are shared: the block in which it ends also holds tokens of the
    /// session, and is named as the session's own, as in the published traces.
    pub prefix_tokens: u32,
    /// The share of sessions that start with a prefix, from 0 to 1.
    pub prefix_share: f64,
    /// Popularity of the k-th prefix falls with k to this power, at least 0; 0 makes all alike.
    pub prefix_skew: f64,
    /// Turns of a session, at least 1: the mean of a geometric distribution.
    pub turns: f64,
    /// From one turn's arrival to the next: the mean of an exponential distribution.
    pub turn_gap: Span,
    /// Longest prompt, in tokens: a first turn is cut to it, a later one that would be longer ends the session.
    pub prompt_tokens_max: u32,
    /// Tokens per named block, above 0. The published traces have 512.
    pub block_size: u32,
}

/// The requests that `spec` describes, the same ones whenever the seed is the same.
///
/// # Panics
/// When a number of `spec` is outside its stated range.
pub fn custom(spec: GeneratorSpec, seed: u64) -> Box<dyn Source> {
    Box::new(Generator::new(spec, seed))
}

/// A turn that waits until it is due. The order of the fields is the order of the requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Turn {
    arrival: Time,
    /// Counts the turns in the order in which they were planned; breaks ties.
    sequence: u64,
    session: u64,
    /// The prefix of the session, if it has one, counted from 0.
    prefix: Option<u32>,
    prompt_tokens: u32,
}

pub(super) struct Generator {
    end: Time,
    starts: ArrivalTimes,
    prompt_tokens: LengthSampler,
    output_tokens: LengthSampler,
    prefixes: Prefixes,
    /// The probability that another turn follows.
    again: f64,
    turn_gap: Span,
    prompt_tokens_max: u32,
    rng_starts: Stream,
    rng: Stream,
    /// When the next session starts.
    start: Option<Time>,
    live: BinaryHeap<Reverse<Turn>>,
    sessions: u64,
    turns: u64,
    requests: u64,
}

impl Generator {
    pub(super) fn new(spec: GeneratorSpec, seed: u64) -> Generator {
        assert!(spec.turns >= 1.0, "sessions of {} turns", spec.turns);
        let mut generator = Generator {
            prefixes: Prefixes::new(&spec),
            end: Time::ZERO + spec.duration,
            starts: ArrivalTimes::new(spec.arrivals, spec.rate),
            prompt_tokens: LengthSampler::new(spec.prompt_tokens),
            output_tokens: LengthSampler::new(spec.output_tokens),
            again: 1.0 - spec.turns.recip(),
            turn_gap: spec.turn_gap,
            prompt_tokens_max: spec.prompt_tokens_max.max(1),
            rng_starts: stream(seed, STREAMS),
            rng: stream(seed, STREAMS + 1),
            start: None,
            live: BinaryHeap::new(),
            sessions: 0,
            turns: 0,
            requests: 0,
        };
        generator.draw_start();
        generator
    }

    /// How many sessions have another turn planned.
    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    fn draw_start(&mut self) {
        self.start = self.starts.next(&mut self.rng_starts).filter(|&start| start < self.end);
    }

    /// The first turn of a new session.
    fn open_session(&mut self, arrival: Time) -> Turn {
        let prefix = self.prefixes.draw(&mut self.rng);
        let prefix_tokens = self.prefixes.tokens(prefix);
        let tokens = prefix_tokens.saturating_add(self.prompt_tokens.sample(&mut self.rng));
        let session = self.sessions;
        self.sessions += 1;
        let prompt_tokens = tokens.min(self.prompt_tokens_max);
        Turn { arrival, sequence: self.next_sequence(), session, prefix, prompt_tokens }
    }

    /// Plans what follows `turn`, unless it was the last of its session.
    fn plan_next(&mut self, turn: Turn, output_tokens: u32) {
        if self.again == 0.0 || self.rng.random::<f64>() >= self.again {
            return;
        }
        let gap: f64 = Exp1.sample(&mut self.rng);
        let gap = Span::from_secs_f64(gap * self.turn_gap.as_secs());
        let said = turn.prompt_tokens.saturating_add(output_tokens);
        let prompt_tokens = said.saturating_add(self.prompt_tokens.sample(&mut self.rng));
        // Beyond the end of virtual time nothing may even be added.
        if gap >= self.end.since(turn.arrival) || prompt_tokens > self.prompt_tokens_max {
            return;
        }
        let (arrival, sequence) = (turn.arrival + gap, self.next_sequence());
        self.live.push(Reverse(Turn { arrival, sequence, prompt_tokens, ..turn }));
    }

    fn next_sequence(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }
}

impl Iterator for Generator {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        let due = self.live.peek().map(|Reverse(turn)| turn.arrival);
        let turn = match (self.start, due) {
            (Some(start), due) if due.is_none_or(|due| start < due) => {
                self.draw_start();
                self.open_session(start)
            }
            _ => self.live.pop()?.0,
        };
        let output_tokens = self.output_tokens.sample(&mut self.rng);
        self.plan_next(turn, output_tokens);
        let number = self.requests;
        self.requests += 1;
        Some(Request {
            session: Some(turn.session),
            ..Request::new(
                number,
                turn.arrival,
                self.prefixes.prompt(turn.prefix, turn.session, turn.prompt_tokens),
                output_tokens,
            )
        })
    }
}
