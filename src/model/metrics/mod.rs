//! What a run measures.
//!
//! A [`Recorder`] takes what engines and the coordinator observe. Everything in it is a count, a sum of integers or a
//! list that is sorted later, so the order of recording does not show in the result.

mod class;
mod collector;
mod digest;
mod distribution;
mod row;
mod series;
mod slo;
#[cfg(test)]
mod tests;
mod totals;

pub use class::ClassFigures;
pub use collector::Collector;
pub use digest::RowDigest;
pub use distribution::{Distribution, Summary};
pub use row::{Row, Status};
pub use series::{Interval, LoadSpread, Series};
pub use slo::Slo;
pub use totals::Totals;

use crate::kernel::time::{Span, Time};
use crate::model::class::{ClassId, ClassSpec};

/// What one engine did, counted pass by pass and not request by request: the other side of every check of the totals.
///
/// What changes with every pass comes first, in one line of memory.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Work {
    /// Time in passes, ns. Of many workers over months it is more than 64 bits hold.
    pub busy_ns: u128,
    /// Time in passes times requests running in them, ns.
    pub running_ns: u128,
    /// Forward passes.
    pub passes: u64,
    /// Tokens that came out.
    pub output_tokens: u64,
    /// Most blocks pinned at once.
    pub pinned_blocks_max: u32,
    /// Requests that ended here.
    pub requests: u64,
    /// Prompt tokens of the requests at their first admission.
    pub prompt_tokens: u64,
    /// How many of these came from the prefix cache.
    pub reused_tokens: u64,
    /// Tokens that passes computed as prompt, those computed again after a preemption included.
    pub prefill_tokens: u64,
    /// Sequences that lost their blocks and had to start over.
    pub preemptions: u64,
    /// Passes outside of what was measured, whose time had to be extrapolated; none with a formula for timing.
    pub extrapolated_passes: u64,
    /// Time in these passes, ns.
    pub extrapolated_ns: u128,
}

impl Work {
    /// Adds the work of another engine.
    pub fn add(&mut self, other: &Work) {
        self.requests += other.requests;
        self.passes += other.passes;
        self.busy_ns += other.busy_ns;
        self.output_tokens += other.output_tokens;
        self.prompt_tokens += other.prompt_tokens;
        self.reused_tokens += other.reused_tokens;
        self.prefill_tokens += other.prefill_tokens;
        self.preemptions += other.preemptions;
        self.running_ns += other.running_ns;
        self.pinned_blocks_max = self.pinned_blocks_max.max(other.pinned_blocks_max);
        self.extrapolated_passes += other.extrapolated_passes;
        self.extrapolated_ns += other.extrapolated_ns;
    }

    /// Share of the time in passes that was extrapolated, 0 to 1; absent if passes took no time.
    pub fn extrapolated_share(&self) -> Option<f64> {
        (self.busy_ns > 0).then(|| self.extrapolated_ns as f64 / self.busy_ns as f64)
    }
}

/// Consecutive decode passes of one batch.
#[derive(Clone, Copy, Debug)]
pub struct DecodeRun<'a> {
    /// How long each takes, in whole ns.
    pub durations: &'a [f64],
    /// How long they take together.
    pub total: Span,
    /// Whether the durations are known not to fall.
    pub is_rising: bool,
}

/// Takes the measurements of a run, or of one thread's share of it.
#[derive(Debug)]
pub struct Recorder {
    /// Time to first token, from arrival, ns.
    pub ttft: Distribution,
    /// Time from the first to the second token, ns.
    pub ttst: Distribution,
    /// Time per output token after the first, per request, ns.
    pub tpot: Distribution,
    /// Every single gap between tokens of one request, ns.
    pub itl: Distribution,
    /// Arrival to last token, ns.
    pub e2e: Distribution,
    /// Prompt lengths, in tokens.
    pub isl: Distribution,
    /// Output lengths, in tokens.
    pub osl: Distribution,
    /// What counts as good service.
    pub slo: Slo,
    /// Counts and sums.
    pub totals: Totals,
    /// The same by class; nothing where there are none.
    pub classes: Vec<ClassFigures>,
    /// The run over time. During a run, only what has not been handed over to its [`Collector`] yet.
    pub series: Series,
    /// When the first request arrived.
    pub first_arrival: Option<Time>,
    /// When the last request ended.
    pub last_end: Time,
    /// Requests that ended since the list was last drained; in no distribution before that.
    rows: Vec<Row>,
    /// A hash over the rows that were drained.
    pub digest: RowDigest,
    /// Which share of the workload has arrived, from 0 to 1, if its source can tell. For progress only.
    pub fraction: Option<f64>,
}

impl Recorder {
    /// An empty recorder; the time series has one entry per `interval`.
    pub fn new(interval: Span, slo: Slo) -> Recorder {
        Recorder {
            ttft: Distribution::new(),
            ttst: Distribution::new(),
            tpot: Distribution::new(),
            itl: Distribution::new(),
            e2e: Distribution::new(),
            isl: Distribution::new(),
            osl: Distribution::new(),
            slo,
            totals: Totals::default(),
            classes: Vec::new(),
            series: Series::new(interval),
            first_arrival: None,
            last_end: Time::ZERO,
            rows: Vec::new(),
            digest: RowDigest::default(),
            fraction: None,
        }
    }

