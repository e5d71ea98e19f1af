//! What the Planner can see at a tick.
//!
//! All of it comes from reports that have reached the front end, so a feedback latency makes the Planner act on the past.
//! Traffic is kept as sums since the start of the run; a window is the difference of two such sums, so every policy can
//! have a window of its own and nobody has to keep lists.

use crate::kernel::time::{Span, Time};
use crate::model::lifecycle::Counts;
use crate::model::planner::passes::UsualPass;

/// Sums over everything that has reached the front end since the start of a run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// Requests that arrived.
    pub requests: u64,
    /// Prompt tokens of these.
    pub prompt_tokens: u64,
    /// Requests that completed.
    pub completed: u64,
    /// Tokens generated for these. Nobody knows them before the end (INV-9).
    pub output_tokens: u64,
    /// Requests whose first token came out.
    pub first_tokens: u64,
    /// Prompt tokens of these.
    pub prefilled_tokens: u64,
    /// How many of these came from a prefix cache.
    pub cached_tokens: u64,
    /// Their times to first token, summed, ns.
    pub ttft_ns: u128,
    /// Gaps between consecutive tokens of the requests that completed.
    pub gaps: u64,
    /// Their lengths, summed, ns.
    pub itl_ns: u128,
}

impl Traffic {
    /// A request reached the front end.
    pub fn add_arrival(&mut self, prompt_tokens: u32) {
        self.requests += 1;
        self.prompt_tokens += u64::from(prompt_tokens);
    }

    /// The first token of a request came out.
    pub fn add_first_token(&mut self, prompt_tokens: u32, cached_tokens: u32, ttft: Span) {
        self.first_tokens += 1;
        self.prefilled_tokens += u64::from(prompt_tokens);
        self.cached_tokens += u64::from(cached_tokens);
        self.ttft_ns += u128::from(ttft.as_ns());
    }

    /// A request completed, so long after its first token.
    pub fn add_completed(&mut self, output_tokens: u32, decoding: Span) {
        self.completed += 1;
        self.output_tokens += u64::from(output_tokens);
        self.gaps += u64::from(output_tokens.saturating_sub(1));
        self.itl_ns += u128::from(decoding.as_ns());
    }

    /// Adds other sums.
    pub fn add(&mut self, other: &Traffic) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completed += other.completed;
        self.output_tokens += other.output_tokens;
        self.first_tokens += other.first_tokens;
        self.prefilled_tokens += other.prefilled_tokens;
        self.cached_tokens += other.cached_tokens;
        self.ttft_ns += other.ttft_ns;
        self.gaps += other.gaps;
        self.itl_ns += other.itl_ns;
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Traffic) -> Traffic {
        Traffic {
            requests: self.requests - earlier.requests,
            prompt_tokens: self.prompt_tokens - earlier.prompt_tokens,
            completed: self.completed - earlier.completed,
            output_tokens: self.output_tokens - earlier.output_tokens,
            first_tokens: self.first_tokens - earlier.first_tokens,
            prefilled_tokens: self.prefilled_tokens - earlier.prefilled_tokens,
            cached_tokens: self.cached_tokens - earlier.cached_tokens,
            ttft_ns: self.ttft_ns - earlier.ttft_ns,
            gaps: self.gaps - earlier.gaps,
            itl_ns: self.itl_ns - earlier.itl_ns,
        }
    }
}

/// The traffic of the recent past.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Window {
    /// How long it is.
    pub length: Span,
    /// What was reported within.
    pub traffic: Traffic,
}

