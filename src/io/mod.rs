//! The only layer that opens files: traces, configuration, timing tables, results.

pub mod ahead;
pub mod config;
pub mod files;
pub mod timing;
pub mod trace;
pub mod traffic;
