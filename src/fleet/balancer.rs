//! The balancer LP: takes in all requests of a fleet that is divided into cells, and deals them to the cells.

use std::sync::Arc;

use crate::fleet::arrivals::Arrivals;
use crate::fleet::layout::Layout;
use crate::fleet::message::{BALANCE, DEAL, Message};
use crate::fleet::spec::{CellsSpec, FleetSpec};
use crate::kernel::rng::lp_stream;
use crate::kernel::{Context, Lp, LpId, Span};
use crate::model::metrics::Recorder;
use crate::model::router::Dealer;
use crate::model::workload::{ReadAhead, Source, SourceError};

/// So many requests are dealt in one event; then the observer may be heard before the rest of them.
const REQUESTS_AT_ONCE: u32 = 64;

/// The front of a fleet of cells. It hears of nothing that happens behind it, and takes no time.
pub(super) struct Balancer {
    arrivals: Arrivals,
    dealer: Dealer,
    /// By cell.
    coordinators: Vec<LpId>,
}

impl Balancer {
    pub(super) fn new(spec: &FleetSpec, cells: CellsSpec, source: Box<dyn Source>) -> Balancer {
        let (layout, rng) = (Layout::new(spec), lp_stream(spec.seed, LpId::new(0), 4));
        Balancer {
            arrivals: Arrivals::new(source, spec.lots()),
            dealer: Dealer::new(cells.balancer, cells.count, rng),
            coordinators: (0..cells.count).map(|cell| layout.coordinator(cell)).collect(),
        }
    }

    /// Why the source ended before its end, if it did.
    pub(super) fn error(&mut self) -> Option<SourceError> {
        self.arrivals.error()
    }

    /// How many bad entries the source has left out.
    pub(super) fn skipped(&self) -> u64 {
        self.arrivals.skipped()
    }

    /// How many requests it had no rule for.
    pub(super) fn undirected(&self) -> u64 {
        self.dealer.undirected()
    }

    /// A hand to read requests ahead with.
    pub(super) fn read_ahead(&self) -> Option<Arc<dyn ReadAhead>> {
        self.arrivals.read_ahead()
    }
}

impl Lp for Balancer {
    type Message = Message;
    type Recorder = Recorder;

    fn lookahead(&self) -> Span {
        Span::ZERO
    }

    fn start(&mut self, context: &mut Context<'_, Message, Recorder>) {
        self.arrivals.read();
        if let Some(request) = self.arrivals.next() {
            context.wake(request.arrival, BALANCE);
        }
    }

    fn receive(&mut self, _: Message, _: &mut Context<'_, Message, Recorder>) {
        unreachable!("nothing reaches the balancer but requests");
    }

    fn wake(&mut self, context: &mut Context<'_, Message, Recorder>) {
        let now = context.now();
        for _ in 0..REQUESTS_AT_ONCE {
            match self.arrivals.next() {
                None => return,
                Some(request) if request.arrival > now => {
                    context.wake(request.arrival, BALANCE);
                    return;
                }
                Some(_) => {}
            }
            let Some(request) = self.arrivals.take(now, context.recorder()) else { return };
            let cell = self.dealer.deal(&request);
            context.send(self.coordinators[cell as usize], now, DEAL, Message::Deal(request));
        }
        context.go_on();
    }
}
