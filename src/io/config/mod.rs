//! Configuration: a TOML file, overridden key by key from the command line, checked, and turned into a run.
//!
//! ```text
//!   file ----+                          Config (text/)         Job (resolve.rs)
//!   --set ---+--> layers (layer.rs) --> what the user typed --> what the program runs
//!   flags ---+    unknown keys (keys.rs),      |                notes (notes.rs, foreseen.rs)
//!                 types                        +-- ranges, contradictions (check.rs)
//! ```
//!
//! Checks, notes and conversions of a section with a file of its own (`admission`, `cells`, `classes`, `pools`, `scaling`, `sessions`)
//! are there; those of engines and timing are in `deploy`.
//!
//! Every complaint names the layer, and in a file the line and column, that a value came from.

mod admission;
mod catalog;
mod cells;
mod check;
mod classes;
mod deploy;
mod error;
mod foreseen;
mod keys;
mod layer;
mod notes;
mod pools;
mod resolve;
mod scaling;
mod sessions;
mod sweep;
mod tables;
pub mod text;

pub use catalog::Catalog;
pub use error::ConfigError;
pub use keys::all_keys;
pub use resolve::Job;
pub use sweep::{Sweep, SweepValue, Varied};

use std::path::Path;

use serde::Deserialize;

use crate::io::config::error::Problem;
use crate::io::config::layer::Layer;
use crate::io::config::text::Config;

/// A configuration, and where each of its values came from.
pub struct Loaded {
    /// What it says.
    pub config: Config,
    layers: Vec<Layer>,
}

impl Loaded {
    /// Reads a file, if there is one, and applies overrides in order: pairs of what the user typed (for complaints) and
    /// an assignment `path=value`.
    ///
    /// # Errors
    /// At the first thing that is not right.
    pub fn load(
        file: Option<&Path>,
        overrides: &[(String, String)],
    ) -> Result<Loaded, ConfigError> {
        let mut layers = Vec::new();
        if let Some(path) = file {
            layers.push(Layer::from_file(path)?);
        }
        Loaded { config: Config::default(), layers }.with(overrides)
    }

    /// The same with more overrides.
    fn with(&self, overrides: &[(String, String)]) -> Result<Loaded, ConfigError> {
        let mut layers = self.layers.clone();
        for (name, assignment) in overrides {
            layers.push(Layer::from_assignment(name, assignment)?);
        }
        let mut merged = toml::Table::new();
        for layer in &layers {
            merge(&mut merged, layer.table());
        }
        // Every layer has been read on its own, so together they cannot fail.
        let config = Config::deserialize(merged).map_err(|error| ConfigError::merged(&error))?;
        Ok(Loaded { config, layers })
    }

    /// Checks the configuration as a whole and turns it into a run.
    ///
    /// # Errors
    /// If a value is out of its range, or two contradict each other.
    pub fn resolve(&self) -> Result<Job, ConfigError> {
        let mut job = self.job()?;
        if self.layers.iter().any(|layer| layer.sweep().is_some()) {
            let note =
                "the table [sweep] is for `fleetsim sweep`: this run has the values beside it";
            job.notes.push(note.to_owned());
        }
        Ok(job)
    }

    /// The GPUs and models that it can name.
    ///
    /// # Errors
    /// If an entry of its own is not complete, or not right.
    pub fn catalog(&self) -> Result<Catalog, ConfigError> {
        let catalog = Catalog::new(&self.config.gpus, &self.config.models);
        catalog.map_err(|violation| self.place(violation))
    }

    fn job(&self) -> Result<Job, ConfigError> {
        Job::new(&self.config).map_err(|violation| self.place(violation))
    }

    /// What to sweep: the file's table, and on top of it what the command line says. `vary` are texts `KEY=V1,V2`, which
    /// replace the values of a key in the file or come after those; `plot` are columns, which replace those in the file.
    ///
    /// # Errors
    /// If there is no such key, a value is not of its type, an override sets a key that varies, or nothing varies.
    pub fn sweep(&self, vary: &[String], plot: &[String]) -> Result<Sweep, ConfigError> {
        let mut sweep = self.layers.iter().find_map(Layer::sweep).cloned().unwrap_or_default();
        sweep.extend(vary, plot)?;
        for Varied { key, .. } in &sweep.vary {
            let mut options = self.layers.iter().filter(|layer| !layer.is_file());
            if let Some(layer) = options.find(|layer| layer.defines(key)) {
                let reason = "varies in the sweep: leave one of them out".to_owned();
                return Err(layer.complain(key, Problem::Contradiction(reason)));
            }
        }
        Ok(sweep)
    }

