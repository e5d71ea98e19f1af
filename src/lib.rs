//! fleetsim: a conservative parallel discrete-event simulator of LLM inference fleets.
//!
//! A run is a function of a [`fleet::FleetSpec`], a source of requests and a router policy; rows of requests stream out
//! to a [`fleet::Sink`], aggregates come back as a [`fleet::Outcome`]. The same input gives the same bits.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use fleetsim::fleet::{self, Sink};
//! use fleetsim::io::config::Loaded;
//! use fleetsim::model::metrics::Row;
//!
//! #[derive(Default)]
//! struct Slowest(AtomicU64);
//!
//! impl Sink for Slowest {
//!     fn rows(&self, rows: &[Row]) -> std::io::Result<()> {
//!         for row in rows {
//!             self.0.fetch_max(row.e2e().as_ns(), Ordering::Relaxed);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let set = ("--set".to_owned(), "workload.requests=100".to_owned());
//! let job = Loaded::load(None, &[set])?.resolve()?;
//! let fleet = &job.fleet;
//! let slowest = Slowest::default();
//! let outcome = fleet::run(fleet, job.traffic.open(fleet.seed)?, &job.router, &slowest)?;
//! assert_eq!(outcome.recorder.totals.completed, 100);
//! assert_eq!(outcome.recorder.e2e.max(), Some(slowest.0.into_inner()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | layer | what it does |
//! | --- | --- |
//! | [`kernel`] | virtual time, logical processes, executors; knows nothing of LLMs |
//! | [`model`] | engine, KV memory, router, timing, workload, metrics; knows no threads and no files |
//! | [`fleet`] | the model as logical processes, and the one way to run it |
//! | [`io`] | traces, configuration, result files |
//! | [`report`] | outcomes as tables, JSON and CSV |
//! | [`experiment`] | many runs that belong together |
//! | [`cli`] | the command line |

pub mod cli;
pub mod experiment;
pub mod fleet;
pub mod io;
pub mod kernel;
pub mod model;
pub mod report;
