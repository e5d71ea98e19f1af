//! `[sweep]` and `--vary`: which keys of the configuration take which values in which run.
//!
//! ```toml
//! [sweep]
//! "router.policy" = ["kv", "round-robin"]
//! "fleet.workers" = [4, 8, 16]
//! plot = ["p99_ttft_ms"]
//! ```
//!
//! Keys keep their order: the last one varies fastest. Keys that `together` names go through their values in step.

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
    /// Keys that take their first values together, then their second ones, and so on.
    together: Vec<Sourced<String>>,
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

/// The key of the list of keys that vary in step; no section has this name.
const TOGETHER: &str = "together";

const VALUES: &str = "a list of values, such as [1, 2]";
const KEYS: &str = "a list of varied keys, such as [\"fleet.workers\", \"engine.tp\"]";
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
        self.independent().product()
    }

    /// How many values there are of every key that varies by itself, and once of those that vary together.
    fn independent(&self) -> impl Iterator<Item = usize> {
        let mut together = self.vary.iter().filter(|varied| self.is_together(varied));
        let others = self.vary.iter().filter(|varied| !self.is_together(varied));
        together.next().into_iter().chain(others).map(|varied| varied.values.len())
    }

    fn is_together(&self, varied: &Varied) -> bool {
        self.together.iter().any(|key| key.value == varied.key)
    }

    /// The value of each varied key in run number `run`, counted from 0.
    pub fn values(&self, run: usize) -> Vec<&SweepValue> {
        let mut left = run;
        let mut step = None;
        let mut values: Vec<&SweepValue> = Vec::new();
        for varied in self.vary.iter().rev() {
            let all = &varied.values;
            let mut next = || {
                let index = left % all.len();
                left /= all.len();
                index
            };
            let index =
                if self.is_together(varied) { *step.get_or_insert_with(next) } else { next() };
            values.push(&all[index]);
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
            // Those of pools included.
            let is_path = key == "workload.trace" || format!(".{key}").ends_with(".timing.dir");
            let values = values.iter().map(|value| match &value.0.value {
                toml::Value::String(path) if is_path => toml::Value::String(super::absolute(path)),
                other => other.clone(),
            });
            let values = toml::Value::Array(values.collect());
            lines.push(format!("{} = {values}\n", toml::Value::String(key.clone())));
        }
        if !self.together.is_empty() {
            let keys = self.together.iter().map(|key| toml::Value::from(key.value.as_str()));
            lines.push(format!("{TOGETHER} = {}\n", toml::Value::Array(keys.collect())));
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
        self.check_together()?;
        let runs = self.independent().try_fold(1_usize, |runs, values| {
            runs.checked_mul(values).filter(|&runs| runs <= RUNS_MAX)
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

    /// Keys that vary in step have to vary, and to have as many values as one another.
    fn check_together(&self) -> Result<(), ConfigError> {
        let mut first: Option<&Varied> = None;
        for Sourced { place, value } in &self.together {
            let complain = |reason| {
                let key = format!("sweep.{TOGETHER}");
                Err(ConfigError::new(place, None, &key, Problem::Contradiction(reason)))
            };
            let Some(varied) = self.vary.iter().find(|varied| varied.key == *value) else {
                return complain(format!("names {value}, which does not vary"));
            };
            let first = *first.get_or_insert(varied);
            let (one, other) = (first.values.len(), varied.values.len());
            if one != other {
                let reason = format!(
                    "names {} with {one} values and {value} with {other}: they need as many values",
                    first.key
                );
                return complain(reason);
            }
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
                (None, _) if full == PLOT => {
                    self.plot = read_names(layer, value, "sweep.plot", COLUMNS)?;
                }
                (None, _) if full == TOGETHER => {
                    self.together = read_names(layer, value, "sweep.together", KEYS)?;
                }
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
}

/// Reads a list of texts.
fn read_names(
    layer: &Layer,
    value: &Spanned<DeValue<'_>>,
    key: &str,
    expected: &str,
) -> Result<Vec<Sourced<String>>, ConfigError> {
    let wrong = || layer.complain_about(key, value.span(), expected);
    let list = value.get_ref().as_array().ok_or_else(wrong)?;
    let names = list.iter().map(|name| {
        let value = name.get_ref().as_str().ok_or_else(wrong)?.to_owned();
        Ok(Sourced { place: layer.place(name.span().start), value })
    });
    names.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_they_are_from_everywhere() {
        for key in ["workload.trace", "timing.dir", "pools.a.timing.dir"] {
            let mut sweep = Sweep::default();
            sweep.extend(&[format!("{key}=some/where")], &[]).unwrap();
            let written = sweep.to_toml();
            assert!(
                !written.contains("[\"some/where") && written.contains("some/where"),
                "{written}"
            );
        }
        let mut sweep = Sweep::default();
        sweep.extend(&["router.policy=kv".to_owned()], &[]).unwrap();
        assert!(sweep.to_toml().contains("[\"kv\"]"));
    }
}
