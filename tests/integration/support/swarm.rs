//! Random fleets and workloads. Every one leaves some features out, so that those it has meet in all combinations.

use std::fmt;

use fleetsim::fleet::{CellsSpec, ControlPlane, Execution, FleetSpec, Latency, Load, PoolSpec};
use fleetsim::kernel::rng::{Stream, stream};
use fleetsim::kernel::{Span, Time};
use fleetsim::model::class::ClassId;
use fleetsim::model::engine::{AdmissionRoom, DecodeKv, EngineConfig, FirstToken, PreemptionMode};
use fleetsim::model::kv::BlockLayout;
use fleetsim::model::metrics::Slo;
use fleetsim::model::request::{Prompt, Request, RequestId, Ticket};
use fleetsim::model::router::{BalancerSpec, KvRouterConfig, PolicySpec, QueueOrder, TieBreak};
use fleetsim::model::timing::{Polynomial, TimingModel};
use fleetsim::model::workload::{Shape, Shaped, Source};
use rand::RngExt;

use crate::support::measured;

/// A fleet, and what it has to do.
pub(crate) struct Case {
    pub(crate) spec: FleetSpec,
    pub(crate) policy: PolicySpec,
    pub(crate) shape: Shape,
    /// In order of arrival; each one's trace line is its index.
    pub(crate) requests: Vec<Request>,
}

/// All but the requests, which follow from the seed and would fill pages.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { spec, policy, shape, requests } = self;
        write!(f, "{} requests, {policy:?}, {shape:?}, {spec:?}", requests.len())
    }
}

impl Case {
    pub(crate) fn new(seed: u64) -> Case {
        let mut rng = stream(seed, 0);
        let engine = engine(&mut rng);
        let policy = policy(&mut rng);
        let workers = pick(&mut rng, &[1, 1, 1, 2, 3, 16, 100]);
        let spec = FleetSpec {
            pools: pools(seed, workers, engine),
            cells: None,
            control_plane: control_plane(&mut rng),
            load: if rng.random() { Load::Open } else { Load::Closed(rng.random_range(1..30)) },
            client: None,
            router_queue: router_queue(&mut rng, policy),
            admission: None,
            classes: Vec::new(),
            scaling: None,
            seed,
            series_interval: Span::from_ns(rng.random_range(1_000_000..3_000_000_000)),
            slo: slo(&mut rng),
            execution: Execution::sequential(),
        };
        let requests = requests(&mut rng, &spec.pools[0].engine);
        let shape = shape(&mut rng, &requests);
        Case { spec, policy, shape, requests }
    }

    pub(crate) fn source(&self) -> Box<dyn Source> {
        let requests = Box::new(self.requests.clone().into_iter());
        if self.shape == Shape::default() {
            return requests;
        }
        Box::new(Shaped::new(requests, self.shape.clone()))
    }

    /// Divides it into cells, if it can be and by chance is.
    pub(crate) fn divide(&mut self) {
        let mut rng = stream(self.spec.seed, 2);
        if self.spec.load != Load::Open || rng.random_bool(0.6) {
            return;
        }
        let count = pick(&mut rng, &[2, 3, 7]);
        for pool in &mut self.spec.pools {
            let room = if pool.workers < 20 { pool.workers } else { pool.workers / count };
            pool.workers = count * room;
        }
        let prefix = BalancerSpec::Prefix { blocks: rng.random_range(1..4) };
        let balancers =
            [BalancerSpec::RoundRobin, BalancerSpec::Random, BalancerSpec::Session, prefix];
        let balancer = pick(&mut rng, &balancers);
        self.spec.cells = Some(CellsSpec { count, balancer });
    }
}

/// Often one pool, sometimes two or three that have nothing but the KV blocks in common.
fn pools(seed: u64, workers: u32, first: EngineConfig) -> Vec<PoolSpec> {
    let mut rng = stream(seed, 1);
    let layout = first.layout;
    let mut pools = vec![PoolSpec::new(workers, first)];
    for _ in 0..pick(&mut rng, &[0, 0, 0, 0, 0, 1, 2]) {
        let num_gpu_blocks = (pick(&mut rng, &[300, 3000, 100_000]) / layout.block_size).max(1);
        let engine = EngineConfig { layout, num_gpu_blocks, ..engine(&mut rng) };
        pools.push(PoolSpec::new(pick(&mut rng, &[1, 2, 7]), engine));
    }
    pools
}

