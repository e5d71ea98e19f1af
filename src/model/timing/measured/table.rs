//! Measured forward passes of one engine shape, as read: a curve and two grids of milliseconds.
//!
//! The parts of a pass are kept apart because they behave differently: attention is smooth in its axes and needs few
//! points, everything else is a staircase in the number of tokens and needs many.

use std::fmt;

/// What was measured, and where the figures come from.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Identity {
    /// The GPU or system, such as `h200_sxm`.
    pub gpu: String,
    /// The model with its precision, such as `qwen3-32b`.
    pub model: String,
    /// The inference engine, such as `vllm`.
    pub backend: String,
    /// Its version.
    pub version: String,
    /// GPUs that share every layer.
    pub tp: u32,
    /// Who measured, in a few words.
    pub source: String,
    /// Whether the figures are calculated from data sheets and not measured.
    pub estimate: bool,
}

/// `<gpu>/<model>/<backend>-<version>-tp<k>`: the name of its files, without the kind.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { gpu, model, backend, version, tp, .. } = self;
        write!(f, "{gpu}/{model}/{backend}-{version}-tp{tp}")
    }
}

/// Everything that is not attention, in a pass of so many tokens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct OtherRow {
    /// Tokens of the pass, at least 1.
    pub tokens: u32,
    /// Milliseconds in a pass that computes prompt tokens.
    pub prefill_ms: f64,
    /// Milliseconds in a pass that only decodes. The rows that have it are the first ones.
    pub decode_ms: Option<f64>,
}

/// Attention over the prompt tokens of a pass.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PrefillRow {
    /// Requests, at least 1.
    pub batch: u32,
    /// Tokens computed per request, at least 1.
    pub new_tokens: u32,
    /// Tokens per request that were there before.
    pub prefix_tokens: u32,
    /// Milliseconds.
    pub attn_ms: f64,
}

/// Attention of the decoding requests of a pass.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DecodeRow {
    /// Requests, at least 1.
    pub batch: u32,
    /// KV tokens that each reads, at least 1.
    pub context_tokens: u32,
    /// Milliseconds.
    pub attn_ms: f64,
}

/// A figure in milliseconds at every combination of the values of some axes. Combinations may be missing, but only with
/// the larger batches: the batch is the first axis, and every other combination has a smallest batch.
#[derive(Clone, PartialEq, Debug)]
pub struct Grid<const AXES: usize> {
    axes: [Vec<u32>; AXES],
    /// The last axis varies fastest.
    cells: Vec<Option<f64>>,
}

/// The figures of one engine shape. See the fields of the rows for what they mean.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    identity: Identity,
    other: Vec<OtherRow>,
    prefill: Grid<3>,
    decode: Grid<2>,
}

impl Table {
    /// A table of these rows, in any order.
    ///
    /// # Errors
    /// If a kind has no rows, a value cannot be, a combination is there twice or missing in the middle of its grid.
    pub fn new(
        identity: Identity,
        mut other: Vec<OtherRow>,
        prefill: &[PrefillRow],
        decode: &[DecodeRow],
    ) -> Result<Table, TableError> {
        check_other(&mut other)?;
        let prefill = prefill
            .iter()
            .map(|row| ([row.batch, row.new_tokens, row.prefix_tokens], row.attn_ms))
            .collect::<Vec<_>>();
        let decode = decode
            .iter()
            .map(|row| ([row.batch, row.context_tokens], row.attn_ms))
            .collect::<Vec<_>>();
        let prefill = Grid::new(Kind::Prefill, [1, 1, 0], &prefill)?;
        let decode = Grid::new(Kind::Decode, [1, 1], &decode)?;
        Ok(Table { identity, other, prefill, decode })
    }

    /// What it is about.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Everything but attention, by ascending tokens.
    pub fn other(&self) -> &[OtherRow] {
        &self.other
    }

    /// Prefill attention over batch, new tokens and prefix tokens.
    pub fn prefill(&self) -> &Grid<3> {
        &self.prefill
    }

    /// Decode attention over batch and context tokens.
    pub fn decode(&self) -> &Grid<2> {
        &self.decode
    }
}

