//! One inference engine: a scheduler, a KV pool, and forward passes back to back.
//!
//! The owner calls [`Engine::arrive`] when a request comes in and [`Engine::step`] at the time that either call returned
//! last. Everything about a pass is decided when it starts, so its outcome ([`Outcome`]) is known to the owner
//! before the pass ends, and nothing that arrives during the pass can change it.
//!
//! ```text
//!             arrive                  step                         step, at the end of the pass
//!   [idle] ----------> [due, now] ----------> [pass or decode run] -----------------------------> ...
//!                                                     |  arrive, during a decode run: the run is cut
//!                                                     +--> at the end of the pass in flight
//! ```
//!
//! While nothing can join or leave the batch, the next passes are fully determined: they are done as one *decode run*
//! (`decode_run.rs`), which gives exactly what the passes would give one by one.

mod batch;
mod config;
mod decode_run;
mod sequence;
mod vllm;

pub use config::{AdmissionRoom, DecodeKv, EngineConfig, EngineShape, FirstToken, PreemptionMode};

use std::collections::VecDeque;
use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;

use crate::kernel::time::{Span, Time};
use crate::model::engine::batch::{DecodeBatch, Member};
use crate::model::engine::decode_run::{KeptRun, Run};
use crate::model::engine::sequence::{Sequence, State};
use crate::model::engine::vllm::Pass;
use crate::model::kv::{CacheChanges, KvPool};
use crate::model::metrics::{Recorder, Status, Work};
use crate::model::planner::{PassLoad, Traffic, WorkerLoad};
use crate::model::request::{Mention, Mentions, Request, WorkerId};
use crate::model::timing::{DecodeLoad, TimedPass};

/// What one pass means to the outside; known when it starts, true when it ends.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Outcome {
    /// When the pass ends.
    pub end: Time,
    /// Requests whose first token comes out.
    pub prefilled: Mentions,
    /// Requests that end with it.
    pub finished: Mentions,
    /// Requests that ended when the pass was composed, without having taken part in one.
    pub refused: Mentions,
    /// Changes of the prefix cache, in order; only if the engine was built to tell.
    pub changes: CacheChanges,
    /// What the requests above add up to, for the Planner.
    pub traffic: Traffic,
    /// What the pass does; only if the engine is to tell ([`Engine::tell_passes`]).
    pub pass: Option<PassLoad>,
}

/// Where a step of an engine leaves its marks.
#[derive(Debug)]
pub struct Effects<'a> {
    /// The measurements.
    pub recorder: &'a mut Recorder,
    /// What the pass that it starts means to the outside, empty until then. Stays so at the start of a decode run.
    pub outcome: &'a mut Outcome,
}

/// What an engine is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Activity {
    Idle,
    /// A pass is in flight, or due now.
    Pass,
    /// This many decode passes have been started and recorded by nobody yet.
    Run {
        start: Time,
        end: Time,
        passes: usize,
    },
}

/// What the time series is told about a pass when it has ended.
#[derive(Clone, Copy, Debug)]
struct Gauges {
    start: Time,
    end: Time,
    running: usize,
    pinned_blocks: u32,
}

/// One inference engine.
///
/// In the order in which a step looks at them: in a large fleet an engine is found cold, one line of memory after the other,
/// and what only admissions need comes last.
#[repr(C)]
#[derive(Debug)]
pub struct Engine {
    activity: Activity,
    /// What is known of the run that lasts.
    run: Option<Run>,
    /// The running sequence with prompt left to compute. There is at most one, and it is the last: an incomplete prompt
    /// has used up the budget, so nobody was admitted after it.
    prefilling: Option<u32>,
    waiting: VecDeque<u32>,
    /// How many running sequences the token budget did not reach in the last pass.
    stalled: u32,
    /// The head of the waiting queue cannot be admitted before some running sequence ends.
    blocked: bool,
    /// Whether every pass is told, which rules out decode runs.
    tells_passes: bool,
    work: Work,
    batch: DecodeBatch,
    /// The passes of the run, if they are kept.
    kept: Option<Box<KeptRun>>,
    shape: Arc<EngineShape>,
    /// Admitted sequences, in order of admission.
    running: SmallVec<[u32; 4]>,
    /// Sequences with exactly one token, by slot and admission.
    one_token: SmallVec<[(u32, u64); 1]>,
    pool: KvPool,
    /// The state during the pass in flight.
    gauges: Option<Gauges>,
    sequences: Slab<Sequence>,
    /// Tokens of those that wait: without any output so far, and with some.
    queued_tokens: [u64; 2],
    admissions: u64,
    id: WorkerId,
}

