//! What chats and agents have in common: when sessions start, which prefix they share, and prompts that grow.

use std::sync::Arc;

use rand::RngExt;

use super::STREAMS;
use super::arrivals::ArrivalTimes;
use super::custom::GeneratorSpec;
use super::lengths::LengthSampler;
use super::prefixes::Prefixes;
use crate::kernel::rng::{Stream, stream};
use crate::kernel::time::Time;
use crate::model::request::Prompt;
use crate::model::session::Ask;

/// Draws what sessions are made of.
pub(super) struct Contexts {
    end: Time,
    starts: ArrivalTimes,
    prompt_tokens: LengthSampler,
    output_tokens: LengthSampler,
    prefixes: Prefixes,
    prompt_tokens_max: u32,
    rng_starts: Stream,
    pub(super) rng: Stream,
    /// How many contexts and calls there have been.
    opened: u64,
    calls: u64,
}

/// The text of a conversation so far, and the calls that have been made with it.
pub(super) struct Context {
    number: u64,
    prefix: Option<u32>,
    tokens: u32,
    /// Prompt and output tokens of each call.
    calls: Vec<(u32, u32)>,
}

impl Contexts {
    /// # Panics
    /// When a number of `spec` is outside its stated range.
    pub(super) fn new(spec: GeneratorSpec, seed: u64) -> Contexts {
        Contexts {
            prefixes: Prefixes::new(&spec),
            end: Time::ZERO + spec.duration,
            starts: ArrivalTimes::new(spec.arrivals, spec.rate),
            prompt_tokens: LengthSampler::new(spec.prompt_tokens),
            output_tokens: LengthSampler::new(spec.output_tokens),
            prompt_tokens_max: spec.prompt_tokens_max.max(1),
            rng_starts: stream(seed, STREAMS),
            rng: stream(seed, STREAMS + 1),
            opened: 0,
            calls: 0,
        }
    }

    /// When the next session opens; nothing after the last.
    pub(super) fn start(&mut self) -> Option<Time> {
        self.starts.next(&mut self.rng_starts).filter(|&start| start < self.end)
    }

    /// The shared prefix of a session, if it has one, counted from 0.
    pub(super) fn prefix(&mut self) -> Option<u32> {
        self.prefixes.draw(&mut self.rng)
    }

    /// A context that begins with the prefix and something new, for its first call.
    pub(super) fn open(&mut self, prefix: Option<u32>) -> Context {
        let prefix_tokens = self.prefixes.tokens(prefix);
        let tokens = prefix_tokens.saturating_add(self.prompt_tokens.sample(&mut self.rng));
        let number = self.opened;
        self.opened += 1;
        let tokens = tokens.min(self.prompt_tokens_max);
        let mut context = Context { number, prefix, tokens, calls: Vec::new() };
        self.call(&mut context);
        context
    }

    /// Goes on with a context: the last answer, `told` tokens from elsewhere and something new come on top. False if that
    /// would be too long; there is no call then.
    pub(super) fn go_on(&mut self, context: &mut Context, told: u32) -> bool {
        let new = self.prompt_tokens.sample(&mut self.rng);
        let tokens = context.tokens.saturating_add(context.output()).saturating_add(told);
        let tokens = tokens.saturating_add(new);
        if tokens > self.prompt_tokens_max {
            return false;
        }
        context.tokens = tokens;
        self.call(context);
        true
    }

    fn call(&mut self, context: &mut Context) {
        let output = self.output_tokens.sample(&mut self.rng);
        context.calls.push((context.tokens, output));
    }

    /// The number of the next call in the run.
    pub(super) fn next_line(&mut self) -> u64 {
        self.calls += 1;
        self.calls - 1
    }

    /// The calls of a context, which share its chain. Their numbers are for the caller to give.
    pub(super) fn asks(&self, context: &Context) -> Vec<Ask> {
        let whole = self.prefixes.prompt(context.prefix, context.number, context.tokens);
        let ask = |&(tokens, output)| Ask {
            chain: Arc::clone(&whole.chain),
            blocks: self.prefixes.blocks(tokens),
            prompt_tokens: tokens,
            shared_tokens: tokens,
            ..Ask::new(0, Prompt::unique(tokens), output)
        };
        context.calls.iter().map(ask).collect()
    }
}

impl Context {
    /// Tokens of the last answer.
    pub(super) fn output(&self) -> u32 {
        self.calls.last().map_or(0, |&(_, output)| output)
    }
}

/// Whether to go on, so often that there are `mean` rounds on average; at least one.
pub(super) fn again(mean: f64, rng: &mut Stream) -> bool {
    let again = 1.0 - mean.recip();
    again > 0.0 && rng.random::<f64>() < again
}
