//! Fleets that are divided into cells: each cell is a fleet of its own, and together they are one run.

use std::path::Path;

use fleetsim::experiment;
use fleetsim::fleet::{
    self, CellsSpec, Execution, ExecutionOptions, Executor, FleetSpec, Role, RunError, Threads,
};
use fleetsim::kernel::{Span, Time};
use fleetsim::model::metrics::Row;
use fleetsim::model::request::{Prompt, Request, RequestId, Visible, WorkerId};
use fleetsim::model::router::{BalancerSpec, Policy, PolicySpec};
use fleetsim::model::workload::{Source, SourceError};
use rustc_hash::FxHashMap;

use crate::catalog::resolve;
use crate::support::swarm::Case;
use crate::support::{Rows, seeds};

fn all(mut source: Box<dyn Source>) -> Vec<Request> {
    std::iter::from_fn(|| source.next_request().unwrap()).collect()
}

fn simulate(spec: &FleetSpec, requests: Vec<Request>, policy: PolicySpec) -> Vec<Row> {
    let rows = Rows::default();
    fleet::run(spec, Box::new(requests.into_iter()), &policy, &rows).unwrap();
    rows.sorted()
}

/// The cell of every worker, and its number there.
fn homes(spec: &FleetSpec, cells: CellsSpec) -> FxHashMap<WorkerId, (u32, u32)> {
    let in_cell = |cell| (0..).zip(spec.workers_of_cell(cell)).map(move |(id, w)| (w, (cell, id)));
    (0..cells.count).flat_map(in_cell).collect()
}

/// Every row of a fleet of cells is that of one of its cells, run as a fleet with the requests that it was dealt.
#[test]
fn a_cell_is_a_fleet() {
    let mut divided = 0;
    for seed in seeds(120) {
        let mut case = Case::new(seed);
        case.divide();
        let (spec, Some(cells)) = (&case.spec, case.spec.cells) else { continue };
        divided += 1;
        let mut requests = all(case.source());
        // Without a session, an affine router goes by the number of a request, which is another one in a cell by itself.
        for request in &mut requests {
            request.session = request.session.or(Some(request.trace_line));
        }
        let rows = simulate(spec, requests.clone(), case.policy);
        assert_eq!(rows.len(), requests.len());
        let homes = homes(spec, cells);
        assert_eq!(homes.len(), spec.workers() as usize);
        let cell_of = |row: &Row| homes[&row.worker.unwrap()].0;
        check_deal(cells, &requests, rows.iter().map(cell_of));
        for cell in 0..cells.count {
            let dealt: Vec<&Row> = rows.iter().filter(|row| cell_of(row) == cell).collect();
            let own = dealt.iter().map(|row| requests[row.id.0 as usize].clone()).collect();
            let found = simulate(&spec.cell(cell), own, case.policy);
            for ((number, row), alone) in (0..).zip(dealt).zip(found) {
                let worker = row.worker.map(|worker| WorkerId(homes[&worker].1));
                let expected = Row { id: RequestId(number), worker, ..row.clone() };
                assert_eq!(alone, expected, "seed {seed}, cell {cell}, {case:?}");
            }
        }
    }
    assert!(std::env::var_os("FLEETSIM_SEED").is_some() || divided > 15, "{divided}");
}

/// That requests went to the cells that the balancer is for.
fn check_deal(cells: CellsSpec, requests: &[Request], found: impl Iterator<Item = u32>) {
    let (mut by_prefix, mut by_session) = (FxHashMap::default(), FxHashMap::default());
    for (number, (request, cell)) in requests.iter().zip(found).enumerate() {
        match cells.balancer {
            BalancerSpec::RoundRobin => assert_eq!(cell, number as u32 % cells.count),
            BalancerSpec::Random => assert!(cell < cells.count),
            BalancerSpec::Session => {
                let first = *by_session.entry(request.session).or_insert(cell);
                assert_eq!(cell, first, "request {number}");
            }
            BalancerSpec::Prefix { blocks } => {
                let chain = &request.prompt.chain;
                if request.prompt.shared_tokens > 0 && !chain.is_empty() {
                    let beginning = &chain[..chain.len().min(blocks as usize)];
                    let first = *by_prefix.entry(beginning.to_vec()).or_insert(cell);
                    assert_eq!(cell, first, "request {number}");
                }
            }
        }
    }
}

/// Panics at the first request.
struct Bomb;

impl Policy for Bomb {
    fn choose(&mut self, _: Visible<'_>) -> WorkerId {
        panic!("a bomb in the router")
    }

    fn joined(&mut self, _: WorkerId) {}

    fn left(&mut self, _: WorkerId) {}
}

/// Far more requests at one instant than it can work off, later ones, and then a broken line.
struct Torn {
    given: u64,
}