    /// The same, also by class.
    #[must_use]
    pub fn with_classes(self, classes: &[ClassSpec]) -> Recorder {
        let classes = classes.iter().map(|class| ClassFigures::new(class.slo)).collect();
        Recorder { classes, ..self }
    }

    /// A request reached the front end.
    pub fn arrive(&mut self, time: Time, class: ClassId) {
        if let Some(figures) = self.classes.get_mut(class.index()) {
            figures.totals.arrived += 1;
        }
        self.first_arrival = Some(self.first_arrival.map_or(time, |first| first.min(time)));
        self.totals.arrived += 1;
        self.series.at(time).arrived += 1;
    }

    /// A request got its first token at `time`, `ttft` after its arrival.
    pub fn first_token(&mut self, time: Time, ttft: Span) {
        let interval = self.series.at(time);
        interval.output_tokens += 1;
        interval.ttft.push(ttft.as_ns());
    }

    /// A request got a token at `time`, `gap` after the one before.
    pub fn token(&mut self, time: Time, gap: Span) {
        self.itl.record(gap.as_ns(), 1);
        self.series.at(time).output_tokens += 1;
    }

    /// In a pass that took so long until `end`, each of `requests` requests got a token after a gap of the pass's length.
    pub fn decode_pass(&mut self, end: Time, duration: Span, requests: u32) {
        self.itl.record(duration.as_ns(), u64::from(requests));
        self.series.at(end).output_tokens += u64::from(requests);
    }

    /// In consecutive passes of these durations (whole ns), the first of which starts at `start`, each of `requests`
    /// requests got a token after a gap of the pass's length.
    pub fn decode_run(&mut self, start: Time, run: DecodeRun<'_>, requests: u32) {
        let requests = u64::from(requests);
        if run.is_rising {
            let times = self.itl.summarise(run.durations, run.total.as_ns());
            self.itl.add(&times, requests);
        } else {
            for &duration in run.durations {
                self.itl.record(duration as u64, requests);
            }
        }
        self.series.add_tokens(start, run.durations, run.total, requests);
    }

    /// The same for passes that have been summed up, in one interval of the time series, that of `end`.
    pub fn summed_run(&mut self, end: Time, times: &Summary, passes: u64, requests: u32) {
        self.itl.add(times, u64::from(requests));
        self.series.at(end).output_tokens += passes * u64::from(requests);
    }

    /// A request has ended.
    pub fn close(&mut self, row: Row) {
        self.last_end = self.last_end.max(row.end);
        self.totals.close(&row, &self.slo);
        match row.status {
            Status::Completed => self.series.at(row.end).completed += 1,
            Status::QueueFull => self.series.at(row.end).queue_full += 1,
            Status::Expired => self.series.at(row.end).expired += 1,
            // The series lasts as long as the run.
            Status::Rejected | Status::Aborted => _ = self.series.at(row.end),
        }
        self.rows.push(row);
    }

    /// Shows `take` the rows since the last time, after entering them into the digest and the distributions, and forgets
    /// them.
    ///
    /// A histogram is larger than what is near in a processor's cache. Going through all rows for one histogram after the
    /// other lets their memory accesses overlap.
    pub fn drain_rows<T>(&mut self, take: impl FnOnce(&[Row]) -> T) -> T {
        let rows = &self.rows;
        for row in rows {
            self.digest.add(row);
        }
        if !self.classes.is_empty() {
            for row in rows {
                self.classes[row.class.index()].add(row);
            }
        }
        let completed = || rows.iter().filter(|row| row.status == Status::Completed);
        self.isl.record_all(completed().map(|row| u64::from(row.prompt_tokens)));
        self.osl.record_all(completed().map(|row| u64::from(row.output_tokens)));
        self.e2e.record_all(completed().map(|row| row.e2e().as_ns()));
        self.ttft.record_all(completed().filter_map(Row::ttft).map(Span::as_ns));
        self.ttst.record_all(completed().filter_map(Row::ttst).map(Span::as_ns));
        self.tpot.record_all(completed().filter_map(Row::tpot).map(Span::as_ns));
        let taken = take(rows);
        self.rows.clear();
        taken
    }

    /// Adds what another recorder of the same run has seen: the result is that of one recorder for both.
    pub fn merge(&mut self, other: Recorder) {
        // All fields by name, so that a new one cannot be forgotten.
        let Recorder {
            ttft,
            ttst,
            tpot,
            itl,
            e2e,
            isl,
            osl,
            slo: _,
            totals,
            classes,
            mut series,
            first_arrival,
            last_end,
            mut rows,
            digest,
            fraction,
        } = other;
        self.ttft.merge(&ttft);
        self.ttst.merge(&ttst);
        self.tpot.merge(&tpot);
        self.itl.merge(&itl);
        self.e2e.merge(&e2e);
        self.isl.merge(&isl);
        self.osl.merge(&osl);
        self.totals.add(&totals);
        for (figures, others) in self.classes.iter_mut().zip(&classes) {
            figures.merge(others);
        }
        for (number, interval) in series.take_before(Time::NEVER) {
            self.series.absorb(number, interval);
        }
        self.first_arrival = self.first_arrival.into_iter().chain(first_arrival).min();
        self.last_end = self.last_end.max(last_end);
        self.rows.append(&mut rows);
        self.digest.merge(digest);
        self.fraction = self.fraction.or(fraction);
    }
}
