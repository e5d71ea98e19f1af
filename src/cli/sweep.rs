//! `fleetsim sweep`

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::cli::args::SweepOptions;
use crate::cli::exit::Exit;
use crate::cli::interrupt;
use crate::cli::run::{RUNS, out_dir, say};
use crate::cli::screen::Screen;
use crate::experiment;
use crate::experiment::sweep::{Plan, Watch};
use crate::io::config::{self, Loaded};
use crate::io::files::ResultDir;
use crate::kernel::Time;
use crate::report::{SweepRun, SweepWriter, sweep_to_json, write_sweep_table};

/// The file of the results: also what tells a directory that may be replaced.
const RESULTS: &str = "sweep.csv";

pub(super) fn sweep(options: &SweepOptions) -> Result<(), Exit> {
    let loaded = Loaded::load(options.workload.config.as_deref(), &options.overrides())?;
    let plan = Plan::new(&loaded, &options.vary, &options.plot)?;
    let results = match out_dir(options.output.out.as_deref(), "sweep") {
        Some(path) => Some(ResultDir::create(&path, RESULTS, options.output.force)?),
        None => None,
    };
    if !options.output.quiet {
        say(plan.foreseen());
    }
    interrupt::listen();
    let unwritten = |error: &io::Error| {
        let path = results.as_ref().map_or(Path::new(RUNS), ResultDir::path).join(RESULTS);
        Exit::Output(format!("{}: cannot be written: {error}", path.display()))
    };
    let mut screen = SweepScreen {
        screen: Screen::new(options.output.quiet),
        lines: match &results {
            Some(results) => {
                let lines = SweepWriter::new(results.file(RESULTS)?, &plan.keys(), plan.has_slo());
                Some(lines.map_err(|error| unwritten(&error))?)
            }
            None => None,
        },
    };
    let runs = plan.run(&mut screen);
    screen.screen.clear();
    let runs = runs?;
    let path = match results {
        Some(results) => Some(store(results, &loaded, &plan, &runs)?),
        None => None,
    };
    print(options, &plan, &runs, path.as_deref()).map_err(|error| Exit::stdout(&error))
}

fn store(
    results: ResultDir,
    loaded: &Loaded,
    plan: &Plan,
    runs: &[SweepRun],
) -> Result<PathBuf, Exit> {
    let config = config::to_toml(&config::relocatable(&loaded.config));
    let text = format!("{config}\n{}", plan.sweep().to_toml());
    results.write("config.toml", |out| out.write_all(text.as_bytes()))?;
    for (column, chart) in plan.charts(runs) {
        let svg = chart.to_svg();
        results.write(&format!("{column}.svg"), |out| out.write_all(svg.as_bytes()))?;
    }
    Ok(results.finish()?)
}

fn print(
    options: &SweepOptions,
    plan: &Plan,
    runs: &[SweepRun],
    path: Option<&Path>,
) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if options.output.json {
        serde_json::to_writer_pretty(&mut out, &sweep_to_json(&plan.keys(), runs))?;
        writeln!(out)?;
    } else if !options.output.quiet {
        write_sweep_table(&mut out, &plan.keys(), runs, plan.has_slo())?;
        if let Some(path) = path {
            writeln!(out, "results in {}", path.display())?;
        }
    }
    out.flush()
}

/// What the terminal shows, and what is stored while the sweep goes on.
struct SweepScreen {
    screen: Screen,
    lines: Option<SweepWriter<BufWriter<File>>>,
}

impl experiment::Watch for SweepScreen {
    fn start(&mut self, name: &str, requests: Option<u64>) {
        self.screen.start(name, requests);
    }

    fn progress(&self, now: Time, ended: u64, fraction: Option<f64>) -> ControlFlow<()> {
        self.screen.progress(now, ended, fraction)
    }
}

impl Watch for SweepScreen {
    fn finish(&mut self, run: &SweepRun) -> io::Result<()> {
        match &mut self.lines {
            Some(lines) => lines.add(run),
            None => Ok(()),
        }
    }
}
