//! One source of values: a file, or an assignment from the command line.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::io::config::check::COUNT;
use crate::io::config::error::{ConfigError, Problem};
use crate::io::config::keys::{
    SWEEP, base, child, join, known, nearest, schema, segments, similar, top_level,
};
use crate::io::config::sweep::Sweep;
use crate::io::config::text::{Config, Engine, Pool, Timing};
use crate::kernel::Span;

/// A layer that has been read: every key is known and every value has its type.
#[derive(Clone)]
pub(super) struct Layer {
    name: String,
    text: String,
    /// Whether positions in the text mean anything to the user.
    is_file: bool,
    table: toml::Table,
    /// The table `[sweep]`, if there is one.
    sweep: Option<Sweep>,
}

impl Layer {
    pub(super) fn from_file(path: &Path) -> Result<Layer, ConfigError> {
        let name = path.display().to_string();
        let unreadable =
            |reason: String| ConfigError::new(&name, None, "", Problem::Unreadable(reason));
        if path.is_dir() {
            return Err(unreadable("it is a directory".to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Layer::read(name, text, true)
    }

    /// An assignment `path=value`; the value is TOML, or else text.
    pub(super) fn from_assignment(name: &str, assignment: &str) -> Result<Layer, ConfigError> {
        let (path, value) = assignment
            .split_once('=')
            .filter(|(path, _)| !path.trim().is_empty())
            .ok_or_else(|| ConfigError::new(name, None, "", Problem::NotAnAssignment))?;
        let (path, value) = (path.trim(), value.trim());
        let literal = DeValue::parse(value).is_ok();
        let value = if literal { value.to_owned() } else { toml::Value::from(value).to_string() };
        Layer::read(name.to_owned(), format!("{path} = {value}"), false)
    }

    fn read(name: String, text: String, is_file: bool) -> Result<Layer, ConfigError> {
        let layer = Layer { name, text, is_file, table: toml::Table::new(), sweep: None };
        let mut document = DeTable::parse(&layer.text).map_err(|error| layer.syntax(&error))?;
        let sweep = document.get_mut().remove(SWEEP).filter(|_| is_file);
        layer.check_keys(document.get_ref(), "", &toml::Value::Table(schema()))?;
        if let Err(error) = Config::deserialize(Deserializer::from(document.clone())) {
            return Err(layer.type_error(document.get_ref(), &error));
        }
        layer.check_pools(document.get_ref())?;
        let table = toml::Table::deserialize(Deserializer::from(document.clone()));
        let table = table.map_err(|error| match error.span() {
            Some(_) => layer.type_error(document.get_ref(), &error),
            None => layer.syntax(&error),
        })?;
        layer.check_lengths(&table)?;
        let sweep = sweep.map(|sweep| Sweep::read(&layer, &sweep)).transpose()?;
        Ok(Layer { table, sweep, ..layer })
    }

    /// What it says about sweeps.
    pub(super) fn sweep(&self) -> Option<&Sweep> {
        self.sweep.as_ref()
    }

    /// Whether it is a file.
    pub(super) fn is_file(&self) -> bool {
        self.is_file
    }

    /// A place in the layer as complaints name it.
    pub(super) fn place(&self, offset: usize) -> String {
        match self.position(offset) {
            Some((line, column)) => format!("{}:{line}:{column}", self.name),
            None => self.name.clone(),
        }
    }

    /// A value as it is written.
    pub(super) fn slice(&self, value: &Spanned<DeValue<'_>>) -> &str {
        &self.text[value.span()]
    }

    /// A complaint about a value: it has to be something else.
    pub(super) fn complain_about(
        &self,
        key: &str,
        span: Range<usize>,
        expected: &str,
    ) -> ConfigError {
        let position = self.position(span.start);
        let found = self.text[span].to_owned();
        let problem = Problem::Value { found, expected: expected.to_owned() };
        ConfigError::new(&self.name, position, key, problem)
    }

    /// A complaint about a key that stands at this offset: there is none of this name.
    pub(super) fn unknown_key(&self, key: &str, offset: usize) -> ConfigError {
        let near = similar(key);
        let sections = (!key.contains('.')).then(|| top_level().join(", "));
        let problem = Problem::UnknownKey { near, sections };
        ConfigError::new(&self.name, self.position(offset), key, problem)
    }

    /// A complaint about a value that was given to a section.
    pub(super) fn is_section(&self, key: &str, span: Range<usize>) -> ConfigError {
        let found = &self.text[span.clone()];
        let reason = format!("is {found}, but is a section, so the path has to go on: {key}.KEY");
        let problem = Problem::Contradiction(reason);
        ConfigError::new(&self.name, self.position(span.start), key, problem)
    }

    pub(super) fn table(&self) -> &toml::Table {
        &self.table
    }

    /// Whether the layer sets this key or something below it.
    pub(super) fn defines(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// A complaint about a key of this layer.
    pub(super) fn complain(&self, key: &str, problem: Problem) -> ConfigError {
        let span = self.find(key).map(|(span, _)| span);
        ConfigError::new(&self.name, span.and_then(|span| self.position(span.start)), key, problem)
    }

    /// Where the value of a key stands, and what it is.
    fn find(&self, key: &str) -> Option<(Range<usize>, String)> {
        let document = DeTable::parse(&self.text).ok()?;
        let mut names = segments(key).into_iter();
        let mut value = document.get_ref().get(names.next()?)?;
        for name in names {
            value = value.get_ref().as_table()?.get(name)?;
        }
        Some((value.span(), self.text[value.span()].to_owned()))
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let position = error.span().and_then(|span| self.position(span.start));
        let reason = error.message().replace('\n', ", ");
        ConfigError::new(&self.name, position, "", Problem::Syntax(reason))
    }

    fn check_keys(
        &self,
        table: &DeTable<'_>,
        path: &str,
        schema: &toml::Value,
    ) -> Result<(), ConfigError> {
        for (key, value) in table {
            let full = join(path, key.get_ref());
            let Some(known) = child(schema, path, key.get_ref()) else {
                return Err(self.unknown_key(&full, key.span().start));
            };
            match (value.get_ref(), known) {
                (DeValue::Table(table), toml::Value::Table(_)) => {
                    self.check_keys(table, &full, known)?;
                }
                (_, toml::Value::Table(_)) => return Err(self.is_section(&full, value.span())),
                _ => {}
            }
        }
        Ok(())
    }

    /// The types of what pools change, which are kept as tables because a part of a section is not a section.
    fn check_pools(&self, document: &DeTable<'_>) -> Result<(), ConfigError> {
        let pools = document.get("pools").and_then(|pools| pools.get_ref().as_table());
        for pool in pools.into_iter().flat_map(|pools| pools.values()) {
            for section in ["engine", "timing"] {
                let Some(value) = pool.get_ref().get(section) else { continue };
                let Some(table) = value.get_ref().as_table() else { continue };
                let spanned = Spanned::new(value.span(), table.clone());
                let deserializer = Deserializer::from(spanned);
                let result = match section {
                    "engine" => Engine::deserialize(deserializer).map(drop),
                    _ => Timing::deserialize(deserializer).map(drop),
                };
                result.map_err(|error| self.type_error(document, &error))?;
            }
        }
        Ok(())
    }

    /// That lists of a fixed length have it. With positions in the text the parser ignores what comes after it.
    fn check_lengths(&self, table: &toml::Table) -> Result<(), ConfigError> {
        if check_types(table).is_ok() {
            return Ok(());
        }
        let Some((key, message)) = misfit(table, "", &|part| part) else { return Ok(()) };
        let (span, found) = self.find(&key).unwrap_or_default();
        let expected = expectation(&key, &found, &message);
        let problem = Problem::Value { found, expected };
        Err(ConfigError::new(&self.name, self.position(span.start), &key, problem))
    }

    /// A complaint about a value of the wrong type, found by the position the parser gives.
    fn type_error(&self, document: &DeTable<'_>, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let (key, value) = locate(document, "", &span).unwrap_or_default();
        let found = self.text.get(value).unwrap_or_default().to_owned();
        let expected = expectation(&key, &found, error.message());
        let position = self.position(span.start);
        ConfigError::new(&self.name, position, &key, Problem::Value { found, expected })
    }

    fn position(&self, offset: usize) -> Option<(usize, usize)> {
        let before = self.text.get(..offset).filter(|_| self.is_file)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }
}

/// The key whose value covers a span of the text.
fn locate(table: &DeTable<'_>, path: &str, span: &Range<usize>) -> Option<(String, Range<usize>)> {
    let covers = |value: &Spanned<DeValue<'_>>| {
        value.span().start <= span.start && span.end <= value.span().end
    };
    for (key, value) in table {
        let full = join(path, key.get_ref());
        if let DeValue::Table(table) = value.get_ref()
            && let Some(found) = locate(table, &full, span)
        {
            return Some(found);
        }
        if covers(value) {
            return Some((full, value.span()));
        }
    }
    None
}

/// That all values have the types of their keys.
fn check_types(table: &toml::Table) -> Result<(), toml::de::Error> {
    let config = Config::deserialize(table.clone())?;
    for Pool { engine, timing, .. } in config.pools.into_values() {
        Engine::deserialize(engine)?;
        Timing::deserialize(timing)?;
    }
    Ok(())
}

/// The first key below `path` whose value is not of its type, and what the parser says of it. `around` puts the table at
/// that path into the table of everything.
fn misfit(
    table: &toml::Table,
    path: &str,
    around: &dyn Fn(toml::Table) -> toml::Table,
) -> Option<(String, String)> {
    table.iter().find_map(|(key, value)| {
        let alone = |value| around(toml::Table::from_iter([(key.clone(), value)]));
        let full = join(path, key);
        if let toml::Value::Table(table) = value {
            return misfit(table, &full, &|part| alone(part.into()));
        }
        let error = check_types(&alone(value.clone())).err()?;
        Some((full, error.message().to_owned()))
    })
}

/// What would have been right, in words, from the parser's message.
fn expectation(key: &str, found: &str, message: &str) -> String {
    let example = known(key);
    let is_time = |text: &str| Span::parse(text).is_ok();
    if example.as_ref().and_then(toml::Value::as_str).is_some_and(is_time) {
        return crate::kernel::ParseSpanError.to_string().replacen("expected ", "", 1);
    }
    let expected = match message.split_once("expected ") {
        Some((_, expected)) => expected,
        // A number that is right but for TOML.
        None if message.starts_with("u64 value") => "u64",
        None => message,
    };
    match (crate::io::config::check::range_of(base(key)), largest(expected)) {
        (Some(COUNT), Some(largest)) => return whole_number(1, largest, found),
        (Some(range), _) => return range.to_owned(),
        (None, Some(largest)) => {
            let least = if expected == "i32" { i32::MIN.into() } else { 0 };
            return whole_number(least, largest, found);
        }
        (None, None) => {}
    }
    if let Some(variants) = expected.strip_prefix("one of ") {
        let variants: Vec<String> =
            variants.split(", ").map(|variant| variant.trim_matches('`').to_owned()).collect();
        let near = nearest(found.trim_matches('"'), &variants);
        let suggestion = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        return format!("one of {}{suggestion}", variants.join(", "));
    }
    match expected {
        "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "text in quotes".to_owned(),
        "a sequence" => "a list of numbers, such as [10, 200, 5000]".to_owned(),
        other => other.replace('`', ""),
    }
}

/// What would have been right, of whole numbers in a range. Where it ends matters to nobody who has not gone beyond it, if
/// that is farther than anybody counts.
fn whole_number(least: i64, largest: i64, found: &str) -> String {
    let is_beyond = !found.starts_with('-') && found.len() >= largest.to_string().len();
    if largest < i64::MAX || is_beyond {
        return format!("a whole number from {least} to {largest}");
    }
    format!("a whole number, {least} or more")
}

/// The largest value of a type of whole numbers; TOML has none beyond 2^63 - 1.
fn largest(integer: &str) -> Option<i64> {
    match integer {
        "i32" => Some(i32::MAX.into()),
        "u32" => Some(u32::MAX.into()),
        "u64" => Some(i64::MAX),
        _ => None,
    }
}
