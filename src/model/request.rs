//! A request, and what identifies the tokens of its prompt.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::kernel::rng::mix64;
use crate::kernel::time::Time;
use crate::model::class::ClassId;

/// The number of a request: 0, 1, 2, … in the order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct RequestId(pub u64);

/// Where a router keeps what it knows of a request, as long as it is in the fleet: a small number, free again when the
/// request has ended. Workers hand it back in their reports, so that nothing has to be searched for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Ticket(pub u32);

impl Ticket {
    /// Its index in a list of all requests in the fleet.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The number of a worker: 0, 1, 2, …
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct WorkerId(pub u32);

impl WorkerId {
    /// Its index in a list of all workers.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.0)
    }
}

/// A prompt: how long it is, and with whom it shares a prefix.
///
/// A trace names the tokens of a prompt in blocks of its own size (512 in Mooncake's). The `chain` holds, for every
/// such block, a hash of its name and of all names before it, so two prompts share a prefix exactly as far as their
/// chains agree. In the last block, which the prompt may fill only in part, they share as many tokens as both have.
/// Tokens past `shared_tokens` belong to this request alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prompt {
    /// Its length, in tokens.
    pub tokens: u32,
    /// How many leading tokens the chain names; at most `tokens`.
    pub shared_tokens: u32,
    /// One chained hash per trace block.
    pub chain: Arc<[u64]>,
}

impl Prompt {
    /// A prompt that shares nothing with anybody.
    pub fn unique(tokens: u32) -> Prompt {
        Prompt { tokens, shared_tokens: 0, chain: Arc::from([]) }
    }

    /// A prompt whose tokens are all named by block ids. Prompts with different `salt` share nothing.
    pub fn named(tokens: u32, ids: impl ExactSizeIterator<Item = u64>, salt: u64) -> Prompt {
        let mut chain = Chain::new(salt);
        Prompt { tokens, shared_tokens: tokens, chain: ids.map(|id| chain.link(id)).collect() }
    }
}

/// The hash of a block's name and of all names before it, link by link.
#[derive(Clone, Copy, Debug)]
pub struct Chain(u64);

impl Chain {
    /// A chain without links; chains with different `salt` have none in common.
    pub fn new(salt: u64) -> Chain {
        Chain(mix64(salt))
    }

    /// Adds the next id, and gives what identifies the block.
    pub fn link(&mut self, id: u64) -> u64 {
        const FACTOR: u64 = 0x9fb2_1c65_1e98_df25;
        // Ids are mixed side by side; the chain through them all is one multiplication and a shift long.
        let hash = (self.0 ^ mix64(id)).wrapping_mul(FACTOR);
        self.0 = hash ^ hash >> 32;
        self.0
    }
}

/// One request, on its way to a worker.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// Its number.
    pub id: RequestId,
    /// Its place in the router's books; the first until it is routed.
    pub ticket: Ticket,
    /// Where it stood in the trace, counted from 0; copies of a trace repeat it.
    pub trace_line: u64,
    /// When it reached the front end; in a closed loop, when it was dispatched.
    pub arrival: Time,
    /// Its prompt.
    pub prompt: Prompt,
    /// How many tokens it generates. Nobody knows it in advance, so a router sees a [`Visible`] instead (INV-9).
    pub output_tokens: u32,
    /// The session it belongs to, if any.
    pub session: Option<u64>,
    /// The class it belongs to; the first where there are none, and until it arrives.
    pub class: ClassId,
    /// Higher goes first in the router's queue, whatever the queue's policy.
    pub strict_priority: i32,
    /// Seconds by which it jumps ahead in the router's queue.
    pub priority_jump: f64,
}

/// A request in the report of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mention {
    /// Its number.
    pub id: RequestId,
    /// Its place in the router's books.
    pub ticket: Ticket,
    /// Whether it ended without all its tokens: rejected, aborted or turned away.
    pub has_failed: bool,
}

/// Requests in a report; most have one at most, which then needs no memory of its own.
pub type Mentions = SmallVec<[Mention; 1]>;

impl Request {
    /// The request at this place of a workload, counted from 0: of no session, of the first class, without priority.
    pub fn new(number: u64, arrival: Time, prompt: Prompt, output_tokens: u32) -> Request {
        Request {
            id: RequestId(number),
            ticket: Ticket::default(),
            trace_line: number,
            arrival,
            prompt,
            output_tokens,
            session: None,
            class: ClassId::default(),
            strict_priority: 0,
            priority_jump: 0.0,
        }
    }

    /// How a worker speaks of it.
    pub fn mention(&self) -> Mention {
        Mention { id: self.id, ticket: self.ticket, has_failed: false }
    }
}

/// What anybody but the engine that serves it may know of a request.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Visible<'a> {
    /// Its number.
    pub id: RequestId,
    /// Its place in the router's books.
    pub ticket: Ticket,
    /// When it reached the front end.
    pub arrival: Time,
    /// Its prompt.
    pub prompt: &'a Prompt,
    /// The session it belongs to, if any.
    pub session: Option<u64>,
}

impl Request {
    /// What a router may know of it.
    pub fn visible(&self) -> Visible<'_> {
        Visible {
            id: self.id,
            ticket: self.ticket,
            arrival: self.arrival,
            prompt: &self.prompt,
            session: self.session,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_agree_as_far_as_the_ids_do() {
        let chain = |ids: &[u64], salt| Prompt::named(1, ids.iter().copied(), salt).chain;
        let (a, b) = (chain(&[0, 1, 2, 3], 0), chain(&[0, 1, 5, 3], 0));
        assert_eq!(a[..2], b[..2]);
        assert!(a[2] != b[2] && a[3] != b[3], "position 3 has the same id but another past");
        assert!(chain(&[0, 1], 7).iter().zip(a.iter()).all(|(x, y)| x != y));
    }
}
