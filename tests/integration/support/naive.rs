//! A slow, obvious engine: every block an object, every pass a loop over everybody. The oracle for the real one.

use std::collections::{BTreeMap, VecDeque};

use fleetsim::kernel::{Span, Time};
use fleetsim::model::class::ClassId;
use fleetsim::model::engine::{AdmissionRoom, DecodeKv, EngineConfig, FirstToken, PreemptionMode};
use fleetsim::model::metrics::{Row, Status};
use fleetsim::model::request::{Request, WorkerId};
use fleetsim::model::timing::{DecodeLoad, PrefillLoad};

/// What identifies a block: all tokens up to its end. A token is the trace block that names it and its place there, or
/// the request that owns it and its place in the sequence.
type Identity = Vec<(bool, u64, u32)>;

struct Block {
    identity: Option<Identity>,
    /// For blocks that a router would be told about.
    label: Option<u64>,
    references: u32,
    /// When it entered the cache, to find the oldest copy.
    age: u64,
}

#[derive(Default)]
struct Pool {
    blocks: BTreeMap<u64, Block>,
    /// Unreferenced cached blocks, the next victim first.
    unreferenced: VecDeque<u64>,
    next: u64,
    age: u64,
    changes: Vec<(bool, u64)>,
}

impl Pool {
    fn pinned(&self) -> u32 {
        self.blocks.values().filter(|block| block.references > 0).count() as u32
    }

    fn oldest(&self, identity: &Identity) -> Option<u64> {
        let same = |block: &Block| block.identity.as_ref() == Some(identity);
        let copies = self.blocks.iter().filter(|(_, block)| same(block));
        copies.min_by_key(|(_, block)| block.age).map(|(&id, _)| id)
    }

    fn pin(&mut self, id: u64) {
        self.unreferenced.retain(|&other| other != id);
        self.blocks.get_mut(&id).unwrap().references += 1;
    }

    fn take(&mut self, capacity: u32) -> u64 {
        if self.blocks.len() as u32 == capacity {
            let victim = self.unreferenced.pop_front().expect("the caller has checked");
            let block = self.blocks.remove(&victim).unwrap();
            let last = self.oldest(block.identity.as_ref().unwrap()).is_none();
            if let (Some(label), true) = (block.label, last) {
                self.changes.push((false, label));
            }
        }
        self.next += 1;
        self.blocks.insert(self.next, Block { identity: None, label: None, references: 1, age: 0 });
        self.next
    }

    fn complete(&mut self, id: u64, identity: Identity, label: Option<u64>) {
        if let (Some(label), None) = (label, self.oldest(&identity)) {
            self.changes.push((true, label));
        }
        self.age += 1;
        let block = self.blocks.get_mut(&id).unwrap();
        (block.identity, block.label, block.age) = (Some(identity), label, self.age);
    }

    fn release(&mut self, id: u64) {
        let block = self.blocks.get_mut(&id).unwrap();
        block.references -= 1;
        if block.references == 0 {
            if block.identity.is_some() {
                self.unreferenced.push_back(id);
            } else {
                self.blocks.remove(&id);
            }
        }
    }
}

struct Sequence {
    request: Request,
    ids: Vec<u64>,
    limit: u32,
    generated: u32,
    computed: u32,
    blocks: Vec<u64>,
    /// What it does in the pass being composed.
    tokens: u32,
    before: u32,
    row: Row,
    readmitted: Time,
    last_token: Time,
    gave_way: u32,
}

impl Sequence {
    fn known(&self) -> u32 {
        self.request.prompt.tokens + self.generated
    }
}

/// What a run of the naive engine yields.
#[derive(Default)]
pub(crate) struct NaiveOutcome {
    pub(crate) rows: Vec<Row>,
    /// Every gap between two tokens, ns.
    pub(crate) gaps: Vec<u64>,
    pub(crate) passes: u64,
    /// Passes outside of what was measured, and their time, ns.
    pub(crate) extrapolated: (u64, u64),
    pub(crate) prefill_tokens: u64,
    /// Changes of the cache, by the end of the pass.
    pub(crate) changes: Vec<(Time, Vec<(bool, u64)>)>,
}

