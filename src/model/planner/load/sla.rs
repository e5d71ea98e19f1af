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
//! Where that leaves it open, workers are put into columns, by KV for the TTFT and by requests for the ITL, and the same is
//! asked of each column at a few heights of the queue or of KV (`columns.rs`): one estimate speaks for all workers of the
//! column that have more, or less. Only those in between are looked at one by one.
//!
//! All but the first of this holds if estimates rise with the load. If a pass can take less with more to do, it is known
//! by how much at most ([`EngineModel::falls`]): an estimate that speaks for other workers is lowered or raised by so much,
//! once for each of its passes. If that is not known, every worker is looked at. Verdicts, reasons and figures are the same
//! either way, but for the estimate of a fictitious worker with the least of everything where that one decides, which it
//! only does if nothing falls.

use crate::kernel::time::Span;
use crate::model::planner::capacity::{EngineModel, Role, Shape, Targets};
use crate::model::planner::decision::{Figures, Latency, Reason};
use crate::model::planner::load::columns::{Column, Columns};
use crate::model::planner::load::extremes::Extremes;
use crate::model::planner::load::{Basis, Verdict, respread};
use crate::model::planner::observation::{Observation, WorkerLoad};
use crate::model::planner::passes::UsualPass;
use crate::model::timing::{DecodeLoad, Falls};

/// Columns by KV. Each may cost some ten estimates.
const KV_COLUMNS: u64 = 64;

/// Columns by requests in the batch: one for each number, if no batch is larger than that.
const BATCH_COLUMNS: u64 = 512;

/// The rule, and the shape of recent requests.
#[derive(Debug)]
pub(super) struct SlaRule {
    role: Role,
    engine: EngineModel,
    targets: Targets,
    sensitivity: f64,
    basis: Basis,
    /// By how much a pass can take less with more to do, if that is known.
    falls: Option<Falls>,
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
        let falls = engine.falls();
        SlaRule {
            role,
            engine,
            targets,
            sensitivity,
            basis,
            falls,
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
        let extremes = Extremes::of(loads);
        let batch_max = extremes.most.running.max(1);
        let falls = self.falls.as_ref().filter(|falls| batch_max <= falls.requests_max());
        let look = Look { rule: self, shape, extremes, falls };
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
    /// Those of the rule, if they hold for all workers.
    falls: Option<&'a Falls>,
}

impl Look<'_> {
    /// Whether every worker is above the target of a latency, and an estimate: of the worker that is not, or one that no
    /// worker is below.
    fn all_above(&self, loads: &[WorkerLoad], latency: Latency) -> (bool, f64) {
        let target = self.rule.target(latency);
        let lightest = self.estimate(&self.extremes.least, latency);
        if self.falls.is_some_and(Falls::is_none) && lightest > target {
            return (true, lightest.as_ms());
        }
        for place in self.extremes.lightest {
            let estimate = self.estimate(&loads[place], latency);
            if estimate <= target {
                return (false, estimate.as_ms());
            }
        }
        if self.falls.is_none() {
            return self.first_within(loads, latency, |_| false);
        }
        let Extremes { least, most, .. } = &self.extremes;
        match latency {
            Latency::Ttft => {
                let keys = least.scheduled_kv_tokens..=most.scheduled_kv_tokens;
                let columns = Columns::of(loads, keys, KV_COLUMNS, scheduled, queued);
                self.all_above_in(loads, latency, &columns, |column, queued| WorkerLoad {
                    running: column.running[0],
                    queued_prefill_tokens: queued,
                    scheduled_kv_tokens: column.keys[0],
                    ..WorkerLoad::default()
                })
            }
            Latency::Itl => {
                let keys = least.running.into()..=most.running.into();
                let columns = Columns::of(loads, keys, BATCH_COLUMNS, running, kv_tokens);
                self.all_above_in(loads, latency, &columns, |column, kv_tokens| WorkerLoad {
                    running: column.running[0],
                    scheduled_kv_tokens: kv_tokens,
                    ..WorkerLoad::default()
                })
            }
        }
    }

