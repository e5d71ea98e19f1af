//! Fleets that are textbook queues, against the formulas of the textbooks.
//!
//! A worker that serves one request at a time, without latencies, is a queue with one server, and constant pass times
//! make its service times known. What is measured is the mean of dependent values, so its error is estimated from
//! independent ones: the busy cycles, from one request that finds its worker empty to the next.

use std::collections::BTreeMap;
use std::ops::Range;

use fleetsim::fleet::{self, ControlPlane, Execution, FleetSpec, Load, Outcome, PoolSpec, Scaling};
use fleetsim::kernel::rng::stream;
use fleetsim::kernel::{Span, Time};
use fleetsim::model::engine::{AdmissionRoom, DecodeKv, EngineConfig, FirstToken, PreemptionMode};
use fleetsim::model::kv::BlockLayout;
use fleetsim::model::lifecycle::{LifecycleSpec, Startup, Victims};
use fleetsim::model::metrics::{Row, Slo, Status};
use fleetsim::model::planner::{Limits, PlannerSpec, ScalingSpec, TimedSpec, WhilePending};
use fleetsim::model::request::{Prompt, Request};
use fleetsim::model::router::{AdmissionSpec, KvRouterConfig, PolicySpec, QueueOrder};
use fleetsim::model::timing::TimingModel;
use rand::RngExt;
use rand_distr::{Distribution, Exp1};

use crate::support::{Rows, seeds};

const PREFILL: Span = Span::from_ms(7);
const DECODE: Span = Span::from_ms(3);
const PROMPT: u32 = 300;
const BLOCK: u32 = 16;

/// How far a mean may be from its formula, in standard errors: one in 16,000 is farther by chance.
const ERRORS_MAX: f64 = 4.0;

/// Kinds of requests: the tokens they ask for, and their share.
type Kinds = &'static [(u32, f64)];

/// One token from the prefill pass, each of the others from a decode pass.
fn service(output_tokens: u32) -> Span {
    Span::from_ns(PREFILL.as_ns() + u64::from(output_tokens - 1) * DECODE.as_ns())
}

/// E[S^power] of the service time, in seconds.
fn moment(kinds: Kinds, power: i32) -> f64 {
    kinds.iter().map(|&(tokens, share)| share * service(tokens).as_secs().powi(power)).sum()
}

fn spec(workers: u32, seed: u64) -> FleetSpec {
    let engine = EngineConfig {
        layout: BlockLayout { block_size: BLOCK, trace_block_size: 512 },
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
        timing: TimingModel::Constant { prefill: PREFILL, decode: DECODE },
        speedup_ratio: 1.0,
        decode_speedup_ratio: 1.0,
    };
    FleetSpec {
        pools: vec![PoolSpec::new(workers, engine)],
        cells: None,
        control_plane: ControlPlane::ideal(),
        load: Load::Open,
        client: None,
        router_queue: None,
        admission: None,
        classes: Vec::new(),
        scaling: None,
        seed,
        series_interval: Span::from_ms(500),
        slo: Slo::default(),
        execution: Execution::sequential(),
    }
}

/// One seed, also in a long search: among thousands some are off by chance.
fn one_seed() -> Range<u64> {
    seeds(1).start..seeds(1).start + 1
}

/// Poisson arrivals, `rate` per second, each of a random kind.
fn poisson(
    seed: u64,
    rate: f64,
    kinds: Kinds,
    count: u64,
) -> impl Iterator<Item = Request> + Send + 'static {
    let mut rng = stream(seed, 1);
    let mut now = Time::ZERO;
    (0..count).map(move |line| {
        let gap: f64 = Exp1.sample(&mut rng);
        now += Span::from_secs_f64(gap / rate);
        let mut left: f64 = rng.random();
        let kind = kinds.iter().find(|(_, share)| {
            left -= share;
            left < 0.0
        });
        Request::new(line, now, Prompt::unique(PROMPT), kind.unwrap_or(&kinds[0]).0)
    })
}

