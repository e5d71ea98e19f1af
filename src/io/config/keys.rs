//! Which keys there are, and how their paths are written.

use crate::io::config::text::{
    Admission, Agents, Class, Client, Columns, Config, Duration, Engine, Fleet, Generate, GpuEntry,
    Lengths, Lifecycle, ModelEntry, NumberFormat, Planner, Pool, Router, Slo, Stage, Timing,
    Workload,
};
use crate::kernel::Span;

/// The table that is about configurations and no part of one.
pub(super) const SWEEP: &str = "sweep";

/// Sections whose entries have names of the user's choice.
const NAMED: [&str; 4] = ["classes", "gpus", "models", "pools"];

/// What stands for such a name in the list of keys.
const NAME: &str = "NAME";

/// A configuration with every key present, as a table: the keys there are.
pub(super) fn schema() -> toml::Table {
    toml::Table::try_from(Config::complete()).expect("a configuration is made of TOML's own types")
}

impl Config {
    /// A configuration that leaves no key out.
    pub(crate) fn complete() -> Config {
        let time = Some(Duration(Span::from_secs(1)));
        let lengths = Lengths { quantiles: vec![1.0], ..Lengths::default() };
        let text = Some("x".to_owned());
        let engine = Engine {
            model: text.clone(),
            gpu: text.clone(),
            backend_version: text.clone(),
            num_gpu_blocks: Some(1),
            max_model_len: Some(1),
            ..Engine::default()
        };
        let timing = Timing { dir: text.clone(), ..Timing::default() };
        Config {
            workload: Workload {
                trace: text.clone(),
                until: time,
                requests: Some(1),
                concurrency: Some(1),
                columns: Columns { session: text.clone(), hash_ids: text, ..Columns::default() },
                generate: Generate {
                    steps: vec![(0.0, 1.0)],
                    prompt_tokens: lengths.clone(),
                    output_tokens: lengths,
                    ..Generate::default()
                },
                agents: Agents { rounds: 1.0, ..Agents::default() },
                ..Workload::default()
            },
            client: Client { ttft_timeout: time, timeout: time, ..Client::default() },
            fleet: Fleet { gpus_per_worker: Some(1), ..Fleet::default() },
            planner: complete_planner(),
            lifecycle: complete_lifecycle(),
            router: Router { router_queue_threshold: Some(1.0), ..Router::default() },
            admission: Admission { max_in_flight: Some(1), queue_limit: Some(1), max_wait: time },
            classes: [(NAME.to_owned(), complete_class())].into(),
            slo: complete_slo(),
            gpus: [(NAME.to_owned(), complete_gpu())].into(),
            models: [(NAME.to_owned(), complete_model())].into(),
            pools: [(NAME.to_owned(), complete_pool(&engine, &timing))].into(),
            engine,
            timing,
            ..Config::default()
        }
    }
}

fn complete_planner() -> Planner {
    let (count, time) = (Some(1), Some(Duration(Span::from_secs(1))));
    Planner {
        gpus_min: count,
        gpus_max: count,
        predictor_period: count,
        load_up: Some(1.0),
        load_down: Some(1.0),
        metric_window: time,
        pending_limit: time,
        backlog_clear: time,
        fixed_workers: count,
        schedule: vec![(0.0, 1)],
        schedule_period: time,
        ..Planner::default()
    }
}

fn complete_lifecycle() -> Lifecycle {
    let stage = Stage { name: "x".to_owned(), median: Duration(Span::from_secs(1)), sigma: 1.0 };
    Lifecycle { starting_max: Some(1), stages: vec![stage], ..Lifecycle::default() }
}

fn complete_slo() -> Slo {
    let time = Some(Duration(Span::from_secs(1)));
    Slo { ttft: time, itl: time, e2e: time }
}

fn complete_class() -> Class {
    let max_wait = Some(Duration(Span::from_secs(1)));
    let (share, queue_limit) = (Some(1.0), Some(1));
    Class { share, priority: 0, queue_limit, max_wait, slo: complete_slo() }
}

fn complete_gpu() -> GpuEntry {
    let (number, text) = (Some(1.0), Some("x".to_owned()));
    GpuEntry {
        memory_bytes: Some(1),
        memory_gb_s: number,
        bf16_tflops: number,
        fp8_tflops: number,
        fp4_tflops: number,
        link_gb_s: number,
        usd_per_hour: number,
        usd_date: text.clone(),
        source: text,
    }
}

fn complete_model() -> ModelEntry {
    let (size, count, format) = (Some(1), Some(1), Some(NumberFormat::Bf16));
    ModelEntry {
        layers: size,
        kv_layers: size,
        hidden_size: size,
        heads: size,
        kv_heads: size,
        head_dim: size,
        mla_width: size,
        parameters: count,
        active_parameters: count,
        experts: size,
        active_experts: size,
        weight_format: format,
        kv_format: format,
        weight_bytes: count,
        replicated_bytes: count,
        source: Some("x".to_owned()),
    }
}

fn complete_pool(engine: &Engine, timing: &Timing) -> Pool {
    let right = "a section is made of TOML's own types";
    Pool {
        workers: Some(1),
        gpus_per_worker: Some(1),
        engine: toml::Table::try_from(engine).expect(right),
        timing: toml::Table::try_from(timing).expect(right),
    }
}

