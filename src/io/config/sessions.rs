//! From what the user typed about sessions, agents and clients to what the program runs.

use crate::io::config::check::{LONGER_THAN_ZERO, NOT_NEGATIVE, Ranges, SHARE, Violation};
use crate::io::config::text::{Agents, Client, Config, Duration, Preset, TraceFormat};
use crate::kernel::Span;
use crate::model::session::{Backoff, ClientSpec};
use crate::model::workload::generate::{AgentsSpec, GeneratorSpec};

const BRANCHES: &str = "a whole number from 0 to 1024, the minimum no more than the maximum";
/// A session is drawn whole when it opens, so it may not be endless.
const CALLS_MAX: f64 = 10_000.0;

/// The longest median; no draw is longer than [`crate::model::session::LONGEST_MS`], which is a little more.
const TOOL_TIME_MAX: Span = Span::from_secs(26 * 86_400);

const ONE_OR_MORE: &str = "a number, 1 or more";

/// What a value of this key has to be, in words, if it is narrower than its type.
pub(super) fn range_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "workload.agents.rounds" | "workload.agents.branch_calls" | "client.backoff_factor" => {
            ONE_OR_MORE
        }
        "workload.agents.fan_out_min" | "workload.agents.fan_out_max" => BRANCHES,
        "workload.agents.tool_sigma" => NOT_NEGATIVE,
        "workload.agents.tool_time" => "a time of at most 26 d",
        "client.ttft_timeout" | "client.timeout" | "client.backoff" | "client.backoff_max" => {
            LONGER_THAN_ZERO
        }
        "client.backoff_jitter" => SHARE,
        _ => return None,
    })
}

/// Every value by itself.
pub(super) fn ranges(config: &Config, ranges: &mut Ranges) {
    let Agents { rounds, branch_calls, fan_out_min, fan_out_max, tool_time, tool_sigma } =
        config.workload.agents;
    ranges.number("workload.agents.rounds", rounds, |rounds| rounds >= 1.0);
    ranges.number("workload.agents.branch_calls", branch_calls, |calls| calls >= 1.0);
    let is_order = fan_out_min <= fan_out_max;
    ranges.check("workload.agents.fan_out_min", fan_out_min, is_order);
    ranges.check("workload.agents.fan_out_max", fan_out_max, fan_out_max <= 1024);
    let Duration(tool_time) = tool_time;
    let is_right = tool_time <= TOOL_TIME_MAX;
    ranges.check("workload.agents.tool_time", format!("\"{tool_time}\""), is_right);
    ranges.not_negative("workload.agents.tool_sigma", tool_sigma);
    let client = &config.client;
    // Without a pause, a client that is refused would try again for ever at the same instant.
    for (key, time) in [
        ("client.ttft_timeout", client.ttft_timeout),
        ("client.timeout", client.timeout),
        ("client.backoff", Some(client.backoff)),
        ("client.backoff_max", Some(client.backoff_max)),
    ] {
        if let Some(Duration(time)) = time {
            ranges.check(key, format!("\"{time}\""), time > Span::ZERO);
        }
    }
    ranges.number("client.backoff_factor", client.backoff_factor, |factor| factor >= 1.0);
    ranges.share("client.backoff_jitter", client.backoff_jitter);
}

/// What makes no sense together.
pub(super) fn contradictions(config: &Config) -> Result<(), Violation> {
    let Config { workload, client, .. } = config;
    if client.retries > 0 && client.backoff > client.backoff_max {
        let reason =
            format!("is {}, above client.backoff_max ({})", client.backoff.0, client.backoff_max.0);
        return Err(Violation::contradiction("client.backoff", reason));
    }
    let contradict = |key: &str, reason: &str| {
        Err(Violation::contradiction(&format!("workload.{key}"), reason.to_owned()))
    };
    let is_generated = workload.trace.is_none();
    if workload.agents != Agents::default() && !(is_generated && workload.preset == Preset::Agents)
    {
        return contradict("agents", "has no meaning without workload.preset = \"agents\"");
    }
    let has_times = matches!(workload.preset, Preset::Toolagent | Preset::Conversation);
    if workload.turns_wait && is_generated && has_times {
        let reason = "needs a trace, or workload.preset = \"custom\" or \"agents\": the other \
                      presets have turns with times of their own";
        return contradict("turns_wait", reason);
    }
    let too_many = |key: &str, calls: f64| {
        let reason = format!("makes {calls:.0} calls a session on average, more than {CALLS_MAX}");
        Err(Violation::contradiction(&format!("workload.{key}"), reason))
    };
    let (agents, turns) = (&workload.agents, workload.generate.turns);
    let branches = f64::midpoint(f64::from(agents.fan_out_min), f64::from(agents.fan_out_max));
    let calls = agents.rounds * (branches * agents.branch_calls + 1.0);
    if calls > CALLS_MAX {
        return too_many("agents", calls);
    }
    if workload.turns_wait && turns > CALLS_MAX {
        return too_many("generate.turns", turns);
    }
    let has_turns =
        matches!(workload.format, TraceFormat::Auto | TraceFormat::Mooncake | TraceFormat::Dynamo);
    if workload.turns_wait && !has_turns {
        return contradict("turns_wait", "is for traces in the formats mooncake and dynamo");
    }
    Ok(())
}

/// Keys that change nothing in this configuration: the section, the keys, and why.
pub(super) fn idle(config: &Config) -> Vec<(&'static str, &'static [&'static str], &'static str)> {
    let mut list: Vec<(&str, &[&str], &str)> = Vec::new();
    if config.client.retries == 0 {
        let keys = &["backoff", "backoff_factor", "backoff_max", "backoff_jitter"];
        list.push(("client", keys, "without client.retries"));
    }
    let workload = &config.workload;
    if workload.trace.is_none() && workload.preset == Preset::Agents {
        let reason = "for agents, whose rounds are in workload.agents";
        list.push(("workload.generate", &["turns", "turn_gap"], reason));
        list.push(("workload", &["turns_wait"], "for agents, which always wait"));
    }
    if workload.trace.is_some() && workload.format == TraceFormat::Dynamo {
        list.push(("workload", &["turns_wait"], "for Dynamo's traces, whose sessions always wait"));
    }
    list
}

/// How clients behave, if not with endless patience.
pub(super) fn client(client: &Client) -> Option<ClientSpec> {
    let is_patient =
        client.ttft_timeout.is_none() && client.timeout.is_none() && client.retries == 0;
    let span = |time: Option<Duration>| time.map(|time| time.0);
    (!is_patient).then(|| ClientSpec {
        first_token_timeout: span(client.ttft_timeout),
        timeout: span(client.timeout),
        retries: client.retries,
        backoff: Backoff {
            first: client.backoff.0,
            factor: client.backoff_factor,
            max: client.backoff_max.0,
            jitter: client.backoff_jitter,
        },
    })
}

/// What agents do; `base` says what they have in common with chats.
pub(super) fn agents(agents: &Agents, base: GeneratorSpec) -> AgentsSpec {
    AgentsSpec {
        base,
        rounds: agents.rounds,
        fan_out: (agents.fan_out_min, agents.fan_out_max),
        branch_calls: agents.branch_calls,
        tool_time: agents.tool_time.0,
        tool_sigma: agents.tool_sigma,
    }
}
