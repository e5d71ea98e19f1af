//! Results appear whole or not at all.
//!
//! A [`ResultDir`] is filled under a temporary name beside its final one and renamed when it is complete. Dropped before
//! that (an error, an interrupt, a panic) it leaves nothing behind.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A directory of results in the making.
#[derive(Debug)]
pub struct ResultDir {
    path: PathBuf,
    partial: PathBuf,
    replaces: bool,
    /// The name that its number follows, if it goes by the first number that is free.
    numbered: Option<String>,
    /// The folders around it that were made for it, the innermost first.
    made: Vec<PathBuf>,
    finished: bool,
}

/// Why results cannot be stored.
#[derive(Debug)]
pub enum OutputError {
    /// There is something at the path already.
    Exists(PathBuf),
    /// It may be replaced, but it does not look like results: it has no file of this name.
    NotResults(PathBuf, &'static str),
    /// The file system says no.
    Io(PathBuf, io::Error),
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputError::Exists(path) => {
                write!(
                    f,
                    "{}: exists already; choose another directory, or replace it with --force",
                    path.display()
                )
            }
            OutputError::NotResults(path, mark) => {
                write!(
                    f,
                    "{}: --force replaces only a directory with a {mark} or an empty one",
                    path.display()
                )
            }
            OutputError::Io(path, error) => {
                write!(f, "{}: cannot be written: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for OutputError {}

impl ResultDir {
    /// Starts to fill `path`, which must not exist, or with `force` must hold earlier results: a file named `mark`, which
    /// is a file of every directory of results of this kind.
    ///
    /// # Errors
    /// If it may not be replaced, or the directory cannot be made.
    pub fn create(path: &Path, mark: &'static str, force: bool) -> Result<ResultDir, OutputError> {
        let path = path.to_owned();
        let replaces = match fs::symlink_metadata(&path) {
            Ok(_) if !force => return Err(OutputError::Exists(path)),
            Ok(metadata) if !metadata.is_dir() || !holds_results(&path, mark) => {
                return Err(OutputError::NotResults(path, mark));
            }
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(OutputError::Io(path, error)),
        };
        let Some(name) = path.file_name() else { return Err(OutputError::NotResults(path, mark)) };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".partial-{}", std::process::id()));
        let partial = path.with_file_name(hidden);
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = partial.ancestors().skip(1).take_while(is_missing).map(Path::to_owned).collect();
        // Whatever of it can be made is removed again if not all can be.
        let results = ResultDir { path, partial, replaces, numbered: None, made, finished: false };
        let done = fs::create_dir_all(&results.partial);
        done.map_err(|error| OutputError::Io(results.path.clone(), error))?;
        Ok(results)
    }

    /// Starts to fill `NAME-1` in the folder, or the first number that is free. If somebody else has taken it by the end, the
    /// next one that is.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn numbered(
        folder: &Path,
        name: &str,
        mark: &'static str,
    ) -> Result<ResultDir, OutputError> {
        let mut results = ResultDir::create(&free_number(folder, name), mark, false)?;
        results.numbered = Some(name.to_owned());
        Ok(results)
    }

    /// Makes a file in it.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn file(&self, name: &str) -> Result<BufWriter<File>, OutputError> {
        let file = File::create(self.partial.join(name));
        let file = file.map_err(|error| OutputError::Io(self.path.join(name), error))?;
        Ok(BufWriter::with_capacity(64 * 1024, file))
    }

    /// Makes a file in it and fills it.
    ///
    /// # Errors
    /// If the file cannot be made or filled.
    pub fn write(
        &self,
        name: &str,
        fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        let mut out = self.file(name)?;
        fill(&mut out)
            .and_then(|()| out.flush())
            .map_err(|error| OutputError::Io(self.path.join(name), error))
    }

