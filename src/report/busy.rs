//! What the threads of a run spent their time on: a table, and JSON.

use comfy_table::Table;
use serde_json::{Value, json};

use crate::kernel::Occupancy;
use crate::report::number::{decimal, percent};
use crate::report::table::table;

/// What the threads of one run spent their time on. All but the last are shares of the time of all threads, from 0 to 1,
/// and add up to 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Busy {
    /// The coordinator.
    pub coordinator: f64,
    /// The workers.
    pub workers: f64,
    /// Reading ahead.
    pub reading: f64,
    /// Between phases.
    pub leading: f64,
    /// Nothing.
    pub waiting: f64,
    /// All work, in multiples of what it takes on one thread: what is in the caches of another core comes late.
    pub work_ratio: f64,
}

impl Busy {
    /// The shares, and the work in multiples of `work` ns.
    pub fn new(occupancy: &Occupancy, work: f64) -> Busy {
        let Occupancy { threads, length, hub, spokes, errands, leading } = *occupancy;
        let share = |ns: f64| ns / (threads as f64 * length);
        Busy {
            coordinator: share(hub),
            workers: share(spokes),
            reading: share(errands),
            leading: share(leading),
            waiting: share(occupancy.waiting()),
            work_ratio: (hub + spokes + errands) / work,
        }
    }

    /// The shares by name.
    fn shares(&self) -> [(&'static str, f64); 5] {
        [
            ("coordinator", self.coordinator),
            ("workers", self.workers),
            ("reading", self.reading),
            ("leading", self.leading),
            ("waiting", self.waiting),
        ]
    }

    /// The figures as one object.
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "work_ratio": self.work_ratio });
        for (name, share) in self.shares() {
            object[format!("{name}_share")] = Value::from(share);
        }
        object
    }
}

/// A row for each number of threads.
pub(super) fn busy_table(rows: impl Iterator<Item = (usize, Busy)>) -> Table {
    let mut table = table(&[
        "threads",
        "coordinator",
        "workers",
        "reading ahead",
        "between phases",
        "waiting",
        "work / on 1 thread",
    ]);
    for (threads, busy) in rows {
        let shares = busy.shares().map(|(_, share)| percent(share));
        let ratio = decimal(busy.work_ratio);
        table.add_row([threads.to_string()].into_iter().chain(shares).chain([ratio]));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let occupancy = Occupancy {
            threads: 4,
            length: 100.0,
            hub: 80.0,
            spokes: 200.0,
            errands: 20.0,
            leading: 10.0,
        };
        let busy = Busy::new(&occupancy, 200.0);
        assert_eq!((busy.coordinator, busy.workers, busy.work_ratio), (0.2, 0.5, 1.5));
        let sum: f64 = busy.shares().iter().map(|(_, share)| share).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{busy:?}");
        assert!((busy.waiting - 0.225).abs() < 1e-12);
        let text = busy_table([(4, busy)].into_iter()).to_string();
        for expected in ["20.0 %", "50.0 %", "5.0 %", "2.5 %", "22.5 %", "1.50"] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
        assert_eq!(busy.to_json()["waiting_share"], busy.waiting);
    }
}
