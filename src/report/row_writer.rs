//! `requests.csv`, in order of arrival although rows come in order of completion and from several threads.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::Range;

use crossbeam::queue::ArrayQueue;
use parking_lot::{Mutex, MutexGuard};
use slab::Slab;

use crate::model::metrics::Row;
use crate::report::rows::{RowFormat, RowLines};

/// How many batches of lines may wait for the thread that writes.
const QUEUE_MAX: usize = 64;

/// Writes rows in order of arrival; what waits is about what is in flight.
///
/// A thread formats its rows by itself, queues the lines, and writes what is queued if nobody else is writing. So no
/// thread waits for another, unless the queue is full: then the writer is slower than the simulation.
#[derive(Debug)]
pub struct RowWriter<W> {
    format: RowFormat,
    queue: ArrayQueue<RowLines>,
    /// Buffers to use again.
    spare: ArrayQueue<RowLines>,
    sorter: Mutex<Sorter<W>>,
}

impl<W: Write> RowWriter<W> {
    /// Writes the header; later the given share of rows, from 0 to 1, chosen by a hash of their numbers. If there are
    /// classes, with these names, a column says which.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn new(mut out: W, share: f64, classes: Vec<String>) -> io::Result<RowWriter<W>> {
        let format = RowFormat::new(share, classes);
        out.write_all(format.header().as_bytes())?;
        Ok(RowWriter {
            format,
            queue: ArrayQueue::new(QUEUE_MAX),
            spare: ArrayQueue::new(QUEUE_MAX),
            sorter: Mutex::new(Sorter::new(out)),
        })
    }

    /// Takes rows in, from any thread.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn add(&self, rows: &[Row]) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut lines = self.spare.pop().unwrap_or_default();
        self.format.format(rows, &mut lines);
        match self.queue.push(lines) {
            Ok(()) => match self.sorter.try_lock() {
                Some(sorter) => self.write_queued(sorter),
                // Whoever writes comes across the lines, or else the next thread, or the end.
                None => Ok(()),
            },
            Err(lines) => {
                let mut sorter = self.sorter.lock();
                sorter.add(lines, &self.spare)?;
                self.write_queued(sorter)
            }
        }
    }

    fn write_queued(&self, mut sorter: MutexGuard<'_, Sorter<W>>) -> io::Result<()> {
        while let Some(lines) = self.queue.pop() {
            sorter.add(lines, &self.spare)?;
        }
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn finish(self) -> io::Result<()> {
        self.write_queued(self.sorter.lock())?;
        self.sorter.into_inner().out.flush()
    }
}

/// Puts lines in order.
#[derive(Debug)]
struct Sorter<W> {
    out: W,
    /// The number of the next line to write, and where it and its followers are, as far as they are known.
    next: u64,
    waiting: VecDeque<Option<Place>>,
    batches: Slab<Batch>,
}

/// Where a line is.
#[derive(Clone, Copy, Debug)]
struct Place {
    batch: u32,
    line: u32,
}

#[derive(Debug)]
struct Batch {
    lines: RowLines,
    /// How many of them have not been written.
    unwritten: usize,
}

impl<W: Write> Sorter<W> {
    fn new(out: W) -> Sorter<W> {
        Sorter { out, next: 0, waiting: VecDeque::new(), batches: Slab::new() }
    }

    /// Writes what can be written now; a buffer goes to `spare` once all its lines are written.
    fn add(&mut self, lines: RowLines, spare: &ArrayQueue<RowLines>) -> io::Result<()> {
        let count = lines.len();
        let batch = self.batches.insert(Batch { lines, unwritten: count });
        let mut line = 0;
        while line < count {
            let lines = &self.batches[batch].lines;
            let number = lines.number(line);
            if number == self.next {
                // Lines that follow one another are written in one go.
                let run = (line..count).take_while(|&line| {
                    let follows = lines.number(line) == self.next;
                    self.next += u64::from(follows);
                    follows
                });
                let end = line + run.count();
                self.waiting.drain(..(end - line).min(self.waiting.len()));
                self.write(batch, line..end, spare)?;
                self.write_waiting(spare)?;
                line = end;
            } else {
                let index = (number - self.next) as usize;
                if index >= self.waiting.len() {
                    self.waiting.resize(index + 1, None);
                }
                self.waiting[index] = Some(Place { batch: batch as u32, line: line as u32 });
                line += 1;
            }
        }
        Ok(())
    }

