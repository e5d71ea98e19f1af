//! What no compiler checks: layers, sizes of files and functions, leftovers, and documents in step with the code.
//!
//! Files are looked at line by line, which is enough for code that rustfmt has formatted. All problems are listed at
//! once.

use std::fs;
use std::path::{Path, PathBuf};

use fleetsim::experiment::sweep::Plan;
use fleetsim::io::config::{Loaded, all_keys};

/// Longest file, without its unit tests, and longest function, in lines.
const FILE_MAX: usize = 500;
const FUNCTION_MAX: usize = 70;

/// What each layer may use of the others: a whole layer, or one module of it.
const LAYERS: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("model", &["kernel::time", "kernel::rng", "kernel::tree"]),
    ("fleet", &["kernel", "model"]),
    ("io", &["kernel", "model", "fleet"]),
    ("report", &["kernel", "model", "fleet"]),
    ("experiment", &["kernel", "model", "fleet", "io", "report"]),
    ("cli", &["kernel", "model", "fleet", "io", "report", "experiment"]),
];

/// What has no place in code. The words are put together here so that this file does not contain them.
const BANNED: &[(&str, &str)] = &[
    (concat!("dbg", "!("), "a leftover"),
    (concat!("todo", "!("), "a leftover"),
    (concat!("unimplemented", "!("), "a leftover"),
    (concat!("collections::", "HashMap"), "random order: use rustc_hash"),
    (concat!("collections::", "HashSet"), "random order: use rustc_hash"),
    (concat!("HashMap::", "new()"), "random order: use rustc_hash"),
    (concat!("HashSet::", "new()"), "random order: use rustc_hash"),
    (concat!("super::", "super"), "paths over two levels start with crate::"),
];

/// The library never prints: only the command line, tests and benchmarks may.
const PRINTING: &[&str] = &["println!(", "eprintln!(", "print!(", "eprint!("];

/// Folders that exist on somebody's machine.
const MACHINES: &[&str] =
    &[concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("/ro", "ot/")];

/// A file of the repository, with its path from the root.
struct File {
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: impl Into<String>) -> File {
        File { path: path.to_owned(), text: text.into() }
    }

    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// The layer of the library it belongs to.
    fn layer(&self) -> Option<&str> {
        let name = self.path.strip_prefix("src/")?;
        let name = name.split_once('/').map_or(name, |(layer, _)| layer);
        LAYERS.iter().map(|(layer, _)| *layer).find(|&layer| layer == name)
    }

    /// How many lines come before the unit tests.
    fn length(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines
            .windows(2)
            .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
        tests.unwrap_or(lines.len())
    }

    /// Lines of code, counted from 1, without those that are comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = (1..).zip(self.text.lines());
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut report = |line: usize, problem: &str| {
            problems.push(format!("{}:{line}: {problem}", self.path));
        };
        self.check_text(&mut report);
        if self.is_rust() {
            self.check_words(&mut report);
            self.check_sizes(&mut report);
            self.check_layers(&mut report);
        }
        problems
    }

    /// What holds for every text.
    fn check_text(&self, report: &mut impl FnMut(usize, &str)) {
        for (number, line) in (1..).zip(self.text.lines()) {
            if line.ends_with([' ', '\t', '\r']) {
                report(number, "space at the end of the line");
            }
            if let Some(machine) = MACHINES.iter().find(|&&machine| line.contains(machine)) {
                report(number, &format!("a path of somebody's machine: {machine}"));
            }
            let todo = concat!("TO", "DO");
            if let Some(at) = line.find(todo)
                && !line[at + todo.len()..].starts_with('(')
            {
                report(number, &format!("{todo} without an owner: {todo}(name)"));
            }
        }
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            report(self.text.lines().count(), "no end of line at the end of the file");
        }
    }

    fn check_words(&self, report: &mut impl FnMut(usize, &str)) {
        if !self.text.starts_with("//! ") {
            report(1, "a file opens with //! and what it is");
        }
        let prints = !self.path.starts_with("src/")
            || self.path.starts_with("src/cli/")
            || self.path == "src/main.rs";
        let length = self.length();
        for (number, line) in self.code() {
            for (word, why) in BANNED.iter().filter(|(word, _)| line.contains(word)) {
                report(number, &format!("{word}: {why}"));
            }
            let printing = PRINTING.iter().find(|&&word| line.contains(word));
            if let Some(word) = printing.filter(|_| !prints && number <= length) {
                report(number, &format!("{word}: the library never prints"));
            }
        }
    }

    fn check_sizes(&self, report: &mut impl FnMut(usize, &str)) {
        let length = self.length();
        if length > FILE_MAX {
            report(1, &format!("{length} lines, more than {FILE_MAX}"));
        }
        let lines: Vec<&str> = self.text.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| starts_function(line)) {
            let length = function_length(&lines[index..]);
            if length > FUNCTION_MAX {
                let problem = format!("a function of {length} lines, more than {FUNCTION_MAX}");
                report(index + 1, &format!("{problem}: {}", line.trim()));
            }
        }
    }

    fn check_layers(&self, report: &mut impl FnMut(usize, &str)) {
        let Some(layer) = self.layer() else { return };
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == layer).expect("a layer");
        for (number, line) in self.code() {
            for (at, root) in line.match_indices("crate::") {
                let path = &line[at + root.len()..];
                let within = |module: &str| {
                    path.strip_prefix(module).is_some_and(|rest| !rest.starts_with(is_identifier))
                };
                if !within(layer) && !allowed.iter().any(|module| within(module)) {
                    let end = path.find(|c: char| !is_identifier(c) && c != ':');
                    let path = &path[..end.unwrap_or(path.len())];
                    report(number, &format!("{layer} may not use {path}"));
                }
            }
        }
    }
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a function is defined or declared in this line.
fn starts_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.find(|word| !(word.starts_with("pub") || ["const", "async"].contains(word))) == Some("fn")
}

