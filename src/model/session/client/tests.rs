//! Clients by hand, and many of them counted.

use rand::RngExt;

use super::*;
use crate::kernel::rng::stream;

fn secs(secs: u64) -> Span {
    Span::from_secs(secs)
}

fn at(at: u64) -> Time {
    Time::ZERO + secs(at)
}

fn spec() -> ClientSpec {
    ClientSpec {
        first_token_timeout: Some(secs(10)),
        timeout: Some(secs(60)),
        retries: 2,
        backoff: Backoff { first: secs(1), factor: 3.0, max: secs(5), jitter: 0.0 },
    }
}

#[test]
fn an_answer_in_time_is_an_answer() {
    let (mut client, mut counts, mut rng) = (Client::new(), ClientCounts::default(), stream(1, 0));
    assert_eq!(client.send(at(0), &spec(), &mut counts), at(10));
    assert_eq!(client.first_token(1, &spec()), at(60));
    let ignored = client.timed_out(at(10), 1, &spec(), &mut counts, &mut rng);
    assert_eq!(ignored, Next::Ignore, "the deadline has moved");
    assert!(client.answered(1, &mut counts));
    assert!(!client.answered(1, &mut counts), "once is enough");
    let ignored = client.timed_out(at(60), 1, &spec(), &mut counts, &mut rng);
    assert_eq!((ignored, counts.done, counts.sent, counts.timeouts), (Next::Ignore, 1, 1, 0));
}

#[test]
fn tries_are_counted_and_pauses_grow() {
    let (mut client, mut counts, mut rng) = (Client::new(), ClientCounts::default(), stream(1, 0));
    let spec = ClientSpec { retries: 3, ..spec() };
    client.send(at(0), &spec, &mut counts);
    let mut fail = |client: &mut Client, counts: &mut ClientCounts, now, tries| {
        client.timed_out(at(now), tries, &spec, counts, &mut rng)
    };
    assert_eq!(fail(&mut client, &mut counts, 10, 1), Next::Retry(at(11)));
    client.send(at(11), &spec, &mut counts);
    assert!(!client.answered(1, &mut counts), "an answer to the first try comes too late");
    assert_eq!(client.first_token(1, &spec), at(21), "and so does its first token");
    assert_eq!(fail(&mut client, &mut counts, 21, 2), Next::Retry(at(24)));
    client.send(at(24), &spec, &mut counts);
    assert_eq!(fail(&mut client, &mut counts, 34, 3), Next::Retry(at(39)), "9 s, but at most 5");
    client.send(at(39), &spec, &mut counts);
    assert_eq!(fail(&mut client, &mut counts, 49, 4), Next::Abandon);
    assert_eq!(fail(&mut client, &mut counts, 50, 4), Next::Ignore);
    let ClientCounts { sent, retries, timeouts, abandoned, .. } = counts;
    assert_eq!([sent, retries, timeouts, abandoned], [4, 3, 4, 1]);
}

#[test]
fn without_a_timeout_clients_wait_for_ever() {
    let (mut client, mut counts) = (Client::new(), ClientCounts::default());
    let patient = ClientSpec { first_token_timeout: None, timeout: None, ..spec() };
    assert_eq!(client.send(at(0), &patient, &mut counts), Time::NEVER);
}

#[test]
fn refusals_are_retried_too() {
    let (mut client, mut counts, mut rng) = (Client::new(), ClientCounts::default(), stream(1, 0));
    let spec = ClientSpec { retries: 0, ..spec() };
    client.send(at(0), &spec, &mut counts);
    assert_eq!(client.refused(at(1), 1, &spec, &mut counts, &mut rng), Next::Abandon);
    assert_eq!((counts.refused, counts.timeouts), (1, 0));
}

#[test]
fn jitter_spreads_pauses() {
    let backoff = Backoff { jitter: 0.5, ..spec().backoff };
    let mut rng = stream(2, 0);
    let pauses: Vec<f64> = (0..1000).map(|_| backoff.pause(1, &mut rng).as_secs()).collect();
    assert!(pauses.iter().all(|pause| (0.5..=1.0).contains(pause)));
    let mean = pauses.iter().sum::<f64>() / 1000.0;
    assert!((mean - 0.75).abs() < 0.02, "{mean}");
}

/// Also when the growth of pauses is more than a float holds.
#[test]
fn pauses_end_at_the_longest_and_nothing_stays_nothing() {
    let mut rng = stream(2, 0);
    for tries in [1, 2, 1025, u32::MAX] {
        let backoff = Backoff { factor: 2.0, ..spec().backoff };
        let pause = backoff.pause(tries, &mut rng);
        assert_eq!(pause, if tries > 2 { secs(5) } else { secs(tries.into()) }, "{tries}");
        assert_eq!(Backoff { first: Span::ZERO, ..backoff }.pause(tries, &mut rng), Span::ZERO);
    }
}

/// Whatever happens to requests, each ends once, and every try has one fate.
#[test]
fn every_request_ends_once() {
    let (mut counts, mut rng) = (ClientCounts::default(), stream(3, 0));
    let spec = ClientSpec { backoff: Backoff { jitter: 1.0, ..spec().backoff }, ..spec() };
    for _ in 0..2000 {
        let mut client = Client::new();
        let mut now = at(0);
        loop {
            let deadline = client.send(now, &spec, &mut counts);
            let tries = client.tries();
            let next = match rng.random_range(0..3) {
                0 => {
                    assert!(client.answered(tries, &mut counts));
                    break;
                }
                1 => client.timed_out(deadline, tries, &spec, &mut counts, &mut rng),
                _ => client.refused(now, tries, &spec, &mut counts, &mut rng),
            };
            match next {
                Next::Retry(again) => now = again,
                Next::Abandon => break,
                Next::Ignore => panic!("a failure is never ignored here"),
            }
        }
    }
    assert_eq!(counts.done + counts.abandoned, 2000);
    assert_eq!(counts.sent, 2000 + counts.retries);
    assert_eq!(counts.sent, counts.done + counts.timeouts + counts.refused);
    // Three tries, each answered with probability 1/3.
    let share = counts.abandoned as f64 / 2000.0;
    assert!((share - 8.0 / 27.0).abs() < 0.03, "{share}");
}
