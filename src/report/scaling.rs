//! How a run scales: `scaling.csv`, a table, JSON, and a plot.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::report::busy::{Busy, busy_table};
use crate::report::number::{count, decimal, or_dash, percent};
use crate::report::plot::{Axis, Chart, Line};
use crate::report::table::table;

/// What a scaling study found. Times are in wall-clock seconds.
#[derive(Clone, PartialEq, Debug)]
pub struct Scaling {
    /// A word for the workload.
    pub workload: String,
    /// Workers of the fleet.
    pub workers: u32,
    /// Its cells, if it is divided; what is called the coordinator here is their balancer then.
    pub cells: Option<u32>,
    /// The router policy.
    pub policy: String,
    /// The seed.
    pub seed: u64,
    /// How often everything was run.
    pub repeat: usize,
    /// Usable cores of the machine it was measured on.
    pub cores: usize,
    /// The digest of all runs.
    pub digest: u128,
    /// What everything costs on one thread.
    pub costs: Costs,
    /// The run on the sequential executor.
    pub sequential_s: f64,
    /// The run on the parallel executor with one thread.
    pub alone_s: f64,
    /// So many runs at once, on one thread each, took so many times as long as one; absent if only one thread was measured.
    pub crowding: Option<(usize, f64)>,
    /// One for each number of threads, ascending, at least one.
    pub points: Vec<ScalingPoint>,
}

/// What a run costs on one thread, without any protocol.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Costs {
    /// All work.
    pub work_s: f64,
    /// The part of it that the coordinator does.
    pub coordinator_s: f64,
    /// The part of it that is reading ahead.
    pub reading_s: f64,
    /// The longest chain of tasks that wait for one another.
    pub span_s: f64,
    /// Phases of the run: all threads meet after each.
    pub phases: u64,
}

impl Costs {
    /// The most that any number of threads gains, given the longest chain of tasks.
    fn span_bound(&self) -> f64 {
        self.work_s / self.span_s
    }

    /// The most that any number of threads gains if the coordinator never waits; nothing if it does nothing.
    fn coordinator_bound(&self) -> Option<f64> {
        (self.coordinator_s > 0.0).then(|| self.work_s / self.coordinator_s)
    }

    /// Mean work in a phase, s.
    fn phase_s(&self) -> f64 {
        (self.work_s - self.reading_s) / self.phases as f64
    }

    /// Writes the figures for a terminal.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let share = |seconds: f64| percent(seconds / self.work_s);
        writeln!(
            out,
            "work: {} ms; coordinator {}, reading ahead {}; {} phases, with {} µs on average",
            decimal(self.work_s * 1e3),
            share(self.coordinator_s),
            share(self.reading_s),
            count(self.phases),
            decimal(self.phase_s() * 1e6)
        )?;
        writeln!(
            out,
            "bounds on the speed-up: work / span {}, 1 / share of the coordinator {}",
            decimal(self.span_bound()),
            self.coordinator_bound().map_or_else(|| "none".to_owned(), decimal),
        )
    }

    /// The figures as one object.
    fn to_json(self) -> Value {
        let mut object = json!({
            "work_ms": self.work_s * 1e3,
            "coordinator_share": self.coordinator_s / self.work_s,
            "reading_share": self.reading_s / self.work_s,
            "span_ms": self.span_s * 1e3,
            "span_bound": self.span_bound(),
            "phases": self.phases,
            "mean_phase_us": self.phase_s() * 1e6,
        });
        if let Some(bound) = self.coordinator_bound() {
            object["coordinator_bound"] = Value::from(bound);
        }
        object
    }
}

/// A run on so many threads. What is lost is a share of the time of all threads, from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScalingPoint {
    /// How many threads.
    pub threads: usize,
    /// Against the parallel executor on one thread.
    pub predicted_speedup: f64,
    /// How long it took, s; absent if the machine has not so many cores.
    pub measured_s: Option<f64>,
    /// How long it should take, s.
    pub predicted_s: f64,
    /// Lost while all wait for the coordinator.
    pub coordinator_lost: f64,
    /// Lost while all wait for the slowest group of workers.
    pub imbalance_lost: f64,
    /// Lost on meeting, and in phases too short to be shared.
    pub rendezvous_lost: f64,
    /// Lost because busy cores slow one another; absent if the machine has not so many, and not in the prediction then.
    pub crowding_lost: Option<f64>,
    /// What the threads spent their time on; absent if that was not measured.
    pub busy: Option<Busy>,
}

