//! Load-based scaling by latency targets: what the next request would see on each worker.
//!
//! ```text
//! TTFT  = chunked time of (queued prompt tokens + ISL) x (1 - hit rate)   with the worker's decode batch in each pass
//! own   = chunked time of ISL x (1 - hit rate)                            likewise
//! ITL   = one pass over scheduled + queued KV                             with the worker's usual share of prefill
//! ```
//!
//! With [`Basis::Passes`] ISL is the mean chunk and the hit rate 0; the ITL is the mean of recent passes, with and without
//! prefill, over scheduled + queued KV and the mean KV of a request that decodes, as that of the request to come.
//!
//! A prefill worker has no decode part and no ITL, a decode worker no prefill part and no TTFT. The usual share of
//! prefill in a pass is what keeps prefill and decode in balance ([`EngineModel::typical_prefill`]).
//!
//! A verdict seldom needs an estimate for every worker. One that is within its target speaks against more of them, one
//! that would be overloaded speaks against fewer, and the lightest and the heaviest are asked first. If a worker with the
//! least of everything is above the target, all are; if one with the most of everything could take its share, all could.
//! The latter two hold if estimates rise with the load, which is checked on a grid ([`EngineModel::rises`]); if they do
//! not, every worker is looked at.

use crate::kernel::time::Span;
use crate::model::planner::capacity::{EngineModel, Role, Shape, Targets};
use crate::model::planner::decision::{Figures, Latency, Reason};
use crate::model::planner::load::extremes::Extremes;
use crate::model::planner::load::{Basis, Verdict, respread};
use crate::model::planner::observation::{Observation, WorkerLoad};
use crate::model::planner::passes::UsualPass;
use crate::model::timing::DecodeLoad;

/// The rule, and the shape of recent requests.
#[derive(Debug)]
pub(super) struct SlaRule {
    role: Role,
    engine: EngineModel,
    targets: Targets,
    sensitivity: f64,
    basis: Basis,
    /// Whether estimates rise with the load.
    pub(super) rises: bool,
    isl: Option<f64>,
    osl: Option<f64>,
    hit_rate: f64,
    usual: Option<UsualPass>,
}

impl SlaRule {
    pub(super) fn new(
        role: Role,
        engine: EngineModel,
        targets: Targets,
        sensitivity: f64,
        basis: Basis,
    ) -> SlaRule {
        let rises = engine.rises();
        SlaRule {
            role,
            engine,
            targets,
            sensitivity,
            basis,
            rises,
            isl: None,
            osl: None,
            hit_rate: 0.0,
            usual: None,
        }
    }

    /// Takes in the shape of recent requests. Where a window has none, the one before still holds.
    pub(super) fn observe(&mut self, observation: &Observation<'_>) {
        if self.basis == Basis::Passes {
            self.usual = observation.usual_pass;
            self.isl = self.usual.map(|usual| usual.chunk);
            return;
        }
        let window = &observation.window;
        self.isl = window.isl().or(self.isl);
        self.osl = window.osl().or(self.osl);
        self.hit_rate = window.hit_rate().unwrap_or(self.hit_rate);
    }

    /// The verdict if `step` workers may leave; nothing before the first request has been seen.
    pub(super) fn judge(
        &self,
        loads: &[WorkerLoad],
        step: u32,
        figures: &mut Figures,
    ) -> Option<(Verdict, Reason)> {
        let isl = self.isl?;
        // Without a completed request, prefill takes every pass it can.
        let shape = Shape::new(isl, self.osl.unwrap_or(1.0), self.hit_rate);
        (figures.isl, figures.osl) = (Some(isl), self.osl);
        figures.hit_rate = (self.basis == Basis::Requests).then_some(self.hit_rate);
        let look = Look { rule: self, shape, extremes: Extremes::of(loads) };
        for latency in self.latencies() {
            let (above, least_ms) = look.all_above(loads, *latency);
            match latency {
                Latency::Ttft => figures.ttft_ms = Some(least_ms),
                Latency::Itl => figures.itl_ms = Some(least_ms),
            }
            if above {
                let target_ms = self.target(*latency).as_ms();
                let reason = Reason::AllAbove { latency: *latency, least_ms, target_ms };
                return Some((Verdict::Up, reason));
            }
        }
        let Some(factor) = respread(loads.len() as u32, step) else {
            return Some((Verdict::Stay, Reason::Within));
        };
        match look.overloaded(loads, factor) {
            Some(place) => Some((Verdict::Stay, Reason::RespreadRefused { place })),
            None => Some((Verdict::Down, Reason::Respread { step })),
        }
    }

    fn latencies(&self) -> &'static [Latency] {
        match self.role {
            Role::Aggregated => &[Latency::Ttft, Latency::Itl],
            Role::Prefill => &[Latency::Ttft],
            Role::Decode => &[Latency::Itl],
        }
    }

    fn target(&self, latency: Latency) -> Span {
        match latency {
            Latency::Ttft => self.targets.ttft,
            Latency::Itl => self.targets.itl,
        }
    }
}

/// One look at the workers.
struct Look<'a> {
    rule: &'a SlaRule,
    shape: Shape,
    extremes: Extremes,
}

