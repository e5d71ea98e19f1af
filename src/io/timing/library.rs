//! Which timing tables there are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rust_embed::RustEmbed;

use crate::io::timing::error::{Problem, TimingError};
use crate::io::timing::measurement::{Files, Measurement, path_of};
use crate::io::timing::name::Name;

/// The tables inside the program.
#[derive(RustEmbed)]
#[folder = "configs/timing/"]
struct Shipped;

/// Where a program without files has its tables, in messages.
const SHIPPED: &str = "<built in>";

/// The file that makes a table.
const MARK: &str = ".prefill.csv";

/// Files beyond this are not timing tables.
pub(super) const BYTES_MAX: u64 = 64 << 20;

/// The names of all tables.
#[derive(Clone, Debug)]
pub struct Library {
    entries: Vec<Entry>,
}

/// A table that can be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it is about.
    pub name: Name,
    /// The directory it is in; none if it is inside the program.
    pub directory: Option<PathBuf>,
}

/// Which table is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query<'a> {
    /// The GPU or system.
    pub gpu: &'a str,
    /// The model.
    pub model: &'a str,
    /// The inference engine.
    pub backend: &'a str,
    /// Its version; the newest there is if absent.
    pub version: Option<&'a str>,
    /// GPUs that share every layer.
    pub tp: u32,
}

impl Library {
    /// The tables inside the program, and those of `directory`.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn open(directory: Option<&Path>) -> Result<Library, TimingError> {
        let mut entries = BTreeMap::new();
        for path in Shipped::iter() {
            if let Some(name) = path.strip_suffix(MARK).and_then(Name::parse) {
                entries.insert(name, None);
            }
        }
        if let Some(directory) = directory {
            let names = names(directory)?;
            entries.retain(|built_in, _| !names.iter().any(|name| name.is_same(built_in)));
            entries.extend(names.into_iter().map(|name| (name, Some(directory.to_owned()))));
        }
        let entries = entries.into_iter().map(|(name, directory)| Entry { name, directory });
        Ok(Library { entries: entries.collect() })
    }

    /// All tables, by GPU, model, backend, version and TP.
    pub fn list(&self) -> &[Entry] {
        &self.entries
    }

    /// The table with this name, or one that is the same but for capitals.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(&self, text: &str) -> Result<&Entry, NotFound> {
        let same = |entry: &&Entry| entry.name.to_string().eq_ignore_ascii_case(text);
        let exact = self.entries.iter().find(|entry| entry.name.to_string() == text);
        exact.or_else(|| self.entries.iter().rfind(same)).ok_or_else(|| {
            NotFound::new("name", text, self.entries.iter().map(|entry| entry.name.to_string()))
        })
    }

    /// The table for an engine shape.
    ///
    /// # Errors
    /// If there is none: which part of the shape is the first without one, and what there is instead.
    pub fn find(&self, query: Query) -> Result<&Entry, NotFound> {
        let Query { gpu, model, backend, version, tp } = query;
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        let tp = tp.to_string();
        let steps: [(&'static str, Option<&str>, PartOf); 5] = [
            ("model", Some(model), |name| name.model.clone()),
            ("GPU", Some(gpu), |name| name.gpu.clone()),
            ("backend", Some(backend), |name| name.backend.clone()),
            // Without a version, the newest that has the TP.
            ("version", version, |name| name.version.clone()),
            ("TP", Some(&tp), |name| name.tp.to_string()),
        ];
        for (part, wanted, of) in steps {
            let Some(wanted) = wanted else { continue };
            let there = entries.iter().map(|entry| of(&entry.name)).collect::<Vec<_>>();
            entries.retain(|entry| of(&entry.name).eq_ignore_ascii_case(wanted));
            if entries.is_empty() {
                return Err(NotFound::new(part, wanted, there));
            }
        }
        Ok(entries.pop().expect("what is left over"))
    }

    /// Reads a table.
    ///
    /// # Errors
    /// If a file cannot be read or does not say what it has to.
    pub fn load(&self, entry: &Entry) -> Result<Measurement, TimingError> {
        let directory = entry.directory.as_deref().unwrap_or(Path::new(SHIPPED));
        let stem = directory.join(entry.name.to_string());
        let files = Files::read(&stem, |kind| {
            if entry.directory.is_some() {
                return read_file(&path_of(&stem, kind));
            }
            let file = Shipped::get(&format!("{}.{kind}", entry.name));
            Ok(file.map(|file| file.data.into_owned()))
        })?;
        Measurement::parse(&entry.name, &stem, &files)
    }
}

