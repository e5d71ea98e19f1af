//! The results of a sweep: `sweep.csv`, a table, JSON, and plots of its columns.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement};
use serde_json::{Map, Value};

use crate::report::number::{fixed, or_dash};
use crate::report::plot::{Axis, Chart, Line};
use crate::report::table::table;

/// A run of a sweep.
#[derive(Clone, PartialEq, Debug)]
pub struct SweepRun {
    /// The values of the varied keys, in their order.
    pub values: Vec<String>,
    /// Its report, as in `report.json`.
    pub report: Map<String, Value>,
}

/// A column of `sweep.csv`, under its key in `report.json`.
struct Column {
    key: &'static str,
    /// How it is called in the table and in plots, with its unit. In the table only if `decimals` are given.
    title: &'static str,
    decimals: Option<usize>,
}

/// The key of the column that is there only if there is an SLO.
const GOODPUT: &str = "goodput_request_throughput_rps";

/// The key of the column that is there only if there are cells.
const CELLS: &str = "cell_imbalance";

/// What some run of a sweep has; columns that are about it are there only then.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SweepHas {
    /// An SLO, so that goodput means something.
    pub slo: bool,
    /// Cells.
    pub cells: bool,
}

const fn shown(key: &'static str, title: &'static str, decimals: usize) -> Column {
    Column { key, title, decimals: Some(decimals) }
}

const fn stored(key: &'static str, title: &'static str) -> Column {
    Column { key, title, decimals: None }
}

/// What a sweep tells about a run. Nothing that depends on the wall clock: repeated, a sweep gives the same file.
const COLUMNS: [Column; 45] = [
    shown("completed_requests", "completed", 0),
    stored("rejected_requests", "rejected"),
    stored("aborted_requests", "aborted"),
    stored("preemptions", "preemptions"),
    stored("duration_ms", "duration (ms)"),
    shown(GOODPUT, "goodput (req/s)", 2),
    shown("request_throughput_rps", "requests/s", 2),
    shown("output_throughput_tok_s", "output tok/s", 0),
    stored("output_throughput_tok_s_per_gpu", "output tok/s/GPU"),
    shown("mean_ttft_ms", "TTFT mean (ms)", 1),
    shown("median_ttft_ms", "TTFT p50 (ms)", 1),
    stored("p90_ttft_ms", "TTFT p90 (ms)"),
    shown("p99_ttft_ms", "TTFT p99 (ms)", 1),
    stored("max_ttft_ms", "TTFT max (ms)"),
    shown("mean_tpot_ms", "TPOT mean (ms)", 2),
    stored("p99_tpot_ms", "TPOT p99 (ms)"),
    stored("mean_itl_ms", "token gap mean (ms)"),
    stored("p99_itl_ms", "token gap p99 (ms)"),
    stored("mean_output_token_throughput_per_user", "output tok/s/user"),
    stored("mean_e2e_latency_ms", "E2E mean (ms)"),
    stored("median_e2e_latency_ms", "E2E p50 (ms)"),
    shown("p99_e2e_latency_ms", "E2E p99 (ms)", 1),
    shown("prefix_cache_reused_ratio", "prefix reuse", 3),
    stored("first_admission_prefix_cache_reused_ratio", "prefix reuse at first admission"),
    shown("load_imbalance", "load max/mean", 2),
    stored("load_cv", "load std/mean"),
    shown(CELLS, "cells max/mean", 2),
    stored("max_worker_load", "most requests on a worker"),
    shown("max_in_flight", "most in flight", 0),
    stored("gpu_hours", "GPU-hours"),
    stored("cost_usd", "cost (USD)"),
    stored("usd_per_million_output_tokens", "USD per million output tokens"),
    stored("scale_up_events", "scaled up"),
    stored("scale_down_events", "scaled down"),
    stored("mean_ready_workers", "ready workers"),
    stored("completed_sessions", "sessions completed"),
    stored("abandoned_sessions", "sessions given up"),
    stored("mean_session_duration_ms", "session mean (ms)"),
    stored("p99_session_duration_ms", "session p99 (ms)"),
    stored("retries", "retries"),
    stored("timeouts", "timeouts"),
    stored("late_tries", "late tries"),
    stored("queue_full_requests", "queue full"),
    stored("expired_requests", "expired"),
    stored("digest", "digest"),
];