/// The rows of a run at this utilization of each worker; every service time in them is the one computed here.
fn simulate(
    seed: u64,
    workers: u32,
    policy: PolicySpec,
    (utilization, kinds, count): (f64, Kinds, u64),
) -> (Outcome, Vec<Row>) {
    let spec = spec(workers, seed);
    let rate = f64::from(workers) * utilization / moment(kinds, 1);
    let source = Box::new(poisson(seed, rate, kinds, count));
    let rows = Rows::default();
    let outcome = fleet::run(&spec, source, &policy, &rows).unwrap();
    let rows = rows.sorted();
    assert_eq!(rows.len() as u64, count);
    let mut free = vec![Time::ZERO; workers as usize];
    for row in &rows {
        let free = &mut free[row.worker.unwrap().index()];
        let (admitted, end) = (row.admitted.unwrap(), row.end);
        assert_eq!(end.since(admitted), service(row.output_tokens), "seed {seed}: {row:?}");
        assert_eq!(admitted, row.arrival.max(*free), "seed {seed}: a worker idled, {row:?}");
        *free = end;
    }
    (outcome, rows)
}

fn wait(row: &Row) -> f64 {
    row.admitted.unwrap().since(row.arrival).as_secs()
}

/// A mean and its standard error.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    mean: f64,
    error: f64,
}

impl Estimate {
    /// The mean of `value` over all requests. Cycles are independent, so this is the ratio of two means of independent
    /// values: sums over cycles, and their lengths.
    fn over_cycles(rows: &[Row], value: impl Fn(f64) -> f64) -> Estimate {
        let mut cycles: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
        for row in rows {
            let cycles = cycles.entry(row.worker.unwrap().0).or_default();
            let wait = wait(row);
            if wait <= 0.0 {
                cycles.push((0.0, 0.0));
            }
            let (sum, length) =
                cycles.last_mut().expect("the first request finds its worker empty");
            *sum += value(wait);
            *length += 1.0;
        }
        let cycles: Vec<(f64, f64)> = cycles.into_values().flatten().collect();
        let length: f64 = cycles.iter().map(|(_, length)| length).sum();
        let mean = cycles.iter().map(|(sum, _)| sum).sum::<f64>() / length;
        let squares: f64 = cycles.iter().map(|(sum, n)| (sum - mean * n).powi(2)).sum();
        Estimate { mean, error: squares.sqrt() / length }
    }

    /// The mean of dependent samples, from the means of 40 long stretches of them.
    fn over_stretches(samples: &[f64]) -> Estimate {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let means: Vec<f64> = samples.chunks_exact(samples.len() / 40).map(mean).collect();
        let (center, count) = (mean(&means), means.len() as f64);
        let squares: f64 = means.iter().map(|mean| (mean - center).powi(2)).sum();
        Estimate { mean: center, error: (squares / (count - 1.0) / count).sqrt() }
    }

    fn check(self, expected: f64, what: &str, seed: u64, test: &str) {
        let Estimate { mean, error } = self;
        let repeat = format!("repeat with FLEETSIM_SEED={seed} cargo test {test}");
        assert!(
            (mean - expected).abs() <= ERRORS_MAX * error,
            "{what} is {mean} +- {error}, not {expected}; {repeat}"
        );
        assert!(error < 0.1 * expected, "{what} +- {error} is too vague to prove much; {repeat}");
    }
}

/// Pollaczek and Khinchine: mean and second moment of the waiting time in M/G/1.
fn pollaczek_khinchine(utilization: f64, kinds: Kinds) -> (f64, f64) {
    let rate = utilization / moment(kinds, 1);
    let mean = rate * moment(kinds, 2) / (2.0 * (1.0 - utilization));
    let square = 2.0 * mean.powi(2) + rate * moment(kinds, 3) / (3.0 * (1.0 - utilization));
    (mean, square)
}