impl NaiveOutcome {
    /// Counts a pass.
    fn count(&mut self, extrapolated: bool, duration: Span) {
        self.passes += 1;
        self.extrapolated.0 += u64::from(extrapolated);
        self.extrapolated.1 += u64::from(extrapolated) * duration.as_ns();
    }
}

pub(crate) struct NaiveEngine {
    config: EngineConfig,
    pool: Pool,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    outcome: NaiveOutcome,
}

impl NaiveEngine {
    /// Serves requests that arrive in order; `ids` are the names of their trace blocks.
    pub(crate) fn run(config: &EngineConfig, arrivals: &[(Request, Vec<u64>)]) -> NaiveOutcome {
        let mut engine = NaiveEngine {
            config: config.clone(),
            pool: Pool::default(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            outcome: NaiveOutcome::default(),
        };
        let mut arrivals = arrivals.iter().peekable();
        let mut now = Time::ZERO;
        loop {
            while let Some((request, ids)) = arrivals.next_if(|(request, _)| request.arrival <= now)
            {
                engine.arrive(request, ids);
            }
            match engine.pass(now) {
                Some(end) => now = end,
                None => match arrivals.peek() {
                    Some((request, _)) => now = request.arrival,
                    None => break,
                },
            }
        }
        assert!(engine.waiting.is_empty() && engine.running.is_empty());
        assert_eq!(engine.pool.pinned(), 0);
        engine.outcome
    }

    fn arrive(&mut self, request: &Request, ids: &[u64]) {
        let row = Row {
            id: request.id,
            class: ClassId::default(),
            trace_line: request.trace_line,
            arrival: request.arrival,
            prompt_tokens: request.prompt.tokens,
            output_tokens: 0,
            worker: Some(WorkerId(0)),
            status: Status::Completed,
            reused_tokens: 0,
            first_reused_tokens: 0,
            admitted: None,
            first_token: None,
            second_token: None,
            end: Time::ZERO,
            preemptions: 0,
            running_ns: 0,
        };
        let len = self.config.max_model_len.unwrap_or(u32::MAX);
        self.waiting.push_back(Sequence {
            limit: request.output_tokens.min(len.saturating_sub(request.prompt.tokens)),
            request: request.clone(),
            ids: ids.to_vec(),
            generated: 0,
            computed: 0,
            blocks: Vec::new(),
            tokens: 0,
            before: 0,
            row,
            readmitted: Time::ZERO,
            last_token: Time::ZERO,
            gave_way: 0,
        });
    }

    fn blocks(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.config.layout.block_size)
    }

    fn available(&self) -> u32 {
        self.config.num_gpu_blocks - self.pool.pinned()
    }

    fn identity(&self, sequence: &Sequence, block: u32) -> Identity {
        let end = (block + 1) * self.config.layout.block_size;
        let size = self.config.layout.trace_block_size;
        let token = |at: u32| {
            if at < sequence.request.prompt.shared_tokens {
                (true, sequence.ids[(at / size) as usize], at % size)
            } else {
                (false, sequence.request.id.0, at)
            }
        };
        (0..end).map(token).collect()
    }

    fn label(&self, sequence: &Sequence, block: u32) -> Option<u64> {
        let prompt = &sequence.request.prompt;
        let named = (block + 1) * self.config.layout.block_size <= prompt.shared_tokens;
        named.then(|| self.config.layout.key(&prompt.chain, block))
    }

    /// Gives running sequence `index` so many more tokens; it has the blocks it had before.
    fn compute(&mut self, index: usize, tokens: u32) {
        let block_size = self.config.layout.block_size;
        let (before, capacity) = (self.running[index].computed, self.config.num_gpu_blocks);
        for _ in self.running[index].blocks.len() as u32..self.blocks(before + tokens) {
            let block = self.pool.take(capacity);
            self.running[index].blocks.push(block);
        }
        let sequence = &mut self.running[index];
        (sequence.tokens, sequence.before) = (tokens, before);
        sequence.computed += tokens;
        if self.config.enable_prefix_caching {
            for block in before / block_size..(before + tokens) / block_size {
                let sequence = &self.running[index];
                let (identity, label) =
                    (self.identity(sequence, block), self.label(sequence, block));
                self.pool.complete(sequence.blocks[block as usize], identity, label);
            }
        }
    }