/// Every key and section there is, with its full path; `NAME` stands for names of the user's choice.
pub fn all_keys() -> Vec<String> {
    fn collect(table: &toml::Table, path: &str, keys: &mut Vec<String>) {
        for (key, value) in table {
            let full = join(path, key);
            keys.push(full.clone());
            if let toml::Value::Table(table) = value {
                collect(table, &full, keys);
            }
        }
    }
    let mut keys = Vec::new();
    collect(&schema(), "", &mut keys);
    keys
}

pub(super) fn top_level() -> [&'static str; 17] {
    [
        "workload",
        "client",
        "fleet",
        "planner",
        "lifecycle",
        "engine",
        "router",
        "admission",
        "classes",
        "control_plane",
        "timing",
        "slo",
        "run",
        "gpus",
        "models",
        "pools",
        SWEEP,
    ]
}

/// What the schema says about a key in the section at `path`, whose own schema is given.
pub(super) fn child<'a>(
    section: &'a toml::Value,
    path: &str,
    key: &str,
) -> Option<&'a toml::Value> {
    section.get(if NAMED.contains(&path) { NAME } else { key })
}

/// What the schema says about a key, given by its full path.
pub(super) fn known(key: &str) -> Option<toml::Value> {
    let mut names = segments(key);
    if names.len() > 1 && NAMED.contains(&names[0]) {
        names[1] = NAME;
    }
    find(&schema(), &names)
}

/// The key there is that looks most like this one, if one does.
pub(super) fn similar(key: &str) -> Option<String> {
    let names = segments(key);
    let own = match names[..] {
        [section, name, _, ..] if NAMED.contains(&section) => Some((section, name)),
        _ => None,
    };
    let candidates = all_keys().into_iter().map(|candidate| match own {
        Some((section, name)) => {
            let placeholder = join(section, NAME);
            match candidate.strip_prefix(&placeholder) {
                Some(rest) => join(section, name) + rest,
                None => candidate,
            }
        }
        None => candidate,
    });
    let candidates: Vec<String> = candidates.filter(|key| !key.contains(NAME)).collect();
    nearest(key, &candidates)
}

/// The key that a pool's key changes; every other key is its own.
pub(super) fn base(key: &str) -> &str {
    match segments(key)[..] {
        ["pools", _, section @ ("engine" | "timing"), ..] => {
            // The name may contain what looks like a section, but the last such place is the section.
            key.rfind(&format!(".{section}.")).map_or(key, |at| &key[at + 1..])
        }
        ["pools", _, "workers"] => "fleet.workers",
        ["pools", _, "gpus_per_worker"] => "fleet.gpus_per_worker",
        _ => key,
    }
}

/// The value of a key, given by its full path.
pub(super) fn lookup(table: &toml::Table, key: &str) -> Option<toml::Value> {
    find(table, &segments(key))
}

fn find(table: &toml::Table, names: &[&str]) -> Option<toml::Value> {
    let (first, rest) = names.split_first()?;
    let first = table.get(*first)?.clone();
    rest.iter().try_fold(first, |value, name| value.get(*name).cloned())
}

/// A path with one more name, in quotes where TOML needs them.
pub(super) fn join(path: &str, key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = if !key.is_empty() && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        format!("\"{key}\"")
    };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The names of a path, without quotes.
pub(super) fn segments(path: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let is_dot = |c: char| {
        is_quoted ^= c == '"';
        c == '.' && !is_quoted
    };
    path.split(is_dot).map(|name| name.trim_matches('"')).collect()
}

/// The candidate that starts with `word`, or else the one that differs least from it, if it is close enough to be meant.
pub(super) fn nearest(word: &str, candidates: &[String]) -> Option<String> {
    if word.len() > 2
        && let Some(longer) = candidates.iter().find(|candidate| candidate.starts_with(word))
    {
        return Some(longer.clone());
    }
    let distance = |candidate: &String| strsim::damerau_levenshtein(word, candidate);
    let best = candidates.iter().min_by_key(|candidate| distance(candidate))?;
    (distance(best) <= (word.len() / 3).max(2)).then(|| best.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dots_are_quoted() {
        let path = join(&join("models", "llama-3.1-8b"), "layers");
        assert_eq!(path, "models.\"llama-3.1-8b\".layers");
        assert_eq!(segments(&path), ["models", "llama-3.1-8b", "layers"]);
        assert!(known(&path).is_some_and(|value| value.is_integer()));
    }

    #[test]
    fn the_start_of_a_name_is_enough() {
        let names = ["gb200", "h100_sxm", "h200_sxm"].map(str::to_owned);
        assert_eq!(nearest("h200", &names).as_deref(), Some("h200_sxm"));
        assert_eq!(nearest("gb20", &names).as_deref(), Some("gb200"));
        assert_eq!(nearest("h", &names), None);
    }

    #[test]
    fn pools_have_the_keys_of_their_sections() {
        assert_eq!(base("pools.a.engine.tp"), "engine.tp");
        assert_eq!(base("pools.\"x.engine.y\".engine.tp"), "engine.tp");
        assert_eq!(base("engine.tp"), "engine.tp");
        assert!(known("pools.a.timing.model").is_some() && known("pools.a.slo").is_none());
        assert_eq!(similar("pools.a.engine.modle").as_deref(), Some("pools.a.engine.model"));
        assert_eq!(similar("gpus.b.memory_byte").as_deref(), Some("gpus.b.memory_bytes"));
    }
}
