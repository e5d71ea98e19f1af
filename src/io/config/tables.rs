//! Timing tables for the shapes that a configuration names.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::io::config::check::Violation;
use crate::io::config::text::Config;
use crate::io::timing::{Entry, Library, NotFound, Query, TimingError};
use crate::model::deployment::Deployment;
use crate::model::timing::Table;

/// The libraries that were opened, and the tables that were read, each of them once.
#[derive(Default)]
pub(super) struct Tables {
    libraries: Vec<(Option<String>, Library)>,
    tables: Vec<(Entry, Arc<Table>)>,
}

/// There is no table for a shape: a sentence without an end.
pub(super) struct Absent {
    shape: String,
    cause: NotFound,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.shape, self.cause)
    }
}

impl Absent {
    /// The complaint, if a table is what was asked for.
    pub(super) fn into_error(self) -> Violation {
        let key = match self.cause.part {
            "model" => "engine.model",
            "GPU" => "engine.gpu",
            "backend" => "engine.backend",
            "version" => "engine.backend_version",
            _ => "engine.tp",
        };
        let NotFound { wanted, .. } = &self.cause;
        let reason =
            format!("is {wanted}, but {}; timing.model = \"roofline\" would estimate", self.cause);
        Violation::contradiction(key, reason)
    }
}

impl Tables {
    /// The table for a shape, or the reason why there is none. What looks wrong in it is noted.
    ///
    /// # Errors
    /// If a table or a directory cannot be read, no GPU could be as fast as a table of the directory says, or a version was
    /// asked for that there is not.
    pub(super) fn find(
        &mut self,
        config: &Config,
        deployment: &Deployment,
        notes: &mut Vec<String>,
    ) -> Result<Result<Arc<Table>, Absent>, Violation> {
        let directory = config.timing.dir.as_ref();
        let wrong = |reason: String| {
            let place = directory.map_or(String::new(), |directory| format!("is {directory:?}: "));
            Violation::contradiction("timing.dir", place + &reason)
        };
        let unreadable = |error: TimingError| wrong(error.to_string());
        let known = self.libraries.iter().position(|(of, _)| of.as_ref() == directory);
        if known.is_none() {
            let library = Library::open(directory.map(Path::new)).map_err(unreadable)?;
            self.libraries.push((directory.cloned(), library));
        }
        let library = &self.libraries[known.unwrap_or(self.libraries.len() - 1)].1;
        let query = Query {
            gpu: &deployment.gpu.name,
            model: &deployment.model.name,
            backend: &deployment.backend.to_string(),
            version: config.engine.backend_version.as_deref(),
            tp: deployment.tp,
        };
        let entry = match library.find(query) {
            Ok(entry) => entry,
            Err(cause) => {
                let is_version = cause.part == "version";
                let absent = Absent { shape: deployment.to_string(), cause };
                // A version is never asked for by chance.
                return if is_version { Err(absent.into_error()) } else { Ok(Err(absent)) };
            }
        };
        let known = self.tables.iter().find(|(of, _)| of == entry);
        let table = match known {
            Some((_, table)) => Arc::clone(table),
            None => Arc::clone(&library.load(entry).map_err(unreadable)?.table),
        };
        // The shipped tables are right whatever somebody makes of the catalog.
        if let Some(path) = &entry.directory
            && let Some(doubt) = deployment.doubt(&table)
        {
            let sentence = format!("{}: {doubt}", path.join(entry.name.to_string()).display());
            if doubt.is_impossible() {
                return Err(wrong(sentence));
            }
            notes.push(sentence);
        }
        if known.is_none() {
            self.tables.push((entry.clone(), Arc::clone(&table)));
        }
        Ok(Ok(table))
    }
}
