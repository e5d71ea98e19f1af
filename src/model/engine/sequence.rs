//! One request inside an engine.

use crate::kernel::time::Time;
use crate::model::kv::Holding;
use crate::model::metrics::{Row, Status};
use crate::model::request::{Request, WorkerId};

/// Where a sequence stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// In the waiting queue, without blocks.
    Waiting,
    /// Running, with tokens still to compute before it can generate.
    Prefilling,
    /// Running, a member of the decode batch since that epoch.
    Decoding { joined: u64 },
    /// Running, but the token budget did not reach it in the last pass.
    Stalled,
}

#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) request: Request,
    /// When it reached the engine.
    pub(super) arrived: Time,
    /// How many tokens it will get.
    pub(super) output_limit: u32,
    pub(super) state: State,
    /// The number of its current or last admission, counted by the engine.
    pub(super) admission: u64,
    /// Tokens whose KV exists; for a member of the decode batch, when it joined.
    pub(super) computed: u32,
    /// Tokens it has got; for a member of the decode batch, when it joined.
    pub(super) generated: u32,
    pub(super) holding: Holding,
    /// Tokens served from the cache: the most over its admissions, and at the first.
    pub(super) reused: u32,
    pub(super) first_reused: u32,
    pub(super) admitted: Option<Time>,
    /// When the current admission was.
    pub(super) readmitted: Time,
    pub(super) first_token: Option<Time>,
    pub(super) second_token: Option<Time>,
    /// When it got its last token, if it is not in the decode batch.
    pub(super) last_token: Time,
    pub(super) preemptions: u32,
    /// How often since its last token it was preempted for an admission, in a pass that would have brought it one.
    pub(super) gave_way: u8,
    pub(super) running_ns: u64,
}

impl Sequence {
    pub(super) fn new(request: Request, arrived: Time, output_limit: u32) -> Sequence {
        Sequence {
            request,
            arrived,
            output_limit,
            state: State::Waiting,
            admission: 0,
            computed: 0,
            generated: 0,
            holding: Holding::default(),
            reused: 0,
            first_reused: 0,
            admitted: None,
            readmitted: Time::ZERO,
            first_token: None,
            second_token: None,
            last_token: Time::ZERO,
            preemptions: 0,
            gave_way: 0,
            running_ns: 0,
        }
    }

    /// Tokens it consists of: prompt and those generated, unless it is in the decode batch.
    pub(super) fn known(&self) -> u32 {
        self.request.prompt.tokens + self.generated
    }

    /// It leaves the running list at `now`.
    pub(super) fn stop_running(&mut self, now: Time) {
        self.running_ns += now.since(self.readmitted).as_ns();
    }

    pub(super) fn row(&self, worker: WorkerId, status: Status, end: Time) -> Row {
        Row {
            id: self.request.id,
            class: self.request.class,
            trace_line: self.request.trace_line,
            arrival: self.request.arrival,
            prompt_tokens: self.request.prompt.tokens,
            output_tokens: self.generated,
            worker: Some(worker),
            status,
            reused_tokens: self.reused,
            first_reused_tokens: self.first_reused,
            admitted: self.admitted,
            first_token: self.first_token,
            second_token: self.second_token,
            end,
            preemptions: self.preemptions,
            running_ns: self.running_ns,
        }
    }
}
