//! Attention over prompt tokens, over requests and the means of what each computes and of what it has already.
//!
//! Linear between the figures in all three directions. They are taken as they are: a few cached tokens can cost less than
//! none, because another kernel takes over, and raising the figures would make everything behind wrong.

use crate::model::timing::measured::axis::{Axis, Place};
use crate::model::timing::measured::table::Grid;

/// The grid, in ns.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct PrefillAttention {
    batch: Axis,
    new: Axis,
    prefix: Axis,
    /// By batch, then new tokens, then prefix tokens.
    ns: Box<[f64]>,
    /// As `ns`: whether there is a figure.
    known: Box<[bool]>,
    /// By requests, below [`PLACES`]: where they are on the axis.
    places: Box<[Place]>,
}

/// So many batch sizes are looked up and not computed, 4 kB.
const PLACES: u32 = 256;

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
        let [batch, new, prefix] =
            [batch, new, prefix].map(|axis| Axis::new(axis.iter().map(|&value| value.into())));
        let places = (0..PLACES).map(|requests| batch.place(requests.into())).collect();
        PrefillAttention { batch, new, prefix, ns: ns.into(), known: known.into(), places }
    }

    /// The time for so many requests, each computing `new` tokens with `prefix` tokens before them.
    #[inline]
    pub(super) fn ns(&self, requests: f64, new: f64, prefix: f64) -> f64 {
        if requests <= self.batch.last() && new <= self.new.last() && prefix <= self.prefix.last() {
            self.inside(requests, new, prefix)
        } else {
            self.beyond(requests, new, prefix)
        }
    }

    /// Linear between the figures; outside of them as at the nearest point of the grid.
    fn inside(&self, requests: f64, new: f64, prefix: f64) -> f64 {
        let b = self.places.get(requests as u32 as usize).copied();
        let b = b.unwrap_or_else(|| self.batch.place(requests));
        let [n, p] = [self.new.place(new), self.prefix.place(prefix)];
        let row = self.prefix.len();
        let plane = row * self.new.len();
        let cell = b.index * plane + n.index * row + p.index;
        let along_prefix = |cell: usize| {
            let (from, to) = (self.ns[cell], self.ns[cell + 1]);
            from * (1.0 - p.share) + to * p.share
        };
        let along_new =
            |cell: usize| along_prefix(cell) * (1.0 - n.share) + along_prefix(cell + row) * n.share;
        along_new(cell) * (1.0 - b.share) + along_new(cell + plane) * b.share
    }

    /// As the work grows with requests and new tokens, each of which looks at all that come before it; and with the
    /// prefix as it grew last.
    fn beyond(&self, requests: f64, new: f64, prefix: f64) -> f64 {
        let work = |requests: f64, new: f64| requests * new * (prefix + new / 2.0);
        let nearest = work(requests.min(self.batch.last()), new.min(self.new.last()));
        let times = (work(requests, new) / nearest).max(1.0);
        let mut ns = self.inside(requests, new, prefix);
        let last = self.prefix.last();
        if prefix > last {
            let before = self.prefix.value(self.prefix.len() - 2);
            let growth = ns - self.inside(requests, new, before);
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
            self.known[(batch * self.new.len() + new) * self.prefix.len() + prefix]
        };
        let ends = |index: usize, share: f64| [index, index + usize::from(share > 0.0)];
        ends(n.index, n.share)
            .iter()
            .all(|&new| ends(p.index, p.share).iter().all(|&prefix| corner(new, prefix)))
    }

    /// The least value anywhere.
    pub(super) fn least(&self) -> f64 {
        self.ns.iter().copied().fold(f64::INFINITY, f64::min)
    }
}
