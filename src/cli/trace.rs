//! `fleetsim trace`: look at workloads, make them, convert them, check them.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::cli::args::{FileOptions, TraceCommand, TraceOptions};
use crate::cli::exit::Exit;
use crate::cli::interrupt;
use crate::experiment::{Cause, ExperimentError};
use crate::io::config::{Job, Loaded};
use crate::io::trace::{TraceError, TraceReader, TraceWriter};
use crate::io::traffic::Origin;
use crate::model::workload::{Demand, Source, TraceStats};
use crate::report;

/// `trace validate` shows so many problems and counts the others.
const PROBLEMS_SHOWN: u64 = 20;

pub(super) fn trace(command: &TraceCommand) -> Result<(), Exit> {
    interrupt::listen();
    match command {
        TraceCommand::Stats { file, json, options } => stats(file.as_deref(), *json, options),
        TraceCommand::Generate { output, file, options } => {
            let job = job(None, options)?;
            if let Origin::Trace { path, .. } = &job.traffic.origin {
                let path = path.display();
                let problem = "which is no traffic to generate; `fleetsim trace convert` writes what a trace has";
                return Err(Exit::Usage(format!("workload.trace is {path}, {problem}")));
            }
            write(&job, output, file)
        }
        TraceCommand::Convert { input, output, file, options } => {
            write(&job(Some(input), options)?, output, file)
        }
        TraceCommand::Validate { file, options } => validate(file, options),
    }
}

/// The workload that `run` would have with the same options.
fn job(file: Option<&str>, options: &TraceOptions) -> Result<Job, Exit> {
    let loaded = Loaded::load(options.workload.config.as_deref(), &options.overrides(file))?;
    Ok(loaded.resolve()?)
}

/// The requests of a workload in which each has a time of its own.
fn requests(job: &Job) -> Result<Box<dyn Source>, Exit> {
    match job.traffic.open(job.fleet.seed)? {
        Demand::Requests(source) => Ok(source),
        Demand::Sessions(_) => {
            let problem = "its requests wait for one another, so when they come depends on the fleet; \
                           `fleetsim run` can play it, and `trace validate` check it";
            Err(Exit::Input(format!("{}: {problem}", job.traffic.describe())))
        }
    }
}

fn next(source: &mut dyn Source) -> Result<Option<crate::model::request::Request>, Exit> {
    if interrupt::is_requested() {
        return Err(Exit::Interrupted);
    }
    source.next_request().map_err(|error| Exit::Input(error.to_string()))
}

fn stats(file: Option<&str>, json: bool, options: &TraceOptions) -> Result<(), Exit> {
    let job = job(file, options)?;
    let mut source = requests(&job)?;
    let mut stats = TraceStats::new(job.traffic.block_size);
    while let Some(request) = next(source.as_mut())? {
        stats.add(&request);
    }
    let (summary, skipped) = (stats.summary(), source.skipped());
    let mut out = BufWriter::new(io::stdout().lock());
    let written = if json {
        report::write_workload_json(&mut out, &summary, skipped)
    } else {
        report::write_workload(&mut out, &job.traffic.describe(), &summary, skipped)
    };
    written.and_then(|()| out.flush()).map_err(|error| Exit::stdout(&error))
}

fn write(job: &Job, output: &Path, options: &FileOptions) -> Result<(), Exit> {
    let mut source = requests(job)?;
    let block_size = job.traffic.block_size;
    let to_stdout = output == Path::new("-");
    let mut writer = if to_stdout {
        TraceWriter::new(Box::new(BufWriter::new(io::stdout())), block_size)
    } else {
        TraceWriter::create(output, block_size, options.force)?
    };
    let mut requests = 0_u64;
    while let Some(request) = next(source.as_mut())? {
        writer.write(&request)?;
        requests += 1;
    }
    if requests == 0 {
        let cause = Cause::NoRequests(job.traffic.describe());
        return Err(ExperimentError { run: None, cause }.into());
    }
    writer.finish()?;
    let skipped = source.skipped();
    if to_stdout || options.quiet {
        return Ok(());
    }
    let note = if skipped > 0 { format!(", {skipped} bad lines skipped") } else { String::new() };
    let written = writeln!(io::stdout(), "{requests} requests in {}{note}", output.display());
    written.map_err(|error| Exit::stdout(&error))
}

/// Reads a whole trace and shows what is wrong with it, also where a run would be told to skip bad lines.
fn validate(file: &str, options: &TraceOptions) -> Result<(), Exit> {
    let mut job = job(Some(file), options)?;
    if let Origin::Trace { skip_bad_lines, .. } = &mut job.traffic.origin {
        *skip_bad_lines = false;
    }
    if let Some(contents) = job.traffic.read_trace()? {
        if interrupt::is_requested() {
            return Err(Exit::Interrupted);
        }
        let requests = contents.requests();
        return writeln!(io::stdout(), "{file}: {requests} requests, no problems")
            .map_err(|error| Exit::stdout(&error));
    }
    let Some(mut reader) = job.traffic.open_trace()? else {
        return Err(Exit::Usage("trace validate needs a trace".to_owned()));
    };
    let mut out = io::stdout().lock();
    let (mut requests, mut problems) = (0_u64, 0_u64);
    loop {
        if interrupt::is_requested() {
            return Err(Exit::Interrupted);
        }
        match read_line(&mut reader) {
            Line::Good => requests += 1,
            Line::Bad(error) => {
                problems += 1;
                if problems <= PROBLEMS_SHOWN {
                    writeln!(out, "{error}").map_err(|error| Exit::stdout(&error))?;
                }
            }
            Line::End(None) => break,
            // A file of bad lines only has been complained about already.
            Line::End(Some(_)) if problems > 0 && requests == 0 => break,
            Line::End(Some(error)) => return Err(error.into()),
        }
    }
    if problems > PROBLEMS_SHOWN {
        let more = problems - PROBLEMS_SHOWN;
        writeln!(out, "and {more} more").map_err(|error| Exit::stdout(&error))?;
    }
    if problems > 0 {
        return Err(Exit::Input(format!("{file}: {problems} bad lines, {requests} good ones")));
    }
    writeln!(out, "{file}: {requests} requests, no problems").map_err(|error| Exit::stdout(&error))
}

enum Line {
    Good,
    Bad(TraceError),
    End(Option<TraceError>),
}

fn read_line(reader: &mut TraceReader) -> Line {
    match reader.read() {
        Ok(Some(_)) => Line::Good,
        Ok(None) => Line::End(None),
        Err(error) if error.line.is_some() => Line::Bad(error),
        Err(error) => Line::End(Some(error)),
    }
}