    /// Where the results will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the complete directory its name.
    ///
    /// # Errors
    /// If that fails; whatever was there before is still there then.
    pub fn finish(mut self) -> Result<PathBuf, OutputError> {
        let old = self.partial.with_extension("old");
        if self.replaces {
            fs::rename(&self.path, &old)
                .map_err(|error| OutputError::Io(self.path.clone(), error))?;
        }
        while let Err(error) = fs::rename(&self.partial, &self.path) {
            if let Some(name) = self.numbered.as_ref().filter(|_| is_taken(&self.path)) {
                self.path = free_number(self.path.parent().unwrap_or(Path::new("")), name);
                continue;
            }
            if self.replaces {
                // What cannot be undone either stays beside under its temporary name.
                let _ = fs::rename(&old, &self.path);
            }
            return Err(OutputError::Io(self.path.clone(), error));
        }
        self.finished = true;
        if self.replaces {
            fs::remove_dir_all(&old).map_err(|error| OutputError::Io(old.clone(), error))?;
        }
        Ok(self.path.clone())
    }
}

impl Drop for ResultDir {
    fn drop(&mut self) {
        if !self.finished {
            // There is nobody left to tell.
            let _ = fs::remove_dir_all(&self.partial);
            for folder in &self.made {
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

fn holds_results(path: &Path, mark: &str) -> bool {
    let is_empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    is_empty || path.join(mark).is_file()
}

/// `NAME-1` in the folder, or the first number that is free.
fn free_number(folder: &Path, name: &str) -> PathBuf {
    let mut paths = (1_u64..).map(|number| folder.join(format!("{name}-{number}")));
    paths.find(|path| !is_taken(path)).expect("not every number is taken")
}

fn is_taken(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "report.json";

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn fill(path: &Path, force: bool, text: &str) -> Result<PathBuf, OutputError> {
        let results = ResultDir::create(path, MARK, force)?;
        results.write(MARK, |file| file.write_all(text.as_bytes()))?;
        results.finish()
    }

    #[test]
    fn results_appear_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        drop(ResultDir::create(&folder.path().join("x/y/z"), MARK, false).unwrap());
        let results = ResultDir::create(&path, MARK, false).unwrap();
        results.write("x", |file| file.write_all(b"1")).unwrap();
        assert!(!path.exists());
        drop(results);
        assert_eq!(names(folder.path()), Vec::<String>::new());
        fill(&path, false, "1").unwrap();
        assert_eq!(names(&folder.path().join("a")), ["b"]);
        assert_eq!(names(&path), [MARK]);
    }

    #[test]
    fn only_results_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fill(&path, false, "1").unwrap();
        assert!(matches!(fill(&path, false, "2"), Err(OutputError::Exists(_))));
        fill(&path, true, "2").unwrap();
        assert_eq!(fs::read_to_string(path.join(MARK)).unwrap(), "2");
        assert_eq!(names(folder.path()), ["a"]);
        let other = folder.path().join("mine");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("thesis"), "x").unwrap();
        assert!(matches!(fill(&other, true, "2"), Err(OutputError::NotResults(..))));
        assert!(matches!(
            fill(&folder.path().join("mine/thesis"), true, ""),
            Err(OutputError::NotResults(..))
        ));
        assert!(matches!(
            fill(&folder.path().join("mine/thesis/x"), true, ""),
            Err(OutputError::Io(..))
        ));
    }

    #[test]
    fn numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let start = || ResultDir::numbered(folder.path(), "x", MARK).unwrap();
        assert_eq!(start().finish().unwrap(), folder.path().join("x-1"));
        let results = start();
        results.write("mine", |file| file.write_all(b"1")).unwrap();
        // Meanwhile somebody else takes the number, and the next one.
        for name in ["x-2", "x-3"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join(MARK), "2").unwrap();
        }
        let path = results.finish().unwrap();
        assert_eq!((&path, names(&path)), (&folder.path().join("x-4"), vec!["mine".to_owned()]));
        assert_eq!(names(folder.path()), ["x-1", "x-2", "x-3", "x-4"]);
    }
}