    fn pass(&mut self, now: Time) -> Option<Time> {
        let mut budget = self.config.max_num_batched_tokens;
        let mut preempted = false;
        for sequence in &mut self.running {
            sequence.tokens = 0;
        }
        let mut index = 0;
        while index < self.running.len() && budget > 0 {
            let sequence = &self.running[index];
            let want = (sequence.known() - sequence.computed).min(budget);
            let needed = self.blocks(sequence.computed + want) - sequence.blocks.len() as u32;
            if needed > self.available() {
                let victim = self.victim();
                preempted = true;
                budget += self.running[victim].tokens;
                self.preempt(victim, now);
                index -= usize::from(victim < index);
                continue;
            }
            self.compute(index, want);
            budget -= want;
            index += 1;
        }
        if preempted && self.running.is_empty() {
            return self.pass(now);
        }
        if !preempted {
            self.admit(budget, now);
        }
        self.finish_pass(now)
    }

    fn victim(&self) -> usize {
        match self.config.preemption_mode {
            PreemptionMode::Lifo => self.running.len() - 1,
            PreemptionMode::Fifo => 0,
        }
    }

    fn preempt(&mut self, index: usize, now: Time) {
        let mut sequence = self.running.remove(index);
        for block in std::mem::take(&mut sequence.blocks).into_iter().rev() {
            self.pool.release(block);
        }
        sequence.computed = 0;
        sequence.row.preemptions += 1;
        sequence.row.running_ns += now.since(sequence.readmitted).as_ns();
        self.waiting.push_front(sequence);
    }

    /// Preempts until so many blocks are available; says whether that had to be.
    fn make_room(&mut self, blocks: u32, now: Time) -> bool {
        let running = self.running.len();
        while blocks > self.available() {
            let victim = self.victim();
            let other = &mut self.running[victim];
            other.gave_way += u32::from(other.last_token <= other.readmitted);
            self.preempt(victim, now);
        }
        self.running.len() < running
    }

    fn cached(&self, sequence: &Sequence) -> Vec<u64> {
        let mut hits = Vec::new();
        if self.config.enable_prefix_caching {
            let useful = sequence.known() - u32::from(sequence.limit > 0);
            for block in 0..useful / self.config.layout.block_size {
                match self.pool.oldest(&self.identity(sequence, block)) {
                    Some(hit) => hits.push(hit),
                    None => break,
                }
            }
        }
        hits
    }

    fn admit(&mut self, mut budget: u32, now: Time) {
        let block_size = self.config.layout.block_size;
        while let Some(head) = self.waiting.front() {
            if self.running.len() as u32 >= self.config.max_num_seqs {
                return;
            }
            let hits = self.cached(head);
            let cached = hits.len() as u32 * block_size;
            let missing = head.known() - cached;
            let new = head.row.admitted.is_none();
            let too_long =
                self.config.max_model_len.is_some_and(|len| head.request.prompt.tokens >= len);
            let chunked = self.config.enable_chunked_prefill;
            if (new && too_long)
                || self.blocks(head.known()) > self.config.num_gpu_blocks
                || !chunked && self.running.is_empty() && missing > self.config.max_whole_tokens
            {
                let sequence = self.waiting.pop_front().unwrap();
                self.end(sequence, if new { Status::Rejected } else { Status::Aborted }, now);
                continue;
            }
            if missing == 0 {
                let mut sequence = self.waiting.pop_front().unwrap();
                sequence.row.admitted = Some(now);
                (sequence.row.reused_tokens, sequence.row.first_reused_tokens) = (cached, cached);
                self.end(sequence, Status::Completed, now);
                continue;
            }
            let active =
                hits.iter().filter(|hit| self.pool.blocks[hit].references > 0).count() as u32;
            let tokens = missing.min(budget);
            let room = match self.config.admission_room {
                AdmissionRoom::Prompt => head.known(),
                AdmissionRoom::Preempt if head.gave_way < 100 => 0,
                AdmissionRoom::Chunk | AdmissionRoom::Preempt => cached + tokens,
            };
            if self.blocks(room) > self.available() + active {
                return;
            }
            if budget == 0 || !chunked && missing > budget.min(self.config.max_whole_tokens) {
                return;
            }
            let mut sequence = self.waiting.pop_front().unwrap();
            for &hit in &hits {
                self.pool.pin(hit);
            }
            let preempts = self.make_room(self.blocks(cached + tokens) - hits.len() as u32, now);
            (sequence.blocks, sequence.computed) = (hits, cached);
            sequence.row.reused_tokens = sequence.row.reused_tokens.max(cached);
            sequence.readmitted = now;
            if new {
                sequence.row.admitted = Some(now);
                sequence.row.first_reused_tokens = cached;
            }
            self.running.push(sequence);
            self.compute(self.running.len() - 1, tokens);
            budget -= tokens;
            if preempts {
                return;
            }
        }
    }

