//! `fleetsim timing`: look at timing tables, check them, take them in.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::args::TimingCommand;
use crate::cli::exit::Exit;
use crate::cli::interrupt;
use crate::io::config::Catalog;
use crate::io::files::ResultDir;
use crate::io::timing::{Accuracy, Entry, Errors, Import, Library, Measurement, Memory};
use crate::model::deployment::Doubt;
use crate::report::{TimingTable, pass_times, timing_charts, write_columns};

/// A table that is wrong by more on average is not good enough.
const MEAN_MAX: f64 = 0.02;

/// `timing check` shows so many suspicious figures of a table and counts the others.
const FALLS_SHOWN: usize = 3;

/// A file of every directory of plots.
const MARK: &str = "decode.svg";

pub(super) fn timing(command: &TimingCommand) -> Result<(), Exit> {
    interrupt::listen();
    match command {
        TimingCommand::List { words, tables, json } => {
            list(&Library::open(tables.timing_dir.as_deref())?, words, *json)
        }
        TimingCommand::Show { name, tables } => {
            show(&Library::open(tables.timing_dir.as_deref())?, name)
        }
        TimingCommand::Plot { name, output, force, tables } => {
            plot(&Library::open(tables.timing_dir.as_deref())?, name, output, *force)
        }
        TimingCommand::Check { words, tables, json } => {
            check(&Library::open(tables.timing_dir.as_deref())?, words, *json)
        }
        TimingCommand::Import { stem, timing_dir, name, force } => {
            import(stem, timing_dir, name.as_deref(), *force)
        }
    }
}

/// The tables with all of these words in their names.
fn matching<'a>(library: &'a Library, words: &[String]) -> Result<Vec<&'a Entry>, Exit> {
    let has_all = |entry: &&Entry| {
        let name = entry.name.to_string().to_ascii_lowercase();
        words.iter().all(|word| name.contains(&word.to_ascii_lowercase()))
    };
    let entries: Vec<&Entry> = library.list().iter().filter(has_all).collect();
    if entries.is_empty() {
        let words = words.join(" ");
        let all = "`fleetsim timing list` shows the names of all";
        return Err(Exit::Usage(format!("no timing table has {words} in its name; {all}")));
    }
    Ok(entries)
}

fn place(entry: &Entry) -> String {
    entry.directory.as_ref().map_or("built in".to_owned(), |path| path.display().to_string())
}

/// Prints to stdout.
fn print(fill: impl FnOnce(&mut BufWriter<io::StdoutLock>) -> io::Result<()>) -> Result<(), Exit> {
    let mut out = BufWriter::new(io::stdout().lock());
    fill(&mut out).and_then(|()| out.flush()).map_err(|error| Exit::stdout(&error))
}

fn list(library: &Library, words: &[String], json: bool) -> Result<(), Exit> {
    let entries = matching(library, words)?;
    print(|out| {
        if json {
            let tables = entries.iter().map(|entry| {
                let name = &entry.name;
                json!({
                    "name": name.to_string(), "gpu": name.gpu, "model": name.model,
                    "backend": name.backend, "version": name.version, "tp": name.tp,
                    "directory": entry.directory,
                })
            });
            serde_json::to_writer_pretty(&mut *out, &tables.collect::<Vec<_>>())?;
            return writeln!(out);
        }
        let rows = entries.iter().map(|entry| vec![entry.name.to_string(), place(entry)]);
        write_columns(out, &["Timing table", "Place"], rows)?;
        writeln!(out, "{} tables", entries.len())
    })
}

fn show(library: &Library, name: &str) -> Result<(), Exit> {
    let entry = library.named(name)?;
    let measurement = library.load(entry)?;
    print(|out| {
        describe(out, entry, &measurement)?;
        pass_times(out, &TimingTable::new(&measurement.table))
    })
}