impl Engine {
    /// An idle engine with an empty cache. With `notify` its outcomes tell the changes of the cache.
    pub fn new(id: WorkerId, shape: Arc<EngineShape>, notify: bool) -> Engine {
        let EngineConfig { layout, num_gpu_blocks, enable_prefix_caching, .. } = shape.config;
        let keeps_runs = shape.keeps_runs;
        Engine {
            id,
            pool: KvPool::new(layout, num_gpu_blocks, enable_prefix_caching, notify),
            batch: DecodeBatch::new(layout.block_size),
            shape,
            sequences: Slab::new(),
            waiting: VecDeque::new(),
            queued_tokens: [0; 2],
            running: SmallVec::new(),
            prefilling: None,
            stalled: 0,
            blocked: false,
            admissions: 0,
            one_token: SmallVec::new(),
            activity: Activity::Idle,
            run: None,
            kept: keeps_runs.then(Box::default),
            gauges: None,
            tells_passes: false,
            work: Work::default(),
        }
    }

    /// From now on every pass has an outcome, and [`Outcome::pass`]. Changes nothing else.
    pub fn tell_passes(&mut self) {
        self.tells_passes = true;
    }

    /// Takes in a request. Says when to call [`Engine::step`], if that has changed.
    pub fn arrive(&mut self, now: Time, request: Request, recorder: &Recorder) -> Option<Time> {
        let output_limit =
            self.shape.config.output_limit(request.prompt.tokens, request.output_tokens);
        let slot = self.sequences.insert(Sequence::new(request, now, output_limit)) as u32;
        let joins_next_pass = self.waiting.is_empty();
        self.waiting.push_back(slot);
        self.queue_tokens(slot, true);
        if joins_next_pass {
            self.blocked = self.running.len() >= self.shape.config.max_num_seqs as usize;
        }
        match self.activity {
            Activity::Idle => {
                self.activity = Activity::Pass;
                Some(now)
            }
            Activity::Run { start, end, passes } if joins_next_pass && !self.blocked => {
                let (passes, end) = self.cut((start, end), passes, now, recorder);
                self.activity = Activity::Run { start, end, passes };
                Some(end)
            }
            Activity::Pass | Activity::Run { .. } => None,
        }
    }

    /// Ends what is in flight and starts what follows. Says when to call again; never, while the engine is idle.
    pub fn step(&mut self, now: Time, mut effects: Effects<'_>) -> Option<Time> {
        if let Activity::Run { start, end, passes } = self.activity {
            self.finish_run((start, end), passes, effects.recorder);
        }
        if let Some(gauges) = self.gauges.take() {
            let Gauges { start, end, running, pinned_blocks } = gauges;
            self.sample((start, end), running, |_| pinned_blocks, effects.recorder);
        }
        if let Some(end) = self.start_run(now, effects.recorder) {
            return Some(end);
        }
        let end = self.start_pass(now, &mut effects);
        self.activity = if end.is_some() { Activity::Pass } else { Activity::Idle };
        end
    }

    /// Whether it holds no request.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Requests waiting for admission.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests in the batch.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// What it has to do: after the pass or before the decode run that the last step started, not counting who arrived
    /// since.
    pub fn load(&self) -> WorkerLoad {
        let [queued_prefill_tokens, queued_kv_tokens] = self.queued_tokens;
        WorkerLoad {
            running: self.running.len() as u32,
            queued: self.waiting.len() as u32,
            queued_prefill_tokens,
            scheduled_kv_tokens: self.batch.context_tokens(),
            queued_kv_tokens,
        }
    }

    /// Empties the prefix cache, as the end of the process does; says how it has changed, if the engine was built to tell.
    ///
    /// # Panics
    /// If there are requests left.
    pub fn clear_cache(&mut self) -> CacheChanges {
        assert!(self.is_empty(), "{} ends with requests", self.id);
        self.pool.clear();
        let mut changes = CacheChanges::new();
        self.pool.drain_changes(&mut changes);
        changes
    }

    /// What it has done so far.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// The KV pool.
    pub fn pool(&self) -> &KvPool {
        &self.pool
    }

