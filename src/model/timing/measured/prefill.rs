//! Attention over prompt tokens, over requests and the means of what each computes and of what it has already.
//!
//! Linear between the figures in all three directions. They are taken as they are: a few cached tokens can cost less than
//! none, because another kernel takes over, and raising the figures would make everything behind wrong.

use crate::model::timing::measured::axis::{Axis, Place, inverse_above};
use crate::model::timing::measured::table::Grid;

/// The grid, in ns.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct PrefillAttention {
    batch: Axis,
    new: Axis,
    prefix: Axis,
    /// By batch, then new tokens, then prefix tokens, without the last of each.
    cells: Box<[Cell]>,
    /// Whether there is a figure: by batch, then new tokens, then prefix tokens.
    known: Box<[bool]>,
    /// Whether there are figures all around: by batch, then the gaps of new tokens and of prefix tokens.
    is_whole: Box<[bool]>,
    /// By requests, up to the largest batch and below [`ROWS_MAX`].
    rows: Box<[Row]>,
    /// Cells along the prefix.
    columns: usize,
}

/// The figures around what lies between neighbours of the grid, in one line of the cache: those of one batch and the
/// next; with the prefix before and the one behind; at fewer new tokens and at more.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(align(64))]
struct Cell([[[f64; 2]; 2]; 2]);

/// The grid at one batch size.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Row {
    requests: f64,
    /// [`inverse_above`].
    inverse: f64,
    /// Its first cell.
    cell: usize,
    /// The share of the way to the next batch of the grid.
    share: f64,
    /// Where [`PrefillAttention::is_whole`] begins, of the larger batch: there is a figure of the smaller ones wherever it
    /// has one. Absent if no batch is larger, or none is smaller.
    whole: Option<usize>,
}

/// So many batch sizes are looked up and not computed, 8 kB.
const ROWS_MAX: u32 = 256;

impl PrefillAttention {
    /// The figures of the grid times `factor`. Missing ones are those of the next smaller batch, request by request.
    pub(super) fn new(grid: &Grid<3>, factor: f64) -> PrefillAttention {
        let [batch, new, prefix] = [0, 1, 2].map(|axis| grid.axis(axis));
        let plane = new.len() * prefix.len();
        let mut ns: Vec<f64> = Vec::new();
        let mut known = Vec::new();
        for (row, &requests) in batch.iter().enumerate() {
            for cell in 0..plane {
                let value = grid.at([row, cell / prefix.len(), cell % prefix.len()]);
                known.push(value.is_some());
                ns.push(value.map_or_else(
                    || ns[ns.len() - plane] * f64::from(requests) / f64::from(batch[row - 1]),
                    |ms| ms * 1e6 * factor,
                ));
            }
        }
        let (batches, lines, columns) = (batch.len() - 1, new.len() - 1, prefix.len() - 1);
        let at = |b: usize, n: usize, p: usize| ns[b * plane + n * prefix.len() + p];
        let pair = |b, n, p| [at(b, n, p), at(b + 1, n, p)];
        let cell = |b, n, p| Cell([n, n + 1].map(|n| [pair(b, n, p), pair(b, n, p + 1)]));
        let cells = (0..batches * lines * columns)
            .map(|at| cell(at / columns / lines, at / columns % lines, at % columns))
            .collect();
        let is_known = |b: usize, n: usize, p: usize| known[b * plane + n * prefix.len() + p];
        let is_whole = (0..batch.len() * lines * columns)
            .map(|at| (at / columns / lines, at / columns % lines, at % columns))
            .map(|(b, n, p)| [n, n + 1].iter().all(|&n| is_known(b, n, p) && is_known(b, n, p + 1)))
            .collect();
        let [batch, new, prefix] = [batch, new, prefix].map(Axis::new);
        let (known, rows) = (known.into(), Box::default());
        let grid = PrefillAttention { batch, new, prefix, cells, known, is_whole, rows, columns };
        let last = (grid.batch.last() as u32).min(ROWS_MAX - 1);
        let rows = (0..=last).map(|requests| grid.compute_row(requests.into())).collect();
        PrefillAttention { rows, ..grid }
    }

