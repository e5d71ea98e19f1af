//! Limits of the front end in whole runs: one report on any number of threads, nobody lost, everybody turned away in time.

use fleetsim::fleet::{ControlPlane, Execution, FleetSpec, Latency, Load, Outcome, PoolSpec};
use fleetsim::kernel::rng::stream;
use fleetsim::kernel::{Span, Time};
use fleetsim::model::engine::{AdmissionRoom, DecodeKv, EngineConfig, FirstToken, PreemptionMode};
use fleetsim::model::kv::BlockLayout;
use fleetsim::model::metrics::{Row, Slo, Status};
use fleetsim::model::request::{Prompt, Request};
use fleetsim::model::router::{AdmissionSpec, PolicySpec, QueueOrder};
use fleetsim::model::timing::TimingModel;
use fleetsim::model::workload::Demand;
use rand::RngExt;

use crate::sessions::{demand, executions, job, one_report, reports, simulate};
use crate::support::policies;
use crate::support::seeds;
use crate::support::swarm::Case;
use crate::support::visitors::{client, visitors};

/// Some limits, at least one.
pub(crate) fn limits(seed: u64) -> AdmissionSpec {
    let mut rng = stream(seed, 4);
    let max_in_flight = rng.random_bool(0.8).then(|| rng.random_range(1..12));
    let queue_limit = rng.random_bool(0.7).then(|| rng.random_range(0..8));
    let ms = [1, 4, 30, 700][rng.random_range(0..4)];
    let max_wait = rng.random_bool(0.7).then(|| Span::from_ms(ms));
    let limits = AdmissionSpec { max_in_flight, queue_limit, max_wait };
    if limits == AdmissionSpec::default() {
        return AdmissionSpec { max_in_flight: Some(1), ..limits };
    }
    limits
}

/// What the rows of a run with limits have to satisfy, whatever else it has.
pub(crate) fn check(spec: &FleetSpec, rows: &[Row], outcome: &Outcome) {
    let limits = spec.admission.unwrap_or_default();
    let totals = outcome.recorder.totals;
    let count = |status| rows.iter().filter(|row| row.status == status).count() as u64;
    assert!((0..).zip(rows).all(|(id, row)| row.id.0 == id), "one row per request");
    assert_eq!(totals.arrived, rows.len() as u64);
    let statuses =
        [Status::Completed, Status::Rejected, Status::Aborted, Status::QueueFull, Status::Expired];
    let books =
        [totals.completed, totals.rejected, totals.aborted, totals.queue_full, totals.expired];
    assert_eq!(statuses.map(count), books);
    assert_eq!(books.iter().sum::<u64>(), totals.arrived);
    for row in rows {
        let is_turned_away = matches!(row.status, Status::QueueFull | Status::Expired);
        assert_eq!(row.worker.is_none(), is_turned_away, "{row:?}");
        assert!(!is_turned_away || (row.admitted, row.output_tokens) == (None, 0), "{row:?}");
        match row.status {
            Status::QueueFull => assert_eq!(row.end, row.arrival),
            Status::Expired => {
                let own = spec.classes.get(row.class.index()).and_then(|class| class.max_wait);
                assert_eq!(Some(row.e2e()), own.or(limits.max_wait));
            }
            _ => {}
        }
    }
    // Who is served at once has been let in, and has not ended as far as anybody knows.
    let spans = rows.iter().filter_map(|row| Some((row.admitted?, row.end)));
    let mut changes: Vec<(Time, i128)> =
        spans.flat_map(|(from, until)| [(from, 1), (until, -1)]).collect();
    changes.sort_unstable();
    let mut served = 0;
    for (time, change) in changes {
        served += change;
        assert!(limits.max_in_flight.is_none_or(|limit| served <= i128::from(limit)), "at {time}");
    }
}

