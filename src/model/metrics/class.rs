//! What is measured of one class of requests.

use crate::kernel::time::Span;
use crate::model::metrics::{Distribution, Row, Slo, Status, Totals};

/// Counts and latencies of a class.
#[derive(Clone, Debug)]
pub struct ClassFigures {
    /// What counts as good service.
    pub slo: Slo,
    /// Sums over its requests.
    pub totals: Totals,
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
            totals: Totals::default(),
            ttft: Distribution::new(),
            tpot: Distribution::new(),
            e2e: Distribution::new(),
        }
    }

    /// A request of the class has ended.
    pub(super) fn add(&mut self, row: &Row) {
        self.totals.close(row, &self.slo);
        if row.status != Status::Completed {
            return;
        }
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
        let ClassFigures { slo: _, totals, ttft, tpot, e2e } = other;
        self.totals.add(totals);
        self.ttft.merge(ttft);
        self.tpot.merge(tpot);
        self.e2e.merge(e2e);
    }
}