/// A part of a name.
type PartOf = fn(&Name) -> String;

/// A whole file; nothing if there is none.
pub(super) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, TimingError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > BYTES_MAX => Err(Problem::TooLarge(BYTES_MAX).at(path)),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problem::Io(error).at(path)),
    }
}

/// The tables of a directory. What has no such name is no table, and is passed over, as is what cannot be looked into.
pub(super) fn names(directory: &Path) -> Result<Vec<Name>, TimingError> {
    let mut names = Vec::new();
    for gpu in children(directory)? {
        for model in inner(&directory.join(&gpu))? {
            for file in inner(&directory.join(&gpu).join(&model))? {
                let stem = file.strip_suffix(MARK);
                names.extend(stem.and_then(|stem| Name::parse(&format!("{gpu}/{model}/{stem}"))));
            }
        }
    }
    Ok(names)
}

/// What is in a directory, in order; nothing in what is none, unless it is not there at all.
fn children(path: &Path) -> Result<Vec<String>, TimingError> {
    let cannot = |error| Problem::Io(error).at(path);
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(Vec::new()),
        entries => entries.map_err(cannot)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(cannot)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The same below the directory: nothing in what is not there, such as the end of a dangling link, or may not be read.
fn inner(path: &Path) -> Result<Vec<String>, TimingError> {
    match children(path) {
        Err(TimingError { problem: Problem::Io(error), .. })
            if error.kind() == ErrorKind::PermissionDenied || !path.is_dir() =>
        {
            Ok(Vec::new())
        }
        children => children,
    }
}

/// There is no such table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotFound {
    /// What there is no table for: a part of the name, or all of it.
    pub part: &'static str,
    /// What was looked for.
    pub wanted: String,
    /// What there is instead, in order.
    pub there: Vec<String>,
    /// The one of these that looks most like it, if one does.
    pub near: Option<String>,
}

impl NotFound {
    fn new(part: &'static str, wanted: &str, there: impl IntoIterator<Item = String>) -> NotFound {
        let mut there: Vec<String> = there.into_iter().collect();
        // Versions and TPs are in order already, but not next to each other.
        there.sort_by_key(|text| text.parse::<u32>().unwrap_or(0));
        let mut seen: Vec<String> = Vec::new();
        there.retain(|text| {
            !seen.iter().any(|other| other.eq_ignore_ascii_case(text)) && {
                seen.push(text.clone());
                true
            }
        });
        let lower = str::to_ascii_lowercase;
        let distance = |text: &&String| strsim::damerau_levenshtein(&lower(wanted), &lower(text));
        let near = there.iter().min_by_key(distance);
        let near = near.filter(|text| distance(text) <= (wanted.len() / 3).max(2)).cloned();
        NotFound { part, wanted: wanted.to_owned(), there, near }
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 12;
        let NotFound { part, wanted, there, near } = self;
        write!(f, "no timing table for {part} {wanted}; ")?;
        match near {
            // Of versions and TPs there are few, and one that looks like another says little.
            Some(near) if !["version", "TP"].contains(part) => write!(f, "did you mean {near}?"),
            _ if there.len() > SHOWN || there.is_empty() => {
                write!(f, "`fleetsim timing list` shows all {}", there.len())
            }
            _ => write!(
                f,
                "there {} {}",
                if there.len() == 1 { "is" } else { "are" },
                there.join(", ")
            ),
        }
    }
}

impl std::error::Error for NotFound {}
