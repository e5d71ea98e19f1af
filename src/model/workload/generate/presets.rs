//! The presets `toolagent` and `conversation`: an hour of requests like those of the two published traces.
//!
//! Fitted to the Mooncake traces (FAST'25, Apache-2.0, measured). Arrivals stand at whole ticks of three seconds and
//! blocks are named every 512 tokens, as there. The lengths and the block structure of the hour are drawn at once,
//! about one megabyte; the prompts themselves are built one at a time, as they are asked for.

use rand::RngExt;

use super::STREAMS;
use super::chat::{chats, extras};
use super::tools::{tool_a, tool_b};
use crate::kernel::rng::stream;
use crate::kernel::time::{Span, Time};
use crate::model::request::{Prompt, Request};
use crate::model::workload::Source;

/// Tokens per named block.
pub(super) const BLOCK_TOKENS: u32 = 512;
/// Seconds between two possible arrival times.
pub(super) const TICK_SECS: u32 = 3;
pub(super) const TICKS_PER_MINUTE: u32 = 60 / TICK_SECS;
/// Ticks in the 59 minutes of a trace.
pub(super) const TICKS: u32 = 59 * TICKS_PER_MINUTE;

/// The system prompt of all chats.
pub(super) const CHAT_TRUNK: Trunk = Trunk { first: 0, blocks: 1 };
/// The instruction of tool A.
pub(super) const TOOL_A_TRUNK: Trunk = Trunk { first: 1, blocks: 12 };
/// The instruction of tool B.
pub(super) const TOOL_B_TRUNK: Trunk = Trunk { first: 13, blocks: 5 };
/// The first id that no trunk has.
const IDS_FRESH: u64 = 18;

/// Before this time all requests of [`toolagent`] and [`conversation`] have arrived.
pub const PRESET_LENGTH: Span = Span::from_secs((TICKS * TICK_SECS) as u64);

/// Requests of the tool-and-agent trace.
pub const TOOLAGENT_REQUESTS: u64 = 23_608;

/// How many requests [`conversation`] makes.
pub const CONVERSATION_REQUESTS: u64 = 12_031;
/// The shares of the tools among its first 2,000 requests.
const TOOL_SHARES: (f64, f64) = (0.3805, 0.156);

/// An hour like the tool-and-agent trace: 23,608 requests of chats and two tools over 59 minutes.
pub fn toolagent(seed: u64) -> Box<dyn Source> {
    Box::new(toolagent_requests(seed))
}

/// An hour like the conversation trace: 12,031 chat requests over 59 minutes. The chats are those of [`toolagent`]
/// with the same seed.
pub fn conversation(seed: u64) -> Box<dyn Source> {
    Box::new(conversation_requests(seed))
}

pub(super) fn toolagent_requests(seed: u64) -> Requests {
    let mut ids = Ids { next: IDS_FRESH };
    let mut rows = chats(seed, &mut ids);
    let calls = TOOLAGENT_REQUESTS as u32 - rows.len() as u32;
    let share_a = TOOL_SHARES.0 / (TOOL_SHARES.0 + TOOL_SHARES.1);
    let calls_a = (f64::from(calls) * share_a).round() as u32;
    let sessions = sessions(&rows);
    rows.extend(tool_a(seed, calls_a, rows.len() as u32, sessions, &mut ids));
    rows.extend(tool_b(seed, calls - calls_a, sessions + calls_a, &mut ids));
    Requests::new(seed, rows)
}

pub(super) fn conversation_requests(seed: u64) -> Requests {
    let mut ids = Ids { next: IDS_FRESH };
    let mut rows = chats(seed, &mut ids);
    rows.extend(extras(seed, &rows, &mut ids));
    Requests::new(seed, rows)
}

/// How many sessions `rows` has, when they are numbered from 0.
pub(super) fn sessions(rows: &[Row]) -> u32 {
    rows.iter().map(|row| row.session + 1).max().unwrap_or(0)
}

