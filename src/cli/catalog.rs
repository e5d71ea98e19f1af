//! `fleetsim catalog`

use std::io::{self, BufWriter, Write};

use crate::cli::args::CatalogOptions;
use crate::cli::exit::Exit;
use crate::io::config::Loaded;
use crate::report;

pub(super) fn catalog(options: &CatalogOptions) -> Result<(), Exit> {
    let loaded = Loaded::load(options.config.as_deref(), &options.overrides())?;
    let catalog = loaded.catalog()?;
    let (gpus, models): (Vec<_>, Vec<_>) = (catalog.gpus().collect(), catalog.models().collect());
    let mut out = BufWriter::new(io::stdout().lock());
    let written = if options.json {
        serde_json::to_writer_pretty(&mut out, &report::catalog_to_json(&gpus, &models))
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        report::write_catalog(&mut out, &gpus, &models)
    };
    written.and_then(|()| out.flush()).map_err(|error| Exit::stdout(&error))
}
