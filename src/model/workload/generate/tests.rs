//! The generators against what was measured and what they promise.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::custom::Generator;
use super::presets::{conversation_requests, toolagent_requests};
use super::tables::CHAT_PER_MINUTE;
use super::{Arrivals, GeneratorSpec, Lengths, Rate, Shape};
use crate::kernel::time::{Span, Time};
use crate::model::request::Request;

/// What is compared with the traces; shares are of 1.
#[derive(Debug)]
struct Statistics {
    requests: usize,
    span_secs: f64,
    prompt_mean: f64,
    prompt_median: u32,
    output_mean: f64,
    output_median: u32,
    /// Different blocks among all blocks.
    unique: f64,
    /// Prompt tokens found in a cache that forgets nothing.
    token_hit: f64,
    /// Blocks found in a cache of 10,000 blocks that forgets the least recently used.
    lru_hit: f64,
    /// First turns among all turns: requests whose session is new.
    first_share: f64,
    per_minute: Vec<u32>,
}

fn statistics(requests: impl Iterator<Item = Request>) -> Statistics {
    let requests: Vec<Request> = requests.collect();
    let count = requests.len() as f64;
    let mut prompts: Vec<u32> = requests.iter().map(|r| r.prompt.tokens).collect();
    let mut outputs: Vec<u32> = requests.iter().map(|r| r.output_tokens).collect();
    prompts.sort_unstable();
    outputs.sort_unstable();
    let (mut seen, mut touched, mut tokens_hit, mut blocks_hit) = (FxHashMap::default(), 0, 0, 0);
    let mut lru = Lru::default();
    let mut per_minute = vec![0; 59];
    let mut sessions = FxHashMap::default();
    for request in &requests {
        let chain = &request.prompt.chain;
        let known = chain.iter().take_while(|hash| seen.contains_key(*hash)).count() as u32;
        tokens_hit += u64::from((known * 512).min(request.prompt.tokens));
        touched += chain.len();
        for &hash in chain.iter() {
            seen.insert(hash, ());
            blocks_hit += usize::from(lru.touch(hash, 10_000));
        }
        per_minute[(request.arrival.as_secs() / 60.0) as usize] += 1;
        sessions.insert(request.session, ());
    }
    let sum = |lengths: &[u32]| lengths.iter().map(|&n| u64::from(n)).sum::<u64>() as f64;
    Statistics {
        requests: requests.len(),
        span_secs: requests[requests.len() - 1].arrival.as_secs(),
        prompt_mean: sum(&prompts) / count,
        prompt_median: prompts[prompts.len() / 2],
        output_mean: sum(&outputs) / count,
        output_median: outputs[outputs.len() / 2],
        unique: seen.len() as f64 / touched as f64,
        token_hit: tokens_hit as f64 / sum(&prompts),
        lru_hit: blocks_hit as f64 / touched as f64,
        first_share: sessions.len() as f64 / count,
        per_minute,
    }
}

#[derive(Default)]
struct Lru {
    used: FxHashMap<u64, u64>,
    by_use: BTreeMap<u64, u64>,
    now: u64,
}

impl Lru {
    /// Uses a block; says whether it was there.
    fn touch(&mut self, block: u64, size: usize) -> bool {
        self.now += 1;
        self.by_use.insert(self.now, block);
        let before = self.used.insert(block, self.now);
        if let Some(before) = before {
            self.by_use.remove(&before);
        } else if self.used.len() > size {
            let (_, oldest) = self.by_use.pop_first().unwrap();
            self.used.remove(&oldest);
        }
        before.is_some()
    }
}

fn assert_near(what: &str, value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{what}: {value}, expected {expected}");
}

#[test]
fn print_stats() {
    for seed in 0..3 {
        let mut t = statistics(toolagent_requests(seed));
        t.per_minute.clear();
        println!("{t:?}");
        let mut t = statistics(conversation_requests(seed));
        t.per_minute.clear();
        println!("{t:?}");
    }
}

#[test]
fn print_chats() {
    let mut n = [0.0f64; 20];
    let mut s = [0.0f64; 20];
    for seed in 0..8 {
        let mut turns = FxHashMap::<u64, usize>::default();
        for r in conversation_requests(seed) {
            let t = turns.entry(r.session.unwrap()).or_default();
            n[(*t).min(19)] += 1.0;
            s[(*t).min(19)] += f64::from(r.prompt.tokens);
            *t += 1;
        }
    }
    for t in 0..14 {
        println!("Stat turn {t}: n {} mean {} cont {}", n[t] / 8.0, s[t] / n[t], n[t + 1] / n[t]);
    }
}