fn describe(out: &mut impl Write, entry: &Entry, measurement: &Measurement) -> io::Result<()> {
    let Measurement { table, meta, .. } = measurement;
    writeln!(out, "{} ({})", entry.name, place(entry))?;
    let unknown = || "not said".to_owned();
    let text = |text: &Option<String>| text.as_deref().map_or_else(unknown, visible);
    writeln!(out, "model:   {}", text(&meta.model))?;
    let kind = if meta.estimate { " (an estimate, not measured)" } else { "" };
    writeln!(out, "source:  {}, licence {}{kind}", text(&meta.source), text(&meta.license))?;
    if let Some(notes) = &meta.notes {
        writeln!(out, "notes:   {}", visible(notes))?;
    }
    let range = |values: &[u32]| {
        format!("{} to {} ({} values)", values[0], values[values.len() - 1], values.len())
    };
    let (prefill, decode) = (table.prefill(), table.decode());
    writeln!(
        out,
        "prefill: batch {}, new tokens {}, cached tokens {}",
        range(prefill.axis(0)),
        range(prefill.axis(1)),
        range(prefill.axis(2))
    )?;
    writeln!(out, "decode:  batch {}, context {}", range(decode.axis(0)), range(decode.axis(1)))?;
    let tokens: Vec<u32> = table.other().iter().map(|row| row.tokens).collect();
    let decoding = table.other().iter().filter(|row| row.decode_ms.is_some()).count();
    let up_to = tokens[decoding - 1];
    writeln!(out, "other:   tokens {}; of passes that only decode up to {up_to}", range(&tokens))?;
    match &meta.memory {
        Some(memory) => writeln!(out, "memory:  {}", memory_text(memory)),
        None => writeln!(out, "memory:  {}", unknown()),
    }
}

/// A text of a table, with what a terminal would follow in words.
fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { visible.extend(c.escape_default()) } else { visible.push(c) }
    }
    visible
}

/// The memory of each GPU.
fn memory_text(memory: &Memory) -> String {
    let gb = |bytes: Option<u64>| bytes.map(|bytes| format!("{:.1} GB", bytes as f64 / 1e9));
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let figures = [
        ("per GPU", gb(memory.total_bytes)),
        ("weights", gb(memory.weights_bytes())),
        ("KV cache", gb(memory.kv_bytes)),
        ("bytes per token", number(memory.kv_bytes_per_token)),
        ("tokens", number(memory.kv_tokens)),
    ];
    let figures =
        figures.into_iter().filter_map(|(name, figure)| Some(format!("{name} {}", figure?)));
    let text = figures.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "not said".to_owned() } else { text }
}

fn plot(library: &Library, name: &str, output: &Path, force: bool) -> Result<(), Exit> {
    let measurement = library.load(library.named(name)?)?;
    let results = ResultDir::create(output, MARK, force)?;
    for (file, chart) in timing_charts(&TimingTable::new(&measurement.table)) {
        let svg = chart.to_svg();
        results.write(file, |out| out.write_all(svg.as_bytes()))?;
    }
    let path = results.finish()?;
    print(|out| writeln!(out, "plots in {}", path.display()))
}

/// What is known of a table that was checked.
struct Checked {
    name: String,
    accuracy: Accuracy,
    /// What cannot be or can hardly be, if the catalog knows its GPU and its model.
    doubt: Option<Doubt>,
}

impl Checked {
    fn new(measurement: &Measurement, catalog: &Catalog) -> Checked {
        let Measurement { table, .. } = measurement;
        let deployment = catalog.deployment(table.identity());
        Checked {
            name: table.identity().to_string(),
            accuracy: Accuracy::of(measurement),
            doubt: deployment.and_then(|deployment| deployment.doubt(table)),
        }
    }

    fn is_off(&self) -> bool {
        errors(&self.accuracy).iter().any(|(_, errors)| errors.is_some_and(|e| e.mean > MEAN_MAX))
    }
}

/// That all of these tables are good enough.
fn verdict(checked: &[Checked]) -> Result<(), Exit> {
    let doubtful = checked.iter().find_map(|one| Some((&one.name, one.doubt.as_ref()?)));
    if let Some((name, doubt)) = doubtful {
        return Err(Exit::Input(format!("{name}: {doubt}")));
    }
    let off = checked.iter().filter(|one| one.is_off()).map(|one| &*one.name);
    let off: Vec<&str> = off.collect();
    if off.is_empty() {
        return Ok(());
    }
    let limit = MEAN_MAX * 100.0;
    Err(Exit::Input(format!("off by more than {limit} % on average: {}", off.join(", "))))
}

