//! A hash over all rows of a run.

use xxhash_rust::xxh3::xxh3_128;

use crate::kernel::time::Time;
use crate::model::metrics::Row;

/// The sum, modulo 2^128, of the XXH3 hashes of the rows: rows may be added in any order.
///
/// Every field of a row enters as 64 bits, little endian; an absent time or worker as all ones. The layout is part of the format:
/// equal digests mean equal rows, also across versions that say so.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RowDigest(u128);

impl RowDigest {
    /// Adds a row.
    pub fn add(&mut self, row: &Row) {
        let time = |time: Option<Time>| time.map_or(u64::MAX, Time::as_ns);
        let fields = [
            row.id.0,
            row.trace_line,
            row.arrival.as_ns(),
            u64::from(row.prompt_tokens),
            u64::from(row.output_tokens),
            row.worker.map_or(u64::MAX, |worker| u64::from(worker.0)),
            row.status as u64,
            u64::from(row.reused_tokens),
            u64::from(row.first_reused_tokens),
            time(row.admitted),
            time(row.first_token),
            time(row.second_token),
            row.end.as_ns(),
            u64::from(row.preemptions),
        ];
        let mut bytes = [0; 8 * 14];
        for (chunk, field) in bytes.chunks_exact_mut(8).zip(fields) {
            chunk.copy_from_slice(&field.to_le_bytes());
        }
        self.0 = self.0.wrapping_add(xxh3_128(&bytes));
    }

    /// Adds the rows of another digest.
    pub fn merge(&mut self, other: RowDigest) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// The hash.
    pub fn value(self) -> u128 {
        self.0
    }
}