/// Random fleets, policies and limits; some with sessions and clients.
#[test]
fn every_thread_count_gives_one_report_with_limits() {
    let (mut parallel, mut queue_full, mut expired, mut refused) = (0, 0, 0, 0);
    for seed in seeds(150) {
        let mut case = Case::new(seed);
        case.spec.admission = Some(limits(seed));
        let visitors = (!seed.is_multiple_of(3)).then(|| {
            case.spec.client = client(seed);
            visitors(&case, seed)
        });
        let mut reference = None;
        for execution in executions(seed) {
            case.spec.execution = execution;
            let demand: Demand = match &visitors {
                Some(visitors) => demand(visitors),
                None => case.source().into(),
            };
            let (outcome, rows) = simulate(&case.spec, demand, &case.policy);
            parallel += u32::from(outcome.executed.threads > 1);
            let found = (outcome.digest, reports(&case.spec, &outcome), rows);
            if reference.is_none() {
                check(&case.spec, &found.2, &outcome);
                queue_full += outcome.recorder.totals.queue_full;
                expired += outcome.recorder.totals.expired;
                refused += outcome.visited.map_or(0, |visited| visited.clients.refused);
            }
            let expected = reference.get_or_insert_with(|| found.clone());
            assert!(&found == expected, "FLEETSIM_SEED={seed}, {execution:?}");
        }
    }
    let is_one = std::env::var_os("FLEETSIM_SEED").is_some();
    assert!(
        is_one || (parallel > 500 && queue_full > 500 && expired > 200 && refused > 200),
        "{parallel} runs; {queue_full} found no room, {expired} expired, {refused} tries refused"
    );
}

/// Limits that nobody reaches change nothing.
#[test]
fn wide_limits_change_nothing() {
    for seed in seeds(100) {
        let mut case = Case::new(seed);
        let (plain, _) = simulate(&case.spec, case.source().into(), &case.policy);
        case.spec.admission = Some(AdmissionSpec {
            max_in_flight: Some(u64::MAX),
            queue_limit: Some(u64::MAX),
            max_wait: Some(Span::FOREVER),
        });
        let (limited, _) = simulate(&case.spec, case.source().into(), &case.policy);
        assert_eq!(plain.digest, limited.digest, "FLEETSIM_SEED={seed}");
    }
}

/// One worker that serves one request at a time, 10 ms each, without latencies.
pub(crate) fn one_server() -> FleetSpec {
    let engine = EngineConfig {
        layout: BlockLayout { block_size: 16, trace_block_size: 512 },
        num_gpu_blocks: 64,
        max_num_seqs: 1,
        max_num_batched_tokens: 512,
        max_whole_tokens: 512,
        max_model_len: None,
        enable_prefix_caching: false,
        enable_chunked_prefill: true,
        preemption_mode: PreemptionMode::Lifo,
        admission_room: AdmissionRoom::Prompt,
        first_token: FirstToken::Prefill,
        decode_kv: DecodeKv::Context,
        timing: TimingModel::Constant { prefill: Span::from_ms(10), decode: Span::from_ms(1) },
        speedup_ratio: 1.0,
        decode_speedup_ratio: 1.0,
    };
    FleetSpec {
        pools: vec![PoolSpec::new(1, engine)],
        cells: None,
        control_plane: ControlPlane::ideal(),
        load: Load::Open,
        client: None,
        router_queue: Some(QueueOrder::Fcfs),
        admission: None,
        classes: Vec::new(),
        scaling: None,
        seed: 0,
        series_interval: Span::from_secs(1),
        slo: Slo::default(),
        execution: Execution::sequential(),
    }
}

pub(crate) fn arrivals(ms: &[u64]) -> Demand {
    let request =
        |(line, &ms)| Request::new(line, Time::ZERO + Span::from_ms(ms), Prompt::unique(100), 1);
    let requests: Vec<Request> = (0..).zip(ms).map(request).collect();
    let source: Box<dyn fleetsim::model::workload::Source> = Box::new(requests.into_iter());
    source.into()
}

/// How every request ended, and when, in ms.
fn ends(spec: &FleetSpec, ms: &[u64]) -> Vec<(&'static str, u64)> {
    let (_, rows) = simulate(spec, arrivals(ms), &PolicySpec::RoundRobin);
    rows.iter().map(|row| (row.status.word(), row.end.as_ns() / 1_000_000)).collect()
}

