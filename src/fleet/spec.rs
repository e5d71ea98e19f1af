//! A run, fully described and checked.

use std::borrow::Cow;
use std::ops::Range;

use rand::Rng;
use rand_distr::{Distribution, Exp1};

use crate::fleet::execution::Execution;
use crate::fleet::layout::{COORDINATOR, Layout};
use crate::kernel::Span;
use crate::kernel::rng::{Stream, lp_stream, mix64};
use crate::model::class::{ClassSpec, Lots};
use crate::model::engine::EngineConfig;
use crate::model::kv::BlockLayout;
use crate::model::lifecycle::LifecycleSpec;
use crate::model::metrics::Slo;
use crate::model::planner::PlannerSpec;
use crate::model::request::WorkerId;
use crate::model::router::{AdmissionSpec, BalancerSpec, QueueOrder, Reads};
use crate::model::session::ClientSpec;

/// The delay of one direction between the front end and the workers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Latency {
    /// The least it takes.
    pub floor: Span,
    /// What comes on top on average, exponentially distributed; zero for a constant latency.
    pub mean_extra: Span,
}

impl Latency {
    /// Always the same.
    pub fn constant(floor: Span) -> Latency {
        Latency { floor, mean_extra: Span::ZERO }
    }

    /// One delay. Draws from `rng` only if it is random at all.
    pub fn sample(&self, rng: &mut impl Rng) -> Span {
        if self.mean_extra == Span::ZERO {
            return self.floor;
        }
        let extra: f64 = Exp1.sample(rng);
        self.floor + Span::from_ns((self.mean_extra.as_ns() as f64 * extra).round() as u64)
    }
}

/// How fast the front end and the workers hear of one another.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ControlPlane {
    /// From the routing decision to the worker's queue: network, tokenisation, hand-over.
    pub dispatch: Latency,
    /// From the end of a pass to the router's knowledge of it: publication, network, ingestion.
    pub feedback: Latency,
}

impl ControlPlane {
    /// No delay at all: what the reference peer simulates.
    pub fn ideal() -> ControlPlane {
        ControlPlane {
            dispatch: Latency::constant(Span::ZERO),
            feedback: Latency::constant(Span::ZERO),
        }
    }

    /// Whether nothing is ever delayed.
    pub fn is_ideal(&self) -> bool {
        *self == ControlPlane::ideal()
    }
}

/// When requests enter the fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// When their source says.
    Open,
    /// In the order of their source, whenever fewer than this many are in flight. Of sessions: whenever fewer than this
    /// many go on.
    Closed(u64),
}

/// Workers that are all alike.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolSpec {
    /// What reports call it; nothing if it is the whole fleet.
    pub name: Option<String>,
    /// How many workers.
    pub workers: u32,
    /// GPUs in each.
    pub gpus_per_worker: u32,
    /// What a GPU costs per hour, in US dollars, if that is known.
    pub gpu_hour_usd: Option<f64>,
    /// The model and the GPUs, in a few words, if they are known.
    pub deployment: Option<String>,
    /// What each worker is.
    pub engine: EngineConfig,
}

impl PoolSpec {
    /// Workers without a name, a price or a known model, with one GPU each.
    pub fn new(workers: u32, engine: EngineConfig) -> PoolSpec {
        PoolSpec {
            name: None,
            workers,
            gpus_per_worker: 1,
            gpu_hour_usd: None,
            deployment: None,
            engine,
        }
    }

    /// GPUs of all its workers.
    pub fn gpus(&self) -> u64 {
        u64::from(self.workers) * u64::from(self.gpus_per_worker)
    }
}

/// Workers that come and go.
#[derive(Clone, PartialEq, Debug)]
pub struct Scaling {
    /// What says how many there should be.
    pub planner: PlannerSpec,
    /// What it takes to change their number. The most workers there can be are those of the pool.
    pub lifecycle: LifecycleSpec,
    /// Whether those that are asked for at the start have to start up first.
    pub cold_start: bool,
}

/// A fleet that is divided into parts, each with a front end of its own, which know nothing of one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CellsSpec {
    /// How many parts; the workers of every pool are a multiple of it.
    pub count: u32,
    /// What shares the requests among them. It takes no time.
    pub balancer: BalancerSpec,
}

/// A run, but for the requests, the policy that routes them and the place where results go.
#[derive(Clone, PartialEq, Debug)]
pub struct FleetSpec {
    /// The workers, pool by pool; at least one pool, all with the same KV blocks. Workers are numbered in this order.
    pub pools: Vec<PoolSpec>,
    /// Whether it is divided into cells. These take requests that come at times of their own, with clients that wait for
    /// ever, without admission limits and without workers that come and go.
    pub cells: Option<CellsSpec>,
    /// Delays between the front end and the workers.
    pub control_plane: ControlPlane,
    /// When requests enter.
    pub load: Load,
    /// How clients behave; they wait for ever if absent.
    pub client: Option<ClientSpec>,
    /// Whether requests wait in the router while every worker is busy, and in which order they leave.
    pub router_queue: Option<QueueOrder>,
    /// Who is turned away, and who has to wait in that queue, which is there then. Without it nobody is.
    pub admission: Option<AdmissionSpec>,
    /// Tenants that share the fleet; nobody is told apart if there are none.
    pub classes: Vec<ClassSpec>,
    /// Whether workers come and go; all of them are there all the time if absent. Needs a single pool.
    pub scaling: Option<Scaling>,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Length of an interval of the time series.
    pub series_interval: Span,
    /// What counts as good service.
    pub slo: Slo,
    /// How it is simulated; no result depends on it.
    pub execution: Execution,
}

