//! Timing tables as they ship, and `fleetsim timing`.

use std::fs;
use std::path::Path;

use fleetsim::io::config::Catalog;
use fleetsim::io::timing::{Accuracy, Errors, Library};

use crate::cli::{names, run, text};
use crate::support::timing_tables;

const NAME: &str = "h200_sxm/qwen3-32b/vllm-0.12.0-tp2";

/// The errors of every table, in order: totals on the grid, figures left out, mixed passes.
fn errors(library: &Library) -> Vec<(String, [Errors; 5])> {
    let check = |entry| {
        let measurement = library.load(entry).unwrap_or_else(|error| panic!("{error}"));
        let accuracy = Accuracy::of(&measurement);
        let errors = [
            accuracy.prefill_total,
            accuracy.decode_total,
            accuracy.prefill_left_out,
            accuracy.decode_left_out,
            accuracy.mixed,
        ];
        (entry.name.to_string(), errors.map(|errors| errors.expect("there are such passes")))
    };
    library.list().iter().map(check).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Bounds of the means of each kind of error: for the median table, for the worst.
fn within(errors: &[(String, [Errors; 5])], bounds: [(f64, f64); 5]) {
    for (kind, (middle, worst)) in bounds.into_iter().enumerate() {
        let means: Vec<f64> = errors.iter().map(|(_, errors)| errors[kind].mean).collect();
        let found = median(means);
        assert!(found <= middle, "kind {kind}: a median of {found}");
        for (name, errors) in errors {
            assert!(errors[kind].mean <= worst, "kind {kind}, {name}: {:?}", errors[kind]);
        }
    }
}

#[test]
fn shipped_tables_are_exact() {
    let errors = errors(&Library::open(None).unwrap());
    assert!(errors.len() >= 50);
    let total = (0.0005, 0.002);
    within(&errors, [total, total, (0.005, 0.02), (0.005, 0.02), (0.001, 0.02)]);
    for (name, errors) in errors {
        // The largest error of a mixed pass.
        assert!(errors[4].max < 0.07, "{name}: {:?}", errors[4]);
    }
}

/// All tables that were extracted, doubtful ones included.
#[test]
fn all_tables_are_read() {
    let Some(folder) = timing_tables() else { return };
    let errors = errors(&Library::open(Some(&folder)).unwrap());
    assert!(errors.len() >= 180, "{}", errors.len());
    let total = (0.0005, 0.01);
    within(&errors, [total, total, (0.005, 0.05), (0.005, 0.05), (0.001, 0.05)]);
}

fn timing(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let args = [&["timing"], args].concat();
    let output = run(folder, &args);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn tables_are_listed_shown_and_plotted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (code, out, _) = timing(folder, &["list", "qwen3-32b", "H200", "tp2"]);
    assert!(code == Some(0) && out.contains(NAME) && out.contains("4 tables"), "{out}");
    let (code, out, _) = timing(folder, &["list", "--json", "0.12.0-tp2"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, json[0]["name"].as_str(), json[0]["tp"].as_u64()),
        (Some(0), Some(NAME), Some(2))
    );
    let (code, out, err) = timing(folder, &["list", "nothing"]);
    assert!(code == Some(2) && out.is_empty() && err.contains("has nothing in its name"), "{err}");
    let (code, out, _) = timing(folder, &["show", NAME]);
    assert_eq!(code, Some(0));
    for expected in ["aiconfigurator 0.8.0", "Apache-2.0", "tokens 751550", "1 to 131072", "101.20"]
    {
        assert!(out.contains(expected), "{expected} is missing in\n{out}");
    }
    let (code, _, err) = timing(folder, &["show", "h200_sxm/qwen3-32b/vllm-0.12.0-tp3"]);
    assert!(code == Some(2) && err.contains("did you mean"), "{err}");
    let (code, out, _) = timing(folder, &["plot", NAME, "plots"]);
    assert_eq!((code, out.as_str()), (Some(0), "plots in plots\n"));
    assert_eq!(names(&folder.join("plots")), ["decode.svg", "prefill.svg"]);
    let (code, _, err) = timing(folder, &["plot", NAME, "plots"]);
    let expected = "plots: exists already; choose another directory, or replace it with --force";
    assert!(code == Some(4) && err.contains(expected), "{err}");
    assert_eq!(timing(folder, &["plot", NAME, "plots", "--force"]).0, Some(0));
}

#[test]
fn tables_are_checked_and_imported() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (code, out, _) = timing(folder, &["check", "0.12.0"]);
    assert!(code == Some(0) && out.contains("mixed: median of means 0.00 %"), "{out}");
    let stem = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/timing").join(NAME);
    let (code, out, err) =
        timing(folder, &["import", stem.to_str().unwrap(), "--timing-dir", "mine"]);
    assert!(code == Some(0) && out.contains("is in mine/h200_sxm"), "{out} {err}");
    assert_eq!(names(&folder.join("mine/h200_sxm/qwen3-32b")).len(), 5);
    let (code, out, _) = timing(folder, &["list", "0.12.0-tp2", "--timing-dir", "mine"]);
    assert!(code == Some(0) && out.contains("mine") && !out.contains("built in"), "{out}");
    let name = "H200_SXM/Qwen3/vllm-1-tp2";
    let args = ["import", stem.to_str().unwrap(), "--timing-dir", "capitals", "--as", name];
    let (code, out, err) = timing(folder, &args);
    assert_eq!(code, Some(0), "{out} {err}");
    for word in ["QWEN3", "Qwen3", "qwen3"] {
        let (code, out, _) = timing(folder, &["list", word, "--timing-dir", "capitals"]);
        assert!(code == Some(0) && out.contains(name), "{word}: {out}");
    }
    // A table whose mixed passes take twice as long as they should.
    let file = format!("mine/{NAME}.mixed.csv");
    let mixed = fs::read_to_string(folder.join(&file)).unwrap();
    let doubled = mixed.lines().map(|line| {
        let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
        if let Ok(total) = fields[5].parse::<f64>() {
            fields[5] = (2.0 * total).to_string();
        }
        fields.join(",") + "\n"
    });
    fs::write(folder.join(&file), doubled.collect::<String>()).unwrap();
    let (code, _, err) = timing(folder, &["check", "0.12.0-tp2", "--timing-dir", "mine"]);
    assert!(code == Some(3) && err.contains("off by more than 2 % on average"), "{err}");
    // What a table says about itself does nothing to the terminal.
    let meta =
        r#"{"model": "a\nb", "source": "\u001b[2J", "license": "\u009b", "notes": "ä\r\u007f"}"#;
    fs::write(folder.join(format!("mine/{NAME}.meta.json")), meta).unwrap();
    let (_, out, _) = timing(folder, &["show", NAME, "--timing-dir", "mine"]);
    for line in [r"model:   a\nb", r"source:  \u{1b}[2J, licence \u{9b}", r"notes:   ä\r\u{7f}"] {
        assert!(out.lines().any(|other| other == line), "{line}\n{out:?}");
    }
    let (code, _, err) = timing(folder, &["import", "nowhere", "--timing-dir", "mine"]);
    assert!(code == Some(2) && err.contains("is not the name of a table"), "{err}");
}

