//! Agents: sessions whose calls fan out, wait for tools, and come together.
//!
//! ```text
//!            +--> call --tool--> call --+
//!   call ----+--> call -----------------+--> call --- ... --> call
//!            +--> call --tool--> call --+
//!     main      a round of branches        main
//! ```
//!
//! The main context grows by its own answers, the last answers of its branches and something new each round. Every branch
//! has a context of its own, which begins with the shared prefix of the session, and grows by its answers and what tools
//! give.

use rand::RngExt;
use rand_distr::{Distribution, LogNormal};

use super::contexts::{Context, Contexts, again};
use super::custom::GeneratorSpec;
use crate::kernel::rng::Stream;
use crate::kernel::time::Span;
use crate::model::session::{Ask, CallSpec, LONGEST_MS, Opening, Plan};
use crate::model::workload::SessionSource;

/// What to generate.
#[derive(Clone, PartialEq, Debug)]
pub struct AgentsSpec {
    /// When sessions start, what they share, how long prompts and outputs are. Its `turns` and `turn_gap` do not matter.
    pub base: GeneratorSpec,
    /// Rounds of branches in a session, at least 1: the mean of a geometric distribution.
    pub rounds: f64,
    /// The fewest and the most branches of a round, all numbers alike. Without branches the main call goes on after a tool.
    pub fan_out: (u32, u32),
    /// Calls of a branch, at least 1: the mean of a geometric distribution.
    pub branch_calls: f64,
    /// How long a tool takes: the median of a log-normal distribution.
    pub tool_time: Span,
    /// Standard deviation of the logarithm of that; finite, 0 or more.
    pub tool_sigma: f64,
}

/// The sessions that `spec` describes, the same ones whenever the seed is the same. Sessions open for `duration`, and are
/// played to their ends.
///
/// # Panics
/// When a number of `spec` is outside its stated range.
pub fn agents(spec: AgentsSpec, seed: u64) -> Box<dyn SessionSource> {
    assert!(spec.rounds >= 1.0 && spec.branch_calls >= 1.0, "fewer than one call");
    assert!(spec.fan_out.0 <= spec.fan_out.1, "no number of branches");
    let mut contexts = Contexts::new(spec.base.clone(), seed);
    let tool = Tool {
        median_ms: spec.tool_time.as_ms(),
        factor: LogNormal::new(0.0, spec.tool_sigma).expect("sigma is finite and not negative"),
    };
    let mut sessions = 0;
    Box::new(std::iter::from_fn(move || {
        let at = contexts.start()?;
        let (specs, mut asks) = {
            let mut agent = Agent { contexts: &mut contexts, spec: &spec, tool: &tool, calls: 0 };
            agent.session()
        };
        for ask in &mut asks {
            ask.trace_line = contexts.next_line();
        }
        let plan = Plan::new(&specs).expect("calls wait for earlier ones, for a time in range");
        let name = sessions;
        sessions += 1;
        Some(Opening { at, name: Some(name), plan, asks })
    }))
}

struct Tool {
    median_ms: f64,
    factor: LogNormal<f64>,
}

impl Tool {
    /// How long one takes, ms.
    fn draw(&self, rng: &mut Stream) -> f64 {
        (self.median_ms * self.factor.sample(rng)).min(LONGEST_MS)
    }
}

/// Draws one session.
struct Agent<'a> {
    contexts: &'a mut Contexts,
    spec: &'a AgentsSpec,
    tool: &'a Tool,
    /// Calls so far, which names the next.
    calls: u64,
}

