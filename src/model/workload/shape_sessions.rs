//! What is done to a source of sessions before it reaches the fleet: a window, a speed-up, a limit.

use crate::kernel::time::Time;
use crate::model::session::Opening;
use crate::model::workload::shape::scale;
use crate::model::workload::{SessionSource, Shape, SourceError};

/// A source of sessions with a shape applied. The window is about openings, and sessions are whole: what opens in it is
/// played to its end. A speed-up divides the delays inside a session too. After so many requests no session opens any
/// more. Copies are not for sessions.
pub struct ShapedSessions {
    source: Box<dyn SessionSource>,
    shape: Shape,
    /// Calls of the sessions so far.
    calls: u64,
}

impl ShapedSessions {
    /// Applies `shape` to `source`.
    ///
    /// # Panics
    /// If it asks for copies.
    pub fn new(source: Box<dyn SessionSource>, shape: Shape) -> ShapedSessions {
        assert_eq!(shape.copies, 1, "sessions that wait are not copied");
        ShapedSessions { source, shape, calls: 0 }
    }
}

impl SessionSource for ShapedSessions {
    fn next_session(&mut self) -> Result<Option<Opening>, SourceError> {
        if self.shape.requests.is_some_and(|limit| self.calls >= limit) {
            return Ok(None);
        }
        while let Some(mut opening) = self.source.next_session()? {
            let offset = opening.at.since(Time::ZERO);
            if self.shape.until.is_some_and(|until| offset >= until) {
                return Ok(None);
            }
            if offset < self.shape.from {
                continue;
            }
            let ns = offset.as_ns() - self.shape.from.as_ns();
            opening.at = scale(ns, self.shape.speedup);
            #[expect(clippy::float_cmp, reason = "exactly one means that nothing is scaled")]
            if self.shape.speedup != 1.0 {
                opening.plan.speed_up(self.shape.speedup);
            }
            self.calls += opening.asks.len() as u64;
            return Ok(Some(opening));
        }
        Ok(None)
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
    fn a_limit_ends_with_a_whole_session() {
        let count = |requests| shaped(Shape { requests, ..Shape::default() }).len();
        assert_eq!([Some(1), Some(2), Some(3), Some(100), None].map(count), [1, 1, 2, 4, 4]);
    }
}