    /// Composes, times and completes one pass; nothing when there is no work.
    fn start_pass(&mut self, now: Time, effects: &mut Effects<'_>) -> Option<Time> {
        let mut pass = Pass::default();
        self.schedule(&mut pass, now, effects);
        let end = (self.batch.size() > 0 || pass.computed > 0).then(|| {
            // A pass that only computes output again has no part that the timing model prices.
            let decode = self.decode_load(&pass);
            let TimedPass { duration, is_extrapolated } =
                self.shape.timer.timed_pass(pass.prefill, decode);
            let duration = duration.max(self.shape.shortest_pass);
            let end = now + duration;
            if is_extrapolated {
                self.work.extrapolated_passes += 1;
                self.work.extrapolated_ns += u128::from(duration.as_ns());
            }
            let (running, pinned_blocks) = (self.running.len(), self.pool.pinned());
            self.gauges = Some(Gauges { start: now, end, running, pinned_blocks });
            effects.outcome.pass = self.tells_passes.then(|| pass.load(decode));
            self.complete_pass(&pass, now, end, effects);
            end
        });
        effects.outcome.end = end.unwrap_or(now);
        self.pool.drain_changes(&mut effects.outcome.changes);
        end
    }

    fn decode_load(&self, pass: &Pass) -> DecodeLoad {
        let mut load =
            DecodeLoad { requests: self.batch.size(), kv_tokens: self.batch.context_tokens() };
        for &(slot, _) in &pass.completing {
            let sequence = &self.sequences[slot as usize];
            let first = sequence.generated == 0;
            if sequence.output_limit > 0
                && (!first || self.shape.config.first_token == FirstToken::Decode)
            {
                load.requests += 1;
                load.kv_tokens += u64::from(sequence.known());
            }
        }
        if self.shape.config.decode_kv == DecodeKv::Resident {
            load.kv_tokens = self.resident_tokens(0);
        }
        load
    }

    fn resident_tokens(&self, more_blocks: u32) -> u64 {
        u64::from(self.pool.pinned() + more_blocks) * u64::from(self.shape.config.layout.block_size)
    }

    /// Hands out the tokens of a pass, and ends who has got them all.
    fn complete_pass(&mut self, pass: &Pass, now: Time, end: Time, effects: &mut Effects<'_>) {
        self.account(1, end.since(now));
        self.work.output_tokens += u64::from(self.batch.size());
        if pass.computed > 0 {
            self.work.prefill_tokens += pass.computed;
            effects.recorder.series.at(now).prefill_tokens += pass.computed;
        }
        let regular = self.batch.size() - pass.rejoined.len() as u32;
        if regular > 0 {
            effects.recorder.decode_pass(end, end.since(now), regular);
        }
        for &(_, last_token) in &pass.rejoined {
            effects.recorder.token(end, end.since(last_token));
        }
        self.batch.advance(1);
        self.second_tokens(end);
        while let Some(slot) = self.batch.pop_finished() {
            self.leave_batch(slot);
            self.finish(slot, Status::Completed, end, effects);
        }
        for &(slot, _) in &pass.completing {
            self.complete_prompt(slot, end, effects);
        }
    }

    /// All known tokens of a sequence have been computed: it gets its next one, and decodes from now on.
    fn complete_prompt(&mut self, slot: u32, end: Time, effects: &mut Effects<'_>) {
        let sequence = &mut self.sequences[slot as usize];
        if sequence.output_limit > 0 {
            self.work.output_tokens += 1;
            sequence.generated += 1;
            sequence.gave_way = 0;
            match sequence.generated {
                1 => {
                    sequence.first_token = Some(end);
                    effects.outcome.traffic.add_first_token(
                        sequence.request.prompt.tokens,
                        sequence.first_reused,
                        end.since(sequence.request.arrival),
                    );
                    effects.recorder.first_token(end, end.since(sequence.request.arrival));
                    effects.outcome.prefilled.push(sequence.request.mention());
                    self.one_token.push((slot, sequence.admission));
                }
                generated => {
                    if generated == 2 {
                        sequence.second_token = Some(end);
                    }
                    effects.recorder.token(end, end.since(sequence.last_token));
                }
            }
            sequence.last_token = end;
        }
        if sequence.generated >= sequence.output_limit {
            self.finish(slot, Status::Completed, end, effects);
        } else {
            self.join_batch(slot);
        }
    }