    fn finish_pass(&mut self, now: Time) -> Option<Time> {
        let (mut prefill, mut decode) = (PrefillLoad::default(), DecodeLoad::default());
        let mut worked = false;
        for sequence in self.running.iter().filter(|sequence| sequence.tokens > 0) {
            worked = true;
            let prompt = sequence.request.prompt.tokens;
            // Decoding: everything known was computed but the token from the last pass.
            let decodes = sequence.before >= prompt
                && sequence.tokens == 1
                && sequence.last_token > sequence.readmitted;
            if !decodes {
                self.outcome.prefill_tokens += u64::from(sequence.tokens);
            }
            if sequence.before < prompt {
                prefill.requests += 1;
                prefill.tokens += u64::from((sequence.before + sequence.tokens).min(prompt));
                prefill.prefix_tokens += u64::from(sequence.before);
            }
            let emits = sequence.computed == sequence.known() && sequence.limit > 0;
            if emits && (sequence.generated > 0 || self.config.first_token == FirstToken::Decode) {
                decode.requests += 1;
                decode.kv_tokens += u64::from(sequence.known());
            }
        }
        if self.config.decode_kv == DecodeKv::Resident {
            decode.kv_tokens =
                u64::from(self.pool.pinned()) * u64::from(self.config.layout.block_size);
        }
        if !worked {
            self.pool.changes.clear();
            return None;
        }
        let timer = self.config.pass_timer();
        let pass = timer.timed_pass(prefill, decode);
        let duration: Span = pass.duration.max(timer.floor());
        let end = now + duration;
        self.outcome.count(pass.is_extrapolated, duration);
        self.outcome.changes.push((end, std::mem::take(&mut self.pool.changes)));
        let mut index = 0;
        while index < self.running.len() {
            let sequence = &mut self.running[index];
            if sequence.tokens == 0 || sequence.computed < sequence.known() {
                index += 1;
                continue;
            }
            if sequence.limit > 0 {
                sequence.generated += 1;
                match sequence.generated {
                    1 => sequence.row.first_token = Some(end),
                    2 => sequence.row.second_token = Some(end),
                    _ => {}
                }
                if sequence.generated > 1 {
                    self.outcome.gaps.push(end.since(sequence.last_token).as_ns());
                }
                (sequence.last_token, sequence.gave_way) = (end, 0);
            }
            if sequence.generated < sequence.limit {
                index += 1;
                continue;
            }
            let mut sequence = self.running.remove(index);
            for block in std::mem::take(&mut sequence.blocks).into_iter().rev() {
                self.pool.release(block);
            }
            sequence.row.running_ns += end.since(sequence.readmitted).as_ns();
            self.end(sequence, Status::Completed, end);
        }
        Some(end)
    }

    fn end(&mut self, mut sequence: Sequence, status: Status, end: Time) {
        (sequence.row.status, sequence.row.end) = (status, end);
        sequence.row.output_tokens = sequence.generated;
        self.outcome.rows.push(sequence.row);
    }
}
