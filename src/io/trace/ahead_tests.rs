//! A trace reads the same in chunks of any size, whoever parses them.

use std::path::Path;

use rand::RngExt;

use super::tests::{file, good, gz};
use super::*;
use crate::io::ahead::tests::with_helpers;
use crate::kernel::rng::{Stream, stream};

/// Everything that reading a file says: requests, bad lines, why it ends, lines skipped.
fn all(
    path: &Path,
    options: &TraceOptions,
    chunk: usize,
    helpers: usize,
    hurry: &mut dyn FnMut(&dyn ReadAhead),
) -> Vec<String> {
    let mut reader = match TraceReader::open_in_chunks(path, options.clone(), chunk) {
        Ok(reader) => reader,
        Err(error) => return vec![error.to_string()],
    };
    let hand = reader.read_ahead().unwrap();
    with_helpers(helpers, hand.as_ref(), || {
        let mut all = Vec::new();
        loop {
            hurry(hand.as_ref());
            match reader.read() {
                Ok(Some(request)) => all.push(format!("{request:?}")),
                Ok(None) => break,
                Err(error) => {
                    all.push(error.to_string());
                    if error.line.is_none() {
                        break;
                    }
                }
            }
        }
        all.push(format!("{} skipped", reader.skipped()));
        all
    })
}

/// Lines of a good file, bad ones, blank ones, with ends of all sorts.
fn mixed(text: &str, lines: usize, rng: &mut Stream) -> Vec<u8> {
    let rows: Vec<&str> = text.lines().collect();
    let mut mixed = String::new();
    for line in 0..lines {
        let row = match rng.random_range(0..10) {
            _ if line == 0 => rows[0],
            0 => "nonsense",
            1 => "\"",
            2 => " ",
            3 => "",
            _ => rows[rng.random_range(0..rows.len())],
        };
        mixed.push_str(row);
        mixed.push_str(if rng.random_range(0..4) == 0 { "\r\n" } else { "\n" });
    }
    if rng.random() {
        mixed.truncate(mixed.trim_end().len());
    }
    if rng.random_range(0..4) == 0 {
        mixed.insert(0, '\u{feff}');
    }
    mixed.into_bytes()
}

#[test]
fn chunks_and_helpers_do_not_show() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = stream(22, 0);
    for (format, text) in good() {
        let header = text.lines().next().unwrap();
        let plain = [
            Vec::new(),
            header.as_bytes().to_vec(),
            format!("\n\n{header}\n").into_bytes(),
            mixed(text, 30, &mut rng),
            mixed(text, 300, &mut rng),
        ];
        let packed = [
            gz(&plain[4]),
            zstd::encode_all(&plain[3][..], 0).unwrap(),
            gz(&plain[4])[..200].to_vec(),
        ];
        for bytes in plain.iter().chain(&packed) {
            let path = file(&folder, bytes);
            for skip_bad_lines in [false, true] {
                let options =
                    TraceOptions { format: format.clone(), block_size: 512, skip_bad_lines };
                let expected = all(&path, &options, 1 << 20, 0, &mut |_| ());
                for chunk in [1, 7, 64, 4096] {
                    let check = |helpers, hurry: &mut dyn FnMut(&dyn ReadAhead)| {
                        let found = all(&path, &options, chunk, helpers, hurry);
                        assert_eq!(found, expected, "{format:?} {chunk} bytes, {helpers} helpers");
                    };
                    for helpers in [0, 1, 3] {
                        check(helpers, &mut |_| ());
                    }
                    // The same on one thread, which can be repeated.
                    check(0, &mut |hand| {
                        for _ in 0..rng.random_range(0..3) {
                            hand.advance();
                        }
                    });
                }
            }
        }
    }
}

/// Line numbers are those of the file.
#[test]
fn bad_lines_are_named_by_their_number_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (format, text) = good().into_iter().next().unwrap();
    let row = text.lines().next().unwrap();
    let lines: Vec<&str> = (1..=400)
        .map(|number| match number % 7 {
            3 => "nonsense",
            5 => "",
            _ => row,
        })
        .collect();
    let path = file(&folder, lines.join("\n").as_bytes());
    let options = TraceOptions { format, block_size: 512, skip_bad_lines: false };
    for chunk in [1, 100, 1 << 20] {
        let mut reader = TraceReader::open_in_chunks(&path, options.clone(), chunk).unwrap();
        let mut bad = Vec::new();
        loop {
            match reader.read() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => bad.extend(error.line),
            }
        }
        assert!(bad.into_iter().eq((1..=400).filter(|number| number % 7 == 3)), "{chunk}");
    }
}
