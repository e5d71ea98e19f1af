//! Random sessions for random fleets: graphs of calls, with delays, and clients with more or less patience.

use fleetsim::kernel::Span;
use fleetsim::kernel::rng::{Stream, stream};
use fleetsim::model::request::Request;
use fleetsim::model::session::{Ask, Backoff, CallSpec, ClientSpec, Opening, Plan};
use rand::RngExt;

use crate::support::swarm::Case;

/// The calls of a session before they are checked, and the session.
pub(crate) struct Visitor {
    pub(crate) specs: Vec<CallSpec>,
    pub(crate) opening: Opening,
}

/// The requests of a case as sessions: each opens when the first of its requests would have arrived. A call is named by its
/// place, and asks for what the request with its trace line did.
pub(crate) fn visitors(case: &Case, seed: u64) -> Vec<Visitor> {
    let mut rng = stream(seed, 2);
    let longest = rng.random_range(1..12);
    let mut visitors = Vec::new();
    let mut requests = &case.requests[..];
    while !requests.is_empty() {
        let count = rng.random_range(1..=longest).min(requests.len());
        let (own, rest) = requests.split_at(count);
        visitors.push(visitor(&mut rng, own));
        requests = rest;
    }
    visitors
}

fn visitor(rng: &mut Stream, requests: &[Request]) -> Visitor {
    let is_chain: bool = rng.random();
    let longest_ms = [0, 1, 50, 4000][rng.random_range(0..4)];
    let specs: Vec<CallSpec> = (0..requests.len() as u64)
        .map(|place| {
            let mut time = || f64::from(rng.random_range(0..=longest_ms));
            let (delay_ms, tool_ms) = (time(), time());
            let wait_for: Vec<u64> = if is_chain {
                place.checked_sub(1).into_iter().collect()
            } else {
                (0..place).filter(|_| rng.random_range(0..=place.min(4)) == 0).collect()
            };
            CallSpec { id: place, wait_for, delay_ms, tool_ms }
        })
        .collect();
    let ask = |request: &Request| Ask {
        strict_priority: request.strict_priority,
        priority_jump: request.priority_jump,
        ..Ask::new(request.trace_line, request.prompt.clone(), request.output_tokens)
    };
    let opening = Opening {
        at: requests[0].arrival,
        name: requests[0].session,
        plan: Plan::new(&specs).unwrap(),
        asks: requests.iter().map(ask).collect(),
    };
    Visitor { specs, opening }
}

/// Clients of some kind, or nobody who loses patience.
pub(crate) fn client(seed: u64) -> Option<ClientSpec> {
    let mut rng = stream(seed, 3);
    let mut ms = |choice: &[u64]| Span::from_ms(choice[rng.random_range(0..choice.len())]);
    let (first, last) = (ms(&[1, 20, 200, 5000]), ms(&[2, 50, 1000, 20_000]));
    let backoff = Backoff {
        first: ms(&[0, 1, 100]),
        factor: [1.0, 2.0][rng.random_range(0..2)],
        max: Span::from_ms(300),
        jitter: [0.0, 0.5, 1.0][rng.random_range(0..3)],
    };
    let client = ClientSpec {
        first_token_timeout: rng.random::<bool>().then_some(first),
        timeout: rng.random::<bool>().then_some(last),
        retries: rng.random_range(0..4),
        backoff,
    };
    rng.random_bool(0.7).then_some(client)
}
