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
//! that would be overloaded speaks against fewer, and the lightest and the heaviest are asked first. If estimates rise with
//! the load ([`EngineModel::rises`]), one of a fictitious worker may be enough: if one with the least of everything is
//! above the target, all are; if one with the most of everything could take its share, all could. Where that leaves it
//! open, workers are looked at one by one. Verdicts, reasons and figures are the same either way, but for the estimate of
//! the fictitious worker where that one decides.
//!
//! An estimate has to be cheap, for thousands of them may be needed: it is rough first, by tables of passes
//! ([`RoughTimes`]), and exact only where that is close to what decides.

use std::cell::Cell;

use crate::kernel::time::Span;
use crate::model::planner::capacity::{EngineModel, Role, Shape, Targets};
use crate::model::planner::decision::{Figures, Latency, Reason};
use crate::model::planner::load::batches::{Batches, Known};
use crate::model::planner::load::extremes::Extremes;
use crate::model::planner::load::ttft::{FLOAT_ERROR, RoughTtft, RoughTtfts};
use crate::model::planner::load::{Basis, Verdict, respread};
use crate::model::planner::observation::{Observation, WorkerLoad};
use crate::model::planner::passes::UsualPass;
use crate::model::timing::{DecodeLoad, RoughTimes};

/// The rule, and the shape of recent requests.
#[derive(Debug)]
pub(super) struct SlaRule {
    role: Role,
    engine: EngineModel,
    targets: Targets,
    sensitivity: f64,
    basis: Basis,
    /// Whether estimates rise with the load.
    rises: bool,
    rough: Option<RoughTimes>,
    /// By how much an ITL can be less with more KV and as many requests, if for no other reason than rounding: ns.
    rounding_ns: Option<f64>,
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
        SlaRule {
            role,
            rises: engine.rises(),
            rough: engine.rough(),
            // The mean of two passes is rounded once more.
            rounding_ns: engine.kv_rounding_ns().map(|ns| (ns + 1) as f64),
            engine,
            targets,
            sensitivity,
            basis,
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
        let look = Look::new(self, shape, loads);
        for latency in self.latencies() {
            let (above, least_ms) = look.all_above(*latency);
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
        match look.overloaded(factor) {
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
    loads: &'a [WorkerLoad],
    extremes: Extremes,
    rough: Option<RoughTtfts<'a>>,
}

/// The least of the estimates that were made.
struct Seen {
    target: Span,
    least: Span,
}

impl<'a> Look<'a> {
    fn new(rule: &'a SlaRule, shape: Shape, loads: &'a [WorkerLoad]) -> Look<'a> {
        let extremes = Extremes::of(loads);
        let (most, decodes) = (&extremes.most, rule.role == Role::Aggregated);
        let rough = rule.rough.as_ref();
        let rough = rough.map(|times| RoughTtfts::new(times, &rule.engine, shape, most, decodes));
        Look { rule, shape, loads, extremes, rough }
    }

    /// Whether every worker is above the target of a latency, and an estimate: of the worker that is not, or one that no
    /// worker is below.
    fn all_above(&self, latency: Latency) -> (bool, f64) {
        let target = self.rule.target(latency);
        let Extremes { least, lightest, .. } = &self.extremes;
        if self.rule.rises {
            let fictitious = self.estimate(least, latency);
            if fictitious > target {
                return (true, fictitious.as_ms());
            }
        }
        let mut seen = Seen { target, least: Span::FOREVER };
        let mut lightest = lightest.iter().map(|&place| &self.loads[place]);
        if !lightest.any(|load| seen.is_within(self.estimate(load, latency))) {
            match latency {
                Latency::Ttft => self.first_within(&mut seen),
                Latency::Itl => {
                    let known = self.known_above(target);
                    let mut unknown = self.loads.iter().filter(|load| !known.holds(load));
                    unknown.any(|load| seen.is_within(self.estimate(load, latency)));
                }
            }
        }
        (seen.least > target, seen.least.as_ms())
    }

    /// Sees the TTFT of all workers for which it may count, up to the first one that is within the target.
    fn first_within(&self, seen: &mut Seen) {
        let Some(rough) = &self.rough else {
            self.loads.iter().any(|load| seen.is_within(self.estimate(load, Latency::Ttft)));
            return;
        };
        let level = |seen: &Seen| seen.target.max(seen.least).as_ns() as f64;
        let above = Cell::new(level(seen));
        rough.position(
            self.loads,
            1.0,
            |RoughTtft { ttft, error, .. }| ttft - error > above.get(),
            |load| {
                let is_within = seen.is_within(self.estimate(load, Latency::Ttft));
                above.set(level(seen));
                is_within
            },
        );
    }

    fn estimate(&self, load: &WorkerLoad, latency: Latency) -> Span {
        match latency {
            Latency::Ttft => self.ttft(load.queued_prefill_tokens, self.decode(load, 1.0)),
            Latency::Itl => self.itl(load.running, kv_tokens(load)),
        }
    }

    /// Batches with an ITL above the target and above the least one, with whatever KV their workers have.
    fn known_above(&self, target: Span) -> Known {
        let Some(rounding_ns) = self.rule.rounding_ns else { return Known::nothing() };
        let batches =
            Batches::of(self.loads, self.extremes.most.running, kv_tokens, u64::MAX, Ord::min);
        let estimates = batches.map(|running, kv_tokens| self.rough_itl(running, kv_tokens));
        let most = estimates.iter().flatten().map(|[ns, error]| ns + error);
        let level = most.fold(f64::INFINITY, f64::min).max(target.as_ns() as f64) + rounding_ns;
        Known::those(&estimates, |[ns, error]| ns - error > level)
    }

    /// A worker that could not take its share of a smaller fleet, if there is one.
    fn overloaded(&self, factor: f64) -> Option<usize> {
        let role = self.rule.role;
        let no_prefill = role == Role::Decode || self.all_fit_prefill(factor);
        let no_decode = role == Role::Prefill || self.all_fit_decode(factor);
        if no_prefill && no_decode {
            return None;
        }
        let fits = |load: &WorkerLoad| {
            (no_prefill || self.fits_prefill(load, factor))
                && (no_decode || self.fits_decode(load, factor))
        };
        let mut heaviest = self.extremes.heaviest.into_iter();
        if let Some(place) = heaviest.find(|&place| !fits(&self.loads[place])) {
            return Some(place);
        }
        let prefill = if no_prefill { None } else { self.misfit_prefill(factor) };
        // A worker before that one may not be able to decode.
        let rest = &self.loads[..prefill.unwrap_or(self.loads.len())];
        let decode = if no_decode { None } else { self.misfit_decode(rest, factor) };
        decode.or(prefill)
    }

    /// The first worker that could not take its share of queues.
    fn misfit_prefill(&self, factor: f64) -> Option<usize> {
        let Some(rough) = &self.rough else {
            return self.loads.iter().position(|load| !self.fits_prefill(load, factor));
        };
        let fits = |rough: RoughTtft| self.surely_fits(rough, rough.own);
        rough.position(self.loads, factor, fits, |load| !self.fits_prefill(load, factor))
    }

    /// Whether a worker with this TTFT keeps the one that its queue causes, and its own one, below what they may be: for
    /// any worker with no more, whose own one is no less than `least_own`.
    fn surely_fits(&self, RoughTtft { own, ttft, error }: RoughTtft, least_own: f64) -> bool {
        let (sensitivity, target) = (self.rule.sensitivity, self.rule.targets.ttft.as_ns() as f64);
        // caused < (target - own) x sensitivity, with caused = TTFT - own. If the TTFT is not below the own one, that is below
        // the target then. What is no number stays so.
        let ttft = if own > ttft { own } else { ttft };
        ttft - (1.0 - sensitivity) * least_own < sensitivity * target - 2.0 * error
    }

    /// The first worker that could not take its share of decoding.
    fn misfit_decode(&self, loads: &[WorkerLoad], factor: f64) -> Option<usize> {
        let known = self.known_fit(factor);
        loads.iter().position(|load| !known.holds(load) && !self.fits_decode(load, factor))
    }

    /// Batches that keep the ITL, with whatever KV their workers have.
    fn known_fit(&self, factor: f64) -> Known {
        let Some(rounding_ns) = self.rule.rounding_ns else { return Known::nothing() };
        let to_be = |load: &WorkerLoad| self.kv_tokens_to_be(load);
        let batches = Batches::of(self.loads, self.extremes.most.running, to_be, 0, Ord::max);
        let limit_ns = self.rule.targets.itl.as_ns() as f64 * self.rule.sensitivity;
        let fit = batches.map(|running, kv_tokens| {
            let kv_tokens = grown(kv_tokens, factor);
            let [ns, error] = self.rough_itl(running, kv_tokens);
            kv_tokens < self.rule.engine.pool_tokens() && ns + error + rounding_ns < limit_ns
        });
        Known::those(&fit, |&fits| fits)
    }

    /// Whether all are known to fit: one with the most of everything would, its own time being that of the one with the least
    /// KV where a longer own time is of help. Or one with the longest passes that there are.
    fn all_fit_prefill(&self, factor: f64) -> bool {
        let Extremes { least, most, .. } = &self.extremes;
        if !self.rule.rises {
            let rough = self.rough.as_ref().filter(|_| self.rule.rounding_ns.is_some());
            let longest = rough.map(|rough| rough.longest(most, |tokens| grown(tokens, factor)));
            return longest.is_some_and(|(_, longest)| self.surely_fits(longest, 0.0));
        }
        let sensitivity = self.rule.sensitivity;
        let target_ms = self.rule.targets.ttft.as_ms();
        let decode = self.decode(most, factor);
        let ttft = self.ttft(grown(most.queued_prefill_tokens, factor), decode);
        let own = self.ttft(0, self.decode(least, factor));
        self.ttft(0, decode).as_ms() < target_ms
            && ttft.as_ms() - (1.0 - sensitivity) * own.as_ms() < sensitivity * target_ms - 1e-9
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

    /// The same for decoding.
    fn all_fit_decode(&self, factor: f64) -> bool {
        let most = &self.extremes.most;
        if self.rule.rises {
            return self.fits_decode(most, factor);
        }
        let usual = self.rule.usual.unwrap_or_default();
        let is_known = self.rule.role == Role::Aggregated
            && self.rule.rounding_ns.is_some()
            && usual.prefill_tokens <= self.rule.engine.chunk_tokens();
        let rough = self.rough.as_ref().filter(|_| is_known);
        let kv_tokens = grown(self.kv_tokens_to_be(most), factor);
        let most = WorkerLoad {
            running: most.running.max(1),
            scheduled_kv_tokens: kv_tokens.saturating_add(usual.context),
            ..*most
        };
        let longest = rough.map(|rough| rough.longest(&most, |tokens| tokens).0);
        let limit_ns = self.rule.targets.itl.as_ns() as f64 * self.rule.sensitivity;
        kv_tokens < self.rule.engine.pool_tokens()
            && longest.is_some_and(|ns| ns * (1.0 + 1e-6) + 1e3 < limit_ns)
    }

    fn fits_decode(&self, load: &WorkerLoad, factor: f64) -> bool {
        let kv_tokens = grown(self.kv_tokens_to_be(load), factor);
        let limit_ms = self.rule.targets.itl.as_ms() * self.rule.sensitivity;
        kv_tokens < self.rule.engine.pool_tokens()
            && self.itl(load.running, kv_tokens).as_ms() < limit_ms
    }

    /// The KV of a worker: what waits for prefill there will be KV soon.
    fn kv_tokens_to_be(&self, load: &WorkerLoad) -> u64 {
        let aggregated = self.rule.role == Role::Aggregated;
        kv_tokens(load) + if aggregated { load.queued_prefill_tokens } else { 0 }
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
    fn itl(&self, running: u32, kv_tokens: u64) -> Span {
        let pass = |tokens, decode| self.rule.engine.pass(tokens, decode);
        let (tokens, decode, share) = self.usual_pass(running, kv_tokens);
        let with = pass(tokens, decode);
        share.map_or(with, |share| {
            let [with, without] = [with, pass(0, decode)].map(Span::as_secs);
            Span::from_secs_f64(share * with + (1.0 - share) * without)
        })
    }

    /// The same in ns, and how far off that is at most: by tables, if there are any.
    fn rough_itl(&self, running: u32, kv_tokens: u64) -> [f64; 2] {
        let (tokens, decode, share) = self.usual_pass(running, kv_tokens);
        let rough = self.rule.rough.as_ref().map(|times| {
            let with = times.pass_ns(tokens, decode);
            let mean = |share| share * with + (1.0 - share) * times.pass_ns(0, decode);
            // A mean is rounded once more.
            [share.map_or(with, mean), times.error_ns() + 1.0]
        });
        let rough = rough.filter(|[ns, _]| !ns.is_nan());
        let [ns, error] =
            rough.unwrap_or_else(|| [self.itl(running, kv_tokens).as_ns() as f64, 0.0]);
        [ns, error + FLOAT_ERROR * ns]
    }

    /// The prompt tokens of a usual pass, and what it decodes: everything, what is queued included. If there are such without
    /// prompt tokens too, the share of those with.
    fn usual_pass(&self, running: u32, kv_tokens: u64) -> (u64, DecodeLoad, Option<f64>) {
        let requests = running.max(1);
        let aggregated = self.rule.role == Role::Aggregated;
        if let Some(usual) = &self.rule.usual {
            let kv_tokens = kv_tokens.saturating_add(usual.context);
            let share = if aggregated { usual.prefill_share } else { 0.0 };
            return (usual.prefill_tokens, DecodeLoad { requests, kv_tokens }, Some(share));
        }
        let typical = || self.rule.engine.typical_prefill(self.shape, running.into());
        let tokens = if aggregated { typical() } else { 0 };
        (tokens, DecodeLoad { requests, kv_tokens }, None)
    }
}

impl Seen {
    /// Whether it is within the target. Who has seen one asks for no more, so that the least one is that one, if there is one.
    fn is_within(&mut self, estimate: Span) -> bool {
        self.least = self.least.min(estimate);
        estimate <= self.target
    }
}

/// The KV of all requests that have begun to decode.
fn kv_tokens(load: &WorkerLoad) -> u64 {
    load.scheduled_kv_tokens + load.queued_kv_tokens
}

/// Tokens times a factor, rounded down.
fn grown(tokens: u64, factor: f64) -> u64 {
    // Signed, as processors convert them. There are fewer than 2^63.
    ((tokens.cast_signed() as f64 * factor) as i64).cast_unsigned()
}

#[cfg(test)]
mod tests;
