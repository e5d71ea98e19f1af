//! Attention of decoding requests, over requests and the mean of the contexts they read.
//!
//! Linear between the figures in both directions. A longer context never costs less: figures that say so are noise, and
//! are raised to the one before.

use crate::model::timing::measured::axis::{Axis, Gap, Place, inverse_above};
use crate::model::timing::measured::table::Grid;

/// The grid, in ns.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct DecodeAttention {
    batch: Axis,
    context: Axis,
    /// By batch, then context, without the last of each.
    cells: Box<[Cell]>,
    /// By batch: the longest context that there is a figure for, and for all shorter ones.
    longest: Box<[f64]>,
    /// By requests, up to [`ROWS`].
    rows: Box<[Row]>,
}

/// The figures of one batch, at the context before and the one behind, and those of the next batch.
type Cell = [[f64; 2]; 2];

impl Stretch {
    /// What it says about so many KV tokens, plus `other`.
    #[inline]
    pub(super) fn at(&self, kv_tokens: f64, other: f64) -> f64 {
        (other + self.ns) + self.slope * (kv_tokens - self.from)
    }
}

/// So many batch sizes are looked up and not computed: 57 kB, more than engines run.
const ROWS: u32 = 1024;

/// The grid at one batch size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Row {
    requests: f64,
    /// 1 / requests.
    inverse: f64,
    /// [`inverse_above`].
    inverse_above: f64,
    /// Its first cell.
    cell: usize,
    /// Factors on both: the share of each, and how many times the largest batch of the grid this one is.
    weights: [f64; 2],
    /// The most KV tokens that there are figures for; below zero if there are none for so many requests.
    most: f64,
}

/// The line `ns + slope * (kv_tokens - from)`, which holds for `from <= kv_tokens < to`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) ns: f64,
    /// Never negative.
    pub(super) slope: f64,
    pub(super) from: f64,
    /// Absent if it holds for ever.
    pub(super) to: Option<f64>,
}

impl DecodeAttention {
    /// The figures of the grid times `factor`. Missing ones are those of the next smaller batch, request by request.
    pub(super) fn new(grid: &Grid<2>, factor: f64) -> DecodeAttention {
        let [batch, context] = [0, 1].map(|axis| grid.axis(axis));
        let mut ns: Vec<f64> = Vec::new();
        let mut longest = Vec::new();
        for (row, &requests) in batch.iter().enumerate() {
            let known = (0..context.len()).take_while(|&column| grid.at([row, column]).is_some());
            longest.push(known.last().map_or(0.0, |column| f64::from(context[column])));
            let mut highest: f64 = 0.0;
            for column in 0..context.len() {
                let value = grid.at([row, column]).map_or_else(
                    || {
                        let above = ns[ns.len() - context.len()];
                        above * f64::from(requests) / f64::from(batch[row - 1])
                    },
                    |ms| ms * 1e6 * factor,
                );
                highest = highest.max(value);
                ns.push(highest);
            }
        }
        let columns = context.len() - 1;
        let cell =
            |b: usize, c: usize| [b, b + 1].map(|b| [c, c + 1].map(|c| ns[b * context.len() + c]));
        let cells = (0..(batch.len() - 1) * columns).map(|at| cell(at / columns, at % columns));
        let cells = cells.collect();
        let [batch, context] = [batch, context].map(Axis::new);
        let (longest, rows) = (longest.into(), Box::default());
        let grid = DecodeAttention { batch, context, cells, longest, rows };
        let rows = (0..=ROWS).map(|requests| grid.compute_row(requests)).collect();
        DecodeAttention { rows, ..grid }
    }

    /// The grid at this batch size.
    #[inline]
    pub(super) fn row(&self, requests: u32) -> Row {
        let known = self.rows.get(requests as usize);
        known.copied().unwrap_or_else(|| self.compute_row(requests))
    }

