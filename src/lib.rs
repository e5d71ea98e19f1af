//! fleetsim: a conservative parallel discrete-event simulator of LLM inference fleets.

pub mod kernel;
