//! Sessions, agents and clients in whole runs: one report on any number of threads, nothing lost, every turn in time.

use std::io;
use std::time::Duration;

use fleetsim::fleet::{
    self, Execution, ExecutionOptions, Executor, FleetSpec, Latency, Outcome, Router, Sink, Threads,
};
use fleetsim::io::config::{Job, Loaded};
use fleetsim::kernel::rng::mix64;
use fleetsim::kernel::{Span, Time};
use fleetsim::model::metrics::{Row, Status};
use fleetsim::model::router::{KvRouterConfig, PolicySpec};
use fleetsim::model::workload::Demand;
use fleetsim::report::{self, Context, Summary};
use parking_lot::Mutex;

use crate::support::policies;
use crate::support::seeds;
use crate::support::swarm::Case;
use crate::support::visitors::{Visitor, client, visitors};

/// Keeps all rows.
#[derive(Default)]
struct Rows(Mutex<Vec<Row>>);

impl Sink for Rows {
    fn rows(&self, rows: &[Row]) -> io::Result<()> {
        self.0.lock().extend_from_slice(rows);
        Ok(())
    }
}

pub(crate) fn simulate(
    spec: &FleetSpec,
    demand: Demand,
    router: &dyn Router,
) -> (Outcome, Vec<Row>) {
    let sink = Rows::default();
    let outcome = fleet::run(spec, demand, router, &sink).unwrap();
    let mut rows = sink.0.into_inner();
    rows.sort_by_key(|row| row.id);
    (outcome, rows)
}

/// Everything that a run reports but for how it was run: report.json, series.csv, planner.csv.
pub(crate) fn reports(spec: &FleetSpec, outcome: &Outcome) -> [String; 3] {
    let text = String::new();
    let (fleet, wall) = (spec.clone(), Duration::from_secs(1));
    let (notes, foreseen) = (Vec::new(), Vec::new());
    let context =
        Context { fleet, policy: text.clone(), workload: text, notes, foreseen, late: None, wall };
    let summary = Summary::new(context, outcome);
    let mut about = report::to_json(&summary, outcome);
    about.as_object_mut().unwrap().retain(|key, _| !key.starts_with("threads"));
    let mut files = [Vec::new(), Vec::new()];
    report::write_series(&mut files[0], &summary, outcome).unwrap();
    if outcome.scaled.is_some() {
        report::write_planner(&mut files[1], outcome).unwrap();
    }
    let [series, planner] = files.map(|bytes| String::from_utf8(bytes).unwrap());
    [about.to_string(), series, planner]
}

pub(crate) fn demand(visitors: &[Visitor]) -> Demand {
    let openings: Vec<_> = visitors.iter().map(|visitor| visitor.opening.clone()).collect();
    Demand::Sessions(Box::new(openings.into_iter()))
}

/// Ways to run the same, the reference first.
pub(crate) fn executions(seed: u64) -> Vec<Execution> {
    let mut list = vec![Execution::sequential()];
    for threads in [1, 2, 3, 8] {
        for executor in [Executor::Phases, Executor::Clocks] {
            let draw = mix64(seed << 8 | threads as u64);
            let options = ExecutionOptions {
                oversubscribe: true,
                workers_per_group: [None, Some(1), Some(7)][draw as usize % 3],
                executor,
                fuzz: (draw & 32 > 0).then_some(draw),
                ..ExecutionOptions::default()
            };
            list.push(Execution { threads: Threads::Count(threads), pin: false, options });
        }
    }
    list
}

/// Random fleets, policies, sessions and clients; some of the latter for requests without sessions.
#[test]
fn every_thread_count_gives_one_report_with_sessions() {
    let (mut parallel, mut retries, mut given_up) = (0, 0, 0);
    for seed in seeds(150) {
        let mut case = Case::new(seed);
        case.spec.client = client(seed);
        let visitors = visitors(&case, seed);
        let mut reference = None;
        for execution in executions(seed) {
            case.spec.execution = execution;
            let demand = match case.spec.client {
                Some(_) if seed.is_multiple_of(5) => case.source().into(),
                _ => demand(&visitors),
            };
            let (outcome, rows) = simulate(&case.spec, demand, &case.policy);
            parallel += u32::from(outcome.executed.threads > 1);
            let found = (outcome.digest, reports(&case.spec, &outcome), rows);
            let visited = outcome.visited.unwrap();
            retries += visited.clients.retries;
            given_up += visited.sessions.abandoned;
            let expected = reference.get_or_insert_with(|| found.clone());
            assert!(&found == expected, "FLEETSIM_SEED={seed}, {execution:?}");
        }
    }
    let is_one = std::env::var_os("FLEETSIM_SEED").is_some();
    assert!(is_one || (parallel > 500 && retries > 1000 && given_up > 1000), "{parallel} runs");
}

