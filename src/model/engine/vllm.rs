//! The vLLM scheduler: who takes part in a pass.
//!
//! Running sequences first, in order of admission, each with as many tokens as it lacks and the budget allows; then the
//! waiting queue, first come first served, as long as budget, blocks ([`AdmissionRoom`]) and `max_num_seqs` last. When a
//! running sequence needs a block and none is left, another one is preempted: it loses its blocks and goes back to the
//! head of the queue, to compute everything again.

use smallvec::SmallVec;

use crate::kernel::time::{Span, Time};
use crate::model::engine::sequence::State;
use crate::model::engine::{AdmissionRoom, Effects, Engine, PreemptionMode};
use crate::model::kv::Hit;
use crate::model::metrics::Status;
use crate::model::planner::PassLoad;
use crate::model::request::{Mention, Request};
use crate::model::timing::{DecodeLoad, PrefillLoad};

/// How often in a row a sequence gives way just before it would get a token, until others no longer give way to it. Two
/// prompts that do not fit together could otherwise keep each other from any token for ever.
const GIVES_WAY_MAX: u8 = 100;

/// A pass while it is composed.
#[derive(Default, Debug)]
pub(super) struct Pass {
    /// Tokens that still fit.
    budget: u32,
    pub(super) prefill: PrefillLoad,
    /// Tokens computed as prompt.
    pub(super) computed: u64,
    /// Sequences whose known tokens are all computed with this pass, and how many of them were before it.
    pub(super) completing: SmallVec<[(u32, u32); 4]>,
    /// Sequences that decode again after the budget had not reached them, and when they got their last token.
    pub(super) rejoined: SmallVec<[(u32, Time); 4]>,
    preempted: bool,
}

impl Pass {
    fn start(&mut self, budget: u32) {
        self.budget = budget;
        self.prefill = PrefillLoad::default();
        self.computed = 0;
        self.completing.clear();
        self.rejoined.clear();
        self.preempted = false;
    }

    /// What the Planner is told of it.
    pub(super) fn load(&self, decode: DecodeLoad) -> PassLoad {
        PassLoad {
            prefill_requests: self.prefill.requests,
            prefill_tokens: self.prefill.tokens - self.prefill.prefix_tokens,
            decode_requests: decode.requests,
            decode_kv_tokens: decode.kv_tokens,
        }
    }

    /// A sequence with a prompt of this length computes `tokens` tokens after the first `before`. Tokens it had
    /// generated before a preemption are computed again free of charge, as in the reference peer.
    fn add_prefill(&mut self, prompt: u32, before: u32, tokens: u32) {
        self.budget -= tokens;
        self.computed += u64::from(tokens);
        if before < prompt {
            self.prefill.requests += 1;
            self.prefill.tokens += u64::from((before + tokens).min(prompt));
            self.prefill.prefix_tokens += u64::from(before);
        }
    }

    /// A sequence that was to [complete](Self::completing) its known tokens does not take part after all.
    fn take_back(&mut self, slot: u32, prompt: u32, known: u32) {
        let at = self.completing.iter().position(|&(completing, _)| completing == slot);
        let (_, before) = self.completing.remove(at.expect("it completes its prompt"));
        self.budget += known - before;
        self.computed -= u64::from(known - before);
        if before < prompt {
            self.prefill.requests -= 1;
            self.prefill.tokens -= u64::from(prompt);
            self.prefill.prefix_tokens -= u64::from(before);
        }
    }
}

impl Engine {
    /// Composes a pass. Afterwards the members of the decode batch, and the pass's own lists, are who takes part.
    pub(super) fn schedule(&mut self, pass: &mut Pass, now: Time, effects: &mut Effects<'_>) {
        loop {
            pass.start(self.shape.config.max_num_batched_tokens);
            self.schedule_once(pass, now, effects);
            // A sequence that was alone and has preempted itself is dealt with by an empty pass.
            if !(pass.preempted && self.running.is_empty()) {
                return;
            }
        }
    }

    fn schedule_once(&mut self, pass: &mut Pass, now: Time, effects: &mut Effects<'_>) {
        if self.is_regular(pass) {
            let blocks = self.batch.growth(0);
            self.pool.take_anonymous(blocks);
            pass.budget -= self.batch.size();
            if let Some(slot) = self.prefilling {
                self.continue_prompt(slot, pass);
            }
        } else {
            self.schedule_one_by_one(pass, now);
        }
        if !pass.preempted {
            self.admit(pass, now, effects);
        }
    }

