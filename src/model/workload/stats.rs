//! What a workload looks like: how fast requests come, how long they are, how much they share.
//!
//! A [`TraceStats`] looks at one request after the other and keeps sums and histograms. Only two sets grow: the chain
//! hashes of the blocks that differ and the sessions, some 10 bytes each.

use rustc_hash::FxHashSet;

use crate::kernel::time::{Span, Time};
use crate::model::metrics::Distribution;
use crate::model::request::{Prompt, Request};

const MINUTE: Span = Span::from_secs(60);

/// Takes in requests in order of arrival.
pub struct TraceStats {
    block_size: u32,
    first: Option<Time>,
    last: Time,
    /// Between neighbouring arrivals, ns.
    gaps: Distribution,
    /// Requests in each minute that is over, counted from the first request.
    minutes: Distribution,
    minute: u64,
    minute_requests: u64,
    input_tokens: Distribution,
    output_tokens: Distribution,
    lengths: Moments,
    sessions: FxHashSet<u64>,
    session_requests: u64,
    named_blocks: FxHashSet<u64>,
    blocks_touched: u64,
    blocks_unnamed: u64,
    blocks_hit: u64,
    tokens_hit: u64,
}

/// The figures of a workload. What needs more requests than there were is absent.
#[derive(Clone, PartialEq, Debug)]
pub struct TraceSummary {
    /// How many requests there are.
    pub requests: u64,
    /// From the first arrival to the last.
    pub span: Span,
    /// Requests per second over the span.
    pub rate_per_s: Option<f64>,
    /// Coefficient of variation (standard deviation over mean) of the gaps between arrivals: 1 for a Poisson process.
    pub gap_cv: Option<f64>,
    /// Requests in each whole minute since the first; absent if the span is shorter than one.
    pub per_minute: Option<Figures>,
    /// Tokens of the prompts.
    pub input_tokens: Option<Figures>,
    /// Tokens to generate.
    pub output_tokens: Option<Figures>,
    /// Pearson's correlation of input and output tokens, from -1 to 1; absent if either never varies.
    pub length_correlation: Option<f64>,
    /// How many sessions there are.
    pub sessions: u64,
    /// Mean requests per session.
    pub turns_mean: Option<f64>,
    /// Blocks of all prompts.
    pub blocks_touched: u64,
    /// How many of these differ.
    pub blocks_unique: u64,
    /// Share of the blocks, from 0 to 1, that an endless prefix cache would hold.
    pub hit_blocks: Option<f64>,
    /// Share of the input tokens, from 0 to 1, that an endless prefix cache would hold.
    pub hit_tokens: Option<f64>,
}

/// The figures of one quantity. Sum, mean, deviation and extremes are exact, percentiles within 0.05 %.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figures {
    /// Everything added up.
    pub sum: u128,
    /// The mean.
    pub mean: f64,
    /// The population standard deviation.
    pub std: f64,
    /// The smallest value.
    pub min: u64,
    /// The 1st percentile.
    pub p1: u64,
    /// The median.
    pub p50: u64,
    /// The 75th percentile.
    pub p75: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The largest value.
    pub max: u64,
}

impl TraceStats {
    /// Nothing seen so far. `block_size`: tokens in a block of the trace, as in the chains of the requests.
    ///
    /// # Panics
    /// If `block_size` is 0.
    pub fn new(block_size: u32) -> TraceStats {
        assert!(block_size > 0, "a block has at least one token");
        TraceStats {
            block_size,
            first: None,
            last: Time::ZERO,
            gaps: Distribution::new(),
            minutes: Distribution::new(),
            minute: 0,
            minute_requests: 0,
            input_tokens: Distribution::new(),
            output_tokens: Distribution::new(),
            lengths: Moments::default(),
            sessions: FxHashSet::default(),
            session_requests: 0,
            named_blocks: FxHashSet::default(),
            blocks_touched: 0,
            blocks_unnamed: 0,
            blocks_hit: 0,
            tokens_hit: 0,
        }
    }

    /// Takes in a request. One that is earlier than the one before counts as arriving with it.
    pub fn add(&mut self, request: &Request) {
        self.add_arrival(request.arrival);
        self.add_blocks(&request.prompt);
        self.input_tokens.record(u64::from(request.prompt.tokens), 1);
        self.output_tokens.record(u64::from(request.output_tokens), 1);
        self.lengths.add(f64::from(request.prompt.tokens), f64::from(request.output_tokens));
        if let Some(session) = request.session {
            self.session_requests += 1;
            self.sessions.insert(session);
        }
    }

    /// The figures so far.
    pub fn summary(&self) -> TraceSummary {
        let requests = self.input_tokens.count();
        let span = self.first.map_or(Span::ZERO, |first| self.last.since(first));
        let sessions = self.sessions.len() as u64;
        TraceSummary {
            requests,
            span,
            rate_per_s: ratio(requests as f64, span.as_secs()),
            gap_cv: self.gaps.std().and_then(|std| ratio(std, self.gaps.mean()?)),
            per_minute: Figures::of(&self.minutes),
            input_tokens: Figures::of(&self.input_tokens),
            output_tokens: Figures::of(&self.output_tokens),
            length_correlation: self.lengths.correlation(),
            sessions,
            turns_mean: ratio(self.session_requests as f64, sessions as f64),
            blocks_touched: self.blocks_touched,
            blocks_unique: self.named_blocks.len() as u64 + self.blocks_unnamed,
            hit_blocks: ratio(self.blocks_hit as f64, self.blocks_touched as f64),
            hit_tokens: ratio(self.tokens_hit as f64, self.input_tokens.sum() as f64),
        }
    }

