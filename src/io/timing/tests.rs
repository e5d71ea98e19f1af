//! Timing tables: shipped ones, broken ones, imported ones.

use std::fs;
use std::path::Path;

use super::*;

const STEM: &str = "h200_sxm/qwen3-32b/vllm-0.12.0-tp2";

const PREFILL: &str = "batch,new_tokens,prefix_tokens,total_ms,attn_ms\n1,1,0,2,1\n1,9,0,2,1\n1,1,9,2,1\n\
                       1,9,9,2,1\n2,1,0,2,1\n2,9,0,2,1\n2,1,9,2,1\n2,9,9,2,1\n";
const DECODE: &str = "batch,context_tokens,total_ms,attn_ms\n1,1,2,1\n1,9,3,2\n2,1,2,1\n2,9,3,2\n";
const OTHER: &str = "tokens,prefill_other_ms,decode_other_ms\n1,1,1\n2,1,1\n9,1,\n";

/// The files of a table.
fn write(folder: &Path, name: &str, files: &[(&str, &str)]) {
    let stem = folder.join(name);
    fs::create_dir_all(stem.parent().unwrap()).unwrap();
    for (kind, text) in files {
        fs::write(format!("{}.{kind}", stem.display()), text).unwrap();
    }
}

fn small(prefill: &'static str) -> [(&'static str, &'static str); 3] {
    [("prefill.csv", prefill), ("decode.csv", DECODE), ("other.csv", OTHER)]
}

fn query<'a>(model: &'a str, gpu: &'a str, version: Option<&'a str>, tp: u32) -> Query<'a> {
    Query { gpu, model, backend: "vllm", version, tp }
}

#[test]
fn shipped_tables_are_found_by_their_shape() {
    let library = Library::open(None).unwrap();
    assert!(library.list().is_sorted_by_key(|entry| &entry.name));
    let find = |version, tp| library.find(query("qwen3-32b", "h200_sxm", version, tp)).unwrap();
    assert_eq!(find(Some("0.12.0"), 2).name.to_string(), STEM);
    assert_eq!(find(None, 2).name.version, "0.24.0", "the newest");
    let table = library.load(find(Some("0.12.0"), 2)).unwrap();
    assert_eq!(table.table.identity().to_string(), STEM);
    assert!(!table.table.identity().estimate);
    assert_eq!(table.meta.license.as_deref(), Some("Apache-2.0"));
    let memory = table.meta.memory.unwrap();
    assert_eq!(memory.kv_bytes_per_token, Some(131_072));
    assert_eq!(memory.kv_tokens, Some(751_550));
    assert_eq!(memory.weights_bytes().unwrap() / 100_000_000, 327);
    assert_eq!((table.prefill.len(), table.decode.len(), table.mixed.len()), (1406, 345, 42));
}

#[test]
fn what_is_not_there_is_named() {
    let library = Library::open(None).unwrap();
    let error = |query| library.find(query).unwrap_err().to_string();
    assert_eq!(
        error(query("qwen-32b", "h200_sxm", None, 2)),
        "no timing table for model qwen-32b; did you mean qwen3-32b?"
    );
    assert_eq!(
        error(query("qwen3-32b", "a100", None, 2)),
        "no timing table for GPU a100; there are b200_sxm, gb200, h100_sxm, h200_sxm"
    );
    assert_eq!(
        error(query("qwen3-32b", "h200_sxm", None, 3)),
        "no timing table for TP 3; there are 1, 2, 4, 8"
    );
    assert_eq!(
        error(query("qwen3-32b", "h200_sxm", Some("0.12"), 1)),
        "no timing table for version 0.12; there are 0.12.0, 0.24.0"
    );
    let error = library.named("h200_sxm/qwen3-32b/vllm-0.12.1-tp2").unwrap_err().to_string();
    assert!(error.ends_with(&format!("did you mean {STEM}?")), "{error}");
    assert_eq!(library.named(STEM).unwrap().name.to_string(), STEM);
}

#[test]
fn a_directory_comes_before_what_is_built_in() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), STEM, &small(PREFILL));
    write(folder.path(), "mine/tiny/other-1-tp1", &small(PREFILL));
    write(folder.path(), "mine/tiny/no table", &small(PREFILL));
    fs::write(folder.path().join("README.md"), "x").unwrap();
    let built_in = Library::open(None).unwrap();
    let library = Library::open(Some(folder.path())).unwrap();
    assert_eq!(library.list().len(), built_in.list().len() + 1);
    let entry = library.named(STEM).unwrap();
    assert_eq!(entry.directory.as_deref(), Some(folder.path()));
    assert_eq!(library.load(entry).unwrap().prefill.len(), 8);
    let missing = Library::open(Some(&folder.path().join("nowhere"))).unwrap_err().to_string();
    assert!(missing.contains("nowhere: cannot be read"), "{missing}");
}

