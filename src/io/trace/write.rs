//! Requests written as Mooncake's JSONL.
//!
//! A file is written under a temporary name beside its own, `.NAME.partial`, and gets its own only when it is complete:
//! nobody finds half a trace.
//!
//! Chain hashes become small ids in order of their first appearance, and so do sessions. Equal prefixes of whole blocks
//! stay equal. Tokens past [`Prompt::shared_tokens`] get ids of their own, and so does a block that is shared only in
//! part, since one id cannot say so. Memory grows with the blocks and sessions that differ: some 20 bytes each.
//!
//! [`Prompt::shared_tokens`]: crate::model::request::Prompt::shared_tokens

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustc_hash::FxHashMap;

use crate::io::trace::error::{Problem, TraceError};
use crate::kernel::Time;
use crate::model::request::Request;

/// Writes a trace, request by request. What is written is complete only after [`TraceWriter::finish`].
pub struct TraceWriter {
    output: Output,
    /// Where the file is and will be, for one made by [`TraceWriter::create`].
    file: Option<PartialFile>,
    block_size: u32,
    ids: FxHashMap<u64, u64>,
    next_id: u64,
    sessions: FxHashMap<u64, usize>,
    line: Vec<u8>,
}

impl TraceWriter {
    /// Writes to anything, one line at a time: give it something with a buffer. `block_size`: tokens per id, as in the
    /// chains of the requests.
    ///
    /// # Panics
    /// If `block_size` is 0.
    pub fn new(output: Box<dyn Write>, block_size: u32) -> TraceWriter {
        TraceWriter::with_output(Output::Plain(output), None, block_size)
    }

    /// Writes to a file, packed if its name ends in `.gz` or `.zst`. A file that exists already is replaced only if
    /// `force` is set, and by [`TraceWriter::finish`] only. One that is dropped before leaves nothing behind.
    ///
    /// # Errors
    /// If the file exists, or cannot be made.
    ///
    /// # Panics
    /// If `block_size` is 0.
    pub fn create(path: &Path, block_size: u32, force: bool) -> Result<TraceWriter, TraceError> {
        let name = path.file_name().filter(|_| !path.is_dir());
        let name = name.ok_or_else(|| Problem::Directory.at(path))?.to_string_lossy();
        if !force && path.exists() {
            return Err(Problem::Exists.at(path));
        }
        let cannot = |error| Problem::Write(error).at(path);
        let temporary = path.with_file_name(format!(".{name}.partial"));
        let file = BufWriter::new(File::create(&temporary).map_err(cannot)?);
        let partial = PartialFile { temporary, path: path.to_owned() };
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let output = if extension == "gz" {
            Output::Gz(GzEncoder::new(file, Compression::default()))
        } else if extension == "zst" {
            Output::Zst(zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(cannot)?)
        } else {
            Output::Plain(Box::new(file))
        };
        Ok(TraceWriter::with_output(output, Some(partial), block_size))
    }

    fn with_output(output: Output, file: Option<PartialFile>, block_size: u32) -> TraceWriter {
        assert!(block_size > 0, "a block has at least one token");
        TraceWriter {
            output,
            file,
            block_size,
            ids: FxHashMap::default(),
            next_id: 0,
            sessions: FxHashMap::default(),
            line: Vec::new(),
        }
    }

    /// Writes a request.
    ///
    /// # Errors
    /// If the disk is full or the reader of a pipe is gone.
    pub fn write(&mut self, request: &Request) -> Result<(), TraceError> {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        let written = self.push_line(&mut line, request).and_then(|()| match &mut self.output {
            Output::Plain(output) => output.write_all(&line),
            Output::Gz(output) => output.write_all(&line),
            Output::Zst(output) => output.write_all(&line),
        });
        self.line = line;
        written.map_err(|error| self.cannot(error))
    }

    /// Writes what is left and gives the file its name.
    ///
    /// # Errors
    /// If the disk is full or the reader of a pipe is gone.
    pub fn finish(self) -> Result<(), TraceError> {
        let flushed = match self.output {
            Output::Plain(mut output) => output.flush(),
            Output::Gz(output) => output.finish().and_then(|mut file| file.flush()),
            Output::Zst(output) => output.finish().and_then(|mut file| file.flush()),
        };
        match self.file {
            Some(file) => {
                let renamed = flushed.and_then(|()| std::fs::rename(&file.temporary, &file.path));
                renamed.map_err(|error| Problem::Write(error).at(&file.path))
            }
            None => flushed.map_err(|error| Problem::Write(error).at(Path::new(UNNAMED))),
        }
    }

