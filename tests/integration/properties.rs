//! What holds for every fleet and every workload: checked on whole runs of random ones.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use fleetsim::fleet::{self, FleetSpec, Load, Outcome, Role, RunError, Sink};
use fleetsim::kernel::{Span, Time};
use fleetsim::model::metrics::{Row, Status};
use fleetsim::model::request::{Request, Visible, WorkerId};
use fleetsim::model::router::{Policy, PolicySpec};
use fleetsim::model::workload::{Shape, Source, SourceError};

use crate::support::swarm::Case;
use crate::support::{Rows, seeds};

/// Runs `check` on a random case per seed; a failure says how to repeat it.
fn for_each_case(count: u64, test: &str, mut check: impl FnMut(&mut Case)) {
    for seed in seeds(count) {
        let mut case = Case::new(seed);
        let caught = catch_unwind(AssertUnwindSafe(|| check(&mut case)));
        caught.unwrap_or_else(|_| {
            panic!("repeat with FLEETSIM_SEED={seed} cargo test {test}\nwhich runs {case:?}")
        });
    }
}

fn run(case: &Case, sink: &dyn Sink) -> Result<Outcome, RunError> {
    fleet::run(&case.spec, case.source(), &case.policy, sink)
}

/// Takes everything and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn rows(&self, _: &[Row]) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_fleet_keeps_the_rules() {
    let mut seen = BTreeMap::new();
    for_each_case(1200, "every_fleet_keeps_the_rules", |case| {
        let rows = Rows::default();
        let outcome = run(case, &rows).unwrap();
        let again = Rows::default();
        let repeated = run(case, &again).unwrap();
        assert_eq!(*rows.0.lock(), *again.0.lock(), "a run repeats itself");
        assert_eq!((outcome.digest, outcome.events), (repeated.digest, repeated.events));

        let rows = rows.sorted();
        check_numbers(&rows, &outcome);
        check_arrivals(case, &rows);
        for row in &rows {
            check_order(row);
            check_outcome(case, row);
            *seen.entry(row.status.word()).or_insert(0) += 1;
            *seen.entry("preempted").or_insert(0) += u32::from(row.preemptions > 0);
            *seen.entry("reused").or_insert(0) += u32::from(row.reused_tokens > 0);
        }
        check_workers(case, &rows);
        check_slo(case, &rows, &outcome);
        *seen.entry("uneven").or_insert(0) += u32::from(check_load(case, &rows, &outcome));
        *seen.entry("queued").or_insert(0) +=
            u32::from(outcome.recorder.series.intervals().iter().any(|i| i.queued > 0));

        case.spec.series_interval = Span::from_ns(1 + case.spec.series_interval.as_ns() / 3);
        let unwatched = run(case, &Nowhere).unwrap();
        assert_eq!(outcome.digest, unwatched.digest, "watching a run changes nothing");
        assert_eq!(outcome.recorder.totals, unwatched.recorder.totals);
    });
    if std::env::var_os("FLEETSIM_SEED").is_none() {
        // A fleet that never gets into trouble proves little.
        assert!(seen.len() == 7 && seen.values().all(|&count| count > 30), "{seen:?}");
    }
}

/// Every request has exactly one row, and the totals are those of the rows.
fn check_numbers(rows: &[Row], outcome: &Outcome) {
    assert!((0..).zip(rows).all(|(id, row)| row.id.0 == id), "one row per request");
    let count = |status| rows.iter().filter(|row| row.status == status).count() as u64;
    let totals = outcome.recorder.totals;
    assert_eq!(totals.arrived, rows.len() as u64);
    let ended = (totals.completed, totals.rejected, totals.aborted);
    let counted = (count(Status::Completed), count(Status::Rejected), count(Status::Aborted));
    assert_eq!(ended, counted);
}

