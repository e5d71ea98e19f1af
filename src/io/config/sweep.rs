//! `[sweep]` and `--vary`: which keys of the configuration take which values, one run after the other.
//!
//! ```toml
//! [sweep]
//! "router.policy" = ["kv", "round-robin"]
//! "fleet.workers" = [4, 8, 16]
//! plot = ["p99_ttft_ms"]
//! ```
//!
//! Keys keep their order: the last one varies fastest.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::io::config::error::{ConfigError, Problem};
use crate::io::config::keys::{join, known, lookup, nearest, similar};
use crate::io::config::layer::Layer;
use crate::kernel::Span;

/// Which keys vary, and what to plot.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Sweep {
    /// The keys; the last one varies fastest. Every one has at least one value.
    pub vary: Vec<Varied>,
    /// Columns of the results to plot.
    plot: Vec<Sourced<String>>,
}

/// A key and the values it takes.
#[derive(Clone, PartialEq, Debug)]
pub struct Varied {
    /// The full path.
    pub key: String,
    /// The values, in order.
    pub values: Vec<SweepValue>,
}

/// One value of a varied key.
#[derive(Clone, PartialEq, Debug)]
pub struct SweepValue(Sourced<toml::Value>);

/// Something with the place it came from: file, line and column, or an option as the user typed it.
#[derive(Clone, PartialEq, Debug)]
struct Sourced<T> {
    place: String,
    value: T,
}

/// Most runs of a sweep.
const RUNS_MAX: usize = 65_536;

/// The key of the list of plots; no section has this name.
const PLOT: &str = "plot";

const VALUES: &str = "a list of values, such as [1, 2]";
const COLUMNS: &str = "a list of columns of sweep.csv, such as [\"p99_ttft_ms\"]";

impl fmt::Display for SweepValue {
    /// Text without quotes, everything else as TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.value {
            toml::Value::String(text) => f.write_str(text),
            other => write!(f, "{other}"),
        }
    }
}

impl SweepValue {
    /// The value as a number; times in milliseconds.
    pub fn number(&self) -> Option<f64> {
        match &self.0.value {
            toml::Value::Integer(number) => Some(*number as f64),
            toml::Value::Float(number) => Some(*number),
            toml::Value::String(text) => Span::parse(text).ok().map(Span::as_ms),
            _ => None,
        }
    }

    /// Whether it is a time.
    pub fn is_time(&self) -> bool {
        self.0.value.is_str() && self.number().is_some()
    }

    /// What gives a key this value: the place it came from, and an assignment.
    fn assignment(&self, key: &str) -> (String, String) {
        (self.0.place.clone(), format!("{key}={}", self.0.value))
    }
}

impl Sweep {
    /// How many runs there are.
    pub fn runs(&self) -> usize {
        self.vary.iter().map(|varied| varied.values.len()).product()
    }

    /// The value of each varied key in run number `run`, counted from 0.
    pub fn values(&self, run: usize) -> Vec<&SweepValue> {
        let mut left = run;
        let mut values: Vec<&SweepValue> = Vec::new();
        for Varied { values: all, .. } in self.vary.iter().rev() {
            values.push(&all[left % all.len()]);
            left /= all.len();
        }
        values.reverse();
        values
    }

    /// The names of the columns to plot.
    pub fn plots(&self) -> impl Iterator<Item = &str> {
        self.plot.iter().map(|column| column.value.as_str())
    }

    /// Checks that every column to plot is one of `columns`, and that some key can be the horizontal axis.
    ///
    /// # Errors
    /// If one is not, named with its place.
    pub fn check_plots(&self, columns: &[&str]) -> Result<(), ConfigError> {
        let key = format!("sweep.{PLOT}");
        for Sourced { place, value } in &self.plot {
            if !columns.contains(&value.as_str()) {
                let names: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
                let near = nearest(value, &names);
                let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
                let expected = format!("one of {}{near}", columns.join(", "));
                let found = format!("{value:?}");
                let problem = Problem::Value { found, expected };
                return Err(ConfigError::new(place, None, &key, problem));
            }
            if self.axis().is_none() {
                let reason =
                    "needs a varied key with numbers or times, which is the horizontal axis";
                let problem = Problem::Contradiction(reason.to_owned());
                return Err(ConfigError::new(place, None, &key, problem));
            }
        }
        Ok(())
    }

    /// Which varied key is the horizontal axis of plots: the last one whose values are all numbers or times.
    pub fn axis(&self) -> Option<usize> {
        self.vary.iter().rposition(|varied| {
            varied.values.iter().all(|value| value.number().is_some_and(f64::is_finite))
        })
    }

    /// The table `[sweep]` that says the same, independent of the folder in which it is read.
    pub fn to_toml(&self) -> String {
        let mut lines = vec!["[sweep]\n".to_owned()];
        for Varied { key, values } in &self.vary {
            let values = values.iter().map(|value| match &value.0.value {
                toml::Value::String(path) if key == "workload.trace" => {
                    toml::Value::String(super::absolute(path))
                }
                other => other.clone(),
            });
            let values = toml::Value::Array(values.collect());
            lines.push(format!("{} = {values}\n", toml::Value::String(key.clone())));
        }
        if !self.plot.is_empty() {
            let plots = toml::Value::Array(self.plots().map(toml::Value::from).collect());
            lines.push(format!("{PLOT} = {plots}\n"));
        }
        lines.concat()
    }

