//! On how many threads a run is simulated, and why. No result depends on it.

use std::thread::available_parallelism;

use crate::kernel::Span;

/// With feedback, a phase lasts for half the least time that a decision takes to the workers and back, and longer if no request
/// comes for a while. How much happens in it grows with the number of workers. With less than this product of them and
/// both times, several threads take longer than one; see docs/performance.md.
const WORTH_SHARING: Span = Span::from_secs(6);

/// With feedback, more threads than this wait for the coordinator, and cost it more than they do; see docs/performance.md.
const THREADS_WITH_FEEDBACK: usize = 8;

/// How many threads a run asks for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Threads {
    /// As many as gain: all that this process may use if nobody waits for feedback, at most 8 if the coordinator has to hear
    /// of everything, one if the fleet is small then.
    #[default]
    Auto,
    /// So many, but no more than there are usable cores, and one if the fleet is too small to gain.
    Count(usize),
    /// One: other runs go on beside it, which gain more from the other cores.
    Beside,
}

/// How a run is to be simulated.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Execution {
    /// How many threads.
    pub threads: Threads,
    /// Whether each thread stays on one core.
    pub pin: bool,
    /// For tests of the executors.
    pub options: ExecutionOptions,
}

/// Which executor runs a fleet. All give the same results.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Executor {
    /// The one with phases for several threads, and for one where nobody waits for feedback: each worker then does many
    /// events in a row, while its state is warm. Otherwise the reference.
    #[default]
    Suited,
    /// The reference: one thread, one order of events.
    Sequential,
    /// Phases, on one thread too.
    Phases,
    /// A clock for every thread, no phases: it checks the others.
    Clocks,
}

/// What tests and `fleetsim scaling` vary about an executor, and users have no reason to.
#[expect(clippy::struct_excessive_bools, reason = "they are independent switches")]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ExecutionOptions {
    /// See [`Executor`].
    pub executor: Executor,
    /// More threads than cores, if so many are asked for.
    pub oversubscribe: bool,
    /// Workers that are run as one task, 1 or more; as many as suit the fleet if absent. Not with cells: a task has whole cells.
    pub workers_per_group: Option<usize>,
    /// Take down what every task costs; in the executor with phases, on one thread.
    pub account: bool,
    /// Take down what the threads spend their time on; in the executor with phases.
    pub occupancy: bool,
    /// Threads don't help one another.
    pub no_stealing: bool,
    /// Give up the core at random moments drawn from this seed.
    pub fuzz: Option<u64>,
}

/// How a run was simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Executed {
    /// How many threads.
    pub threads: usize,
    /// Why so many, in a few words.
    pub why: &'static str,
}

/// What matters for the choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) workers: u32,
    /// How many cells they are in, if they are.
    pub(super) cells: Option<u32>,
    /// The least time from the coordinator to a worker and back; forever if workers report nothing.
    pub(super) round_trip: Span,
    /// The time between two moments at which requests come, on average; zero if they come when others have ended.
    pub(super) silence: Span,
}

impl Execution {
    /// One thread, the reference.
    pub fn sequential() -> Execution {
        let options =
            ExecutionOptions { executor: Executor::Sequential, ..ExecutionOptions::default() };
        Execution { threads: Threads::Count(1), pin: false, options }
    }

    /// Whether more than one thread is asked for.
    pub(super) fn may_share(&self) -> bool {
        !matches!(self.threads, Threads::Count(..=1) | Threads::Beside)
    }

    pub(super) fn choose(&self, situation: Situation) -> Executed {
        let Situation { workers, cells, round_trip, silence } = situation;
        let executed = |threads, why| Executed { threads, why };
        if round_trip == Span::ZERO {
            let why =
                "without control-plane latency, every decision depends on all events before it";
            return executed(1, why);
        }
        let cores = available_parallelism().map_or(1, usize::from);
        let most = if self.options.oversubscribe { usize::MAX } else { cores };
        let has_feedback = round_trip < Span::FOREVER;
        let (threads, why) = match self.threads {
            Threads::Count(threads) if threads > most => {
                (most, "all usable cores: more were asked for")
            }
            Threads::Count(threads) => (threads, "as asked for"),
            Threads::Beside => (1, "several runs go on at once"),
            Threads::Auto if cores == 1 => (1, "one usable core"),
            Threads::Auto if workers == 1 => (1, "one worker"),
            Threads::Auto if cells.is_some() => {
                (cores, "all usable cores: cells know nothing of one another")
            }
            Threads::Auto if !has_feedback => {
                (cores, "all usable cores: nobody waits for feedback")
            }
            Threads::Auto if cores > THREADS_WITH_FEEDBACK => (
                THREADS_WITH_FEEDBACK,
                "with feedback, more than 8 threads wait for the coordinator",
            ),
            Threads::Auto => (cores, "all usable cores"),
        };
        if let Some(cells) = cells.filter(|&cells| threads > cells as usize) {
            return executed(cells as usize, "as many as there are cells");
        }
        let time = round_trip.as_ns().saturating_add(silence.as_ns());
        let is_small = has_feedback
            && self.options.executor == Executor::Suited
            && u64::from(workers).saturating_mul(time) < WORTH_SHARING.as_ns();
        if is_small && threads > 1 {
            let why = "with feedback, so few workers have too little to share between two phases";
            return executed(1, why);
        }
        executed(threads, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_fleets_with_feedback_stay_on_one_thread() {
        let options = ExecutionOptions { oversubscribe: true, ..ExecutionOptions::default() };
        let four = Execution { threads: Threads::Count(4), pin: false, options };
        let situation = |workers, round_trip| Situation {
            workers,
            cells: None,
            round_trip,
            silence: Span::ZERO,
        };
        let threads = |workers, round_trip| four.choose(situation(workers, round_trip)).threads;
        assert_eq!(threads(511, Span::from_ms(11)), 1);
        assert_eq!(threads(600, Span::from_ms(11)), 4);
        assert_eq!(threads(8, Span::from_secs(1)), 4, "a phase is long");
        assert_eq!(threads(100_000, Span::ZERO), 1, "there is no phase");
        assert_eq!(threads(8, Span::FOREVER), 4, "nobody waits");
        let bursts = Situation { silence: Span::from_secs(1), ..situation(8, Span::from_ms(11)) };
        assert_eq!(four.choose(bursts).threads, 4);
        let cells = |cells| Situation { cells: Some(cells), ..situation(8, Span::FOREVER) };
        assert_eq!(four.choose(cells(8)).threads, 4);
        assert_eq!(four.choose(cells(3)).threads, 3);
        let options = ExecutionOptions { executor: Executor::Phases, ..options };
        let told = Execution { options, ..four };
        assert_eq!(told.choose(situation(8, Span::from_ms(11))).threads, 4);
    }
}
