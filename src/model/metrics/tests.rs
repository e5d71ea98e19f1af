//! Several recorders that are drained at any time see what one recorder sees.

use rand::RngExt;

use super::*;
use crate::kernel::rng::{Stream, stream};
use crate::model::class::ClassId;
use crate::model::request::{Prompt, Request, RequestId, WorkerId};

/// How many random runs are recorded.
const SEEDS: u64 = 40;

const INTERVAL: Span = Span::from_ns(1000);

/// What an engine or the coordinator tells its recorder when it handles an event.
enum Entry {
    Arrive,
    FirstToken(Span),
    Token(Span),
    /// Began so long ago.
    DecodeRun(Span, Vec<f64>, u32),
    Prefill(u64),
    /// The state for so long until now.
    Sample(Span, u64),
    Close(Row),
}

struct Event {
    now: Time,
    entry: Entry,
}

impl Event {
    fn random(now: Time, id: u64, rng: &mut Stream) -> Event {
        let age = Span::from_ns(rng.random_range(0..4000).min(now.as_ns()));
        let entry = match rng.random_range(0..40) {
            0..5 => Entry::Arrive,
            5..10 => Entry::FirstToken(Span::from_ns(rng.random_range(0..5000))),
            10..15 => Entry::Token(Span::from_ns(rng.random_range(0..500))),
            15..20 => {
                let durations =
                    (0..rng.random_range(1..6)).map(|_| rng.random_range(1..900).into());
                Entry::DecodeRun(age, durations.collect(), rng.random_range(1..9))
            }
            20..25 => Entry::Prefill(rng.random_range(1..100)),
            25..30 => Entry::Sample(age, rng.random_range(1..9)),
            _ => Entry::Close(random_row(now, id, rng)),
        };
        Event { now, entry }
    }

    fn enter(&self, recorder: &mut Recorder) {
        let now = self.now;
        match &self.entry {
            Entry::Arrive => recorder.arrive(now, ClassId::default()),
            Entry::FirstToken(ttft) => recorder.first_token(now + *ttft, *ttft),
            Entry::Token(gap) => recorder.token(now + *gap, *gap),
            Entry::DecodeRun(age, durations, requests) => {
                let total = Span::from_ns(durations.iter().sum::<f64>() as u64);
                let start = Time::from_ns(now.as_ns() - age.as_ns());
                let is_rising = durations.is_sorted();
                recorder.decode_run(start, DecodeRun { durations, total, is_rising }, *requests);
            }
            Entry::Prefill(tokens) => recorder.series.at(now).prefill_tokens += tokens,
            Entry::Sample(age, count) => {
                let start = Time::from_ns(now.as_ns() - age.as_ns());
                recorder.series.sample(start, now, |_, interval| {
                    interval.waiting += count;
                    interval.running += count * 2;
                    interval.pinned_blocks += count * 3;
                    interval.queued += count * 5;
                });
            }
            Entry::Close(row) => recorder.close(row.clone()),
        }
    }
}

fn random_row(now: Time, id: u64, rng: &mut Stream) -> Row {
    let arrival = Time::from_ns(now.as_ns() / 2);
    let first_token = now + Span::from_ns(rng.random_range(0..3000));
    let end = first_token + Span::from_ns(rng.random_range(0..6000));
    let statuses = [
        Status::Completed,
        Status::Completed,
        Status::Rejected,
        Status::Aborted,
        Status::QueueFull,
        Status::Expired,
    ];
    Row {
        id: RequestId(id),
        class: ClassId::default(),
        trace_line: id,
        arrival,
        prompt_tokens: rng.random_range(1..9000),
        output_tokens: rng.random_range(1..50),
        worker: Some(WorkerId(3)),
        status: statuses[rng.random_range(0..6)],
        reused_tokens: rng.random_range(0..50),
        first_reused_tokens: rng.random_range(0..50),
        admitted: Some(now),
        first_token: Some(first_token),
        second_token: Some(end),
        end,
        preemptions: 0,
        running_ns: rng.random_range(0..5000),
    }
}

fn new_recorder() -> Recorder {
    let slo = Slo { e2e: Some(Span::from_ns(20_000)), ..Slo::default() };
    Recorder::new(INTERVAL, slo)
}