    /// Adds what the command line says: `KEY=V1,V2` replaces the values of its key or comes last, `plot` replaces the
    /// plots.
    pub(super) fn extend(&mut self, vary: &[String], plot: &[String]) -> Result<(), ConfigError> {
        for text in vary {
            let varied = Varied::from_option(text)?;
            match self.vary.iter_mut().find(|other| other.key == varied.key) {
                Some(other) => *other = varied,
                None => self.vary.push(varied),
            }
        }
        if !plot.is_empty() {
            let sourced = |column: &String| Sourced {
                place: format!("--plot {column}"),
                value: column.clone(),
            };
            self.plot = plot.iter().map(sourced).collect();
        }
        let runs = self.vary.iter().try_fold(1_usize, |runs, varied| {
            runs.checked_mul(varied.values.len()).filter(|&runs| runs <= RUNS_MAX)
        });
        if self.vary.is_empty() || runs.is_none() {
            let reason = if runs.is_none() {
                format!("has more than {RUNS_MAX} runs")
            } else {
                "varies no key: say --vary KEY=V1,V2, or add the table [sweep] to the file"
                    .to_owned()
            };
            return Err(ConfigError::new(
                "configuration",
                None,
                "sweep",
                Problem::Contradiction(reason),
            ));
        }
        Ok(())
    }

    /// Assignments that make run number `run` of a configuration.
    pub(super) fn assignments(&self, run: usize) -> Vec<(String, String)> {
        let keys = self.vary.iter().map(|varied| &varied.key);
        keys.zip(self.values(run)).map(|(key, value)| value.assignment(key)).collect()
    }

    /// Reads the table of a file.
    pub(super) fn read(layer: &Layer, value: &Spanned<DeValue<'_>>) -> Result<Sweep, ConfigError> {
        let mut sweep = Sweep::default();
        let Some(table) = value.get_ref().as_table() else {
            let expected = "a table of keys and the values they take";
            return Err(layer.complain_about("sweep", value.span(), expected));
        };
        sweep.read_table(layer, "", table)?;
        Ok(sweep)
    }

    fn read_table(
        &mut self,
        layer: &Layer,
        path: &str,
        table: &DeTable<'_>,
    ) -> Result<(), ConfigError> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            // A whole path may be one key in quotes.
            let name = key.get_ref();
            let full = if path.is_empty() { name.to_string() } else { join(path, name) };
            match (known(&full), value.get_ref()) {
                (None, _) if full == PLOT => self.read_plots(layer, value)?,
                (None, _) => return Err(layer.unknown_key(&full, key.span().start)),
                (Some(toml::Value::Table(_)), DeValue::Table(table)) => {
                    self.read_table(layer, &full, table)?;
                }
                (Some(toml::Value::Table(_)), _) => {
                    return Err(layer.is_section(&full, value.span()));
                }
                (Some(_), DeValue::Array(values)) if !values.is_empty() => {
                    let values = values
                        .iter()
                        .map(|value| (layer.place(value.span().start), layer.slice(value)));
                    let varied = Varied::new(&full, values)?;
                    if self.vary.iter().any(|other| other.key == full) {
                        return Err(layer.complain_about(&full, value.span(), "varied only once"));
                    }
                    self.vary.push(varied);
                }
                (Some(_), _) => return Err(layer.complain_about(&full, value.span(), VALUES)),
            }
        }
        Ok(())
    }

    fn read_plots(
        &mut self,
        layer: &Layer,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let wrong = || layer.complain_about("sweep.plot", value.span(), COLUMNS);
        for column in value.get_ref().as_array().ok_or_else(wrong)? {
            let name = column.get_ref().as_str().ok_or_else(wrong)?.to_owned();
            self.plot.push(Sourced { place: layer.place(column.span().start), value: name });
        }
        Ok(())
    }
}

impl Varied {
    /// Values as TOML, each with its place; all have to be of the key's type.
    fn new<'a>(
        key: &str,
        values: impl Iterator<Item = (String, &'a str)>,
    ) -> Result<Varied, ConfigError> {
        let values = values.map(|(place, text)| {
            let layer = Layer::from_assignment(&place, &format!("{key}={text}"))?;
            let value = lookup(layer.table(), key).expect("it has just been set");
            Ok(SweepValue(Sourced { place, value }))
        });
        Ok(Varied { key: key.to_owned(), values: values.collect::<Result<_, _>>()? })
    }

    /// `KEY=V1,V2`: values are TOML, or else text between commas.
    fn from_option(option: &str) -> Result<Varied, ConfigError> {
        let place = format!("--vary {option}");
        let complain = |key: &str, problem| ConfigError::new(&place, None, key, problem);
        let parts = option.split_once('=').map(|(key, values)| (key.trim(), values.trim()));
        let (key, values) = parts
            .filter(|(key, values)| !key.is_empty() && !values.is_empty())
            .ok_or_else(|| complain("", Problem::NotAVariation))?;
        match known(key) {
            None => {
                let near = similar(key);
                return Err(complain(key, Problem::UnknownKey { near, sections: None }));
            }
            Some(toml::Value::Table(_)) => {
                let reason = format!("is a section, so the path has to go on: {key}.KEY");
                return Err(complain(key, Problem::Contradiction(reason)));
            }
            Some(_) => {}
        }
        let list = format!("[{values}]");
        let parsed = DeValue::parse(&list).ok();
        let texts: Vec<&str> = match parsed.as_ref().and_then(|list| list.get_ref().as_array()) {
            Some(elements) => elements.iter().map(|element| &list[element.span()]).collect(),
            None => values.split(',').map(str::trim).collect(),
        };
        Varied::new(key, texts.into_iter().map(|text| (place.clone(), text)))
    }
}
