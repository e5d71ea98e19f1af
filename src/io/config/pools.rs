//! Pools: the configuration of each, with the keys that it changes in place.

use serde::Deserialize;

use crate::io::config::check::Violation;
use crate::io::config::deploy::pass_tokens;
use crate::io::config::keys::join;
use crate::io::config::merge;
use crate::io::config::text::{Config, Engine, Fleet, Pool, Timing};

/// A pool and the configuration that its workers have.
pub(super) struct Member<'a> {
    /// Its name and what it changes; nothing for a fleet without pools.
    pool: Option<(&'a String, &'a Pool)>,
    /// The configuration with its changes.
    pub(super) config: Config,
}

impl Member<'_> {
    /// Its name.
    pub(super) fn name(&self) -> Option<&str> {
        self.pool.map(|(name, _)| name.as_str())
    }

    /// The key under which the user has given the pool's value of `key`.
    pub(super) fn key(&self, key: &str) -> String {
        let Some((name, pool)) = self.pool else { return key.to_owned() };
        let path = join("pools", name);
        let is_own = match key.split_once('.') {
            Some(("engine", key)) => pool.engine.contains_key(key),
            Some(("timing", key)) => pool.timing.contains_key(key),
            Some(("fleet", "workers")) => return format!("{path}.workers"),
            Some(("fleet", "gpus_per_worker")) if pool.gpus_per_worker.is_some() => {
                return format!("{path}.gpus_per_worker");
            }
            _ => false,
        };
        if is_own { format!("{path}.{key}") } else { key.to_owned() }
    }

    /// The same complaint about the key that the user has given.
    pub(super) fn place(&self, violation: Violation) -> Violation {
        Violation { key: self.key(&violation.key), ..violation }
    }
}

/// All pools in the order of their names; without any, the fleet as one.
pub(super) fn members(config: &Config) -> Result<Vec<Member<'_>>, Violation> {
    if config.pools.is_empty() {
        return Ok(vec![Member { pool: None, config: config.clone() }]);
    }
    config.pools.iter().map(|(name, pool)| member(config, name, pool)).collect()
}

fn member<'a>(config: &Config, name: &'a String, pool: &'a Pool) -> Result<Member<'a>, Violation> {
    let Some(workers) = pool.workers else {
        let reason = "needs a number of workers".to_owned();
        return Err(Violation::contradiction(&join("pools", name), reason));
    };
    let right = "keys and types are checked layer by layer";
    let mut engine = toml::Table::try_from(&config.engine).expect(right);
    merge(&mut engine, &pool.engine);
    let mut timing = toml::Table::try_from(&config.timing).expect(right);
    merge(&mut timing, &pool.timing);
    let config = Config {
        fleet: Fleet {
            workers,
            gpus_per_worker: pool.gpus_per_worker.or(config.fleet.gpus_per_worker),
            ..config.fleet
        },
        engine: Engine::deserialize(engine).expect(right),
        timing: Timing::deserialize(timing).expect(right),
        ..config.clone()
    };
    Ok(Member { pool: Some((name, pool)), config })
}

/// What has to be alike in all pools, because one router serves them.
pub(super) fn check_together(members: &[Member<'_>]) -> Result<(), Violation> {
    let Some((first, others)) = members.split_first() else { return Ok(()) };
    let alike = |member: &Member<'_>, key: &str, is_alike: bool, values: [String; 2], why: &str| {
        if is_alike {
            return Ok(());
        }
        let [own, other] = values;
        let (name, first) = (member.name().unwrap_or_default(), first.name().unwrap_or_default());
        let reason = format!("is {own} in pool {name}, but {other} in pool {first}: {why}");
        Err(Violation::contradiction(&member.key(key), reason))
    };
    let named = |member: &Member<'_>| member.config.engine.model.clone();
    let first_model = members.iter().find(|member| named(member).is_some());
    for member in others {
        let (own, other) = (&member.config.engine, &first.config.engine);
        let sizes = [own.block_size.to_string(), other.block_size.to_string()];
        let why = "a router counts in blocks of one size";
        alike(member, "engine.block_size", own.block_size == other.block_size, sizes, why)?;
        let threshold = member.config.router.router_queue_threshold;
        let is_alike = threshold.is_none() || pass_tokens(own) == pass_tokens(other);
        let why = "router.router_queue_threshold is a share of it, times pp and attention_dp, so that has to \
                   be the same";
        let key = "engine.max_num_batched_tokens";
        alike(member, key, is_alike, [own, other].map(budget), why)?;
    }
    let Some(first) = first_model else { return Ok(()) };
    for member in members.iter().filter(|member| named(member).is_some()) {
        let (own, other) = (named(member), named(first));
        if own != other {
            let (own, other) = (own.unwrap_or_default(), other.unwrap_or_default());
            let name = first.name().unwrap_or_default();
            let reason = format!(
                "is {own:?}, but pool {name} serves {other:?}: a fleet serves one model, since a \
                 request may go to any worker"
            );
            return Err(Violation::contradiction(&member.key("engine.model"), reason));
        }
    }
    Ok(())
}

/// The token budget of a pass, as a product if there are several micro-batches.
fn budget(engine: &Engine) -> String {
    let factors = [engine.max_num_batched_tokens, engine.pp, engine.attention_dp];
    let factors = factors.iter().enumerate().filter(|&(index, &factor)| index == 0 || factor > 1);
    factors.map(|(_, factor)| factor.to_string()).collect::<Vec<_>>().join(" x ")
}

/// Keys that were set and change nothing beside pools: a sentence each.
pub(super) fn without_effect(config: &Config) -> Option<String> {
    let is_set = config.fleet.workers != Fleet::default().workers;
    let sentence = "fleet.workers has no effect beside [pools.NAME], each of which has workers";
    (!config.pools.is_empty() && is_set).then(|| sentence.to_owned())
}