impl Look<'_> {
    /// Whether every worker is above the target of a latency, and an estimate: of the worker that is not, or one that no
    /// worker is below.
    fn all_above(&self, loads: &[WorkerLoad], latency: Latency) -> (bool, f64) {
        let target = self.rule.target(latency);
        let lightest = self.estimate(&self.extremes.least, latency);
        if self.rule.rises && lightest > target {
            return (true, lightest.as_ms());
        }
        let mut least = Span::FOREVER;
        let first = self.extremes.lightest.iter().map(|&place| &loads[place]);
        for load in first.chain(loads) {
            let estimate = self.estimate(load, latency);
            least = least.min(estimate);
            if estimate <= target {
                return (false, estimate.as_ms());
            }
        }
        (true, least.as_ms())
    }

    fn estimate(&self, load: &WorkerLoad, latency: Latency) -> Span {
        match latency {
            Latency::Ttft => self.ttft(load.queued_prefill_tokens, self.decode(load, 1.0)),
            Latency::Itl => self.itl(load, kv_tokens(load)),
        }
    }

    /// A worker that could not take its share of a smaller fleet, if there is one.
    fn overloaded(&self, loads: &[WorkerLoad], factor: f64) -> Option<usize> {
        if self.rule.rises && self.all_fit(factor) {
            return None;
        }
        let mut all = self.extremes.heaviest.into_iter().chain(0..loads.len());
        all.find(|&place| !self.fits(&loads[place], factor))
    }

    /// Whether every worker is known to fit: one with the most of everything would, its own time being that of the one
    /// with the least KV where a longer own time is of help.
    fn all_fit(&self, factor: f64) -> bool {
        let Extremes { least, most, .. } = &self.extremes;
        let sensitivity = self.rule.sensitivity;
        let target_ms = self.rule.targets.ttft.as_ms();
        let decode = self.decode(most, factor);
        let ttft = self.ttft(grown(most.queued_prefill_tokens, factor), decode);
        let own = self.ttft(0, self.decode(least, factor));
        // caused < (target - own) x sensitivity, with caused = TTFT - own.
        let prefill_fits = self.ttft(0, decode).as_ms() < target_ms
            && ttft.as_ms() - (1.0 - sensitivity) * own.as_ms() < sensitivity * target_ms - 1e-9;
        let role = self.rule.role;
        (role == Role::Decode || prefill_fits)
            && (role == Role::Prefill || self.fits_decode(most, factor))
    }

    /// Whether a worker could take its share of a smaller fleet, its load growing by `factor`.
    fn fits(&self, load: &WorkerLoad, factor: f64) -> bool {
        let role = self.rule.role;
        (role == Role::Decode || self.fits_prefill(load, factor))
            && (role == Role::Prefill || self.fits_decode(load, factor))
    }

    fn fits_prefill(&self, load: &WorkerLoad, factor: f64) -> bool {
        let decode = self.decode(load, factor);
        let own = self.ttft(0, decode);
        let queued = grown(load.queued_prefill_tokens, factor);
        let budget = (self.rule.targets.ttft.as_ms() - own.as_ms()) * self.rule.sensitivity;
        // Without a queue nothing is caused by it.
        let caused = if queued > 0 { self.ttft(queued, decode).as_ms() - own.as_ms() } else { 0.0 };
        budget > 0.0 && caused < budget
    }

    fn fits_decode(&self, load: &WorkerLoad, factor: f64) -> bool {
        let mut kv_tokens = kv_tokens(load);
        if self.rule.role == Role::Aggregated {
            // What waits for prefill will be KV soon.
            kv_tokens += load.queued_prefill_tokens;
        }
        let kv_tokens = grown(kv_tokens, factor);
        let limit_ms = self.rule.targets.itl.as_ms() * self.rule.sensitivity;
        kv_tokens < self.rule.engine.pool_tokens() && self.itl(load, kv_tokens).as_ms() < limit_ms
    }

    /// The decode part of a pass on a worker.
    fn decode(&self, load: &WorkerLoad, factor: f64) -> DecodeLoad {
        if self.rule.role == Role::Prefill {
            return DecodeLoad::default();
        }
        DecodeLoad { requests: load.running, kv_tokens: grown(load.scheduled_kv_tokens, factor) }
    }

    /// What a request that comes now would wait for its first token.
    fn ttft(&self, queued_tokens: u64, decode: DecodeLoad) -> Span {
        let computed = self.shape.computed_share(queued_tokens) + self.shape.computed_tokens();
        self.rule.engine.chunked(computed, decode)
    }

    /// A pass that decodes everything, what is queued included.
    fn itl(&self, load: &WorkerLoad, kv_tokens: u64) -> Span {
        let requests = load.running.max(1);
        let aggregated = self.rule.role == Role::Aggregated;
        let pass =
            |prefill, kv_tokens| self.rule.engine.pass(prefill, DecodeLoad { requests, kv_tokens });
        match &self.rule.usual {
            Some(usual) => {
                let kv_tokens = kv_tokens.saturating_add(usual.context.round() as u64);
                let share = if aggregated { usual.prefill_share } else { 0.0 };
                let [with, without] = [usual.prefill_tokens.round() as u64, 0]
                    .map(|tokens| pass(tokens, kv_tokens).as_secs());
                Span::from_secs_f64(share * with + (1.0 - share) * without)
            }
            None if aggregated => {
                let batch = u64::from(load.running);
                pass(self.rule.engine.typical_prefill(self.shape, batch), kv_tokens)
            }
            None => pass(0, kv_tokens),
        }
    }
}

/// The KV of all requests that have begun to decode.
fn kv_tokens(load: &WorkerLoad) -> u64 {
    load.scheduled_kv_tokens + load.queued_kv_tokens
}

/// Tokens times a factor, rounded down.
fn grown(tokens: u64, factor: f64) -> u64 {
    (tokens as f64 * factor) as u64
}
