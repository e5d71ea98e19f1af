//! What the oracle is told: the arrivals of a whole workload, read once before the run.

use crate::kernel::time::Span;
use crate::model::planner::predict::Future;
use crate::model::workload::{Source, SourceError};

/// The traffic that a workload holds, interval by interval from the start of the run.
#[derive(Clone, PartialEq, Debug)]
pub struct Foresight {
    /// Requests per second.
    pub rate: Future,
    /// Mean prompt length of what arrives, in tokens; in an interval without requests the mean of the whole workload.
    pub isl: Future,
    /// Mean output length of what arrives, in tokens; likewise.
    pub osl: Future,
}

/// What arrives in one interval.
#[derive(Clone, Copy, Default)]
struct Sums {
    requests: u64,
    prompt_tokens: u64,
    output_tokens: u64,
}

impl Sums {
    fn mean(self, tokens: u64, otherwise: f64) -> f64 {
        if self.requests == 0 { otherwise } else { tokens as f64 / self.requests as f64 }
    }
}

impl Foresight {
    /// Reads a source to its end. It is spent then: the run needs another one that gives the same requests.
    ///
    /// # Errors
    /// Where the source cannot go on.
    ///
    /// # Panics
    /// With an interval of zero.
    pub fn of(source: &mut dyn Source, interval: Span) -> Result<Foresight, SourceError> {
        assert!(interval > Span::ZERO, "a future in intervals of zero");
        let (mut intervals, mut all): (Vec<Sums>, Sums) = (Vec::new(), Sums::default());
        while let Some(request) = source.next_request()? {
            let number = (request.arrival.as_ns() / interval.as_ns()) as usize;
            if number >= intervals.len() {
                intervals.resize(number + 1, Sums::default());
            }
            for sums in [&mut intervals[number], &mut all] {
                sums.requests += 1;
                sums.prompt_tokens += u64::from(request.prompt.tokens);
                sums.output_tokens += u64::from(request.output_tokens);
            }
        }
        let isl = all.mean(all.prompt_tokens, 0.0);
        let osl = all.mean(all.output_tokens, 0.0);
        let future = |value: &dyn Fn(&Sums) -> f64| Future {
            values: intervals.iter().map(value).collect(),
            interval,
        };
        Ok(Foresight {
            rate: future(&|sums| sums.requests as f64 / interval.as_secs()),
            isl: future(&|sums| sums.mean(sums.prompt_tokens, isl)),
            osl: future(&|sums| sums.mean(sums.output_tokens, osl)),
        })
    }
}
