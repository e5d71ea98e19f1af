//! From what the user typed about cells to what the program runs.

use crate::fleet::CellsSpec;
use crate::io::config::admission;
use crate::io::config::check::{Ranges, Violation};
use crate::io::config::sessions;
use crate::io::config::text::{Admission, Balancer, Config, Fleet, Preset, ScalingPolicy};
use crate::model::router::BalancerSpec;

/// The most cells that a fleet may have.
const CELLS_MAX: u32 = 1 << 16;

/// What a value of this key has to be, in words, if it is narrower than its type.
pub(super) fn range_of(key: &str) -> Option<&'static str> {
    match key {
        "fleet.cells" => Some("a whole number from 1 to 65536"),
        "fleet.balancer_prefix_tokens" => Some("a whole number, 1 or more"),
        _ => None,
    }
}

/// Every value by itself.
pub(super) fn ranges(fleet: &Fleet, ranges: &mut Ranges) {
    ranges.count("fleet.cells", u64::from(fleet.cells), u64::from(CELLS_MAX));
    let tokens = u64::from(fleet.balancer_prefix_tokens);
    ranges.count("fleet.balancer_prefix_tokens", tokens, u64::from(u32::MAX));
}

/// The cells, if there are several.
pub(super) fn cells(config: &Config) -> Option<CellsSpec> {
    let Fleet { cells, balancer, balancer_prefix_tokens, .. } = config.fleet;
    let balancer = match balancer {
        Balancer::RoundRobin => BalancerSpec::RoundRobin,
        Balancer::Random => BalancerSpec::Random,
        Balancer::Session => BalancerSpec::Session,
        Balancer::Prefix => BalancerSpec::Prefix {
            blocks: balancer_prefix_tokens.div_ceil(config.workload.trace_block_size),
        },
    };
    (cells > 1).then_some(CellsSpec { count: cells, balancer })
}

/// What makes no sense together, for the fleet or a pool of it.
pub(super) fn contradictions(config: &Config) -> Result<(), Violation> {
    let Fleet { cells, workers, .. } = config.fleet;
    if cells <= 1 {
        return Ok(());
    }
    if !workers.is_multiple_of(cells) {
        // Whichever the user has written.
        let (key, reason) = if workers == Fleet::default().workers {
            ("fleet.cells", format!("is {cells}, no divisor of fleet.workers ({workers})"))
        } else {
            ("fleet.workers", format!("is {workers}, no multiple of fleet.cells ({cells})"))
        };
        return Err(Violation::contradiction(key, reason + ": cells are alike"));
    }
    let workload = &config.workload;
    let is_generated = workload.trace.is_none();
    let has_sessions = workload.turns_wait || is_generated && workload.preset == Preset::Agents;
    // Limits of a queue in which nobody waits are keys without effect, as they are without cells.
    let has_limits = admission::has_queue(config);
    let other = [
        ("workload.concurrency", workload.concurrency.is_some()),
        ("sessions, whose calls wait for one another", has_sessions),
        ("[client]", sessions::client(&config.client).is_some()),
        ("planner.policy", config.planner.policy != ScalingPolicy::None),
        ("[admission]", has_limits && config.admission != Admission::default()),
        ("limits of classes", has_limits && admission::admission(config).is_some()),
    ];
    match other.into_iter().find(|&(_, is_set)| is_set) {
        None => Ok(()),
        Some((what, _)) => {
            let reason = format!(
                "is {cells}, which is not simulated beside {what}: cells take requests that come at times of their own, \
                 and have as many workers all the time"
            );
            Err(Violation::contradiction("fleet.cells", reason))
        }
    }
}

/// Keys that change nothing in this configuration: the section, the keys, and why.
pub(super) fn idle(config: &Config) -> Vec<(&'static str, &'static [&'static str], &'static str)> {
    let mut list: Vec<(&str, &[&str], &str)> = Vec::new();
    let Fleet { cells, balancer, .. } = config.fleet;
    if cells == 1 {
        list.push((
            "fleet",
            &["balancer", "balancer_prefix_tokens"],
            "without fleet.cells above 1",
        ));
    } else if balancer != Balancer::Prefix {
        let reason = "unless fleet.balancer is \"prefix\"";
        list.push(("fleet", &["balancer_prefix_tokens"], reason));
    }
    list
}
