//! Decode runs: the passes until something can change, done in one go.
//!
//! A run starts when the batch only decodes, nobody who waits can be admitted, and no member finishes in the next pass.
//! It ends before the pass in which the first member finishes (that pass has an outcome to announce when it starts), or
//! where the pool would have to preempt, or at the end of the pass in flight when a request arrives that can join.
//! Blocks taken during a run come in the same order and number as pass by pass; nobody looks at the pool in between.

use crate::kernel::time::{Span, Time};
use crate::model::engine::{Activity, DecodeKv, Engine};
use crate::model::metrics::{DecodeRun, Recorder, Summary};
use crate::model::timing::DecodeLoad;

/// The longest run planned at once: bounds the work lost when an arrival cuts the run.
const PASSES_MAX: usize = 256;

/// Runs up to here are short.
const PASSES_FEW: usize = 32;

/// What is known of a run while it lasts.
#[derive(Debug)]
pub(super) struct Run {
    /// How long the first pass takes.
    first: Span,
    /// All passes summed up, if they are known not to fall, and not kept.
    times: Option<Summary>,
}

/// The passes of a run, kept until it ends: few engines do. Thousands with some kB each would be more than is near in a
/// processor's cache, and there it is cheaper to work durations out again where the sums do not suffice.
#[derive(Default, Debug)]
pub(super) struct KeptRun {
    /// In whole ns.
    durations: Vec<f64>,
    is_rising: bool,
}

/// What is left of a run that is cut.
struct Cut {
    passes: usize,
    total: Span,
    times: Option<Summary>,
}

impl Engine {
    /// Plans a run from `now` on, if one is possible; says when it ends.
    pub(super) fn start_run(&mut self, now: Time, recorder: &Recorder) -> Option<Time> {
        if self.tells_passes {
            return None;
        }
        let joinable = !self.waiting.is_empty() && !self.blocked;
        let batch = self.batch.size();
        let budget = self.shape.config.max_num_batched_tokens;
        if joinable || self.prefilling.is_some() || self.stalled > 0 || batch == 0 || batch > budget
        {
            return None;
        }
        let passes = (self.batch.passes_to_finish() - 1).min(PASSES_MAX as u64);
        // Whoever is told about evictions is told pass by pass.
        let blocks = if self.pool.notifies() { self.pool.free() } else { self.pool.available() };
        let passes = self.batch.passes_within(blocks, passes) as usize;
        if passes == 0 {
            return None;
        }
        if let Some(mut kept) = self.kept.take() {
            kept.durations.resize(passes, 0.0);
            kept.is_rising = self.fill_in(&mut kept.durations);
            self.kept = Some(kept);
        }
        let (run, total) = self.time_run(passes, |durations, is_rising| {
            let total = total(durations);
            let times = self.sum_up(durations, total, is_rising, recorder);
            (Run { first: Span::from_ns(durations[0] as u64), times }, total)
        });
        self.run = Some(run);
        let end = now + total;
        self.activity = Activity::Run { start: now, end, passes };
        Some(end)
    }

    /// Shows `look` the durations of the passes of a run, in whole ns, and whether they are known not to fall.
    fn time_run<T>(&self, passes: usize, look: impl FnOnce(&[f64], bool) -> T) -> T {
        if let Some(kept) = &self.kept {
            return look(&kept.durations[..passes], kept.is_rising);
        }
        // Clearing the memory for a long run costs more than timing a short one.
        let (mut short, mut long);
        let durations = if passes <= PASSES_FEW {
            short = [0.0; PASSES_FEW];
            &mut short[..passes]
        } else {
            long = [0.0; PASSES_MAX];
            &mut long[..passes]
        };
        let is_rising = self.fill_in(durations);
        look(durations, is_rising)
    }

    /// What a run comes to, if that can be told from sums alone and has to be.
    fn sum_up(
        &self,
        durations: &[f64],
        total: Span,
        is_rising: bool,
        recorder: &Recorder,
    ) -> Option<Summary> {
        let has_to_be = is_rising && self.kept.is_none();
        has_to_be.then(|| recorder.itl.summarise(durations, total.as_ns()))
    }