/// A copy of a shipped table in `folder`/mine, in which the times of some files are multiplied.
fn scaled(folder: &Path, kinds: &[&str], factor: f64) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/timing");
    fs::create_dir_all(folder.join("mine").join(NAME).parent().unwrap()).unwrap();
    for kind in ["prefill", "decode", "other", "mixed"] {
        let file = format!("{NAME}.{kind}.csv");
        let text = fs::read_to_string(shipped.join(&file)).unwrap();
        let header: Vec<String> =
            text.lines().next().unwrap().split(',').map(str::to_owned).collect();
        let lines = text.lines().map(|line| {
            let fields =
                line.split(',').zip(&header).map(|(field, column)| match field.parse::<f64>() {
                    Ok(ms) if column.ends_with("_ms") && kinds.contains(&kind) => {
                        (ms * factor).to_string()
                    }
                    _ => field.to_owned(),
                });
            fields.collect::<Vec<_>>().join(",") + "\n"
        });
        fs::write(folder.join("mine").join(file), lines.collect::<String>()).unwrap();
    }
}

/// Seconds and microseconds in the place of milliseconds, in all files or in one of them.
#[test]
fn units_that_are_mixed_up_are_noticed() {
    let all = &["prefill", "decode", "other", "mixed"][..];
    let cases: [(&[&str], f64, Option<&str>); 9] = [
        (all, 1.0, None),
        (all, 0.5, None),
        (all, 10.0, None),
        (all, 1e-3, Some("impossibly short")),
        (&["decode"], 1e-3, Some("decode attention at")),
        (&["prefill"], 1e-3, Some("attention of prompts at")),
        (&["other"], 1e-3, Some("without attention")),
        (&["decode"], 1e3, Some("implausibly long")),
        (&["other"], 300.0, Some("implausibly long")),
    ];
    for (kinds, factor, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        scaled(folder, kinds, factor);
        let what = format!("{kinds:?} x {factor}");
        let stem = format!("mine/{NAME}");
        let imported = timing(folder, &["import", &stem, "--timing-dir", "taken"]);
        let checked = timing(folder, &["check", "0.12.0-tp2", "--timing-dir", "mine"]);
        let args = ["run", "--requests", "50", "--timing-dir", "mine", "--json", "--out", "none"];
        let sets = [
            "engine.model=qwen3-32b",
            "engine.gpu=h200_sxm",
            "engine.tp=2",
            "engine.backend_version=0.12.0",
        ];
        let sets = sets.iter().flat_map(|set| ["--set", *set]);
        let output = run(folder, &args.into_iter().chain(sets).collect::<Vec<_>>());
        let (report, error) = (text(&output.stdout), text(&output.stderr));
        let Some(expected) = expected else {
            assert_eq!(
                (imported.0, checked.0),
                (Some(0), Some(0)),
                "{what}: {} {}",
                imported.2,
                checked.2
            );
            assert!(
                output.status.success() && !report.contains("units"),
                "{what}: {report}{error}"
            );
            continue;
        };
        for (code, _, error) in [&imported, &checked] {
            assert!(
                *code == Some(3) && error.contains("milliseconds: are units mixed up?"),
                "{what}: {error}"
            );
            assert!(error.contains(expected), "{what}: {error}");
        }
        assert!(!folder.join("taken").exists(), "{what}");
        if factor < 1.0 {
            assert_eq!(output.status.code(), Some(2), "{what}: {error}");
            assert!(
                error.contains("timing.dir is \"mine\"") && error.contains(expected),
                "{what}: {error}"
            );
        } else {
            assert!(
                output.status.success() && report.contains(expected),
                "{what}: {report}{error}"
            );
        }
    }
}

