//! Classes of requests in whole runs: one report on any number of threads, figures that are those of the rows, limits and
//! priorities that are kept.

use fleetsim::fleet::{FleetSpec, Outcome};
use fleetsim::kernel::rng::{Stream, stream};
use fleetsim::kernel::{Span, Time};
use fleetsim::model::class::ClassSpec;
use fleetsim::model::metrics::{Row, Slo, Status};
use fleetsim::model::router::{AdmissionSpec, PolicySpec};
use fleetsim::model::workload::Demand;
use rand::RngExt;

use crate::admission::{arrivals, check, limits, one_server};
use crate::sessions::{demand, executions, job, one_report, reports, simulate};
use crate::support::seeds;
use crate::support::swarm::Case;
use crate::support::visitors::{client, visitors};

fn class(name: &str, share: f64) -> ClassSpec {
    let (queue_limit, max_wait) = (None, None);
    ClassSpec {
        name: name.to_owned(),
        share,
        priority: 0,
        queue_limit,
        max_wait,
        slo: Slo::default(),
    }
}

/// One to four classes; some with limits, priorities and bounds of their own.
fn classes(seed: u64) -> Vec<ClassSpec> {
    let mut rng = stream(seed, 5);
    let own = |rng: &mut Stream| rng.random_bool(0.4);
    (0..rng.random_range(1..5))
        .map(|number| ClassSpec {
            name: format!("class{number}"),
            share: rng.random_range(0.1..4.0),
            priority: rng.random_range(-2..3),
            queue_limit: own(&mut rng).then(|| rng.random_range(0..6)),
            max_wait: own(&mut rng).then(|| Span::from_ms(rng.random_range(1..50))),
            slo: Slo {
                ttft: own(&mut rng).then_some(Span::from_ms(20)),
                itl: own(&mut rng).then_some(Span::from_ms(3)),
                e2e: own(&mut rng).then_some(Span::from_ms(900)),
            },
        })
        .collect()
}

/// The figures of every class are those of its rows.
fn check_figures(spec: &FleetSpec, rows: &[Row], outcome: &Outcome) {
    let figures = &outcome.recorder.classes;
    assert_eq!(figures.len(), spec.classes.len());
    for (index, (class, figures)) in spec.classes.iter().zip(figures).enumerate() {
        let own: Vec<&Row> = rows.iter().filter(|row| row.class.index() == index).collect();
        let count = |status| own.iter().filter(|row| row.status == status).count() as u64;
        assert_eq!(figures.totals.arrived, own.len() as u64);
        assert_eq!(figures.totals.ended(), own.len() as u64);
        assert_eq!(figures.totals.completed, count(Status::Completed));
        assert_eq!(figures.totals.rejected, count(Status::Rejected));
        assert_eq!(figures.totals.aborted, count(Status::Aborted));
        assert_eq!(figures.totals.queue_full, count(Status::QueueFull));
        assert_eq!(figures.totals.expired, count(Status::Expired));
        let completed = || own.iter().filter(|row| row.status == Status::Completed);
        let ttfts = || completed().filter_map(|row| row.ttft()).map(Span::as_ns);
        assert_eq!(figures.ttft.count(), ttfts().count() as u64);
        assert_eq!(figures.ttft.max(), ttfts().max());
        assert_eq!(figures.tpot.count(), completed().filter_map(|row| row.tpot()).count() as u64);
        assert_eq!(figures.e2e.max(), completed().map(|row| row.e2e().as_ns()).max());
        let is_good = |row: &&&Row| class.slo.is_set() && class.slo.is_met(row);
        assert_eq!(figures.totals.good, own.iter().filter(is_good).count() as u64);
    }
}

