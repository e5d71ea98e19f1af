//! What is done to a source of sessions before it reaches the fleet: a window, a speed-up, copies, a limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kernel::rng::mix64;
use crate::kernel::time::Time;
use crate::model::session::Opening;
use crate::model::workload::shape::scale;
use crate::model::workload::{SessionSource, Shape, SourceError, TooLate};

/// A source of sessions with a shape applied. The window is about openings, and sessions are whole: what opens in it is
/// played to its end. A speed-up divides the delays inside a session too. After so many requests no session opens any
/// more.
pub struct ShapedSessions {
    source: Box<dyn SessionSource>,
    shape: Shape,
    /// Calls of the sessions so far.
    calls: u64,
    /// The next session of the source, if it has been read.
    next: Option<Opening>,
    /// Copies whose time has not come, by time, number in the source and copy.
    copies: BTreeMap<(Time, u64, u32), Opening>,
    read: u64,
    /// How many sessions came before the window.
    left_out: u64,
    ended: bool,
}

impl ShapedSessions {
    /// Applies `shape` to `source`.
    pub fn new(source: Box<dyn SessionSource>, shape: Shape) -> ShapedSessions {
        let (next, copies) = (None, BTreeMap::new());
        ShapedSessions { source, shape, calls: 0, next, copies, read: 0, left_out: 0, ended: false }
    }

    /// That the session being read does not open in virtual time.
    fn too_late(&self) -> TooLate {
        self.shape.too_late("session", self.left_out + self.read)
    }

    /// The next session inside the window, its times moved and scaled.
    fn read(&mut self) -> Result<Option<Opening>, SourceError> {
        while let Some(mut opening) = self.source.next_session()? {
            let offset = opening.at.since(Time::ZERO);
            if self.shape.until.is_some_and(|until| offset >= until) {
                return Ok(None);
            }
            if offset < self.shape.from {
                self.left_out += 1;
                continue;
            }
            let ns = offset.as_ns() - self.shape.from.as_ns();
            opening.at = scale(ns, self.shape.speedup).ok_or_else(|| self.too_late())?;
            #[expect(clippy::float_cmp, reason = "exactly one means that nothing is scaled")]
            if self.shape.speedup != 1.0 {
                opening.plan.speed_up(self.shape.speedup);
            }
            return Ok(Some(opening));
        }
        Ok(None)
    }

    /// Sees to it that the earliest copy is known: those of the sessions to come are no earlier than these.
    fn feed(&mut self) -> Result<(), SourceError> {
        loop {
            if self.next.is_none() && !self.ended {
                self.next = self.read()?;
                self.ended = self.next.is_none();
            }
            let first = self.copies.first_key_value().map(|(&(at, ..), _)| at);
            let is_later = |opening: &Opening| first.is_some_and(|first| first < opening.at);
            if self.next.as_ref().is_none_or(is_later) {
                return Ok(());
            }
            let Some(opening) = self.next.take() else { return Ok(()) };
            for copy in 0..self.shape.copies {
                let at = self.shape.later(opening.at, copy).ok_or_else(|| self.too_late())?;
                self.copies.insert((at, self.read, copy), copy_of(&opening, at, copy));
            }
            self.read += 1;
        }
    }
}

/// The session with tokens of its own.
fn copy_of(opening: &Opening, at: Time, copy: u32) -> Opening {
    let mut opening = Opening { at, ..opening.clone() };
    if copy == 0 {
        return opening;
    }
    let salt = mix64(u64::from(copy));
    opening.name = opening.name.map(|name| mix64(name ^ salt));
    // Calls that share a chain go on to do so.
    let (mut plain, mut salted): (Arc<[u64]>, Arc<[u64]>) = Default::default();
    for ask in &mut opening.asks {
        if !Arc::ptr_eq(&plain, &ask.chain) {
            plain = Arc::clone(&ask.chain);
            salted = plain.iter().map(|&id| mix64(id ^ salt)).collect();
        }
        ask.chain = Arc::clone(&salted);
    }
    opening
}

