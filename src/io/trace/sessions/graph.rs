//! From requests that wait for one another to sessions: whoever waits for somebody is in one session with them.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::io::trace::error::Problem;
use crate::kernel::Time;
use crate::model::session::{Ask, CallSpec, Opening, Plan, PlanError};

/// A request of a trace. Others know it by its place in the list.
pub(super) struct Node {
    /// Its line in the file.
    pub line: u64,
    /// What keeps it together with others, whether or not they wait for one another.
    pub session: Option<u64>,
    /// When it comes if it waits for nobody, counted from the first request of the trace.
    pub at: Time,
    /// Whom it waits for.
    pub wait_for: Vec<usize>,
    /// How long after the last of these it comes, ms; no matter if there is none.
    pub delay_ms: f64,
    /// How long its tools take, ms, on top of that.
    pub tool_ms: f64,
    pub ask: Ask,
}

/// All sessions, in order of opening. A problem comes with its line.
pub(super) fn openings(nodes: Vec<Node>) -> Result<Vec<Opening>, (u64, Problem)> {
    let mut groups = Groups::new(nodes.len());
    let mut of_session: FxHashMap<u64, usize> = FxHashMap::default();
    for (place, node) in nodes.iter().enumerate() {
        for &other in &node.wait_for {
            groups.join(place, other);
        }
        if let Some(session) = node.session {
            let other = *of_session.entry(session).or_insert(place);
            groups.join(place, other);
        }
    }
    let mut members: FxHashMap<usize, usize> = FxHashMap::default();
    let mut sessions: Vec<Vec<usize>> = Vec::new();
    for place in 0..nodes.len() {
        let root = groups.root(place);
        let session = *members.entry(root).or_insert(sessions.len());
        if session == sessions.len() {
            sessions.push(Vec::new());
        }
        sessions[session].push(place);
    }
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let mut openings = Vec::with_capacity(sessions.len());
    for session in sessions {
        // In the order of the file, so that what is said of places can be said of lines.
        let own = session.iter().filter_map(|&place| nodes[place].take()).collect();
        let index: FxHashMap<usize, usize> = session.into_iter().zip(0..).collect();
        openings.push(opening(own, &index)?);
    }
    openings.sort_by_key(|opening: &Opening| (opening.at, opening.asks[0].trace_line));
    Ok(openings)
}

/// One session. `index` says which of its nodes a place in the trace is.
fn opening(nodes: Vec<Node>, index: &FxHashMap<usize, usize>) -> Result<Opening, (u64, Problem)> {
    let lines: Vec<u64> = nodes.iter().map(|node| node.line).collect();
    let free = nodes.iter().filter(|node| node.wait_for.is_empty());
    // Without any there is a circle, which the plan finds.
    let at = free.map(|node| node.at).min().unwrap_or(Time::ZERO);
    let spec = |node: &Node| CallSpec {
        id: node.line,
        wait_for: node.wait_for.iter().map(|place| lines[index[place]]).collect(),
        delay_ms: if node.wait_for.is_empty() { node.at.since(at).as_ms() } else { node.delay_ms },
        tool_ms: node.tool_ms,
    };
    let specs: Vec<CallSpec> = nodes.iter().map(spec).collect();
    let plan = Plan::new(&specs).map_err(|error| {
        let line = match error {
            PlanError::Empty => lines[0],
            PlanError::Duplicate { call }
            | PlanError::Itself { call }
            | PlanError::Unknown { call, .. }
            | PlanError::Cycle { call, .. }
            | PlanError::Time { call, .. } => call,
        };
        (line, Problem::Plan(error))
    })?;
    let name = nodes[0].session.or(Some(nodes[0].line));
    let mut asks: Vec<Ask> = nodes.into_iter().map(|node| node.ask).collect();
    share_chains(&mut asks);
    Ok(Opening { at, name, plan, asks })
}

/// Lets a prompt that is the beginning of a later one use its chain.
fn share_chains(asks: &mut [Ask]) {
    for place in (1..asks.len()).rev() {
        let (before, later) = asks.split_at_mut(place);
        let (one, next) = (&mut before[place - 1], &later[0]);
        if next.chain.starts_with(&one.chain) {
            one.chain = Arc::clone(&next.chain);
        }
    }
}

/// Places that belong together: a forest in which every tree is a group.
struct Groups(Vec<usize>);

impl Groups {
    fn new(len: usize) -> Groups {
        Groups((0..len).collect())
    }

    fn root(&mut self, mut place: usize) -> usize {
        while self.0[place] != place {
            self.0[place] = self.0[self.0[place]];
            place = self.0[place];
        }
        place
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other)] = one.min(other);
    }
}