fn check_one_worker(kinds: Kinds, test: &str) {
    for seed in one_seed() {
        for (utilization, count) in [(0.3, 100_000), (0.6, 100_000), (0.9, 400_000)] {
            let load = (utilization, kinds, count);
            let (_, rows) = simulate(seed, 1, PolicySpec::RoundRobin, load);
            let (mean, square) = pollaczek_khinchine(utilization, kinds);
            let check = |what: &str, expected, value: fn(f64) -> f64| {
                let what = format!("{what} at utilization {utilization}");
                Estimate::over_cycles(&rows, value).check(expected, &what, seed, test);
            };
            check("the mean wait", mean, |wait| wait);
            check("P(no wait)", 1.0 - utilization, |wait| f64::from(u8::from(wait <= 0.0)));
            if utilization < 0.9 {
                check("the mean square of the wait", square, |wait| wait * wait);
            }
        }
    }
}

#[test]
fn one_worker_with_equal_requests_is_m_d_1() {
    check_one_worker(&[(4, 1.0)], "one_worker_with_equal_requests_is_m_d_1");
}

#[test]
fn one_worker_with_unequal_requests_is_m_g_1() {
    let kinds = &[(1, 0.5), (6, 0.3), (25, 0.2)];
    check_one_worker(kinds, "one_worker_with_unequal_requests_is_m_g_1");
}

/// The mean wait in GI/D/1 where gaps are sums of `phases` exponential ones (Spitzer's identity): the sum over k of
/// E[max(0, k services - k gaps)] / k.
fn erlang_d_1(utilization: f64, phases: u64, service: f64) -> f64 {
    let rate = phases as f64 * utilization / service;
    (1..2000_u64)
        .map(|k| {
            let work = k as f64 * service;
            // k gaps are shorter than the work when k x phases exponential ones are.
            let (at_least, more) = poisson_tails(rate * work, k * phases);
            (work * at_least - (k * phases) as f64 / rate * more) / k as f64
        })
        .take_while(|term| *term > 1e-9 * service)
        .sum()
}

/// P(N >= n) and P(N > n) for N with a Poisson distribution.
fn poisson_tails(mean: f64, n: u64) -> (f64, f64) {
    let factorial: f64 = (1..=n).map(|i| (i as f64).ln()).sum();
    let at = (n as f64 * mean.ln() - mean - factorial).exp();
    let (mut more, mut term, mut i) = (0.0, at, n);
    while term > 1e-18 * at {
        i += 1;
        term *= mean / i as f64;
        more += term;
    }
    (at + more, more)
}

#[test]
fn spitzer_agrees_with_pollaczek_and_khinchine() {
    for utilization in [0.3, 0.6, 0.8] {
        let service = service(4).as_secs();
        let (expected, _) = pollaczek_khinchine(utilization, &[(4, 1.0)]);
        let got = erlang_d_1(utilization, 1, service);
        assert!((got / expected - 1.0).abs() < 1e-5, "{utilization}: {got}, not {expected}");
    }
}

/// Every fourth of Poisson arrivals, or a random fourth of them; and choices that know more than that.
#[test]
fn four_workers_are_four_queues() {
    let (utilization, kinds): (f64, Kinds) = (0.8, &[(4, 1.0)]);
    let test = "four_workers_are_four_queues";
    for seed in one_seed() {
        let measure = |policy: PolicySpec| {
            let (_, rows) = simulate(seed, 4, policy, (utilization, kinds, 200_000));
            Estimate::over_cycles(&rows, |wait| wait)
        };
        let random = measure(PolicySpec::Random);
        let (expected, _) = pollaczek_khinchine(utilization, kinds);
        random.check(expected, "the mean wait behind a random router", seed, test);
        let in_turn = measure(PolicySpec::RoundRobin);
        let expected = erlang_d_1(utilization, 4, moment(kinds, 1));
        in_turn.check(expected, "the mean wait behind a round robin", seed, test);

        // With equal services a turn is as good as one queue for all, which nothing can beat.
        let two = measure(PolicySpec::PowerOfTwo);
        let least = measure(PolicySpec::LeastLoaded);
        let order = [in_turn.mean, least.mean, two.mean, random.mean];
        assert!(
            order.windows(2).all(|pair| 1.1 * pair[0] < pair[1]),
            "round robin, least loaded, power of two, random: {order:?}; repeat with \
             FLEETSIM_SEED={seed} cargo test {test}"
        );
    }
}

