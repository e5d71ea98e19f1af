//! Every option, once: its name, type and help.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A simulator of LLM inference fleets: router, engine schedulers and prefix caches on one virtual clock.
#[derive(Parser, Debug)]
#[command(name = "fleetsim", bin_name = "fleetsim", version, max_term_width = 100)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    /// Nothing said is `run`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a bug in fleetsim, 2 wrong arguments or configuration, 3 bad input, \
                          4 output cannot be written, 130 interrupted.";

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Simulate a fleet serving a workload; without options, an hour of generated traffic on 8 workers.
    Run(Box<RunOptions>),
    /// Simulate every combination of the values of some keys, and compare.
    Sweep(Box<SweepOptions>),
    /// Tell how a run would scale to more threads, and what limits it.
    Scaling(Box<ScalingOptions>),
    /// List the GPUs and models that a configuration can name.
    Catalog(CatalogOptions),
    /// Look at workloads, make them, convert them, check them.
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Look at timing tables: measured times of forward passes, by GPU, model, backend, version and TP.
    #[command(subcommand)]
    Timing(TimingCommand),
}

/// Where timing tables are, beside those that are built in.
#[derive(clap::Args, Default, Debug)]
pub(super) struct TablesOption {
    /// A directory of more timing tables; one of them comes before a built-in one of the same name [timing.dir].
    #[arg(long, value_name = "DIR")]
    pub timing_dir: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(super) enum TimingCommand {
    /// List the tables there are.
    List {
        /// List only tables with all of these words in their names.
        words: Vec<String>,
        #[command(flatten)]
        tables: TablesOption,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell about one table: its source, what it covers, memory, and some passes.
    Show {
        /// The table, as `list` names it.
        name: String,
        #[command(flatten)]
        tables: TablesOption,
    },
    /// Draw decode passes over the context and prefill passes over the new tokens.
    Plot {
        /// The table, as `list` names it.
        name: String,
        /// The directory to make, with decode.svg and prefill.svg.
        output: PathBuf,
        /// Replace earlier plots that are in the directory.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        tables: TablesOption,
    },
    /// Tell how exact tables are, and which figures look wrong; fails if a table is off by more than 2 % on average.
    Check {
        /// Check only tables with all of these words in their names.
        words: Vec<String>,
        #[command(flatten)]
        tables: TablesOption,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a table from elsewhere, and copy it into a directory of tables.
    Import {
        /// The path of its files without .prefill.csv, .decode.csv, .other.csv.
        stem: PathBuf,
        /// The directory of tables; it is made if it is not there.
        #[arg(long, value_name = "DIR")]
        timing_dir: PathBuf,
        /// What it is about: gpu/model/backend-version-tpK; without it, the last three parts of the path say so.
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
        /// Replace a table of the same name.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum TraceCommand {
    /// Print the figures of a workload: rates, lengths, sessions, prefix sharing.
    Stats {
        /// The trace; without one, the workload that `run` would generate.
        file: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        options: TraceOptions,
    },
    /// Write generated traffic as a Mooncake trace.
    Generate {
        /// The file to write; .gz and .zst are packed, `-` is stdout.
        output: PathBuf,
        #[command(flatten)]
        file: FileOptions,
        #[command(flatten)]
        options: TraceOptions,
    },
    /// Turn any trace into a Mooncake trace.
    Convert {
        /// The trace to read.
        input: String,
        /// The file to write; .gz and .zst are packed, `-` is stdout.
        output: PathBuf,
        #[command(flatten)]
        file: FileOptions,
        #[command(flatten)]
        options: TraceOptions,
    },
    /// Read a whole trace and list every bad line.
    Validate {
        /// The trace to read.
        file: String,
        #[command(flatten)]
        options: TraceOptions,
    },
}

/// Options that say which requests a workload has. Each is short for a key of the configuration, which `--set` reaches
/// too.
#[derive(clap::Args, Default, Debug)]
#[expect(clippy::doc_markdown, reason = "the help is plain text")]
pub(super) struct WorkloadOptions {
    /// Configuration file; docs/configuration.md lists the keys.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How the trace is written: auto, mooncake, azure, burstgpt, csv, jsonl, dynamo [workload.format].
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// Stop after N requests [workload.requests].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub requests: Option<String>,

    /// Where all randomness comes from [run.seed].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<String>,

    /// Leave out bad lines of the trace and count them [workload.skip_bad_lines].
    #[arg(long)]
    pub skip_bad_lines: bool,

    /// Set any key of the configuration, such as router.policy=kv; repeatable, the last one wins.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

/// Options about a trace that is written.
#[derive(clap::Args, Debug)]
pub(super) struct FileOptions {
    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,

    /// Print nothing but errors, and with `-` the trace.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Options of `fleetsim trace`.
#[derive(clap::Args, Debug)]
pub(super) struct TraceOptions {
    #[command(flatten)]
    pub workload: WorkloadOptions,

    /// What to generate: toolagent, conversation, custom, agents [workload.preset].
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<String>,
}

/// Options that say what is simulated.
#[derive(clap::Args, Default, Debug)]
pub(super) struct FleetOptions {
    #[command(flatten)]
    pub workload: WorkloadOptions,

    /// Replay this trace (plain, .gz or .zst) instead of generated traffic [workload.trace].
    #[arg(long, value_name = "FILE")]
    pub trace: Option<String>,

    /// How many workers the fleet has [fleet.workers].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub workers: Option<String>,

    /// Router policy: round-robin, random, power-of-two, least-loaded, session-affine, kv [router.policy].
    #[arg(long, value_name = "POLICY")]
    pub router: Option<String>,

    /// Closed loop: keep N requests in flight instead of following arrival times [workload.concurrency].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub concurrency: Option<String>,

    /// Let requests arrive X times faster [workload.speedup].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub speedup: Option<String>,

    #[command(flatten)]
    pub tables: TablesOption,
}

/// Options that say where results go.
#[derive(clap::Args, Default, Debug)]
pub(super) struct OutputOptions {
    /// Directory for the results, or `none`; the default is a new one under runs/.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Replace the results that are in the directory already.
    #[arg(long)]
    pub force: bool,

    /// Print nothing but errors, and with --json the JSON.
    #[arg(short, long)]
    pub quiet: bool,

    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Options of `fleetsim run`.
#[derive(clap::Args, Default, Debug)]
pub(super) struct RunOptions {
    #[command(flatten)]
    pub fleet: FleetOptions,

    /// Threads to simulate on [run.threads].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<String>,

    #[command(flatten)]
    pub output: OutputOptions,
}

/// Options of `fleetsim sweep`.
#[derive(clap::Args, Debug)]
pub(super) struct SweepOptions {
    #[command(flatten)]
    pub workload: WorkloadOptions,

    #[command(flatten)]
    pub tables: TablesOption,

    /// Vary a key over values, such as router.policy=kv,random; repeatable, the last key varies fastest.
    #[arg(long, value_name = "KEY=V1,V2")]
    pub vary: Vec<String>,

    /// Let N runs go on at once, or `auto` for as many as the cores are good for; each needs its own memory.
    #[arg(long, value_name = "N", default_value = "auto", allow_negative_numbers = true)]
    pub jobs: String,

    /// Plot a column of sweep.csv over the last varied key with numbers or times; repeatable.
    #[arg(long, value_name = "COLUMN")]
    pub plot: Vec<String>,

    #[command(flatten)]
    pub output: OutputOptions,
}

/// Options of `fleetsim catalog`.
#[derive(clap::Args, Debug)]
pub(super) struct CatalogOptions {
    /// Configuration file, whose sections [gpus.NAME] and [models.NAME] are listed as well.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Set any key of the configuration; repeatable, the last one wins.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `fleetsim scaling`.
#[derive(clap::Args, Debug)]
pub(super) struct ScalingOptions {
    #[command(flatten)]
    pub fleet: FleetOptions,

    /// Numbers of threads to tell about; those up to the number of usable cores are measured too.
    #[arg(long, value_name = "N,N", default_value = "1,2,4,8,16,32,64")]
    #[arg(allow_negative_numbers = true)]
    pub threads: String,

    /// Run everything so often, and keep the least time of each.
    #[arg(long, value_name = "N", default_value = "3", allow_negative_numbers = true)]
    pub repeat: String,

    #[command(flatten)]
    pub output: OutputOptions,
}

impl ScalingOptions {
    /// See [`TraceOptions::overrides`].
    pub(super) fn overrides(&self) -> Vec<(String, String)> {
        let mut overrides = Overrides::default();
        overrides.fleet(&self.fleet);
        overrides.0
    }
}

impl CatalogOptions {
    /// See [`TraceOptions::overrides`].
    pub(super) fn overrides(&self) -> Vec<(String, String)> {
        self.set.iter().map(|set| (format!("--set {set}"), set.clone())).collect()
    }
}

impl SweepOptions {
    /// See [`TraceOptions::overrides`].
    pub(super) fn overrides(&self) -> Vec<(String, String)> {
        let mut overrides = Overrides::default();
        overrides.tables(&self.tables);
        overrides.workload(&self.workload);
        overrides.0
    }
}

impl TraceOptions {
    /// Overrides of the configuration, the strongest last: what the user typed, and the assignment it means.
    pub(super) fn overrides(&self, file: Option<&str>) -> Vec<(String, String)> {
        let mut overrides = Overrides::default();
        overrides.text("trace", "workload.trace", file);
        overrides.text("--preset", "workload.preset", self.preset.as_deref());
        overrides.workload(&self.workload);
        overrides.0
    }
}

impl RunOptions {
    /// See [`TraceOptions::overrides`].
    pub(super) fn overrides(&self) -> Vec<(String, String)> {
        let mut overrides = Overrides::default();
        overrides.value("--threads", "run.threads", self.threads.as_deref());
        overrides.fleet(&self.fleet);
        overrides.0
    }
}

/// What the user typed, and the assignment it means.
#[derive(Default)]
struct Overrides(Vec<(String, String)>);

impl Overrides {
    /// A value that is text, whatever it looks like.
    fn text(&mut self, option: &str, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            let quoted = toml::Value::from(value);
            self.0.push((format!("{option} {value}"), format!("{key}={quoted}")));
        }
    }

    /// A value as in the configuration.
    fn value(&mut self, option: &str, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.push((format!("{option} {value}"), format!("{key}={value}")));
        }
    }

    fn fleet(&mut self, options: &FleetOptions) {
        self.text("--trace", "workload.trace", options.trace.as_deref());
        self.value("--workers", "fleet.workers", options.workers.as_deref());
        self.text("--router", "router.policy", options.router.as_deref());
        self.value("--concurrency", "workload.concurrency", options.concurrency.as_deref());
        self.value("--speedup", "workload.speedup", options.speedup.as_deref());
        self.tables(&options.tables);
        self.workload(&options.workload);
    }

    fn tables(&mut self, options: &TablesOption) {
        let dir = options.timing_dir.as_ref().map(|dir| dir.to_string_lossy());
        self.text("--timing-dir", "timing.dir", dir.as_deref());
    }

    fn workload(&mut self, options: &WorkloadOptions) {
        self.text("--format", "workload.format", options.format.as_deref());
        self.value("--requests", "workload.requests", options.requests.as_deref());
        self.value("--seed", "run.seed", options.seed.as_deref());
        if options.skip_bad_lines {
            let assignment = "workload.skip_bad_lines=true";
            self.0.push(("--skip-bad-lines".to_owned(), assignment.to_owned()));
        }
        self.0.extend(options.set.iter().map(|set| (format!("--set {set}"), set.clone())));
    }
}
