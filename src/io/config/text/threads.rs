//! How many threads a run asks for.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How many threads: a number, or `"auto"`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ThreadCount {
    /// As many as pay.
    #[default]
    Auto,
    /// So many.
    Count(u32),
}

impl fmt::Display for ThreadCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ThreadCount::Auto => f.write_str("auto"),
            ThreadCount::Count(count) => write!(f, "{count}"),
        }
    }
}

impl Serialize for ThreadCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ThreadCount::Auto => serializer.serialize_str("auto"),
            ThreadCount::Count(count) => serializer.serialize_u32(*count),
        }
    }
}

impl<'de> Deserialize<'de> for ThreadCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ThreadCount, D::Error> {
        deserializer.deserialize_any(ThreadCountVisitor)
    }
}

/// Takes a number and the word `auto`.
struct ThreadCountVisitor;

impl de::Visitor<'_> for ThreadCountVisitor {
    type Value = ThreadCount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of threads, or \"auto\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ThreadCount, E> {
        match text {
            "auto" => Ok(ThreadCount::Auto),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<ThreadCount, E> {
        let count = u32::try_from(number);
        count
            .map(ThreadCount::Count)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
}