/// Names are the same whatever is in capitals: where they are looked for, in what order they come, what replaces what.
#[test]
fn capitals_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let (same, old) = ("H200_SXM/Qwen3-32B/vLLM-0.12.0-tp2", "H200_SXM/qwen3-32b/vllm-0.11.0-tp2");
    for name in [same, old] {
        write(folder.path(), name, &small(PREFILL));
    }
    let built_in = Library::open(None).unwrap();
    let library = Library::open(Some(folder.path())).unwrap();
    assert_eq!(library.list().len(), built_in.list().len() + 1);
    let find = |library: &Library, version| {
        let query = query("qwen3-32b", "h200_sxm", version, 2);
        library.find(query).unwrap().name.to_string()
    };
    assert_eq!(find(&library, Some("0.12.0")), same, "comes before the built-in one");
    assert_eq!(find(&library, None), "h200_sxm/qwen3-32b/vllm-0.24.0-tp2", "the newest");
    assert!(library.load(library.named(STEM).unwrap()).is_ok());
    assert_eq!(library.named(&STEM.to_uppercase()).unwrap().name.to_string(), same);
    let near = library.find(query("QWEN-32B", "h200_sxm", None, 2)).unwrap_err();
    assert_eq!(near.near.unwrap().to_lowercase(), "qwen3-32b");
    // Two tables of one name can be there, but none is made.
    let import = Import::read(&folder.path().join(old), Some(STEM)).unwrap();
    for force in [false, true] {
        let error = import.store(folder.path(), force).err().unwrap().to_string();
        assert!(error.contains(&format!("there is {same} already")), "{error}");
    }
    if folder.path().join("h200_sxm").exists() {
        // Capitals make no difference to the file system either.
        return;
    }
    write(folder.path(), STEM, &small(PREFILL));
    let library = Library::open(Some(folder.path())).unwrap();
    assert_eq!(library.named(same).unwrap().name.to_string(), same);
    assert_eq!(find(&library, Some("0.12.0")), STEM);
}

/// A directory of tables may hold what cannot be looked into.
#[cfg(unix)]
#[test]
fn what_cannot_be_looked_into_has_no_tables() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "mine/tiny/other-1-tp1", &small(PREFILL));
    write(folder.path(), "mine/closed/other-1-tp1", &small(PREFILL));
    for link in ["gone", "mine/gone"] {
        symlink("nowhere", folder.path().join(link)).unwrap();
    }
    symlink("ring", folder.path().join("ring")).unwrap();
    let closed = folder.path().join("mine/closed");
    let mode = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    mode(0);
    // Root may read it.
    let tables = 1 + usize::from(fs::read_dir(&closed).is_ok());
    let library = Library::open(Some(folder.path()));
    mode(0o755);
    let is_mine = |entry: &&Entry| entry.directory.is_some();
    assert_eq!(library.unwrap().list().iter().filter(is_mine).count(), tables);
    assert!(Library::open(Some(&folder.path().join("gone"))).is_err(), "not of what was asked for");
}

/// What loading a table says when one of its files has this text.
fn broken(kind: &str, text: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), STEM, &small(PREFILL));
    let file = format!("{}.{kind}", folder.path().join(STEM).display());
    fs::write(file, text).unwrap();
    let library = Library::open(Some(folder.path())).unwrap();
    let error = library.load(library.named(STEM).unwrap()).unwrap_err().to_string();
    let start = format!("{}.{kind}:", folder.path().join(STEM).display());
    error.strip_prefix(&start).unwrap_or_else(|| panic!("{error}")).trim_start().to_owned()
}

#[test]
fn broken_files_say_where_and_what() {
    let other = |row: &str| {
        broken(
            "other.csv",
            format!("tokens,prefill_other_ms,decode_other_ms\n1,1,1\n{row}\n").as_bytes(),
        )
    };
    assert_eq!(
        other("2,-0.5,1"),
        "3: `prefill_other_ms` is -0.5, but has to be milliseconds, 0 to 1000000"
    );
    assert_eq!(other("x,1,1"), "3: `tokens` is \"x\", but has to be a whole number up to 67108864");
    assert!(other("2,nan,1").starts_with("3: `prefill_other_ms` is \"nan\""));
    assert!(other("2,1e9,1").starts_with("3: `prefill_other_ms` is 1e9"));
    assert_eq!(other("2,1"), "3: the row has 2 fields, but the header has 3");
    assert_eq!(other("1,1,1"), "two other rows are at tokens 1");
    assert!(
        other("0,1,1").contains("`tokens` of a other row is 0") || other("0,1,1").contains("is 0")
    );
    assert_eq!(
        broken("decode.csv", b""),
        "is empty, but has to start with the columns batch,context_tokens,attn_ms,total_ms"
    );
    assert!(broken("decode.csv", b"\xef\xbb\xbf \r\n").starts_with("is empty"));
    assert_eq!(
        broken("decode.csv", b"batch,context,attn_ms\n"),
        "1: no column is called `context_tokens`; there are \"batch\", \"context\", \"attn_ms\""
    );
    assert!(broken("decode.csv", b"batch,batch,attn_ms\n").starts_with("1: two columns"));
    assert_eq!(broken("decode.csv", b"batch,context_tokens,attn_ms\n"), "there are no decode rows");
    assert!(
        broken("prefill.csv", b"batch,new_tokens,prefix_tokens,attn_ms\n\xff,1,1,1\n")
            .starts_with("2: not CSV: ")
    );
    assert!(broken("mixed.csv", b"a,b\n").starts_with("1: no column is called `prefill_reqs`"));
    assert!(broken("meta.json", b"{\"source\": 1}").starts_with("not the JSON expected here"));
}