/// Without clients every call is made once; it arrives when the last of those it waits for was heard of, and its delay
/// has passed.
#[test]
fn every_turn_comes_in_time() {
    let (mut exact, mut whole) = (0, 0);
    for seed in seeds(200) {
        let mut case = Case::new(seed);
        case.spec.load = fleet::Load::Open;
        let floor = case.spec.control_plane.feedback.floor;
        case.spec.control_plane.feedback = Latency::constant(floor);
        let visitors = visitors(&case, seed);
        let (outcome, rows) = simulate(&case.spec, demand(&visitors), &case.policy);
        let visited = outcome.visited.unwrap();
        let mut row_of = vec![None; case.requests.len()];
        for row in &rows {
            let place = &mut row_of[row.trace_line as usize];
            assert!(place.replace(row).is_none(), "FLEETSIM_SEED={seed}: a call is made twice");
        }
        let mut done = 0;
        for Visitor { specs, opening } in &visitors {
            let row = |place: u64| row_of[opening.asks[place as usize].trace_line as usize];
            for spec in specs {
                let delay = Span::from_ms((spec.delay_ms + spec.tool_ms) as u64);
                let ends = spec.wait_for.iter().map(|&id| row(id).map(|row| row.end + floor));
                let last = ends.collect::<Option<Vec<Time>>>();
                let Some(row) = row(spec.id) else { continue };
                let last = last.expect("whoever is waited for was there");
                let ready = last.into_iter().max().unwrap_or(opening.at) + delay;
                assert!(row.arrival >= ready, "FLEETSIM_SEED={seed}");
                // A refusal is told no earlier than the shortest pass takes.
                let is_plain = |place: &u64| {
                    row_of[opening.asks[*place as usize].trace_line as usize]
                        .is_some_and(|row| row.output_tokens > 0 && row.status == Status::Completed)
                };
                if specs.iter().all(|spec| is_plain(&spec.id)) && visited.sessions.abandoned == 0 {
                    assert_eq!(row.arrival, ready, "FLEETSIM_SEED={seed}");
                    exact += 1;
                }
            }
            let is_done = specs
                .iter()
                .all(|spec| row(spec.id).is_some_and(|row| row.status == Status::Completed));
            done += u64::from(is_done);
        }
        assert_eq!(visited.sessions.done, done, "FLEETSIM_SEED={seed}");
        assert_eq!(visited.sessions.opened, visitors.len() as u64);
        assert_eq!(visited.sessions.planned, case.requests.len() as u64);
        assert_eq!(visited.sessions.calls, rows.len() as u64);
        whole += done;
    }
    assert!(std::env::var_os("FLEETSIM_SEED").is_some() || (exact > 500 && whole > 500));
}

/// The job that these keys describe.
pub(crate) fn job(keys: &[&str]) -> Job {
    let set = |key: &&str| ("--set".to_owned(), (*key).to_owned());
    let overrides: Vec<_> = keys.iter().map(set).collect();
    Loaded::load(None, &overrides).and_then(|loaded| loaded.resolve()).unwrap()
}

/// Runs a job in all ways; gives the outcome, the same for all.
pub(crate) fn one_report(job: &Job, policy: PolicySpec) -> Outcome {
    let mut reference = None;
    let mut last = None;
    for execution in executions(3) {
        let mut spec = job.fleet.clone();
        spec.execution = execution;
        let (outcome, rows) = simulate(&spec, job.traffic.open(spec.seed).unwrap(), &policy);
        let found = (outcome.digest, reports(&spec, &outcome), rows);
        let expected = reference.get_or_insert_with(|| found.clone());
        assert!(&found == expected, "{execution:?}");
        last = Some(outcome);
    }
    last.unwrap()
}

