//! All that the files of one table say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::io::timing::error::{Problem, TimingError};
use crate::io::timing::meta::Meta;
use crate::io::timing::name::Name;
use crate::io::timing::rows::Rows;
use crate::model::timing::measured::{DecodeRow, Identity, OtherRow, PrefillRow, Table};

/// The figures of a table, and those that it can be checked with.
#[derive(Clone, PartialEq, Debug)]
pub struct Measurement {
    /// The parts of a pass.
    pub table: Arc<Table>,
    /// Whole passes over prompt tokens, where the files tell.
    pub prefill: Vec<Total<PrefillRow>>,
    /// Whole passes that decode, where the files tell.
    pub decode: Vec<Total<DecodeRow>>,
    /// Passes that do both, if there are any.
    pub mixed: Vec<MixedRow>,
    /// What is known beside the figures.
    pub meta: Meta,
}

/// A row of a grid with the time of the whole pass.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Total<Row> {
    /// The row.
    pub row: Row,
    /// Milliseconds.
    pub total_ms: f64,
}

/// A pass that computes prompt tokens and decodes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MixedRow {
    /// Requests that compute prompt tokens.
    pub prefill_requests: u32,
    /// How many each.
    pub new_tokens: u32,
    /// What each had before.
    pub prefix_tokens: u32,
    /// Requests that decode.
    pub decode_requests: u32,
    /// KV tokens that each reads.
    pub context_tokens: u32,
    /// Milliseconds.
    pub total_ms: f64,
}

/// The bytes of the files of a table.
pub(super) struct Files {
    pub(super) prefill: Vec<u8>,
    pub(super) decode: Vec<u8>,
    pub(super) other: Vec<u8>,
    pub(super) mixed: Option<Vec<u8>>,
    pub(super) meta: Option<Vec<u8>>,
}

impl Files {
    /// Gets every file of a table by its kind.
    pub(super) fn read(
        stem: &Path,
        mut file: impl FnMut(&str) -> Result<Option<Vec<u8>>, TimingError>,
    ) -> Result<Files, TimingError> {
        let mut needed = |kind| file(kind)?.ok_or_else(|| Problem::Absent.at(&path_of(stem, kind)));
        let (prefill, decode, other) =
            (needed("prefill.csv")?, needed("decode.csv")?, needed("other.csv")?);
        Ok(Files { prefill, decode, other, mixed: file("mixed.csv")?, meta: file("meta.json")? })
    }

    /// The files there are, with their kinds.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let Files { prefill, decode, other, mixed, meta } = self;
        let needed = [("decode.csv", decode), ("other.csv", other)];
        let optional = [("mixed.csv", mixed.as_ref()), ("meta.json", meta.as_ref())];
        let optional = optional.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes?)));
        // A table is there if its prefill.csv is, so that comes last.
        let all = needed.into_iter().chain(optional).chain([("prefill.csv", prefill)]);
        all.map(|(kind, bytes)| (kind, &**bytes))
    }
}

/// The file of a table. Names have dots, so nothing is taken for an extension.
pub(super) fn path_of(stem: &Path, kind: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(".");
    path.push(kind);
    path.into()
}

impl Measurement {
    /// Understands the files of the table `name`, which are at `stem`.
    pub(super) fn parse(name: &Name, stem: &Path, files: &Files) -> Result<Self, TimingError> {
        let meta = match &files.meta {
            None => Meta::default(),
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|error| Problem::Json(error).at(&path_of(stem, "meta.json")))?,
        };
        let (prefill, prefill_totals) =
            prefill_rows(&path_of(stem, "prefill.csv"), &files.prefill)?;
        let (decode, decode_totals) = decode_rows(&path_of(stem, "decode.csv"), &files.decode)?;
        let other = other_rows(&path_of(stem, "other.csv"), &files.other)?;
        let mixed = match &files.mixed {
            None => Vec::new(),
            Some(bytes) => mixed_rows(&path_of(stem, "mixed.csv"), bytes)?,
        };
        let Name { gpu, model, backend, version, tp } = name.clone();
        let source = meta.source.clone().unwrap_or_default();
        let identity =
            Identity { gpu, model, backend, version, tp, source, estimate: meta.estimate };
        let table = Table::new(identity, other, &prefill, &decode).map_err(|error| {
            let file = format!("{}.csv", error.kind().name());
            Problem::Table(error).at(&path_of(stem, &file))
        })?;
        let table = Arc::new(table);
        Ok(Measurement { table, prefill: prefill_totals, decode: decode_totals, mixed, meta })
    }
}

type Totals<Row> = (Vec<Row>, Vec<Total<Row>>);

fn prefill_rows(path: &Path, bytes: &[u8]) -> Result<Totals<PrefillRow>, TimingError> {
    let columns = &["batch", "new_tokens", "prefix_tokens", "attn_ms", "total_ms"];
    let mut rows = Rows::new(path, bytes, columns, 1)?;
    let (mut parts, mut totals) = (Vec::new(), Vec::new());
    while rows.next()? {
        let row = PrefillRow {
            batch: rows.count(0)?,
            new_tokens: rows.count(1)?,
            prefix_tokens: rows.count(2)?,
            attn_ms: rows.ms(3)?,
        };
        parts.push(row);
        totals.extend(rows.optional_ms(4)?.map(|total_ms| Total { row, total_ms }));
    }
    Ok((parts, totals))
}

fn decode_rows(path: &Path, bytes: &[u8]) -> Result<Totals<DecodeRow>, TimingError> {
    let columns = &["batch", "context_tokens", "attn_ms", "total_ms"];
    let mut rows = Rows::new(path, bytes, columns, 1)?;
    let (mut parts, mut totals) = (Vec::new(), Vec::new());
    while rows.next()? {
        let (batch, context_tokens, attn_ms) = (rows.count(0)?, rows.count(1)?, rows.ms(2)?);
        let row = DecodeRow { batch, context_tokens, attn_ms };
        parts.push(row);
        totals.extend(rows.optional_ms(3)?.map(|total_ms| Total { row, total_ms }));
    }
    Ok((parts, totals))
}

fn other_rows(path: &Path, bytes: &[u8]) -> Result<Vec<OtherRow>, TimingError> {
    let columns = &["tokens", "prefill_other_ms", "decode_other_ms"];
    let mut rows = Rows::new(path, bytes, columns, 0)?;
    let mut parts = Vec::new();
    while rows.next()? {
        let (tokens, prefill_ms) = (rows.count(0)?, rows.ms(1)?);
        parts.push(OtherRow { tokens, prefill_ms, decode_ms: rows.optional_ms(2)? });
    }
    Ok(parts)
}

fn mixed_rows(path: &Path, bytes: &[u8]) -> Result<Vec<MixedRow>, TimingError> {
    let columns = &[
        "prefill_reqs",
        "new_tokens",
        "prefix_tokens",
        "decode_reqs",
        "context_tokens",
        "total_ms",
    ];
    let mut rows = Rows::new(path, bytes, columns, 0)?;
    let mut parts = Vec::new();
    while rows.next()? {
        parts.push(MixedRow {
            prefill_requests: rows.count(0)?,
            new_tokens: rows.count(1)?,
            prefix_tokens: rows.count(2)?,
            decode_requests: rows.count(3)?,
            context_tokens: rows.count(4)?,
            total_ms: rows.ms(5)?,
        });
    }
    Ok(parts)
}
