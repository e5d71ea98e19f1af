//! The checks behind the fuzz targets.

pub mod checks;
