//! What can be wrong with a configuration.

use std::fmt::{self, Write};

/// A complaint about one value, with the place it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// A file, or an option as the user typed it.
    place: String,
    /// Line and column, counted from 1, if the place is a file.
    position: Option<(usize, usize)>,
    key: String,
    problem: Problem,
}

/// What is wrong with a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// The file cannot be read.
    Unreadable(String),
    /// The text is not TOML.
    Syntax(String),
    /// An override is not an assignment.
    NotAnAssignment,
    /// What a sweep varies is not a key and its values.
    NotAVariation,
    /// There is no such key. `near` is one that looks like it, `sections` what there is at the top.
    UnknownKey { near: Option<String>, sections: Option<String> },
    /// A value that cannot be.
    Value { found: String, expected: String },
    /// A value that cannot be together with others.
    Contradiction(String),
}

impl ConfigError {
    pub(super) fn new(
        place: &str,
        position: Option<(usize, usize)>,
        key: &str,
        problem: Problem,
    ) -> ConfigError {
        ConfigError { place: place.to_owned(), position, key: key.to_owned(), problem }
    }

    /// The layers do not fit together although each is right by itself.
    pub(super) fn merged(error: &toml::de::Error) -> ConfigError {
        ConfigError::new("configuration", None, "", Problem::Syntax(error.message().to_owned()))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut OneLine(f);
        f.write_str(&self.place)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        let key = &self.key;
        match &self.problem {
            Problem::Unreadable(reason) => write!(f, "cannot be read: {reason}"),
            Problem::Syntax(reason) => write!(f, "not TOML: {reason}"),
            Problem::NotAnAssignment => {
                f.write_str("has to be path=value, such as router.policy=kv")
            }
            Problem::NotAVariation => {
                f.write_str("has to be path=value,value, such as router.policy=kv,round-robin")
            }
            Problem::UnknownKey { near, sections } => {
                write!(f, "unknown key {key}")?;
                match (near, sections) {
                    (Some(near), _) => write!(f, "; did you mean {near}?"),
                    (None, Some(sections)) => write!(f, "; the sections are {sections}"),
                    (None, None) => Ok(()),
                }
            }
            Problem::Value { found, expected } => {
                write!(f, "{key} is {found}, but has to be {expected}")
            }
            Problem::Contradiction(reason) => write!(f, "{key} {reason}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Writes line breaks and the like as escapes: what the user typed may have some, a complaint is one line.
struct OneLine<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| {
            if c.is_control() {
                write!(self.0, "{}", c.escape_default())
            } else {
                self.0.write_char(c)
            }
        })
    }
}