impl Source for Torn {
    fn next_request(&mut self) -> Result<Option<Request>, SourceError> {
        self.given += 1;
        let at = Time::ZERO + Span::from_secs(self.given.saturating_sub(130_000));
        match self.given {
            ..130_100 => Ok(Some(Request::new(self.given, at, Prompt::unique(1000), 1))),
            _ => Err("a broken line".into()),
        }
    }
}

/// An instant without end in a cell comes before a line that the balancer reads meanwhile.
#[test]
fn what_comes_first_ends_the_run() {
    let job = resolve(&[
        "fleet.workers=2",
        "fleet.cells=2",
        "router.policy=kv",
        "router.router_queue_threshold=0.0",
        "engine.max_model_len=300",
        "control_plane.dispatch_latency=0",
        "control_plane.feedback_latency=0",
    ]);
    let mut spec = job.as_ref().unwrap().fleet.clone();
    let ways =
        [Executor::Phases, Executor::Clocks].map(|executor| [1, 2, 3].map(|n| (n, executor)));
    for (threads, executor) in [(1, Executor::Sequential)].into_iter().chain(ways.concat()) {
        let options =
            ExecutionOptions { executor, oversubscribe: true, ..ExecutionOptions::default() };
        spec.execution = Execution { threads: Threads::Count(threads), pin: false, options };
        let source = Box::new(Torn { given: 0 });
        let result = fleet::run(&spec, source, &job.as_ref().unwrap().router, &Rows::default());
        let expected = matches!(result, Err(RunError::Endless { time: Time::ZERO }));
        assert!(expected, "{threads} threads, {executor:?}: {result:?}");
    }
}

#[test]
fn a_panic_names_the_cell() {
    let job = resolve(&["fleet.cells=4", "workload.requests=20"]).unwrap();
    let bomb = |_: &FleetSpec| -> Box<dyn Policy> { Box::new(Bomb) };
    let source = job.traffic.open(1).unwrap();
    let result = fleet::run(&job.fleet, source, &bomb, &Rows::default());
    let Err(error @ RunError::Panicked { role, .. }) = &result else { panic!("{result:?}") };
    assert_eq!(*role, Role::Coordinator { cell: Some(0) });
    assert!(error.to_string().starts_with("the coordinator of cell 0 panicked at "), "{error}");
}

#[test]
fn what_cells_do_not_take_is_refused() {
    let cases = [
        (&["fleet.workers=9"][..], "fleet.workers is 9, no multiple of fleet.cells (4)"),
        (&["fleet.workers=1048572"], "fleet.workers is 1048572, more than 1048571 beside 4 cells"),
        (&["workload.concurrency=9"], "beside workload.concurrency"),
        (&["workload.preset=agents"], "beside sessions"),
        (&["client.timeout=5s"], "beside [client]"),
        (&["admission.max_in_flight=5"], "beside [admission]"),
        (
            &[
                "classes.a={share=1,queue_limit=3}",
                "router.policy=kv",
                "router.router_queue_threshold=1.0",
            ],
            "beside limits of classes",
        ),
        (&["fleet.cells=3"], "fleet.cells is 3, no divisor of fleet.workers (8)"),
        (
            &["pools.a.workers=524288", "pools.b.workers=524284"],
            "pools have 1048572 workers, more than 1048571 beside 4 cells",
        ),
        (&["planner.policy=load"], "beside planner.policy"),
    ];
    for (settings, expected) in cases {
        let error = resolve(&[&["fleet.cells=4"], settings].concat()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = resolve(&["fleet.cells=0"]).unwrap_err();
    assert!(error.contains("fleet.cells is 0, but has to be a whole number from 1 to"), "{error}");
    let idle = resolve(&["fleet.cells=2", "admission.queue_limit=5"]).unwrap();
    assert!(idle.fleet.admission.is_none() && idle.notes[0].contains("nobody waits"), "{idle:?}");
    let notes = resolve(&["fleet.balancer=prefix"]).unwrap().notes;
    assert_eq!(notes, ["fleet.balancer has no effect without fleet.cells above 1"]);
    let notes = resolve(&["fleet.cells=2", "fleet.balancer_prefix_tokens=9"]).unwrap().notes;
    let expected = "fleet.balancer_prefix_tokens has no effect unless fleet.balancer is \"prefix\"";
    assert_eq!(notes, [expected]);
    // What a trace consists of is known when it is opened.
    let corpus =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/trace_dynamo/agents.jsonl");
    let trace = format!("workload.trace={}", corpus.display());
    let job = resolve(&["fleet.cells=2", "workload.trace_block_size=16", &trace]).unwrap();
    let Err(cause) = experiment::demand(&job) else { panic!("sessions were taken") };
    let error = experiment::ExperimentError { run: None, cause }.to_string();
    assert!(error.contains("agents.jsonl: consists of sessions"), "{error}");
}
