//! `fleetsim scaling`

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::cli::args::ScalingOptions;
use crate::cli::exit::Exit;
use crate::cli::interrupt;
use crate::cli::run::{results, say};
use crate::cli::screen::Screen;
use crate::experiment::scaling::Plan;
use crate::io::config::{self, Loaded};
use crate::io::files::ResultDir;
use crate::report::{
    Scaling, scaling_chart, scaling_to_json, write_scaling_csv, write_scaling_table,
};

/// The file of the figures: also what tells a directory that may be replaced.
const RESULTS: &str = "scaling.csv";

pub(super) fn scaling(options: &ScalingOptions) -> Result<(), Exit> {
    let file = options.fleet.workload.config.as_deref();
    let job = Loaded::load(file, &options.overrides())?.resolve()?;
    let plan = Plan::new(job, &options.threads, &options.repeat)?;
    let results = results(&options.output, "scaling", RESULTS)?;
    if !options.output.quiet {
        say(plan.job().foreseen.iter().chain(&plan.job().notes));
    }
    interrupt::listen();
    let scaling = plan.run(&Screen::new(options.output.quiet))?;
    let path = match results {
        Some(results) => Some(store(results, &plan, &scaling)?),
        None => None,
    };
    print(options, &scaling, path.as_deref()).map_err(|error| Exit::stdout(&error))
}

fn store(results: ResultDir, plan: &Plan, scaling: &Scaling) -> Result<PathBuf, Exit> {
    let config = config::to_toml(&config::relocatable(&plan.job().config));
    results.write("config.toml", |out| out.write_all(config.as_bytes()))?;
    results.write(RESULTS, |out| write_scaling_csv(out, scaling))?;
    let svg = scaling_chart(scaling).to_svg();
    results.write("scaling.svg", |out| out.write_all(svg.as_bytes()))?;
    Ok(results.finish()?)
}

fn print(options: &ScalingOptions, scaling: &Scaling, path: Option<&Path>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if options.output.json {
        serde_json::to_writer_pretty(&mut out, &scaling_to_json(scaling))?;
        writeln!(out)?;
    } else if !options.output.quiet {
        write_scaling_table(&mut out, scaling)?;
        if let Some(path) = path {
            writeln!(out, "results in {}", path.display())?;
        }
    }
    out.flush()
}
