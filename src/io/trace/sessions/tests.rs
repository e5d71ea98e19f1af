//! Sessions as files have them, and what can be wrong with them.

use super::*;
use crate::kernel::Span;
use crate::model::session::Sessions;

fn in_file<T>(text: &str, read: impl Fn(&Path) -> Result<T, TraceError>) -> Result<T, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, text).unwrap();
    let prefix = format!("{}/", folder.path().display());
    read(&path).map_err(|error| error.to_string().replace(&prefix, ""))
}

fn mooncake(lines: &[&str]) -> Result<Vec<Opening>, String> {
    in_file(&lines.join("\n"), |path| read_mooncake_sessions(path, 512))
}

fn dynamo(lines: &[String]) -> Result<Contents, String> {
    in_file(&lines.join("\n"), |path| read_dynamo(path, 64))
}

/// When each call of a session is ready, ms, and its trace line, if every call takes so long.
fn play(opening: &Opening, call_ms: u64) -> Vec<(u64, u64)> {
    let ms = |time: Time| time.as_ns() / 1_000_000;
    let (mut sessions, mut played) = (Sessions::new(), Vec::new());
    sessions.open(opening.at, opening.clone());
    let mut running = Vec::new();
    while sessions.live() > 0 {
        let end: Option<Time> = running.iter().map(|&(end, _)| end).min();
        let next = sessions.next_ready();
        match (next, end) {
            (Some(at), end) if end.is_none_or(|end| at <= end) => {
                let ready = sessions.pop(at).unwrap();
                running.push((at + Span::from_ms(call_ms), ready.call));
                played.push((ms(at), opening.asks[ready.call.call as usize].trace_line));
            }
            (_, Some(end)) => {
                let first = running.iter().position(|&(at, _)| at == end).unwrap();
                sessions.complete(end, running.remove(first).1);
            }
            _ => panic!("nobody goes on"),
        }
    }
    played
}

const fn turn() -> &'static str {
    r#""input_length": 700, "output_length": 5, "hash_ids": [1, 2]"#
}