    fn add_arrival(&mut self, arrival: Time) {
        let Some(first) = self.first else {
            (self.first, self.last, self.minute_requests) = (Some(arrival), arrival, 1);
            return;
        };
        let arrival = arrival.max(self.last);
        self.gaps.record(arrival.since(self.last).as_ns(), 1);
        self.last = arrival;
        let minute = arrival.since(first).as_ns() / MINUTE.as_ns();
        if minute > self.minute {
            self.minutes.record(self.minute_requests, 1);
            let silent = minute - self.minute - 1;
            if silent > 0 {
                self.minutes.record(0, silent);
            }
            (self.minute, self.minute_requests) = (minute, 0);
        }
        self.minute_requests += 1;
    }

    fn add_blocks(&mut self, prompt: &Prompt) {
        let chain = &prompt.chain;
        let hit = chain.iter().take_while(|&hash| self.named_blocks.contains(hash)).count() as u64;
        self.named_blocks.extend(chain.iter().skip(hit as usize));
        let touched = u64::from(prompt.tokens.div_ceil(self.block_size));
        self.blocks_touched += touched;
        self.blocks_unnamed += touched.saturating_sub(chain.len() as u64);
        self.blocks_hit += hit;
        // The last named block may be full only in part.
        self.tokens_hit += (hit * u64::from(self.block_size)).min(u64::from(prompt.shared_tokens));
    }
}

impl Figures {
    fn of(values: &Distribution) -> Option<Figures> {
        Some(Figures {
            sum: values.sum(),
            mean: values.mean()?,
            std: values.std()?,
            min: values.min()?,
            p1: values.percentile(1.0)?,
            p50: values.percentile(50.0)?,
            p75: values.percentile(75.0)?,
            p90: values.percentile(90.0)?,
            p99: values.percentile(99.0)?,
            max: values.max()?,
        })
    }

    /// Coefficient of variation: standard deviation over mean; absent if the mean is 0.
    pub fn cv(&self) -> Option<f64> {
        ratio(self.std, self.mean)
    }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Means and squared deviations of pairs, updated pair by pair so that large values do not cancel (Welford).
#[derive(Default)]
struct Moments {
    count: f64,
    mean_x: f64,
    mean_y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

impl Moments {
    fn add(&mut self, x: f64, y: f64) {
        self.count += 1.0;
        let (dx, dy) = (x - self.mean_x, y - self.mean_y);
        self.mean_x += dx / self.count;
        self.mean_y += dy / self.count;
        self.xx += dx * (x - self.mean_x);
        self.yy += dy * (y - self.mean_y);
        self.xy += dx * (y - self.mean_y);
    }

    fn correlation(&self) -> Option<f64> {
        ratio(self.xy, self.xx.sqrt() * self.yy.sqrt()).map(|r| r.clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(secs: u64, prompt: Prompt, output_tokens: u32, session: Option<u64>) -> Request {
        Request {
            session,
            ..Request::new(0, Time::ZERO + Span::from_secs(secs), prompt, output_tokens)
        }
    }

    fn named(tokens: u32, ids: &[u64]) -> Prompt {
        Prompt::named(tokens, ids.iter().copied(), 0)
    }

    #[test]
    fn figures_of_a_small_workload() {
        let mut stats = TraceStats::new(10);
        stats.add(&request(100, named(25, &[1, 2, 3]), 1, Some(7)));
        stats.add(&request(110, named(23, &[1, 2, 3]), 3, Some(7)));
        stats.add(&request(110, named(30, &[1, 9, 3]), 5, None));
        stats.add(&request(300, Prompt::unique(11), 1, Some(8)));
        let summary = stats.summary();
        assert_eq!((summary.requests, summary.span), (4, Span::from_secs(200)));
        assert_eq!(summary.rate_per_s, Some(0.02));
        let minutes = summary.per_minute.unwrap();
        assert_eq!(
            (minutes.sum, minutes.mean, minutes.max),
            (3, 1.0, 3),
            "3, 0, 0 and one not over"
        );
        let input = summary.input_tokens.unwrap();
        assert_eq!((input.sum, input.mean, input.min, input.max), (89, 22.25, 11, 30));
        assert_eq!((summary.sessions, summary.turns_mean), (2, Some(1.5)));
        assert_eq!((summary.blocks_touched, summary.blocks_unique), (11, 7));
        assert_eq!(summary.hit_blocks, Some(4.0 / 11.0));
        assert_eq!(summary.hit_tokens, Some(33.0 / 89.0));
        // Gaps of 10, 0 and 190 s.
        assert!((summary.gap_cv.unwrap() - 1.3096).abs() < 1e-4);
        assert!((summary.length_correlation.unwrap() - 0.7022).abs() < 1e-4);
    }

    #[test]
    fn figures_that_cannot_be_are_absent() {
        let mut stats = TraceStats::new(1);
        let summary = stats.summary();
        assert_eq!((summary.requests, summary.input_tokens), (0, None));
        assert_eq!(
            (summary.rate_per_s, summary.hit_blocks, summary.turns_mean),
            (None, None, None)
        );
        stats.add(&request(5, Prompt::unique(3), 0, None));
        let summary = stats.summary();
        assert_eq!((summary.rate_per_s, summary.gap_cv), (None, None));
        assert_eq!((summary.length_correlation, summary.hit_tokens), (None, Some(0.0)));
        stats.add(&request(4, Prompt::unique(3), 0, None));
        assert_eq!(
            stats.summary().span,
            Span::ZERO,
            "an earlier one counts as arriving with the last"
        );
    }
}
