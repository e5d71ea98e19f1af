//! How often the Planner decided what, by its reasons.

use comfy_table::Table;
use serde_json::{Value, json};

use crate::fleet::Outcome;
use crate::model::planner::Decision;
use crate::report::number::count;
use crate::report::table::table;

/// The decisions with one kind of reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tally {
    reason: &'static str,
    /// To have more workers; in advisory mode, those that would be.
    up: u64,
    /// To have fewer.
    down: u64,
    /// To leave their number as it is.
    stay: u64,
    /// Of all these, those in which a limit or a lower bound changed what was proposed.
    limited: u64,
}

impl Tally {
    fn add(&mut self, decision: &Decision) {
        self.up += u64::from(decision.target > decision.before);
        self.down += u64::from(decision.target < decision.before);
        self.stay += u64::from(decision.target == decision.before);
        self.limited += u64::from(decision.limit.is_some());
    }

    fn all(&self) -> u64 {
        self.up + self.down + self.stay
    }
}

/// By kind of reason, the most frequent first, of equally frequent ones the one that came first.
fn tallies<'a>(decisions: impl IntoIterator<Item = &'a Decision>) -> Vec<Tally> {
    let mut list: Vec<Tally> = Vec::new();
    for decision in decisions {
        let reason = decision.reason.kind();
        let place = list.iter().position(|tally| tally.reason == reason).unwrap_or_else(|| {
            list.push(Tally { reason, up: 0, down: 0, stay: 0, limited: 0 });
            list.len() - 1
        });
        list[place].add(decision);
    }
    list.sort_by_key(|tally| std::cmp::Reverse(tally.all()));
    list
}

fn of(outcome: &Outcome) -> Option<Vec<Tally>> {
    let ticks = &outcome.scaled.as_ref()?.ticks;
    Some(tallies(ticks.iter().map(|tick| &tick.decision)))
}

/// The list of reasons in `report.json`; nothing for a fleet of a fixed size.
pub(super) fn to_json(outcome: &Outcome) -> Option<Value> {
    let object = |Tally { reason, up, down, stay, limited }| json!({"reason": reason, "up": up, "down": down, "stay": stay, "limited": limited});
    Some(Value::Array(of(outcome)?.into_iter().map(object).collect()))
}

/// A line per reason; nothing for a fleet of a fixed size, or if nobody looked.
pub(super) fn decision_table(outcome: &Outcome) -> Option<Table> {
    let tallies = of(outcome).filter(|tallies| !tallies.is_empty())?;
    let mut table =
        table(&["Decisions of the Planner", "Up", "Down", "Stay", "Changed by a limit"]);
    for Tally { reason, up, down, stay, limited } in tallies {
        table.add_row([reason.to_owned()].into_iter().chain([up, down, stay, limited].map(count)));
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::planner::{Figures, Limit, Reason};

    fn decision(before: u32, target: u32, reason: Reason, limit: Option<Limit>) -> Decision {
        let (acts, figures) = (target != before, Figures::default());
        let proposed = Some(target);
        Decision { before, proposed, target, reason, limit, acts, advisory: false, figures }
    }

    #[test]
    fn reasons_are_counted_whatever_their_numbers() {
        let queue = |queued| Reason::Queue { queued, per_worker: 5.0 };
        let all = [
            decision(1, 1, Reason::Within, None),
            decision(1, 3, queue(14), Some(Limit::WorkersMax)),
            decision(3, 2, queue(10), None),
            decision(2, 2, queue(9), Some(Limit::WorkersMin)),
            decision(2, 2, Reason::Pending { ready: 1, target: 2 }, None),
        ];
        let tally =
            |reason, [up, down, stay, limited]: [u64; 4]| Tally { reason, up, down, stay, limited };
        let expected = [
            tally(queue(0).kind(), [1, 1, 1, 2]),
            tally(Reason::Within.kind(), [0, 0, 1, 0]),
            tally(Reason::Pending { ready: 0, target: 0 }.kind(), [0, 0, 1, 0]),
        ];
        assert_eq!(tallies(&all), expected);
        assert_eq!(tallies(&[]), []);
    }
}
