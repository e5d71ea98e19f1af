//! The only layer that opens files: traces, configuration, results.

pub mod ahead;
pub mod config;
pub mod files;
pub mod trace;
pub mod traffic;
