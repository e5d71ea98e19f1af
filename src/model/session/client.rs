//! What a client does when it has to wait: time out, try again, give up.
//!
//! ```text
//!            answered
//!   sent ----------------> done
//!    ^ |
//!    | | timeout or refusal, and tries are left      timeout or refusal, and none is left
//!    | +--------> waiting (back-off)                 sent --------> abandoned
//!    |               |
//!    +---------------+
//! ```

use rand::RngExt;

use crate::kernel::rng::Stream;
use crate::kernel::time::{Span, Time};

/// How long a client waits between tries: `first` x `factor`^(tries before - 1), at most `max`, less a random share.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    /// After the first try.
    pub first: Span,
    /// From one try to the next, at least 1.
    pub factor: f64,
    /// The longest.
    pub max: Span,
    /// Which share of it is random, from 0 to 1: with 1, anything between nothing and the whole ("full jitter").
    pub jitter: f64,
}

impl Backoff {
    /// The pause after so many tries. Draws from `rng` only if there is jitter.
    fn pause(&self, tries: u32, rng: &mut Stream) -> Span {
        let exponent = i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX);
        // Finite, since zero times infinity is no pause.
        let growth = self.factor.powi(exponent).min(f64::MAX);
        let whole = (self.first.as_secs() * growth).min(self.max.as_secs());
        let random = if self.jitter > 0.0 { self.jitter * rng.random::<f64>() } else { 0.0 };
        Span::from_secs_f64(whole * (1.0 - random))
    }
}

/// How clients behave.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClientSpec {
    /// The longest wait for the first token of a try.
    pub first_token_timeout: Option<Span>,
    /// The longest wait for the last token of a try.
    pub timeout: Option<Span>,
    /// Tries after the first one.
    pub retries: u32,
    /// Pauses between them.
    pub backoff: Backoff,
}

impl ClientSpec {
    /// Waits for ever, and gives up when it is refused.
    pub fn patient() -> ClientSpec {
        let backoff = Backoff { first: Span::ZERO, factor: 1.0, max: Span::ZERO, jitter: 0.0 };
        ClientSpec { first_token_timeout: None, timeout: None, retries: 0, backoff }
    }
}

/// What comes after a try that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// The request is sent again, at this time.
    Retry(Time),
    /// The client gives up.
    Abandon,
    /// Nothing: this try had failed or ended before.
    Ignore,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not sent, or to be sent again.
    Waiting,
    /// Sent, without a token so far.
    Sent(Time),
    /// Sent, with some tokens.
    Answering(Time),
    Done,
    Abandoned,
}

/// The client of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    state: State,
    /// Tries so far. An answer to an earlier one comes too late.
    tries: u32,
}

/// What became of requests and tries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ClientCounts {
    /// Tries.
    pub sent: u64,
    /// Tries after the first one of a request.
    pub retries: u64,
    /// Tries that timed out.
    pub timeouts: u64,
    /// Tries that were refused.
    pub refused: u64,
    /// Requests that were answered.
    pub done: u64,
    /// Requests that were given up.
    pub abandoned: u64,
}

impl Default for Client {
    fn default() -> Client {
        Client::new()
    }
}

impl Client {
    /// Before the first try.
    pub fn new() -> Client {
        Client { state: State::Waiting, tries: 0 }
    }

    /// The number of the present try, from 1; it goes with everything that is said about it.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Sends the request; says when it times out if nothing comes.
    ///
    /// # Panics
    /// When it is under way or over.
    pub fn send(&mut self, now: Time, spec: &ClientSpec, counts: &mut ClientCounts) -> Time {
        assert_eq!(self.state, State::Waiting, "a request is sent while it is not waiting");
        self.state = State::Sent(now);
        self.tries += 1;
        counts.sent += 1;
        counts.retries += u64::from(self.tries > 1);
        self.deadline(spec)
    }

    /// The first token of a try has come; says when it times out now.
    pub fn first_token(&mut self, tries: u32, spec: &ClientSpec) -> Time {
        if let State::Sent(since) = self.state
            && tries == self.tries
        {
            self.state = State::Answering(since);
        }
        self.deadline(spec)
    }

    /// The last token of a try has come; says whether the client still wanted it.
    pub fn answered(&mut self, tries: u32, counts: &mut ClientCounts) -> bool {
        let wanted = self.is_under_way(tries);
        if wanted {
            self.state = State::Done;
            counts.done += 1;
        }
        wanted
    }

    /// A deadline that was given for a try has come. Ignored if the deadline has
    /// moved or the try is over.
    pub fn timed_out(
        &mut self,
        now: Time,
        tries: u32,
        spec: &ClientSpec,
        counts: &mut ClientCounts,
        rng: &mut Stream,
    ) -> Next {
        if !self.is_under_way(tries) || now < self.deadline(spec) {
            return Next::Ignore;
        }
        counts.timeouts += 1;
        self.fail(now, spec, counts, rng)
    }

    /// A try was refused.
    pub fn refused(
        &mut self,
        now: Time,
        tries: u32,
        spec: &ClientSpec,
        counts: &mut ClientCounts,
        rng: &mut Stream,
    ) -> Next {
        if !self.is_under_way(tries) {
            return Next::Ignore;
        }
        counts.refused += 1;
        self.fail(now, spec, counts, rng)
    }

    /// Whether this is the present try, and it goes on.
    pub fn is_under_way(&self, tries: u32) -> bool {
        tries == self.tries && matches!(self.state, State::Sent(_) | State::Answering(_))
    }

    /// When the present try times out, as things stand; never if none is under way.
    pub fn deadline(&self, spec: &ClientSpec) -> Time {
        let after = |since: Time, timeout: Option<Span>| {
            timeout.map_or(Time::NEVER, |timeout| since.saturating_add(timeout))
        };
        match self.state {
            State::Sent(since) => {
                after(since, spec.timeout).min(after(since, spec.first_token_timeout))
            }
            State::Answering(since) => after(since, spec.timeout),
            State::Waiting | State::Done | State::Abandoned => Time::NEVER,
        }
    }

    fn fail(
        &mut self,
        now: Time,
        spec: &ClientSpec,
        counts: &mut ClientCounts,
        rng: &mut Stream,
    ) -> Next {
        if self.tries > spec.retries {
            self.state = State::Abandoned;
            counts.abandoned += 1;
            return Next::Abandon;
        }
        self.state = State::Waiting;
        Next::Retry(now.saturating_add(spec.backoff.pause(self.tries, rng)))
    }
}

#[cfg(test)]
mod tests;
