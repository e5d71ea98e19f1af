//! What is done to a source of requests before it reaches the fleet: a window, a speed-up, copies, a limit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::kernel::rng::mix64;
use crate::kernel::time::{Span, Time};
use crate::model::request::Request;
use crate::model::workload::{ReadAhead, Source, SourceError};

/// Changes to a source, in the order in which they apply.
#[derive(Clone, PartialEq, Debug)]
pub struct Shape {
    /// Requests before this time of the source are left out; this time becomes zero.
    pub from: Span,
    /// Requests from this time of the source on are left out.
    pub until: Option<Span>,
    /// Times are divided by this; above zero.
    pub speedup: f64,
    /// Every request comes so many times, each time with tokens and sessions of its own; at least one.
    pub copies: u32,
    /// Copy k comes k / `copies` of this time after the original.
    pub copy_spread: Span,
    /// Nothing comes after so many requests, copies included.
    pub requests: Option<u64>,
}

impl Default for Shape {
    /// Changes nothing.
    fn default() -> Shape {
        Shape {
            from: Span::ZERO,
            until: None,
            speedup: 1.0,
            copies: 1,
            copy_spread: Span::ZERO,
            requests: None,
        }
    }
}

impl Shape {
    /// Whether the source would come out as it is.
    pub fn changes_nothing(&self) -> bool {
        let spread = self.copy_spread;
        *self == Shape { copy_spread: spread, ..Shape::default() }
    }

    /// When a copy comes of what comes at `original`, if virtual time goes on so long.
    pub(super) fn later(&self, original: Time, copy: u32) -> Option<Time> {
        let spread = u128::from(self.copy_spread.as_ns());
        let delay = Span::from_ns((spread * u128::from(copy) / u128::from(self.copies)) as u64);
        Some(original.saturating_add(delay)).filter(|&at| at <= Time::MAX)
    }

    /// That a request or session, counted from 0, does not come in virtual time.
    pub(super) fn too_late(&self, kind: &str, number: u64) -> TooLate {
        TooLate { what: format!("{kind} {}", number + 1), speedup: self.speedup }
    }
}

/// Something would come when virtual time is over.
#[derive(Clone, PartialEq, Debug)]
pub struct TooLate {
    /// What it is, such as `request 3`: counted in the source, from 1.
    pub what: String,
    /// How much the source is sped up.
    pub speedup: f64,
}

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooLate { what, speedup } = self;
        write!(
            f,
            "{what} of the workload comes more than 834 days after the start, with a speed-up of {speedup}: \
             take a higher one, or an earlier end of the window"
        )
    }
}

impl Error for TooLate {}

/// A source with its shape applied.
pub struct Shaped {
    source: Box<dyn Source>,
    shape: Shape,
    left: u64,
    /// Requests that some copy still has to play, the oldest first, and how many were taken off its front.
    recent: VecDeque<Request>,
    dropped: u64,
    /// For every copy: the next request it plays, as (arrival, copy, number in the source).
    copies: BinaryHeap<Reverse<(Time, u32, u64)>>,
    /// Copies that wait for the source to be read further.
    starved: Vec<(u32, u64)>,
    ended: bool,
}

impl Shaped {
    /// Applies `shape` to `source`.
    pub fn new(source: Box<dyn Source>, shape: Shape) -> Shaped {
        let left = shape.requests.unwrap_or(u64::MAX);
        let starved = (0..shape.copies).map(|copy| (copy, 0)).collect();
        let (recent, copies) = (VecDeque::new(), BinaryHeap::new());
        Shaped { source, shape, left, recent, dropped: 0, copies, starved, ended: false }
    }

    /// The next request inside the window, its time moved and scaled.
    fn read(&mut self) -> Result<Option<Request>, SourceError> {
        while let Some(mut request) = self.source.next_request()? {
            let offset = request.arrival.since(Time::ZERO);
            if self.shape.until.is_some_and(|until| offset >= until) {
                return Ok(None);
            }
            if offset >= self.shape.from {
                let ns = offset.as_ns() - self.shape.from.as_ns();
                let too_late = || self.shape.too_late("request", request.trace_line);
                request.arrival = scale(ns, self.shape.speedup).ok_or_else(too_late)?;
                return Ok(Some(request));
            }
        }
        Ok(None)
    }

    /// Gives every copy that waits its next request, reading one more from the source if none of them has one.
    fn feed(&mut self) -> Result<(), SourceError> {
        let end = self.dropped + self.recent.len() as u64;
        if self.starved.iter().any(|&(_, number)| number == end) && !self.ended {
            match self.read()? {
                Some(request) => self.recent.push_back(request),
                None => self.ended = true,
            }
        }
        for (copy, number) in std::mem::take(&mut self.starved) {
            if let Some(request) = self.recent.get((number - self.dropped) as usize) {
                let arrival = self.shape.later(request.arrival, copy);
                let too_late = || self.shape.too_late("request", request.trace_line);
                self.copies.push(Reverse((arrival.ok_or_else(too_late)?, copy, number)));
            }
        }
        Ok(())
    }

