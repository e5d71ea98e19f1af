//! The LPs of a fleet: its front ends, its workers, and the balancer of a fleet that is divided into cells.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::fleet::balancer::Balancer;
use crate::fleet::coordinator::Coordinator;
use crate::fleet::intake::Intake;
use crate::fleet::layout::Layout;
use crate::fleet::message::Message;
use crate::fleet::spec::{FleetSpec, Load, PoolSpec};
use crate::fleet::worker::{Home, Worker};
use crate::kernel::{Context, Lp, Span};
use crate::model::engine::EngineShape;
use crate::model::metrics::Recorder;
use crate::model::request::WorkerId;
use crate::model::router::{Policy, PolicySpec, Reads};
use crate::model::workload::{Demand, ReadAhead, SourceError};

/// What makes the router policy of a front end.
pub trait Router {
    /// The policy for this fleet; if it is divided into cells, for one of them as a fleet. Called once for each.
    fn policy(&self, fleet: &FleetSpec) -> Box<dyn Policy>;
}

impl Router for PolicySpec {
    fn policy(&self, fleet: &FleetSpec) -> Box<dyn Policy> {
        self.build(fleet.workers(), fleet.layout(), fleet.router_stream())
    }
}

impl<F: Fn(&FleetSpec) -> Box<dyn Policy>> Router for F {
    fn policy(&self, fleet: &FleetSpec) -> Box<dyn Policy> {
        self(fleet)
    }
}

/// An LP of a fleet.
pub(super) enum FleetLp {
    Balancer(Box<Balancer>),
    Coordinator(Box<Coordinator>),
    Worker(Box<Worker>),
}

/// All LPs of a fleet in the order of [`Layout`], and what the workers report.
pub(super) fn build(
    spec: &FleetSpec,
    demand: Demand,
    router: &dyn Router,
) -> (Vec<FleetLp>, Reads) {
    let shape = |pool: &PoolSpec| Arc::new(EngineShape::new(pool.engine.clone(), spec.workers()));
    let shapes: Vec<_> = spec.pools.iter().map(shape).collect();
    let Some(cells) = spec.cells else {
        let mut lps = Vec::new();
        let reports = add_front_end(&mut lps, spec, &shapes, 0, Intake::new(spec, demand), router);
        return (lps, reports);
    };
    let is_even = |pool: &PoolSpec| pool.workers.is_multiple_of(cells.count);
    assert!(cells.count > 0 && spec.pools.iter().all(is_even), "cells are equal");
    let Demand::Requests(source) = demand else { panic!("cells take no sessions") };
    let is_simple = spec.load == Load::Open && spec.client.is_none() && spec.admission.is_none();
    assert!(is_simple && spec.scaling.is_none(), "cells take requests that come on their own");
    let balancer = Balancer::new(spec, cells, source);
    let mut lps = vec![FleetLp::Balancer(Box::new(balancer))];
    let mut reports = Reads::default();
    for cell in 0..cells.count {
        let intake = Intake::Dealt(VecDeque::new());
        reports = add_front_end(&mut lps, spec, &shapes, cell, intake, router);
    }
    (lps, reports)
}

/// Adds a coordinator and its workers, which have these shapes by pool; says what these report.
fn add_front_end(
    lps: &mut Vec<FleetLp>,
    spec: &FleetSpec,
    shapes: &[Arc<EngineShape>],
    cell: u32,
    intake: Intake,
    router: &dyn Router,
) -> Reads {
    let (layout, part) = (Layout::new(spec), spec.cell(cell));
    let (coordinator, mut numbers) = (layout.coordinator(cell), layout.workers(cell));
    let policy = router.policy(&part);
    let is_awaited = matches!(intake, Intake::Sessions(_));
    let reports = part.reports(policy.reads(), is_awaited);
    lps.push(FleetLp::Coordinator(Box::new(Coordinator::new(&part, intake, policy))));
    for ((_, range), shape) in part.ranges().zip(shapes) {
        for (local, id) in range.map(WorkerId).zip(&mut numbers) {
            let worker =
                Worker::new(Home { coordinator, local, id }, Arc::clone(shape), &part, reports);
            lps.push(FleetLp::Worker(Box::new(worker)));
        }
    }
    reports
}

impl FleetLp {
    pub(super) fn coordinator(&mut self) -> Option<&mut Coordinator> {
        match self {
            FleetLp::Coordinator(coordinator) => Some(coordinator),
            FleetLp::Balancer(_) | FleetLp::Worker(_) => None,
        }
    }

    pub(super) fn worker(&self) -> Option<&Worker> {
        match self {
            FleetLp::Worker(worker) => Some(worker),
            FleetLp::Balancer(_) | FleetLp::Coordinator(_) => None,
        }
    }

    /// Why the source of requests ended before its end, if that is read here and it did.
    pub(super) fn source_error(&mut self) -> Option<SourceError> {
        match self {
            FleetLp::Balancer(balancer) => balancer.error(),
            FleetLp::Coordinator(coordinator) => coordinator.intake().error(),
            FleetLp::Worker(_) => None,
        }
    }

    /// How many requests went to any cell because there was nothing to go by.
    pub(super) fn undirected(&self) -> u64 {
        match self {
            FleetLp::Balancer(balancer) => balancer.undirected(),
            FleetLp::Coordinator(_) | FleetLp::Worker(_) => 0,
        }
    }

    /// How many bad entries the source has left out, if it is read here.
    pub(super) fn skipped(&mut self) -> u64 {
        match self {
            FleetLp::Balancer(balancer) => balancer.skipped(),
            FleetLp::Coordinator(coordinator) => coordinator.intake().skipped(),
            FleetLp::Worker(_) => 0,
        }
    }

    /// A hand to read requests ahead with, if they are read here.
    pub(super) fn read_ahead(&mut self) -> Option<Arc<dyn ReadAhead>> {
        match self {
            FleetLp::Balancer(balancer) => balancer.read_ahead(),
            FleetLp::Coordinator(coordinator) => coordinator.intake().read_ahead(),
            FleetLp::Worker(_) => None,
        }
    }
}

/// The same for LPs of every kind.
macro_rules! each {
    ($self:ident, $lp:ident => $call:expr) => {
        match $self {
            FleetLp::Balancer($lp) => $call,
            FleetLp::Coordinator($lp) => $call,
            FleetLp::Worker($lp) => $call,
        }
    };
}

impl Lp for FleetLp {
    type Message = Message;
    type Recorder = Recorder;

    fn lookahead(&self) -> Span {
        each!(self, lp => lp.lookahead())
    }

    fn promise(&self) -> Span {
        each!(self, lp => lp.promise())
    }

    fn reacts(&self) -> bool {
        each!(self, lp => lp.reacts())
    }

    fn start(&mut self, context: &mut Context<'_, Message, Recorder>) {
        each!(self, lp => lp.start(context));
    }

    fn receive(&mut self, message: Message, context: &mut Context<'_, Message, Recorder>) {
        each!(self, lp => lp.receive(message, context));
    }

    fn wake(&mut self, context: &mut Context<'_, Message, Recorder>) {
        each!(self, lp => lp.wake(context));
    }
}
