//! The two tools of the tool-and-agent trace: short calls over a long instruction that all calls of a tool share.

use rand::RngExt;
use rand_distr::{Distribution, Poisson};

use super::STREAMS;
use super::presets::{Ids, Origin, Row, TICKS, TOOL_A_TRUNK, TOOL_B_TRUNK};
use super::tables::{
    TOOL_A_LONG_PROMPT, TOOL_A_OUTPUT, TOOL_A_SHORT_PROMPT, TOOL_B_OUTPUT, TOOL_B_PROMPT,
};
use crate::kernel::rng::stream;

/// How often a call of tool A answers in three tokens, a mere choice.
const CHOICE_SHARE: f64 = 0.6137;

/// How often a call of tool A shares the first block after the instruction with an earlier call: a retry.
const RETRY_SHARE: f64 = 0.03;

/// Calls of tool A come in clusters of one and a Poisson number more with this mean. That gives the counts per tick
/// the measured ratio of variance and mean, 2.1.
const CLUSTER_MORE: f64 = 0.7;

/// `count` calls of tool A, in order of arrival; `first` is the index the first of them will have among all rows.
pub(super) fn tool_a(seed: u64, count: u32, first: u32, sessions: u32, ids: &mut Ids) -> Vec<Row> {
    let mut rng = stream(seed, STREAMS + 4);
    let more = Poisson::new(CLUSTER_MORE).expect("the mean is positive");
    let mut ticks: Vec<u32> = Vec::with_capacity(count as usize);
    while ticks.len() < count as usize {
        let tick = rng.random_range(0..TICKS);
        let size = 1 + more.sample(&mut rng) as usize;
        ticks.extend((0..size.min(count as usize - ticks.len())).map(|_| tick));
    }
    ticks.sort_unstable();
    let call = |(k, tick): (u32, u32)| {
        let (prompt_tokens, output_tokens) = if rng.random::<f64>() < CHOICE_SHARE {
            (TOOL_A_LONG_PROMPT.sample_tokens(&mut rng), 3)
        } else {
            (TOOL_A_SHORT_PROMPT.sample_tokens(&mut rng), TOOL_A_OUTPUT.sample_tokens(&mut rng))
        };
        let mut row = Row::on_trunk(tick, sessions + k, prompt_tokens, TOOL_A_TRUNK, ids);
        if k > 0 && rng.random::<f64>() < RETRY_SHARE {
            row.origin = Origin::Row(first + rng.random_range(0..k));
            // The first fresh id stays unused: the block it named is the earlier call's.
            row.kept += 1;
            row.fresh += 1;
        }
        Row { output_tokens, ..row }
    };
    (0..).zip(ticks).map(call).collect()
}

/// `count` calls of tool B, in order of arrival.
pub(super) fn tool_b(seed: u64, count: u32, sessions: u32, ids: &mut Ids) -> Vec<Row> {
    let mut rng = stream(seed, STREAMS + 5);
    let mut ticks: Vec<u32> = (0..count).map(|_| rng.random_range(0..TICKS)).collect();
    ticks.sort_unstable();
    let call = |(session, tick): (u32, u32)| {
        let prompt_tokens = TOOL_B_PROMPT.sample_tokens(&mut rng);
        let output_tokens = TOOL_B_OUTPUT.sample_tokens(&mut rng);
        Row { output_tokens, ..Row::on_trunk(tick, session, prompt_tokens, TOOL_B_TRUNK, ids) }
    };
    (sessions..).zip(ticks).map(call).collect()
}