const CHATS: [&str; 8] = [
    "workload.preset=custom",
    "workload.turns_wait=true",
    "workload.generate.duration=30s",
    "workload.generate.rate=4.0",
    "workload.generate.turns=4.0",
    "workload.generate.turn_gap=10s",
    "workload.generate.prefix_groups=3",
    "workload.generate.prefix_tokens=2048",
];

const AGENTS: [&str; 5] = [
    "workload.preset=agents",
    "workload.generate.duration=30s",
    "workload.generate.rate=1.0",
    "workload.generate.prefix_groups=2",
    "workload.generate.prefix_tokens=1024",
];

const HASTE: [&str; 4] =
    ["client.ttft_timeout=300ms", "client.timeout=12s", "client.retries=1", "fleet.workers=6"];

/// Generated chats and agents, with every policy.
#[test]
fn chats_and_agents_give_one_report_with_every_router() {
    for policy in policies() {
        for keys in [&CHATS[..], &AGENTS[..]] {
            let patient = one_report(&job(&[keys, &["fleet.workers=6"]].concat()), policy);
            let visited = patient.visited.unwrap();
            assert!(visited.sessions.done > 15 && visited.sessions.abandoned == 0);
            assert_eq!(visited.sessions.completed, visited.sessions.planned);
            assert_eq!((visited.clients.retries, visited.clients.timeouts), (0, 0));
            assert_eq!(visited.duration.count(), visited.sessions.done);
            assert_eq!(visited.call_latency.count(), visited.sessions.planned);
            let hasty = one_report(&job(&[keys, &HASTE].concat()), policy);
            let visited = hasty.visited.unwrap();
            assert!(visited.clients.timeouts > 0 && visited.sessions.abandoned > 0);
            assert_eq!(visited.late, visited.clients.timeouts + dropped_tries(&visited));
        }
    }
}

/// Tries that nobody waited for because another call of the session had been given up.
fn dropped_tries(visited: &fleet::Visited) -> u64 {
    let clients = visited.clients;
    clients.sent - clients.done - clients.refused - clients.timeouts
}

/// Sessions and a Planner: thinking users keep the run going, and their calls are what it sees.
#[test]
fn sessions_and_a_planner_give_one_report() {
    let planner = [
        "planner.policy=load",
        "planner.load_interval=2s",
        "planner.workers_max=6",
        "fleet.workers=1",
        "lifecycle.startup=3s",
    ];
    for keys in [&CHATS[..], &AGENTS[..]] {
        for client in [&[][..], &HASTE[..3]] {
            let job = job(&[keys, client, &planner].concat());
            let outcome = one_report(&job, PolicySpec::Kv(KvRouterConfig::default()));
            let seen: u64 =
                outcome.scaled.unwrap().ticks.iter().map(|tick| tick.window.traffic.requests).sum();
            let arrived = outcome.recorder.totals.arrived;
            assert!(seen > arrived / 2 && seen <= arrived, "{seen} of {arrived}");
        }
    }
}

/// A cap on sessions keeps so many going, through thinking and tools.
#[test]
fn a_closed_loop_counts_sessions() {
    let cap = ["workload.concurrency=7"];
    for keys in [&CHATS[..], &AGENTS[..]] {
        let visited = one_report(&job(&[keys, &cap].concat()), PolicySpec::LeastLoaded);
        assert_eq!(visited.visited.unwrap().sessions.live_max, 7);
    }
}

/// Clients that never lose patience, not before virtual time ends, change nothing about requests that come on their own.
#[test]
fn endless_patience_changes_nothing() {
    let keys = ["workload.requests=3000", "router.policy=kv"];
    let plain = one_report(&job(&keys), PolicySpec::RoundRobin);
    let patient = job(&[&keys[..], &["client.timeout=833.999d"]].concat());
    let patient = one_report(&patient, PolicySpec::RoundRobin);
    assert_eq!(plain.digest, patient.digest);
    assert!(plain.visited.is_none() && patient.visited.is_some());
}
