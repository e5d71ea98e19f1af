//! What every run has to satisfy, whatever it simulates (INV-5 to INV-7): checked at the end of each, also in release.
//!
//! Rows are one side of every equation, what engines counted pass by pass is the other, so that nothing is compared
//! with itself.

use crate::fleet::{Outcome, Scaled, Visited};
use crate::kernel::Time;
use crate::model::engine::Engine;
use crate::model::metrics::{Interval, Recorder, Totals};
use crate::model::request::WorkerId;
use crate::model::router::Admitted;

/// The first law that does not hold, in words.
pub(super) fn broken<'a>(
    outcome: &Outcome,
    mut engines: impl Iterator<Item = (WorkerId, &'a Engine)>,
) -> Option<String> {
    let work = outcome.work();
    let totals = outcome.recorder.totals;
    let ended = totals.completed + totals.rejected + totals.aborted;
    let turned_away = totals.queue_full + totals.expired;
    let over_time = |count: fn(&Interval) -> u64| {
        outcome.recorder.series.intervals().iter().map(count).sum::<u64>()
    };
    let mut equations = vec![
        ("requests arrived and ended", totals.arrived, ended + turned_away),
        ("requests ended in rows and in engines", ended, work.requests),
        (
            "tokens in rows and in passes",
            totals.output_tokens + totals.aborted_tokens,
            work.output_tokens,
        ),
        ("tokens over time and in passes", over_time(|i| i.output_tokens), work.output_tokens),
        (
            "prompt tokens over time and in passes",
            over_time(|i| i.prefill_tokens),
            work.prefill_tokens,
        ),
        ("arrivals over time and in all", over_time(|i| i.arrived), totals.arrived),
        ("completions over time and in all", over_time(|i| i.completed), totals.completed),
    ];
    if totals.aborted == 0 {
        equations.extend([
            ("prompt tokens in rows and at admission", totals.prompt_tokens, work.prompt_tokens),
            (
                "reused tokens in rows and at admission",
                totals.first_reused_tokens,
                work.reused_tokens,
            ),
        ]);
        if work.preemptions == 0 {
            let needed = work.prompt_tokens - work.reused_tokens;
            equations.push(("prompt tokens needed and computed", needed, work.prefill_tokens));
        }
    }
    if let Some(visited) = &outcome.visited {
        equations.extend(of_sessions(visited, totals.arrived));
    }
    equations.extend(of_admission(outcome, work.requests));
    equations.extend(of_classes(&outcome.recorder));
    let unequal = equations.into_iter().find(|(_, left, right)| left != right);
    if let Some((law, left, right)) = unequal {
        return Some(format!("{law} differ: {left} and {right}"));
    }
    // Little's law without division: the integral of the batch size is the sum of the times spent in it.
    if totals.running_ns != work.running_ns {
        let (rows, passes) = (totals.running_ns, work.running_ns);
        return Some(format!("Little's law fails: {rows} ns in rows, {passes} ns in passes"));
    }
    if let Some(law) = outcome.scaled.as_ref().and_then(|scaled| unpaid(scaled, outcome.end)) {
        return Some(law);
    }
    if let Some(law) = outcome.admitted.as_ref().and_then(exceeded) {
        return Some(law);
    }
    engines.find_map(|(worker, engine)| {
        unsettled(engine).map(|problem| format!("{worker} ends with {problem}"))
    })
}

/// Requests that were turned away, and those that were let in, of which so many have ended in engines.
fn of_admission(outcome: &Outcome, ended: u64) -> Vec<(&'static str, u64, u64)> {
    let totals = outcome.recorder.totals;
    let admitted = outcome.admitted.unwrap_or_default();
    let intervals = outcome.recorder.series.intervals();
    let over_time = |count: fn(&Interval) -> u64| intervals.iter().map(count).sum::<u64>();
    let mut equations = vec![
        ("full queues over time and in rows", over_time(|i| i.queue_full), totals.queue_full),
        ("full queues in rows and at the door", totals.queue_full, admitted.queue_full),
        ("requests expired over time and in rows", over_time(|i| i.expired), totals.expired),
        ("requests expired in rows and at the door", totals.expired, admitted.expired),
    ];
    if outcome.admitted.is_some() {
        equations.push(("requests let in and ended in engines", admitted.let_in, ended));
    }
    equations
}

