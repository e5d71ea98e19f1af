//! Pieces come in order whoever does the work, and sources give the same requests through it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rand::RngExt;

use super::pipeline::{BYTES_MAX, PIECES_MAX};
use super::*;
use crate::kernel::rng::stream;
use crate::kernel::time::{Span, Time};
use crate::model::request::Prompt;
use crate::model::workload::{Shape, Shaped, generate};

/// Counts up to a limit; panics where it is told to.
struct Numbers {
    limit: u64,
    size: usize,
    cut_panics_at: u64,
    finish_panics_at: u64,
    finished: Arc<AtomicUsize>,
}

impl Numbers {
    fn up_to(limit: u64) -> Numbers {
        let never = u64::MAX;
        let finished = Arc::new(AtomicUsize::new(0));
        Numbers { limit, size: 1, cut_panics_at: never, finish_panics_at: never, finished }
    }

    fn pipeline(self) -> Pipeline<Numbers> {
        Pipeline::new(self, 0)
    }
}

impl Stages for Numbers {
    type State = u64;
    type Raw = (u64, usize);
    type Piece = u64;

    fn cut(&self, next: &mut u64) -> Option<(u64, usize)> {
        assert!(*next != self.cut_panics_at, "no way to cut {next}");
        let number = *next;
        *next += 1;
        (number < self.limit).then_some((number, self.size))
    }

    fn finish(&self, (number, _): (u64, usize)) -> u64 {
        assert!(number != self.finish_panics_at, "no way to finish {number}");
        self.finished.fetch_add(1, Ordering::Relaxed);
        // Pieces take different times, so that they are finished in another order.
        (0..number * 7919 % 1000).fold(0, |sum: u64, term| std::hint::black_box(sum ^ term));
        number
    }

    fn size((_, size): &(u64, usize)) -> usize {
        *size
    }
}

/// Does something while so many threads read ahead as fast as they can.
pub(in crate::io) fn with_helpers<T>(
    helpers: usize,
    hand: &dyn ReadAhead,
    work: impl FnOnce() -> T,
) -> T {
    /// Ends the helpers, also if the work panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if !hand.advance() {
                        thread::yield_now();
                    }
                }
            });
        }
        let _stop = Stop(&stop);
        work()
    })
}

#[test]
fn pieces_come_in_order_on_any_number_of_threads() {
    for helpers in [0, 1, 3] {
        let pipeline = Numbers::up_to(5000).pipeline();
        let numbers: Vec<u64> =
            with_helpers(helpers, &pipeline, || std::iter::from_fn(|| pipeline.next()).collect());
        assert!(numbers.into_iter().eq(0..5000), "{helpers} helpers");
        assert!(pipeline.next().is_none() && !pipeline.advance());
    }
}

#[test]
fn reading_ahead_is_bounded() {
    let pipeline = Numbers::up_to(1000).pipeline();
    let mut pieces = 0;
    while pipeline.advance() {
        pieces += 1;
    }
    assert_eq!(pieces, PIECES_MAX);
    assert_eq!(pipeline.next(), Some(0));
    assert!(pipeline.advance() && !pipeline.advance(), "one is gone, so one may come");
    let large = Numbers { size: BYTES_MAX / 4, ..Numbers::up_to(1000) }.pipeline();
    assert_eq!((0..10).filter(|_| large.advance()).count(), 4);
}

/// The reader gets what is prepared, not what it could make itself.
#[test]
fn what_is_prepared_is_used() {
    let stages = Numbers::up_to(1000);
    let finished = Arc::clone(&stages.finished);
    let pipeline = stages.pipeline();
    let prepared = (0..10).filter(|_| pipeline.advance()).count();
    let read = (0..10).filter_map(|_| pipeline.next()).count();
    assert_eq!((prepared, read), (10, 10));
    assert_eq!(finished.load(Ordering::Relaxed), 10);
}

