//! What holds for any bytes whatever: no reader panics, and what it complains about is a sentence that names the file.
//!
//! Each function checks one reader. The fuzz targets call them on whatever the fuzzer makes up, the corpus test of the
//! main crate on the files in `corpus/` and on mutations of these.

use std::io::Write;
use std::path::Path;

use fleetsim::io::config::{Loaded, to_toml};
use fleetsim::io::trace::{
    Columns, Contents, Format, TimestampUnit, TraceOptions, TraceReader, detect, read_dynamo,
    read_mooncake_sessions,
};
use fleetsim::io::traffic::Origin;
use fleetsim::kernel::Time;
use fleetsim::model::session::{Opening, Sessions};
use fleetsim::model::workload::Demand;

/// Takes any bytes, and panics if what has to hold does not.
pub type Check = fn(&[u8]);

/// Every target: its name, which is that of its folder of seeds, and its check.
pub const TARGETS: [(&str, Check); 7] = [
    ("trace_mooncake", trace_mooncake),
    ("trace_sessions", trace_sessions),
    ("trace_dynamo", trace_dynamo),
    ("trace_csv", trace_csv),
    ("trace_jsonl", trace_jsonl),
    ("config", config),
    ("set", set),
];

/// A trace in Mooncake's format.
pub fn trace_mooncake(bytes: &[u8]) {
    trace(bytes, [Format::Mooncake]);
}

/// A trace in Mooncake's format whose requests wait for one another.
pub fn trace_sessions(bytes: &[u8]) {
    with_file("requests.trace", bytes, |path| match read_mooncake_sessions(path, 16) {
        Ok(openings) => sessions(&openings),
        Err(error) => check_message(&error.to_string(), "requests.trace:"),
    });
}

/// A trace that Dynamo has recorded.
pub fn trace_dynamo(bytes: &[u8]) {
    with_file("requests.trace", bytes, |path| match read_dynamo(path, 16) {
        Ok(Contents::Sessions(openings)) => sessions(&openings),
        Ok(Contents::Requests(requests)) => {
            assert!(requests.is_sorted_by_key(|request| request.arrival), "time runs backwards");
        }
        Err(error) => check_message(&error.to_string(), "requests.trace:"),
    });
}

/// Every call can be made.
fn sessions(openings: &[Opening]) {
    assert!(openings.is_sorted_by_key(|opening| opening.at), "time runs backwards");
    let mut live = Sessions::new();
    for opening in openings {
        live.open(opening.at, opening.clone());
    }
    let mut now = Time::ZERO;
    while let Some(at) = live.next_ready() {
        now = now.max(at);
        if let Some(ready) = live.pop(now) {
            live.complete(now, ready.call);
        }
    }
    assert_eq!(live.live(), 0, "somebody waits for ever");
}

/// A trace in one of the CSV formats.
pub fn trace_csv(bytes: &[u8]) {
    let named =
        |session: Option<&str>| Format::Csv(columns(TimestampUnit::Datetime, session, None));
    trace(bytes, [Format::Azure, Format::Burstgpt, named(None), named(Some("session"))]);
}

/// A trace in JSONL with fields of any name.
pub fn trace_jsonl(bytes: &[u8]) {
    let named = |session, ids| Format::Jsonl(columns(TimestampUnit::S, session, ids));
    trace(bytes, [named(None, None), named(Some("session"), Some("hash_ids"))]);
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    with_file("configuration.toml", bytes, |path| {
        check_config(Loaded::load(Some(path), &[]), "configuration");
    });
}

/// An override on the command line.
pub fn set(bytes: &[u8]) {
    let assignment = String::from_utf8_lossy(bytes).into_owned();
    let typed = format!("--set {assignment}");
    check_config(Loaded::load(None, &[(typed, assignment)]), "");
}

fn columns(unit: TimestampUnit, session: Option<&str>, hash_ids: Option<&str>) -> Columns {
    Columns {
        timestamp: "timestamp".to_owned(),
        timestamp_unit: unit,
        input_tokens: "input_tokens".to_owned(),
        output_tokens: "output_tokens".to_owned(),
        session: session.map(str::to_owned),
        hash_ids: hash_ids.map(str::to_owned),
    }
}

fn with_file(name: &str, bytes: &[u8], check: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join(name);
    let mut file = std::fs::File::create(&path).expect("a temporary file");
    file.write_all(bytes).expect("space for a temporary file");
    drop(file);
    check(&path);
}

fn trace(bytes: &[u8], formats: impl IntoIterator<Item = Format>) {
    with_file("requests.trace", bytes, |path| {
        if let Err(error) = detect(path) {
            check_message(&error.to_string(), "requests.trace:");
        }
        for format in formats {
            for skip_bad_lines in [false, true] {
                let options =
                    TraceOptions { format: format.clone(), block_size: 16, skip_bad_lines };
                read(path, options);
            }
        }
    });
}

/// Reads a trace to its end or its first error.
fn read(path: &Path, options: TraceOptions) {
    let mut reader = match TraceReader::open(path, options) {
        Ok(reader) => reader,
        Err(error) => return check_message(&error.to_string(), "requests.trace:"),
    };
    let mut last = Time::ZERO;
    loop {
        match reader.read() {
            Ok(Some(request)) => {
                assert!(request.arrival >= last, "time runs backwards");
                assert!(request.prompt.tokens > 0, "an empty prompt");
                assert!(request.prompt.shared_tokens <= request.prompt.tokens, "more is shared");
                let named = request.prompt.chain.len() as u64 * 16;
                assert!(u64::from(request.prompt.shared_tokens) <= named, "blocks without a name");
                assert!(request.priority_jump.is_finite(), "a priority without a size");
                last = request.arrival;
            }
            Ok(None) => return,
            Err(error) => return check_message(&error.to_string(), "requests.trace:"),
        }
    }
}

fn check_config(loaded: Result<Loaded, fleetsim::io::config::ConfigError>, name: &str) {
    let job = loaded.and_then(|loaded| loaded.resolve());
    let job = match job {
        Ok(job) => job,
        Err(error) => return check_message(&error.to_string(), name),
    };
    with_file("again.toml", to_toml(&job.config).as_bytes(), |path| {
        let again = Loaded::load(Some(path), &[]).expect("what is written can be read");
        assert_eq!(again.config, job.config, "what is written reads back");
    });
    // A generator makes something of whatever the checks let through; a trace would be anybody's file.
    if !matches!(job.traffic.origin, Origin::Trace { .. }) {
        let mut demand = job.traffic.open(job.fleet.seed).expect("a generator opens no file");
        for _ in 0..3 {
            match &mut demand {
                Demand::Requests(source) => drop(source.next_request().expect("it does not fail")),
                Demand::Sessions(source) => drop(source.next_session().expect("it does not fail")),
            }
        }
    }
}

/// A complaint is one line that says where.
fn check_message(message: &str, name: &str) {
    assert!(!message.trim().is_empty(), "an empty message");
    assert!(!message.contains(char::is_control), "more than one line: {message:?}");
    assert!(message.contains(name), "{message:?} does not name {name}");
}
