//! The run over time, in equal intervals.

use crate::kernel::time::{Span, Time};

/// What happened in one interval. Gauges are summed over the workers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Interval {
    /// Requests that reached the front end.
    pub arrived: u64,
    /// Requests that completed.
    pub completed: u64,
    /// Requests that were turned away because as many waited as may.
    pub queue_full: u64,
    /// Requests that were turned away because they had waited too long.
    pub expired: u64,
    /// Tokens that came out.
    pub output_tokens: u64,
    /// Prompt tokens that passes computed; counted when the pass starts.
    pub prefill_tokens: u64,
    /// TTFTs of the first tokens that came out, ns. Replaced by their percentiles when the interval is over.
    pub ttft: Vec<u64>,
    /// p50, p90 and p99 of these, ns.
    pub ttft_percentiles: Option<[u64; 3]>,
    /// Requests waiting in the workers, at the end of the interval.
    pub waiting: u64,
    /// Requests running, at the end of the interval.
    pub running: u64,
    /// KV blocks pinned, at the end of the interval.
    pub pinned_blocks: u64,
    /// Requests waiting in the router, at the end of the interval.
    pub queued: u64,
    /// The most requests that one worker had, waiting and running, at the end of the interval.
    pub load_max: u64,
    /// The squares of the requests that each worker had, summed. A sum of squares is at most the square of the sum, and
    /// fewer than 2^32 requests fit into memory.
    pub load_squares: u64,
}

impl Interval {
    /// Counts what one worker holds at the end of the interval. Called once for every worker that holds anything.
    pub fn add_worker(&mut self, waiting: u64, running: u64, pinned_blocks: u64) {
        let load = waiting + running;
        self.waiting += waiting;
        self.running += running;
        self.pinned_blocks += pinned_blocks;
        self.load_max = self.load_max.max(load);
        self.load_squares += load * load;
    }

    /// How unevenly the requests lie on `workers` workers; not at all on none.
    pub fn spread(&self, workers: u32) -> LoadSpread {
        if workers == 0 {
            return LoadSpread::default();
        }
        let (workers, load) = (f64::from(workers), (self.waiting + self.running) as f64);
        // Integers up to 2^64: nothing cancels before the last step.
        let mean = load / workers;
        let variance = (self.load_squares as f64 / workers - mean * mean).max(0.0);
        LoadSpread { mean, max: self.load_max as f64, std: variance.sqrt() }
    }
}

/// Requests per worker, waiting and running, over all workers at one moment.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct LoadSpread {
    /// Arithmetic mean.
    pub mean: f64,
    /// The most.
    pub max: f64,
    /// Population standard deviation.
    pub std: f64,
}

impl Interval {
    /// Adds what another recorder saw of the same interval.
    pub fn add(&mut self, other: Interval) {
        // All fields by name, so that a new one cannot be forgotten.
        let Interval {
            arrived,
            completed,
            queue_full,
            expired,
            output_tokens,
            prefill_tokens,
            mut ttft,
            ttft_percentiles,
            waiting,
            running,
            pinned_blocks,
            queued,
            load_max,
            load_squares,
        } = other;
        self.arrived += arrived;
        self.completed += completed;
        self.queue_full += queue_full;
        self.expired += expired;
        self.output_tokens += output_tokens;
        self.prefill_tokens += prefill_tokens;
        if self.ttft.is_empty() {
            self.ttft = ttft;
        } else {
            self.ttft.append(&mut ttft);
        }
        self.ttft_percentiles = self.ttft_percentiles.or(ttft_percentiles);
        self.waiting += waiting;
        self.running += running;
        self.pinned_blocks += pinned_blocks;
        self.queued += queued;
        self.load_max = self.load_max.max(load_max);
        self.load_squares += load_squares;
    }

    /// Replaces the TTFTs, which are complete, by their percentiles.
    pub(super) fn settle(&mut self) {
        let mut ttft = std::mem::take(&mut self.ttft);
        ttft.sort_unstable();
        if let Some(last) = ttft.len().checked_sub(1) {
            let at = |p: usize| ttft[(last * p + 50) / 100];
            self.ttft_percentiles = Some([at(50), at(90), at(99)]);
        }
    }
}

