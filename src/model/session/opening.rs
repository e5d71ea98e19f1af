//! A session before it opens: its graph, and what its calls ask for.

use std::sync::Arc;

use crate::kernel::time::Time;
use crate::model::request::Prompt;
use crate::model::session::plan::Plan;

/// What a call asks for.
#[derive(Clone, PartialEq, Debug)]
pub struct Ask {
    /// Where it stood in the trace, counted from 0.
    pub trace_line: u64,
    /// The chain that its prompt is the beginning of. Calls that go on with one context share it.
    pub chain: Arc<[u64]>,
    /// How many links of it the prompt has.
    pub blocks: u32,
    /// Tokens of the prompt, above 0.
    pub prompt_tokens: u32,
    /// How many leading tokens the links name; at most all.
    pub shared_tokens: u32,
    /// Tokens to generate.
    pub output_tokens: u32,
    /// Higher goes first in the router's queue.
    pub strict_priority: i32,
    /// Seconds by which it jumps ahead in the router's queue.
    pub priority_jump: f64,
}

impl Ask {
    /// A call with this prompt.
    pub fn new(trace_line: u64, prompt: Prompt, output_tokens: u32) -> Ask {
        Ask {
            trace_line,
            blocks: prompt.chain.len() as u32,
            chain: prompt.chain,
            prompt_tokens: prompt.tokens,
            shared_tokens: prompt.shared_tokens,
            output_tokens,
            strict_priority: 0,
            priority_jump: 0.0,
        }
    }

    /// Its prompt.
    pub fn prompt(&self) -> Prompt {
        let blocks = self.blocks as usize;
        let chain = match self.chain.get(..blocks) {
            Some(links) if blocks < self.chain.len() => Arc::from(links),
            _ => Arc::clone(&self.chain),
        };
        Prompt { tokens: self.prompt_tokens, shared_tokens: self.shared_tokens, chain }
    }
}

/// A session that is to open.
#[derive(Clone, PartialEq, Debug)]
pub struct Opening {
    /// When.
    pub at: Time,
    /// What identifies it to a router that keeps sessions together, if anything does.
    pub name: Option<u64>,
    /// Which of its calls wait for which.
    pub plan: Plan,
    /// What they ask for, in the order of the plan: as many as it has calls.
    pub asks: Vec<Ask>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_the_beginning_of_its_context() {
        let whole = Prompt::named(1500, [5, 6, 7].into_iter(), 0);
        let all = Ask::new(3, whole.clone(), 9);
        assert_eq!(all.prompt(), whole);
        let first = Ask { blocks: 2, prompt_tokens: 600, shared_tokens: 600, ..all };
        assert_eq!(first.prompt(), Prompt::named(600, [5, 6].into_iter(), 0));
    }
}
