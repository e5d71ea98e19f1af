//! Tests that drive the simulator from outside.

mod admission;
mod admission_cli;
mod catalog;
mod catalog_mistakes;
mod cells;
mod classes;
mod cli;
mod corpus;
mod differential;
mod experiments;
mod oracle;
mod planner;
mod planner_cli;
mod properties;
mod reference;
mod scaling;
mod sessions;
mod sessions_cli;
mod support;
mod sweeps;
mod theory;
mod timing;
mod trace_cli;
mod traces;