#[test]
fn a_panic_comes_to_the_reader_in_its_place() {
    for helpers in [0, 1, 3] {
        for (cut_panics_at, finish_panics_at, message) in
            [(70, u64::MAX, "no way to cut 70"), (u64::MAX, 70, "no way to finish 70")]
        {
            let stages = Numbers { cut_panics_at, finish_panics_at, ..Numbers::up_to(1000) };
            let pipeline = stages.pipeline();
            let mut read = Vec::new();
            let payload = catch_unwind(AssertUnwindSafe(|| {
                with_helpers(helpers, &pipeline, || {
                    while let Some(number) = pipeline.next() {
                        read.push(number);
                    }
                });
            }));
            let payload = payload.unwrap_err();
            assert_eq!(payload.downcast_ref::<String>().unwrap(), message, "{helpers} helpers");
            assert!(read.into_iter().eq(0..70), "{helpers} helpers");
        }
    }
}

/// Everything a source says, up to its end: requests and errors, then what it skipped.
fn all(source: &mut dyn Source) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match source.next_request() {
            Ok(Some(request)) => all.push(format!("{request:?}")),
            Ok(None) => break,
            Err(error) => all.push(error.to_string()),
        }
    }
    all.push(format!("{} skipped", source.skipped()));
    all
}

/// A source reads the same with and without `Ahead`, whoever helps and whenever.
fn check(open: &dyn Fn() -> Box<dyn Source>) {
    let expected = all(open().as_mut());
    for helpers in [0, 1, 3] {
        let mut source = Ahead::new(open());
        let hand = source.read_ahead().unwrap();
        let found = with_helpers(helpers, hand.as_ref(), || all(&mut source));
        assert_eq!(found, expected, "{helpers} helpers");
    }
    let mut rng = stream(21, 0);
    let mut source = Ahead::new(open());
    let hand = source.read_ahead().unwrap();
    let mut found = Vec::new();
    while found.len() + 1 < expected.len() {
        for _ in 0..rng.random_range(0..3) {
            hand.advance();
        }
        match source.next_request() {
            Ok(request) => found.push(format!("{:?}", request.expect("there is one more"))),
            Err(error) => found.push(error.to_string()),
        }
    }
    found.extend(all(&mut source));
    assert_eq!(found, expected, "one thread");
}

#[test]
fn generators_and_copies_give_the_same_requests() {
    let cut = |copies| Shape {
        copies,
        copy_spread: Span::from_ms(5_000),
        requests: Some(3000),
        ..Shape::default()
    };
    for copies in [1, 3] {
        check(&|| Box::new(Shaped::new(generate::toolagent(5), cut(copies))));
    }
    check(&|| Box::new(std::iter::empty()));
}

/// A source that errs now and then, and skips.
struct Erratic(u64);

impl Source for Erratic {
    fn next_request(&mut self) -> Result<Option<Request>, SourceError> {
        self.0 += 1;
        let number = self.0;
        match number {
            130 | 200 | 201 => Err(format!("broken at {number}").into()),
            1000.. => Ok(None),
            _ => Ok(Some(Request::new(
                number,
                Time::from_ns(number),
                Prompt::named(1, (0..number as u32 % 7).map(u64::from), number),
                1,
            ))),
        }
    }

    fn skipped(&self) -> u64 {
        self.0 / 10
    }

    fn fraction(&self) -> Option<f64> {
        Some(self.0 as f64 / 1000.0)
    }
}

#[test]
fn errors_come_after_the_requests_before_them() {
    check(&|| Box::new(Erratic(0)));
    let mut source = Ahead::new(Box::new(Erratic(0)));
    assert_eq!(source.fraction(), Some(0.0));
    all(&mut source);
    assert_eq!(source.fraction(), Some(1.0));
}

/// Long prompts make short batches.
#[test]
fn batches_are_bounded_in_bytes() {
    let prompt = Prompt::named(1, (0..1_u32 << 16).map(u64::from), 0);
    let request = move |number| Request::new(number, Time::ZERO, prompt.clone(), 1);
    let source = Ahead::new(Box::new((0..1000).map(request)));
    let hand = source.read_ahead().unwrap();
    let batches = std::iter::repeat_with(|| hand.advance()).take_while(|&worked| worked).count();
    assert_eq!(batches, BYTES_MAX / (8 << 16), "a prompt of 0.5 MB each");
}