fn pick<T: Copy>(rng: &mut Stream, values: &[T]) -> T {
    values[rng.random_range(0..values.len())]
}

/// `value`, in some of all cases.
fn sometimes<T>(rng: &mut Stream, value: impl FnOnce(&mut Stream) -> T) -> Option<T> {
    rng.random::<bool>().then(|| value(rng))
}

fn engine(rng: &mut Stream) -> EngineConfig {
    let layout = BlockLayout {
        block_size: pick(rng, &[1, 16, 48, 64, 512, 700, 1024]),
        trace_block_size: pick(rng, &[8, 512]),
    };
    let pool_tokens: u32 = pick(rng, &[300, 1000, 3000, 1_000_000]);
    let max_num_seqs = pick(rng, &[1, 2, 8, 256]);
    let max_num_batched_tokens = pick(rng, &[3, 100, 2048, 8192]);
    EngineConfig {
        layout,
        num_gpu_blocks: (pool_tokens / layout.block_size).max(1),
        max_num_seqs,
        max_num_batched_tokens,
        max_whole_tokens: max_num_batched_tokens,
        max_model_len: sometimes(rng, |rng| pick(rng, &[64, 700, 4000])),
        enable_prefix_caching: rng.random_bool(0.7),
        enable_chunked_prefill: rng.random_bool(0.7),
        preemption_mode: pick(rng, &[PreemptionMode::Lifo, PreemptionMode::Fifo]),
        admission_room: pick(
            rng,
            &[AdmissionRoom::Prompt, AdmissionRoom::Chunk, AdmissionRoom::Preempt],
        ),
        first_token: pick(rng, &[FirstToken::Prefill, FirstToken::Decode]),
        decode_kv: pick(rng, &[DecodeKv::Context, DecodeKv::Resident]),
        timing: if rng.random_bool(0.25) {
            measured(rng.random())
        } else if rng.random() {
            // Whole milliseconds make everything meet at the same instants.
            let prefill = Span::from_ms(pick(rng, &[0, 1, 10]));
            TimingModel::Constant { prefill, decode: Span::from_ms(pick(rng, &[1, 2])) }
        } else {
            TimingModel::Polynomial(Polynomial::default())
        },
        speedup_ratio: pick(rng, &[1.0, 1.0, 1.7]),
        decode_speedup_ratio: pick(rng, &[1.0, 1.0, 0.6]),
    }
}

fn policy(rng: &mut Stream) -> PolicySpec {
    let kv = PolicySpec::Kv(KvRouterConfig {
        overlap_score_credit: pick(rng, &[0.0, 1.0, 2.0]),
        overlap_score_credit_decay: pick(rng, &[0.0, 0.5]),
        prefill_load_scale: pick(rng, &[0.0, 1.0]),
        decode_active_request_weight: pick(rng, &[0.0, 3.0]),
        router_temperature: pick(rng, &[0.0, 0.0, 1.0]),
        tie_break: pick(rng, &[TieBreak::Fewest, TieBreak::Random]),
        busy_prefill_tokens: sometimes(rng, |rng| pick(rng, &[0.0, 50.0, 2000.0])),
    });
    let simple = pick(
        rng,
        &[
            PolicySpec::RoundRobin,
            PolicySpec::Random,
            PolicySpec::PowerOfTwo,
            PolicySpec::LeastLoaded,
            PolicySpec::SessionAffine,
        ],
    );
    if rng.random_bool(0.4) { kv } else { simple }
}

fn router_queue(rng: &mut Stream, policy: PolicySpec) -> Option<QueueOrder> {
    let order = pick(rng, &[QueueOrder::Fcfs, QueueOrder::Lcfs, QueueOrder::Wspt]);
    matches!(policy, PolicySpec::Kv(KvRouterConfig { busy_prefill_tokens: Some(_), .. }))
        .then_some(order)
}

