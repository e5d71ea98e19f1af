//! The only layer that opens files: traces, configuration, results.

pub mod trace;