    /// Whether budget and blocks suffice for everybody who runs, so that nobody has to be looked at.
    fn is_regular(&self, pass: &Pass) -> bool {
        let decoding = self.batch.size();
        if self.stalled > 0 || decoding > pass.budget {
            return false;
        }
        let prompt =
            self.prefilling.map_or(0, |slot| self.blocks_needed(slot, pass.budget - decoding));
        self.batch.growth(0) + prompt <= self.pool.available()
    }

    /// How many tokens a running sequence outside the decode batch computes next.
    fn tokens_wanted(&self, slot: u32, budget: u32) -> u32 {
        let sequence = &self.sequences[slot as usize];
        (sequence.known() - sequence.computed).min(budget)
    }

    /// How many blocks it needs for that.
    fn blocks_needed(&self, slot: u32, budget: u32) -> u32 {
        let sequence = &self.sequences[slot as usize];
        let tokens = sequence.computed + self.tokens_wanted(slot, budget);
        self.shape.config.layout.blocks(tokens) - sequence.holding.blocks()
    }

    /// The next chunk of a prompt. Its blocks are available.
    fn continue_prompt(&mut self, slot: u32, pass: &mut Pass) {
        let tokens = self.tokens_wanted(slot, pass.budget);
        if tokens == 0 {
            return;
        }
        let blocks = self.blocks_needed(slot, pass.budget);
        let sequence = &mut self.sequences[slot as usize];
        self.pool.take(blocks, &mut sequence.holding);
        pass.add_prefill(sequence.request.prompt.tokens, sequence.computed, tokens);
        self.compute_prompt(slot, tokens, pass);
    }

    /// A sequence computes its next `tokens` known tokens in this pass; complete blocks become visible at once.
    fn compute_prompt(&mut self, slot: u32, tokens: u32, pass: &mut Pass) {
        let sequence = &mut self.sequences[slot as usize];
        let before = sequence.computed;
        sequence.computed += tokens;
        let Request { prompt, ticket, .. } = &sequence.request;
        let named = sequence.computed.min(prompt.shared_tokens);
        let end = self.shape.config.layout.full_blocks(named);
        self.pool.publish(prompt, *ticket, end, &mut sequence.holding);
        if sequence.computed == sequence.known() {
            self.prefilling = None;
            pass.completing.push((slot, before));
        } else {
            self.prefilling = Some(slot);
        }
    }

    /// Admits from the waiting queue.
    fn admit(&mut self, pass: &mut Pass, now: Time, effects: &mut Effects<'_>) {
        self.blocked = false;
        while !pass.preempted
            && let Some(&slot) = self.waiting.front()
        {
            if self.running.len() >= self.shape.config.max_num_seqs as usize {
                self.blocked = true;
                return;
            }
            if self.refuse(slot, now, effects) {
                continue;
            }
            let hit = self.look_up(slot);
            if self.complete_unserved(slot, hit, now, effects) {
                continue;
            }
            let sequence = &self.sequences[slot as usize];
            let cached = hit.blocks * self.shape.config.layout.block_size;
            let missing = sequence.known() - cached;
            let reserved = match self.shape.config.admission_room {
                AdmissionRoom::Prompt => sequence.known(),
                // What is cached has its blocks, so that it always fits.
                AdmissionRoom::Preempt if sequence.gave_way < GIVES_WAY_MAX => cached,
                AdmissionRoom::Chunk | AdmissionRoom::Preempt => cached + missing.min(pass.budget),
            };
            let needed = self.shape.config.layout.blocks(reserved) - hit.pinned;
            if needed > self.pool.available() {
                self.blocked = true;
                return;
            }
            let most = pass.budget.min(self.shape.config.max_whole_tokens);
            let whole = self.shape.config.enable_chunked_prefill || missing <= most;
            if pass.budget == 0 || !whole {
                // With no prompt in this pass, the budget will be the same until somebody ends.
                self.blocked = pass.computed == 0;
                return;
            }
            self.waiting.pop_front();
            self.queue_tokens(slot, false);
            self.start_prompt(slot, hit, now, pass);
        }
    }