/// A request before its prompt is built.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Row {
    pub(super) tick: u32,
    pub(super) session: u32,
    pub(super) prompt_tokens: u32,
    pub(super) output_tokens: u32,
    /// Whose first blocks it has.
    pub(super) origin: Origin,
    /// How many of them.
    pub(super) kept: u32,
    /// The id of the first block after those; the others count on from it.
    pub(super) fresh: u64,
}

/// Where the first blocks of a prompt come from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Origin {
    /// What all requests of a kind begin with.
    Trunk(Trunk),
    /// An earlier request, by its index.
    Row(u32),
}

/// Blocks with which all requests of a kind begin.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Trunk {
    first: u64,
    blocks: u32,
}

/// Hands out block ids, each once.
pub(super) struct Ids {
    next: u64,
}

impl Ids {
    /// The first of `count` new ids in a row.
    pub(super) fn take(&mut self, count: u32) -> u64 {
        let first = self.next;
        self.next += u64::from(count);
        first
    }
}

impl Row {
    /// A request that shares only its trunk; its output is for the caller to set.
    pub(super) fn on_trunk(
        tick: u32,
        session: u32,
        prompt_tokens: u32,
        trunk: Trunk,
        ids: &mut Ids,
    ) -> Row {
        let fresh = ids.take(prompt_tokens.div_ceil(BLOCK_TOKENS) - trunk.blocks);
        let (origin, kept) = (Origin::Trunk(trunk), trunk.blocks);
        Row { tick, session, prompt_tokens, output_tokens: 1, origin, kept, fresh }
    }

    /// Named blocks of its prompt.
    pub(super) fn blocks(&self) -> u32 {
        self.prompt_tokens.div_ceil(BLOCK_TOKENS)
    }
}

/// The requests of a preset, in order of arrival.
pub(super) struct Requests {
    /// Kind after kind.
    rows: Vec<Row>,
    /// Indices of the rows, in order of arrival.
    order: Vec<u32>,
    /// How many have been handed out.
    next: usize,
    /// The ids of the prompt that is being built.
    ids: Vec<u64>,
}

impl Requests {
    /// Shuffles the requests of each tick, because the kinds come mixed; but what builds on a row stays behind it.
    fn new(seed: u64, rows: Vec<Row>) -> Requests {
        let mut rng = stream(seed, STREAMS + 6);
        let mut keys: Vec<(u32, u32, u32)> = Vec::with_capacity(rows.len());
        for (index, row) in (0..).zip(&rows) {
            let mut place: u32 = rng.random();
            if let Origin::Row(origin) = row.origin {
                let (tick, origin_place, _) = keys[origin as usize];
                if tick == row.tick {
                    place = place.max(origin_place);
                }
            }
            keys.push((row.tick, place, index));
        }
        keys.sort_unstable();
        let order = keys.into_iter().map(|key| key.2).collect();
        Requests { rows, order, next: 0, ids: Vec::new() }
    }

    fn prompt(&mut self, index: u32) -> Prompt {
        let mut row = &self.rows[index as usize];
        let tokens = row.prompt_tokens;
        self.ids.clear();
        self.ids.resize(row.blocks() as usize, 0);
        let mut end = row.blocks();
        // From the last block to the first: each origin names the blocks that were new with it.
        loop {
            for place in row.kept..end {
                self.ids[place as usize] = row.fresh + u64::from(place - row.kept);
            }
            end = end.min(row.kept);
            match row.origin {
                Origin::Row(origin) => row = &self.rows[origin as usize],
                Origin::Trunk(trunk) => {
                    for place in 0..end {
                        self.ids[place as usize] = trunk.first + u64::from(place);
                    }
                    return Prompt::named(tokens, self.ids.iter().copied(), 0);
                }
            }
        }
    }
}

impl Iterator for Requests {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        let index = *self.order.get(self.next)?;
        let number = self.next as u64;
        self.next += 1;
        let row = self.rows[index as usize];
        Some(Request {
            session: Some(u64::from(row.session)),
            ..Request::new(
                number,
                Time::ZERO + Span::from_secs(u64::from(row.tick * TICK_SECS)),
                self.prompt(index),
                row.output_tokens,
            )
        })
    }
}
