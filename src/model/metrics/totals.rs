//! Sums over requests: all of a run, or those of a class.

use crate::model::metrics::{Row, Slo, Status};

/// Sums over the requests that have ended.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Requests that entered the fleet.
    pub arrived: u64,
    /// Requests that got all their tokens.
    pub completed: u64,
    /// Requests that were refused before their first pass.
    pub rejected: u64,
    /// Requests that ended early because no pool could hold them any longer.
    pub aborted: u64,
    /// Requests that the front end turned away because as many waited as may.
    pub queue_full: u64,
    /// Requests that the front end turned away because they had waited as long as anybody may.
    pub expired: u64,
    /// Prompt tokens of the completed requests.
    pub prompt_tokens: u64,
    /// Tokens generated for the completed requests.
    pub output_tokens: u64,
    /// Tokens generated for the aborted requests.
    pub aborted_tokens: u64,
    /// Tokens of completed requests that came from the prefix cache: the most over their admissions.
    pub reused_tokens: u64,
    /// The same at their first admission.
    pub first_reused_tokens: u64,
    /// Nanoseconds that requests spent in running batches.
    pub running_ns: u128,
    /// Requests that kept every bound of the SLO, if there is one.
    pub good: u64,
    /// Tokens generated for these.
    pub good_tokens: u64,
}

impl Totals {
    /// Adds the sums over other requests.
    pub fn add(&mut self, other: &Totals) {
        // All fields by name, so that a new one cannot be forgotten.
        let Totals {
            arrived,
            completed,
            rejected,
            aborted,
            queue_full,
            expired,
            prompt_tokens,
            output_tokens,
            aborted_tokens,
            reused_tokens,
            first_reused_tokens,
            running_ns,
            good,
            good_tokens,
        } = *other;
        self.arrived += arrived;
        self.completed += completed;
        self.rejected += rejected;
        self.aborted += aborted;
        self.queue_full += queue_full;
        self.expired += expired;
        self.prompt_tokens += prompt_tokens;
        self.output_tokens += output_tokens;
        self.aborted_tokens += aborted_tokens;
        self.reused_tokens += reused_tokens;
        self.first_reused_tokens += first_reused_tokens;
        self.running_ns += running_ns;
        self.good += good;
        self.good_tokens += good_tokens;
    }

    /// Requests that have ended, in whatever way.
    pub fn ended(&self) -> u64 {
        self.completed + self.rejected + self.aborted + self.queue_full + self.expired
    }

    /// A request has ended; `slo` says whether it was served well.
    pub(super) fn close(&mut self, row: &Row, slo: &Slo) {
        self.running_ns += u128::from(row.running_ns);
        match row.status {
            Status::Completed => self.close_completed(row, slo),
            Status::Rejected => self.rejected += 1,
            Status::QueueFull => self.queue_full += 1,
            Status::Expired => self.expired += 1,
            Status::Aborted => {
                self.aborted += 1;
                self.aborted_tokens += u64::from(row.output_tokens);
            }
        }
    }

    fn close_completed(&mut self, row: &Row, slo: &Slo) {
        self.completed += 1;
        self.prompt_tokens += u64::from(row.prompt_tokens);
        self.output_tokens += u64::from(row.output_tokens);
        self.reused_tokens += u64::from(row.reused_tokens);
        self.first_reused_tokens += u64::from(row.first_reused_tokens);
        if slo.is_set() && slo.is_met(row) {
            self.good += 1;
            self.good_tokens += u64::from(row.output_tokens);
        }
    }
}