    fn play(&mut self, arrival: Time, copy: u32, number: u64) -> Request {
        // Copies play the source in order, each later than the one before: the last one is done with it first.
        let is_last = copy + 1 == self.shape.copies;
        let first = if is_last { self.recent.pop_front() } else { None };
        self.dropped += u64::from(is_last);
        let index = || (number - self.dropped) as usize;
        let mut request = first.unwrap_or_else(|| self.recent[index()].clone());
        request.arrival = arrival;
        if copy > 0 {
            let salt = mix64(u64::from(copy));
            request.prompt.chain =
                request.prompt.chain.iter().map(|&id| mix64(id ^ salt)).collect();
            request.session = request.session.map(|session| mix64(session ^ salt));
        }
        self.starved.push((copy, number + 1));
        request
    }
}

impl Source for Shaped {
    fn next_request(&mut self) -> Result<Option<Request>, SourceError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.feed()?;
        let Some(Reverse((arrival, copy, number))) = self.copies.pop() else { return Ok(None) };
        self.left -= 1;
        Ok(Some(self.play(arrival, copy, number)))
    }

    fn skipped(&self) -> u64 {
        self.source.skipped()
    }

    fn fraction(&self) -> Option<f64> {
        self.source.fraction()
    }

    fn read_ahead(&self) -> Option<Arc<dyn ReadAhead>> {
        self.source.read_ahead()
    }
}

/// A time of the source after a speed-up, if virtual time goes on so long.
pub(super) fn scale(ns: u64, speedup: f64) -> Option<Time> {
    #[expect(clippy::float_cmp, reason = "exactly one means that nothing is scaled")]
    let ns = if speedup == 1.0 { ns } else { (ns as f64 / speedup).round() as u64 };
    Some(Time::from_ns(ns)).filter(|&at| at <= Time::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::request::Prompt;

    fn source(arrivals: &[u64], shape: Shape) -> Shaped {
        let requests: Vec<Request> = (0..)
            .zip(arrivals)
            .map(|(line, &arrival)| Request {
                session: Some(line),
                ..Request::new(
                    line,
                    Time::from_ns(arrival),
                    Prompt::named(700, [0, line].into_iter(), 0),
                    1,
                )
            })
            .collect();
        Shaped::new(Box::new(requests.into_iter()), shape)
    }

    fn shaped(arrivals: &[u64], shape: Shape) -> Vec<Request> {
        let mut source = source(arrivals, shape);
        std::iter::from_fn(|| source.next_request().unwrap()).collect()
    }

    fn arrivals(arrivals: &[u64], shape: Shape) -> Vec<u64> {
        shaped(arrivals, shape).iter().map(|request| request.arrival.as_ns()).collect()
    }

    #[test]
    fn windows_are_cut_out_then_sped_up() {
        let shape = Shape {
            from: Span::from_ns(10),
            until: Some(Span::from_ns(30)),
            speedup: 2.0,
            ..Shape::default()
        };
        assert_eq!(arrivals(&[0, 9, 10, 20, 29, 30, 31], shape), [0, 5, 10]);
        assert_eq!(arrivals(&[0, 9, 10], Shape { requests: Some(2), ..Shape::default() }), [0, 9]);
    }

    #[test]
    fn copies_share_nothing_but_keep_their_structure() {
        let shape = Shape { copies: 3, copy_spread: Span::from_ns(30), ..Shape::default() };
        let requests = shaped(&[0, 4, 15], shape);
        let order: Vec<(u64, u64)> =
            requests.iter().map(|r| (r.arrival.as_ns(), r.trace_line)).collect();
        let expected =
            [(0, 0), (4, 1), (10, 0), (14, 1), (15, 2), (20, 0), (24, 1), (25, 2), (35, 2)];
        assert_eq!(order, expected);
        let roots: std::collections::BTreeSet<u64> =
            requests.iter().map(|request| request.prompt.chain[0]).collect();
        assert_eq!(roots.len(), 3, "one root per copy");
        let sessions: std::collections::BTreeSet<_> = requests.iter().map(|r| r.session).collect();
        assert_eq!(sessions.len(), 9);
    }

    #[test]
    fn copies_at_the_same_time_come_in_order() {
        let shape = Shape { copies: 2, requests: Some(3), ..Shape::default() };
        let requests = shaped(&[0, 0], shape);
        let order: Vec<u64> = requests.iter().map(|request| request.trace_line).collect();
        assert_eq!(order, [0, 1, 0]);
    }

    #[test]
    fn what_comes_after_the_end_of_time_is_refused() {
        let (max, half) = (Time::MAX.as_ns(), 1 << 55);
        let slow = Shape { speedup: 0.5, ..Shape::default() };
        assert_eq!(arrivals(&[0, half - 8], slow.clone()), [0, max - 15]);
        let spread = Span::from_ns(2);
        let copies = Shape { copies: 2, copy_spread: spread, ..Shape::default() };
        for (last, shape, speedup) in [(half, slow, "0.5"), (max, copies, "1")] {
            let mut source = source(&[0, last], shape);
            let error = (0..4).find_map(|_| source.next_request().err());
            let expected = format!(
                "request 2 of the workload comes more than 834 days after the start, with a speed-up of {speedup}: take a \
                 higher one, or an earlier end of the window"
            );
            assert_eq!(error.unwrap().to_string(), expected);
        }
    }
}