#[test]
fn turns_wait_for_the_one_before() {
    let lines = [
        format!(r#"{{"timestamp": 1000, "session_id": "a", {}}}"#, turn()),
        format!(r#"{{"timestamp": 1500, "session_id": 7, {}}}"#, turn()),
        format!(r#"{{"timestamp": 1700, {}}}"#, turn()),
        format!(r#"{{"session_id": "a", "delay_ms": 50, {}}}"#, turn()),
        format!(r#"{{"timestamp": 2500, "session_id": 7, "tool_wait_ms": 30, {}}}"#, turn()),
        format!(r#"{{"timestamp": 9000, "session_id": "a", "delay": 0, {}}}"#, turn()),
    ];
    let openings = mooncake(&lines.each_ref().map(String::as_str)).unwrap();
    let played: Vec<_> = openings.iter().map(|opening| play(opening, 100)).collect();
    assert_eq!(
        played,
        [
            vec![(0, 0), (150, 3), (250, 5)],
            // A thousand ms between the time stamps, after the end.
            vec![(500, 1), (1630, 4)],
            vec![(700, 2)],
        ]
    );
    assert!(openings[0].name != openings[1].name);
}

#[test]
fn agents_wait_for_whom_they_list() {
    let lines = [
        format!(r#"{{"timestamp": 10, "request_id": "plan", {}}}"#, turn()),
        format!(r#"{{"request_id": "x", "wait_for": ["plan"], "delay": 5, {}}}"#, turn()),
        format!(r#"{{"request_id": "y", "wait_for": ["plan"], "tool_wait_ms": 50, {}}}"#, turn()),
        format!(r#"{{"timestamp": 40, "request_id": 9, "wait_for": [], {}}}"#, turn()),
        format!(r#"{{"request_id": "z", "wait_for": ["x", "y", 9], "delay": 1, {}}}"#, turn()),
        format!(r#"{{"timestamp": 60, "request_id": "alone", {}}}"#, turn()),
    ];
    let openings = mooncake(&lines.each_ref().map(String::as_str)).unwrap();
    let played: Vec<_> = openings.iter().map(|opening| play(opening, 100)).collect();
    assert_eq!(played, [vec![(0, 0), (30, 3), (105, 1), (150, 2), (251, 4)], vec![(50, 5)]]);
}

#[test]
fn a_context_that_grows_is_kept_once() {
    let lines = [
        r#"{"timestamp": 0, "session_id": 1, "input_length": 700, "output_length": 5, "hash_ids": [1, 2]}"#,
        r#"{"session_id": 1, "delay": 1, "input_length": 1400, "output_length": 5, "hash_ids": [1, 2, 3]}"#,
    ];
    let opening = mooncake(&lines).unwrap().remove(0);
    assert!(std::sync::Arc::ptr_eq(&opening.asks[0].chain, &opening.asks[1].chain));
    assert_eq!((opening.asks[0].prompt().chain.len(), opening.asks[0].prompt().tokens), (2, 700));
}

#[test]
fn what_is_wrong_with_sessions_is_said() {
    let row = |fields: &str| format!("{{{fields}, {}}}", turn());
    let no_delay = row(r#""timestamp": 0, "session_id": 1, "delay": 0"#);
    assert_eq!(mooncake(&[&no_delay]).unwrap().len(), 1);
    let cases = [
        (vec![], "x: has no requests"),
        (vec![row(r#""session_id": 1"#)], "x:1: `timestamp` is missing"),
        (
            vec![row(r#""timestamp": 0, "session_id": 1, "delay": 5"#)],
            "x:1: `delay` is 5, but has to be absent or 0 in a request that waits for none",
        ),
        (
            vec![
                row(r#""timestamp": 0, "session_id": 1"#),
                row(r#""timestamp": 1, "session_id": 1, "delay": -5"#),
            ],
            "x:2: `delay` is -5, but has to be a number of milliseconds from 0 to 2.25e9 (26 days)",
        ),
        (
            vec![row(r#""timestamp": 0, "session_id": 1"#), row(r#""session_id": 1"#)],
            "x:2: `delay` is missing",
        ),
        (
            vec![
                row(r#""timestamp": 5, "session_id": 1"#),
                row(r#""timestamp": 1, "session_id": 1"#),
            ],
            "x:2: `timestamp` is 4 ms before the turn before, but has to be not earlier than that, since it waits for it",
        ),
        (
            vec![row(r#""timestamp": 0, "request_id": "a", "wait_for": ["a"]"#)],
            "x:1: call 1 waits for itself, so it could never start (calls are named by their lines)",
        ),
        (
            vec![row(r#""timestamp": 0, "request_id": "a", "wait_for": ["b"]"#)],
            "x:1: waits for the request \"b\", which the file does not have",
        ),
        (
            vec![
                row(r#""timestamp": 0, "request_id": "a""#),
                row(r#""request_id": "b", "wait_for": ["a", "c"]"#),
                row(r#""request_id": "c", "wait_for": ["b"]"#),
            ],
            "x:3: call 3 waits for call 2, which waits for call 3 in the end, so neither could start (calls are named by their lines)",
        ),
        (
            vec![
                row(r#""timestamp": 0, "request_id": "a""#),
                row(r#""request_id": "a", "wait_for": ["a"]"#),
            ],
            "x:2: the request \"a\" was there on line 1, but names have to be unique",
        ),
        (
            vec![
                row(r#""timestamp": 0, "request_id": "a""#),
                row(r#""request_id": "b", "wait_for": ["a"], "tool_wait_ms": 1e99"#),
            ],
            "x:2: `tool_wait_ms` is 1e+99, but has to be a number of milliseconds from 0 to 2.25e9 (26 days)",
        ),
        (vec![row(r#""timestamp": 0"#), "{".to_owned()], "x:2: not the JSON expected here: "),
    ];
    for (lines, expected) in cases {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let error = mooncake(&lines).unwrap_err();
        assert!(error.starts_with(expected), "{lines:?}: {error}");
    }
}

fn recorded(id: &str, session: Option<(&str, &str)>, start: u64, end: u64) -> String {
    let context = session.map_or(String::new(), |(own, parent)| {
        let parent = match parent {
            "" => String::new(),
            parent => format!(r#", "parent_session_id": "{parent}""#),
        };
        format!(r#""agent_context": {{"session_id": "{own}"{parent}}}, "#)
    });
    format!(
        r#"{{"schema": "dynamo.request.trace.v1", "event_type": "request_end", "event_time_unix_ms": {end}, {context}"request": {{"request_id": "{id}", "request_received_ms": {start}, "output_tokens": 16, "replay": {{"trace_block_size": 64, "input_length": 100, "input_sequence_hashes": [14879255164371896291, 7]}}}}}}"#
    )
}

fn wrapped(event: &str) -> String {
    format!(r#"{{"timestamp": 3, "event": {event}}}"#)
}

#[test]
fn requests_without_context_are_put_in_order() {
    let last = wrapped(&recorded("c", None, 900, 950));
    let lines = [recorded("b", None, 500, 600), recorded("a", None, 100, 800), last];
    let Contents::Requests(requests) = dynamo(&lines).unwrap() else { panic!("no requests") };
    let arrivals: Vec<u64> =
        requests.iter().map(|request| request.arrival.as_ns() / 1_000_000).collect();
    assert_eq!(arrivals, [0, 400, 800]);
    assert_eq!(requests[0].prompt.chain, requests[2].prompt.chain);
    assert_eq!((requests[0].prompt.tokens, requests[0].output_tokens), (100, 16));
}

/// A main session spawns another after its first request; its third request comes after the end of that one.
#[test]
fn recorded_agents_fan_out_and_come_together() {
    let main = Some(("main", ""));
    let child = Some(("child", "main"));
    let lines = [
        recorded("m1", main, 1000, 1100),
        recorded("m2", main, 1150, 1250),
        recorded("c1", child, 1130, 1230),
        r#"{"schema": "dynamo.request.trace.v1", "event_type": "tool_end", "event_time_unix_ms": 1}"#
            .to_owned(),
        recorded("c2", child, 1300, 1400),
        recorded("m3", main, 1500, 1600),
        recorded("other", Some(("other", "gone")), 1010, 1020),
    ];
    let Contents::Sessions(openings) = dynamo(&lines).unwrap() else { panic!("no sessions") };
    assert_eq!(openings.len(), 2);
    // In order of arrival: m1, other, c1, m2, c2, m3. As recorded, if calls take as long as they did.
    assert_eq!(play(&openings[0], 100), [(0, 0), (130, 2), (150, 3), (300, 4), (500, 5)]);
    assert_eq!(play(&openings[1], 100), [(10, 1)]);
    // Twice as slow: what waits moves on.
    assert_eq!(play(&openings[0], 200), [(0, 0), (230, 2), (250, 3), (500, 4), (800, 5)]);
}

#[test]
fn what_is_wrong_with_recordings_is_said() {
    let good = recorded("a", None, 100, 800);
    let cases = [
        (
            vec![good.replace(".v1", ".v2")],
            "x:1: `schema` is \"dynamo.request.trace.v2\", but has to be dynamo.request.trace.v1",
        ),
        (
            vec![good.replace("64", "16")],
            "x:1: `trace_block_size` is 16, but has to be what workload.trace_block_size is, 64; set that to 16",
        ),
        (vec![good.replace("\"output_tokens\": 16, ", "")], "x:1: `output_tokens` is missing"),
        (vec![good.replace("request_received_ms", "x")], "x:1: `request_received_ms` is missing"),
        (
            vec![good.replace("100,", "1000,")],
            "x:1: 2 hash_ids of 64 tokens do not cover an input of 1000 tokens",
        ),
        (
            vec![recorded("a", Some(("s", "")), 1, 2), good.clone()],
            "x:2: `agent_context` is missing, but other requests have one: all or none have to",
        ),
        (
            vec![recorded("a", Some(("s", "")), 1, 2), recorded("a", Some(("t", "")), 1, 2)],
            "x:2: the request \"a\" was there on line 1, but names have to be unique",
        ),
        (
            vec![recorded("a", Some(("s", "p")), 1, 2), recorded("b", Some(("s", "q")), 3, 4)],
            "x:2: `parent_session_id` is \"q\", but has to be the same in all requests of a session",
        ),
        (
            vec![recorded("a", Some(("s", "")), 1, 2), recorded("b", Some(("s", "s")), 3, 4)],
            "x:2: `parent_session_id` is \"s\", but session \"s\" cannot come of one that is itself or comes of it",
        ),
        (
            vec![
                recorded("a", Some(("s", "t")), 1, 2),
                recorded("b", Some(("u", "s")), 3, 4),
                recorded("c", Some(("t", "u")), 5, 6),
            ],
            "x:2: `parent_session_id` is \"s\", but session \"u\" cannot come of one that is itself or comes of it",
        ),
        (vec![good.replace("request_end", "tool_end")], "x: has no requests"),
    ];
    for (lines, expected) in cases {
        let error = dynamo(&lines).unwrap_err();
        assert!(error.starts_with(expected), "{lines:?}: {error}");
    }
}

#[test]
fn fields_of_recordings_are_named() {
    let good = recorded("a", None, 100, 800);
    let cases = [
        (
            vec![wrapped(&good.replace("16, ", "\"x\", "))],
            "x:1: not the JSON expected here: invalid type: string \"x\", expected a JSON number (column",
        ),
        (
            vec![r#"{"event": 5}"#.to_owned()],
            "x:1: not the JSON expected here: invalid type: integer `5`, expected an object (column",
        ),
        (vec!["{}".to_owned()], "x:1: `schema` is missing"),
        (
            vec![good.replace("800", "18446744073709551615")],
            "x:1: `event_time_unix_ms` is 18446744073709551615, but has to be milliseconds since 1970",
        ),
        (
            vec![good.replace(
                "\"request_received_ms\": 100",
                "\"request_received_ms\": 2305843009213693952",
            )],
            "x:1: `request_received_ms` is 2305843009213693952, but has to be milliseconds since 1970",
        ),
        (
            vec![recorded("a", None, 1 << 40, 1 << 40), good.clone()],
            "x:1: timestamp is more than 834 days after the first",
        ),
        (
            vec![
                recorded("a", Some(("s", "")), 1, 2),
                recorded("b", Some(("t", "")), 1 << 40, 1 << 40),
            ],
            "x:2: timestamp is more than 834 days after the first",
        ),
    ];
    for (lines, expected) in cases {
        let error = dynamo(&lines).unwrap_err();
        assert!(error.starts_with(expected), "{lines:?}: {error}");
    }
}
