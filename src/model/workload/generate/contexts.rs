//! What chats and agents have in common: when sessions start, which prefix they share, and prompts that grow.

use std::sync::Arc;

use rand::RngExt;
use rand_distr::{Distribution, Zipf};

use super::STREAMS;
use super::arrivals::ArrivalTimes;
use super::custom::GeneratorSpec;
use super::lengths::LengthSampler;
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
    /// Draws prefixes, counted from 1.
    prefixes: Option<Zipf<f64>>,
    prefix_groups: u32,
    prefix_tokens: u32,
    prefix_share: f64,
    prompt_tokens_max: u32,
    block_size: u32,
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
        assert!(spec.block_size > 0, "blocks of no tokens");
        let prefixes = (spec.prefix_groups > 0 && spec.prefix_share > 0.0).then(|| {
            let groups = f64::from(spec.prefix_groups);
            Zipf::new(groups, spec.prefix_skew).expect("prefix_skew is at least 0")
        });
        Contexts {
            end: Time::ZERO + spec.duration,
            starts: ArrivalTimes::new(spec.arrivals, spec.rate),
            prompt_tokens: LengthSampler::new(spec.prompt_tokens),
            output_tokens: LengthSampler::new(spec.output_tokens),
            prefixes,
            prefix_groups: spec.prefix_groups,
            prefix_tokens: spec.prefix_tokens,
            prefix_share: spec.prefix_share,
            prompt_tokens_max: spec.prompt_tokens_max.max(1),
            block_size: spec.block_size,
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
        let prefixes = self.prefixes.as_ref()?;
        let has_one = self.rng.random::<f64>() < self.prefix_share;
        has_one.then(|| prefixes.sample(&mut self.rng) as u32 - 1)
    }

    /// A context that begins with the prefix and something new, for its first call.
    pub(super) fn open(&mut self, prefix: Option<u32>) -> Context {
        let prefix_tokens = if prefix.is_some() { self.prefix_tokens } else { 0 };
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
    ///
    /// Block ids are unique as long as prefixes and contexts together stay below 2^32.
    pub(super) fn asks(&self, context: &Context) -> Vec<Ask> {
        let own = (u64::from(self.prefix_groups) + context.number) << 32;
        let (shared, shared_blocks) = match context.prefix {
            Some(prefix) => (u64::from(prefix) << 32, self.prefix_tokens / self.block_size),
            None => (0, 0),
        };
        let blocks = context.tokens.div_ceil(self.block_size) as usize;
        let shared_blocks = shared_blocks as usize;
        let ids = (0..blocks).map(|i| (if i < shared_blocks { shared } else { own }) | i as u64);
        let whole = Prompt::named(context.tokens, ids, 0);
        let ask = |&(tokens, output)| Ask {
            chain: Arc::clone(&whole.chain),
            blocks: u32::div_ceil(tokens, self.block_size),
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
