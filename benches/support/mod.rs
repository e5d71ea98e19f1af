//! What benches of whole runs need.

use std::io;

use fleetsim::fleet::{self, Outcome, Sink};
use fleetsim::io::config::{Job, Loaded};
use fleetsim::model::metrics::Row;

/// Takes everything and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn rows(&self, _: &[Row]) -> io::Result<()> {
        Ok(())
    }
}

/// The default configuration with these settings.
pub(crate) fn job(settings: &[&str]) -> Job {
    let settings: Vec<(String, String)> =
        settings.iter().map(|setting| ((*setting).to_owned(), (*setting).to_owned())).collect();
    let loaded = Loaded::load(None, &settings);
    loaded.and_then(|loaded| loaded.resolve()).expect("a configuration")
}

/// Runs it.
pub(crate) fn run(job: &Job) -> Outcome {
    let demand = job.traffic.open(job.fleet.seed).expect("a generator");
    fleet::run(&job.fleet, demand, &job.router, &Nowhere).expect("a run")
}