/// The lines of the function that starts in the first of these.
fn function_length(lines: &[&str]) -> usize {
    let indent = lines[0].len() - lines[0].trim_start().len();
    let is_end = |line: &&str| {
        let own = line.len() - line.trim_start().len() == indent;
        own && (line.ends_with('}') || line.ends_with(';'))
    };
    lines.iter().position(is_end).map_or(lines.len(), |at| at + 1)
}

/// Every text file that belongs to the repository.
fn files() -> Vec<File> {
    fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ignored = ["target", "runs", "corpus", "artifacts", "Cargo.lock", "LICENSE"];
            if name.starts_with('.') || ignored.contains(&&*name) {
                continue;
            }
            if path.is_dir() { collect(&path, paths) } else { paths.push(path) }
        }
    }
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz", "docs", "configs"] {
        let folder = root().join(folder);
        if folder.is_dir() {
            collect(&folder, &mut paths);
        }
    }
    for name in ["Cargo.toml", "clippy.toml", "README.md", "CHANGELOG.md", "traces/README.md"] {
        paths.extend(Some(root().join(name)).filter(|path| path.exists()));
    }
    let relative = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    // What is not UTF-8 is not text.
    let read = |path: PathBuf| {
        fs::read_to_string(&path).ok().map(|text| File::new(&relative(&path), text))
    };
    paths.into_iter().filter_map(read).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_code_is_tidy() {
    let files = files();
    assert!(files.iter().filter(|file| file.layer().is_some()).count() > 30, "files are missed");
    let problems: Vec<String> = files.iter().flat_map(File::problems).collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Every rule finds what it is there to find.
#[test]
fn the_rules_bite() {
    let long_function = format!("    fn long() {{\n{}    }}\n", "        1;\n".repeat(69));
    let cases = [
        ("src/model/x.rs", "use std::io;\n".to_owned(), "opens with"),
        ("src/model/x.rs", "//! X.\nuse crate::fleet::run;\n".to_owned(), ":2: model may not use"),
        ("src/model/x.rs", "//! X.\nuse crate::kernel::Lp;\n".to_owned(), "not use kernel::Lp"),
        ("src/model/x.rs", "//! X.\nuse crate::kernel::times;\n".to_owned(), "kernel::times"),
        ("src/report/x.rs", "//! X.\nuse crate::io::trace;\n".to_owned(), "not use io::trace"),
        ("src/io/x.rs", "//! X.\nlet x = crate::cli::main();\n".to_owned(), "not use cli::main"),
        ("src/model/x.rs", "//! X.\nprintln!(\"x\");\n".to_owned(), "never prints"),
        ("src/model/x.rs", format!("//! X.\n{long_function}"), "a function of 71 lines"),
        ("src/model/x.rs", format!("//! X.\n{}", "1;\n".repeat(500)), "501 lines"),
        ("docs/x.md", "x \n".to_owned(), "space"),
        ("docs/x.md", "x".to_owned(), "no end of line"),
        ("docs/x.md", format!("{}me\n", MACHINES[0]), "a path of"),
        ("docs/x.md", format!("{}: x\n", concat!("TO", "DO")), "without an owner"),
    ];
    for (path, text, expected) in cases {
        let problems = File::new(path, text).problems();
        assert!(
            problems.len() == 1 && problems[0].contains(expected),
            "{path}, {expected}: {problems:?}"
        );
    }
    for (word, _) in BANNED {
        let problems = File::new("tests/x.rs", format!("//! X.\n{word}\n")).problems();
        assert_eq!(problems.len(), 1, "{word}: {problems:?}");
    }
    let long_tests = "1;\n".repeat(600);
    for (path, text) in [
        ("src/model/x.rs", "//! X.\nuse crate::kernel::time::Time;\nuse crate::model::kv;\n"),
        ("src/cli/x.rs", "//! X.\nprintln!(\"x\");\n"),
        ("src/kernel/x.rs", "//! X.\n//! [`crate::model`]\n"),
        ("src/kernel/x.rs", &format!("//! X.\n#[cfg(test)]\nmod tests {{\n{long_tests}}}\n")),
    ] {
        assert_eq!(File::new(path, text).problems(), [""; 0], "{text}");
    }
}

/// Whether a document names a key: in full, or under a heading that names its section.
fn is_documented(document: &str, key: &str) -> bool {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let mut in_section = false;
    document.contains(key)
        || document.lines().any(|line| {
            if line.starts_with('#') {
                in_section = line.contains(&format!("[{section}]"));
            }
            in_section && line.contains(&format!("`{name}`"))
        })
}

#[test]
fn every_key_is_documented() {
    let document = "# `[router]`\n`policy`\n# `[fleet]`\nfleet.workers\n";
    assert!(is_documented(document, "router.policy"));
    assert!(is_documented(document, "fleet.workers"));
    assert!(!is_documented(document, "fleet.policy"));
    let document = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    // What a pool can change is documented where it belongs.
    let keys = all_keys().into_iter().filter(|key| {
        !["engine.", "timing."]
            .iter()
            .any(|section| key.starts_with(&format!("pools.NAME.{section}")))
    });
    let missing: Vec<String> = keys.filter(|key| !is_documented(&document, key)).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not name {}", missing.join(", "));
}

#[test]
fn every_shipped_configuration_resolves() {
    let is_configuration = |file: &File| {
        file.path.starts_with("configs/")
            && !file.path.starts_with("configs/catalog/")
            && file.path.rsplit('.').next() == Some("toml")
    };
    let configurations: Vec<File> = files().into_iter().filter(is_configuration).collect();
    assert!(!configurations.is_empty());
    for File { path, text } in configurations {
        let loaded = Loaded::load(Some(&root().join(&path)), &[]);
        let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
        loaded.resolve().unwrap_or_else(|error| panic!("{error}"));
        if text.contains("\n[sweep]\n") {
            // All combinations and all plots.
            Plan::new(&loaded, &[], &[], "auto").unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
