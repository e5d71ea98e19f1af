//! Chats whose turns wait for one another: the preset `custom` in a closed loop of its own.
//!
//! A session is drawn when it opens: how many turns it has, what each says, and how long the user thinks before it. When
//! its turns come depends on the fleet.

use rand_distr::{Distribution, Exp1};

use super::contexts::{Contexts, again};
use super::custom::GeneratorSpec;
use crate::kernel::time::Span;
use crate::model::session::{Opening, Plan};
use crate::model::workload::SessionSource;

/// The sessions that `spec` describes, the same ones whenever the seed is the same. `turn_gap` is from the answer to one
/// turn to the next turn. Sessions open for `duration`, and are played to their ends.
///
/// # Panics
/// When a number of `spec` is outside its stated range.
pub fn chats(spec: GeneratorSpec, seed: u64) -> Box<dyn SessionSource> {
    let (turns, gap) = (spec.turns, spec.turn_gap);
    assert!(turns >= 1.0, "sessions of {turns} turns");
    let mut contexts = Contexts::new(spec, seed);
    let mut sessions = 0;
    Box::new(std::iter::from_fn(move || {
        let at = contexts.start()?;
        let prefix = contexts.prefix();
        let mut context = contexts.open(prefix);
        let mut thoughts = Vec::new();
        while again(turns, &mut contexts.rng) {
            let think: f64 = Exp1.sample(&mut contexts.rng);
            if !contexts.go_on(&mut context, 0) {
                break;
            }
            thoughts.push(Span::from_secs_f64(think * gap.as_secs()));
        }
        let mut asks = contexts.asks(&context);
        for ask in &mut asks {
            ask.trace_line = contexts.next_line();
        }
        let name = sessions;
        sessions += 1;
        Some(Opening { at, name: Some(name), plan: Plan::chain(thoughts), asks })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::workload::generate::tests::spec;

    #[test]
    fn turns_go_on_where_the_last_one_ended() {
        let mut source = chats(GeneratorSpec { turns: 5.0, ..spec() }, 3);
        let mut turns = 0;
        let mut sessions = 0;
        while let Some(opening) = source.next_session().unwrap() {
            assert_eq!(opening.plan.calls(), opening.asks.len());
            for pair in opening.asks.windows(2) {
                let (one, next) = (pair[0].prompt(), pair[1].prompt());
                assert!(next.tokens > one.tokens + pair[0].output_tokens);
                assert_eq!(next.chain[..one.chain.len()], one.chain[..]);
                assert_eq!(pair[1].trace_line, pair[0].trace_line + 1);
            }
            turns += opening.asks.len();
            sessions += 1;
        }
        let mean = turns as f64 / f64::from(sessions);
        assert!(sessions > 100 && (4.0..6.0).contains(&mean), "{sessions} sessions, {mean} turns");
    }
}