fn columns(has: SweepHas) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| match column.key {
        GOODPUT => has.slo,
        CELLS => has.cells,
        _ => true,
    })
}

/// The columns of `sweep.csv` that can be plotted.
pub fn sweep_columns(has: SweepHas) -> Vec<&'static str> {
    columns(has).map(|column| column.key).filter(|&key| key != "digest").collect()
}

/// Writes `sweep.csv` line by line.
pub struct SweepWriter<W: Write> {
    out: csv::Writer<W>,
    has: SweepHas,
}

impl<W: Write> SweepWriter<W> {
    /// Writes the header; `keys` are the varied ones.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn new(out: W, keys: &[&str], has: SweepHas) -> io::Result<SweepWriter<W>> {
        let mut out = csv::Writer::from_writer(out);
        let header = keys.iter().copied().chain(columns(has).map(|column| column.key));
        out.write_record(header)?;
        out.flush()?;
        Ok(SweepWriter { out, has })
    }

    /// Writes the line of a run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, run: &SweepRun) -> io::Result<()> {
        let figures = columns(self.has).map(|column| match run.report.get(column.key) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        });
        self.out.write_record(run.values.iter().cloned().chain(figures))?;
        self.out.flush()
    }
}

/// Writes the table for a terminal: a line per run.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_sweep_table(
    out: &mut impl Write,
    keys: &[&str],
    runs: &[SweepRun],
    has: SweepHas,
) -> io::Result<()> {
    let columns: Vec<(&Column, usize)> =
        columns(has).filter_map(|column| Some((column, column.decimals?))).collect();
    let count = keys.len();
    // The last name of a key says enough in a header.
    let keys = keys.iter().map(|key| last_part(key));
    // Names of figures are longer than the figures: a line per word.
    let titles = columns.iter().map(|(column, _)| column.title).chain(["wall (s)"]);
    let header: Vec<String> =
        keys.map(str::to_owned).chain(titles.map(|title| title.replace(' ', "\n"))).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = table(&header);
    table.set_content_arrangement(ContentArrangement::Disabled);
    for column in table.column_iter_mut().take(count) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    for run in runs {
        let number = |key: &str, scale: f64, decimals| {
            let value = run.report.get(key).and_then(Value::as_f64);
            or_dash(value.map(|value| fixed(value * scale, decimals)))
        };
        let figures = columns.iter().map(|(column, decimals)| number(column.key, 1.0, *decimals));
        let wall = [number("wall_time_ms", 1e-3, 2)];
        table.add_row(run.values.iter().cloned().chain(figures).chain(wall));
    }
    writeln!(out, "{table}")
}

/// The runs as JSON: of each the report and, under their full paths, the varied keys.
pub fn sweep_to_json(keys: &[&str], runs: &[SweepRun]) -> Value {
    let object = |run: &SweepRun| {
        let mut object = run.report.clone();
        let values = run.values.iter().map(|value| Value::from(value.as_str()));
        object.extend(keys.iter().map(|&key| key.to_owned()).zip(values));
        Value::Object(object)
    };
    Value::Array(runs.iter().map(object).collect())
}

/// What a plot of a sweep needs to know beside the runs.
#[derive(Clone, PartialEq, Debug)]
pub struct SweepAxis {
    /// Which of the varied keys is the horizontal axis.
    pub index: usize,
    /// What it says.
    pub label: String,
    /// The value of that key in each run.
    pub values: Vec<f64>,
}

