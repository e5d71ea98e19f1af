//! From what the user typed to what the program runs.

use std::path::PathBuf;

use rustc_hash::FxHashSet;

use crate::fleet::{
    ControlPlane, Execution, ExecutionOptions, FleetSpec, Latency, Load, PoolSpec, Scaling, Threads,
};
use crate::io::config::catalog::Catalog;
use crate::io::config::check::{self, Violation};
use crate::io::config::deploy::{Deployed, Found, deploy};
use crate::io::config::foreseen::foreseen;
use crate::io::config::notes::without_effect;
use crate::io::config::tables::Tables;
use crate::io::config::text::{self, Config, Duration, ThreadCount};
use crate::io::config::{admission, cells, classes, pools, scaling, sessions};
use crate::io::trace::{Columns, Format, TimestampUnit};
use crate::io::traffic::{Origin, Traffic};
use crate::model::class::ClassSpec;
use crate::model::planner::Late;
use crate::model::router::{KvRouterConfig, PolicySpec, QueueOrder, TieBreak};
use crate::model::workload::Shape;
use crate::model::workload::generate::{self, Arrivals, GeneratorSpec, Lengths, Rate};

/// A run, ready to start.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it was made from.
    pub config: Config,
    /// The fleet.
    pub fleet: FleetSpec,
    /// How requests find their worker.
    pub router: PolicySpec,
    /// Where requests come from.
    pub traffic: Traffic,
    /// What was set and changes nothing: a sentence each.
    pub notes: Vec<String>,
    /// What the user should know before it starts: a sentence each.
    pub foreseen: Vec<String>,
    /// Whether it is among this that the Planner comes too late.
    pub late: Option<Late>,
}

impl Job {
    pub(super) fn new(config: &Config) -> Result<Job, Violation> {
        let catalog = Catalog::new(&config.gpus, &config.models)?;
        let members = pools::members(config)?;
        for member in &members {
            let checked =
                check::ranges(&member.config).and_then(|()| check::contradictions(&member.config));
            checked.map_err(|violation| member.place(violation))?;
        }
        pools::check_together(&members)?;
        let (mut pools, mut notes, mut resolved) = (Vec::new(), Vec::new(), config.clone());
        let mut tables = Tables::default();
        for member in &members {
            let deployed = deploy(member, &catalog, &mut tables);
            let Deployed { spec, notes: own, found } =
                deployed.map_err(|violation| member.place(violation))?;
            let idle = without_effect(&member.config, found.timing);
            notes.extend(idle.into_iter().chain(own));
            pools.push(spec);
            if member.config.engine.model.is_some() {
                pin(&mut resolved, member.name(), &found);
            }
        }
        notes.extend(pools::without_effect(config));
        notes.extend(classes::without_effect(config));
        let scaling = scaling::scaling(config, &pools)?;
        if let Some(scaling) = &scaling {
            pools[0].workers = scaling.lifecycle.workers_max;
        }
        check_workers(&pools, config.fleet.cells)?;
        let mut seen = FxHashSet::default();
        notes.retain(|note| seen.insert(note.clone()));
        let workload = &config.workload;
        let traffic = Traffic {
            origin: origin(workload),
            turns_wait: workload.turns_wait,
            shape: shape(workload),
            block_size: workload.trace_block_size,
        };
        // Where it matters, all pools have the same.
        let max_num_batched_tokens = pools[0].engine.max_num_batched_tokens;
        let router = router(&config.router, max_num_batched_tokens);
        let fleet = fleet(config, pools, scaling, classes::classes(config)?);
        let (foreseen, late) = foreseen(&fleet, &traffic);
        Ok(Job { config: resolved, fleet, router, traffic, notes, foreseen, late })
    }
}

/// Enters what was found for the values that were left open.
fn pin(config: &mut Config, pool: Option<&str>, found: &Found) {
    match pool.and_then(|name| config.pools.get_mut(name)) {
        None => {
            config.timing.model = found.timing;
            if found.version.is_some() {
                config.engine.backend_version.clone_from(&found.version);
            }
        }
        Some(pool) => {
            let model = toml::Value::try_from(found.timing).expect("a name is TOML");
            pool.timing.insert("model".to_owned(), model);
            if let Some(version) = &found.version {
                let version = toml::Value::from(version.as_str());
                pool.engine.insert("backend_version".to_owned(), version);
            }
        }
    }
}

