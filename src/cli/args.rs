//! Every option, once: its name, type and help.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A simulator of LLM inference fleets: router, autoscaler, engine schedulers, prefix caches, on one virtual clock.
#[derive(Parser, Debug)]
#[command(name = "fleetsim", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a bug in fleetsim, 2 wrong arguments or configuration, 3 bad input, \
                          4 output cannot be written, 130 interrupted.";

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Simulate a fleet serving a workload; without options, an hour of generated traffic on 8 workers.
    Run(Box<RunOptions>),
}

/// Options of `fleetsim run`. Each is short for a key of the configuration, which `--set` reaches too.
#[derive(clap::Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "every flag on the command line is one")]
pub(super) struct RunOptions {
    /// Configuration file; docs/configuration.md lists the keys.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Replay this trace (plain, .gz or .zst) instead of generated traffic [workload.trace].
    #[arg(long, value_name = "FILE")]
    pub trace: Option<String>,

    /// How the trace is written: auto, mooncake, azure, burstgpt, csv, jsonl [workload.format].
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// How many workers the fleet has [fleet.workers].
    #[arg(long, value_name = "N")]
    pub workers: Option<String>,

    /// Router policy: round-robin, random, power-of-two, least-loaded, session-affine, kv [router.policy].
    #[arg(long, value_name = "POLICY")]
    pub router: Option<String>,

    /// Closed loop: keep N requests in flight instead of following arrival times [workload.concurrency].
    #[arg(long, value_name = "N")]
    pub concurrency: Option<String>,

    /// Let requests arrive X times faster [workload.speedup].
    #[arg(long, value_name = "X")]
    pub speedup: Option<String>,

    /// Stop after N requests [workload.requests].
    #[arg(long, value_name = "N")]
    pub requests: Option<String>,

    /// Threads to simulate on [run.threads].
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,

    /// Where all randomness comes from [run.seed].
    #[arg(long, value_name = "N")]
    pub seed: Option<String>,

    /// Leave out bad lines of the trace and count them [workload.skip-bad-lines].
    #[arg(long)]
    pub skip_bad_lines: bool,

    /// Set any key of the configuration, such as router.policy=kv; repeatable, the last one wins.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,

    /// Directory for the results, or `none`; the default is a new one under runs/.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Replace the results that are in the directory already.
    #[arg(long)]
    pub force: bool,

    /// Print nothing but errors.
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,

    /// Print the report as JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl RunOptions {
    /// Overrides of the configuration, in the order of their force: what the user typed, and the assignment it means.
    pub(super) fn overrides(&self) -> Vec<(String, String)> {
        let mut overrides = Vec::new();
        let text = |value: &String| toml::Value::from(value.as_str()).to_string();
        let plain = |value: &String| value.clone();
        for (flag, key, value) in [
            ("--trace", "workload.trace", self.trace.as_ref().map(text)),
            ("--format", "workload.format", self.format.as_ref().map(text)),
            ("--workers", "fleet.workers", self.workers.as_ref().map(plain)),
            ("--router", "router.policy", self.router.as_ref().map(text)),
            ("--concurrency", "workload.concurrency", self.concurrency.as_ref().map(plain)),
            ("--speedup", "workload.speedup", self.speedup.as_ref().map(plain)),
            ("--requests", "workload.requests", self.requests.as_ref().map(plain)),
            ("--threads", "run.threads", self.threads.as_ref().map(plain)),
            ("--seed", "run.seed", self.seed.as_ref().map(plain)),
        ] {
            if let Some(value) = value {
                overrides.push((
                    format!("{flag} {}", value.trim_matches('"')),
                    format!("{key}={value}"),
                ));
            }
        }
        if self.skip_bad_lines {
            let assignment = "workload.skip_bad_lines=true".to_owned();
            overrides.push(("--skip-bad-lines".to_owned(), assignment));
        }
        overrides.extend(self.set.iter().map(|set| (format!("--set {set}"), set.clone())));
        overrides
    }
}
