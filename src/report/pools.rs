//! What each pool of a mixed fleet did, and what it costs.

use comfy_table::Table;
use serde_json::{Value, json};

use crate::fleet::{FleetSpec, Outcome};
use crate::model::metrics::Work;
use crate::report::json::known;
use crate::report::number::{count, decimal, or_dash, percent};
use crate::report::summary::{self, source};
use crate::report::table::table;

/// The figures of a pool.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolFigures {
    /// Its name.
    pub name: String,
    /// How many workers it has.
    pub workers: u32,
    /// How many GPUs they have.
    pub gpus: u64,
    /// What they are, if it is known.
    pub deployment: Option<String>,
    /// KV blocks of each worker.
    pub num_gpu_blocks: u32,
    /// What its times rest on.
    pub timing_source: &'static str,
    /// The table of these times, if there is one.
    pub timing_table: Option<String>,
    /// What its workers did.
    pub work: Work,
    /// Share of the time of all its workers that was spent in passes, if there was any time.
    pub busy: Option<f64>,
    /// Its GPUs times the duration of the run.
    pub gpu_hours: f64,
    /// What they cost, US dollars, if the GPU has a price.
    pub cost_usd: Option<f64>,
}

impl PoolFigures {
    /// Every pool; nothing if the fleet is a single pool without a name.
    pub(super) fn all(fleet: &FleetSpec, outcome: &Outcome) -> Vec<PoolFigures> {
        let hours = outcome.duration().as_secs() / 3600.0;
        let ns = outcome.duration().as_ns() as f64;
        let named =
            fleet.ranges().filter_map(|(pool, range)| Some((pool.name.clone()?, pool, range)));
        let figures = named.map(|(name, pool, range)| {
            let mut work = Work::default();
            for worker in &outcome.workers[range.start as usize..range.end as usize] {
                work.add(worker);
            }
            let gpu_hours = pool.gpus() as f64 * hours;
            let busy = work.busy_ns as f64 / (f64::from(pool.workers) * ns);
            PoolFigures {
                name,
                workers: pool.workers,
                gpus: pool.gpus(),
                deployment: pool.deployment.clone(),
                num_gpu_blocks: pool.engine.num_gpu_blocks,
                timing_source: source(&pool.engine.timing),
                timing_table: summary::table(&pool.engine.timing),
                work,
                busy: (ns > 0.0).then_some(busy),
                gpu_hours,
                cost_usd: pool.gpu_hour_usd.map(|usd| usd * gpu_hours),
            }
        });
        figures.collect()
    }

    /// What all GPUs of a fleet cost for so many hours, if each of them has a price.
    pub(super) fn cost(fleet: &FleetSpec, hours: f64) -> Option<f64> {
        let cost =
            fleet.pools.iter().map(|pool| Some(pool.gpus() as f64 * hours * pool.gpu_hour_usd?));
        cost.sum()
    }

    pub(super) fn to_json(&self) -> Value {
        known(json!({
            "name": self.name,
            "workers": self.workers,
            "gpus": self.gpus,
            "deployment": self.deployment,
            "num_gpu_blocks": self.num_gpu_blocks,
            "timing_source": self.timing_source,
            "timing_table": self.timing_table,
            "requests": self.work.requests,
            "forward_passes": self.work.passes,
            "total_input_tokens": self.work.prompt_tokens,
            "total_output_tokens": self.work.output_tokens,
            "preemptions": self.work.preemptions,
            "extrapolated_passes": self.timing_table.as_ref().map(|_| self.work.extrapolated_passes),
            "busy_ratio": self.busy,
            "gpu_hours": self.gpu_hours,
            "cost_usd": self.cost_usd,
        }))
    }
}

/// A line per pool.
pub(super) fn pool_table(pools: &[PoolFigures]) -> Table {
    let mut table = table(&[
        "Pool",
        "Workers",
        "GPUs",
        "Requests",
        "Input tokens",
        "Output tokens",
        "Utilization",
        "KV blocks",
        "GPU-hours",
        "Cost (USD)",
    ]);
    for pool in pools {
        let deployment = pool.deployment.as_ref();
        let what = deployment.map_or(String::new(), |deployment| format!(" ({deployment})"));
        table.add_row([
            pool.name.clone() + &what,
            count(u64::from(pool.workers)),
            count(pool.gpus),
            count(pool.work.requests),
            count(pool.work.prompt_tokens),
            count(pool.work.output_tokens),
            or_dash(pool.busy.map(percent)),
            count(u64::from(pool.num_gpu_blocks)),
            decimal(pool.gpu_hours),
            or_dash(pool.cost_usd.map(decimal)),
        ]);
    }
    table
}