    /// Fills in the durations of the passes of a run. Says whether they are known not to fall.
    fn fill_in(&self, durations: &mut [f64]) -> bool {
        let (requests, passes) = (self.batch.size(), durations.len());
        match self.shape.config.decode_kv {
            DecodeKv::Context => {
                let load = DecodeLoad { requests, kv_tokens: self.batch.context_tokens() };
                self.shape.timer.decode_run(load, requests, durations)
            }
            DecodeKv::Resident => {
                // The load changes only in passes that take blocks.
                let (mut pass, mut blocks, mut is_rising) = (0, 0, true);
                while pass < passes {
                    blocks += self.batch.growth(pass as u64);
                    let end = self.batch.next_growth(pass as u64 + 1, passes as u64) as usize;
                    let load = DecodeLoad { requests, kv_tokens: self.resident_tokens(blocks) };
                    is_rising &= self.shape.timer.decode_run(load, 0, &mut durations[pass..end]);
                    pass = end;
                }
                is_rising
            }
        }
    }

    /// Shortens a run to the pass in flight at `now`: how many passes that leaves, and when they end.
    pub(super) fn cut(
        &mut self,
        (start, end): (Time, Time),
        passes: usize,
        now: Time,
        recorder: &Recorder,
    ) -> (usize, Time) {
        let age = now.since(start);
        // Passes take about the same time each, so it is known about how many are over.
        let over = passes as f64 * (age.as_secs() / end.since(start).as_secs());
        let guess = passes.min((over * 1.1) as usize + 2);
        let cut = self.cut_within(guess, age, recorder);
        let Some(cut) = cut.or_else(|| self.cut_within(passes, age, recorder)) else {
            return (passes, end);
        };
        if let Some(run) = &mut self.run {
            run.times = cut.times;
        }
        (cut.passes, start + cut.total)
    }

    /// The same for the pass in flight at this age of the run, if that is one of its first `passes`.
    fn cut_within(&self, passes: usize, age: Span, recorder: &Recorder) -> Option<Cut> {
        self.time_run(passes, |durations, is_rising| {
            let mut total = Span::ZERO;
            let ends_later = |&duration: &f64| {
                total += Span::from_ns(duration as u64);
                total >= age
            };
            let passes = durations.iter().position(ends_later)? + 1;
            let times = self.sum_up(&durations[..passes], total, is_rising, recorder);
            Some(Cut { passes, total, times })
        })
    }

    /// Accounts for a run that has ended.
    pub(super) fn finish_run(
        &mut self,
        (start, end): (Time, Time),
        passes: usize,
        recorder: &mut Recorder,
    ) {
        let total = end.since(start);
        let requests = self.batch.size();
        let Some(Run { first, times }) = self.run.take() else {
            unreachable!("a run that ends has been started")
        };
        let inside = self.passes_inside(passes);
        match times {
            Some(times) if inside == passes && recorder.series.is_within(start, end) => {
                recorder.summed_run(end, &times, passes as u64, requests);
            }
            _ => self.look_into_run((start, end), (passes, inside), recorder),
        }
        let blocks = self.batch.advance(passes as u64);
        self.pool.take_anonymous(blocks);
        self.account(passes as u64, total);
        self.work.output_tokens += u64::from(requests) * passes as u64;
        if !self.one_token.is_empty() {
            self.second_tokens(start + first);
        }
        self.activity = Activity::Pass;
    }

    /// Accounts for a run of which something has to be known pass by pass.
    fn look_into_run(
        &mut self,
        (start, end): (Time, Time),
        (passes, inside): (usize, usize),
        recorder: &mut Recorder,
    ) {
        let extrapolated = self.time_run(passes, |durations, is_rising| {
            let run = DecodeRun { durations, total: end.since(start), is_rising };
            recorder.decode_run(start, run, self.batch.size());
            self.sample_run((start, end), durations, recorder);
            total(&durations[inside..])
        });
        self.work.extrapolated_passes += (passes - inside) as u64;
        self.work.extrapolated_ns += u128::from(extrapolated.as_ns());
    }

    /// How many of the first passes of a run are inside of what was measured. Where all pinned blocks are read, the first
    /// pass stands for all of them.
    fn passes_inside(&self, passes: usize) -> usize {
        let requests = self.batch.size();
        let (kv_tokens, growth) = match self.shape.config.decode_kv {
            DecodeKv::Context => (self.batch.context_tokens(), requests),
            DecodeKv::Resident => (self.resident_tokens(self.batch.growth(0)), 0),
        };
        self.shape.timer.passes_inside(DecodeLoad { requests, kv_tokens }, growth, passes)
    }

    /// Enters the state during a run that has ended into the time series.
    fn sample_run(&self, (start, end): (Time, Time), durations: &[f64], recorder: &mut Recorder) {
        let (mut started, mut next_start, mut pinned) = (0, start, self.pool.pinned());
        let pinned_blocks = |time| {
            // A pass that starts when the interval ends belongs to the next one.
            while started < durations.len() && next_start < time {
                pinned += self.batch.growth(started as u64);
                next_start += Span::from_ns(durations[started] as u64);
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
