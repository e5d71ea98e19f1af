//! What is measured of one class of requests.

use crate::kernel::time::Span;
use crate::model::metrics::{Distribution, Row, Slo, Status};

/// Counts and latencies of a class.
#[derive(Clone, Debug)]
pub struct ClassFigures {
    /// What counts as good service.
    pub slo: Slo,
    /// Requests that reached the front end.
    pub arrived: u64,
    /// Requests that got all their tokens.
    pub completed: u64,
    /// Requests that an engine refused.
    pub rejected: u64,
    /// Requests that outgrew the KV pool.
    pub aborted: u64,
    /// Requests that were turned away because as many waited as may.
    pub queue_full: u64,
    /// Requests that were turned away because they had waited too long.
    pub expired: u64,
    /// Tokens generated for the completed requests.
    pub output_tokens: u64,
    /// Requests that kept every bound of the SLO, if there is one.
    pub good: u64,
    /// Time to first token, ns.
    pub ttft: Distribution,
    /// Time per output token after the first, ns.
    pub tpot: Distribution,
    /// Arrival to last token, ns.
    pub e2e: Distribution,
}

impl ClassFigures {
    /// Of no request.
    pub fn new(slo: Slo) -> ClassFigures {
        ClassFigures {
            slo,
            arrived: 0,
            completed: 0,
            rejected: 0,
            aborted: 0,
            queue_full: 0,
            expired: 0,
            output_tokens: 0,
            good: 0,
            ttft: Distribution::new(),
            tpot: Distribution::new(),
            e2e: Distribution::new(),
        }
    }

    /// Requests that have ended, in whatever way.
    pub fn ended(&self) -> u64 {
        self.completed + self.rejected + self.aborted + self.queue_full + self.expired
    }

    /// A request of the class has ended.
    pub(super) fn add(&mut self, row: &Row) {
        match row.status {
            Status::Completed => self.completed += 1,
            Status::Rejected => self.rejected += 1,
            Status::Aborted => self.aborted += 1,
            Status::QueueFull => self.queue_full += 1,
            Status::Expired => self.expired += 1,
        }
        if row.status != Status::Completed {
            return;
        }
        self.output_tokens += u64::from(row.output_tokens);
        self.good += u64::from(self.slo.is_set() && self.slo.is_met(row));
        let enter = |distribution: &mut Distribution, time: Option<Span>| {
            distribution.record_all(time.map(Span::as_ns).into_iter());
        };
        enter(&mut self.ttft, row.ttft());
        enter(&mut self.tpot, row.tpot());
        enter(&mut self.e2e, Some(row.e2e()));
    }

    /// Adds what another recorder of the same run has seen of the class.
    pub(super) fn merge(&mut self, other: &ClassFigures) {
        // All fields by name, so that a new one cannot be forgotten.
        let ClassFigures {
            slo: _,
            arrived,
            completed,
            rejected,
            aborted,
            queue_full,
            expired,
            output_tokens,
            good,
            ttft,
            tpot,
            e2e,
        } = other;
        self.arrived += arrived;
        self.completed += completed;
        self.rejected += rejected;
        self.aborted += aborted;
        self.queue_full += queue_full;
        self.expired += expired;
        self.output_tokens += output_tokens;
        self.good += good;
        self.ttft.merge(ttft);
        self.tpot.merge(tpot);
        self.e2e.merge(e2e);
    }
}