/// A column: its name in `scaling.csv` and JSON, and what it says of a point.
type Column = (&'static str, fn(&Scaling, &ScalingPoint) -> Option<f64>);

const COLUMNS: [Column; 8] = [
    ("predicted_speedup", |_, point| Some(point.predicted_speedup)),
    ("measured_speedup", Scaling::measured_speedup),
    ("coordinator_lost", |_, point| Some(point.coordinator_lost)),
    ("imbalance_lost", |_, point| Some(point.imbalance_lost)),
    ("rendezvous_lost", |_, point| Some(point.rendezvous_lost)),
    ("crowding_lost", |_, point| point.crowding_lost),
    ("predicted_ms", |_, point| Some(point.predicted_s * 1e3)),
    ("measured_ms", |_, point| point.measured_s.map(|seconds| seconds * 1e3)),
];

impl Scaling {
    /// The fleet in a few words.
    fn fleet(&self) -> String {
        let workers = count(u64::from(self.workers));
        match self.cells {
            None => format!("{workers} workers"),
            Some(cells) => format!("{workers} workers in {} cells", count(u64::from(cells))),
        }
    }

    fn measured_speedup(&self, point: &ScalingPoint) -> Option<f64> {
        point.measured_s.map(|seconds| self.alone_s / seconds)
    }

    /// What keeps the run from being faster on the most threads that were asked about: a sentence.
    fn limit(&self) -> String {
        let point = self.points.last().expect("at least one point");
        if point.threads == 1 {
            return "on 1 thread nothing is lost to others".to_owned();
        }
        let losses = [
            (point.coordinator_lost, "the coordinator, for which all workers wait"),
            (point.imbalance_lost, "imbalance: all wait for the slowest group of workers"),
            (
                point.rendezvous_lost,
                "rendezvous: phases are too short to be shared, or to pay for meeting after them",
            ),
            (point.crowding_lost.unwrap_or(0.0), "crowding: busy cores slow one another"),
        ];
        let (share, what) =
            losses.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).expect("four losses");
        let share = percent(share);
        format!("on {} threads the largest loss, {share} of their time, is {what}", point.threads)
    }
}

/// Writes `scaling.csv`: a line for each number of threads.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_scaling_csv(out: &mut impl Write, scaling: &Scaling) -> io::Result<()> {
    let mut out = csv::Writer::from_writer(out);
    out.write_record(["threads"].into_iter().chain(COLUMNS.map(|(name, _)| name)))?;
    for point in &scaling.points {
        let cells = COLUMNS.map(|(_, value)| {
            value(scaling, point).map_or_else(String::new, |value| value.to_string())
        });
        out.write_record([point.threads.to_string()].into_iter().chain(cells))?;
    }
    out.flush()
}

/// Writes the figures for a terminal.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_scaling_table(out: &mut impl Write, scaling: &Scaling) -> io::Result<()> {
    let Scaling { sequential_s, alone_s, .. } = *scaling;
    writeln!(
        out,
        "fleetsim {} | scaling of {} on {}, {} router, seed {}; least of {} on {} cores",
        env!("CARGO_PKG_VERSION"),
        scaling.workload,
        scaling.fleet(),
        scaling.policy,
        scaling.seed,
        scaling.repeat,
        scaling.cores,
    )?;
    if scaling.cells.is_some() {
        writeln!(out, "the coordinator is the balancer here; routers work in their cells")?;
    }
    scaling.costs.write(out)?;
    writeln!(
        out,
        "parallel executor on one thread / sequential executor: {} ({} ms / {} ms)",
        decimal(alone_s / sequential_s),
        decimal(alone_s * 1e3),
        decimal(sequential_s * 1e3),
    )?;
    if let Some((runs, times)) = scaling.crowding {
        writeln!(
            out,
            "{runs} runs at once, on one thread each, take {} times as long as one: what busy cores cost one another",
            decimal(times)
        )?;
    }
    writeln!(out, "limit: {}", scaling.limit())?;
    let mut table = table(&[
        "threads",
        "predicted speed-up",
        "measured",
        "lost to coordinator",
        "imbalance",
        "rendezvous",
        "crowding",
    ]);
    for point in &scaling.points {
        table.add_row([
            point.threads.to_string(),
            decimal(point.predicted_speedup),
            or_dash(scaling.measured_speedup(point).map(decimal)),
            percent(point.coordinator_lost),
            percent(point.imbalance_lost),
            percent(point.rendezvous_lost),
            or_dash(point.crowding_lost.map(percent)),
        ]);
    }
    writeln!(out, "{table}")?;
    let busy = || scaling.points.iter().filter_map(|point| Some((point.threads, point.busy?)));
    if busy().next().is_some() {
        writeln!(out, "what the threads spent their time on:")?;
        writeln!(out, "{}", busy_table(busy()))?;
    }
    Ok(())
}

/// The figures as one object; `points` has an object for each number of threads.
pub fn scaling_to_json(scaling: &Scaling) -> Value {
    let point = |point: &ScalingPoint| {
        let figures = COLUMNS.iter().filter_map(|(name, value)| {
            Some(((*name).to_owned(), Value::from(value(scaling, point)?)))
        });
        let threads = ("threads".to_owned(), Value::from(point.threads));
        let busy = point.busy.map(|busy| ("busy".to_owned(), busy.to_json()));
        Value::Object([threads].into_iter().chain(figures).chain(busy).collect::<Map<_, _>>())
    };
    let mut object = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "workload": scaling.workload,
        "workers": scaling.workers,
        "cells": scaling.cells.unwrap_or(1),
        "router_policy": scaling.policy,
        "seed": scaling.seed,
        "digest": format!("{:032x}", scaling.digest),
        "repeat": scaling.repeat,
        "cores": scaling.cores,
        "sequential_ms": scaling.sequential_s * 1e3,
        "parallel_alone_ms": scaling.alone_s * 1e3,
        "parallel_alone_ratio": scaling.alone_s / scaling.sequential_s,
        "limit": scaling.limit(),
        "points": scaling.points.iter().map(point).collect::<Vec<_>>(),
    });
    if let (Value::Object(object), Value::Object(costs)) = (&mut object, scaling.costs.to_json()) {
        object.extend(costs);
    }
    if let Some((runs, times)) = scaling.crowding {
        object["crowd"] = json!({ "runs": runs, "times_as_long": times });
    }
    object
}