/// Erlang's loss formula: the share of Poisson arrivals that find all of so many servers busy, whatever the service times.
fn erlang_b(offered: f64, servers: u32) -> f64 {
    (1..=servers).fold(1.0, |loss, n| offered * loss / (f64::from(n) + offered * loss))
}

/// Who may not wait is lost.
#[test]
fn a_fleet_without_a_queue_loses_what_erlang_says() {
    let test = "a_fleet_without_a_queue_loses_what_erlang_says";
    for seed in one_seed() {
        for (workers, utilization) in [(1, 0.5), (3, 0.8), (10, 1.1)] {
            for kinds in [&[(4, 1.0)][..], &[(1, 0.5), (6, 0.3), (25, 0.2)]] {
                let mut spec = spec(workers, seed);
                spec.admission = Some(AdmissionSpec {
                    max_in_flight: Some(workers.into()),
                    queue_limit: Some(0),
                    max_wait: None,
                });
                let offered = f64::from(workers) * utilization;
                let source = Box::new(poisson(seed, offered / moment(kinds, 1), kinds, 100_000));
                // Whoever is let in finds an idle worker.
                let policy = PolicySpec::LeastLoaded;
                let rows = Rows::default();
                fleet::run(&spec, source, &policy, &rows).unwrap();
                let is_lost = |row: &Row| f64::from(u8::from(row.status == Status::QueueFull));
                let lost: Vec<f64> = rows.sorted().iter().map(is_lost).collect();
                let what = format!("the share that {workers} workers lose");
                let expected = erlang_b(offered, workers);
                Estimate::over_stretches(&lost).check(expected, &what, seed, test);
            }
        }
    }
}

/// The blocks that a running request holds at `time`: those of its prompt, and of one more token per decode pass.
fn pinned(row: &Row, time: Time) -> u64 {
    let decoding = time.since(row.admitted.unwrap()).as_ns().checked_sub(PREFILL.as_ns());
    let passes = decoding.map_or(0, |ns| ns / DECODE.as_ns() + 1);
    (u64::from(PROMPT) + passes).div_ceil(u64::from(BLOCK))
}

/// The gauges of the time series are what the rows say about the end of each interval, and Little's law holds for them.
#[test]
fn gauges_obey_littles_law() {
    let (utilization, kinds): (f64, Kinds) = (0.7, &[(1, 0.5), (6, 0.3), (25, 0.2)]);
    let test = "gauges_obey_littles_law";
    for seed in one_seed() {
        let repeat = format!("repeat with FLEETSIM_SEED={seed} cargo test {test}");
        let (outcome, rows) =
            simulate(seed, 1, PolicySpec::RoundRobin, (utilization, kinds, 100_000));
        let series = &outcome.recorder.series;
        let last_arrival = rows.last().unwrap().arrival;
        let mut waiting = Vec::new();
        for (index, interval) in (1..).zip(series.intervals()) {
            let end = Time::from_ns(index * series.length().as_ns());
            if end > last_arrival {
                break;
            }
            // One server: requests are admitted, and end, in order of arrival.
            let until =
                |time: fn(&Row) -> Time| rows.partition_point(|row| time(row) <= end) as u64;
            let admitted = until(|row| row.admitted.unwrap());
            let running = admitted - until(|row| row.end);
            let pinned = if running > 0 { pinned(&rows[admitted as usize - 1], end) } else { 0 };
            let expected = (until(|row| row.arrival) - admitted, running, pinned);
            let got = (interval.waiting, interval.running, interval.pinned_blocks);
            assert_eq!(got, expected, "waiting, running and blocks at {end}; {repeat}");
            waiting.push(interval.waiting as f64);
        }
        let (mean, _) = pollaczek_khinchine(utilization, kinds);
        let expected = utilization / moment(kinds, 1) * mean;
        let estimate = Estimate::over_stretches(&waiting);
        estimate.check(expected, "the mean number of waiting requests", seed, test);
    }
}

