//! The requests of a run, as they come in.

use std::sync::Arc;

use prefetch_index::prefetch_index;

use crate::kernel::Time;
use crate::model::class::Lots;
use crate::model::metrics::Recorder;
use crate::model::request::{Request, RequestId};
use crate::model::workload::{ReadAhead, Source, SourceError};

/// How many requests pass between two questions how far the source has come.
const REQUESTS_PER_FRACTION: u64 = 1024;

/// A source, one request ahead.
pub(super) struct Arrivals {
    source: Box<dyn Source>,
    next: Option<Request>,
    taken: u64,
    error: Option<SourceError>,
    /// What says of which class a request is, if there are classes.
    lots: Option<Lots>,
}

impl Arrivals {
    /// Nothing has been read yet.
    pub(super) fn new(source: Box<dyn Source>, lots: Option<Lots>) -> Arrivals {
        Arrivals { source, next: None, taken: 0, error: None, lots }
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
    pub(super) fn read(&mut self, recorder: &mut Recorder) {
        self.next = self.source.next_request().unwrap_or_else(|error| {
            self.error = Some(error);
            recorder.halt = true;
            None
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
        self.read(recorder);
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