/// What the series says about the load of the workers is what the rows say, wherever they tell when a request reached its
/// worker. Whether some worker had more than another.
fn check_load(case: &Case, rows: &[Row], outcome: &Outcome) -> bool {
    let dispatch = case.spec.control_plane.dispatch;
    if case.spec.router_queue.is_some() || dispatch.mean_extra > Span::ZERO {
        return false;
    }
    let mut is_uneven = false;
    let mut end = Time::ZERO;
    for (index, interval) in outcome.recorder.series.intervals().iter().enumerate() {
        end += case.spec.series_interval;
        let mut loads = vec![0_u64; case.spec.workers() as usize];
        for row in rows.iter().filter(|row| row.arrival + dispatch.floor <= end && end <= row.end) {
            loads[row.worker.unwrap().index()] += 1;
        }
        let max = loads.iter().copied().max().unwrap_or(0);
        let squares = loads.iter().map(|load| load * load).sum::<u64>();
        assert_eq!(interval.load_max, max, "at the end of interval {index}");
        assert_eq!(interval.load_squares, squares, "at the end of interval {index}");
        assert_eq!(interval.waiting + interval.running, loads.iter().sum::<u64>());
        is_uneven |= loads.iter().any(|&load| load != max);
    }
    is_uneven
}

/// When the requests of a shaped source come, by its definition.
fn arrivals(requests: &[Request], shape: &Shape) -> Vec<Time> {
    let mut arrivals = Vec::new();
    for offset in requests.iter().map(|request| request.arrival.since(Time::ZERO)) {
        if offset >= shape.from && shape.until.is_none_or(|until| offset < until) {
            let ns = (offset.as_ns() - shape.from.as_ns()) as f64 / shape.speedup;
            for copy in 0..u64::from(shape.copies) {
                let delay_ns = shape.copy_spread.as_ns() * copy / u64::from(shape.copies);
                arrivals.push(Time::from_ns(ns.round() as u64 + delay_ns));
            }
        }
    }
    arrivals.sort_unstable();
    arrivals.truncate(shape.requests.unwrap_or(u64::MAX) as usize);
    arrivals
}

/// Requests come when the source says, or whenever one ends.
fn check_arrivals(case: &Case, rows: &[Row]) {
    let expected = arrivals(&case.requests, &case.shape);
    let got: Vec<Time> = rows.iter().map(|row| row.arrival).collect();
    let Load::Closed(limit) = case.spec.load else {
        assert_eq!(got, expected, "arrivals of an open loop");
        return;
    };
    assert_eq!(got.len(), expected.len());
    assert!(
        got.iter().take(limit as usize).all(|&arrival| arrival == Time::ZERO),
        "a loop starts full"
    );
    let mut ends: Vec<Time> = rows.iter().map(|row| row.end).collect();
    ends.sort_unstable();
    for (&arrival, &end) in got.iter().skip(limit as usize).zip(&ends) {
        if case.spec.control_plane.is_ideal() {
            assert_eq!(arrival, end, "one comes when one ends");
        } else {
            assert!(arrival >= end, "{arrival} is before the end at {end}: too many in flight");
        }
    }
    let mut changes: Vec<(Time, bool)> = Vec::new();
    for row in rows.iter().filter(|row| row.end > row.arrival) {
        changes.extend([(row.arrival, true), (row.end, false)]);
    }
    changes.sort_unstable();
    let mut in_flight = 0_u64;
    for (time, arrives) in changes {
        in_flight = if arrives { in_flight + 1 } else { in_flight - 1 };
        assert!(in_flight <= limit, "{in_flight} in flight at {time}");
    }
}

/// INV-8.
fn check_order(row: &Row) {
    let times = [Some(row.arrival), row.admitted, row.first_token, row.second_token, Some(row.end)];
    let times: Vec<Time> = times.into_iter().flatten().collect();
    assert!(times.is_sorted(), "INV-8: {row:?}");
    let tokens = row.output_tokens;
    assert_eq!(row.first_token.is_some(), tokens > 0, "{row:?}");
    assert_eq!(row.second_token.is_some(), tokens > 1, "{row:?}");
    if row.status == Status::Completed {
        assert!(row.admitted.is_some(), "{row:?}");
        assert!(tokens != 1 || row.first_token == Some(row.end), "{row:?}");
        assert!(tokens != 2 || row.second_token == Some(row.end), "{row:?}");
    }
}

