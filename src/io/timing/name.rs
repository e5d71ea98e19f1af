//! Names of timing tables: `<gpu>/<model>/<backend>-<version>-tp<k>`.

use std::cmp::Ordering;
use std::fmt;

/// Which engine shape a table is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The GPU or system, such as `h200_sxm`.
    pub gpu: String,
    /// The model with its precision, such as `qwen3-32b`.
    pub model: String,
    /// The inference engine, such as `vllm`; no hyphens.
    pub backend: String,
    /// Its version, such as `0.12.0`.
    pub version: String,
    /// GPUs that share every layer.
    pub tp: u32,
}

impl Name {
    /// Takes a name apart; nothing if it is none.
    pub fn parse(text: &str) -> Option<Name> {
        let mut parts = text.split('/');
        let (gpu, model, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let (backend, rest) = rest.split_once('-')?;
        let (version, tp) = rest.rsplit_once("-tp")?;
        let tp: u32 = tp.parse().ok().filter(|&tp| tp > 0)?;
        let texts = [gpu, model, backend, version];
        let is_word = |text: &&str| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
            text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_part)
        };
        if parts.next().is_some() || !texts.iter().all(is_word) {
            return None;
        }
        let [gpu, model, backend, version] = texts.map(str::to_owned);
        let name = Name { gpu, model, backend, version, tp };
        // `tp02` would be another file.
        (name.to_string() == text).then_some(name)
    }

    /// Whether both are one name but for capitals: there is one table of both.
    pub fn is_same(&self, other: &Name) -> bool {
        self.to_string().eq_ignore_ascii_case(&other.to_string())
    }

    fn in_lower_case(&self) -> Name {
        let lower = str::to_ascii_lowercase;
        let Name { gpu, model, backend, version, tp } = self;
        let (gpu, model) = (lower(gpu), lower(model));
        Name { gpu, model, backend: lower(backend), version: lower(version), tp: *tp }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name { gpu, model, backend, version, tp } = self;
        write!(f, "{gpu}/{model}/{backend}-{version}-tp{tp}")
    }
}

/// By GPU, model, backend, then the older version first, whatever is in capitals. Capitals come first in what is the same.
impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let (one, two) = (self.in_lower_case(), other.in_lower_case());
        (&one.gpu, &one.model, &one.backend)
            .cmp(&(&two.gpu, &two.model, &two.backend))
            .then_with(|| compare_versions(&one.version, &two.version))
            .then_with(|| one.version.cmp(&two.version))
            .then_with(|| one.tp.cmp(&two.tp))
            .then_with(|| self.to_string().cmp(&other.to_string()))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares versions number by number. A release comes after its candidates: 1.3.0rc20 < 1.3.0 < 1.3.0.1.
fn compare_versions(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (parts(one), parts(other));
    loop {
        let (one, other) = (left.next(), right.next());
        if one.is_none() && other.is_none() {
            return Ordering::Equal;
        }
        let order = rank(one).cmp(&rank(other));
        if order.is_ne() {
            return order;
        }
    }
}

/// Words come before the end, the end before a number.
fn rank(part: Option<&str>) -> (u8, u64, &str) {
    match part {
        None => (1, 0, ""),
        Some(part) => match part.parse() {
            Ok(number) => (2, number, ""),
            Err(_) => (0, 0, part),
        },
    }
}

/// Runs of digits and runs of letters; everything else separates them.
fn parts(version: &str) -> impl Iterator<Item = &str> {
    let separated = version.split(|c: char| !c.is_ascii_alphanumeric());
    let chunks = separated
        .flat_map(|text| text.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()));
    chunks.map(|chunk| std::str::from_utf8(chunk).expect("separators are cut off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let name = Name::parse("h200_sxm/qwen3-32b/trtllm-1.3.0rc20-tp2").unwrap();
        assert_eq!((&*name.backend, &*name.version, name.tp), ("trtllm", "1.3.0rc20", 2));
        let bad = [
            "",
            "a/b",
            "a/b/c",
            "a/b/c-1",
            "a/b/c-1-tp",
            "a/b/c-1-tp0",
            "a/b/c-1-tp02",
            "a/b/c-1-tpx",
            "a/b/c-1-tp1/d",
            "../b/c-1-tp1",
            "a//c-1-tp1",
            "a/b/-1-tp1",
            "a/b c/d-1-tp1",
            "a/b/c--tp1",
        ];
        for text in bad {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn capitals_make_no_other_name() {
        let names =
            ["a/b/c-1-tp1", "A/B/c-2RC1-tp1", "a/b/c-2rc1-tp1", "A/b/C-2rc2-tp1", "b/a/c-1-tp1"];
        let names = names.map(|name| Name::parse(name).unwrap());
        assert!(names.is_sorted(), "{names:?}");
        assert!(names[1].is_same(&names[2]) && names[1] != names[2]);
        assert!(!names[2].is_same(&names[3]));
    }

    #[test]
    fn versions_are_numbers() {
        let versions =
            ["0.9.2", "0.12.0", "0.14.0", "1.3.0rc9", "1.3.0rc20", "1.3.0", "1.3.0.1", "1.10"];
        for pair in versions.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare_versions(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare_versions("0.12.0", "0.12.0"), Ordering::Equal);
    }
}
