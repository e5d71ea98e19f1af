//! Workers side by side in columns, by how much they have of one thing, and in each column by how much of another.
//!
//! A rule that gets no better with more of either is asked at the corners of a column only. By bisection they tell up to
//! which height all workers of the column keep it, and from which height on none does. Only those in between have to be
//! looked at one by one.

use std::ops::RangeInclusive;

use crate::model::planner::observation::WorkerLoad;

/// Halvings of the heights of a column. What is left in doubt is 1/256 of them.
const HALVINGS: u32 = 8;

/// The workers of a column. All of its workers are between the least and the most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Least and most of what the columns are told apart by.
    pub(super) keys: [u64; 2],
    /// Least and most requests in a batch.
    pub(super) running: [u32; 2],
    heights: [u64; 2],
    /// A worker with the least height.
    pub(super) lowest: usize,
}

/// What is known of a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    /// Below this height the rule is kept.
    kept_below: u64,
    /// From this height on it is broken.
    broken_from: u64,
}

/// Workers in columns.
pub(super) struct Columns<K, H> {
    key: K,
    height: H,
    first: u64,
    shift: u32,
    list: Vec<Column>,
}

/// Columns, and what is known of each.
pub(super) struct Bounds<'a, K, H> {
    columns: &'a Columns<K, H>,
    known: Vec<Known>,
}

impl<K, H> Columns<K, H>
where
    K: Fn(&WorkerLoad) -> u64,
    H: Fn(&WorkerLoad) -> u64,
{
    /// At most `columns` of the same width, for workers whose keys are in this range.
    pub(super) fn of(
        loads: &[WorkerLoad],
        keys: RangeInclusive<u64>,
        columns: u64,
        key: K,
        height: H,
    ) -> Columns<K, H> {
        let (first, span) = (*keys.start(), keys.end() - keys.start());
        // The least one for which the last key is in a column.
        let shift = (span / columns).checked_ilog2().map_or(0, |log| log + 1);
        let empty = (0..=span >> shift).map(|place| {
            let least = first + (place << shift);
            let most = least.saturating_add((1 << shift) - 1).min(*keys.end());
            let nothing = [u64::MAX, 0];
            Column { keys: [least, most], running: [u32::MAX, 0], heights: nothing, lowest: 0 }
        });
        let mut columns = Columns { key, height, first, shift, list: empty.collect() };
        for (place, load) in loads.iter().enumerate() {
            let height = (columns.height)(load);
            let at = columns.at(load);
            let column = &mut columns.list[at];
            if height < column.heights[0] {
                (column.heights[0], column.lowest) = (height, place);
            }
            column.heights[1] = column.heights[1].max(height);
            column.running[0] = column.running[0].min(load.running);
            column.running[1] = column.running[1].max(load.running);
        }
        columns
    }

    fn at(&self, load: &WorkerLoad) -> usize {
        (((self.key)(load) - self.first) >> self.shift) as usize
    }

    /// The columns with workers.
    pub(super) fn occupied(&self) -> impl Iterator<Item = &Column> {
        self.list.iter().filter(|column| column.heights[0] <= column.heights[1])
    }

    /// What is known of a rule that is broken by all workers of a column at and above a height if it `is_broken` there.
    pub(super) fn bounds(&self, is_broken: impl Fn(&Column, u64) -> bool) -> Bounds<'_, K, H> {
        let known = |column: &Column| column.known(|height| is_broken(column, height));
        Bounds { columns: self, known: self.list.iter().map(known).collect() }
    }
}

impl Column {
    fn known(&self, is_broken: impl Fn(u64) -> bool) -> Known {
        let [mut kept, mut broken] = self.heights;
        if kept > broken || is_broken(kept) {
            return Known { kept_below: 0, broken_from: 0 };
        }
        if !is_broken(broken) {
            return Known { kept_below: u64::MAX, broken_from: u64::MAX };
        }
        for _ in 0..HALVINGS {
            let middle = u64::midpoint(kept, broken);
            if is_broken(middle) {
                broken = middle;
            } else {
                kept = middle;
            }
        }
        Known { kept_below: kept + 1, broken_from: broken }
    }
}

impl<K, H> Bounds<'_, K, H>
where
    K: Fn(&WorkerLoad) -> u64,
    H: Fn(&WorkerLoad) -> u64,
{
    /// Whether a worker breaks the rule, if the rule was asked at corners with no more than any worker of the column has.
    pub(super) fn breaks(&self, load: &WorkerLoad) -> bool {
        (self.columns.height)(load) >= self.known[self.columns.at(load)].broken_from
    }

    /// Whether a worker keeps the rule, if the rule was asked at corners with no less than any worker of the column has.
    pub(super) fn keeps(&self, load: &WorkerLoad) -> bool {
        (self.columns.height)(load) < self.known[self.columns.at(load)].kept_below
    }
}
