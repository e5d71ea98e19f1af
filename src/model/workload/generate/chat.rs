//! The chats of both presets: sessions of turns that grow, with one system prompt for all.
//!
//! The counts per minute are the trace's own. Within them a due turn of a live session goes before a new session, so
//! the share of first turns, high at the cold start and lower later, follows from how sessions go on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt;

use super::STREAMS;
use super::presets::{
    BLOCK_TOKENS, CHAT_TRUNK, Ids, Origin, Row, TICK_SECS, TICKS_PER_MINUTE, sessions,
};
use super::tables::{
    CHAT_EDIT_KEPT, CHAT_EDIT_LENGTH_LONG, CHAT_EDIT_LENGTH_SHORT, CHAT_EXTRA_OUTPUT,
    CHAT_FIRST_OUTPUT, CHAT_FIRST_PROMPT, CHAT_GAP_SECS, CHAT_LATER_OUTPUT, CHAT_NEW_TOKENS_LATER,
    CHAT_NEW_TOKENS_SECOND, CHAT_PER_MINUTE,
};
use crate::kernel::rng::{Stream, stream};

/// Longest prompt of the traces, in tokens.
const PROMPT_TOKENS_MAX: u32 = 126_195;

/// The probability that the n-th turn, counted from 3, is followed by another; the last holds for all later ones.
const AGAIN_BY_TURN: [f64; 7] = [0.528, 0.587, 0.594, 0.671, 0.76, 0.71, 0.78];

/// The measured probabilities miss the turns that the end of the trace cut off.
const AGAIN_CUT_OFF: f64 = 1.08;

/// How often a turn sends the very prompt of the turn before: a new answer was asked for.
const REPEAT_SHARE: f64 = 0.027;

/// How often a rewritten prompt is rewritten again by the next turn.
const EDIT_AGAIN: f64 = 0.73;

/// How many more requests the conversation trace has, none of which belongs to a session.
const EXTRA_REQUESTS: usize = 815;

/// The chats of an hour, in order of arrival.
pub(super) fn chats(seed: u64, ids: &mut Ids) -> Vec<Row> {
    let mut rng = stream(seed, STREAMS + 2);
    let ticks = ticks(&mut rng);
    let mut chats = Chats { rng, ids, rows: Vec::with_capacity(ticks.len()), sessions: 0 };
    let mut waiting: BinaryHeap<Reverse<Waiting>> = BinaryHeap::new();
    for tick in ticks {
        let (turn, edited) = match waiting.peek() {
            Some(Reverse(next)) if next.tick <= tick => {
                let before = waiting.pop().expect("it was just seen").0;
                (before.turn + 1, chats.later_turn(tick, &before))
            }
            _ => (1, chats.first_turn(tick)),
        };
        if let Some(tick) = chats.next_tick(tick, turn) {
            let row = chats.rows.len() - 1;
            waiting.push(Reverse(Waiting { tick, row, turn, edited }));
        }
    }
    chats.rows
}

/// The requests that only the conversation trace has, in order of arrival: the k-th repeats the length of the k-th
/// session's first prompt, and shares no more than the system prompt with anybody.
pub(super) fn extras(seed: u64, chats: &[Row], ids: &mut Ids) -> Vec<Row> {
    let mut rng = stream(seed, STREAMS + 3);
    let ticks_all = CHAT_PER_MINUTE.len() as u32 * TICKS_PER_MINUTE;
    let mut ticks: Vec<u32> = (0..EXTRA_REQUESTS).map(|_| rng.random_range(0..ticks_all)).collect();
    ticks.sort_unstable();
    let first_turns = chats.iter().filter(|row| row.origin == Origin::Trunk(CHAT_TRUNK));
    let rows = ticks.into_iter().zip(first_turns).zip(sessions(chats)..);
    let extra = |((tick, first), session): ((u32, &Row), u32)| {
        let prompt_tokens = first.prompt_tokens + rng.random_range(1..=6);
        Row {
            output_tokens: CHAT_EXTRA_OUTPUT.sample_tokens(&mut rng),
            ..Row::on_trunk(tick, session, prompt_tokens, CHAT_TRUNK, ids)
        }
    };
    rows.map(extra).collect()
}

/// A turn that waits until it is due. The order of the fields is the order in which turns are sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    tick: u32,
    /// The row of the turn before.
    row: usize,
    /// The number of that turn, counted from 1.
    turn: usize,
    /// Whether that turn rewrote its own past.
    edited: bool,
}

/// The ticks of all chats, in order: each minute's count scattered over its ticks.
fn ticks(rng: &mut Stream) -> Vec<u32> {
    let mut ticks = Vec::new();
    for (minute, &count) in (0..).zip(&CHAT_PER_MINUTE) {
        let first = minute * TICKS_PER_MINUTE;
        ticks.extend((0..count).map(|_| rng.random_range(first..first + TICKS_PER_MINUTE)));
    }
    ticks.sort_unstable();
    ticks
}