    fn compute_row(&self, requests: f64) -> Row {
        let Place { index, share } = self.batch.place(requests);
        let cells = self.new.gaps().len() * self.columns;
        let larger = index + usize::from(share > 0.0);
        let whole = self.batch.covers(requests).then_some(larger * cells);
        Row { requests, inverse: inverse_above(requests), cell: index * cells, share, whole }
    }

    /// The time for so many requests, which compute `new` tokens with `prefix` tokens before them, all together.
    pub(super) fn ns(&self, requests: u32, new: f64, prefix: f64) -> f64 {
        let requests = f64::from(requests);
        self.beyond(requests, new / requests, prefix / requests)
    }

    /// The same inside of the figures, if tables tell.
    #[inline]
    pub(super) fn look_up(&self, requests: u32, new: f64, prefix: f64) -> Option<f64> {
        let row = self.rows.get(requests as usize)?;
        let place = |axis: &Axis, sum| axis.look_up_place(sum, row.requests, row.inverse);
        let (new, prefix) = (place(&self.new, new)?, place(&self.prefix, prefix)?);
        let is_inside = self.is_whole[row.whole? + new.index * self.columns + prefix.index];
        is_inside.then(|| self.between(row, new, prefix))
    }

    /// Linear between the figures; outside of them as at the nearest point of the grid.
    #[inline]
    fn between(&self, row: &Row, new: Place, prefix: Place) -> f64 {
        let Cell(corners) = &self.cells[row.cell + new.index * self.columns + prefix.index];
        let [fewer, more] = [0, 1].map(|line| {
            let [before, behind] = corners[line];
            between(before, behind, prefix.share)
        });
        let [batch, next] = between(fewer, more, new.share);
        batch * (1.0 - row.share) + next * row.share
    }

    /// As the work grows with requests and new tokens, each of which looks at all that come before it; and with the
    /// prefix as it grew last.
    fn beyond(&self, requests: f64, new: f64, prefix: f64) -> f64 {
        let work = |requests: f64, new: f64| requests * new * (prefix + new / 2.0);
        let nearest = work(requests.min(self.batch.last()), new.min(self.new.last()));
        let times = (work(requests, new) / nearest).max(1.0);
        let (row, new) = (self.compute_row(requests), self.new.place(new));
        let at = |prefix: f64| self.between(&row, new, self.prefix.place(prefix));
        let mut ns = at(prefix);
        let last = self.prefix.last();
        if prefix > last {
            let before = self.prefix.gaps()[self.columns - 1].from;
            let growth = ns - at(before);
            ns += growth.max(0.0) / (last - before) * (prefix - last);
        }
        ns * times
    }

    /// Whether there are figures all around.
    pub(super) fn covers(&self, requests: f64, new: f64, prefix: f64) -> bool {
        if !(self.batch.covers(requests) && self.new.covers(new) && self.prefix.covers(prefix)) {
            return false;
        }
        let [b, n, p] =
            [self.batch.place(requests), self.new.place(new), self.prefix.place(prefix)];
        // The smaller batches have every figure that the larger ones have.
        let batch = b.index + usize::from(b.share > 0.0);
        let corner = |new: usize, prefix: usize| {
            let (lines, columns) = (self.new.gaps().len() + 1, self.columns + 1);
            self.known[(batch * lines + new) * columns + prefix]
        };
        let ends = |index: usize, share: f64| [index, index + usize::from(share > 0.0)];
        ends(n.index, n.share)
            .iter()
            .all(|&new| ends(p.index, p.share).iter().all(|&prefix| corner(new, prefix)))
    }

    /// The least value anywhere.
    pub(super) fn least(&self) -> f64 {
        let figures = self.cells.iter().flat_map(|cell| cell.0.as_flattened().as_flattened());
        figures.copied().fold(f64::INFINITY, f64::min)
    }
}

/// What is at this share of the way from one to the other, for two batches.
#[inline]
fn between(from: [f64; 2], to: [f64; 2], share: f64) -> [f64; 2] {
    [0, 1].map(|batch| from[batch] * (1.0 - share) + to[batch] * share)
}