    /// Writes the lines that have waited for the last one.
    fn write_waiting(&mut self, spare: &ArrayQueue<RowLines>) -> io::Result<()> {
        while let Some(&Some(Place { batch, line })) = self.waiting.front() {
            self.waiting.pop_front();
            self.next += 1;
            let line = line as usize;
            self.write(batch as usize, line..line + 1, spare)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        index: usize,
        lines: Range<usize>,
        spare: &ArrayQueue<RowLines>,
    ) -> io::Result<()> {
        let batch = &mut self.batches[index];
        batch.unwritten -= lines.len();
        self.out.write_all(batch.lines.text(lines))?;
        if batch.unwritten == 0 {
            // One too many is let go.
            let _ = spare.push(self.batches.remove(index).lines);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use rand::RngExt;
    use rand::seq::SliceRandom;

    use super::*;
    use crate::kernel::rng::stream;
    use crate::report::rows::HEADER;
    use crate::report::rows::tests::row;

    fn lines(out: Vec<u8>) -> Vec<String> {
        String::from_utf8(out).unwrap().lines().skip(1).map(str::to_owned).collect()
    }

    fn written(ids: &[u64], batch: usize, share: f64) -> Vec<String> {
        let mut out = Vec::new();
        let writer = RowWriter::new(&mut out, share, Vec::new()).unwrap();
        for ids in ids.chunks(batch) {
            let rows: Vec<Row> = ids.iter().copied().map(row).collect();
            writer.add(&rows).unwrap();
        }
        assert!(writer.sorter.lock().batches.is_empty(), "buffers are given back");
        writer.finish().unwrap();
        lines(out)
    }

    /// The trace lines that lines begin with.
    fn are(lines: &[String], expected: RangeInclusive<u64>) -> bool {
        let first =
            lines.iter().map(|line| line.split(',').next().unwrap().parse::<u64>().unwrap());
        first.eq(expected)
    }

    #[test]
    fn rows_are_sorted_by_arrival() {
        for batch in 1..=6 {
            assert!(are(&written(&[3, 1, 2, 0, 5, 4], batch, 1.0), 100..=105));
            assert!(are(&written(&[0, 1, 2, 3, 4, 5], batch, 1.0), 100..=105));
        }
    }

    #[test]
    fn a_share_is_a_sample_of_the_whole() {
        let ids: Vec<u64> = (0..10_000).collect();
        let (all, sample) = (written(&ids, 100, 1.0), written(&ids, 100, 0.1));
        assert!((800..1200).contains(&sample.len()));
        assert!(sample.iter().all(|line| all.contains(line)));
    }

    #[test]
    fn threads_write_together_what_one_writes() {
        let mut rng = stream(5, 0);
        for threads in 1..=4 {
            let mut ids: Vec<u64> = (0..20_000).collect();
            ids.chunks_mut(500).for_each(|part| part.shuffle(&mut rng));
            let mut batches: Vec<Vec<&[u64]>> = vec![Vec::new(); threads];
            for batch in ids.chunks(30) {
                batches[rng.random_range(0..threads)].push(batch);
            }
            let mut out = Vec::new();
            let writer = RowWriter::new(&mut out, 1.0, Vec::new()).unwrap();
            std::thread::scope(|scope| {
                for batches in &batches {
                    let writer = &writer;
                    scope.spawn(move || {
                        for ids in batches {
                            let rows: Vec<Row> = ids.iter().copied().map(row).collect();
                            writer.add(&rows).unwrap();
                        }
                    });
                }
            });
            writer.finish().unwrap();
            assert!(are(&lines(out), 100..=20_099));
        }
    }

    #[test]
    fn nobody_waits_until_the_queue_is_full() {
        let mut out = Vec::new();
        let writer = RowWriter::new(&mut out, 1.0, Vec::new()).unwrap();
        let busy = writer.sorter.lock();
        for id in 0..QUEUE_MAX as u64 {
            writer.add(&[row(id)]).unwrap();
        }
        assert!(writer.queue.is_full());
        std::thread::scope(|scope| {
            scope.spawn(|| writer.add(&[row(QUEUE_MAX as u64)]).unwrap());
            drop(busy);
        });
        assert!(writer.queue.is_empty());
        writer.finish().unwrap();
        assert!(are(&lines(out), 100..=100 + QUEUE_MAX as u64));
    }

    /// Has room for the header only.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_error_reaches_who_adds_or_who_finishes() {
        let new = || RowWriter::new(Full(HEADER.len() + 1), 1.0, Vec::new()).unwrap();
        let writer = new();
        writer.add(&[row(1)]).unwrap();
        assert_eq!(writer.add(&[row(0)]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        let writer = new();
        let busy = writer.sorter.lock();
        writer.add(&[row(0)]).unwrap();
        drop(busy);
        assert_eq!(writer.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
