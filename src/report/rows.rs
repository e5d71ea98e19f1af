//! `requests.csv`: one line per request, in order of arrival. The first nine columns are those of the reference cases.

use std::collections::VecDeque;
use std::io::{self, Write};

use crate::kernel::rng::mix64;
use crate::kernel::{Span, Time};
use crate::model::metrics::Row;

const HEADER: &str = "trace_line,arrival_ms,input_tokens,output_tokens,worker,reused_tokens,ttft_ms,\
                      itl_mean_ms,e2e_ms,request,status,preemptions,first_reused_tokens,queue_ms,ttst_ms";

/// Writes rows in order of arrival although they come in order of completion; what waits is about what is in flight.
///
/// Numbers need no quoting, so the lines are put together here: at a million rows per second, a general CSV writer would
/// take longer than the simulation.
#[derive(Debug)]
pub struct RowWriter<W> {
    out: W,
    /// The share of rows written, as a bound on the hash of their numbers.
    bound: u64,
    /// The number of the next row to write, and what is known of it and its followers.
    next: u64,
    waiting: VecDeque<Option<Row>>,
    line: Vec<u8>,
}

impl<W: Write> RowWriter<W> {
    /// Writes the header; later the given share of rows, from 0 to 1, chosen by a hash of their numbers.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn new(mut out: W, share: f64) -> io::Result<RowWriter<W>> {
        writeln!(out, "{HEADER}")?;
        let bound = if share >= 1.0 { u64::MAX } else { (share * 2f64.powi(64)) as u64 };
        Ok(RowWriter { out, bound, next: 0, waiting: VecDeque::new(), line: Vec::new() })
    }

    /// Takes a row in.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn add(&mut self, row: &Row) -> io::Result<()> {
        if row.id.0 == self.next {
            self.write(row)?;
            self.next += 1;
            self.waiting.pop_front();
            while let Some(Some(row)) = self.waiting.front_mut().map(Option::take) {
                self.write(&row)?;
                self.next += 1;
                self.waiting.pop_front();
            }
            return Ok(());
        }
        let index = (row.id.0 - self.next) as usize;
        if index >= self.waiting.len() {
            self.waiting.resize_with(index + 1, || None);
        }
        self.waiting[index] = Some(row.clone());
        Ok(())
    }

    /// Flushes what was written.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn write(&mut self, row: &Row) -> io::Result<()> {
        if self.bound < u64::MAX && mix64(row.id.0) >= self.bound {
            return Ok(());
        }
        let mut line = Line { bytes: &mut self.line, number: itoa::Buffer::new() };
        line.bytes.clear();
        line.integer(row.trace_line);
        line.ms(Some(row.arrival.since(Time::ZERO)));
        line.integer(u64::from(row.prompt_tokens));
        line.integer(u64::from(row.output_tokens));
        line.integer(u64::from(row.worker.0));
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
        if let Some(last) = line.bytes.last_mut() {
            *last = b'\n';
        }
        self.out.write_all(&self.line)
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
mod tests {
    use super::*;
    use crate::model::metrics::Status;
    use crate::model::request::{RequestId, WorkerId};

    fn row(id: u64) -> Row {
        let at = |ns| Some(Time::from_ns(ns));
        Row {
            id: RequestId(id),
            trace_line: id + 100,
            arrival: Time::from_ns(3_000_000_000),
            prompt_tokens: 10,
            output_tokens: 3,
            worker: WorkerId(2),
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

    fn written(ids: &[u64], share: f64) -> Vec<String> {
        let mut out = Vec::new();
        let mut writer = RowWriter::new(&mut out, share).unwrap();
        for &id in ids {
            writer.add(&row(id)).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(out).unwrap().lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn a_line_is_exact() {
        let expected = "100,3000,10,3,2,8,1.0005,1,3.0005,0,completed,1,4,0,";
        assert_eq!(written(&[0], 1.0), [expected]);
    }

    #[test]
    fn rows_are_sorted_by_arrival() {
        let lines = written(&[3, 1, 2, 0, 5, 4], 1.0);
        let first: Vec<&str> = lines.iter().map(|line| &line[..3]).collect();
        assert_eq!(first, ["100", "101", "102", "103", "104", "105"]);
    }

    #[test]
    fn a_share_is_a_sample_of_the_whole() {
        let ids: Vec<u64> = (0..10_000).collect();
        let (all, sample) = (written(&ids, 1.0), written(&ids, 0.1));
        assert!((800..1200).contains(&sample.len()));
        assert!(sample.iter().all(|line| all.contains(line)));
    }
}