    /// The same, by columns and the least that a worker of a column has who has so much of what the height is.
    fn all_above_in<K, H>(
        &self,
        loads: &[WorkerLoad],
        latency: Latency,
        columns: &Columns<K, H>,
        corner: impl Fn(&Column, u64) -> WorkerLoad,
    ) -> (bool, f64)
    where
        K: Fn(&WorkerLoad) -> u64,
        H: Fn(&WorkerLoad) -> u64,
    {
        let lowest = columns.occupied().map(|column| &loads[column.lowest]);
        let least = lowest.map(|load| self.estimate(load, latency)).min();
        // Above this, a worker neither is within the target nor has the least estimate.
        let level = self.rule.target(latency).max(least.unwrap_or(Span::ZERO));
        let bounds = columns.bounds(|column, height| {
            let corner = corner(column, height);
            let fall = match latency {
                Latency::Ttft => {
                    let decode = self.decode(&corner, 1.0);
                    self.ttft_fall(corner.queued_prefill_tokens, decode, column.running)
                }
                Latency::Itl => self.itl_fall(kv_tokens(&corner), column.running),
            };
            less(self.estimate(&corner, latency), fall) > level
        });
        self.first_within(loads, latency, |load| bounds.breaks(load))
    }

    /// Whether every worker is above the target, and the estimate of the first one that is not, or the least one. Leaves out
    /// workers that are known to be no such.
    fn first_within(
        &self,
        loads: &[WorkerLoad],
        latency: Latency,
        is_known: impl Fn(&WorkerLoad) -> bool,
    ) -> (bool, f64) {
        let target = self.rule.target(latency);
        let mut least = Span::FOREVER;
        for load in loads.iter().filter(|load| !is_known(load)) {
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
        let Extremes { least, most, heaviest, .. } = &self.extremes;
        let (rises, role) = (self.falls.is_some(), self.rule.role);
        let batches = [least.running, most.running];
        let no_prefill =
            role == Role::Decode || (rises && self.all_fit_prefill(least, most, factor));
        let no_decode =
            role == Role::Prefill || (rises && self.all_fit_decode(most, batches, factor));
        if no_prefill && no_decode {
            return None;
        }
        let fits = |load: &WorkerLoad| {
            (no_prefill || self.fits_prefill(load, factor))
                && (no_decode || self.fits_decode(load, factor))
        };
        if let Some(place) = heaviest.iter().find(|&&place| !fits(&loads[place])) {
            return Some(*place);
        }
        if !rises {
            return loads.iter().position(|load| !fits(load));
        }
        let prefill = (!no_prefill).then(|| self.misfit_prefill(loads, factor)).flatten();
        // A worker before that one may not be able to decode.
        let rest = &loads[..prefill.unwrap_or(loads.len())];
        (!no_decode).then(|| self.misfit_decode(rest, factor)).flatten().or(prefill)
    }

    /// The first worker that could not take its share of queues.
    fn misfit_prefill(&self, loads: &[WorkerLoad], factor: f64) -> Option<usize> {
        let Extremes { least, most, .. } = &self.extremes;
        let keys = least.scheduled_kv_tokens..=most.scheduled_kv_tokens;
        let columns = Columns::of(loads, keys, KV_COLUMNS, scheduled, queued);
        let bounds = columns.bounds(|column, queued_prefill_tokens| {
            let [least, most] = [0, 1].map(|end| WorkerLoad {
                running: column.running[end],
                queued_prefill_tokens,
                scheduled_kv_tokens: column.keys[end],
                ..WorkerLoad::default()
            });
            !self.all_fit_prefill(&least, &most, factor)
        });
        loads.iter().position(|load| !bounds.keeps(load) && !self.fits_prefill(load, factor))
    }

    /// The first worker that could not take its share of decoding.
    fn misfit_decode(&self, loads: &[WorkerLoad], factor: f64) -> Option<usize> {
        let Extremes { least, most, .. } = &self.extremes;
        let keys = least.running.into()..=most.running.into();
        let height = |load: &WorkerLoad| self.kv_tokens_to_be(load);
        let columns = Columns::of(loads, keys, BATCH_COLUMNS, running, height);
        let bounds = columns.bounds(|column, kv_tokens| {
            let running = column.running[1];
            let most =
                WorkerLoad { running, scheduled_kv_tokens: kv_tokens, ..WorkerLoad::default() };
            !self.all_fit_decode(&most, column.running, factor)
        });
        loads.iter().position(|load| !bounds.keeps(load) && !self.fits_decode(load, factor))
    }

    /// Whether workers between these two are known to fit: one with the most of everything would, its own time being that
    /// of the one with the least KV where a longer own time is of help.
    fn all_fit_prefill(&self, least: &WorkerLoad, most: &WorkerLoad, factor: f64) -> bool {
        let sensitivity = self.rule.sensitivity;
        let target_ms = self.rule.targets.ttft.as_ms();
        let batches = [least.running, most.running];
        let fall = |queued_tokens, decode| self.ttft_fall(queued_tokens, decode, batches);
        let (decode, queued) =
            (self.decode(most, factor), grown(most.queued_prefill_tokens, factor));
        let ttft = more(self.ttft(queued, decode), fall(queued, decode));
        let longest = more(self.ttft(0, decode), fall(0, decode));
        let lightest = self.decode(least, factor);
        let own = less(self.ttft(0, lightest), fall(0, lightest));
        // caused < (target - own) x sensitivity, with caused = TTFT - own.
        longest.as_ms() < target_ms
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

    /// Whether workers with no more than this one are known to fit, whose batches are between these two.
    fn all_fit_decode(&self, most: &WorkerLoad, batches: [u32; 2], factor: f64) -> bool {
        let fall = self.itl_fall(grown(self.kv_tokens_to_be(most), factor), batches);
        self.fits_decode_with(most, factor, fall)
    }

    fn fits_decode(&self, load: &WorkerLoad, factor: f64) -> bool {
        self.fits_decode_with(load, factor, 0)
    }

    /// Whether a worker fits if a pass takes so many ns more.
    fn fits_decode_with(&self, load: &WorkerLoad, factor: f64, ns: u64) -> bool {
        let kv_tokens = grown(self.kv_tokens_to_be(load), factor);
        let limit_ms = self.rule.targets.itl.as_ms() * self.rule.sensitivity;
        kv_tokens < self.rule.engine.pool_tokens()
            && more(self.itl(load, kv_tokens), ns).as_ms() < limit_ms
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

    /// By how much the TTFT can be less with more to do in batches between these two, ns. An estimate with fewer requests
    /// and as much KV is as much above one at most.
    fn ttft_fall(&self, queued_tokens: u64, decode: DecodeLoad, batches: [u32; 2]) -> u64 {
        let Some(falls) = self.falls else { return u64::MAX };
        let computed = self.shape.computed_share(queued_tokens) + self.shape.computed_tokens();
        let chunks = self.rule.engine.chunks(computed);
        if self.rule.role == Role::Prefill || batches[0] == batches[1] {
            falls.chunked_beside_same_ns(chunks)
        } else {
            falls.chunked_ns(chunks, decode.kv_tokens)
        }
    }

    /// The same for the ITL over so much KV.
    fn itl_fall(&self, kv_tokens: u64, batches: [u32; 2]) -> u64 {
        let Some(falls) = self.falls else { return u64::MAX };
        if batches[0] == batches[1] {
            return falls.rounding_ns();
        }
        let context = self.rule.usual.map_or(0, |usual| usual.context.round() as u64);
        falls.pass_ns(kv_tokens.saturating_add(context))
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

/// A time and so many ns.
fn more(time: Span, ns: u64) -> Span {
    Span::from_ns(time.as_ns().saturating_add(ns))
}

/// A time without so many ns.
fn less(time: Span, ns: u64) -> Span {
    Span::from_ns(time.as_ns().saturating_sub(ns))
}

fn running(load: &WorkerLoad) -> u64 {
    load.running.into()
}

fn scheduled(load: &WorkerLoad) -> u64 {
    load.scheduled_kv_tokens
}

fn queued(load: &WorkerLoad) -> u64 {
    load.queued_prefill_tokens
}

/// The KV of all requests that have begun to decode.
fn kv_tokens(load: &WorkerLoad) -> u64 {
    load.scheduled_kv_tokens + load.queued_kv_tokens
}

/// Tokens times a factor, rounded down.
fn grown(tokens: u64, factor: f64) -> u64 {
    (tokens as f64 * factor) as u64
}

#[cfg(test)]
mod tests;