/// Who finds the queue full is turned away at once, who has waited too long at the very moment; a place that is free then
/// is in time, and a place in the queue that becomes free then is taken by who arrives then.
#[test]
fn everybody_is_turned_away_in_time() {
    let mut spec = one_server();
    let max_wait = Some(Span::from_ms(18));
    spec.admission = Some(AdmissionSpec { max_in_flight: Some(1), queue_limit: Some(2), max_wait });
    let expected = [
        ("completed", 10),
        ("completed", 20),
        ("completed", 30),
        ("queue_full", 3),
        ("expired", 29),
        ("completed", 40),
        ("completed", 50),
        ("queue_full", 29),
    ];
    assert_eq!(ends(&spec, &[0, 1, 2, 3, 11, 28, 29, 29]), expected);
}

/// No queue: who does not find a free worker is lost. A place counts as taken until the front end has heard that it is free.
#[test]
fn a_place_is_free_when_the_front_end_has_heard_of_it() {
    let mut spec = one_server();
    spec.admission =
        Some(AdmissionSpec { max_in_flight: Some(1), queue_limit: Some(0), max_wait: None });
    let (served, lost) = (|ms| ("completed", ms), |ms| ("queue_full", ms));
    assert_eq!(ends(&spec, &[0, 9, 10, 19]), [served(10), lost(9), served(20), lost(19)]);
    spec.control_plane.feedback = Latency::constant(Span::from_ms(5));
    assert_eq!(ends(&spec, &[0, 14, 15, 29]), [served(10), lost(14), served(25), lost(29)]);
}

/// A closed loop whose places exceed those of the front end uses up its source.
#[test]
fn a_closed_loop_that_is_turned_away_goes_on_at_once() {
    let mut spec = one_server();
    spec.load = Load::Closed(10);
    spec.admission =
        Some(AdmissionSpec { max_in_flight: Some(1), queue_limit: Some(3), max_wait: None });
    let ends = ends(&spec, &[0; 1000]);
    let expected = [("completed", 10), ("completed", 20), ("completed", 30), ("completed", 40)];
    assert_eq!(ends[..4], expected);
    assert!(ends[4..].iter().all(|&end| end == ("queue_full", 0)));
}

const OVERLOAD: [&str; 8] = [
    "workload.preset=custom",
    "workload.generate.duration=60s",
    "workload.generate.rate=20.0",
    "fleet.workers=2",
    "admission.max_in_flight=24",
    "admission.queue_limit=30",
    "admission.max_wait=2s",
    "engine.max_num_seqs=16",
];

/// Generated load that is far too much, with every policy, alone and with clients that come back.
#[test]
fn limits_and_clients_give_one_report_with_every_router() {
    let client = ["client.retries=2", "client.backoff=500ms"];
    for policy in policies() {
        let alone = one_report(&job(&OVERLOAD), policy);
        let admitted = alone.admitted.unwrap();
        assert_eq!((admitted.in_flight_max, admitted.waiting_max), (24, 30));
        assert!(admitted.queue_full > 100 && admitted.expired > 20, "{admitted:?}");
        let outcome = one_report(&job(&[&OVERLOAD[..], &client].concat()), policy);
        let (admitted, visited) = (outcome.admitted.unwrap(), outcome.visited.unwrap());
        assert_eq!(visited.clients.refused, admitted.queue_full + admitted.expired);
        let retries = visited.clients.refused - visited.clients.abandoned;
        assert_eq!(visited.clients.retries, retries);
        assert!(retries > 100 && visited.clients.abandoned > 100, "{visited:?}");
    }
}

/// The Planner sees who arrives, not only who is let in.
#[test]
fn a_planner_counts_who_is_turned_away() {
    let planner = [
        "planner.policy=load",
        "planner.load_interval=2s",
        "planner.workers_max=3",
        "lifecycle.startup=3s",
    ];
    let keys = [&OVERLOAD[..], &planner].concat();
    let outcome = one_report(&job(&keys), PolicySpec::LeastLoaded);
    let ticks = outcome.scaled.unwrap().ticks;
    let last = ticks.last().unwrap().at;
    let seen: u64 = ticks.iter().map(|tick| tick.window.traffic.requests).sum();
    let arrived = outcome.recorder.totals.arrived;
    assert!(
        last >= Time::ZERO + Span::from_secs(58) && seen > arrived * 9 / 10,
        "{seen} at {last}"
    );
    assert!(outcome.recorder.totals.completed < seen && seen <= arrived);
}