    fn look_up(&mut self, slot: u32) -> Hit {
        if !self.shape.config.enable_prefix_caching {
            return Hit::default();
        }
        let sequence = &self.sequences[slot as usize];
        // The last token is always computed, because its output is the next token; without an output it need not be.
        let useful = sequence.known() - u32::from(sequence.output_limit > 0);
        let limit = self.shape.config.layout.full_blocks(useful);
        self.pool.lookup(&sequence.request.prompt, sequence.request.id.0, limit)
    }

    fn start_prompt(&mut self, slot: u32, hit: Hit, now: Time, pass: &mut Pass) {
        let sequence = &mut self.sequences[slot as usize];
        self.pool.pin(hit, &mut sequence.holding);
        let cached = hit.blocks * self.shape.config.layout.block_size;
        let tokens = (sequence.known() - cached).min(pass.budget);
        let blocks = self.shape.config.layout.blocks(cached + tokens) - hit.blocks;
        while blocks > self.pool.available() {
            self.preempt(self.victim(), true, pass, now);
        }
        let sequence = &mut self.sequences[slot as usize];
        self.pool.take(blocks, &mut sequence.holding);
        self.admissions += 1;
        sequence.admission = self.admissions;
        sequence.state = State::Prefilling;
        sequence.computed = cached;
        sequence.reused = sequence.reused.max(cached);
        sequence.readmitted = now;
        if sequence.admitted.is_none() {
            sequence.admitted = Some(now);
            sequence.first_reused = cached;
            self.work.prompt_tokens += u64::from(sequence.request.prompt.tokens);
            self.work.reused_tokens += u64::from(cached);
        }
        pass.add_prefill(sequence.request.prompt.tokens, cached, tokens);
        self.running.push(slot);
        self.compute_prompt(slot, tokens, pass);
    }

    /// Ends a waiting sequence that no pass can ever serve.
    fn refuse(&mut self, slot: u32, now: Time, effects: &mut Effects<'_>) -> bool {
        let never_fits_budget = self.never_fits_budget(slot);
        let sequence = &self.sequences[slot as usize];
        let new = sequence.admitted.is_none();
        let outgrown = self.shape.config.layout.blocks(sequence.known()) > self.pool.capacity();
        let refused = new && self.shape.config.refuses(sequence.request.prompt.tokens);
        if !(refused || outgrown || never_fits_budget) {
            return false;
        }
        let status = if new { Status::Rejected } else { Status::Aborted };
        self.end_waiting(status, now, effects);
        true
    }

    /// Without chunked prefill, a prompt that exceeds an otherwise empty pass, or a micro-batch, waits for ever.
    fn never_fits_budget(&mut self, slot: u32) -> bool {
        if self.shape.config.enable_chunked_prefill || !self.running.is_empty() {
            return false;
        }
        let cached = self.look_up(slot).blocks * self.shape.config.layout.block_size;
        self.sequences[slot as usize].known() - cached > self.shape.config.max_whole_tokens
    }

    /// Ends a request that wants no output and whose prompt is cached in full.
    fn complete_unserved(
        &mut self,
        slot: u32,
        hit: Hit,
        now: Time,
        effects: &mut Effects<'_>,
    ) -> bool {
        let sequence = &mut self.sequences[slot as usize];
        let cached = hit.blocks * self.shape.config.layout.block_size;
        if sequence.output_limit > 0 || cached < sequence.known() {
            return false;
        }
        (sequence.admitted, sequence.reused, sequence.first_reused) = (Some(now), cached, cached);
        self.work.prompt_tokens += u64::from(sequence.request.prompt.tokens);
        self.work.reused_tokens += u64::from(cached);
        self.end_waiting(Status::Completed, now, effects);
        true
    }

    fn end_waiting(&mut self, status: Status, now: Time, effects: &mut Effects<'_>) {
        let slot = self.waiting.pop_front().expect("somebody waits");
        self.queue_tokens(slot, false);
        if status == Status::Completed {
            effects.outcome.traffic.add_completed(0, Span::ZERO);
        }
        let mention = self.sequences[slot as usize].request.mention();
        let has_failed = status != Status::Completed;
        effects.outcome.refused.push(Mention { has_failed, ..mention });
        self.close(slot, status, now, effects);
    }