    /// Sequences with one token got their second one at `end`, unless they were left out.
    fn second_tokens(&mut self, end: Time) {
        let (sequences, epoch) = (&mut self.sequences, self.batch.epoch());
        self.one_token.retain(|&mut (slot, admission)| {
            let Some(sequence) = sequences.get_mut(slot as usize) else {
                return false;
            };
            match sequence.state {
                _ if sequence.admission != admission => false,
                State::Decoding { joined } => {
                    if epoch > joined {
                        sequence.second_token = Some(end);
                    }
                    epoch <= joined
                }
                State::Stalled => true,
                State::Waiting | State::Prefilling => false,
            }
        });
    }

    fn join_batch(&mut self, slot: u32) {
        let joined = self.batch.epoch();
        self.sequences[slot as usize].state = State::Decoding { joined };
        self.batch.join(self.member(slot, joined));
    }

    /// Writes what a member did in the batch back to its sequence, before it is taken out.
    fn leave_batch(&mut self, slot: u32) -> Member {
        let State::Decoding { joined } = self.sequences[slot as usize].state else {
            unreachable!("only members leave the batch")
        };
        let member = self.member(slot, joined);
        self.batch.forget(member);
        let sequence = &mut self.sequences[slot as usize];
        let passes = (self.batch.epoch() - joined) as u32;
        sequence.computed += passes;
        sequence.generated += passes;
        let blocks = self.shape.config.layout.blocks(sequence.computed);
        self.pool.settle(blocks, &mut sequence.holding);
        sequence.state = State::Stalled;
        member
    }

    fn member(&self, slot: u32, joined: u64) -> Member {
        let sequence = &self.sequences[slot as usize];
        Member {
            slot,
            admission: sequence.admission,
            joined,
            computed: sequence.computed,
            known: sequence.known(),
            remaining: sequence.output_limit - sequence.generated,
        }
    }

    /// A running sequence ends.
    fn finish(&mut self, slot: u32, status: Status, end: Time, effects: &mut Effects<'_>) {
        let index = self.running_index(slot);
        self.running.remove(index);
        self.blocked = false;
        let sequence = &mut self.sequences[slot as usize];
        sequence.stop_running(end);
        let decoding = sequence.first_token.map_or(Span::ZERO, |first| end.since(first));
        effects.outcome.traffic.add_completed(sequence.generated, decoding);
        self.pool.release(sequence.computed, None, &mut sequence.holding);
        let has_failed = status != Status::Completed;
        effects.outcome.finished.push(Mention { has_failed, ..sequence.request.mention() });
        self.close(slot, status, end, effects);
    }

    /// A sequence joins the waiting queue, or leaves it.
    fn queue_tokens(&mut self, slot: u32, joins: bool) {
        let sequence = &self.sequences[slot as usize];
        let tokens = u64::from(sequence.known());
        let sum = &mut self.queued_tokens[usize::from(sequence.generated > 0)];
        if joins { *sum += tokens } else { *sum -= tokens }
    }

    fn close(&mut self, slot: u32, status: Status, end: Time, effects: &mut Effects<'_>) {
        self.work.requests += 1;
        let sequence = self.sequences.remove(slot as usize);
        effects.recorder.close(sequence.row(self.id, status, end));
    }

    /// The running sequences took part in `passes` passes of this total length.
    fn account(&mut self, passes: u64, duration: Span) {
        self.work.passes += passes;
        let ns = u128::from(duration.as_ns());
        self.work.busy_ns += ns;
        self.work.running_ns += self.running.len() as u128 * ns;
        self.work.pinned_blocks_max = self.work.pinned_blocks_max.max(self.pool.pinned());
    }

    fn running_index(&self, slot: u32) -> usize {
        let admission = |&slot: &u32| self.sequences[slot as usize].admission;
        let index = self.running.binary_search_by_key(&admission(&slot), admission);
        index.expect("the sequence runs")
    }

    /// Enters the state of the engine from `start` to `end` into the time series, now that everybody who came in the
    /// meantime is known: they all still wait. `pinned_blocks` is asked about one time after the other.
    fn sample(
        &self,
        (start, end): (Time, Time),
        running: usize,
        mut pinned_blocks: impl FnMut(Time) -> u32,
        recorder: &mut Recorder,
    ) {
        recorder.series.sample(start, end, |time, interval| {
            // In order of arrival, but for those at the head that have been admitted before.
            let waiting =
                self.waiting.partition_point(|&slot| self.sequences[slot as usize].arrived < time);
            interval.add_worker(waiting as u64, running as u64, u64::from(pinned_blocks(time)));
        });
    }
}
