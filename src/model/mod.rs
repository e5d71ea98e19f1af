//! What is simulated: requests, engines, KV memory, timing, routers. No threads, no files, no printing.

pub mod class;
pub mod deployment;
pub mod engine;
pub mod kv;
pub mod lifecycle;
pub mod metrics;
pub mod planner;
pub mod request;
pub mod router;
pub mod session;
pub mod timing;
pub mod workload;
