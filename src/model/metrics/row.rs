//! One request, from arrival to its end.

use crate::kernel::time::{Span, Time};
use crate::model::class::ClassId;
use crate::model::request::{Request, RequestId, WorkerId};

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It got all its tokens.
    Completed,
    /// No worker could ever serve it: the prompt reaches the model's limit, does not fit the KV pool, or exceeds the token
    /// budget without chunked prefill.
    Rejected,
    /// Its prompt fitted the KV pool, but prompt and output together outgrew it.
    Aborted,
    /// The front end turned it away when it arrived: as many waited as may.
    QueueFull,
    /// The front end turned it away when it had waited as long as anybody may.
    Expired,
}

impl Status {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Status::Completed => "completed",
            Status::Rejected => "rejected",
            Status::Aborted => "aborted",
            Status::QueueFull => "queue_full",
            Status::Expired => "expired",
        }
    }
}

/// What is known of a request when it has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its number.
    pub id: RequestId,
    /// The class it belongs to; the first where there are none.
    pub class: ClassId,
    /// Where it stood in the trace.
    pub trace_line: u64,
    /// When it reached the front end (closed loop: when it was dispatched).
    pub arrival: Time,
    /// Its prompt, in tokens.
    pub prompt_tokens: u32,
    /// The tokens it got.
    pub output_tokens: u32,
    /// Who served it; in a disaggregated fleet, who decoded. Nobody if the front end turned it away.
    pub worker: Option<WorkerId>,
    /// How it ended.
    pub status: Status,
    /// Tokens that came from the prefix cache: the most over its admissions.
    pub reused_tokens: u32,
    /// Tokens that came from the prefix cache at its first admission.
    pub first_reused_tokens: u32,
    /// When it first joined a batch.
    pub admitted: Option<Time>,
    /// When its first token came out.
    pub first_token: Option<Time>,
    /// When its second token came out.
    pub second_token: Option<Time>,
    /// When it ended: with its last token, or for an aborted request when it was given up.
    pub end: Time,
    /// How often it lost its blocks and had to start over.
    pub preemptions: u32,
    /// Nanoseconds it spent in running batches.
    pub running_ns: u64,
}

impl Row {
    /// The row of a request that the front end turns away at `now`.
    pub fn turned_away(request: &Request, status: Status, now: Time) -> Row {
        Row {
            id: request.id,
            class: request.class,
            trace_line: request.trace_line,
            arrival: request.arrival,
            prompt_tokens: request.prompt.tokens,
            output_tokens: 0,
            worker: None,
            status,
            reused_tokens: 0,
            first_reused_tokens: 0,
            admitted: None,
            first_token: None,
            second_token: None,
            end: now,
            preemptions: 0,
            running_ns: 0,
        }
    }

    /// Time to first token.
    pub fn ttft(&self) -> Option<Span> {
        Some(self.first_token?.since(self.arrival))
    }

    /// Time from the first token to the second.
    pub fn ttst(&self) -> Option<Span> {
        Some(self.second_token?.since(self.first_token?))
    }

    /// Mean time between its tokens, rounded to whole ns; needs two tokens.
    pub fn tpot(&self) -> Option<Span> {
        let gaps = u64::from(self.output_tokens).checked_sub(1).filter(|&gaps| gaps > 0)?;
        let decode_ns = self.end.since(self.first_token?).as_ns();
        Some(Span::from_ns((decode_ns + gaps / 2) / gaps))
    }

    /// Arrival to end.
    pub fn e2e(&self) -> Span {
        self.end.since(self.arrival)
    }
}
