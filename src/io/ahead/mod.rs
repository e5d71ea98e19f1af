//! Requests made before they are asked for, by whoever is idle.
//!
//! Neither which requests come nor their order depends on who makes them, or when. A trace is read ahead in chunks of
//! lines (`crate::io::trace`). Every other source is a thing of one thread; [`Ahead`] runs it in batches, on one thread
//! at a time.

mod pipeline;
#[cfg(test)]
pub(in crate::io) mod tests;

pub(in crate::io) use pipeline::{Pipeline, Stages};

use std::sync::Arc;
use std::vec;

use crate::model::request::Request;
use crate::model::workload::{ReadAhead, Source, SourceError};

/// Requests in a batch. Making one takes a microsecond or less.
const BATCH: usize = 64;

/// A batch of longer prompts ends early, so that the size of what is prepared has a bound.
const BATCH_BYTES: usize = 128 << 10;

/// A source whose requests can be made ahead.
pub struct Ahead {
    hand: Arc<Hand>,
    requests: vec::IntoIter<Request>,
    /// What comes after them.
    error: Option<SourceError>,
    skipped: u64,
    fraction: Option<f64>,
}

/// What reads ahead: the hand of the source itself, if it has one, and then the source.
struct Hand {
    source: Option<Arc<dyn ReadAhead>>,
    batches: Pipeline<Batches>,
}

/// Runs a source batch by batch.
struct Batches;

struct Running {
    source: Box<dyn Source>,
    ended: bool,
}

/// Some requests, and how the source stood after them.
struct Batch {
    requests: Vec<Request>,
    bytes: usize,
    error: Option<SourceError>,
    skipped: u64,
    fraction: Option<f64>,
}

impl Ahead {
    /// The same requests as `source` gives, errors included.
    pub fn new(source: Box<dyn Source>) -> Ahead {
        let (skipped, fraction) = (source.skipped(), source.fraction());
        let hand = Hand {
            source: source.read_ahead(),
            batches: Pipeline::new(Batches, Running { source, ended: false }),
        };
        let requests = Vec::new().into_iter();
        Ahead { hand: Arc::new(hand), requests, error: None, skipped, fraction }
    }
}

impl Source for Ahead {
    fn next_request(&mut self) -> Result<Option<Request>, SourceError> {
        loop {
            if let Some(request) = self.requests.next() {
                return Ok(Some(request));
            }
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            let Some(batch) = self.hand.batches.next() else { return Ok(None) };
            self.requests = batch.requests.into_iter();
            self.error = batch.error;
            self.skipped = batch.skipped;
            self.fraction = batch.fraction;
        }
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn fraction(&self) -> Option<f64> {
        self.fraction
    }

    fn read_ahead(&self) -> Option<Arc<dyn ReadAhead>> {
        Some(Arc::clone(&self.hand) as Arc<dyn ReadAhead>)
    }
}

impl ReadAhead for Hand {
    fn advance(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.advance()) || self.batches.advance()
    }
}

impl Stages for Batches {
    type State = Running;
    type Raw = Batch;
    type Piece = Batch;

    fn cut(&self, running: &mut Running) -> Option<Batch> {
        if running.ended {
            return None;
        }
        let (mut requests, mut bytes, mut error) = (Vec::with_capacity(BATCH), 0, None);
        while requests.len() < BATCH && bytes < BATCH_BYTES {
            match running.source.next_request() {
                Ok(Some(request)) => {
                    bytes += size_of::<Request>() + size_of_val(&*request.prompt.chain);
                    requests.push(request);
                }
                Ok(None) => {
                    running.ended = true;
                    break;
                }
                Err(found) => {
                    error = Some(found);
                    break;
                }
            }
        }
        let (skipped, fraction) = (running.source.skipped(), running.source.fraction());
        Some(Batch { requests, bytes, error, skipped, fraction })
    }

    fn finish(&self, batch: Batch) -> Batch {
        batch
    }

    fn size(batch: &Batch) -> usize {
        batch.bytes
    }
}
