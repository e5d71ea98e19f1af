//! Every file of the fuzzer's corpus, and seeded mutations of each, through the checks of the fuzz targets.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fleetsim::kernel::rng::{Stream, stream};
use rand::RngExt;

use crate::support::seeds;

#[expect(unreachable_pub, reason = "it is the public module of the fuzzing crate")]
#[path = "../../fuzz/src/checks.rs"]
mod checks;

/// The files of a target's corpus, in order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

fn check(check: checks::Check, bytes: &[u8], repeat: &str) {
    let caught = catch_unwind(|| check(bytes));
    caught.unwrap_or_else(|_| panic!("{repeat}; the input: {}", bytes.escape_ascii()));
}

/// What trips up parsers.
const PIECES: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b".",
    b"-",
    b"#",
    b"\n",
    b"\r\n",
    b"\0",
    b"\"\"\"",
    b"'''",
    b"null",
    b"true",
    b"nan",
    b"inf",
    b"1e999",
    b"-1e-999",
    b"0",
    b"-0",
    b"0.1",
    b"18446744073709551616",
    b"9223372036854775807",
    b"4294967296",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xc3\xa9",
    b"\xe2\x80\xa8",
    b"\x1b[31m",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"999999h",
    b"0s",
    b"2024-02-30 25:61:61",
    b"9999-12-31T23:59:60Z",
];

/// A few random changes; `others` lend pieces of theirs.
fn mutate(rng: &mut Stream, bytes: &[u8], others: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 20));
        match rng.random_range(0..6) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.truncate(at),
            2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (end % 8)),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let piece = PIECES[rng.random_range(0..PIECES.len())];
                bytes.splice(at..end, piece.iter().copied());
            }
            _ => {
                let (_, other) = &others[rng.random_range(0..others.len())];
                let from = rng.random_range(0..=other.len());
                let to = rng.random_range(from..=other.len().min(from + 80));
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn the_corpus_is_digested() {
    for (target, check_bytes) in checks::TARGETS {
        let files = corpus(target);
        assert!(files.len() > 4, "{target} has seeds");
        for (path, bytes) in &files {
            check(check_bytes, bytes, &format!("{} fails", path.display()));
        }
    }
}

#[test]
fn mutations_of_the_corpus_are_digested() {
    for seed in seeds(500) {
        for (number, (target, check_bytes)) in (0..).zip(checks::TARGETS) {
            let files = corpus(target);
            let mut rng = stream(seed, number);
            for (path, bytes) in &files {
                let bytes = mutate(&mut rng, bytes, &files);
                let name = path.file_name().unwrap_or_default().display();
                let repeat = format!(
                    "{target}, {name}: repeat with FLEETSIM_SEED={seed} cargo test \
                     mutations_of_the_corpus_are_digested"
                );
                check(check_bytes, &bytes, &repeat);
            }
        }
    }
}