    /// The running sequences, one by one, because budget or blocks do not suffice for all.
    fn schedule_one_by_one(&mut self, pass: &mut Pass, now: Time) {
        let mut index = 0;
        while index < self.running.len() && pass.budget > 0 {
            let slot = self.running[index];
            let needed = self.blocks_needed_any(slot, pass.budget);
            if needed > self.pool.available() {
                let victim = self.victim();
                let scheduled = victim < index;
                self.preempt(victim, scheduled, pass, now);
                index -= usize::from(scheduled);
                continue;
            }
            match self.sequences[slot as usize].state {
                State::Decoding { .. } => {
                    self.pool.take_anonymous(needed);
                    pass.budget -= 1;
                }
                State::Stalled => self.rejoin(slot, needed, pass),
                State::Prefilling => self.continue_prompt(slot, pass),
                State::Waiting => unreachable!("a waiting sequence does not run"),
            }
            index += 1;
        }
        for index in index..self.running.len() {
            let slot = self.running[index];
            if let State::Decoding { .. } = self.sequences[slot as usize].state {
                let member = self.leave_batch(slot);
                self.batch.withdraw(member);
                self.sequences[slot as usize].last_token = now;
                self.stalled += 1;
            }
        }
    }

    /// Which running sequence gives up its blocks.
    fn victim(&self) -> usize {
        match self.shape.config.preemption_mode {
            PreemptionMode::Lifo => self.running.len() - 1,
            PreemptionMode::Fifo => 0,
        }
    }

    fn blocks_needed_any(&self, slot: u32, budget: u32) -> u32 {
        let sequence = &self.sequences[slot as usize];
        match sequence.state {
            State::Decoding { joined } => {
                let computed = u64::from(sequence.computed) + self.batch.epoch() - joined;
                u32::from(computed.is_multiple_of(u64::from(self.shape.config.layout.block_size)))
            }
            _ => self.blocks_needed(slot, budget),
        }
    }

    /// A sequence that the budget had not reached decodes again.
    fn rejoin(&mut self, slot: u32, blocks: u32, pass: &mut Pass) {
        let sequence = &mut self.sequences[slot as usize];
        self.pool.take(blocks, &mut sequence.holding);
        pass.rejoined.push((slot, sequence.last_token));
        pass.budget -= 1;
        self.stalled -= 1;
        self.join_batch(slot);
    }

    /// Takes all blocks from a running sequence and puts it at the head of the queue. `scheduled` says whether it had
    /// its share of this pass already.
    fn preempt(&mut self, index: usize, scheduled: bool, pass: &mut Pass, now: Time) {
        let slot = self.running.remove(index);
        match self.sequences[slot as usize].state {
            State::Decoding { .. } => {
                let member = self.leave_batch(slot);
                self.batch.withdraw(member);
                let sequence = &mut self.sequences[slot as usize];
                if let Some(at) = pass.rejoined.iter().position(|&(rejoined, _)| rejoined == slot) {
                    pass.rejoined.remove(at);
                } else {
                    sequence.last_token = now;
                }
                if scheduled {
                    // The token it would have computed has its block, and counts as computed for the cache.
                    pass.budget += 1;
                    sequence.computed += 1;
                    let blocks = self.shape.config.layout.blocks(sequence.computed);
                    self.pool.settle(blocks, &mut sequence.holding);
                }
            }
            State::Stalled => self.stalled -= 1,
            State::Prefilling if scheduled => {
                let sequence = &mut self.sequences[slot as usize];
                sequence.gave_way = (sequence.gave_way + 1).min(GIVES_WAY_MAX);
                pass.take_back(slot, sequence.request.prompt.tokens, sequence.known());
            }
            State::Prefilling => self.prefilling = None,
            State::Waiting => unreachable!("a waiting sequence does not run"),
        }
        let sequence = &mut self.sequences[slot as usize];
        sequence.stop_running(now);
        self.pool.release(sequence.computed, Some(sequence.request.id.0), &mut sequence.holding);
        (sequence.state, sequence.computed) = (State::Waiting, 0);
        sequence.preemptions += 1;
        self.waiting.push_front(slot);
        self.queue_tokens(slot, true);
        pass.preempted = true;
        self.blocked = false;
        self.work.preemptions += 1;
    }
}
