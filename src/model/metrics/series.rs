//! The run over time, in equal intervals.

use crate::kernel::time::{Span, Time};

/// What happened in one interval. Gauges are summed over the workers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Interval {
    /// Requests that reached the front end.
    pub arrived: u64,
    /// Requests that completed.
    pub completed: u64,
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

    /// How unevenly the requests lie on `workers` workers.
    pub fn spread(&self, workers: u32) -> LoadSpread {
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

/// All intervals of a run.
#[derive(Clone, Debug)]
pub struct Series {
    length: Span,
    intervals: Vec<Interval>,
    /// Intervals before this one are over.
    settled: usize,
    /// The interval of the last access and where it ends: most accesses come close together.
    recent: usize,
    recent_start: Time,
    recent_end: Time,
}

impl Series {
    /// An empty series with intervals of this length, which is above zero.
    pub fn new(length: Span) -> Series {
        assert!(length > Span::ZERO, "an interval without length");
        let recent_end = Time::ZERO + length;
        Series {
            length,
            intervals: Vec::new(),
            settled: 0,
            recent: 0,
            recent_start: Time::ZERO,
            recent_end,
        }
    }

    /// How long an interval is.
    pub fn length(&self) -> Span {
        self.length
    }

    /// The intervals so far.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// The interval that contains `time`.
    pub fn at(&mut self, time: Time) -> &mut Interval {
        if time < self.recent_start || time >= self.recent_end {
            self.recent_end = self.end_of(time);
            self.recent = (time.as_ns() / self.length.as_ns()) as usize;
            self.recent_start = Time::from_ns(self.recent as u64 * self.length.as_ns());
        }
        if self.recent >= self.intervals.len() {
            self.intervals.resize_with(self.recent + 1, Interval::default);
        }
        &mut self.intervals[self.recent]
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

    fn end_of(&self, time: Time) -> Time {
        let length = self.length.as_ns();
        Time::from_ns((time.as_ns() / length + 1) * length)
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

    /// Everything before `now` has been recorded: turns the TTFTs of finished intervals into percentiles.
    pub fn settle(&mut self, now: Time) {
        let over = ((now.as_ns() / self.length.as_ns()) as usize).min(self.intervals.len());
        for interval in &mut self.intervals[self.settled.min(over)..over] {
            let mut ttft = std::mem::take(&mut interval.ttft);
            ttft.sort_unstable();
            if let Some(last) = ttft.len().checked_sub(1) {
                let at = |p: usize| ttft[(last * p + 50) / 100];
                interval.ttft_percentiles = Some([at(50), at(90), at(99)]);
            }
        }
        self.settled = self.settled.max(over);
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
    fn settled_intervals_keep_percentiles_only() {
        let mut series = Series::new(Span::from_ns(10));
        for ttft in (0..=100).rev() {
            series.at(Time::from_ns(3)).ttft.push(ttft);
        }
        series.at(Time::from_ns(13)).ttft.push(7);
        series.settle(Time::from_ns(12));
        let [first, second] = series.intervals() else { panic!() };
        assert_eq!((first.ttft.len(), first.ttft_percentiles), (0, Some([50, 90, 99])));
        assert_eq!((second.ttft.len(), second.ttft_percentiles), (1, None));
    }
}
