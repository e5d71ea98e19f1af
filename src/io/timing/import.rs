//! Takes a table from somewhere else into a directory of tables.
//!
//! Every file is written under a temporary name and gets its own when all of them are complete, `prefill.csv` last: what is
//! in the directory before that is no table.

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
    /// If there is one, or something cannot be written: then nothing of it is left behind.
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
        let mut moves = Moves(Vec::new());
        for (kind, bytes) in self.files.each() {
            moves.write(path_of(&stem, kind), bytes)?;
        }
        // From here on there is no table, and no file of an old one, until the new one is complete.
        for path in paths {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Problem::Write(error).at(&path));
                }
                _ => {}
            }
        }
        moves.finish()?;
        Ok(stem)
    }

    /// That the directory has no table of the same name in other capitals.
    fn check_capitals(&self, directory: &Path) -> Result<(), TimingError> {
        let names = if directory.exists() { names(directory)? } else { Vec::new() };
        let same = |name: &&Name| name.is_same(&self.name) && **name != self.name;
        match names.iter().find(same) {
            Some(name) => {
                let path = directory.join(self.name.to_string());
                Err(Problem::Capitals(name.to_string()).at(&path))
            }
            None => Ok(()),
        }
    }
}

/// Files with temporary names, and what they will be called. Dropped, it removes them.
struct Moves(Vec<(PathBuf, PathBuf)>);

impl Moves {
    fn write(&mut self, path: PathBuf, bytes: &[u8]) -> Result<(), TimingError> {
        let name = path.file_name().expect("a table has a name").to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.partial"));
        let written = fs::write(&temporary, bytes);
        self.0.push((temporary, path));
        written.map_err(|error| Problem::Write(error).at(&self.0[self.0.len() - 1].1))
    }

    fn finish(mut self) -> Result<(), TimingError> {
        let moves = std::mem::take(&mut self.0);
        for (done, (temporary, path)) in moves.iter().enumerate() {
            if let Err(error) = fs::rename(temporary, path) {
                for (_, path) in &moves[..done] {
                    // There is nobody left to tell.
                    let _ = fs::remove_file(path);
                }
                self.0 = moves;
                let path = self.0[done].1.clone();
                return Err(Problem::Write(error).at(&path));
            }
        }
        Ok(())
    }
}

impl Drop for Moves {
    fn drop(&mut self) {
        for (temporary, _) in &self.0 {
            // There is nobody left to tell.
            let _ = fs::remove_file(temporary);
        }
    }
}