    fn compute_row(&self, requests: u32) -> Row {
        let most = self.covered(requests).map_or(f64::NEG_INFINITY, |(_, most)| most);
        let requests = f64::from(requests);
        let last = self.batch.last();
        let times = if requests > last { requests / last } else { 1.0 };
        let Place { index, share } = self.batch.place(requests);
        let weights = [times * (1.0 - share), times * share];
        Row {
            requests,
            inverse: 1.0 / requests.max(1.0),
            inverse_above: inverse_above(requests.max(1.0)),
            cell: index * self.context.gaps().len(),
            weights,
            most,
        }
    }

    /// The time of so many requests that read `kv_tokens` together, plus `other`.
    pub(super) fn ns(&self, requests: u32, kv_tokens: f64, other: f64) -> f64 {
        let known = self.look_up(requests, kv_tokens, other);
        known.unwrap_or_else(|| self.stretch(self.row(requests), kv_tokens).at(kv_tokens, other))
    }

    /// The time of so many requests that read `kv_tokens` together, plus `other`, inside of the figures and if tables tell.
    #[inline]
    pub(super) fn look_up(&self, requests: u32, kv_tokens: f64, other: f64) -> Option<f64> {
        let row = self.rows.get(requests as usize)?;
        let (index, gap) = self.context.look_up(kv_tokens * row.inverse_above)?;
        let from = gap.from * row.requests;
        let is_inside = from <= kv_tokens && kv_tokens <= row.most;
        is_inside.then(|| self.line(row, index, gap, from).at(kv_tokens, other))
    }

    #[inline]
    fn line(&self, row: &Row, index: usize, gap: &Gap, from: f64) -> Stretch {
        let [ns, next] = self.figures(row, index);
        Stretch { ns, slope: (next - ns) * (gap.inverse * row.inverse), from, to: None }
    }

    /// The line that `kv_tokens`, read by all requests together, are on.
    #[inline]
    pub(super) fn stretch(&self, row: Row, kv_tokens: f64) -> Stretch {
        let gaps = self.context.gaps();
        let edges = |index: usize| {
            let Gap { from, to, .. } = gaps[index];
            [from * row.requests, to * row.requests]
        };
        let mut index = self.context.find(kv_tokens * row.inverse);
        // The quotient is rounded; which side of an edge the tokens are on is not.
        while index > 0 && kv_tokens < edges(index)[0] {
            index -= 1;
        }
        while index + 1 < gaps.len() && kv_tokens >= edges(index)[1] {
            index += 1;
        }
        let [from, to] = edges(index);
        if kv_tokens < from {
            let [ns, _] = self.figures(&row, index);
            return Stretch { ns, slope: 0.0, from, to: Some(from) };
        }
        let to = (index + 1 < gaps.len()).then_some(to);
        Stretch { to, ..self.line(&row, index, &gaps[index], from) }
    }

    /// The lines of so many requests, one for each gap between contexts, and the last one again for what is behind it.
    pub(super) fn lines(&self, requests: u32) -> impl Iterator<Item = Stretch> + Clone {
        let (row, gaps) = (self.row(requests), self.context.gaps());
        (0..=gaps.len()).map(move |index| {
            let index = index.min(gaps.len() - 1);
            self.line(&row, index, &gaps[index], gaps[index].from * row.requests)
        })
    }

    /// The times at this knot of the contexts and at the next one.
    #[inline]
    fn figures(&self, Row { cell, weights, .. }: &Row, context: usize) -> [f64; 2] {
        let [batch, next] = self.cells[cell + context];
        [0, 1].map(|context| batch[context] * weights[0] + next[context] * weights[1])
    }

    /// The KV tokens, least and most, between which there are figures for so many requests.
    pub(super) fn covered(&self, requests: u32) -> Option<(f64, f64)> {
        let requests = f64::from(requests);
        if !self.batch.covers(requests) {
            return None;
        }
        let Place { index, share } = self.batch.place(requests);
        let longest = if share > 0.0 { self.longest[index + 1] } else { self.longest[index] };
        Some((self.context.first() * requests, longest * requests))
    }

    /// The least value anywhere.
    pub(super) fn least(&self) -> f64 {
        let figures = self.cells.as_flattened().as_flattened();
        figures.iter().copied().fold(f64::INFINITY, f64::min)
    }
}
