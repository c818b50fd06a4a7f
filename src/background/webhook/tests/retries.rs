//! Calls that are repeated, and how often.

use super::*;

#[test]
fn a_server_that_recovers_gets_the_call() {
    for faults in [[500, 503], [429, 408], [599, 502]] {
        let receiver =
            Receiver::start(move |before| Answer::Status(*faults.get(before).unwrap_or(&200)));
        let bench = Bench::new(settings());
        assert!(bench.carry(call(&[&receiver.url()])), "{faults:?}");
        assert_eq!((bench.attempts(), bench.outcomes()), (3, [1, 0, 0, 0]), "{faults:?}");
        let messages =
            [(); 3].map(|()| receiver.request().header("x-insforge-message-id").to_owned());
        assert!(messages.iter().all(|message| *message == messages[0]));
    }
}

#[test]
fn a_call_is_given_up_in_the_end() {
    for answer in [Answer::Status(500), Answer::HangUp, Answer::Raw("SSH-2.0-x\r\n\r\n")] {
        let receiver = Receiver::always(answer.clone());
        let bench = Bench::new(settings());
        assert!(!bench.carry(call(&[&receiver.url()])), "{answer:?}");
        assert_eq!((bench.attempts(), bench.outcomes()), (5, [0, 1, 0, 0]), "{answer:?}");
    }
}

#[test]
fn what_the_receiver_does_not_want_is_not_repeated() {
    for status in [400, 401, 404, 410, 422, 300, 304] {
        let receiver = Receiver::always(Answer::Status(status));
        let bench = Bench::new(settings());
        assert!(!bench.carry(call(&[&receiver.url()])), "{status}");
        assert_eq!((bench.attempts(), bench.outcomes()), (1, [0, 1, 0, 0]), "{status}");
    }
}

#[test]
fn nobody_there_is_a_failure_in_the_end() {
    let bench = Bench::new(settings());
    assert!(!bench.carry(call(&[&format!("http://127.0.0.1:{}/", unused_port())])));
    assert_eq!((bench.attempts(), bench.outcomes()), (5, [0, 1, 0, 0]));
    // Too long for a label, so the system refuses it without a query.
    assert!(!bench.carry(call(&[&format!("http://{}/", "x".repeat(64))])));
    assert_eq!((bench.attempts(), bench.outcomes()), (10, [0, 2, 0, 0]));
}

#[test]
fn a_server_that_only_speaks_http_is_no_https() {
    let receiver = Receiver::always(Answer::Status(200));
    let bench = Bench::new(Settings { timeout: Duration::from_millis(500), ..settings() });
    assert!(!bench.carry(call(&[&receiver.url().replace("http:", "https:")])));
    assert_eq!((bench.attempts(), bench.outcomes()), (5, [0, 1, 0, 0]));
}

#[test]
fn a_server_has_so_long_to_answer() {
    let receiver = Receiver::start(|before| match before {
        0 => Answer::Silence,
        1 => Answer::Raw("HTTP/1.1 200"),
        _ => Answer::Status(200),
    });
    let bench = Bench::new(Settings { timeout: Duration::from_millis(200), ..settings() });
    let begun = Instant::now();
    assert!(bench.carry(call(&[&receiver.url()])));
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!((bench.attempts(), bench.outcomes()), (3, [1, 0, 0, 0]));
}

#[test]
fn waits_double_and_obey_retry_after() {
    let times = |answers: [Answer; 4]| {
        let receiver = Receiver::start(move |before| {
            answers.get(before).unwrap_or(&Answer::Status(200)).clone()
        });
        let bench = Bench::new(Settings { retry: Duration::from_millis(100), ..settings() });
        bench.webhooks.offer(call(&[&receiver.url()]));
        let times = [(); 5].map(|()| (receiver.request(), Instant::now()).1);
        assert!(bench.settled().delivered);
        [0, 1, 2, 3].map(|at| (times[at + 1] - times[at]).as_millis())
    };
    for (at, waited) in times([(); 4].map(|()| Answer::Status(500))).into_iter().enumerate() {
        assert!(waited >= (100 << at) / 2 - CLOCKS, "{waited} ms after attempt {}", at + 1);
    }
    let [one, two, three, four] = times([
        Answer::With(503, "Retry-After: 1"),
        Answer::With(429, "Retry-After: 0"),
        Answer::With(500, "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT"),
        Answer::With(503, "Retry-After: 1"),
    ]);
    assert!(one >= 1_000 - CLOCKS, "{one} ms are a second");
    assert!(two >= 100 - CLOCKS, "{two} ms: asking for none makes no haste");
    assert!(three >= 200 - CLOCKS, "{three} ms: a date is not understood");
    assert!(four >= 1_000 - CLOCKS, "{four} ms: the longer of both counts");
}

/// Milliseconds by which a receiver may notice a request late, so that the time to the next is
/// shorter.
const CLOCKS: u128 = 25;