/// Intervals of a run: all of them, or those that a recorder has not handed over yet.
#[derive(Clone, Debug)]
pub struct Series {
    length: Span,
    /// The intervals held, and the number of the first.
    intervals: Vec<Interval>,
    first: usize,
    /// Intervals before this one have been over at a hand-over.
    over: usize,
    /// When the next hand-over is due: the end of the first interval held, or of the first that was not over.
    due: Time,
    /// The interval of the last access and where it ends: most accesses come close together.
    recent: usize,
    recent_start: Time,
    recent_end: Time,
}

impl Series {
    /// An empty series with intervals of this length, which is above zero.
    pub fn new(length: Span) -> Series {
        assert!(length > Span::ZERO, "an interval without length");
        let end = Time::ZERO + length;
        Series {
            length,
            intervals: Vec::new(),
            first: 0,
            over: 0,
            due: end,
            recent: 0,
            recent_start: Time::ZERO,
            recent_end: end,
        }
    }

    /// How long an interval is.
    pub fn length(&self) -> Span {
        self.length
    }

    /// The intervals so far; from the first one of the run on, unless some have been handed over.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// The interval that contains `time`.
    pub fn at(&mut self, time: Time) -> &mut Interval {
        if time < self.recent_start || time >= self.recent_end {
            self.recent_end = self.end_of(time);
            self.recent = self.number_of(time);
            self.recent_start = Time::from_ns(self.recent as u64 * self.length.as_ns());
        }
        // Below the first one, the difference is larger than any length.
        if self.recent.wrapping_sub(self.first) >= self.intervals.len() {
            self.extend(self.recent);
        }
        &mut self.intervals[self.recent - self.first]
    }

    /// Makes room for an interval that is not held.
    #[cold]
    fn extend(&mut self, number: usize) {
        if number >= self.first {
            self.intervals.resize_with(number - self.first + 1, Interval::default);
            return;
        }
        // It was handed over before, or could have been.
        let missing = if self.intervals.is_empty() { 1 } else { self.first - number };
        self.intervals.splice(0..0, std::iter::repeat_with(Interval::default).take(missing));
        self.first = number;
        self.due = self.due.min(self.end_of_number(number));
    }

    /// Whether anything is to be handed over once everything before `done` has been handled.
    pub fn is_due(&self, done: Time) -> bool {
        self.due <= done
    }

    /// Takes out what is held of the intervals that are over at `done`, each with its number.
    ///
    /// What is recorded later for an interval that is over (a decode run is entered when it has ended) is handed over the
    /// next time, so an interval can come more than once. Its TTFTs are complete the first time, because first tokens are
    /// recorded before they come out.
    pub fn take_before(&mut self, done: Time) -> Vec<(usize, Interval)> {
        let over = self.number_of(done);
        let count = over.saturating_sub(self.first).min(self.intervals.len());
        let taken = (self.first..).zip(self.intervals.drain(..count)).collect();
        self.first += count;
        self.over = self.over.max(over);
        if self.intervals.is_empty() {
            self.first = self.first.max(self.over);
        }
        self.due = self.end_of_number(self.first.min(self.over));
        taken
    }

    /// The number of the first interval that was not over at any hand-over.
    pub(super) fn over(&self) -> usize {
        self.over
    }

    /// Adds what somebody else has recorded of the interval with this number.
    pub fn absorb(&mut self, number: usize, interval: Interval) {
        if number.wrapping_sub(self.first) >= self.intervals.len() {
            self.extend(number);
        }
        self.intervals[number - self.first].add(interval);
    }

    /// The intervals with these numbers, as far as they are held.
    pub(super) fn between(&mut self, from: usize, until: usize) -> &mut [Interval] {
        let position = |number: usize| number.saturating_sub(self.first).min(self.intervals.len());
        let (from, until) = (position(from), position(until));
        &mut self.intervals[from..until.max(from)]
    }

    /// Enters a state that lasted from `start` to `end` into every interval that ended in between, or just at `end`;
    /// `enter` is told when that was.
    pub fn sample(&mut self, start: Time, end: Time, mut enter: impl FnMut(Time, &mut Interval)) {
        let mut boundary = self.end_of(start);
        while boundary <= end {
            enter(boundary, self.at(boundary.before()));
            boundary += self.length;
        }
    }

    /// Whether two times are in one interval.
    pub fn is_within(&self, start: Time, end: Time) -> bool {
        end < self.end_of(start)
    }

