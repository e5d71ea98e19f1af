//! Timing tables: the ones inside the program and those of a directory.
//!
//! Both have the same layout, `<gpu>/<model>/<backend>-<version>-tp<k>.<kind>`, with the kinds `prefill.csv`, `decode.csv`
//! and `other.csv`, and if there are any `mixed.csv` and `meta.json`; docs/formats.md tells what is in them. A table is
//! there if its `prefill.csv` is. One of the directory comes before one of the program with the same name.
//!
//! A [`Library`] knows the names. Figures are read when they are asked for, and a [`Measurement`] is all that the files of
//! one table say.

mod accuracy;
mod error;
mod import;
mod library;
mod measurement;
mod meta;
mod name;
mod rows;

pub use accuracy::{Accuracy, Errors, Fall};
pub use error::{Problem, TimingError};
pub use import::Import;
pub use library::{Entry, Library, NotFound, Query};
pub use measurement::{Measurement, MixedRow, Total};
pub use meta::{Memory, Meta};
pub use name::Name;

#[cfg(test)]
mod tests;
