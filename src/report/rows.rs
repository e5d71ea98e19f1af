//! Lines of `requests.csv`: one per request. The first nine columns are those of the reference cases.
//!
//! Numbers, words and names of classes need no quoting, so the lines are put together here: at a million rows per second,
//! a general CSV writer would take longer than the simulation.

use std::ops::Range;

use crate::kernel::rng::mix64;
use crate::kernel::{Span, Time};
use crate::model::metrics::Row;

/// The names of the columns.
pub(super) const HEADER: &str = "trace_line,arrival_ms,input_tokens,output_tokens,worker,reused_tokens,ttft_ms,\
                      itl_mean_ms,e2e_ms,request,status,preemptions,first_reused_tokens,queue_ms,ttst_ms";

/// Which rows are written, and how. Any thread may format rows.
#[derive(Clone, Debug)]
pub(super) struct RowFormat {
    /// The share of rows written, as a bound on the hash of their numbers.
    bound: u64,
    /// The classes, if there are any: they have a column then.
    classes: Vec<String>,
}

impl RowFormat {
    /// Writes the given share of rows, from 0 to 1, chosen by a hash of their numbers.
    pub(super) fn new(share: f64, classes: Vec<String>) -> RowFormat {
        let bound = if share >= 1.0 { u64::MAX } else { (share * 2f64.powi(64)) as u64 };
        RowFormat { bound, classes }
    }

    /// The line above all others.
    pub(super) fn header(&self) -> String {
        let class = if self.classes.is_empty() { "" } else { ",class" };
        format!("{HEADER}{class}\n")
    }

    /// Puts the lines of `rows` in place of those in `lines`.
    pub(super) fn format(&self, rows: &[Row], lines: &mut RowLines) {
        lines.bytes.clear();
        lines.ends.clear();
        for row in rows {
            if self.bound == u64::MAX || mix64(row.id.0) < self.bound {
                let class = self.classes.get(row.class.index());
                format_row(row, class.map(String::as_str), &mut lines.bytes);
            }
            lines.ends.push((row.id.0, lines.bytes.len()));
        }
    }
}

/// The lines of some rows, in the order of the rows.
#[derive(Default, Debug)]
pub(super) struct RowLines {
    bytes: Vec<u8>,
    /// For each row, the number of its request and where its line ends. The line of a row that is not written is empty.
    ends: Vec<(u64, usize)>,
}

impl RowLines {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of the request of a line.
    pub(super) fn number(&self, line: usize) -> u64 {
        self.ends[line].0
    }

    /// These lines, each with its end of line.
    pub(super) fn text(&self, lines: Range<usize>) -> &[u8] {
        let position = |line: usize| line.checked_sub(1).map_or(0, |before| self.ends[before].1);
        &self.bytes[position(lines.start)..position(lines.end)]
    }
}

fn format_row(row: &Row, class: Option<&str>, bytes: &mut Vec<u8>) {
    let mut line = Line { bytes, number: itoa::Buffer::new() };
    line.integer(row.trace_line);
    line.ms(Some(row.arrival.since(Time::ZERO)));
    line.integer(u64::from(row.prompt_tokens));
    line.integer(u64::from(row.output_tokens));
    line.optional(row.worker.map(|worker| u64::from(worker.0)));
    line.integer(u64::from(row.reused_tokens));
    line.ms(row.ttft());
    line.ms(row.tpot());
    line.ms(Some(row.e2e()));
    line.integer(row.id.0);
    line.text(row.status.word());
    line.integer(u64::from(row.preemptions));
    line.integer(u64::from(row.first_reused_tokens));
    line.ms(row.admitted.map(|admitted| admitted.since(row.arrival)));
    line.ms(row.ttst());
    if let Some(class) = class {
        line.text(class);
    }
    if let Some(last) = line.bytes.last_mut() {
        *last = b'\n';
    }
}

struct Line<'a> {
    bytes: &'a mut Vec<u8>,
    number: itoa::Buffer,
}

impl Line<'_> {
    fn integer(&mut self, value: u64) {
        self.bytes.extend_from_slice(self.number.format(value).as_bytes());
        self.bytes.push(b',');
    }

    /// A number; nothing for an absent one.
    fn optional(&mut self, value: Option<u64>) {
        match value {
            Some(value) => self.integer(value),
            None => self.bytes.push(b','),
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(b',');
    }

    /// Milliseconds to the nanosecond, without zeros at the end; nothing for an absent time.
    fn ms(&mut self, time: Option<Span>) {
        if let Some(time) = time {
            const NS: u64 = 1_000_000;
            let (ms, fraction) = (time.as_ns() / NS, time.as_ns() % NS);
            self.bytes.extend_from_slice(self.number.format(ms).as_bytes());
            if fraction > 0 {
                // The digit in front keeps the zeros after the point.
                let digits = &self.number.format(NS + fraction).as_bytes()[1..];
                let zeros = digits.iter().rev().take_while(|&&digit| digit == b'0').count();
                self.bytes.push(b'.');
                self.bytes.extend_from_slice(&digits[..6 - zeros]);
            }
        }
        self.bytes.push(b',');
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::class::ClassId;
    use crate::model::metrics::Status;
    use crate::model::request::{RequestId, WorkerId};

    pub(in crate::report) fn row(id: u64) -> Row {
        let at = |ns| Some(Time::from_ns(ns));
        Row {
            id: RequestId(id),
            class: ClassId::default(),
            trace_line: id + 100,
            arrival: Time::from_ns(3_000_000_000),
            prompt_tokens: 10,
            output_tokens: 3,
            worker: Some(WorkerId(2)),
            status: Status::Completed,
            reused_tokens: 8,
            first_reused_tokens: 4,
            admitted: at(3_000_000_000),
            first_token: at(3_001_000_500),
            second_token: None,
            end: Time::from_ns(3_003_000_500),
            preemptions: 1,
            running_ns: 0,
        }
    }

    #[test]
    fn a_line_is_exact() {
        let mut lines = RowLines::default();
        RowFormat::new(1.0, Vec::new()).format(&[row(0), row(0)], &mut lines);
        let expected = "100,3000,10,3,2,8,1.0005,1,3.0005,0,completed,1,4,0,\n";
        assert_eq!(lines.text(0..1), expected.as_bytes());
        assert_eq!(lines.text(0..2), expected.repeat(2).as_bytes());
        let nobody = Row { worker: None, status: Status::QueueFull, ..row(1) };
        RowFormat::new(1.0, Vec::new()).format(&[nobody], &mut lines);
        let expected = "101,3000,10,3,,8,1.0005,1,3.0005,1,queue_full,1,4,0,\n";
        assert_eq!(lines.text(0..1), expected.as_bytes());
        let format = RowFormat::new(1.0, vec!["gold".to_owned(), "rest".to_owned()]);
        assert!(format.header().ends_with(",ttst_ms,class\n"));
        format.format(&[Row { class: ClassId(1), ..row(0) }], &mut lines);
        let expected = "100,3000,10,3,2,8,1.0005,1,3.0005,0,completed,1,4,0,,rest\n";
        assert_eq!(lines.text(0..1), expected.as_bytes());
    }
}