/// Hands the events to so many recorders, which are ahead of one another and are drained at random times; what they have
/// seen together, and the most intervals that one of them held after it was drained.
fn record(events: &[Event], recorders: usize, rng: &mut Stream) -> (Recorder, usize) {
    let mut collector = Collector::new(INTERVAL, recorders);
    let mut threads: Vec<(Recorder, Vec<&Event>)> =
        (0..recorders).map(|_| (new_recorder(), Vec::new())).collect();
    for event in events.iter().rev() {
        threads[rng.random_range(0..recorders)].1.push(event);
    }
    let mut held = 0;
    while threads.iter().any(|(_, left)| !left.is_empty()) {
        let done = threads.iter().filter_map(|(_, left)| left.last()).map(|event| event.now).min();
        let (recorder, left) = &mut threads[rng.random_range(0..recorders)];
        if rng.random_bool(0.2) {
            let back = Span::from_ns(rng.random_range(0..1500));
            let done = done.map_or(Time::NEVER, |done| {
                Time::from_ns(done.as_ns().saturating_sub(back.as_ns()))
            });
            recorder.drain_rows(|_| ());
            if recorder.series.is_due(done) {
                collector.collect(&mut recorder.series, done);
            }
            held = held.max(recorder.series.intervals().len());
        } else if let Some(event) = left.pop() {
            event.enter(recorder);
        }
    }
    for (recorder, _) in &mut threads {
        recorder.drain_rows(|_| ());
        collector.collect(&mut recorder.series, Time::NEVER);
        assert!(recorder.series.intervals().is_empty());
    }
    let merged = threads.into_iter().map(|(recorder, _)| recorder).reduce(|mut all, other| {
        all.merge(other);
        all
    });
    let mut merged = merged.unwrap();
    merged.series = collector.into_series();
    (merged, held)
}

fn summary(distribution: &Distribution) -> impl PartialEq + std::fmt::Debug {
    let percentiles: Vec<_> =
        (0..=1000).map(|p| distribution.percentile(f64::from(p) / 10.0)).collect();
    let buckets: Vec<_> = distribution.buckets().collect();
    let extremes = (distribution.min(), distribution.max());
    let moments = (distribution.sum(), distribution.mean(), distribution.std());
    (distribution.count(), extremes, moments, percentiles, buckets)
}

fn compare(one: &Recorder, several: &Recorder, context: &str) {
    for (one, several) in [
        (&one.ttft, &several.ttft),
        (&one.ttst, &several.ttst),
        (&one.tpot, &several.tpot),
        (&one.itl, &several.itl),
        (&one.e2e, &several.e2e),
        (&one.isl, &several.isl),
        (&one.osl, &several.osl),
    ] {
        assert_eq!(summary(one), summary(several), "{context}");
    }
    let rest = |recorder: &Recorder| {
        let Recorder { totals, digest, first_arrival, last_end, .. } = *recorder;
        (totals, digest, first_arrival, last_end)
    };
    assert_eq!(rest(one), rest(several), "{context}");
    assert_eq!(one.series.intervals(), several.series.intervals(), "{context}");
}

#[test]
fn several_recorders_see_what_one_sees() {
    for seed in 0..SEEDS {
        let mut rng = stream(seed, 0);
        let mut now = Time::ZERO;
        let events: Vec<Event> = (0..rng.random_range(0..800))
            .map(|id| {
                let pause = if rng.random_bool(0.01) { 20_000 } else { 200 };
                now += Span::from_ns(rng.random_range(0..pause));
                Event::random(now, id, &mut rng)
            })
            .collect();
        // Nothing is drained before the end, and nothing is merged.
        let mut one = new_recorder();
        for event in &events {
            event.enter(&mut one);
        }
        one.drain_rows(|_| ());
        for interval in one.series.between(0, usize::MAX) {
            interval.settle();
        }
        for recorders in 1..=4 {
            let (several, _) = record(&events, recorders, &mut rng);
            compare(&one, &several, &format!("seed {seed}, {recorders} recorders"));
        }
    }
}

#[test]
fn a_recorder_holds_what_is_not_over() {
    let mut rng = stream(7, 0);
    let events: Vec<Event> =
        (0..20_000).map(|id| Event::random(Time::from_ns(id * 100), id, &mut rng)).collect();
    let (recorder, held) = record(&events, 1, &mut rng);
    assert!(recorder.series.intervals().len() >= 2000);
    assert!(held < 30, "{held} intervals held");
}

#[test]
fn the_series_lasts_until_the_last_request_is_refused() {
    let mut recorder = new_recorder();
    let prompt = Prompt::named(1, std::iter::empty(), 0);
    let request = Request::new(0, Time::ZERO, prompt, 1);
    let row = Row::turned_away(&request, Status::Rejected, Time::from_ns(3500));
    recorder.close(row);
    assert_eq!(recorder.series.intervals().len(), 4);
}
