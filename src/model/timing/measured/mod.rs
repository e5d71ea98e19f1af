//! Measured timing: the figures of one engine shape, with corrections.

mod table;

pub use table::{
    COORDINATE_MAX, DecodeRow, Grid, Identity, Kind, MS_MAX, OtherRow, PrefillRow, Table, TableError,
};

use std::fmt;
use std::sync::Arc;

use crate::kernel::time::Span;

/// Factors on the parts of a pass, to calibrate a table with measurements of one's own.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scales {
    /// On everything that is not attention.
    pub other: f64,
    /// On the attention of prompt tokens.
    pub prefill_attention: f64,
    /// On the attention of decoding requests.
    pub decode_attention: f64,
}

impl Default for Scales {
    fn default() -> Scales {
        Scales { other: 1.0, prefill_attention: 1.0, decode_attention: 1.0 }
    }
}

/// A table ready for use. Clones share it.
#[derive(Clone)]
pub struct Measured {
    table: Arc<Table>,
    scales: Scales,
    pass_overhead: Span,
}

impl Measured {
    /// Times of `table`, its parts multiplied by `scales`, plus `pass_overhead` for what the host does in every pass:
    /// scheduling, launching, sampling.
    pub fn new(table: Arc<Table>, scales: Scales, pass_overhead: Span) -> Measured {
        Measured { table, scales, pass_overhead }
    }

    /// The figures.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The factors.
    pub fn scales(&self) -> Scales {
        self.scales
    }

    /// Added to every pass.
    pub fn pass_overhead(&self) -> Span {
        self.pass_overhead
    }
}

impl PartialEq for Measured {
    fn eq(&self, other: &Measured) -> bool {
        let is_same = Arc::ptr_eq(&self.table, &other.table) || self.table == other.table;
        is_same && self.scales == other.scales && self.pass_overhead == other.pass_overhead
    }
}

/// Without the figures: there are thousands.
impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured")
            .field("table", &self.table.identity())
            .field("scales", &self.scales)
            .field("pass_overhead", &self.pass_overhead)
            .finish()
    }
}