/// How a request ends follows from its lengths.
fn check_outcome(case: &Case, row: &Row) {
    let request = &case.requests[row.trace_line as usize];
    let worker = row.worker.unwrap();
    let pool = case.spec.pool_of_each().nth(worker.index()).unwrap();
    let engine = &pool.engine;
    let prompt = request.prompt.tokens;
    let room = engine.max_model_len.map_or(u32::MAX, |length| length.saturating_sub(prompt));
    let limit = request.output_tokens.min(room);
    assert_eq!(row.prompt_tokens, prompt);
    let blocks = |tokens: u32| tokens.div_ceil(engine.layout.block_size);
    let never = blocks(prompt) > engine.num_gpu_blocks
        || engine.max_model_len.is_some_and(|length| prompt >= length);
    let fits_pass = |tokens| engine.enable_chunked_prefill || tokens <= engine.max_whole_tokens;
    match row.status {
        Status::Rejected => {
            assert!(never || !fits_pass(prompt), "{row:?}");
            assert_eq!((row.output_tokens, row.admitted), (0, None), "{row:?}");
        }
        Status::Aborted => {
            let known = prompt + row.output_tokens;
            assert!(row.preemptions > 0 && row.output_tokens < limit, "{row:?}");
            assert!(blocks(known) > engine.num_gpu_blocks || !fits_pass(known), "{row:?}");
        }
        Status::Completed => {
            assert!(!never, "{row:?}");
            assert_eq!(row.output_tokens, limit, "{row:?}");
            // The last token is never fed back.
            assert!(blocks(prompt + limit.saturating_sub(1)) <= engine.num_gpu_blocks, "{row:?}");
        }
        Status::QueueFull | Status::Expired => panic!("turned away without limits: {row:?}"),
    }
    assert!(row.first_reused_tokens <= prompt, "{row:?}");
    assert!(row.reused_tokens <= prompt + row.output_tokens, "{row:?}");
    assert!(row.preemptions > 0 || row.reused_tokens == row.first_reused_tokens, "{row:?}");
    assert!(row.reused_tokens.is_multiple_of(engine.layout.block_size), "{row:?}");
    let shared = if engine.enable_prefix_caching { request.prompt.shared_tokens } else { 0 };
    assert!(row.first_reused_tokens <= shared, "{row:?}");
}

/// Who serves a request, where that is plain to see.
fn check_workers(case: &Case, rows: &[Row]) {
    assert!(rows.iter().all(|row| row.worker.unwrap().0 < case.spec.workers()));
    match case.policy {
        PolicySpec::RoundRobin => {
            let turn = |row: &Row| row.id.0 % u64::from(case.spec.workers());
            assert!(rows.iter().all(|row| u64::from(row.worker.unwrap().0) == turn(row)));
        }
        PolicySpec::SessionAffine if case.shape.copies == 1 => {
            let mut homes: BTreeMap<u64, Option<WorkerId>> = BTreeMap::new();
            for row in rows {
                if let Some(session) = case.requests[row.trace_line as usize].session {
                    assert_eq!(*homes.entry(session).or_insert(row.worker), row.worker);
                }
            }
        }
        _ => {}
    }
}

/// The requests that kept every bound, counted from the rows.
fn check_slo(case: &Case, rows: &[Row], outcome: &Outcome) {
    let slo = case.spec.slo;
    let keeps = |bound: Option<Span>, ns: u128, parts: u128| {
        bound.is_none_or(|bound| ns <= u128::from(bound.as_ns()) * parts)
    };
    let good = rows.iter().filter(|row| {
        let first = row.first_token.unwrap_or(row.arrival);
        let (ttft, decode) = (first.since(row.arrival), row.end.since(first));
        let gaps = u128::from(row.output_tokens.saturating_sub(1));
        row.status == Status::Completed
            && (row.output_tokens == 0 || keeps(slo.ttft, ttft.as_ns().into(), 1))
            && (gaps == 0 || keeps(slo.itl, decode.as_ns().into(), gaps))
            && keeps(slo.e2e, row.e2e().as_ns().into(), 1)
    });
    let expected = if slo.is_set() { good.count() as u64 } else { 0 };
    assert_eq!(outcome.recorder.totals.good, expected, "requests within the SLO");
}