/// Chunks of a prompt, each a prefill pass, on average: 1 / (1 - exp(-1 / 40)).
const CHUNKS: f64 = 40.0;

/// Erlang C: the probability that a request waits in M/M/c at this utilization.
fn erlang_c(servers: u32, utilization: f64) -> f64 {
    // Erlang B by its recursion, then from losses to waits.
    let offered = f64::from(servers) * utilization;
    let lost = (1..=servers).fold(1.0, |b, n| offered * b / (f64::from(n) + offered * b));
    lost / (1.0 - utilization * (1.0 - lost))
}

/// A Planner that holds `workers` of twelve, and a router that sends a worker one request at a time.
fn held(workers: u32, seed: u64) -> FleetSpec {
    const MOST: u32 = 12;
    let mut spec = spec(MOST, seed);
    let engine = &mut spec.pools[0].engine;
    (engine.max_num_batched_tokens, engine.num_gpu_blocks) = (BLOCK, 4000);
    spec.router_queue = Some(QueueOrder::Fcfs);
    spec.scaling = Some(Scaling {
        planner: PlannerSpec {
            name: "fixed",
            policy: TimedSpec {
                policy: ScalingSpec::Fixed(workers),
                interval: Span::from_secs(60),
                window: Span::from_secs(60),
                while_pending: WhilePending::Act,
            },
            floor: None,
            limits: Limits::new(1, MOST, 1, None, None).unwrap(),
            advisory: false,
            initial: workers,
        },
        lifecycle: LifecycleSpec {
            workers_max: MOST,
            gpus_per_worker: 1,
            startup: Startup::constant(Span::from_secs(30)),
            warm: 0,
            starting_max: None,
            gpus_max: None,
            victims: Victims::Newest,
        },
        cold_start: false,
    });
    spec
}

/// Service times are geometric numbers of chunks of 7 ms, the exponential distribution in steps: its square of the
/// coefficient of variation is exp(-1 / 40) and not 1, for which Lee and Longton (1959) correct the mean wait.
#[test]
fn a_fleet_that_is_held_is_m_m_c() {
    let seed = one_seed().start;
    for (servers, utilization) in [(1, 0.7), (3, 0.8), (10, 0.85)] {
        let spec = held(servers, seed);
        let mean = PREFILL.as_secs() / (1.0 - (-1.0 / CHUNKS).exp());
        let rate = f64::from(servers) * utilization / mean;
        let mut rng = stream(seed, 2);
        let requests = poisson(seed, rate, &[(1, 1.0)], 60_000).map(move |request| {
            let chunks: f64 = Exp1.sample(&mut rng);
            let tokens = (chunks * CHUNKS).ceil().max(1.0) as u32 * BLOCK;
            Request { prompt: Prompt::unique(tokens), ..request }
        });
        let policy =
            PolicySpec::Kv(KvRouterConfig { busy_prefill_tokens: Some(0.5), ..Default::default() });
        let rows = Rows::default();
        fleet::run(&spec, Box::new(requests), &policy, &rows).unwrap();
        let rows = rows.sorted();
        assert!(rows.iter().all(|row| row.worker.is_some_and(|worker| worker.0 < servers)));
        let waits: Vec<f64> = rows.iter().map(wait).collect();
        let waited: Vec<f64> = waits.iter().map(|wait| f64::from(u8::from(*wait > 0.0))).collect();
        let probability = erlang_c(servers, utilization);
        let scatter = f64::midpoint(1.0, (-1.0 / CHUNKS).exp());
        let expected = scatter * probability * mean / (f64::from(servers) * (1.0 - utilization));
        let check = |samples: &[f64], expected, what: &str| {
            let what = format!("{what} of {servers} workers");
            let test = "a_fleet_that_is_held_is_m_m_c";
            Estimate::over_stretches(samples).check(expected, &what, seed, test);
        };
        check(&waits, expected, "the mean wait");
        check(&waited, probability, "P(wait)");
    }
}
