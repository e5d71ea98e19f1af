//! What counts as good service.

use crate::kernel::time::Span;
use crate::model::metrics::{Row, Status};

/// Bounds that a request has to keep, all of those that are set.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Slo {
    /// Longest time to first token.
    pub ttft: Option<Span>,
    /// Longest mean time between tokens (E2E - TTFT) / (OSL - 1); a request with one token keeps it.
    pub itl: Option<Span>,
    /// Longest time from arrival to last token.
    pub e2e: Option<Span>,
}

impl Slo {
    /// Whether there is any bound.
    pub fn is_set(&self) -> bool {
        *self != Slo::default()
    }

    /// Whether a request completed within the bounds; a time equal to its bound keeps it.
    pub fn is_met(&self, row: &Row) -> bool {
        let within = |bound: Option<Span>, time: Option<Span>| match (bound, time) {
            (Some(bound), Some(time)) => time <= bound,
            _ => true,
        };
        // Gap times are compared as sums, so that no rounding decides.
        let gaps = u64::from(row.output_tokens.saturating_sub(1));
        let decode = row.first_token.map(|first| row.end.since(first));
        let decode_bound = self.itl.map(|bound| Span::from_ns(bound.as_ns().saturating_mul(gaps)));
        row.status == Status::Completed
            && within(self.ttft, row.ttft())
            && within(self.e2e, Some(row.e2e()))
            && (gaps == 0 || within(decode_bound, decode))
    }
}
