//! Takes a table from somewhere else into a directory of tables.
//!
//! Every file is written under a temporary name and gets its own when all of them are complete, `prefill.csv` last: where
//! there was no table, there is none before that. A table that is replaced is copied first, and put back if something fails.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::io::timing::error::{Problem, TimingError};
use crate::io::timing::library::{names, read_file};
use crate::io::timing::measurement::{Files, Measurement, path_of};
use crate::io::timing::name::Name;

/// A table that has been read and checked, and can be stored.
pub struct Import {
    name: Name,
    files: Files,
    measurement: Measurement,
}

impl Import {
    /// Reads the files `<stem>.prefill.csv` and so on. They are about `name`, or if there is none about what the last three
    /// parts of the path say.
    ///
    /// # Errors
    /// If there is no name, or a file cannot be read or does not say what it has to.
    pub fn read(stem: &Path, name: Option<&str>) -> Result<Import, TimingError> {
        let name = if let Some(text) = name {
            Name::parse(text).ok_or_else(|| Problem::Name.at(Path::new(text)))?
        } else {
            let parts: Vec<_> = stem.iter().map(|part| part.to_string_lossy()).collect();
            let text = parts[parts.len().saturating_sub(3)..].join("/");
            Name::parse(&text).ok_or_else(|| Problem::Name.at(stem))?
        };
        let files = Files::read(stem, |kind| read_file(&path_of(stem, kind)))?;
        let measurement = Measurement::parse(&name, stem, &files)?;
        Ok(Import { name, files, measurement })
    }

    /// What it is about.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What was read.
    pub fn measurement(&self) -> &Measurement {
        &self.measurement
    }

    /// Writes it into `directory`, which is made if it is not there. A table of the same name is replaced only with `force`.
    ///
    /// # Errors
    /// If there is one, or something cannot be written: then nothing of the new one is left behind, and the old one stays.
    pub fn store(&self, directory: &Path, force: bool) -> Result<PathBuf, TimingError> {
        self.check_capitals(directory)?;
        let stem = directory.join(self.name.to_string());
        let kinds = ["prefill.csv", "decode.csv", "other.csv", "mixed.csv", "meta.json"];
        let paths = kinds.map(|kind| path_of(&stem, kind));
        if let Some(path) = paths.iter().find(|path| path.exists() && !force) {
            return Err(Problem::Exists.at(path));
        }
        let folder = stem.parent().expect("a name has three parts");
        fs::create_dir_all(folder).map_err(|error| Problem::Write(error).at(folder))?;
        let mut swap = Swap::default();
        for (kind, bytes) in self.files.each() {
            swap.write(path_of(&stem, kind), bytes)?;
        }
        for path in paths.into_iter().filter(|path| path.exists()) {
            swap.keep(path)?;
        }
        swap.finish()?;
        Ok(stem)
    }

    /// That the directory has no table of the same name in other capitals.
    fn check_capitals(&self, directory: &Path) -> Result<(), TimingError> {
        let names = if directory.exists() { names(directory)? } else { Vec::new() };
        // Who has both already may replace either.
        let is_there = names.contains(&self.name);
        let same = |name: &&Name| name.is_same(&self.name) && !is_there;
        match names.iter().find(same) {
            Some(name) => {
                let path = directory.join(self.name.to_string());
                Err(Problem::Capitals(name.to_string()).at(&path))
            }
            None => Ok(()),
        }
    }
}

/// The files of a new table in the place of those of an old one. Dropped, it removes what has a temporary name.
#[derive(Default)]
struct Swap {
    /// Temporary names of new files, and what they will be called.
    new: Vec<(PathBuf, PathBuf)>,
    /// Copies of old files, and what these are called.
    old: Vec<(PathBuf, PathBuf)>,
}

impl Swap {
    fn write(&mut self, path: PathBuf, bytes: &[u8]) -> Result<(), TimingError> {
        let temporary = hidden(&path, "partial");
        let written = fs::write(&temporary, bytes).map_err(|error| unwritten(error, &path));
        self.new.push((temporary, path));
        written
    }

    fn keep(&mut self, path: PathBuf) -> Result<(), TimingError> {
        let copy = hidden(&path, "old");
        let copied = fs::copy(&path, &copy).map_err(|error| unwritten(error, &path));
        self.old.push((copy, path));
        copied.map(|_| ())
    }

    /// The new files get their names; old ones that have no successor go last.
    fn finish(mut self) -> Result<(), TimingError> {
        let moved = self.new.iter().try_for_each(|(temporary, path)| {
            fs::rename(temporary, path).map_err(|error| unwritten(error, path))
        });
        let is_new = |path: &PathBuf| self.new.iter().any(|(_, new)| new == path);
        let mut stale = self.old.iter().map(|(_, path)| path).filter(|path| !is_new(path));
        let done = moved.and_then(|()| {
            stale.try_for_each(|path| fs::remove_file(path).map_err(|error| unwritten(error, path)))
        });
        if done.is_err() {
            self.put_back();
        }
        done
    }

    fn put_back(&mut self) {
        // There is nobody left to tell. What cannot be put back stays beside under its temporary name.
        for (temporary, path) in &self.new {
            let is_moved = !temporary.exists();
            if is_moved && !self.old.iter().any(|(_, old)| old == path) {
                let _ = fs::remove_file(path);
            }
        }
        for (copy, path) in self.old.drain(..) {
            let _ = fs::rename(copy, path);
        }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        for (temporary, _) in self.new.iter().chain(&self.old) {
            // There is nobody left to tell.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// A name beside this one that is not that of a table.
fn hidden(path: &Path, end: &str) -> PathBuf {
    let name = path.file_name().expect("a table has a name").to_string_lossy();
    path.with_file_name(format!(".{name}.{end}"))
}

fn unwritten(error: io::Error, path: &Path) -> TimingError {
    Problem::Write(error).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_on_the_way_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let [first, stale, added, last] = ["a", "b", "c", "d"].map(|name| folder.path().join(name));
        for path in [&first, &stale, &last] {
            fs::write(path, "old").unwrap();
        }
        let swap = |fails: bool| {
            let mut swap = Swap::default();
            for path in [&first, &added, &last] {
                swap.write(path.clone(), b"new").unwrap();
            }
            for path in [&first, &stale, &last] {
                swap.keep(path.clone()).unwrap();
            }
            if fails {
                fs::remove_file(hidden(&last, "partial")).unwrap();
            }
            let done = swap.finish().map_err(|error| error.path);
            let texts = [&first, &stale, &added, &last].map(|path| fs::read_to_string(path).ok());
            let texts = texts.map(Option::unwrap_or_default);
            (done, texts.join(" "), fs::read_dir(folder.path()).unwrap().count())
        };
        assert_eq!(swap(true), (Err(last.clone()), "old old  old".to_owned(), 3));
        assert_eq!(swap(false), (Ok(()), "new  new new".to_owned(), 3));
    }
}
