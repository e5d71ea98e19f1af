//! Sessions that are going on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use crate::kernel::time::{Span, Time};
use crate::model::session::client::Client;
use crate::model::session::opening::{Ask, Opening};
use crate::model::session::plan::Plan;

/// A call of a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId {
    /// The session: 0, 1, … in the order of opening.
    pub session: u64,
    /// The call: its place in the session's plan.
    pub call: u32,
    /// Where the session is kept; others come there after it.
    slot: u32,
}

/// A call that is to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadyCall {
    /// Which.
    pub call: CallId,
    /// When it was, or will be, ready.
    pub at: Time,
}

/// What became of sessions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SessionCounts {
    /// Begun.
    pub opened: u64,
    /// All calls completed.
    pub done: u64,
    /// Given up.
    pub abandoned: u64,
    /// The most that went on at once.
    pub live_max: u64,
    /// Calls of all that have begun.
    pub planned: u64,
    /// Calls that became ready and were handed out.
    pub calls: u64,
    /// Calls that completed.
    pub completed: u64,
    /// Calls that were not made or not completed, because the session was given up.
    pub dropped: u64,
}

/// What the end of a call means for its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It goes on.
    GoesOn,
    /// This was its last call; it took so long.
    Ended(Span),
    /// It was given up before.
    Late,
}

/// A call of a session that is going on.
#[derive(Clone, PartialEq, Debug)]
pub struct LiveCall {
    /// What it asks for.
    pub ask: Ask,
    /// Who waits for it.
    pub client: Client,
    /// When it was ready; once it was handed out.
    pub ready: Time,
}

#[derive(Debug)]
struct Session {
    number: u64,
    name: Option<u64>,
    opened: Time,
    plan: Plan,
    calls: Box<[LiveCall]>,
    /// Calls that have not completed.
    left: u32,
}

/// All sessions that are going on, and the calls of theirs that are ready or will be.
#[derive(Default, Debug)]
pub struct Sessions {
    live: Slab<Session>,
    /// By time, then session, then call. Those of sessions that were given up are passed over.
    ready: BinaryHeap<Reverse<(Time, CallId)>>,
    counts: SessionCounts,
}

impl Sessions {
    /// None.
    pub fn new() -> Sessions {
        Sessions::default()
    }

    /// How many are going on.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// What became of all.
    pub fn counts(&self) -> SessionCounts {
        self.counts
    }

    /// A session opens, whatever time it says. Its number is returned; calls that wait for none are ready after their
    /// delays.
    ///
    /// # Panics
    /// If it has not as many requests as calls.
    pub fn open(&mut self, now: Time, opening: Opening) -> u64 {
        let Opening { at: _, name, plan, asks } = opening;
        assert_eq!(plan.calls(), asks.len(), "every call asks for something");
        let number = self.counts.opened;
        let slot = self.live.vacant_key() as u32;
        for (call, delay) in plan.first() {
            let id = CallId { session: number, call, slot };
            self.ready.push(Reverse((now.saturating_add(delay), id)));
        }
        let left = plan.calls() as u32;
        let call = |ask| LiveCall { ask, client: Client::new(), ready: now };
        let calls = asks.into_iter().map(call).collect();
        self.live.insert(Session { number, name, opened: now, plan, calls, left });
        self.counts.opened += 1;
        self.counts.planned += u64::from(left);
        self.counts.live_max = self.counts.live_max.max(self.live.len() as u64);
        number
    }

    /// When the next call is ready.
    pub fn next_ready(&mut self) -> Option<Time> {
        while let Some(&Reverse((at, id))) = self.ready.peek() {
            if self.session(id).is_some() {
                return Some(at);
            }
            self.ready.pop();
        }
        None
    }

    /// The next call that is ready by now: the earliest, of the earliest session.
    pub fn pop(&mut self, now: Time) -> Option<ReadyCall> {
        self.next_ready().filter(|&at| at <= now)?;
        let Reverse((at, call)) = self.ready.pop()?;
        self.counts.calls += 1;
        if let Some((live, _)) = self.call(call) {
            live.ready = at;
        }
        Some(ReadyCall { call, at })
    }

    /// A call and what identifies its session to a router, if the session goes on.
    pub fn call(&mut self, id: CallId) -> Option<(&mut LiveCall, Option<u64>)> {
        let session = self.live.get_mut(id.slot as usize)?;
        if session.number != id.session {
            return None;
        }
        Some((session.calls.get_mut(id.call as usize)?, session.name))
    }

    /// A call that was handed out has completed: what waited for it may become ready.
    pub fn complete(&mut self, at: Time, id: CallId) -> Progress {
        if self.session(id).is_none() {
            return Progress::Late;
        }
        let session = &mut self.live[id.slot as usize];
        let ready = &mut self.ready;
        session.plan.complete(id.call, at, |call, at| {
            ready.push(Reverse((at, CallId { call, ..id })));
        });
        session.left -= 1;
        self.counts.completed += 1;
        if session.left > 0 {
            return Progress::GoesOn;
        }
        let opened = session.opened;
        self.live.remove(id.slot as usize);
        self.counts.done += 1;
        Progress::Ended(at.since(opened))
    }

    /// The client of a call gives its session up: nothing more of it becomes ready.
    pub fn abandon(&mut self, id: CallId) {
        if self.session(id).is_some() {
            let session = self.live.remove(id.slot as usize);
            self.counts.abandoned += 1;
            self.counts.dropped += u64::from(session.left);
        }
    }

    fn session(&self, id: CallId) -> Option<&Session> {
        self.live.get(id.slot as usize).filter(|session| session.number == id.session)
    }
}

#[cfg(test)]
mod tests;