struct Chats<'a> {
    rng: Stream,
    ids: &'a mut Ids,
    rows: Vec<Row>,
    sessions: u32,
}

impl Chats<'_> {
    /// Opens a session; never an edit, which it says.
    fn first_turn(&mut self, tick: u32) -> bool {
        let prompt_tokens = CHAT_FIRST_PROMPT.sample_tokens(&mut self.rng);
        let output_tokens = CHAT_FIRST_OUTPUT.sample_tokens(&mut self.rng);
        let row = Row::on_trunk(tick, self.sessions, prompt_tokens, CHAT_TRUNK, self.ids);
        self.rows.push(Row { output_tokens, ..row });
        self.sessions += 1;
        false
    }

    /// Continues a session; says whether the turn rewrote its own past.
    fn later_turn(&mut self, tick: u32, before: &Waiting) -> bool {
        let parent = self.rows[before.row];
        let edits = if before.edited { EDIT_AGAIN } else { edits(parent.prompt_tokens) };
        let kind = self.rng.random::<f64>();
        let (prompt_tokens, kept) = if kind < edits {
            self.edit(parent.prompt_tokens)
        } else if kind < edits + REPEAT_SHARE {
            (parent.prompt_tokens, parent.blocks())
        } else {
            self.extend(&parent, before.turn)
        };
        let output_tokens = CHAT_LATER_OUTPUT.sample_tokens(&mut self.rng);
        let blocks = prompt_tokens.div_ceil(BLOCK_TOKENS);
        let fresh = self.ids.take(blocks - kept);
        let origin = Origin::Row(before.row as u32);
        let session = parent.session;
        self.rows.push(Row { tick, session, prompt_tokens, output_tokens, origin, kept, fresh });
        kind < edits
    }

    /// Everything said before and something new. The trace names the block in which the earlier prompt ended anew,
    /// because it is hashed with what has filled it since.
    fn extend(&mut self, parent: &Row, turn: usize) -> (u32, u32) {
        let new = if turn == 1 { CHAT_NEW_TOKENS_SECOND } else { CHAT_NEW_TOKENS_LATER };
        let new = new.sample(&mut self.rng).round() as i64;
        let kept = parent.blocks() - 1;
        let tokens = i64::from(parent.prompt_tokens + parent.output_tokens) + new;
        let least = i64::from(kept * BLOCK_TOKENS + 1);
        (tokens.clamp(least, i64::from(PROMPT_TOKENS_MAX).max(least)) as u32, kept)
    }

    /// A prompt of which only the beginning is the old one.
    fn edit(&mut self, parent_tokens: u32) -> (u32, u32) {
        let kept = CHAT_EDIT_KEPT.sample(&mut self.rng) * f64::from(parent_tokens);
        let kept = ((kept / f64::from(BLOCK_TOKENS)).round() as u32).max(2);
        let is_long = parent_tokens >= 20_000;
        let length = if is_long { CHAT_EDIT_LENGTH_LONG } else { CHAT_EDIT_LENGTH_SHORT };
        let tokens = length.sample(&mut self.rng) * f64::from(parent_tokens);
        let least = kept * BLOCK_TOKENS + 1;
        ((tokens.round() as u32).clamp(least, PROMPT_TOKENS_MAX.max(least)), kept)
    }

    /// When the session of the latest row goes on, if it does.
    fn next_tick(&mut self, tick: u32, turn: usize) -> Option<u32> {
        let prompt_tokens = self.rows[self.rows.len() - 1].prompt_tokens;
        if self.rng.random::<f64>() >= again(turn, prompt_tokens) {
            return None;
        }
        let gap = CHAT_GAP_SECS.sample(&mut self.rng) / f64::from(TICK_SECS);
        Some(tick + gap.round() as u32)
    }
}

/// The probability that a turn is followed by another. Of the first turns, the shortest are single questions to an
/// empty chat, and hardly any of those goes on.
fn again(turn: usize, prompt_tokens: u32) -> f64 {
    let measured = match (turn, prompt_tokens) {
        (1, ..950) => 0.013,
        (1, 950..50_000) => 0.375,
        (1, _) => 0.22,
        (2, ..6_000) => 0.485,
        (2, _) => 0.385,
        (turn, _) => AGAIN_BY_TURN[(turn - 3).min(AGAIN_BY_TURN.len() - 1)],
    };
    measured * AGAIN_CUT_OFF
}

/// The probability that a turn rewrites a past of this length, when the turn before did not.
fn edits(parent_tokens: u32) -> f64 {
    match parent_tokens {
        ..5_000 => 0.0,
        5_000..8_000 => 0.03,
        8_000..12_000 => 0.12,
        12_000..40_000 => 0.18,
        _ => 0.09,
    }
}
