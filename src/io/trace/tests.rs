//! Every format read from files: good ones, packed ones, broken ones.

use std::io::Write;
use std::path::{Path, PathBuf};

use rand::RngExt;
use tempfile::TempDir;

use super::*;
use crate::kernel::rng::stream;

const MOONCAKE: &str = r#"{"timestamp": 27, "input_length": 600, "output_length": 3, "hash_ids": [1, 2], "session_id": "a"}
{"timestamp": 1027.5, "input_length": 512, "output_length": 0, "hash_ids": [1]}
"#;
const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,600,3
2023-11-16 18:17:04.9804600,512,0
";
const BURSTGPT: &str =
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,a,1.2,GPT-4,600,3,603,Conversation log
6.0005,,0,ChatGPT,512,0,512,API log
";
const CSV: &str = "kind,OUT,who,\"t, us\",in
x,3,a,-7,600
\"a \"\"b\"\", c\",0,,1000493,512.0
";
const JSONL: &str = r#"{"t": 5e9, "in": 600, "out": 3, "extra": {"in": [1]}, "who": "a", "ids": [1, 2, 9]}
{"ids": [1], "out": 0.0, "in": 512.0, "t": 6000500000, "who": null}
"#;

fn columns(timestamp: &str, unit: TimestampUnit, hash_ids: Option<&str>) -> Columns {
    Columns {
        timestamp: timestamp.to_owned(),
        timestamp_unit: unit,
        input_tokens: "in".to_owned(),
        output_tokens: "out".to_owned(),
        session: Some("who".to_owned()),
        hash_ids: hash_ids.map(str::to_owned),
    }
}

fn csv_format() -> Format {
    Format::Csv(columns("t, us", TimestampUnit::Us, None))
}

fn jsonl_format() -> Format {
    Format::Jsonl(columns("t", TimestampUnit::Ns, Some("ids")))
}

