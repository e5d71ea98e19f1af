//! What can be said of a run before it starts.

use crate::fleet::{FleetSpec, Load};
use crate::io::traffic::Traffic;

/// Sentences for the reader, before the run.
pub(super) fn foreseen(fleet: &FleetSpec, traffic: &Traffic) -> Vec<String> {
    late_startups(fleet, traffic).into_iter().collect()
}

/// Start-ups that last until after the last arrival. The Planner looks for the first time when some of it has passed, so
/// what it starts comes even later. Warm workers are there at once.
fn late_startups(fleet: &FleetSpec, traffic: &Traffic) -> Option<String> {
    let lifecycle = &fleet.scaling.as_ref()?.lifecycle;
    let startup = lifecycle.startup.shortest();
    let is_open =
        matches!(fleet.load, Load::Open) && fleet.client.is_none_or(|client| client.retries == 0);
    let end = traffic.arrivals_end().filter(|&end| is_open && end <= startup)?;
    (lifecycle.warm == 0).then(|| {
        format!(
            "a start-up takes {startup}, and all requests arrive within {end}: workers that the Planner \
             starts cost GPU time and get no request but those that wait in the router until then, \
             see [lifecycle]"
        )
    })
}
