//! What several tests need.

pub(crate) mod naive;
pub(crate) mod swarm;
pub(crate) mod visitors;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use fleetsim::fleet::Sink;
use fleetsim::io::timing::Library;
use fleetsim::kernel::Span;
use fleetsim::model::metrics::Row;
use fleetsim::model::router::{KvRouterConfig, PolicySpec};
use fleetsim::model::timing::measured::{DecodeRow, PrefillRow, Scales, Table};
use fleetsim::model::timing::{Measured, TimingModel};
use parking_lot::Mutex;

/// A real trace: in the folder `FLEETSIM_TRACES`, or in `../shared/traces`.
///
/// They are not part of the repository. A test that needs one and finds none says so and passes.
pub(crate) fn trace(name: &str) -> Option<PathBuf> {
    find("FLEETSIM_TRACES", "../shared/traces", name)
}

/// What the reference peer made of a case: in the folder `FLEETSIM_CASES`, or in `../shared/reference/cases`.
pub(crate) fn case(name: &str) -> Option<PathBuf> {
    find("FLEETSIM_CASES", "../shared/reference/cases", name)
}

/// Every router policy.
pub(crate) fn policies() -> [PolicySpec; 6] {
    [
        PolicySpec::RoundRobin,
        PolicySpec::Random,
        PolicySpec::PowerOfTwo,
        PolicySpec::LeastLoaded,
        PolicySpec::SessionAffine,
        PolicySpec::Kv(KvRouterConfig::default()),
    ]
}

/// All timing tables: the folder `FLEETSIM_TIMING`, or `../shared/timing`.
pub(crate) fn timing_tables() -> Option<PathBuf> {
    find("FLEETSIM_TIMING", "../shared/timing", "")
}

/// A timing table that ships, with some overhead; with `narrow` only its smallest passes, so that many are outside.
pub(crate) fn measured(narrow: bool) -> TimingModel {
    static TABLES: LazyLock<[Measured; 2]> = LazyLock::new(|| {
        let library = Library::open(None).unwrap();
        let entry = library.named("b200_sxm/minimax-m2.5-fp8/vllm-0.14.0-tp4").unwrap();
        let table = library.load(entry).unwrap().table;
        let narrow = Arc::new(narrowed(&table));
        [table, narrow].map(|table| Measured::new(table, Scales::default(), Span::from_us(300)))
    });
    TimingModel::Measured(TABLES[usize::from(narrow)].clone())
}

/// The figures of passes over a few tokens.
fn narrowed(table: &Table) -> Table {
    let other = table.other().iter().copied().filter(|row| row.tokens <= 24).collect();
    let prefill = table.prefill().points().map(|([batch, new_tokens, prefix_tokens], attn_ms)| {
        PrefillRow { batch, new_tokens, prefix_tokens, attn_ms }
    });
    let decode = table.decode().points().map(|([batch, context_tokens], attn_ms)| DecodeRow {
        batch,
        context_tokens,
        attn_ms,
    });
    let prefill = prefill.filter(|row| row.batch <= 2 && row.new_tokens <= 16);
    let decode = decode.filter(|row| row.batch <= 4 && row.context_tokens <= 64);
    let (prefill, decode): (Vec<_>, Vec<_>) = (prefill.collect(), decode.collect());
    Table::new(table.identity().clone(), other, &prefill, &decode).unwrap()
}

fn find(variable: &str, beside: &str, name: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(beside);
    let path = std::env::var_os(variable).map_or(beside, PathBuf::from).join(name);
    if path.exists() {
        return Some(path);
    }
    // Not `eprintln`, which the test harness swallows when a test passes.
    let text = format!("SKIPPED: {} is absent; {variable} says where to look\n", path.display());
    io::stderr().write_all(text.as_bytes()).expect("stderr is open");
    None
}

/// A configuration that ships with the crate.
pub(crate) fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("configs").join(name)
}

/// Keeps every row, in order of the requests.
#[derive(Default)]
pub(crate) struct Rows(pub(crate) Mutex<Vec<Row>>);

impl Sink for Rows {
    fn rows(&self, rows: &[Row]) -> io::Result<()> {
        self.0.lock().extend_from_slice(rows);
        Ok(())
    }
}

impl Rows {
    /// The rows in order of arrival.
    pub(crate) fn sorted(self) -> Vec<Row> {
        let mut rows = self.0.into_inner();
        rows.sort_by_key(|row| row.id);
        rows
    }
}

/// The seeds of a random test: the first `count`, or as many as `FLEETSIM_SEEDS` says, or the one in `FLEETSIM_SEED` to
/// repeat a failure.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("FLEETSIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FLEETSIM_SEEDS").unwrap_or(count),
    }
}