/// A mean, if there is anything to take it over.
fn mean(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

impl Window {
    /// Requests per second; zero for an empty window.
    pub fn rate(&self) -> f64 {
        let secs = self.length.as_secs();
        if secs > 0.0 { self.traffic.requests as f64 / secs } else { 0.0 }
    }

    /// Mean prompt length of what arrived, in tokens.
    pub fn isl(&self) -> Option<f64> {
        mean(self.traffic.prompt_tokens as f64, self.traffic.requests)
    }

    /// Mean output length of what completed, in tokens.
    pub fn osl(&self) -> Option<f64> {
        mean(self.traffic.output_tokens as f64, self.traffic.completed)
    }

    /// Share of prompt tokens that came from a prefix cache, from 0 to 1.
    pub fn hit_rate(&self) -> Option<f64> {
        mean(self.traffic.cached_tokens as f64, self.traffic.prefilled_tokens)
    }

    /// Mean time to first token, ms.
    pub fn ttft_ms(&self) -> Option<f64> {
        mean(self.traffic.ttft_ns as f64 / 1e6, self.traffic.first_tokens)
    }

    /// Mean gap between tokens of what completed, ms.
    pub fn itl_ms(&self) -> Option<f64> {
        mean(self.traffic.itl_ns as f64 / 1e6, self.traffic.gaps)
    }
}

/// What one ready worker has to do, as last reported.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WorkerLoad {
    /// Requests in its batch.
    pub running: u32,
    /// Requests in its queue.
    pub queued: u32,
    /// Prompt tokens of queued requests, cached ones included.
    pub queued_prefill_tokens: u64,
    /// KV tokens of the requests that decode.
    pub scheduled_kv_tokens: u64,
    /// KV tokens of queued requests that have begun to decode before: preempted ones, or those that wait for a transfer.
    pub queued_kv_tokens: u64,
}

/// Everything that has reached the Planner by now.
#[derive(Clone, Copy, Debug)]
pub struct Reports<'a> {
    /// When.
    pub now: Time,
    /// Since the start of the run.
    pub traffic: Traffic,
    /// Workers by state.
    pub counts: Counts,
    /// Requests that wait in front of the fleet: those of the router's queue, and all while no worker is ready.
    pub waiting: u64,
    /// One entry per ready worker that has reported, in order of their numbers.
    pub loads: &'a [WorkerLoad],
    /// A usual pass of late, if passes are reported and there was one with a prompt.
    pub usual_pass: Option<UsualPass>,
}

/// What one policy sees of it.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// When.
    pub now: Time,
    /// The time between two looks of this policy.
    pub interval: Span,
    /// The traffic since one of its earlier looks.
    pub window: Window,
    /// Workers by state.
    pub counts: Counts,
    /// How many workers were asked for last.
    pub target: u32,
    /// Requests that wait in front of the fleet: those of the router's queue, and all while no worker is ready.
    pub waiting: u64,
    /// One entry per ready worker that has reported, in order of their numbers.
    pub loads: &'a [WorkerLoad],
    /// A usual pass of late, if passes are reported and there was one with a prompt.
    pub usual_pass: Option<UsualPass>,
}

impl Observation<'_> {
    /// Requests that wait, in front of the fleet and in the queues of ready workers.
    pub fn backlog(&self) -> u64 {
        self.waiting + self.loads.iter().map(|load| u64::from(load.queued)).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_difference() {
        let before = Traffic { requests: 10, prompt_tokens: 1000, ..Traffic::default() };
        let after = Traffic {
            requests: 40,
            prompt_tokens: 7000,
            completed: 4,
            output_tokens: 100,
            first_tokens: 2,
            prefilled_tokens: 400,
            cached_tokens: 100,
            ttft_ns: 30_000_000,
            gaps: 4,
            itl_ns: 2_000_000,
        };
        let window = Window { length: Span::from_secs(10), traffic: after.since(&before) };
        let close = |value: Option<f64>, expected: f64| {
            assert!((value.unwrap() - expected).abs() < 1e-12, "{value:?} {expected}");
        };
        close(Some(window.rate()), 3.0);
        close(window.isl(), 200.0);
        close(window.osl(), 25.0);
        close(window.hit_rate(), 0.25);
        close(window.ttft_ms(), 15.0);
        close(window.itl_ms(), 0.5);
    }

    #[test]
    fn an_empty_window_knows_nothing() {
        let window = Window::default();
        assert!(window.rate().abs() < 1e-12);
        let all =
            [window.isl(), window.osl(), window.hit_rate(), window.ttft_ms(), window.itl_ms()];
        assert_eq!(all, [None; 5]);
    }
}