/// Pools together may not have more workers than one may have. With cells there are as many fewer.
fn check_workers(pools: &[PoolSpec], cells: u32) -> Result<(), Violation> {
    let workers: u64 = pools.iter().map(|pool| u64::from(pool.workers)).sum();
    let (most, beside) = match cells {
        1 => (check::WORKERS_MAX, String::new()),
        _ => (check::WORKERS_MAX - u64::from(cells), format!(" beside {cells} cells")),
    };
    match (workers <= most, pools) {
        (true, _) => Ok(()),
        (false, [PoolSpec { name: None, .. }]) => {
            let reason = format!("is {workers}, more than {most}{beside}");
            Err(Violation::contradiction("fleet.workers", reason))
        }
        (false, _) => {
            let reason = format!("have {workers} workers, more than {most}{beside}");
            Err(Violation::contradiction("pools", reason))
        }
    }
}

fn fleet(
    config: &Config,
    pools: Vec<PoolSpec>,
    scaling: Option<Scaling>,
    classes: Vec<ClassSpec>,
) -> FleetSpec {
    FleetSpec {
        pools,
        cells: cells::cells(config),
        control_plane: control_plane(&config.control_plane),
        load: config.workload.concurrency.map_or(Load::Open, Load::Closed),
        client: sessions::client(&config.client),
        router_queue: router_queue(config),
        // In cells nobody ever waits.
        admission: admission::admission(config).filter(|_| config.fleet.cells == 1),
        classes,
        scaling,
        seed: config.run.seed,
        series_interval: config.run.series_interval.0,
        slo: classes::slo(&config.slo),
        execution: Execution {
            threads: match config.run.threads {
                ThreadCount::Auto => Threads::Auto,
                ThreadCount::Count(count) => Threads::Count(count as usize),
            },
            pin: config.run.pin,
            options: ExecutionOptions::default(),
        },
    }
}

fn span(time: Option<Duration>) -> Option<crate::kernel::Span> {
    time.map(|time| time.0)
}

fn control_plane(plane: &text::ControlPlane) -> ControlPlane {
    let latency =
        |floor: Duration, extra: Duration| Latency { floor: floor.0, mean_extra: extra.0 };
    ControlPlane {
        dispatch: latency(plane.dispatch_latency, plane.dispatch_jitter),
        feedback: latency(plane.feedback_latency, plane.feedback_jitter),
    }
}

fn router(router: &text::Router, max_num_batched_tokens: u32) -> PolicySpec {
    match router.policy {
        text::RouterPolicy::RoundRobin => PolicySpec::RoundRobin,
        text::RouterPolicy::Random => PolicySpec::Random,
        text::RouterPolicy::PowerOfTwo => PolicySpec::PowerOfTwo,
        text::RouterPolicy::LeastLoaded => PolicySpec::LeastLoaded,
        text::RouterPolicy::SessionAffine => PolicySpec::SessionAffine,
        text::RouterPolicy::Kv => PolicySpec::Kv(KvRouterConfig {
            overlap_score_credit: router.overlap_score_credit,
            overlap_score_credit_decay: router.overlap_score_credit_decay,
            prefill_load_scale: router.prefill_load_scale,
            decode_active_request_weight: router.decode_active_request_weight,
            router_temperature: router.router_temperature,
            tie_break: match router.tie_break {
                text::TieBreak::FewestBlocks => TieBreak::Fewest,
                text::TieBreak::Random => TieBreak::Random,
            },
            busy_prefill_tokens: router
                .router_queue_threshold
                .map(|threshold| threshold * f64::from(max_num_batched_tokens)),
        }),
    }
}

fn router_queue(config: &Config) -> Option<QueueOrder> {
    let router = &config.router;
    let is_there =
        router.router_queue_threshold.is_some() || admission::admission(config).is_some();
    is_there.then_some(match router.router_queue_policy {
        text::QueuePolicy::Fcfs => QueueOrder::Fcfs,
        text::QueuePolicy::Lcfs => QueueOrder::Lcfs,
        text::QueuePolicy::Wspt => QueueOrder::Wspt,
    })
}

