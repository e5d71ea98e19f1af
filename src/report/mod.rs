//! From the outcome of a run to what people and programs read.
//!
//! A figure that cannot be computed is absent, never zero.

mod admission;
mod busy;
mod catalog;
mod cells;
mod classes;
mod decisions;
mod json;
mod number;
mod planner;
pub mod plot;
mod pools;
mod row_writer;
mod rows;
mod scaling;
mod series;
mod sessions;
mod summary;
mod sweep;
mod table;
mod timing;
mod workers;
mod workload;

pub use busy::Busy;
pub use catalog::{catalog_to_json, write_catalog};
pub use cells::write_cells;
pub use json::to_json;
pub use planner::{ScalingFigures, write_planner};
pub use pools::PoolFigures;
pub use row_writer::RowWriter;
pub use scaling::{
    Costs, Scaling, ScalingPoint, scaling_chart, scaling_to_json, write_scaling_csv,
    write_scaling_table,
};
pub use series::write_series;
pub use summary::{Context, Figures, LoadBalance, Metric, Summary};
pub use sweep::{
    SweepAxis, SweepHas, SweepRun, SweepWriter, sweep_chart, sweep_columns, sweep_to_json,
    write_sweep_table,
};
pub use table::write_table;
pub use timing::{TimingTable, pass_times, timing_charts, write_columns};
pub use workers::write_workers;
pub use workload::{write_workload, write_workload_json};