/// Random fleets, policies, limits and classes; some with sessions and clients, some without limits for all.
#[test]
fn every_thread_count_gives_one_report_with_classes() {
    let (mut own_full, mut own_expired, mut several) = (0, 0, 0);
    for seed in seeds(120) {
        let mut case = Case::new(seed);
        case.spec.classes = classes(seed);
        let all = if seed.is_multiple_of(4) { AdmissionSpec::default() } else { limits(seed) };
        let has_limits = !seed.is_multiple_of(8);
        case.spec.admission = has_limits.then_some(all);
        let visitors = seed.is_multiple_of(3).then(|| {
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
            let found = (outcome.digest, reports(&case.spec, &outcome), rows);
            if reference.is_none() {
                let rows = &found.2;
                check(&case.spec, rows, &outcome);
                check_figures(&case.spec, rows, &outcome);
                let class = |row: &&Row| &case.spec.classes[row.class.index()];
                let is_own_full = |row: &&Row| class(row).queue_limit.is_some();
                let full = rows.iter().filter(|row| row.status == Status::QueueFull);
                own_full += full.filter(is_own_full).count();
                let late = rows.iter().filter(|row| row.status == Status::Expired);
                own_expired += late.filter(|row| class(row).max_wait.is_some()).count();
                for visitor in visitors.iter().flatten() {
                    let asks = &visitor.opening.asks;
                    let is_own =
                        |row: &&Row| asks.iter().any(|ask| ask.trace_line == row.trace_line);
                    let mut own = rows.iter().filter(is_own).map(|row| row.class);
                    let first = own.next();
                    assert!(own.all(|class| Some(class) == first), "a session is of one class");
                    several += u64::from(case.spec.classes.len() > 1 && first.is_some());
                }
            }
            let expected = reference.get_or_insert_with(|| found.clone());
            assert!(&found == expected, "FLEETSIM_SEED={seed}, {execution:?}");
        }
    }
    let is_one = std::env::var_os("FLEETSIM_SEED").is_some();
    assert!(
        is_one || (own_full > 50 && own_expired > 50 && several > 50),
        "{own_full} and {own_expired} turned away by limits of their class, {several} sessions"
    );
}

/// Classes that are alike change nothing but what is told apart, also where the router's index is in parts.
#[test]
fn classes_that_are_alike_change_nothing() {
    for seed in seeds(60) {
        let mut case = Case::new(seed);
        let (plain, _) = simulate(&case.spec, case.source().into(), &case.policy);
        case.spec.classes = vec![class("a", 1.0), class("b", 2.0)];
        for execution in executions(seed) {
            case.spec.execution = execution;
            let (outcome, rows) = simulate(&case.spec, case.source().into(), &case.policy);
            assert_eq!(plain.digest, outcome.digest, "FLEETSIM_SEED={seed}");
            check_figures(&case.spec, &rows, &outcome);
        }
    }
}

/// Requests of an overloaded server, one every 5 ms, and the rows of them.
fn overload(classes: Vec<ClassSpec>, all: AdmissionSpec) -> Vec<Row> {
    let mut spec = one_server();
    spec.admission = Some(all);
    spec.classes = classes;
    let ms: Vec<u64> = (0..2000).map(|number| number * 5).collect();
    let (outcome, rows) = simulate(&spec, arrivals(&ms), &PolicySpec::RoundRobin);
    check(&spec, &rows, &outcome);
    check_figures(&spec, &rows, &outcome);
    rows
}

const ONE_AT_A_TIME: AdmissionSpec =
    AdmissionSpec { max_in_flight: Some(1), queue_limit: None, max_wait: None };

/// Nobody of a lower class is let in while somebody of a higher one waits.
#[test]
fn a_higher_class_goes_first() {
    let classes =
        vec![ClassSpec { priority: 1, ..class("high", 1.0) }, ClassSpec { ..class("low", 3.0) }];
    let rows = overload(classes, ONE_AT_A_TIME);
    let of = |class: usize| rows.iter().filter(move |row| row.class.index() == class);
    assert!(of(0).count() > 400 && of(1).count() > 1400);
    let mut overtakes = 0;
    for high in of(0) {
        let admitted = high.admitted.unwrap();
        for low in of(1) {
            let before = low.admitted.unwrap();
            assert!(!(high.arrival < before && before < admitted), "{low:?} before {high:?}");
            overtakes += u64::from(low.arrival < high.arrival && before > admitted);
        }
    }
    assert!(overtakes > 1000, "{overtakes}");
}

/// A class with a limit of its own neither takes places of the others nor lends them its own.
#[test]
fn a_limit_of_its_own_is_a_class_s_own() {
    let own = |queue_limit, max_wait| ClassSpec { queue_limit, max_wait, ..class("own", 1.0) };
    let all = AdmissionSpec { queue_limit: Some(4), ..ONE_AT_A_TIME };
    let lost = |rows: &[Row], class| {
        let own = rows.iter().filter(|row| row.class.index() == class);
        own.filter(|row| row.status == Status::QueueFull).count()
    };
    let rows = overload(vec![own(Some(0), None), class("rest", 1.0)], all);
    let is_idle = |now: Time| {
        !rows
            .iter()
            .any(|row| row.admitted.is_some_and(|admitted| admitted <= now) && now < row.end)
    };
    let own_rows = rows.iter().filter(|row| row.class.index() == 0);
    for row in own_rows {
        let is_let_in = row.status == Status::Completed;
        assert!(!is_let_in || row.admitted == Some(row.arrival), "{row:?}");
        assert!(is_let_in || !is_idle(row.arrival), "{row:?}");
    }
    assert!(lost(&rows, 0) > 500);
    // Twice the load of the server, half of it in each class: whoever may wait for ever takes its share.
    let rows = overload(vec![own(Some(u64::MAX), None), class("rest", 1.0)], all);
    assert!(lost(&rows, 0) == 0 && lost(&rows, 1) > 300);
    let wait = Span::from_ms(7);
    let rows = overload(vec![own(None, Some(wait)), class("rest", 1.0)], ONE_AT_A_TIME);
    let expired = || rows.iter().filter(|row| row.status == Status::Expired);
    assert!(expired().count() > 300 && expired().all(|row| row.class.index() == 0));
    assert!(expired().all(|row| row.e2e() == wait));
}

/// Shares of generated chats, whose sessions are of one class, with every executor.
#[test]
fn generated_sessions_have_classes() {
    let keys = [
        "workload.preset=custom",
        "workload.turns_wait=true",
        "workload.generate.duration=120s",
        "workload.generate.rate=4.0",
        "workload.generate.turns=3.0",
        "workload.generate.turn_gap=5s",
        "fleet.workers=2",
        "classes.gold.share=1.0",
        "classes.gold.priority=1",
        "classes.rest.share=3.0",
        "classes.rest.queue_limit=10",
        "admission.max_in_flight=20",
        "client.retries=1",
    ];
    let job = job(&keys);
    let outcome = one_report(&job, PolicySpec::LeastLoaded);
    let [gold, rest] = &outcome.recorder.classes[..] else { panic!("two classes") };
    assert_eq!(gold.totals.arrived + rest.totals.arrived, outcome.recorder.totals.arrived);
    assert!(
        gold.totals.queue_full == 0 && rest.totals.queue_full > 0,
        "{} {}",
        gold.totals.queue_full,
        rest.totals.queue_full
    );
    assert!(
        gold.totals.completed == gold.totals.arrived
            && gold.totals.completed > 100
            && rest.totals.completed > 100
    );
}