    /// The run number `run` of a sweep, counted from 0.
    ///
    /// # Errors
    /// If a value is out of its range, or two contradict each other.
    pub fn resolve_one_of(&self, sweep: &Sweep, run: usize) -> Result<Job, ConfigError> {
        self.with(&sweep.assignments(run))?.job()
    }

    fn place(&self, violation: check::Violation) -> ConfigError {
        let layer = self.layers.iter().rev().find(|layer| layer.defines(&violation.key));
        match layer {
            Some(layer) => layer.complain(&violation.key, violation.problem),
            None => ConfigError::new("configuration", None, &violation.key, violation.problem),
        }
    }
}

/// Writes `over` over `base`, table by table.
fn merge(base: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The same configuration, independent of the folder in which it is read.
pub fn relocatable(config: &Config) -> Config {
    let mut config = config.clone();
    if let Some(trace) = &mut config.workload.trace {
        *trace = absolute(trace);
    }
    if let Some(dir) = &mut config.timing.dir {
        *dir = absolute(dir);
    }
    for pool in config.pools.values_mut() {
        if let Some(toml::Value::String(dir)) = pool.timing.get_mut("dir") {
            *dir = absolute(dir);
        }
    }
    config
}

fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or(path.to_owned(), |path| path.display().to_string())
}