    fn number_of(&self, time: Time) -> usize {
        (time.as_ns() / self.length.as_ns()) as usize
    }

    fn end_of(&self, time: Time) -> Time {
        let length = self.length.as_ns();
        Time::from_ns((time.as_ns() / length + 1) * length)
    }

    /// When an interval ends; never, for the number of [`Time::NEVER`].
    fn end_of_number(&self, number: usize) -> Time {
        Time::from_ns((number as u64).saturating_add(1).saturating_mul(self.length.as_ns()))
    }

    /// Counts `requests` tokens at the end of each of these consecutive passes (whole ns), which take `total` together.
    pub fn add_tokens(&mut self, start: Time, durations: &[f64], total: Span, requests: u64) {
        let (mut time, mut left) = (start, durations);
        while self.end_of(time) <= start + total {
            let boundary = self.end_of(time);
            let before = left.iter().take_while(|&&duration| {
                let ends_before = time + Span::from_ns(duration as u64) < boundary;
                if ends_before {
                    time += Span::from_ns(duration as u64);
                }
                ends_before
            });
            let passes = before.count();
            self.at(boundary.before()).output_tokens += requests * passes as u64;
            let Some(&crossing) = left.get(passes) else { return };
            time += Span::from_ns(crossing as u64);
            self.at(time).output_tokens += requests;
            left = &left[passes + 1..];
        }
        self.at(time).output_tokens += requests * left.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_fall_into_the_interval_in_which_they_come_out() {
        let mut series = Series::new(Span::from_ns(10));
        series.add_tokens(Time::from_ns(5), &[3.0, 3.0, 3.0, 12.0], Span::from_ns(21), 2);
        let tokens: Vec<u64> =
            series.intervals().iter().map(|interval| interval.output_tokens).collect();
        assert_eq!(tokens, [2, 4, 2], "at 8, 11, 14 and 26");
    }

    #[test]
    fn the_spread_of_the_load_is_over_all_workers() {
        let mut interval = Interval::default();
        assert_eq!(interval.spread(4), LoadSpread::default());
        interval.add_worker(1, 4, 7);
        interval.add_worker(0, 3, 2);
        assert_eq!((interval.waiting, interval.running, interval.pinned_blocks), (1, 7, 9));
        // 5, 3, 0 and 0: the idle count.
        let LoadSpread { mean, max, std } = interval.spread(4);
        assert_eq!((mean, max), (2.0, 5.0));
        assert!((std - 4.5_f64.sqrt()).abs() < 1e-12, "{std}");
    }

    #[test]
    fn a_hand_over_moves_out_what_is_over() {
        let mut series = Series::new(Span::from_ns(10));
        let taken = |series: &mut Series, done| -> Vec<(usize, u64)> {
            let taken = series.take_before(Time::from_ns(done));
            taken.into_iter().map(|(number, interval)| (number, interval.arrived)).collect()
        };
        for ns in [3, 13, 14, 25] {
            series.at(Time::from_ns(ns)).arrived += 1;
        }
        assert!(!series.is_due(Time::from_ns(9)) && series.is_due(Time::from_ns(10)));
        assert_eq!(taken(&mut series, 9), []);
        assert_eq!(taken(&mut series, 20), [(0, 1), (1, 2)]);
        assert!(!series.is_due(Time::from_ns(29)));
        series.at(Time::from_ns(7)).arrived += 5;
        assert!(series.is_due(Time::from_ns(20)), "a late entry");
        assert_eq!(taken(&mut series, 20), [(0, 5), (1, 0)]);
        assert_eq!(taken(&mut series, u64::MAX), [(2, 1)]);
        series.at(Time::from_ns(55)).arrived += 1;
        assert_eq!(series.intervals().len(), 1, "no more than what is new");
    }

    #[test]
    fn a_series_without_entries_does_not_grow() {
        let mut series = Series::new(Span::from_ns(10));
        for done in (0..100_000).step_by(5) {
            assert_eq!(series.is_due(Time::from_ns(done)), done > 0 && done % 10 == 0);
            if series.is_due(Time::from_ns(done)) {
                assert!(series.take_before(Time::from_ns(done)).is_empty());
            }
        }
        series.at(Time::from_ns(99_999)).arrived += 1;
        assert!(series.intervals().len() <= 2);
    }
}