/// Blank lines and comments are lines too, whatever ends them.
#[test]
fn lines_are_counted_with_what_is_passed_over() {
    let header = "tokens,prefill_other_ms,decode_other_ms\n";
    for end in ["\n", "\r\n"] {
        let other = |text: &str| {
            let text = text.replace('\n', end);
            broken("other.csv", text.as_bytes())
        };
        let field = other(&format!("# a\n\n{header}# b\n\n1,1,1\n# c\n# d\n\n8,x,1\n9,1,\n"));
        assert!(field.starts_with("10: `prefill_other_ms` is \"x\""), "{field}");
        let count = other(&format!("{header}1,1,1\n# c\n# d\n8,1\n"));
        assert_eq!(count, "5: the row has 2 fields, but the header has 3");
        for (columns, expected) in [("tokens,ms", "no column is"), ("tokens,tokens", "two columns")]
        {
            let header = other(&format!("# a\n# b\n\n{columns}\n1,1\n"));
            assert!(header.starts_with(&format!("4: {expected}")), "{header}");
        }
    }
    assert!(broken("other.csv", format!("{header}# c\r\n1,\"\",x").as_bytes()).starts_with("3: "));
    let bytes = [header.as_bytes(), b"# c\n1,1,1\n# d\n\n\xff,1,1\n"].concat();
    let found = broken("other.csv", &bytes);
    assert!(found.starts_with("6: not CSV: invalid utf-8"), "{found}");
    assert!(!found.contains("line"), "{found}");
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), STEM, &[("prefill.csv", PREFILL), ("decode.csv", DECODE)]);
    let library = Library::open(Some(folder.path())).unwrap();
    let error = library.load(library.named(STEM).unwrap()).unwrap_err().to_string();
    assert!(error.contains("tp2.other.csv: is missing"), "{error}");
}

#[test]
fn files_of_other_programs_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), STEM, &small(PREFILL));
    let plain = Library::open(Some(folder.path())).unwrap();
    let plain = plain.load(plain.named(STEM).unwrap()).unwrap();
    let windows = format!("\u{feff}{}", OTHER.replace('\n', "\r\n"));
    let shuffled = "attn_ms, note, context_tokens, batch\n2,x,9,1\n1,y,1,1\n1,,1,2\n2,,9,2\n";
    write(folder.path(), STEM, &[("other.csv", &windows), ("decode.csv", shuffled)]);
    let library = Library::open(Some(folder.path())).unwrap();
    let other = library.load(library.named(STEM).unwrap()).unwrap();
    assert_eq!(other.table, plain.table);
    assert_eq!((plain.decode.len(), other.decode.len()), (4, 0), "totals may be missing");
}