/// Speed-up over threads: predicted, measured as far as it goes, and ideal.
pub fn scaling_chart(scaling: &Scaling) -> Chart {
    let line = |name: &str, speedup: &dyn Fn(&ScalingPoint) -> Option<f64>| Line {
        name: name.to_owned(),
        points: scaling
            .points
            .iter()
            .filter_map(|point| Some((point.threads as f64, speedup(point)?)))
            .collect(),
    };
    Chart {
        title: format!("{} on {}, {} router", scaling.workload, scaling.fleet(), scaling.policy),
        x: Axis { label: "threads".to_owned(), log: true },
        y: Axis { label: "speed-up".to_owned(), log: true },
        lines: vec![
            line("predicted", &|point| Some(point.predicted_speedup)),
            line("measured", &|point| scaling.measured_speedup(point)),
            line("ideal", &|point| Some(point.threads as f64)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs() -> Costs {
        let (work_s, coordinator_s, reading_s, span_s) = (8.0, 2.0, 1.0, 4.0);
        Costs { work_s, coordinator_s, reading_s, span_s, phases: 7000 }
    }

    fn scaling() -> Scaling {
        let point = |threads, measured_s: Option<f64>, predicted_s| ScalingPoint {
            threads,
            predicted_speedup: 8.0 / predicted_s,
            measured_s,
            predicted_s,
            coordinator_lost: 0.25,
            imbalance_lost: 0.5,
            rendezvous_lost: 0.125,
            crowding_lost: measured_s.map(|_| 0.0625),
            busy: None,
        };
        Scaling {
            workload: "toy".to_owned(),
            workers: 1000,
            cells: None,
            policy: "kv".to_owned(),
            seed: 1,
            repeat: 3,
            cores: 2,
            digest: 255,
            costs: costs(),
            sequential_s: 5.0,
            alone_s: 10.0,
            crowding: Some((2, 1.25)),
            points: vec![point(2, Some(8.0), 4.0), point(64, None, 2.0)],
        }
    }

    #[test]
    fn what_was_not_measured_is_empty() {
        let mut text = Vec::new();
        write_scaling_csv(&mut text, &scaling()).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "threads,predicted_speedup,measured_speedup,coordinator_lost,imbalance_lost,\
             rendezvous_lost,crowding_lost,predicted_ms,measured_ms\n\
             2,2,1.25,0.25,0.5,0.125,0.0625,4000,8000\n\
             64,4,,0.25,0.5,0.125,,2000,\n"
        );
        let json = scaling_to_json(&scaling());
        assert_eq!(json["points"][0]["measured_speedup"], 1.25);
        assert_eq!(json["points"][1].get("measured_speedup"), None);
        assert_eq!((&json["span_bound"], &json["coordinator_bound"]), (&2.0.into(), &4.0.into()));
        assert_eq!((&json["mean_phase_us"], &json["phases"]), (&1000.0.into(), &7000.into()));
    }

    #[test]
    fn the_largest_loss_is_named() {
        let mut text = Vec::new();
        write_scaling_table(&mut text, &scaling()).unwrap();
        let text = String::from_utf8(text).unwrap();
        for expected in [
            "work: 8,000.00 ms; coordinator 25.0 %, reading ahead 12.5 %; 7,000 phases, with 1,000.00 µs on average\n",
            "work / span 2.00, 1 / share of the coordinator 4.00\n",
            "sequential executor: 2.00 (10,000.00 ms / 5,000.00 ms)\n",
            "2 runs at once, on one thread each, take 1.25 times as long as one",
            "limit: on 64 threads the largest loss, 50.0 % of their time, is imbalance",
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
        let mut other = scaling();
        other.points[1].rendezvous_lost = 0.6;
        assert!(other.limit().contains("60.0 % of their time, is rendezvous"));
        other.points[1].coordinator_lost = 0.7;
        assert!(other.limit().contains("is the coordinator"));
    }

    #[test]
    fn the_chart_has_three_lines() {
        let chart = scaling_chart(&scaling());
        let line = |index: usize| chart.lines[index].points.clone();
        assert_eq!(line(0), [(2.0, 2.0), (64.0, 4.0)]);
        assert_eq!((line(1), line(2)), (vec![(2.0, 1.25)], vec![(2.0, 2.0), (64.0, 64.0)]));
    }
}