fn shape(workload: &text::Workload) -> Shape {
    Shape {
        from: workload.from.0,
        until: span(workload.until),
        speedup: workload.speedup,
        copies: workload.copies,
        copy_spread: workload.copy_spread.0,
        requests: workload.requests,
    }
}

fn origin(workload: &text::Workload) -> Origin {
    match (&workload.trace, workload.preset) {
        (Some(trace), _) => Origin::Trace {
            path: PathBuf::from(trace),
            format: format(workload),
            skip_bad_lines: workload.skip_bad_lines,
        },
        (None, text::Preset::Toolagent) => Origin::Toolagent,
        (None, text::Preset::Conversation) => Origin::Conversation,
        (None, text::Preset::Custom) => {
            Origin::Custom(generator(&workload.generate, workload.trace_block_size))
        }
        (None, text::Preset::Agents) => {
            let base = generator(&workload.generate, workload.trace_block_size);
            Origin::Agents(sessions::agents(&workload.agents, base))
        }
    }
}

fn format(workload: &text::Workload) -> Option<Format> {
    Some(match workload.format {
        text::TraceFormat::Auto => return None,
        text::TraceFormat::Mooncake => Format::Mooncake,
        text::TraceFormat::Azure => Format::Azure,
        text::TraceFormat::Burstgpt => Format::Burstgpt,
        text::TraceFormat::Dynamo => Format::Dynamo,
        text::TraceFormat::Csv => Format::Csv(columns(&workload.columns)),
        text::TraceFormat::Jsonl => Format::Jsonl(columns(&workload.columns)),
    })
}

fn columns(columns: &text::Columns) -> Columns {
    Columns {
        timestamp: columns.timestamp.clone(),
        timestamp_unit: match columns.timestamp_unit {
            text::TimestampUnit::S => TimestampUnit::S,
            text::TimestampUnit::Ms => TimestampUnit::Ms,
            text::TimestampUnit::Us => TimestampUnit::Us,
            text::TimestampUnit::Ns => TimestampUnit::Ns,
            text::TimestampUnit::Datetime => TimestampUnit::Datetime,
        },
        input_tokens: columns.input_tokens.clone(),
        output_tokens: columns.output_tokens.clone(),
        session: columns.session.clone(),
        hash_ids: columns.hash_ids.clone(),
    }
}

fn generator(generate: &text::Generate, block_size: u32) -> GeneratorSpec {
    GeneratorSpec {
        duration: generate.duration.0,
        arrivals: match generate.arrivals {
            text::Arrivals::Constant => Arrivals::Constant,
            text::Arrivals::Poisson => Arrivals::Poisson,
            text::Arrivals::Gamma => Arrivals::Gamma { cv: generate.cv },
        },
        rate: if !generate.steps.is_empty() {
            Rate::Steps(generate.steps.clone())
        } else if generate.diurnal_amplitude > 0.0 {
            Rate::Diurnal {
                mean: generate.rate,
                amplitude: generate.diurnal_amplitude,
                period: generate.diurnal_period.0,
            }
        } else {
            Rate::Steps(vec![(0.0, generate.rate)])
        },
        prompt_tokens: lengths(&generate.prompt_tokens),
        output_tokens: lengths(&generate.output_tokens),
        prefix_groups: generate.prefix_groups,
        prefix_tokens: generate.prefix_tokens,
        prefix_share: generate.prefix_share,
        prefix_skew: generate.prefix_skew,
        turns: generate.turns,
        turn_gap: generate.turn_gap.0,
        prompt_tokens_max: generate.prompt_tokens_max,
        block_size,
    }
}

fn lengths(lengths: &text::Lengths) -> Lengths {
    let shape = match lengths.distribution {
        text::LengthDistribution::Fixed => generate::Shape::Fixed(lengths.mean),
        text::LengthDistribution::Lognormal => {
            generate::Shape::Lognormal { mean: lengths.mean, sigma: lengths.sigma }
        }
        text::LengthDistribution::Empirical => {
            generate::Shape::Empirical(lengths.quantiles.clone())
        }
    };
    Lengths { shape, min: lengths.min, max: lengths.max }
}