impl Agent<'_> {
    /// Its calls: what they wait for, and what they ask for.
    fn session(&mut self) -> (Vec<CallSpec>, Vec<Ask>) {
        let prefix = self.contexts.prefix();
        let mut main = self.contexts.open(prefix);
        let mut specs = vec![self.call(Vec::new(), 0.0)];
        // Where the calls of each context stand.
        let mut main_places = vec![0_usize];
        let mut branches: Vec<(Context, usize)> = Vec::new();
        loop {
            let before = specs[*main_places.last().unwrap_or(&0)].id;
            let (fewest, most) = self.spec.fan_out;
            let fan_out = self.contexts.rng.random_range(fewest..=most);
            let (mut ends, mut told) = (Vec::new(), 0_u32);
            for _ in 0..fan_out {
                let place = specs.len();
                let branch = self.branch(prefix, before, &mut specs);
                ends.extend(specs.last().map(|last| last.id));
                told = told.saturating_add(branch.output());
                branches.push((branch, place));
            }
            let tool_ms = if fan_out == 0 { self.tool.draw(&mut self.contexts.rng) } else { 0.0 };
            if !self.contexts.go_on(&mut main, told) {
                break;
            }
            let wait_for = if ends.is_empty() { vec![before] } else { ends };
            main_places.push(specs.len());
            let join = self.call(wait_for, tool_ms);
            specs.push(join);
            if !again(self.spec.rounds, &mut self.contexts.rng) {
                break;
            }
        }
        let mut asks = vec![None; specs.len()];
        for (place, ask) in main_places.into_iter().zip(self.contexts.asks(&main)) {
            asks[place] = Some(ask);
        }
        for (branch, first) in branches {
            for (place, ask) in (first..).zip(self.contexts.asks(&branch)) {
                asks[place] = Some(ask);
            }
        }
        (specs, asks.into_iter().flatten().collect())
    }

    /// A chain of calls after `before`, with tools between them.
    fn branch(&mut self, prefix: Option<u32>, before: u64, specs: &mut Vec<CallSpec>) -> Context {
        let mut context = self.contexts.open(prefix);
        let mut last = self.call(vec![before], 0.0);
        while again(self.spec.branch_calls, &mut self.contexts.rng) {
            let tool_ms = self.tool.draw(&mut self.contexts.rng);
            if !self.contexts.go_on(&mut context, 0) {
                break;
            }
            let next = self.call(vec![last.id], tool_ms);
            specs.push(std::mem::replace(&mut last, next));
        }
        specs.push(last);
        context
    }

    fn call(&mut self, wait_for: Vec<u64>, tool_ms: f64) -> CallSpec {
        let id = self.calls;
        self.calls += 1;
        CallSpec { id, wait_for, delay_ms: 0.0, tool_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::workload::generate::tests::spec;

    #[test]
    fn sessions_fan_out_and_come_together() {
        let agents_spec = AgentsSpec {
            base: spec(),
            rounds: 2.0,
            fan_out: (0, 4),
            branch_calls: 3.0,
            tool_time: Span::from_secs(2),
            tool_sigma: 1.0,
        };
        let mut contexts = Contexts::new(spec(), 5);
        let factor = LogNormal::new(0.0, 1.0).unwrap();
        let tool = Tool { median_ms: 2000.0, factor };
        let (mut calls, mut joins, mut tools) = (0, 0, 0);
        for _ in 0..500 {
            let mut agent =
                Agent { contexts: &mut contexts, spec: &agents_spec, tool: &tool, calls: 0 };
            let (specs, asks) = agent.session();
            assert_eq!(specs.len(), asks.len());
            assert!(Plan::new(&specs).is_ok());
            let roots = specs.iter().filter(|spec| spec.wait_for.is_empty()).count();
            assert_eq!(roots, 1, "everything follows from one call");
            calls += specs.len();
            joins += specs.iter().filter(|spec| spec.wait_for.len() > 1).count();
            tools += specs.iter().filter(|spec| spec.tool_ms > 0.0).count();
        }
        // A round has two branches of three calls each on average, and one call of the main context; there are two.
        let mean = calls as f64 / 500.0;
        assert!((13.0..17.0).contains(&mean), "{mean} calls in a session");
        assert!(joins > 400 && tools > 2000, "{joins} joins, {tools} tools");
    }

    #[test]
    fn branches_share_the_prefix_and_nothing_else() {
        let base =
            GeneratorSpec { prefix_groups: 1, prefix_tokens: 1024, block_size: 512, ..spec() };
        let agents_spec = AgentsSpec {
            base: GeneratorSpec { prefix_share: 1.0, ..base },
            rounds: 1.0,
            fan_out: (2, 2),
            branch_calls: 1.0,
            tool_time: Span::ZERO,
            tool_sigma: 0.0,
        };
        let opening = agents(agents_spec, 9).next_session().unwrap().unwrap();
        let chains: Vec<_> = opening.asks.iter().map(|ask| ask.prompt().chain).collect();
        let [main, one, other, join] = &chains[..] else { panic!("{} calls", chains.len()) };
        for chain in [one, other] {
            assert_eq!(chain[..2], main[..2]);
            assert!(chain.len() > 2 && chain[2] != main[2]);
        }
        assert!(one[2] != other[2]);
        assert_eq!(join[..main.len()], main[..], "the main context goes on");
    }
}
