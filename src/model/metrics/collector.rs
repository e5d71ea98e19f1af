//! The time series of a run, put together from those of its recorders.

use crate::kernel::time::{Span, Time};
use crate::model::metrics::Series;

/// Takes over the intervals that are over, and turns their TTFTs into percentiles once every recorder has handed them
/// over. Memory grows by one interval with its percentiles per interval of the run.
#[derive(Debug)]
pub struct Collector {
    series: Series,
    /// The first interval that each recorder has not handed over yet, in no order.
    missing: Vec<usize>,
    /// Intervals before this one have percentiles.
    settled: usize,
}

impl Collector {
    /// For a run with so many recorders, each with a series of intervals of this length, which is above zero.
    pub fn new(length: Span, recorders: usize) -> Collector {
        Collector { series: Series::new(length), missing: vec![0; recorders], settled: 0 }
    }

    /// Takes what is over at `done` from the series of one of the recorders. Everything before `done` has been handled; at
    /// the end, `done` is [`Time::NEVER`].
    ///
    /// # Panics
    /// If the series belongs to none of the recorders.
    pub fn collect(&mut self, series: &mut Series, done: Time) {
        let before = series.over();
        for (number, interval) in series.take_before(done) {
            debug_assert!(number >= self.settled || interval.ttft.is_empty(), "a late first token");
            self.series.absorb(number, interval);
        }
        // Which recorder it is does not matter: any one that has come just as far will do.
        let entry = self.missing.iter_mut().find(|missing| **missing == before);
        *entry.expect("a recorder of this run") = series.over();
        let settled = self.missing.iter().copied().min().unwrap_or(0);
        for interval in self.series.between(self.settled, settled) {
            interval.settle();
        }
        self.settled = settled;
    }

    /// The whole series, when every recorder has handed over everything.
    pub fn into_series(self) -> Series {
        self.series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_wait_for_the_last_recorder() {
        let length = Span::from_ns(10);
        let mut collector = Collector::new(length, 2);
        let (mut one, mut other) = (Series::new(length), Series::new(length));
        for ttft in (0..=100).rev() {
            let series = if ttft % 3 == 0 { &mut one } else { &mut other };
            series.at(Time::from_ns(3)).ttft.push(ttft);
        }
        one.at(Time::from_ns(13)).ttft.push(7);
        collector.collect(&mut one, Time::from_ns(12));
        let first = &collector.series.intervals()[0];
        assert_eq!((first.ttft.len(), first.ttft_percentiles), (34, None));
        collector.collect(&mut other, Time::from_ns(11));
        let first = &collector.series.intervals()[0];
        assert_eq!((first.ttft.len(), first.ttft_percentiles), (0, Some([50, 90, 99])));
        collector.collect(&mut one, Time::NEVER);
        collector.collect(&mut other, Time::NEVER);
        let series = collector.into_series();
        assert_eq!(series.intervals()[1].ttft_percentiles, Some([7, 7, 7]));
    }
}
