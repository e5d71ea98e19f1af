//! The requests of a run, as they come in.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use prefetch_index::prefetch_index;

use crate::kernel::{Span, Time, give_up};
use crate::model::class::Lots;
use crate::model::metrics::Recorder;
use crate::model::request::{Request, RequestId};
use crate::model::workload::{ReadAhead, Source, SourceError};

/// How many requests pass between two questions how far the source has come.
const REQUESTS_PER_FRACTION: u64 = 1024;

/// So many requests tell how they come.
const REQUESTS_TO_TELL: usize = 256;

/// A source, one request ahead.
pub(super) struct Arrivals {
    source: Box<dyn Source>,
    /// What was read to see how requests come.
    seen: VecDeque<Result<Request, SourceError>>,
    /// The panic that came after it. It is the coordinator's, as any other panic of the source.
    bug: Option<Box<dyn Any + Send>>,
    next: Option<Request>,
    taken: u64,
    error: Option<SourceError>,
    /// What says of which class a request is, if there are classes.
    lots: Option<Lots>,
}

impl Arrivals {
    /// Nothing has been read yet.
    pub(super) fn new(source: Box<dyn Source>, lots: Option<Lots>) -> Arrivals {
        let (seen, bug) = (VecDeque::new(), None);
        Arrivals { source, seen, bug, next: None, taken: 0, error: None, lots }
    }

    /// The time between two moments at which requests come, on average over the first of them. Before anything else is read.
    pub(super) fn silence(&mut self) -> Span {
        let look = AssertUnwindSafe(|| {
            while self.seen.len() < REQUESTS_TO_TELL
                && let Some(request) = self.source.next_request().transpose()
            {
                let is_last = request.is_err();
                self.seen.push_back(request);
                if is_last {
                    break;
                }
            }
        });
        self.bug = catch_unwind(look).err();
        let moments = self.seen.iter().flatten().map(|request| request.arrival);
        let (Some(first), Some(last)) = (moments.clone().next(), moments.clone().next_back())
        else {
            return Span::ZERO;
        };
        let gaps = moments.clone().zip(moments.skip(1)).filter(|(one, next)| one < next).count();
        // A source that breaks its order is found out where its requests are taken.
        let length = last.as_ns().saturating_sub(first.as_ns());
        Span::from_ns(length / gaps.max(1) as u64)
    }

    /// Why the source ended before its end, if it did.
    pub(super) fn error(&mut self) -> Option<SourceError> {
        self.error.take()
    }

    /// A hand to read its requests ahead with.
    pub(super) fn read_ahead(&self) -> Option<Arc<dyn ReadAhead>> {
        self.source.read_ahead()
    }

    /// How many bad entries the source has left out.
    pub(super) fn skipped(&self) -> u64 {
        self.source.skipped()
    }

    /// The next request, if there is one.
    pub(super) fn next(&self) -> Option<&Request> {
        self.next.as_ref()
    }

    /// Reads the next request. An error of the source ends the run.
    pub(super) fn read(&mut self) {
        let next = match self.seen.pop_front() {
            Some(seen) => seen.map(Some),
            None => match self.bug.take() {
                Some(bug) => resume_unwind(bug),
                None => self.source.next_request(),
            },
        };
        self.next = next.unwrap_or_else(|error| {
            self.error = Some(error);
            give_up()
        });
        if let Some(request) = &self.next {
            fetch(&request.prompt.chain);
        }
    }

    /// Lets the next request arrive at `now`, and reads the one after it.
    pub(super) fn take(&mut self, now: Time, recorder: &mut Recorder) -> Option<Request> {
        let mut request = self.next.take()?;
        request.id = RequestId(self.taken);
        request.arrival = now;
        if let Some(lots) = &self.lots {
            lots.assign(&mut request, self.taken);
        }
        self.taken += 1;
        if self.taken.is_multiple_of(REQUESTS_PER_FRACTION) {
            recorder.fraction = self.source.fraction();
        }
        self.read();
        Some(request)
    }
}

/// Has what the router looks at on its way: another thread may have made this chain, on another core.
fn fetch(chain: &[u64]) {
    const LINE: usize = 64 / size_of::<u64>();
    const LINES: usize = 4;
    if let Some(last) = chain.len().checked_sub(1) {
        (0..last).step_by(LINE).take(LINES).for_each(|word| prefetch_index(chain, word));
        prefetch_index(chain, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metrics::{Slo, Totals};
    use crate::model::request::Prompt;

    /// Requests at these times, in ms, and then a broken line; a bug instead if the last time is 99.
    struct Broken(VecDeque<u64>);

    impl Source for Broken {
        fn next_request(&mut self) -> Result<Option<Request>, SourceError> {
            let Some(ms) = self.0.pop_front() else { return Err("a broken line".into()) };
            assert!(ms != 99, "the source has a bug");
            Ok(Some(Request::new(ms, Time::ZERO + Span::from_ms(ms), Prompt::unique(1), 1)))
        }
    }

    #[test]
    fn a_look_ahead_changes_nothing() {
        let times = [0, 0, 10, 10, 10, 40];
        let mut arrivals = Arrivals::new(Box::new(Broken(times.into())), None);
        assert_eq!(arrivals.silence(), Span::from_ms(20));
        let mut recorder = Recorder::new(Span::from_secs(1), Slo::default());
        arrivals.read();
        let mut take = || arrivals.take(Time::ZERO, &mut recorder).expect("it was seen");
        for ms in &times[..times.len() - 1] {
            assert_eq!(take().trace_line, *ms);
        }
        assert!(catch_unwind(AssertUnwindSafe(take)).is_err(), "it gives up");
        assert_eq!(recorder.totals, Totals::default());
        assert!(arrivals.next().is_none() && arrivals.error().is_some());
    }

    #[test]
    #[should_panic(expected = "the source has a bug")]
    fn a_panic_comes_when_it_would_have_come() {
        let mut arrivals = Arrivals::new(Box::new(Broken([5, 7, 99].into())), None);
        assert_eq!(arrivals.silence(), Span::from_ms(2));
        for _ in 0..2 {
            arrivals.read();
            assert!(arrivals.next().is_some());
        }
        arrivals.read();
    }

    #[test]
    fn nothing_and_one_moment_have_no_gaps() {
        for times in [vec![], vec![7], vec![7, 7]] {
            let mut arrivals = Arrivals::new(Box::new(Broken(times.into())), None);
            assert_eq!(arrivals.silence(), Span::ZERO);
        }
    }
}