/// Sorts the rows by tokens.
fn check_other(rows: &mut [OtherRow]) -> Result<(), TableError> {
    let kind = Kind::Other;
    rows.sort_by_key(|row| row.tokens);
    let Some(first) = rows.first() else { return Err(TableError::Empty(kind)) };
    if first.decode_ms.is_none() {
        return Err(TableError::Missing { kind, at: vec![first.tokens], field: "decode_other_ms" });
    }
    for row in &*rows {
        let at = || vec![row.tokens];
        if row.tokens == 0 || row.tokens > COORDINATE_MAX {
            return Err(TableError::Coordinate { kind, axis: "tokens", value: row.tokens });
        }
        check_ms(kind, "prefill_other_ms", row.prefill_ms, at)?;
        check_ms(kind, "decode_other_ms", row.decode_ms.unwrap_or(0.0), at)?;
    }
    for pair in rows.windows(2) {
        if pair[0].tokens == pair[1].tokens {
            return Err(TableError::Twice { kind, at: vec![pair[0].tokens] });
        }
        if pair[0].decode_ms.is_none() && pair[1].decode_ms.is_some() {
            let at = vec![pair[0].tokens];
            return Err(TableError::Missing { kind, at, field: "decode_other_ms" });
        }
    }
    let decode = rows.iter().filter(|row| row.decode_ms.is_some()).count();
    if decode < 2 {
        return Err(TableError::Short { kind, axis: "tokens", value: rows[0].tokens });
    }
    Ok(())
}

fn check_ms(
    kind: Kind,
    field: &'static str,
    value: f64,
    at: impl FnOnce() -> Vec<u32>,
) -> Result<(), TableError> {
    if (0.0..=MS_MAX).contains(&value) {
        return Ok(());
    }
    Err(TableError::Time { kind, field, at: at(), value })
}

impl<const AXES: usize> Grid<AXES> {
    fn new(
        kind: Kind,
        least: [u32; AXES],
        rows: &[([u32; AXES], f64)],
    ) -> Result<Grid<AXES>, TableError> {
        if rows.is_empty() {
            return Err(TableError::Empty(kind));
        }
        for (at, ms) in rows {
            for axis in 0..AXES {
                if at[axis] < least[axis] || at[axis] > COORDINATE_MAX {
                    let (axis, value) = (kind.axes()[axis], at[axis]);
                    return Err(TableError::Coordinate { kind, axis, value });
                }
            }
            check_ms(kind, "attn_ms", *ms, || at.to_vec())?;
        }
        let axes: [Vec<u32>; AXES] = std::array::from_fn(|axis| {
            let mut values: Vec<u32> = rows.iter().map(|(at, _)| at[axis]).collect();
            values.sort_unstable();
            values.dedup();
            values
        });
        if let Some(short) = axes.iter().position(|values| values.len() < 2) {
            let (name, value) = (kind.axes()[short], axes[short][0]);
            return Err(TableError::Short { kind, axis: name, value });
        }
        // A grid of distinct rows has at least as many cells as rows, but a list of scattered points can have far more.
        let cells = axes.iter().try_fold(1_usize, |cells, axis| cells.checked_mul(axis.len()));
        let Some(cells) = cells.filter(|&cells| cells <= CELLS_MAX) else {
            return Err(TableError::Scattered { kind, rows: rows.len() });
        };
        let mut grid = Grid { axes, cells: vec![None; cells] };
        for (at, ms) in rows {
            let cell = grid.index(std::array::from_fn(|axis| {
                grid.axes[axis].binary_search(&at[axis]).expect("it is on the axis")
            }));
            if grid.cells[cell].replace(*ms).is_some() {
                return Err(TableError::Twice { kind, at: at.to_vec() });
            }
        }
        grid.check_holes(kind)?;
        Ok(grid)
    }

    /// From some batch on, and from there on only, a combination may be missing.
    fn check_holes(&self, kind: Kind) -> Result<(), TableError> {
        let plane = self.cells.len() / self.axes[0].len();
        let missing = (0..self.cells.len()).find(|&cell| {
            let next = self.cells.get(cell + plane).is_some_and(Option::is_some);
            self.cells[cell].is_none() && (cell < plane || next)
        });
        match missing {
            None => Ok(()),
            Some(cell) => {
                let at = self.coordinates(cell).to_vec();
                Err(TableError::Missing { kind, at, field: "attn_ms" })
            }
        }
    }

    fn index(&self, at: [usize; AXES]) -> usize {
        (0..AXES).fold(0, |index, axis| index * self.axes[axis].len() + at[axis])
    }

    fn coordinates(&self, mut cell: usize) -> [u32; AXES] {
        let mut at = [0; AXES];
        for axis in (0..AXES).rev() {
            at[axis] = self.axes[axis][cell % self.axes[axis].len()];
            cell /= self.axes[axis].len();
        }
        at
    }

    /// The values along an axis, ascending.
    pub fn axis(&self, axis: usize) -> &[u32] {
        &self.axes[axis]
    }

    /// The figure at these indices of the axes.
    pub fn at(&self, at: [usize; AXES]) -> Option<f64> {
        self.cells[self.index(at)]
    }