/// What a value is called beside others: a word explains itself, a number needs its key.
fn called(key: &str, value: &str) -> String {
    let is_word = value.starts_with(|c: char| c.is_alphabetic()) && value.parse::<bool>().is_err();
    if is_word { value.to_owned() } else { format!("{} {value}", last_part(key)) }
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// A plot of a column: one line for every combination of the `keys` that are not the axis.
pub fn sweep_chart(column: &str, keys: &[&str], axis: &SweepAxis, runs: &[SweepRun]) -> Chart {
    let title =
        COLUMNS.iter().find(|other| other.key == column).map_or(column, |other| other.title);
    let mut lines: Vec<Line> = Vec::new();
    for (run, &x) in runs.iter().zip(&axis.values) {
        let values = keys.iter().zip(&run.values).enumerate();
        let others = values.filter(|(index, _)| *index != axis.index);
        let name =
            others.map(|(_, (key, value))| called(key, value)).collect::<Vec<_>>().join(", ");
        let Some(y) = run.report.get(column).and_then(Value::as_f64) else { continue };
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push((x, y)),
            None => lines.push(Line { name, points: vec![(x, y)] }),
        }
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let points = || lines.iter().flat_map(|line| &line.points);
    let (x_log, y_log) = (spans(points().map(|p| p.0), 8.0), spans(points().map(|p| p.1), 30.0));
    let x = Axis { label: axis.label.clone(), log: x_log };
    let y = Axis { label: title.to_owned(), log: y_log };
    Chart { title: title.to_owned(), x, y, lines }
}

/// Whether values are all above zero and so far apart that a linear axis would crowd the small ones.
fn spans(values: impl Iterator<Item = f64>, factor: f64) -> bool {
    let limits = values
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    limits.0 > 0.0 && limits.1 >= limits.0 * factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn runs() -> Vec<SweepRun> {
        let run = |policy: &str, workers: &str, ttft: Value| {
            let Value::Object(report) = json!({"mean_ttft_ms": ttft, "digest": "00ff"}) else {
                unreachable!("an object")
            };
            SweepRun { values: vec![policy.to_owned(), workers.to_owned()], report }
        };
        vec![
            run("kv", "8", json!(100.5)),
            run("kv", "4", json!(400)),
            run("random", "8", json!(3.0)),
            run("random", "4", Value::Null),
        ]
    }

    #[test]
    fn a_line_per_run_without_the_wall_clock() {
        let mut text = Vec::new();
        let mut writer =
            SweepWriter::new(&mut text, &["router.policy", "fleet.workers"], SweepHas::default())
                .unwrap();
        writer.add(&runs()[0]).unwrap();
        drop(writer);
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let header = "router.policy,fleet.workers,completed_requests,rejected_requests,";
        assert!(
            lines[0].starts_with(header)
                && lines[0].ends_with(",late_tries,queue_full_requests,expired_requests,digest"),
            "{text}"
        );
        assert!(!lines[0].contains("wall") && !lines[0].contains("goodput"));
        assert!(!lines[0].contains("cell_imbalance"));
        let has = SweepHas { cells: true, ..SweepHas::default() };
        assert!(sweep_columns(has).contains(&"cell_imbalance"));
        let cells: Vec<&str> = lines[1].split(',').collect();
        assert_eq!((cells.len(), &cells[..2]), (lines[0].split(',').count(), &["kv", "8"][..]));
        let ttft = lines[0].split(',').position(|column| column == "mean_ttft_ms").unwrap();
        assert_eq!((cells[ttft], cells[cells.len() - 1], cells[2]), ("100.5", "00ff", ""));
    }

    #[test]
    fn plots_have_a_line_per_combination_of_the_other_keys() {
        let values = vec![8.0, 4.0, 8.0, 4.0];
        let axis = SweepAxis { index: 1, label: "workers".to_owned(), values };
        let keys = ["router.policy", "fleet.workers"];
        let chart = sweep_chart("mean_ttft_ms", &keys, &axis, &runs());
        let line = |name: &str, points: &[(f64, f64)]| Line {
            name: name.to_owned(),
            points: points.to_vec(),
        };
        assert_eq!(
            chart.lines,
            [line("kv", &[(4.0, 400.0), (8.0, 100.5)]), line("random", &[(8.0, 3.0)])]
        );
        let names = [("a.b", "4", "b 4"), ("a.b", "5ms", "b 5ms"), ("a.b", "true", "b true")];
        for (key, value, name) in names {
            assert_eq!(called(key, value), name);
        }
        assert_eq!(
            (chart.x.log, chart.y.log, chart.y.label.as_str()),
            (false, true, "TTFT mean (ms)")
        );
    }
}
