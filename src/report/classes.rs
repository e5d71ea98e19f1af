//! What became of the requests of each class.

use comfy_table::Table;
use serde_json::{Map, Value, json};

use crate::fleet::{FleetSpec, Outcome};
use crate::model::class::ClassSpec;
use crate::model::metrics::{ClassFigures, Recorder};
use crate::report::json::{known, put_metric};
use crate::report::number::{count, decimal, or_dash, percent};
use crate::report::summary::{Metric, per_second};
use crate::report::table::table;

/// A class, and what was measured of it.
fn classes<'a>(
    fleet: &'a FleetSpec,
    recorder: &'a Recorder,
) -> impl Iterator<Item = (&'a ClassSpec, &'a ClassFigures)> {
    fleet.classes.iter().zip(&recorder.classes)
}

/// Its latencies.
fn metrics(figures: &ClassFigures) -> [Metric; 3] {
    let ms = |key, title, distribution| Metric::new(key, "_ms", title, distribution, 1e-6);
    [
        ms("ttft", "TTFT", &figures.ttft),
        ms("tpot", "TPOT", &figures.tpot),
        ms("e2e_latency", "E2E", &figures.e2e),
    ]
}

/// The list of classes in `report.json`; nothing if there are none.
pub(super) fn to_json(fleet: &FleetSpec, outcome: &Outcome) -> Option<Value> {
    let seconds = outcome.duration().as_secs();
    let per_second = |count: u64| per_second(count, seconds);
    let object = |(class, figures): (&ClassSpec, &ClassFigures)| {
        let totals = &figures.totals;
        let good = figures.slo.is_set().then_some(totals.good);
        let counts = json!({
            "name": class.name,
            "priority": class.priority,
            "num_requests": totals.arrived,
            "completed_requests": totals.completed,
            "rejected_requests": totals.rejected,
            "aborted_requests": totals.aborted,
            "queue_full_requests": totals.queue_full,
            "expired_requests": totals.expired,
            "total_output_tokens": totals.output_tokens,
            "request_throughput_rps": per_second(totals.completed),
            "output_throughput_tok_s": per_second(totals.output_tokens),
            "goodput_completed_requests": good,
            "goodput_request_throughput_rps": good.and_then(per_second),
        });
        let mut object = Map::new();
        object.extend(counts.as_object().cloned().unwrap_or_default());
        for metric in &metrics(figures) {
            put_metric(&mut object, metric);
        }
        known(Value::Object(object))
    };
    let list: Vec<Value> = classes(fleet, &outcome.recorder).map(object).collect();
    (!list.is_empty()).then_some(Value::Array(list))
}

/// A line per class; nothing if there are none.
pub(super) fn class_table(fleet: &FleetSpec, outcome: &Outcome) -> Option<Table> {
    let mut table = table(&[
        "Class (times in ms)",
        "Requests",
        "Completed",
        "Queue full",
        "Expired",
        "TTFT p50",
        "TTFT p99",
        "TPOT p99",
        "E2E p99",
        "Within SLO",
    ]);
    for (class, figures) in classes(fleet, &outcome.recorder) {
        let totals = &figures.totals;
        let counts = [totals.arrived, totals.completed, totals.queue_full, totals.expired];
        let percentiles = metrics(figures).map(|metric| {
            let shown = |which: fn([f64; 6]) -> f64| {
                or_dash(metric.figures.map(|figures| decimal(which(figures.percentiles))))
            };
            [shown(|[p50, ..]| p50), shown(|[_, _, _, _, p99, _]| p99)]
        });
        let [[ttft_p50, ttft_p99], [_, tpot_p99], [_, e2e_p99]] = percentiles;
        let latencies = [ttft_p50, ttft_p99, tpot_p99, e2e_p99];
        let is_rated = figures.slo.is_set() && totals.arrived > 0;
        let good = totals.good as f64 / totals.arrived.max(1) as f64;
        let good = or_dash(is_rated.then(|| percent(good)));
        let cells = counts.map(count).into_iter().chain(latencies);
        table.add_row([class.name.clone()].into_iter().chain(cells).chain([good]));
    }
    (!fleet.classes.is_empty()).then_some(table)
}