/// A file of each format that describes the same two requests.
pub(super) fn good() -> [(Format, &'static str); 5] {
    [
        (Format::Mooncake, MOONCAKE),
        (Format::Azure, AZURE),
        (Format::Burstgpt, BURSTGPT),
        (csv_format(), CSV),
        (jsonl_format(), JSONL),
    ]
}

pub(super) fn file(folder: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("x");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Everything there is to read, and how many lines were skipped.
fn read(path: &Path, format: &Format, skip: bool) -> Result<(Vec<Request>, u64), TraceError> {
    let options = TraceOptions { format: format.clone(), block_size: 512, skip_bad_lines: skip };
    let mut reader = TraceReader::open(path, options)?;
    let mut requests = Vec::new();
    while let Some(request) = reader.read()? {
        requests.push(request);
    }
    Ok((requests, reader.skipped()))
}

/// The complaint about a file, without the name of its folder.
fn complaint(format: &Format, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, bytes);
    match read(&path, format, false) {
        Ok((requests, _)) => format!("accepted {} requests", requests.len()),
        Err(error) => error.to_string().replace(&*path.to_string_lossy(), "x"),
    }
}

pub(super) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn good_files_in_every_wrapping() {
    let folder = tempfile::tempdir().unwrap();
    for (format, text) in good() {
        let crlf = text.replace('\n', "\r\n");
        let wrapped = [
            text.as_bytes().to_vec(),
            text.trim_end().as_bytes().to_vec(),
            crlf.into_bytes(),
            format!("\u{feff}{text}").into_bytes(),
            format!("\n  \n{text}\n\n").into_bytes(),
            gz(text.as_bytes()),
            zstd::encode_all(text.as_bytes(), 0).unwrap(),
        ];
        for (wrapping, bytes) in wrapped.iter().enumerate() {
            let path = file(&folder, bytes);
            let (requests, skipped) = read(&path, &format, false).unwrap();
            let facts: Vec<_> = requests
                .iter()
                .map(|r| (r.arrival.as_ns(), r.prompt.tokens, r.output_tokens, r.session.is_some()))
                .collect();
            let has_sessions = format != Format::Azure;
            let expected = [(0, 600, 3, has_sessions), (1_000_500_000, 512, 0, false)];
            assert_eq!((&facts[..], skipped), (&expected[..], 0), "{format:?} {wrapping}");
            let named = matches!(format, Format::Mooncake | Format::Jsonl(_));
            let shared = if named { [600, 512] } else { [0, 0] };
            assert!(requests.iter().map(|r| r.prompt.shared_tokens).eq(shared), "{format:?}");
            if named {
                assert_eq!(requests[0].prompt.chain.len(), 2);
                assert_eq!(requests[0].prompt.chain[0], requests[1].prompt.chain[0]);
            }
        }
    }
}

#[test]
fn sessions_have_the_same_number_in_all_rows() {
    let rows = "Timestamp,Session ID,Request tokens,Response tokens\n1,a,1,1\n2,b,1,1\n3, a ,1,1\n";
    let folder = tempfile::tempdir().unwrap();
    let (requests, _) = read(&file(&folder, rows.as_bytes()), &Format::Burstgpt, false).unwrap();
    assert!(requests[0].session == requests[2].session);
    assert!(requests[0].session != requests[1].session);
    let older =
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n1,m,1,1,2,l\n";
    let (requests, _) = read(&file(&folder, older.as_bytes()), &Format::Burstgpt, false).unwrap();
    assert_eq!(requests[0].session, None);
}

#[test]
fn formats_are_detected() {
    let folder = tempfile::tempdir().unwrap();
    let detected = |bytes: &[u8]| {
        let path = file(&folder, bytes);
        detect(&path).map_err(|error| error.to_string().replace(&*path.to_string_lossy(), "x"))
    };
    for (format, text) in good().into_iter().take(3) {
        for bytes in
            [text.as_bytes().to_vec(), format!("\u{feff}\n{text}").into(), gz(text.as_bytes())]
        {
            assert_eq!(detected(&bytes), Ok(format.clone()));
        }
    }
    let unknown = "belongs to no known trace; set workload.format to csv or jsonl and name the fields in workload.columns";
    let cases = [
        ("", "x: has no requests".to_owned()),
        ("\n\n", "x: has no requests".to_owned()),
        ("a,b\n1,2", format!("x:1: the first line, \"a,b\", {unknown}")),
        ("\n{\"t\": 1}", format!("x:2: the first line, \"{{\\\"t\\\": 1}}\", {unknown}")),
        ("\0\u{1}\n", format!("x:1: the first line, \"\\0\\u{{1}}\", {unknown}")),
        (
            "timestamp;ContextTokens;GeneratedTokens",
            "x:1: the columns are separated by semicolons, but have to be by commas".to_owned(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(detected(text.as_bytes()), Err(expected));
    }
    let packed_otherwise = detected(b"\xfd7zXZ\0\0\x04\n");
    assert!(
        packed_otherwise.unwrap_err().starts_with("x:1: not text, but a trace has to be lines")
    );
    let directory = detect(folder.path()).unwrap_err().to_string();
    assert!(directory.ends_with(": is a directory, not a trace"), "{directory}");
}

#[test]
fn complaints_about_mooncake_are_sentences() {
    let whole = "but has to be a whole number from";
    let cases = [
        ("[1]", "x:1: not the JSON expected here: invalid length 1, expected an object (column 3)".to_owned()),
        ("{\"timestamp\": 1", "x:1: not the JSON expected here: EOF while parsing an object (column 15)".to_owned()),
        (r#"{"hash_ids": [1], "output_length": 1}"#, "x:1: `timestamp` is missing".to_owned()),
        (r#"{"timestamp": 1, "output_length": 1}"#, "x:1: `hash_ids` is missing".to_owned()),
        (r#"{"timestamp": 1, "hash_ids": [1]}"#, "x:1: `output_length` is missing".to_owned()),
        (r#"{"timestamp": 1e300, "output_length": 1, "hash_ids": [1]}"#, "x:1: `timestamp` is 1e+300, but has to be a number of milliseconds".to_owned()),
        (r#"{"timestamp": 1, "input_length": 0, "output_length": 1, "hash_ids": []}"#, format!("x:1: `input_length` is 0, {whole} 1 to 2^30")),
        (r#"{"timestamp": 1, "input_length": 7, "output_length": -1, "hash_ids": [1]}"#, format!("x:1: `output_length` is -1, {whole} 0 to 2^30")),
        (r#"{"timestamp": 1, "input_length": 7.5, "output_length": 1, "hash_ids": [1]}"#, format!("x:1: `input_length` is 7.5, {whole} 1 to 2^30")),
        (r#"{"timestamp": 1, "input_length": 9999999999, "output_length": 1, "hash_ids": [1]}"#, format!("x:1: `input_length` is 9999999999, {whole} 1 to 2^30")),
        (r#"{"timestamp": 1, "input_length": 513, "output_length": 1, "hash_ids": [1]}"#, "x:1: 1 hash_ids of 512 tokens do not cover an input of 513 tokens; is workload.trace_block_size right?".to_owned()),
        (r#"{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [1], "delay": 5}"#, "x:1: `delay` is 5, but has to be absent, or workload.turns_wait = true: else requests don't wait for one another".to_owned()),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(&Format::Mooncake, text.as_bytes()), expected, "{text}");
    }
    let ids = "1,".repeat(1 << 21);
    let endless = format!(r#"{{"timestamp": 1, "output_length": 1, "hash_ids": [{ids}1]}}"#);
    let expected = "x:1: `hash_ids` is a list of 2097153 blocks of 512 tokens, but has to be of at most 2^30 tokens";
    assert_eq!(complaint(&Format::Mooncake, endless.as_bytes()), expected);
}

#[test]
fn complaints_about_headers_are_sentences() {
    let azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
    let cases = [
        (Format::Azure, "", "x: has no requests"),
        (Format::Azure, azure, "x: has no requests"),
        (
            Format::Azure,
            "TIMESTAMP,Context",
            "x:1: no column is called `ContextTokens`; there are \"TIMESTAMP\", \"Context\"",
        ),
        (
            Format::Azure,
            "TIMESTAMP",
            "x:1: no column is called `ContextTokens`; there is \"TIMESTAMP\"",
        ),
        (
            Format::Azure,
            "TIMESTAMP;ContextTokens;GeneratedTokens",
            "x:1: the columns are separated by semicolons, but have to be by commas",
        ),
        (
            Format::Burstgpt,
            "Timestamp\tRequest tokens",
            "x:1: the columns are separated by tabs, but have to be by commas",
        ),
        (
            Format::Azure,
            "TIMESTAMP,contexttokens,GeneratedTokens,CONTEXTTOKENS",
            "x:1: two columns are called `ContextTokens`",
        ),
        (
            Format::Azure,
            "\"TIMESTAMP,ContextTokens",
            "x:1: a quoted field does not end on its line, but has to: no line breaks",
        ),
        (
            csv_format(),
            "\"t, us\",in,out\n",
            "x:1: no column is called `who`; there are \"t, us\", \"in\", \"out\"",
        ),
        (
            Format::Csv(columns("t", TimestampUnit::S, Some("ids"))),
            CSV,
            "x: block ids can be read from JSONL only; leave out workload.columns.hash_ids",
        ),
    ];
    for (format, text, expected) in cases {
        assert_eq!(complaint(&format, text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn complaints_about_rows_are_sentences() {
    let whole = "but has to be a whole number from";
    let date = "but has to be a date and time from 1678 to 2261, such as 2023-11-16 18:17:03.98";
    let cases = [
        ("2023-11-16 18:17:03,1", "the row has 2 fields, but the header has 3".to_owned()),
        ("2023-11-16 18:17:03,1,1,1", "the row has 4 fields, but the header has 3".to_owned()),
        (
            "2023-11-16 18:17:03,\"1,1",
            "a quoted field does not end on its line, but has to: no line breaks".to_owned(),
        ),
        ("yesterday,1,1", format!("`TIMESTAMP` is \"yesterday\", {date}")),
        ("1700158623,1,1", format!("`TIMESTAMP` is 1700158623, {date}")),
        ("2023-11-16 18:17:03,0,1", format!("`ContextTokens` is 0, {whole} 1 to 2^30")),
        ("2023-11-16 18:17:03,,1", format!("`ContextTokens` is \"\", {whole} 1 to 2^30")),
        ("2023-11-16 18:17:03,NaN,1", format!("`ContextTokens` is \"NaN\", {whole} 1 to 2^30")),
        ("2023-11-16 18:17:03,1e10,1", format!("`ContextTokens` is 1e10, {whole} 1 to 2^30")),
        ("2023-11-16 18:17:03,1,-1", format!("`GeneratedTokens` is -1, {whole} 0 to 2^30")),
        ("2023-11-16 18:17:03,1,1.5", format!("`GeneratedTokens` is 1.5, {whole} 0 to 2^30")),
        (
            "2023-11-16 18:17:03,1,1\n2023-11-16 18:17:02.5,1,1",
            "time runs backwards: -0.5 s after 0 s; sort the trace by timestamp".to_owned(),
        ),
        (
            "2023-11-16 18:17:03,1,1\n2030-11-16 18:17:03,1,1",
            "timestamp is more than 834 days after the first".to_owned(),
        ),
    ];
    for (rows, expected) in cases {
        let text = format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}");
        let line = 2 + rows.matches('\n').count();
        assert_eq!(complaint(&Format::Azure, text.as_bytes()), format!("x:{line}: {expected}"));
    }
    let seconds = "x:2: `Timestamp` is \"soon\", but has to be a number of seconds, at most 292 years of them";
    let rows = "Timestamp,Request tokens,Response tokens\nsoon,1,1";
    assert_eq!(complaint(&Format::Burstgpt, rows.as_bytes()), seconds);
}

#[test]
fn complaints_about_jsonl_are_sentences() {
    let whole = "but has to be a whole number from";
    let ns = "but has to be a number of nanoseconds, at most 292 years of them";
    let cases = [
        ("[1]", "not the JSON expected here: invalid type: sequence, expected an object (column 0)".to_owned()),
        ("{} {}", "not the JSON expected here: trailing characters (column 4)".to_owned()),
        (r#"{"in": 1, "out": 1, "ids": [1]}"#, "`t` is missing".to_owned()),
        (r#"{"t": 1, "in": null, "out": 1, "ids": [1]}"#, "`in` is missing".to_owned()),
        (r#"{"t": 1, "in": 1, "ids": [1]}"#, "`out` is missing".to_owned()),
        (r#"{"t": 1, "in": 1, "out": 1}"#, "`ids` is missing".to_owned()),
        (r#"{"t": "5", "in": 1, "out": 1, "ids": [1]}"#, format!("`t` is \"5\", {ns}")),
        (r#"{"t": 1e300, "in": 1, "out": 1, "ids": [1]}"#, format!("`t` is 1e+300, {ns}")),
        (r#"{"t": true, "in": 1, "out": 1, "ids": [1]}"#, format!("`t` is true, {ns}")),
        (r#"{"t": 1, "in": 0, "out": 1, "ids": [1]}"#, format!("`in` is 0, {whole} 1 to 2^30")),
        (r#"{"t": 1, "in": "7", "out": 1, "ids": [1]}"#, format!("`in` is \"7\", {whole} 1 to 2^30")),
        (r#"{"t": 1, "in": 1, "out": [1], "ids": [1]}"#, format!("`out` is a list, {whole} 0 to 2^30")),
        (r#"{"t": 1, "in": 1000, "out": 1, "ids": [1]}"#, "1 hash_ids of 512 tokens do not cover an input of 1000 tokens; is workload.trace_block_size right?".to_owned()),
    ];
    for (text, expected) in cases {
        assert_eq!(
            complaint(&jsonl_format(), text.as_bytes()),
            format!("x:1: {expected}"),
            "{text}"
        );
    }
}

#[test]
fn broken_files_of_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = {
        let mut rng = stream(6, 0);
        (0..100_000).map(|_| rng.random()).collect()
    };
    for (format, text) in good() {
        let long = text.repeat(50);
        for packed in [gz(long.as_bytes()), zstd::encode_all(long.as_bytes(), 0).unwrap()] {
            let cut = &packed[..packed.len() - 9];
            let error = read(&file(&folder, cut), &format, true).unwrap_err().to_string();
            let expected = "/x: cannot be read: the compressed file is truncated";
            assert!(error.ends_with(expected), "{format:?}: {error}");
        }
        assert_eq!(complaint(&format, b""), "x: has no requests");
        let error = read(folder.path(), &format, false).unwrap_err().to_string();
        assert!(error.ends_with(": is a directory, not a trace"), "{error}");
        let error = read(&folder.path().join("no"), &format, false).unwrap_err().to_string();
        assert!(error.contains("/no: cannot be read: No such file"), "{error}");
        let error = read(&file(&folder, &noise), &format, true).unwrap_err().to_string();
        assert!(error.len() < 3_000, "{error}");
    }
}

#[test]
fn bad_lines_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    for (format, text) in good() {
        let (first, rest) = text.split_once('\n').unwrap();
        let text = format!("{first}\nnonsense\n\"\n{rest}nonsense,\n");
        let (requests, skipped) = read(&file(&folder, text.as_bytes()), &format, true).unwrap();
        assert_eq!((requests.len(), skipped), (2, 3), "{format:?}");
    }
    let none = read(&file(&folder, b"x\ny\n"), &Format::Mooncake, true).unwrap_err().to_string();
    assert!(none.ends_with("/x: has no requests; all 2 lines were skipped as bad"), "{none}");
    let header = read(&file(&folder, b"x\ny\n"), &Format::Azure, true);
    assert!(header.is_err(), "a header cannot be skipped");
}

#[test]
fn far_apart_timestamps_do_not_overflow() {
    let row = |t: i64| format!("{{\"t\": {t}, \"in\": 1, \"out\": 1, \"ids\": [1]}}\n");
    let late = row(i64::MIN + 1) + &row(i64::MAX);
    let too_late = "x:2: timestamp is more than 834 days after the first";
    assert_eq!(complaint(&jsonl_format(), late.as_bytes()), too_late);
    let back = complaint(&jsonl_format(), (row(i64::MAX) + &row(i64::MIN + 1)).as_bytes());
    assert!(back.starts_with("x:2: time runs backwards: -9223372036.8"), "{back}");
}

/// Whatever the bytes, there is a result, and never a panic.
#[test]
fn mutated_files_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = stream(7, 0);
    for (format, text) in good() {
        for case in 0..3000 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..rng.random_range(1..8) {
                let at = rng.random_range(0..bytes.len());
                match rng.random_range(0..4) {
                    0 => bytes[at] = rng.random(),
                    1 => bytes[at] = b"\"\n\r,{}[]:-+.eE0919 \xff\0"[rng.random_range(0..21)],
                    2 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, b"0-9\"e."[rng.random_range(0..6)]),
                }
            }
            let path = file(&folder, &bytes);
            if let Err(error) = read(&path, &format, case % 2 == 0) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
            let _ = detect(&path);
        }
    }
}
