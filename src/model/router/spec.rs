//! Policies as data, and the one place that builds them.

use crate::kernel::rng::Stream;
use crate::model::kv::BlockLayout;
use crate::model::router::{
    KvAware, KvRouterConfig, LeastLoaded, Policy, PowerOfTwo, Random, RoundRobin, SessionAffine,
};

/// Which policy, with its parameters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PolicySpec {
    /// [`RoundRobin`]
    RoundRobin,
    /// [`Random`]
    Random,
    /// [`PowerOfTwo`]
    PowerOfTwo,
    /// [`LeastLoaded`]
    LeastLoaded,
    /// [`SessionAffine`]
    SessionAffine,
    /// [`KvAware`]
    Kv(KvRouterConfig),
}

impl PolicySpec {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            PolicySpec::RoundRobin => "round-robin",
            PolicySpec::Random => "random",
            PolicySpec::PowerOfTwo => "power-of-two",
            PolicySpec::LeastLoaded => "least-loaded",
            PolicySpec::SessionAffine => "session-affine",
            PolicySpec::Kv(_) => "kv",
        }
    }

    /// The policy, for so many workers with empty caches of this layout; it draws from `rng` if it draws at all.
    pub fn build(&self, workers: u32, layout: BlockLayout, rng: Stream) -> Box<dyn Policy> {
        match *self {
            PolicySpec::RoundRobin => Box::new(RoundRobin::new(workers)),
            PolicySpec::Random => Box::new(Random::new(workers, rng)),
            PolicySpec::PowerOfTwo => Box::new(PowerOfTwo::new(workers, rng)),
            PolicySpec::LeastLoaded => Box::new(LeastLoaded::new(workers)),
            PolicySpec::SessionAffine => Box::new(SessionAffine::new(workers)),
            PolicySpec::Kv(config) => Box::new(KvAware::new(config, layout, workers, rng)),
        }
    }
}