/// Capitals do not hide what a table is about.
#[test]
fn units_are_noticed_whatever_is_in_capitals() {
    let folder = tempfile::tempdir().unwrap();
    scaled(folder.path(), &["prefill", "decode", "other", "mixed"], 1e-3);
    let (stem, name) = (format!("mine/{NAME}"), "H200_SXM/QWEN3-32B/vLLM-0.12.0-tp2");
    let args = ["import", &stem, "--timing-dir", "taken", "--as", name];
    let (code, _, error) = timing(folder.path(), &args);
    assert!(code == Some(3) && error.contains("impossibly short"), "{error}");
}

/// No table is doubted, built in or extracted, whose GPU and model the catalog knows.
#[test]
fn no_table_is_doubted() {
    let catalog = Catalog::shipped();
    let folder = timing_tables();
    let library = Library::open(folder.as_deref()).unwrap();
    let mut known = 0;
    for entry in library.list() {
        let table = library.load(entry).unwrap().table;
        let Some(deployment) = catalog.deployment(table.identity()) else { continue };
        known += 1;
        let doubt = deployment.doubt(&table);
        assert!(doubt.is_none(), "{}: {}", entry.name, doubt.unwrap());
    }
    assert!(known >= if folder.is_some() { 185 } else { 55 }, "{known}");
}