/// The configuration as TOML, every value written out; reading it again gives the same.
pub fn to_toml(config: &Config) -> String {
    toml::to_string(config).expect("a configuration is made of TOML's own types")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::config::text::{RouterPolicy, Workload};

    fn load(text: &str, overrides: &[(&str, &str)]) -> Result<Job, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        let owned = |&(name, assignment): &(&str, &str)| (name.to_owned(), assignment.to_owned());
        let overrides: Vec<_> = overrides.iter().map(owned).collect();
        let loaded = Loaded::load(Some(&path), &overrides).and_then(|loaded| loaded.resolve());
        let prefix = format!("{}/", folder.path().display());
        loaded.map_err(|error| error.to_string().replace(&prefix, ""))
    }

    #[test]
    fn later_layers_win() {
        let text = "[router]\npolicy = \"random\"\n[fleet]\nworkers = 3\n";
        let job =
            load(text, &[("--router kv", "router.policy=kv"), ("--workers 5", "fleet.workers=5")]);
        let job = job.unwrap();
        assert_eq!(job.fleet.workers(), 5);
        assert_eq!(job.config.router.policy, RouterPolicy::Kv);
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut config = Config::complete();
        for config in [Config::default(), {
            config.workload = Workload { requests: Some(7), ..Workload::default() };
            config
        }] {
            let text = to_toml(&config);
            assert_eq!(toml::from_str::<Config>(&text).unwrap(), config, "{text}");
        }
    }

    /// Files, and what is said of them.
    const COMPLAINTS: &[(&str, &str)] = &[
        (
            "[router]\npolciy = \"kv\"",
            "x.toml:2:1: unknown key router.polciy; did you mean router.policy?",
        ),
        ("[rooter]\n", "x.toml:1:2: unknown key rooter; did you mean router?"),
        (
            "x = 1",
            "x.toml:1:1: unknown key x; the sections are workload, client, fleet, planner, lifecycle, engine, router, admission, classes, control_plane, timing, slo, run, gpus, models, pools, sweep",
        ),
        (
            "[fleet]\nworkers = \"many\"",
            "x.toml:2:11: fleet.workers is \"many\", but has to be a whole number from 1 to 1048575",
        ),
        (
            "[fleet]\nworkers = 0",
            "x.toml:2:11: fleet.workers is 0, but has to be a whole number from 1 to 1048575",
        ),
        (
            "[fleet]\nworkers = -3",
            "x.toml:2:11: fleet.workers is -3, but has to be a whole number from 1 to 1048575",
        ),
        (
            "[router]\npolicy = \"kvv\"",
            "x.toml:2:10: router.policy is \"kvv\", but has to be one of round-robin, random, power-of-two, least-loaded, session-affine, kv; did you mean kv?",
        ),
        (
            "[control_plane]\ndispatch_latency = \"1 parsec\"",
            "x.toml:2:20: control_plane.dispatch_latency is \"1 parsec\", but has to be a time with a unit (ns, us, ms, s, m, h, d) of less than 834 days, such as \"1.5ms\"",
        ),
        (
            "[control_plane]\ndispatch_latency = 5",
            "x.toml:2:20: control_plane.dispatch_latency is 5, but has to be a time with a unit (ns, us, ms, s, m, h, d) of less than 834 days, such as \"1.5ms\"",
        ),
        ("[fleet\nworkers = 1", "x.toml:1:7: not TOML: unclosed table, expected `]`"),
        (
            "[workload]\nspeedup = 0.0",
            "x.toml:2:11: workload.speedup is 0.0, but has to be a number from 0.000001 to 1000000",
        ),
        (
            "[workload]\nspeedup = nan",
            "x.toml:2:11: workload.speedup is nan, but has to be a number from 0.000001 to 1000000",
        ),
        (
            "[client]\nretries = 99999999999999999999",
            "x.toml:2:11: client.retries is 99999999999999999999, but has to be a whole number from 0 to 4294967295",
        ),
        (
            "[fleet]\ngpus_per_worker = 5000000000",
            "x.toml:2:19: fleet.gpus_per_worker is 5000000000, but has to be a whole number from 1 to 4294967295",
        ),
        (
            "[workload]\nrequests = 99999999999999999999",
            "x.toml:2:12: workload.requests is 99999999999999999999, but has to be a whole number from 1 to 9223372036854775807",
        ),
        ("[run]\nseed = -1", "x.toml:2:8: run.seed is -1, but has to be a whole number, 0 or more"),
        (
            "[run]\nseed = 18446744073709551615",
            "x.toml:2:8: run.seed is 18446744073709551615, but has to be a whole number from 0 to 9223372036854775807",
        ),
        (
            "[run]\nseries_interval = \"50ms\"",
            "x.toml:2:19: run.series_interval is \"50ms\", but has to be a time of 100 ms or more",
        ),
        (
            "[planner]\nschedule = [[0, 10, 3]]",
            "x.toml:2:12: planner.schedule is [[0, 10, 3]], but has to be pairs of a time in seconds and a number of workers, 1 or more, times rising from 0 to 26 days",
        ),
        (
            "[pools.a]\nworkers = 1\ntiming.prefill_polynomial = [1.0, 2.0, 3.0, 4.0]",
            "x.toml:3:29: pools.a.timing.prefill_polynomial is [1.0, 2.0, 3.0, 4.0], but has to be three finite numbers, highest power first, such as [0.0, 1.5, 10.0]",
        ),
        (
            "[workload.generate.output_tokens]\nquantiles = 5",
            "x.toml:2:13: workload.generate.output_tokens.quantiles is 5, but has to be a list of numbers, such as [10, 200, 5000]",
        ),
        (
            "[workload]\npreset = \"custom\"\ngenerate = { arrivals = \"gamma\", cv = 1e200 }",
            "x.toml:3:39: workload.generate.cv is 1e200, but has to be a number from 0.001 to 1000",
        ),
        ("[slo]\nttft = \"0s\"", "x.toml:2:8: slo.ttft is \"0s\", but has to be a time above 0"),
        (
            "[lifecycle]\nstages = [{ name = \"a\", median = \"20d\" }, { name = \"b\", median = \"20d\" }]",
            "x.toml:2:10: lifecycle.stages is a list of parts that take 40d together, but has to be a list of parts with a median of at most 26 d together and a sigma from 0 to 5, such as [{ name = \"pull\", median = \"40s\", sigma = 0.5 }]",
        ),
        (
            "[run]\nthreads = 0",
            "x.toml:2:11: run.threads is 0, but has to be 1 to 1024, or \"auto\"",
        ),
    ];

    /// Every complaint names the place, the key, the value and what would be right.
    #[test]
    fn complaints_are_sentences() {
        for &(text, expected) in COMPLAINTS {
            match load(text, &[]) {
                Err(error) => assert_eq!(error, expected, "{text}"),
                Ok(_) => panic!("accepted: {text}"),
            }
        }
    }

    #[test]
    fn overrides_are_named_as_typed() {
        let cases = [
            (
                ("--set router.polciy=kv", "router.polciy=kv"),
                "--set router.polciy=kv: unknown key router.polciy; did you mean router.policy?",
            ),
            (
                ("--workers 0", "fleet.workers=0"),
                "--workers 0: fleet.workers is 0, but has to be a whole number from 1 to 1048575",
            ),
            (
                ("--set nonsense", "nonsense"),
                "--set nonsense: has to be path=value, such as router.policy=kv",
            ),
            (
                ("--set router=kv", "router=kv"),
                "--set router=kv: router is \"kv\", but is a section, so the path has to go on: router.KEY",
            ),
        ];
        for (assignment, expected) in cases {
            match load("", &[assignment]) {
                Err(error) => assert_eq!(error, expected),
                Ok(_) => panic!("accepted: {assignment:?}"),
            }
        }
    }

    #[test]
    fn what_changes_nothing_is_noted() {
        let cases = [
            ("", ""),
            ("[router]\npolicy = \"kv\"\nrouter_temperature = 0.5", ""),
            (
                "[router]\nrouter_temperature = 0.5",
                "router.router_temperature has no effect unless router.policy is \"kv\"",
            ),
            (
                "[timing]\nmodel = \"constant\"\ndecode_min = \"2ms\"",
                "timing.decode_min has no effect unless timing.model is \"polynomial\"",
            ),
            (
                "[timing]\nmodel = \"constant\"\n[engine]\ndecode_load = \"resident\"",
                "engine.decode_load has no effect while timing.model is \"constant\": a pass takes as long whatever it reads",
            ),
            (
                "[planner]\npolicy = \"throughput\"\npredictor = \"average\"\npredictor_steps = 3",
                "planner.predictor_steps has no effect for the predictors \"last\" and \"average\", which say the same of all intervals to come",
            ),
            (
                "[workload]\npreset = \"agents\"\nturns_wait = true",
                "workload.turns_wait has no effect for agents, which always wait",
            ),
            (
                "[workload]\ntrace = \"x\"\nformat = \"dynamo\"\nturns_wait = true",
                "workload.turns_wait has no effect for Dynamo's traces, whose sessions always wait",
            ),
            (
                "[workload]\npreset = \"custom\"\ngenerate = { prefix_groups = 9, prefix_share = 0.0 }",
                "workload.generate.prefix_groups has no effect while workload.generate.prefix_share is 0",
            ),
            (
                "[workload]\ncopy_spread = \"5s\"",
                "workload.copy_spread has no effect without workload.copies above 1",
            ),
            (
                "[workload]\npreset = \"custom\"\ngenerate.prefix_tokens = 900",
                "workload.generate.prefix_tokens has no effect without workload.generate.prefix_groups",
            ),
            (
                "[workload]\npreset = \"custom\"\ngenerate.output_tokens.quantiles = [1.0, 2.0]",
                "workload.generate.output_tokens.quantiles has no effect for log-normal lengths",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(load(text, &[]).unwrap().notes.join("; "), expected, "{text}");
        }
    }

    #[test]
    fn contradictions_are_found() {
        let cases = [
            ("[workload]\nconcurrency = 5\nspeedup = 2.0", "workload.speedup"),
            ("[workload]\ntrace = \"x\"\npreset = \"conversation\"", "workload.preset"),
            ("[workload.generate]\nrate = 2.0", "workload.generate"),
            ("[workload.columns]\ntimestamp = \"t\"", "workload.columns"),
            (
                "[router]\npolicy = \"random\"\nrouter_queue_threshold = 1.0",
                "router.router_queue_threshold",
            ),
            (
                "[engine]\nmax_num_batched_tokens = 16\nmax_num_seqs = 32\nenable_chunked_prefill = false\nmax_model_len = 64",
                "engine.max_model_len",
            ),
        ];
        for (text, key) in cases {
            match load(text, &[]) {
                Err(error) => assert!(error.contains(key), "{text}: {error}"),
                Ok(_) => panic!("accepted: {text}"),
            }
        }
    }
}
