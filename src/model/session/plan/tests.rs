//! What a session may look like.

use super::*;

fn call(id: u64, wait_for: &[u64]) -> CallSpec {
    CallSpec { id, wait_for: wait_for.to_vec(), delay_ms: 0.0, tool_ms: 0.0 }
}

fn refused(specs: &[CallSpec]) -> PlanError {
    Plan::new(specs).unwrap_err()
}

#[test]
fn offenders_are_named() {
    let cases = [
        (refused(&[]), "at least one call"),
        (refused(&[call(7, &[]), call(7, &[])]), "call 7 occurs twice"),
        (refused(&[call(3, &[3])]), "call 3 waits for itself"),
        (refused(&[call(1, &[]), call(2, &[9])]), "call 2 waits for call 9, which"),
    ];
    for (error, expected) in cases {
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn delays_may_outlast_virtual_time() {
    let late = CallSpec { delay_ms: LONGEST_MS, ..call(1, &[]) };
    let mut plan = Plan::new(&[late]).unwrap();
    plan.speed_up(1e-6);
    assert!(plan.first().all(|(_, delay)| Time::ZERO.saturating_add(delay) > Time::MAX));
}

#[test]
fn a_circle_is_found_behind_its_followers() {
    // 5 and 6 only hang on the circle of 2, 3 and 4.
    let specs = [
        call(1, &[]),
        call(2, &[1, 4]),
        call(3, &[2]),
        call(4, &[3]),
        call(5, &[4]),
        call(6, &[5]),
    ];
    let PlanError::Cycle { call, wait_for } = refused(&specs) else { panic!("not a circle") };
    assert!([(2, 4), (4, 3), (3, 2)].contains(&(call, wait_for)), "{call} {wait_for}");
}

#[test]
fn times_are_times() {
    for ms in [-1.0, f64::NAN, f64::INFINITY, 1e12] {
        let delay = CallSpec { delay_ms: ms, ..call(4, &[]) };
        let text = refused(&[delay]).to_string();
        assert!(text.starts_with(&format!("delay of call 4 is {ms} ms")), "{text}");
        let tool = CallSpec { tool_ms: ms, ..call(4, &[]) };
        assert!(refused(&[tool]).to_string().starts_with("tool time of call 4"));
    }
}

#[test]
fn a_chain_is_a_chain() {
    let delay = |ms: u64| Span::from_ms(ms);
    let specs = [
        call(10, &[]),
        CallSpec { delay_ms: 5.0, ..call(11, &[10]) },
        CallSpec { delay_ms: 3.0, tool_ms: 4.0, ..call(12, &[11, 11]) },
    ];
    assert_eq!(Plan::new(&specs).unwrap(), Plan::chain([delay(5), delay(7)]));
    assert_eq!(Plan::chain([]).calls(), 1);
}