fn check(library: &Library, words: &[String], json: bool) -> Result<(), Exit> {
    let (catalog, mut checked) = (Catalog::shipped(), Vec::new());
    for entry in matching(library, words)? {
        if interrupt::is_requested() {
            return Err(Exit::Interrupted);
        }
        checked.push(Checked::new(&library.load(entry)?, &catalog));
    }
    print(|out| {
        if json {
            let tables = checked.iter().map(to_json);
            serde_json::to_writer_pretty(&mut *out, &tables.collect::<Vec<_>>())?;
            return writeln!(out);
        }
        write_checked(out, &checked)
    })?;
    verdict(&checked)
}

/// The questions a table is asked, with what comes out.
fn errors(accuracy: &Accuracy) -> [(&'static str, Option<Errors>); 5] {
    [
        ("prefill_total", accuracy.prefill_total),
        ("decode_total", accuracy.decode_total),
        ("prefill_left_out", accuracy.prefill_left_out),
        ("decode_left_out", accuracy.decode_left_out),
        ("mixed", accuracy.mixed),
    ]
}

fn to_json(checked: &Checked) -> serde_json::Value {
    let Checked { name, accuracy, doubt } = checked;
    let figures = errors(accuracy).map(|(question, errors)| {
        let errors = errors.map(|Errors { count, mean, p95, max }| {
            json!({ "count": count, "mean": mean, "p95": p95, "max": max })
        });
        (question.to_owned(), json!(errors))
    });
    let falls = accuracy.falls.iter().map(|fall| json!({ "at": fall.at, "share": fall.share }));
    let mut value = serde_json::Map::from_iter(figures);
    value.insert("name".to_owned(), json!(name));
    value.insert("falls".to_owned(), falls.collect());
    value.insert("doubt".to_owned(), json!(doubt.as_ref().map(ToString::to_string)));
    value.into()
}

fn write_checked(out: &mut impl Write, checked: &[Checked]) -> io::Result<()> {
    let percent = |share: f64| format!("{:.2}", share * 100.0);
    let rows = checked.iter().map(|Checked { name, accuracy, .. }| {
        let cells = errors(accuracy).map(|(_, errors)| {
            errors.map_or("-".to_owned(), |Errors { mean, p95, max, .. }| {
                [mean, p95, max].map(percent).join(" / ")
            })
        });
        let falls = accuracy.falls.len().to_string();
        [name.clone()].into_iter().chain(cells).chain([falls]).collect()
    });
    writeln!(out, "errors of passes in %: mean / p95 / max")?;
    let header = [
        "Timing table",
        "prefill, on grid",
        "decode, on grid",
        "prefill, left out",
        "decode, left out",
        "mixed",
        "falls",
    ];
    write_columns(out, &header, rows)?;
    let columns: Vec<_> = checked.iter().map(|one| errors(&one.accuracy)).collect();
    for column in 0..columns.first().map_or(0, |errors| errors.len()) {
        let means = columns.iter().filter_map(|errors| Some(errors[column].1?.mean));
        let mut means: Vec<f64> = means.collect();
        means.sort_by(f64::total_cmp);
        if let (Some(worst), Some(median)) = (means.last(), means.get(means.len() / 2)) {
            let (median, worst) = (percent(*median), percent(*worst));
            let question = columns[0][column].0;
            writeln!(out, "{question}: median of means {median} %, worst {worst} %")?;
        }
    }
    for Checked { name, accuracy, doubt } in checked {
        if let Some(doubt) = doubt {
            writeln!(out, "{name}: {doubt}")?;
        }
        for fall in accuracy.falls.iter().take(FALLS_SHOWN) {
            writeln!(out, "{name}: falls by {} % of the pass: {}", percent(fall.share), fall.at)?;
        }
        if accuracy.falls.len() > FALLS_SHOWN {
            writeln!(out, "{name}: and {} more", accuracy.falls.len() - FALLS_SHOWN)?;
        }
    }
    Ok(())
}

fn import(stem: &Path, directory: &Path, name: Option<&str>, force: bool) -> Result<(), Exit> {
    let import = Import::read(stem, name)?;
    let checked = [Checked::new(import.measurement(), &Catalog::shipped())];
    verdict(&checked)?;
    let stored: PathBuf = import.store(directory, force)?;
    print(|out| {
        writeln!(out, "{} is in {}", import.name(), stored.display())?;
        write_checked(out, &checked)
    })
}