#[test]
fn imports_are_whole_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    write(&from, "here", &small(PREFILL));
    let name = Import::read(&from.join("here"), None).err().unwrap().to_string();
    assert!(name.contains("is not the name of a table"), "{name}");
    let import = Import::read(&from.join("here"), Some("a/b/vllm-1-tp4")).unwrap();
    let stem = import.store(&to, false).unwrap();
    assert_eq!(stem, to.join("a/b/vllm-1-tp4"));
    let names = || {
        let entries = fs::read_dir(to.join("a/b")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let stored = names();
    assert_eq!(stored.len(), 3);
    let library = Library::open(Some(&to)).unwrap();
    assert_eq!(library.load(library.named("a/b/vllm-1-tp4").unwrap()).unwrap().prefill.len(), 8);
    let again = import.store(&to, false).unwrap_err().to_string();
    assert!(again.contains("exists already"), "{again}");
    import.store(&to, true).unwrap();
    assert_eq!(names(), stored);
    // One that is no table is not stored at all.
    write(&from, "x/y/vllm-2-tp1", &small("batch\n"));
    assert!(Import::read(&from.join("x/y/vllm-2-tp1"), None).is_err());
    // Where something is in the way, what was there before stays.
    fs::create_dir(to.join("a/b/.vllm-1-tp4.other.csv.partial")).unwrap();
    assert!(import.store(&to, true).is_err());
    assert!(library.load(library.named("a/b/vllm-1-tp4").unwrap()).is_ok());
    assert_eq!(names().len(), 4);
    fs::remove_dir(to.join("a/b/.vllm-1-tp4.other.csv.partial")).unwrap();
    // So does it where an old file cannot be replaced or removed.
    let mixed = to.join("a/b/vllm-1-tp4.mixed.csv");
    fs::create_dir_all(mixed.join("x")).unwrap();
    let error = import.store(&to, true).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: cannot be written", mixed.display())), "{error}");
    assert_eq!(names().len(), 4);
    fs::remove_dir_all(&mixed).unwrap();
    assert!(library.load(library.named("a/b/vllm-1-tp4").unwrap()).is_ok());
    // What the new table has no file for goes.
    fs::write(&mixed, "").unwrap();
    import.store(&to, true).unwrap();
    assert_eq!(names(), stored);
}

/// A figure that sticks out is found, and so is how much worse it makes the table.
#[test]
fn accuracy_tells_what_is_wrong() {
    let library = Library::open(None).unwrap();
    let good = library.load(library.named(STEM).unwrap()).unwrap();
    let accuracy = Accuracy::of(&good);
    let (left_out, mixed) = (accuracy.decode_left_out.unwrap(), accuracy.mixed.unwrap());
    assert!(left_out.count > 500 && left_out.mean < 0.01 && left_out.max < 0.3);
    assert!(left_out.mean <= left_out.p95 && left_out.p95 <= left_out.max);
    assert!(mixed.count == 42 && mixed.max < 0.001);
    assert!(accuracy.falls.iter().all(|fall| !fall.at.starts_with("decode")));
    let mut bad = good.clone();
    for row in &mut bad.mixed {
        row.total_ms *= 2.0;
    }
    assert!((Accuracy::of(&bad).mixed.unwrap().mean - 0.5).abs() < 0.001);
    // 40 ms of attention where 0.9 ms are right.
    let folder = tempfile::tempdir().unwrap();
    let name = good.table.identity().to_string();
    for kind in ["prefill.csv", "decode.csv", "other.csv"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/timing");
        let text = fs::read_to_string(format!("{}.{kind}", root.join(&name).display())).unwrap();
        let text = text.replace("1,1024,10.8,0.89005", "1,1024,50.0,40.0");
        write(folder.path(), &name, &[(kind, &text)]);
    }
    let library = Library::open(Some(folder.path())).unwrap();
    let accuracy = Accuracy::of(&library.load(library.named(STEM).unwrap()).unwrap());
    assert!(accuracy.decode_left_out.unwrap().max > left_out.max);
    let worst = &accuracy.falls[0];
    assert!(worst.at.starts_with("decode attention at batch 1, context_tokens 1024: 40 ms"));
}

/// A pass of no time is right if its parts take none, and wrong altogether if they do.
#[test]
fn no_time_is_an_error_where_the_parts_take_some() {
    let folder = tempfile::tempdir().unwrap();
    let decode = DECODE.replace("1,9,3,2", "1,9,0,2");
    let other = OTHER.replace("1,1,1\n", "1,1,0\n").replace("2,1,1\n", "2,1,0\n");
    let mixed =
        "prefill_reqs,new_tokens,prefix_tokens,decode_reqs,context_tokens,total_ms\n1,1,0,1,1,0\n";
    let free = DECODE.replace(",2,1\n", ",0,0\n");
    write(folder.path(), "a/b/c-1-tp1", &small(PREFILL));
    write(folder.path(), "a/b/c-1-tp1", &[("decode.csv", &decode), ("mixed.csv", mixed)]);
    write(folder.path(), "a/b/c-2-tp1", &small(PREFILL));
    write(folder.path(), "a/b/c-2-tp1", &[("decode.csv", &free), ("other.csv", &other)]);
    let library = Library::open(Some(folder.path())).unwrap();
    let accuracy = |name| Accuracy::of(&library.load(library.named(name).unwrap()).unwrap());
    let wrong = accuracy("a/b/c-1-tp1");
    let (decode, mixed) = (wrong.decode_total.unwrap(), wrong.mixed.unwrap());
    assert_eq!((decode.count, decode.max), (4, 1.0));
    assert_eq!((mixed.count, mixed.mean), (1, 1.0));
    // Two of four passes take no time, and the parts say so.
    assert_eq!(accuracy("a/b/c-2-tp1").decode_total.unwrap().count, 2);
}
