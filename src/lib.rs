//! fleetsim: a conservative parallel discrete-event simulator of LLM inference fleets.

pub mod cli;
pub mod fleet;
pub mod io;
pub mod kernel;
pub mod model;
pub mod report;