impl SessionSource for ShapedSessions {
    fn next_session(&mut self) -> Result<Option<Opening>, SourceError> {
        if self.shape.requests.is_some_and(|limit| self.calls >= limit) {
            return Ok(None);
        }
        self.feed()?;
        let Some((_, opening)) = self.copies.pop_first() else { return Ok(None) };
        self.calls += opening.asks.len() as u64;
        Ok(Some(opening))
    }

    fn skipped(&self) -> u64 {
        self.source.skipped()
    }

    fn fraction(&self) -> Option<f64> {
        self.source.fraction()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::time::Span;
    use crate::model::request::Prompt;
    use crate::model::session::{Ask, Plan, Sessions};

    fn opening(ms: u64) -> Opening {
        let ask = |line| Ask::new(line, Prompt::unique(1), 1);
        let at = Time::ZERO + Span::from_ms(ms);
        let plan = Plan::chain([Span::from_ms(100)]);
        Opening { at, name: Some(ms), plan, asks: vec![ask(2 * ms), ask(2 * ms + 1)] }
    }

    fn shaped(shape: Shape) -> Vec<Opening> {
        let source = [0, 10, 20, 30].map(opening).into_iter();
        let mut source = ShapedSessions::new(Box::new(source), shape);
        std::iter::from_fn(|| source.next_session().unwrap()).collect()
    }

    #[test]
    fn windows_are_about_openings() {
        let ms = Span::from_ms;
        let shape = Shape { from: ms(10), until: Some(ms(30)), speedup: 2.0, ..Shape::default() };
        let mut sessions = shaped(shape);
        let starts: Vec<(u64, Option<u64>)> =
            sessions.iter().map(|opening| (opening.at.as_ns(), opening.name)).collect();
        assert_eq!(starts, [(0, Some(10)), (5_000_000, Some(20))]);
        let mut live = Sessions::new();
        live.open(Time::ZERO, sessions.remove(0));
        let first = live.pop(Time::ZERO).unwrap();
        live.complete(Time::ZERO, first.call);
        assert_eq!(live.next_ready(), Some(Time::ZERO + ms(50)), "delays are sped up too");
    }

    #[test]
    fn what_opens_after_the_end_of_time_is_refused() {
        let last = Opening { at: Time::MAX, ..opening(0) };
        for shape in [
            Shape { speedup: 0.5, ..Shape::default() },
            Shape { copies: 2, copy_spread: Span::from_ms(1), ..Shape::default() },
        ] {
            let source = [opening(0), last.clone()].into_iter();
            let mut source = ShapedSessions::new(Box::new(source), shape);
            let error = (0..4).find_map(|_| source.next_session().err()).unwrap().to_string();
            let expected = "session 2 of the workload comes more than 834 days after the start";
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_limit_ends_with_a_whole_session() {
        let count = |requests| shaped(Shape { requests, ..Shape::default() }).len();
        assert_eq!([Some(1), Some(2), Some(3), Some(100), None].map(count), [1, 1, 2, 4, 4]);
    }

    #[test]
    fn copies_share_nothing_and_come_in_order() {
        let shape = Shape { copies: 3, copy_spread: Span::from_ms(45), ..Shape::default() };
        let sessions = shaped(shape);
        let starts: Vec<u64> =
            sessions.iter().map(|opening| opening.at.as_ns() / 1_000_000).collect();
        assert_eq!(starts, [0, 10, 15, 20, 25, 30, 30, 35, 40, 45, 50, 60]);
        let names: std::collections::BTreeSet<_> =
            sessions.iter().map(|opening| opening.name).collect();
        assert_eq!(names.len(), 12);
        let source = [Opening {
            asks: vec![Ask::new(0, Prompt::named(600, [1, 2].into_iter(), 0), 1); 2],
            ..opening(0)
        }];
        let shape = Shape { copies: 2, ..Shape::default() };
        let mut copies = ShapedSessions::new(Box::new(source.into_iter()), shape);
        let mut chains = std::iter::from_fn(|| copies.next_session().unwrap())
            .map(|opening| opening.asks[0].chain.clone());
        let (one, other) = (chains.next().unwrap(), chains.next().unwrap());
        assert!(one.iter().zip(other.iter()).all(|(one, other)| one != other));
    }
}