    /// The figures that there are, with their values on the axes.
    pub fn points(&self) -> impl Iterator<Item = ([u32; AXES], f64)> {
        let cells = (0..).zip(&self.cells);
        cells.filter_map(|(cell, ms)| ms.map(|ms| (self.coordinates(cell), ms)))
    }
}

/// The largest value on an axis: products of three of them are exact as floats, or nearly so.
pub const COORDINATE_MAX: u32 = 1 << 26;

/// The longest time of a figure: a quarter of an hour.
pub const MS_MAX: f64 = 1e6;

/// Cells of a grid, missing ones included.
const CELLS_MAX: usize = 1 << 20;

/// Which part of a pass a row is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Attention over prompt tokens.
    Prefill,
    /// Attention of decoding requests.
    Decode,
    /// Everything else.
    Other,
}

impl Kind {
    /// What it is called in file names.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Prefill => "prefill",
            Kind::Decode => "decode",
            Kind::Other => "other",
        }
    }

    /// Names of the axes, which are columns of the file.
    pub fn axes(self) -> &'static [&'static str] {
        match self {
            Kind::Prefill => &["batch", "new_tokens", "prefix_tokens"],
            Kind::Decode => &["batch", "context_tokens"],
            Kind::Other => &["tokens"],
        }
    }

    fn point(self, at: &[u32]) -> String {
        let values = self.axes().iter().zip(at).map(|(axis, value)| format!("{axis} {value}"));
        values.collect::<Vec<_>>().join(", ")
    }
}

/// Why rows are no table.
#[derive(Clone, PartialEq, Debug)]
pub enum TableError {
    /// There are none of this kind.
    Empty(Kind),
    /// A value cannot be on its axis.
    Coordinate {
        /// The kind of row.
        kind: Kind,
        /// The axis.
        axis: &'static str,
        /// The value.
        value: u32,
    },
    /// A time is negative, not a number, or absurd.
    Time {
        /// The kind of row.
        kind: Kind,
        /// Which of its figures.
        field: &'static str,
        /// Where on the axes.
        at: Vec<u32>,
        /// The value, ms.
        value: f64,
    },
    /// Two rows are about the same point.
    Twice {
        /// The kind of row.
        kind: Kind,
        /// Where on the axes.
        at: Vec<u32>,
    },
    /// A point that must be there is not.
    Missing {
        /// The kind of row.
        kind: Kind,
        /// Where on the axes.
        at: Vec<u32>,
        /// The figure that is missing.
        field: &'static str,
    },
    /// All rows have the same value on an axis: there is nothing to go by in between.
    Short {
        /// The kind of row.
        kind: Kind,
        /// The axis.
        axis: &'static str,
        /// The value.
        value: u32,
    },
    /// The rows are scattered points and not a grid.
    Scattered {
        /// The kind of row.
        kind: Kind,
        /// How many there are.
        rows: usize,
    },
}

impl TableError {
    /// The kind of row it is about.
    pub fn kind(&self) -> Kind {
        match self {
            TableError::Empty(kind)
            | TableError::Coordinate { kind, .. }
            | TableError::Time { kind, .. }
            | TableError::Twice { kind, .. }
            | TableError::Missing { kind, .. }
            | TableError::Short { kind, .. }
            | TableError::Scattered { kind, .. } => *kind,
        }
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableError::Empty(kind) => write!(f, "there are no {} rows", kind.name()),
            TableError::Coordinate { kind, axis, value } => {
                let least = u32::from(*axis != "prefix_tokens");
                write!(
                    f,
                    "`{axis}` of a {} row is {value}, but has to be {least} to {COORDINATE_MAX}",
                    kind.name()
                )
            }
            TableError::Time { kind, field, at, value } => write!(
                f,
                "`{field}` of the {} row at {} is {value}, but has to be 0 to {MS_MAX} ms",
                kind.name(),
                kind.point(at)
            ),
            TableError::Twice { kind, at } => {
                write!(f, "two {} rows are at {}", kind.name(), kind.point(at))
            }
            TableError::Missing { kind, at, field } => write!(
                f,
                "the {} rows have no `{field}` at {}; only the larger batches of a combination may \
                 be left out",
                kind.name(),
                kind.point(at)
            ),
            TableError::Short { kind, axis, value } => write!(
                f,
                "`{axis}` is {value} in all {} rows, but has to have two values at least",
                kind.name()
            ),
            TableError::Scattered { kind, rows } => write!(
                f,
                "the {rows} {} rows are not on a grid: their values on the axes make more than \
                 {CELLS_MAX} combinations",
                kind.name()
            ),
        }
    }
}

impl std::error::Error for TableError {}
