//! Prefixes that sessions share, and what prompts that begin with them are called.

use rand::RngExt;
use rand_distr::{Distribution, Zipf};

use super::custom::GeneratorSpec;
use crate::kernel::rng::Stream;
use crate::model::request::Prompt;

/// Draws prefixes and names blocks.
pub(super) struct Prefixes {
    /// Draws prefixes, counted from 1; absent if nobody has one.
    popularity: Option<Zipf<f64>>,
    groups: u32,
    tokens: u32,
    share: f64,
    block_size: u32,
}

impl Prefixes {
    /// # Panics
    /// When a number of `spec` is outside its stated range.
    pub(super) fn new(spec: &GeneratorSpec) -> Prefixes {
        assert!(spec.block_size > 0, "blocks of no tokens");
        let popularity = (spec.prefix_groups > 0 && spec.prefix_share > 0.0).then(|| {
            let groups = f64::from(spec.prefix_groups);
            Zipf::new(groups, spec.prefix_skew).expect("prefix_skew is at least 0")
        });
        Prefixes {
            popularity,
            groups: spec.prefix_groups,
            tokens: spec.prefix_tokens,
            share: spec.prefix_share,
            block_size: spec.block_size,
        }
    }

    /// The prefix of a session, if it has one, counted from 0.
    pub(super) fn draw(&self, rng: &mut Stream) -> Option<u32> {
        let popularity = self.popularity.as_ref()?;
        let has_one = rng.random::<f64>() < self.share;
        has_one.then(|| popularity.sample(rng) as u32 - 1)
    }

    /// How long it is.
    pub(super) fn tokens(&self, prefix: Option<u32>) -> u32 {
        if prefix.is_some() { self.tokens } else { 0 }
    }

    /// How many blocks so many tokens take.
    pub(super) fn blocks(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.block_size)
    }

    /// The prompt of the session or context with this number when it has so many tokens, the prefix included.
    ///
    /// Block ids are unique as long as prefixes and numbers together stay below 2^32.
    pub(super) fn prompt(&self, prefix: Option<u32>, number: u64, tokens: u32) -> Prompt {
        let own = (u64::from(self.groups) + number) << 32;
        let (shared, shared_blocks) = match prefix {
            Some(prefix) => (u64::from(prefix) << 32, self.tokens / self.block_size),
            None => (0, 0),
        };
        let name = |i| u64::from(i) | if i < shared_blocks { shared } else { own };
        Prompt::named(tokens, (0..self.blocks(tokens)).map(name), 0)
    }
}