/// Requests by class, after those of all classes together.
fn of_classes(recorder: &Recorder) -> Vec<(&'static str, u64, u64)> {
    let (totals, classes) = (recorder.totals, &recorder.classes);
    if classes.is_empty() {
        return Vec::new();
    }
    let sum =
        |part: fn(&Totals) -> u64| classes.iter().map(|class| part(&class.totals)).sum::<u64>();
    let mut equations = vec![
        ("requests arrived by class and in all", sum(|class| class.arrived), totals.arrived),
        ("requests completed by class and in all", sum(|class| class.completed), totals.completed),
        ("requests rejected by class and in all", sum(|class| class.rejected), totals.rejected),
        ("requests aborted by class and in all", sum(|class| class.aborted), totals.aborted),
        ("full queues by class and in all", sum(|class| class.queue_full), totals.queue_full),
        ("requests expired by class and in all", sum(|class| class.expired), totals.expired),
    ];
    let ended = classes.iter().map(|class| (class.totals.arrived, class.totals.ended()));
    equations.extend(ended.map(|(arrived, ended)| ("requests of a class", arrived, ended)));
    equations
}

/// Sessions, their calls and the tries of their clients, after so many requests.
fn of_sessions(visited: &Visited, arrived: u64) -> [(&'static str, u64, u64); 7] {
    let Visited { sessions, clients, late, .. } = visited;
    [
        ("sessions opened and ended", sessions.opened, sessions.done + sessions.abandoned),
        ("calls planned and ended", sessions.planned, sessions.completed + sessions.dropped),
        ("calls made and first tries", sessions.calls, clients.sent - clients.retries),
        ("tries and requests", clients.sent, arrived),
        ("tries sent and ended", clients.sent, clients.done + clients.refused + late),
        ("calls completed and answered", sessions.completed, clients.done),
        ("sessions and calls given up", sessions.abandoned, clients.abandoned),
    ]
}

/// A limit of the front end that was not kept.
fn exceeded(admitted: &Admitted) -> Option<String> {
    let Admitted { max_in_flight, queue_limit, in_flight_max, waiting_max, .. } = *admitted;
    let over = |found: u64, limit: Option<u64>, what: &str| {
        let limit = limit.filter(|&limit| found > limit)?;
        Some(format!("{found} requests {what}, more than {limit}"))
    };
    over(in_flight_max, max_in_flight, "were in the fleet at once")
        .or_else(|| over(waiting_max, queue_limit, "waited at once"))
}

/// GPU time has to be the same by the books of the lifecycle and by what was written down of it.
fn unpaid(scaled: &Scaled, end: Time) -> Option<String> {
    let (kept, written) =
        (scaled.gpu_time.total(), scaled.history.gpu_time(Time::ZERO, end).total());
    let is_unequal = kept != written;
    is_unequal.then(|| format!("GPU time differs: {kept} ns in states, {written} ns over time"))
}

/// What an engine still holds although all work is done.
fn unsettled(engine: &Engine) -> Option<String> {
    let pool = engine.pool();
    if !engine.is_empty() {
        return Some(format!(
            "{} requests waiting, {} running",
            engine.waiting(),
            engine.running()
        ));
    }
    if pool.pinned() != 0 || pool.available() != pool.capacity() {
        let (pinned, available, capacity) = (pool.pinned(), pool.available(), pool.capacity());
        return Some(format!("{pinned} KV blocks pinned, {available} of {capacity} available"));
    }
    None
}