fn control_plane(rng: &mut Stream) -> ControlPlane {
    let mut plane = ControlPlane::ideal();
    for latency in [&mut plane.dispatch, &mut plane.feedback] {
        let floor = sometimes(rng, |rng| Span::from_ms(pick(rng, &[1, 5, 100])));
        let extra = sometimes(rng, |rng| Span::from_us(pick(rng, &[1, 3000])));
        let zero = Span::ZERO;
        *latency = Latency { floor: floor.unwrap_or(zero), mean_extra: extra.unwrap_or(zero) };
    }
    if rng.random_bool(0.4) { ControlPlane::ideal() } else { plane }
}

fn slo(rng: &mut Stream) -> Slo {
    let mut bound = |ms: &[u64]| sometimes(rng, |rng| Span::from_ms(pick(rng, ms)));
    Slo { ttft: bound(&[10, 500]), itl: bound(&[1, 2, 8]), e2e: bound(&[50, 2000]) }
}

fn requests(rng: &mut Stream, engine: &EngineConfig) -> Vec<Request> {
    let gap_ns = pick(rng, &[0, 500_000, 5_000_000, 100_000_000]);
    let whole_ms: bool = rng.random();
    // From workloads that fit the pool many times over to some that hardly fit once.
    let pool = engine.pool_tokens().min(4000) as u32;
    let prompt_max = pick(rng, &[10, pool / 10, pool / 4, pool + pool / 10]).max(1);
    let output_max = pick(rng, &[0, 1, 5, 80, pool / 4]);
    // Half the workloads share prefixes, with names of few blocks or of many.
    let names = sometimes(rng, |rng| pick(rng, &[1, 2, 5]));
    let sessions: bool = rng.random();
    let priorities: bool = rng.random();
    let mut now = Time::ZERO;
    (0..rng.random_range(1..80))
        .map(|line| {
            if rng.random_bool(0.7) {
                let gap = rng.random_range(0..=2 * gap_ns);
                now += Span::from_ns(if whole_ms { gap / 1_000_000 * 1_000_000 } else { gap });
            }
            let tokens: u32 = rng.random_range(1..=prompt_max);
            let count = tokens.div_ceil(engine.layout.trace_block_size);
            let mut prompt = match names {
                Some(names) => {
                    let ids: Vec<u64> = (0..count).map(|_| rng.random_range(0..names)).collect();
                    Prompt::named(tokens, ids.into_iter(), 0)
                }
                None => Prompt::unique(tokens),
            };
            if rng.random_bool(0.2) {
                prompt.shared_tokens = rng.random_range(0..=prompt.shared_tokens);
            }
            Request {
                id: RequestId(0),
                ticket: Ticket::default(),
                trace_line: line,
                arrival: now,
                prompt,
                output_tokens: rng.random_range(0..=output_max),
                session: sessions.then(|| rng.random_range(0..10)),
                class: ClassId::default(),
                strict_priority: if priorities { rng.random_range(-1..2) } else { 0 },
                priority_jump: if priorities { rng.random_range(0.0..5.0) } else { 0.0 },
            }
        })
        .collect()
}

fn shape(rng: &mut Stream, requests: &[Request]) -> Shape {
    if rng.random() {
        return Shape::default();
    }
    // A window begins and ends with a request, exactly or nearly.
    let mut edge = |first, end| {
        let index: usize = rng.random_range(first..end);
        let ns = requests[index].arrival.as_ns() + rng.random_range(0..=1);
        rng.random::<bool>().then(|| Span::from_ns(ns))
    };
    let half = requests.len() / 2;
    let (from, until) = (edge(0, half + 1), edge(half, requests.len()));
    Shape {
        from: from.unwrap_or(Span::ZERO),
        until,
        speedup: pick(rng, &[1.0, 3.0, 0.7]),
        copies: pick(rng, &[1, 2, 5]),
        copy_spread: Span::from_ms(pick(rng, &[0, 10, 3000])),
        requests: sometimes(rng, |rng| rng.random_range(1..100)),
    }
}