    fn push_line(&mut self, line: &mut Vec<u8>, request: &Request) -> io::Result<()> {
        let prompt = &request.prompt;
        line.extend_from_slice(b"{\"timestamp\": ");
        push_ms(line, request.arrival)?;
        write!(line, ", \"input_length\": {}", prompt.tokens)?;
        write!(line, ", \"output_length\": {}, \"hash_ids\": [", request.output_tokens)?;
        let blocks = prompt.tokens.div_ceil(self.block_size);
        let named = if prompt.shared_tokens >= prompt.tokens {
            blocks
        } else {
            prompt.shared_tokens / self.block_size
        };
        for block in 0..blocks {
            let shared = prompt.chain.get(block as usize).filter(|_| block < named);
            let id = match shared {
                Some(&hash) => *self.ids.entry(hash).or_insert_with(|| take_id(&mut self.next_id)),
                None => take_id(&mut self.next_id),
            };
            let separator = if block == 0 { "" } else { ", " };
            write!(line, "{separator}{id}")?;
        }
        line.push(b']');
        if let Some(session) = request.session {
            let next = self.sessions.len();
            let session = *self.sessions.entry(session).or_insert(next);
            write!(line, ", \"session_id\": {session}")?;
        }
        if request.strict_priority != 0 {
            write!(line, ", \"strict_priority\": {}", request.strict_priority)?;
        }
        if request.priority_jump != 0.0 && request.priority_jump.is_finite() {
            write!(line, ", \"priority\": {}", request.priority_jump)?;
        }
        line.extend_from_slice(b"}\n");
        Ok(())
    }

    fn cannot(&self, error: io::Error) -> TraceError {
        let path = self.file.as_ref().map_or(Path::new(UNNAMED), |file| &file.path);
        Problem::Write(error).at(path)
    }
}

/// What messages call an output that is not a file.
const UNNAMED: &str = "the trace";

fn take_id(next: &mut u64) -> u64 {
    let id = *next;
    *next += 1;
    id
}

/// Milliseconds, with as many decimals as it takes, at most six. They survive a float for 26 days.
fn push_ms(line: &mut Vec<u8>, time: Time) -> io::Result<()> {
    let (ms, ns) = (time.as_ns() / 1_000_000, time.as_ns() % 1_000_000);
    if ns == 0 {
        return write!(line, "{ms}");
    }
    write!(line, "{}", format!("{ms}.{ns:06}").trim_end_matches('0'))
}

enum Output {
    Plain(Box<dyn Write>),
    Gz(GzEncoder<BufWriter<File>>),
    Zst(zstd::Encoder<'static, BufWriter<File>>),
}

/// A file that is being written. Removed when dropped, which does nothing once it has its own name.
struct PartialFile {
    temporary: PathBuf,
    path: PathBuf,
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // It may have been renamed, and there is nobody to tell of anything else.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::trace::{Format, TraceOptions, TraceReader};
    use crate::kernel::rng::stream;
    use crate::model::class::ClassId;
    use crate::model::request::{Prompt, RequestId, Ticket};
    use rand::RngExt;

    const BLOCK: u32 = 16;

    fn request(line: u64, ns: u64, prompt: Prompt, session: Option<u64>) -> Request {
        Request {
            id: RequestId(line),
            ticket: Ticket::default(),
            trace_line: line,
            arrival: Time::from_ns(ns),
            prompt,
            output_tokens: line as u32 * 3,
            session,
            class: ClassId::default(),
            strict_priority: (line % 3) as i32,
            priority_jump: (line % 2) as f64 / 4.0,
        }
    }

