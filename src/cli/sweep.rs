//! `fleetsim sweep`

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::cli::args::SweepOptions;
use crate::cli::crowd::Crowd;
use crate::cli::exit::Exit;
use crate::cli::interrupt;
use crate::cli::run::{RUNS, results, say};
use crate::cli::screen::Screen;
use crate::experiment::Watch;
use crate::experiment::sweep::Plan;
use crate::io::config::{self, Loaded};
use crate::io::files::ResultDir;
use crate::report::{SweepRun, SweepWriter, sweep_to_json, write_sweep_table};

/// The file of the results: also what tells a directory that may be replaced.
const RESULTS: &str = "sweep.csv";

pub(super) fn sweep(options: &SweepOptions) -> Result<(), Exit> {
    let loaded = Loaded::load(options.workload.config.as_deref(), &options.overrides())?;
    let plan = Plan::new(&loaded, &options.vary, &options.plot, &options.jobs)?;
    let results = results(&options.output, "sweep", RESULTS)?;
    if !options.output.quiet {
        say(&plan.notes());
    }
    interrupt::listen();
    let unwritten = |error: &io::Error| {
        let path = results.as_ref().map_or(Path::new(RUNS), ResultDir::path).join(RESULTS);
        Exit::Output(format!("{}: cannot be written: {error}", path.display()))
    };
    let mut lines = match &results {
        Some(results) => {
            let lines = SweepWriter::new(results.file(RESULTS)?, &plan.keys(), plan.has());
            Some(lines.map_err(|error| unwritten(&error))?)
        }
        None => None,
    };
    let runs = plan.run(&*screen(options.output.quiet, &plan), &mut |run| {
        lines.as_mut().map_or(Ok(()), |lines| lines.add(run))
    })?;
    drop(lines);
    let path = match results {
        Some(results) => Some(store(results, &loaded, &plan, &runs)?),
        None => None,
    };
    print(options, &plan, &runs, path.as_deref()).map_err(|error| Exit::stdout(&error))
}

/// One line for all runs, if several go on at once.
fn screen(quiet: bool, plan: &Plan) -> Box<dyn Watch> {
    match plan.at_once() {
        1 => Box::new(Screen::new(quiet)),
        _ => Box::new(Crowd::new(quiet, plan.sweep().runs())),
    }
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
        write_sweep_table(&mut out, &plan.keys(), runs, plan.has())?;
        if let Some(path) = path {
            writeln!(out, "results in {}", path.display())?;
        }
    }
    out.flush()
}
