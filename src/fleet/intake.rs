//! How requests come in: each at a time of its own, or as calls of sessions.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::fleet::arrivals::Arrivals;
use crate::fleet::message::Feedback;
use crate::fleet::spec::{FleetSpec, Load};
use crate::fleet::visits::{Visited, Visits};
use crate::kernel::{Span, Time};
use crate::model::metrics::Recorder;
use crate::model::request::Request;
use crate::model::workload::{Demand, ReadAhead, SingleCalls, SourceError};

/// Where the requests of a run come from.
pub(super) enum Intake {
    Requests(Box<Arrivals>),
    Sessions(Box<Visits>),
    /// As a balancer deals them.
    Dealt(VecDeque<Request>),
}

/// The request that comes next.
pub(super) enum Next {
    /// It is there.
    Due,
    /// It comes at this time, unless something happens before.
    At(Time),
    /// None comes, unless something happens.
    Nothing,
    /// Much has happened: to be asked again at the same time.
    Again,
}

impl Intake {
    pub(super) fn new(spec: &FleetSpec, demand: Demand) -> Intake {
        match (demand, spec.client.is_some()) {
            (Demand::Requests(source), false) => {
                Intake::Requests(Box::new(Arrivals::new(source, spec.lots())))
            }
            (Demand::Requests(source), true) => {
                Intake::Sessions(Box::new(Visits::new(spec, Box::new(SingleCalls(source)))))
            }
            (Demand::Sessions(source), _) => Intake::Sessions(Box::new(Visits::new(spec, source))),
        }
    }

    /// The time between two moments at which requests come, on average over the first of them; zero if that depends on others.
    pub(super) fn silence(&mut self) -> Span {
        match self {
            Intake::Requests(arrivals) => arrivals.silence(),
            Intake::Sessions(_) | Intake::Dealt(_) => Span::ZERO,
        }
    }

    /// Takes in what a balancer has dealt.
    pub(super) fn deal(&mut self, request: Request) {
        if let Intake::Dealt(requests) = self {
            requests.push_back(request);
        }
    }

    /// Reads what comes first.
    pub(super) fn read(&mut self) {
        match self {
            Intake::Requests(arrivals) => arrivals.read(),
            Intake::Sessions(visits) => visits.read(),
            Intake::Dealt(_) => {}
        }
    }

    /// What comes next, as things stand at `now`, with so many requests in the fleet.
    pub(super) fn next(
        &mut self,
        now: Time,
        load: Load,
        in_flight: u64,
        recorder: &mut Recorder,
    ) -> Next {
        let arrivals = match self {
            Intake::Requests(arrivals) => arrivals,
            Intake::Sessions(visits) => return visits.next(now, recorder),
            Intake::Dealt(requests) if requests.is_empty() => return Next::Nothing,
            Intake::Dealt(_) => return Next::Due,
        };
        match (arrivals.next(), load) {
            (None, _) => Next::Nothing,
            (Some(request), Load::Open) if request.arrival > now => Next::At(request.arrival),
            (Some(_), Load::Closed(limit)) if in_flight >= limit => Next::Nothing,
            (Some(_), Load::Open | Load::Closed(_)) => Next::Due,
        }
    }

    /// Lets the request that is due arrive.
    pub(super) fn take(&mut self, now: Time, recorder: &mut Recorder) -> Option<Request> {
        match self {
            Intake::Requests(arrivals) => arrivals.take(now, recorder),
            Intake::Sessions(visits) => visits.take(now),
            Intake::Dealt(requests) => requests.pop_front(),
        }
    }

    /// Hears of first tokens and ends; says whether more may come by that.
    pub(super) fn hear(&mut self, now: Time, feedback: &Feedback) -> bool {
        match self {
            Intake::Requests(_) | Intake::Dealt(_) => false,
            Intake::Sessions(visits) => visits.hear(now, feedback),
        }
    }

    /// Hears that a request was turned away before it reached a worker.
    pub(super) fn turned_away(&mut self, now: Time, request: &Request) {
        match self {
            Intake::Requests(_) | Intake::Dealt(_) => {}
            Intake::Sessions(visits) => visits.turned_away(now, request),
        }
    }

    /// Whether nothing comes any more, whatever happens, once all that is in the fleet has ended.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Intake::Requests(arrivals) => arrivals.next().is_none(),
            Intake::Sessions(visits) => visits.is_over(),
            // Nobody asks but a Planner.
            Intake::Dealt(_) => false,
        }
    }

    /// Why it ended before its end, if it did.
    pub(super) fn error(&mut self) -> Option<SourceError> {
        match self {
            Intake::Requests(arrivals) => arrivals.error(),
            Intake::Sessions(visits) => visits.error(),
            Intake::Dealt(_) => None,
        }
    }

    /// What became of sessions and clients, at the end of a run that had any.
    pub(super) fn finish(&mut self) -> Option<Visited> {
        match self {
            Intake::Requests(_) | Intake::Dealt(_) => None,
            Intake::Sessions(visits) => Some(visits.finish()),
        }
    }

    /// How many bad entries the source has left out.
    pub(super) fn skipped(&self) -> u64 {
        match self {
            Intake::Requests(arrivals) => arrivals.skipped(),
            Intake::Sessions(visits) => visits.skipped(),
            Intake::Dealt(_) => 0,
        }
    }

    /// A hand to read its requests ahead with.
    pub(super) fn read_ahead(&self) -> Option<Arc<dyn ReadAhead>> {
        match self {
            Intake::Requests(arrivals) => arrivals.read_ahead(),
            Intake::Sessions(_) | Intake::Dealt(_) => None,
        }
    }
}