impl FleetSpec {
    /// How many workers there are, or can be at once.
    pub fn workers(&self) -> u32 {
        self.pools.iter().map(|pool| pool.workers).sum()
    }

    /// A cell as a fleet, if this one is divided; else all of it. Random numbers are its own.
    pub fn cell(&self, cell: u32) -> Cow<'_, FleetSpec> {
        let Some(cells) = self.cells else { return Cow::Borrowed(self) };
        let part =
            |pool: &PoolSpec| PoolSpec { workers: pool.workers / cells.count, ..pool.clone() };
        Cow::Owned(FleetSpec {
            pools: self.pools.iter().map(part).collect(),
            cells: None,
            seed: mix64(self.seed ^ mix64(u64::from(cell))),
            ..self.clone()
        })
    }

    /// The workers of a cell, in the order in which its router numbers them; all of them if the fleet is not divided.
    pub fn workers_of_cell(&self, cell: u32) -> impl Iterator<Item = WorkerId> + use<> {
        Layout::new(self).workers(cell)
    }

    /// How many GPUs they have.
    pub fn gpus(&self) -> u64 {
        self.pools.iter().map(PoolSpec::gpus).sum()
    }

    /// The KV blocks of all workers.
    ///
    /// # Panics
    /// If there is no pool.
    pub fn layout(&self) -> BlockLayout {
        self.pools[0].engine.layout
    }

    /// Every pool with the numbers of its workers.
    pub fn ranges(&self) -> impl Iterator<Item = (&PoolSpec, Range<u32>)> {
        self.pools.iter().scan(0, |next, pool| {
            let first = *next;
            *next += pool.workers;
            Some((pool, first..*next))
        })
    }

    /// The pool of every worker, in the order of their numbers.
    pub fn pool_of_each(&self) -> impl Iterator<Item = &PoolSpec> {
        self.pools.iter().flat_map(|pool| std::iter::repeat_n(pool, pool.workers as usize))
    }

    /// KV blocks of all workers.
    pub fn num_gpu_blocks(&self) -> u64 {
        let blocks =
            |pool: &PoolSpec| u64::from(pool.workers) * u64::from(pool.engine.num_gpu_blocks);
        self.pools.iter().map(blocks).sum()
    }

    /// What says which request is of which class, if there are classes.
    pub(super) fn lots(&self) -> Option<Lots> {
        (!self.classes.is_empty()).then(|| Lots::new(&self.classes, self.seed))
    }

    /// The stream from which start-up times are drawn.
    pub(super) fn lifecycle_stream(&self) -> Stream {
        lp_stream(self.seed, COORDINATOR, 2)
    }

    /// The stream from which clients draw.
    pub(super) fn client_stream(&self) -> Stream {
        lp_stream(self.seed, COORDINATOR, 3)
    }

    /// The stream from which a router policy draws.
    pub fn router_stream(&self) -> Stream {
        lp_stream(self.seed, COORDINATOR, 1)
    }

    /// What workers have to report, given what the policy reads and whether somebody waits for answers. With a Planner, it
    /// has to be known when a worker is empty, and with limits how many requests are in the fleet.
    pub(super) fn reports(&self, policy: Reads, is_awaited: bool) -> Reads {
        let is_counted = matches!(self.load, Load::Closed(_))
            || self.scaling.is_some()
            || self.admission.is_some();
        let has_timeout = self.client.is_some_and(|client| client.first_token_timeout.is_some());
        Reads {
            finished: policy.finished || is_counted || is_awaited,
            prefilled: policy.prefilled || has_timeout,
            ..policy
        }
    }

    /// What a worker with this shortest pass promises if it reports so much: nothing it sends arrives sooner. Feedback about a
    /// pass is sent when the pass starts, so its shortest length counts; without any latency that is given up, so that what
    /// ends before its first pass can be reported at once.
    pub(super) fn worker_lookahead(&self, shortest_pass: Span, reports: Reads) -> Span {
        if reports == Reads::default() {
            return Span::FOREVER;
        }
        let pass = if self.control_plane.is_ideal() { Span::ZERO } else { shortest_pass };
        self.control_plane.feedback.floor + pass
    }

    /// Whether what the coordinator hears hardly ever makes it act at once, so that it is silent until the next request comes.
    pub(super) fn listens(&self) -> bool {
        self.load == Load::Open
            && self.scaling.is_none()
            && self.admission.is_none()
            && self.router_queue.is_none()
    }

    /// The least time from the coordinator to a worker and back; forever if workers report nothing.
    pub(super) fn round_trip(&self, reports: Reads) -> Span {
        if reports == Reads::default() {
            return Span::FOREVER;
        }
        let workers = self.workers_lookahead(reports).as_ns();
        Span::from_ns(self.control_plane.dispatch.floor.as_ns().saturating_add(workers))
    }

    /// The least that any worker promises.
    fn workers_lookahead(&self, reports: Reads) -> Span {
        let shortest = self.pools.iter().map(|pool| pool.engine.pass_timer().floor()).min();
        shortest.map_or(Span::FOREVER, |pass| self.worker_lookahead(pass, reports))
    }
}
