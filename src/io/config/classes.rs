//! From what the user typed about classes to what the program runs.

use crate::io::config::admission;
use crate::io::config::check::{LONGER_THAN_ZERO, Violation};
use crate::io::config::error::Problem;
use crate::io::config::keys::join;
use crate::io::config::text::{Class, Config, Duration, Slo};
use crate::kernel::Span;
use crate::model::class::ClassSpec;
use crate::model::metrics;

/// More classes would make reports that nobody reads.
const CLASSES_MAX: usize = 1000;
/// The sum of all has to be a number.
const SHARE_MAX: f64 = 1e6;

/// The bounds, if there are any.
pub(super) fn slo(slo: &Slo) -> metrics::Slo {
    let span = |time: Option<Duration>| time.map(|time| time.0);
    metrics::Slo { ttft: span(slo.ttft), itl: span(slo.itl), e2e: span(slo.e2e) }
}

/// Bounds that nothing could meet, by the names of their keys.
pub(super) fn zero_slos(slo: &Slo) -> impl Iterator<Item = (&'static str, Span)> {
    let bounds = [("ttft", slo.ttft), ("itl", slo.itl), ("e2e", slo.e2e)];
    bounds
        .into_iter()
        .filter_map(|(key, time)| Some((key, time?.0)))
        .filter(|(_, time)| *time == Span::ZERO)
}

/// Whether any class has limits of its own.
pub(super) fn have_limits(config: &Config) -> bool {
    config.classes.values().any(|class| class.queue_limit.is_some() || class.max_wait.is_some())
}

/// All classes in the order of their names.
pub(super) fn classes(config: &Config) -> Result<Vec<ClassSpec>, Violation> {
    if config.classes.len() > CLASSES_MAX {
        let reason = format!("are {}, more than {CLASSES_MAX}", config.classes.len());
        return Err(Violation::contradiction("classes", reason));
    }
    let global = slo(&config.slo);
    let classes = config.classes.iter().map(|(name, class)| one(name, class, global));
    let classes: Vec<ClassSpec> = classes.collect::<Result<_, _>>()?;
    let is_right = classes.is_empty() || classes.iter().any(|class| class.share > 0.0);
    if !is_right {
        let reason = "have shares of 0 only: one of them has to be above 0".to_owned();
        return Err(Violation::contradiction("classes", reason));
    }
    Ok(classes)
}

/// Keys of classes that change nothing where nobody waits in the router: a sentence each.
pub(super) fn without_effect(config: &Config) -> Vec<String> {
    if admission::has_queue(config) {
        return Vec::new();
    }
    let keys = |(name, class): (&String, &Class)| {
        let is_set = [
            ("priority", class.priority != 0),
            ("queue_limit", class.queue_limit.is_some()),
            ("max_wait", class.max_wait.is_some()),
        ];
        let path = join("classes", name);
        let set = is_set.into_iter().filter(|&(_, is_set)| is_set);
        set.map(move |(key, _)| format!("{path}.{key}")).collect::<Vec<String>>()
    };
    let keys = config.classes.iter().flat_map(keys);
    keys.map(|key| format!("{key} has no effect {}", admission::NOBODY_WAITS)).collect()
}

fn one(name: &str, class: &Class, global: metrics::Slo) -> Result<ClassSpec, Violation> {
    let path = join("classes", name);
    let wrong = |key: &str, found: String, expected: &str| {
        let problem = Problem::Value { found, expected: expected.to_owned() };
        Violation { key: format!("{path}.{key}"), problem }
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        let reason = "needs a name of letters, digits, hyphens, underscores and dots".to_owned();
        return Err(Violation::contradiction(&path, reason));
    }
    let Some(share) = class.share else {
        let reason = "needs a share of the requests".to_owned();
        return Err(Violation::contradiction(&path, reason));
    };
    if !(0.0..=SHARE_MAX).contains(&share) {
        let found = format!("{share:?}").replace("NaN", "nan");
        return Err(wrong("share", found, "a number from 0 to 1000000"));
    }
    if let Some(Duration(time)) = class.max_wait.filter(|time| time.0 == Span::ZERO) {
        return Err(wrong("max_wait", format!("\"{time}\""), LONGER_THAN_ZERO));
    }
    if let Some((key, time)) = zero_slos(&class.slo).next() {
        return Err(wrong(&format!("slo.{key}"), format!("\"{time}\""), LONGER_THAN_ZERO));
    }
    let own = slo(&class.slo);
    Ok(ClassSpec {
        name: name.to_owned(),
        share,
        priority: class.priority,
        queue_limit: class.queue_limit,
        max_wait: class.max_wait.map(|time| time.0),
        slo: if own.is_set() { own } else { global },
    })
}