    fn random_requests() -> Vec<Request> {
        let mut rng = stream(5, 0);
        let mut ns = 0;
        let requests = (0..100).map(|line| {
            let tokens: u32 = rng.random_range(1..200);
            let ids: Vec<u64> =
                (0..tokens.div_ceil(BLOCK)).map(|_| rng.random_range(0..2)).collect();
            let mut prompt = Prompt::named(tokens, ids.into_iter(), 0);
            if line % 4 == 0 {
                prompt.shared_tokens = rng.random_range(0..=tokens);
                let named = prompt.shared_tokens.div_ceil(BLOCK) as usize;
                prompt.chain = prompt.chain[..named].into();
            }
            let session = rng.random_range(0..9_u64);
            let request = request(line, ns, prompt, (session > 2).then(|| u64::MAX / session));
            ns += rng.random_range(0..3) * rng.random_range(0..7_000_000_000_u64);
            request
        });
        requests.collect()
    }

    /// Whole blocks that two prompts share.
    fn common(a: &Prompt, b: &Prompt) -> usize {
        let whole = |p: &Prompt| {
            let named = p.shared_tokens >= p.tokens;
            if named { p.chain.len() } else { (p.shared_tokens / BLOCK) as usize }
        };
        let blocks = whole(a).min(whole(b));
        (0..blocks).take_while(|&block| a.chain[block] == b.chain[block]).count()
    }

    fn read(path: &Path) -> Vec<Request> {
        let format = Format::Mooncake;
        let options = TraceOptions { format, block_size: BLOCK, skip_bad_lines: false };
        let mut reader = TraceReader::open(path, options).unwrap();
        std::iter::from_fn(|| reader.read().unwrap()).collect()
    }

    #[test]
    fn what_is_written_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let requests = random_requests();
        for name in ["x.jsonl", "x.jsonl.gz", "x.jsonl.zst"] {
            let path = folder.path().join(name);
            let mut writer = TraceWriter::create(&path, BLOCK, false).unwrap();
            for request in &requests {
                writer.write(request).unwrap();
            }
            assert!(!path.exists(), "not before it is complete");
            writer.finish().unwrap();
            let back = read(&path);
            assert_eq!(back.len(), requests.len());
            for (a, x) in requests.iter().zip(&back) {
                let facts = |r: &Request| {
                    (
                        r.arrival,
                        r.prompt.tokens,
                        r.output_tokens,
                        r.strict_priority,
                        r.priority_jump,
                    )
                };
                assert_eq!(facts(a), facts(x));
                assert_eq!(a.session.is_some(), x.session.is_some());
                for (b, y) in requests.iter().zip(&back) {
                    if a.id != b.id {
                        assert_eq!(common(&a.prompt, &b.prompt), common(&x.prompt, &y.prompt));
                    }
                    assert_eq!(a.session == b.session, x.session == y.session);
                }
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "no partial files");
    }

    #[test]
    fn lines_look_like_mooncakes() {
        let mut writer = TraceWriter::new(Box::new(io::sink()), BLOCK);
        let mut line = Vec::new();
        let prompt = Prompt::named(40, [7, 9, 9].into_iter(), 0);
        for (ns, prompt) in [(0, prompt.clone()), (1_500_000, prompt), (2, Prompt::unique(17))] {
            writer.push_line(&mut line, &request(0, ns, prompt, Some(77))).unwrap();
        }
        let expected = "\
{\"timestamp\": 0, \"input_length\": 40, \"output_length\": 0, \"hash_ids\": [0, 1, 2], \"session_id\": 0}
{\"timestamp\": 1.5, \"input_length\": 40, \"output_length\": 0, \"hash_ids\": [0, 1, 2], \"session_id\": 0}
{\"timestamp\": 0.000002, \"input_length\": 17, \"output_length\": 0, \"hash_ids\": [3, 4], \"session_id\": 0}
";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn files_are_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl.gz");
        let mut writer = TraceWriter::create(&path, BLOCK, false).unwrap();
        writer.write(&random_requests()[0]).unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "dropped unfinished");

        std::fs::write(&path, "old").unwrap();
        let message = |path: &Path, force| match TraceWriter::create(path, BLOCK, force) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let exists = "exists already, and is overwritten only if forced";
        assert_eq!(message(&path, false), format!("{}: {exists}", path.display()));
        assert_eq!(message(&path, true), "");
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "replaced by finish only");
        let directory = format!("{}: is a directory, not a trace", folder.path().display());
        assert_eq!(message(folder.path(), true), directory);
        assert!(
            message(&folder.path().join("no/x"), false).contains(": cannot be written: No such")
        );
    }
}