/// Gives in after so many rows, or after so many looks at the progress.
struct Limited {
    rows: AtomicU64,
    looks: AtomicU64,
}

impl Limited {
    fn new(rows: u64, looks: u64) -> Limited {
        Limited { rows: AtomicU64::new(rows), looks: AtomicU64::new(looks) }
    }
}

/// Takes from what is left, if it is enough.
fn spend(left: &AtomicU64, count: u64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count)).is_ok()
}

impl Sink for Limited {
    fn rows(&self, rows: &[Row]) -> io::Result<()> {
        let enough = spend(&self.rows, rows.len() as u64);
        if enough { Ok(()) } else { Err(io::Error::other("the disk is full")) }
    }

    fn progress(&self, _: Time, _: u64, _: Option<f64>) -> ControlFlow<()> {
        if spend(&self.looks, 1) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

#[test]
fn a_sink_ends_the_run() {
    for_each_case(50, "a_sink_ends_the_run", |case| {
        let requests = arrivals(&case.requests, &case.shape).len() as u64;
        let error = run(case, &Limited::new(u64::MAX, 0)).unwrap_err();
        assert!(matches!(error, RunError::Halted), "{error:?}");
        if requests > 0 {
            let full = run(case, &Limited::new(requests - 1, u64::MAX));
            let Err(RunError::Sink(error)) = full else { panic!("{full:?}") };
            assert_eq!(error.to_string(), "the disk is full");
        }
        run(case, &Limited::new(requests, u64::MAX)).unwrap();
    });
}

/// A source that breaks off after so many requests, with an error or with a panic.
struct Broken {
    source: Box<dyn Source>,
    left: u64,
    panics: bool,
}

impl Source for Broken {
    fn next_request(&mut self) -> Result<Option<Request>, SourceError> {
        if self.left == 0 {
            assert!(!self.panics, "the source has a bug");
            return Err("the trace is torn".into());
        }
        self.left -= 1;
        self.source.next_request()
    }
}

#[test]
fn a_source_ends_the_run() {
    for_each_case(50, "a_source_ends_the_run", |case| {
        let requests = arrivals(&case.requests, &case.shape).len() as u64;
        for left in [0, requests / 2, requests] {
            let broken = |panics| Box::new(Broken { source: case.source(), left, panics });
            let start = |panics| fleet::run(&case.spec, broken(panics), &case.policy, &Nowhere);
            let torn = start(false);
            let Err(RunError::Source(error)) = torn else { panic!("{torn:?}") };
            assert_eq!(error.to_string(), "the trace is torn");
            let bug = start(true);
            let Err(RunError::Panicked {
                role: Role::Coordinator { cell: None },
                seed,
                message,
                ..
            }) = bug
            else {
                panic!("{bug:?}")
            };
            assert_eq!((seed, &*message), (case.spec.seed, "the source has a bug"));
        }
    });
}

/// Sends everything to a worker that does not exist.
struct Lost;

impl Policy for Lost {
    fn choose(&mut self, _: Visible<'_>) -> WorkerId {
        WorkerId(1000)
    }

    fn joined(&mut self, _: WorkerId) {}

    fn left(&mut self, _: WorkerId) {}
}

#[test]
fn a_lost_request_is_not_lost_quietly() {
    for_each_case(10, "a_lost_request_is_not_lost_quietly", |case| {
        let lost = |_: &FleetSpec| -> Box<dyn Policy> { Box::new(Lost) };
        let lost = fleet::run(&case.spec, case.source(), &lost, &Nowhere);
        let requests = arrivals(&case.requests, &case.shape).len();
        assert!(requests == 0 || matches!(lost, Err(RunError::Panicked { .. })), "{lost:?}");
    });
}
