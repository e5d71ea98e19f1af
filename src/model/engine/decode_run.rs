//! Decode runs: the passes until something can change, done in one go.
//!
//! A run starts when the batch only decodes, nobody who waits can be admitted, and no member finishes in the next pass.
//! It ends before the pass in which the first member finishes (that pass has an outcome to announce when it starts), or
//! where the pool would have to preempt, or at the end of the pass in flight when a request arrives that can join.
//! Blocks taken during a run come in the same order and number as pass by pass; nobody looks at the pool in between.

use crate::kernel::time::{Span, Time};
use crate::model::engine::{Activity, DecodeKv, Engine};
use crate::model::metrics::{DecodeRun, Recorder};
use crate::model::timing::DecodeLoad;

/// The longest run planned at once: bounds the memory of a worker and the work lost when an arrival cuts the run.
const PASSES_MAX: u64 = 256;

impl Engine {
    /// Plans a run from `now` on, if one is possible; says when it ends.
    pub(super) fn start_run(&mut self, now: Time) -> Option<Time> {
        if self.tells_passes {
            return None;
        }
        let joinable = !self.waiting.is_empty() && !self.blocked;
        let batch = self.batch.size();
        let budget = self.config.max_num_batched_tokens;
        if joinable || self.prefilling.is_some() || self.stalled > 0 || batch == 0 || batch > budget
        {
            return None;
        }
        let passes = (self.batch.passes_to_finish() - 1).min(PASSES_MAX);
        // Whoever is told about evictions is told pass by pass.
        let blocks = if self.pool.notifies() { self.pool.free() } else { self.pool.available() };
        let passes = self.batch.passes_within(blocks, passes) as usize;
        if passes == 0 {
            return None;
        }
        self.time_run(passes);
        let end = now + total(&self.run[..passes]);
        self.activity = Activity::Run { start: now, end, passes };
        Some(end)
    }

    /// Fills in the durations of the next `passes` passes.
    fn time_run(&mut self, passes: usize) {
        if self.run.len() < passes {
            self.run.resize(PASSES_MAX as usize, 0.0);
        }
        let requests = self.batch.size();
        match self.config.decode_kv {
            DecodeKv::Context => {
                let load = DecodeLoad { requests, kv_tokens: self.batch.context_tokens() };
                self.run_is_rising = self.timer.decode_run(load, requests, &mut self.run[..passes]);
            }
            DecodeKv::Resident => {
                // The load changes only in passes that take blocks.
                self.run_is_rising = true;
                let (mut pass, mut blocks) = (0, 0);
                while pass < passes {
                    blocks += self.batch.growth(pass as u64);
                    let end = self.batch.next_growth(pass as u64 + 1, passes as u64) as usize;
                    let load = DecodeLoad { requests, kv_tokens: self.resident_tokens(blocks) };
                    let stretch = &mut self.run[pass..end];
                    self.run_is_rising &= self.timer.decode_run(load, 0, stretch);
                    pass = end;
                }
            }
        }
    }

    /// Shortens a run to the pass in flight at `now`: how many passes that leaves, and when they end.
    pub(super) fn cut(&self, start: Time, passes: usize, now: Time) -> (usize, Time) {
        let mut end = start;
        for (pass, &duration) in self.run[..passes].iter().enumerate() {
            end += Span::from_ns(duration as u64);
            if end >= now {
                return (pass + 1, end);
            }
        }
        (passes, end)
    }

    /// Accounts for a run that has ended.
    pub(super) fn finish_run(
        &mut self,
        (start, end): (Time, Time),
        passes: usize,
        recorder: &mut Recorder,
    ) {
        let (durations, total) = (&self.run[..passes], end.since(start));
        let requests = self.batch.size();
        let run = DecodeRun { durations, total, is_rising: self.run_is_rising };
        recorder.decode_run(start, run, requests);
        let first_end = start + Span::from_ns(durations[0] as u64);
        self.sample_run((start, end), passes, recorder);
        self.count_extrapolated(passes);
        let blocks = self.batch.advance(passes as u64);
        self.pool.take_anonymous(blocks);
        self.account(passes as u64, total);
        self.work.output_tokens += u64::from(requests) * passes as u64;
        if !self.one_token.is_empty() {
            self.second_tokens(first_end);
        }
        self.activity = Activity::Pass;
    }

    /// Counts the passes of a run outside of what was measured. Where all pinned blocks are read, the first pass stands for
    /// all of them.
    fn count_extrapolated(&mut self, passes: usize) {
        let requests = self.batch.size();
        let (kv_tokens, growth) = match self.config.decode_kv {
            DecodeKv::Context => (self.batch.context_tokens(), requests),
            DecodeKv::Resident => (self.resident_tokens(self.batch.growth(0)), 0),
        };
        let inside = self.timer.passes_inside(DecodeLoad { requests, kv_tokens }, growth, passes);
        if inside < passes {
            self.work.extrapolated_passes += (passes - inside) as u64;
            self.work.extrapolated_ns += total(&self.run[inside..passes]).as_ns();
        }
    }

    /// Enters the state during a run that has ended into the time series.
    fn sample_run(&self, (start, end): (Time, Time), passes: usize, recorder: &mut Recorder) {
        let (mut started, mut next_start, mut pinned) = (0, start, self.pool.pinned());
        let pinned_blocks = |time| {
            while started < passes && next_start <= time {
                pinned += self.batch.growth(started as u64);
                next_start += Span::from_ns(self.run[started] as u64);
                started += 1;
            }
            pinned
        };
        self.sample((start, end), self.running.len(), pinned_blocks, recorder);
    }
}

/// Adds up durations of whole ns, in lanes that compilers turn into vector instructions.
fn total(durations: &[f64]) -> Span {
    const EXACT: f64 = (1_u64 << 53) as f64;
    let (chunks, rest) = durations.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for chunk in chunks {
        for (sum, &duration) in sums.iter_mut().zip(chunk) {
            *sum += duration;
        }
    }
    let total = sums.iter().chain(rest).sum::<f64>();
    if total < EXACT {
        return Span::from_ns(total as u64);
    }
    // Passes of days: their sum needs more bits than a float has.
    Span::from_ns(durations.iter().map(|&duration| duration as u64).sum())
}
