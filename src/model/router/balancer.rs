//! How a fleet that is divided into cells shares requests among them, before any router sees them.

use rand::RngExt;

use crate::kernel::rng::{Stream, mix64};
use crate::model::request::{Prompt, Request};

/// What decides which cell gets a request. It knows nothing of what happens in the cells.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum BalancerSpec {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Any.
    Random,
    /// The session's own, by a hash. A request without a session goes to any cell.
    Session,
    /// A hash of the beginning of the prompt: those that begin alike meet in one cell. A prompt that shares nothing with others
    /// goes to any cell.
    Prefix {
        /// How long the beginning is, in blocks of the trace; above 0. A shorter prompt counts with all its blocks.
        blocks: u32,
    },
}

impl BalancerSpec {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            BalancerSpec::RoundRobin => "round-robin",
            BalancerSpec::Random => "random",
            BalancerSpec::Session => "session",
            BalancerSpec::Prefix { .. } => "prefix",
        }
    }
}

/// Deals requests to cells.
#[derive(Debug)]
pub struct Dealer {
    spec: BalancerSpec,
    cells: u32,
    next: u32,
    undirected: u64,
    rng: Stream,
}

impl Dealer {
    /// For so many cells, at least one. Draws from `rng` if it draws at all.
    pub fn new(spec: BalancerSpec, cells: u32, rng: Stream) -> Dealer {
        Dealer { spec, cells, next: 0, undirected: 0, rng }
    }

    /// The cell of the next request.
    pub fn deal(&mut self, request: &Request) -> u32 {
        let key = match self.spec {
            BalancerSpec::RoundRobin => {
                let cell = self.next;
                self.next = (cell + 1) % self.cells;
                return cell;
            }
            BalancerSpec::Random => None,
            BalancerSpec::Session => request.session,
            BalancerSpec::Prefix { blocks } => {
                let Prompt { chain, shared_tokens, .. } = &request.prompt;
                let named = if *shared_tokens > 0 { &chain[..] } else { &[] };
                // The link at a block stands for all blocks up to it.
                named.iter().take(blocks as usize).next_back().copied()
            }
        };
        if let Some(key) = key {
            return (mix64(key) % u64::from(self.cells)) as u32;
        }
        self.undirected += 1;
        self.rng.random_range(0..self.cells)
    }

    /// How many requests had nothing to go by, and went to any cell; all of them if that is the rule.
    pub fn undirected(&self) -> u64 {
        self.undirected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use crate::kernel::time::Time;

    fn dealt(spec: BalancerSpec, prompts: &[Prompt]) -> Vec<u32> {
        let mut dealer = Dealer::new(spec, 4, stream(1, 0));
        let request = |(number, prompt): (u64, &Prompt)| Request {
            session: (number < 10).then_some(number / 5),
            ..Request::new(number, Time::ZERO, prompt.clone(), 1)
        };
        (0..).zip(prompts).map(|next| dealer.deal(&request(next))).collect()
    }

    #[test]
    fn prompts_that_begin_alike_meet() {
        let prompt = |ids: &[u64]| Prompt::named(100, ids.iter().copied(), 0);
        let two = BalancerSpec::Prefix { blocks: 2 };
        let cells = dealt(two, &[prompt(&[1, 2, 3]), prompt(&[1, 2, 9, 9]), prompt(&[1, 2])]);
        assert_eq!((cells[0], cells[1]), (cells[1], cells[2]), "{cells:?}");
        let beginnings: Vec<Prompt> = (0..4000).map(|id| prompt(&[1, id])).collect();
        for cell in 0..4 {
            let share = dealt(two, &beginnings).iter().filter(|&&other| other == cell).count();
            assert!((900..1100).contains(&share), "{share}");
        }
        let one = dealt(BalancerSpec::Prefix { blocks: 1 }, &beginnings);
        assert!(one.iter().all(|cell| *cell == one[0]), "all have the same first block");
    }

    #[test]
    fn sessions_stay_together() {
        let cells = dealt(BalancerSpec::Session, &vec![Prompt::unique(9); 10]);
        assert!(cells[..5].iter().all(|cell| *cell == cells[0]), "{cells:?}");
        assert!(cells[5..].iter().all(|cell| *cell == cells[5]), "{cells:?}");
    }

    #[test]
    fn others_are_shared_out() {
        let prompts = vec![Prompt::unique(9); 4000];
        assert_eq!(dealt(BalancerSpec::RoundRobin, &prompts[..5]), [0, 1, 2, 3, 0]);
        let any = [BalancerSpec::Random, BalancerSpec::Session, BalancerSpec::Prefix { blocks: 1 }];
        for spec in any {
            for cell in 0..4 {
                let share = dealt(spec, &prompts).iter().filter(|&&other| other == cell).count();
                assert!((900..1100).contains(&share), "{spec:?}: {share}");
            }
        }
    }
}
