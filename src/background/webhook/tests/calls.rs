//! Calls as receivers see them.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::receiver::Request;
use super::*;

/// Checks a signature as a receiver does. Returns its time in seconds.
fn verified(request: &Request) -> u64 {
    let signature = request.header("x-insforge-signature");
    let (seconds, hex) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(seconds.as_bytes());
    mac.update(b".");
    mac.update(&request.body);
    let digest = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
    let digest: Vec<u8> = digest.map(Result::unwrap).collect();
    mac.verify_slice(&digest).unwrap();
    seconds.parse().unwrap()
}

#[test]
fn a_payload_is_posted_byte_for_byte_and_signed() {
    let receiver = Receiver::always(Answer::Status(204));
    let bench = Bench::new(settings());
    let payload = "{ \"id\" :1.0e2,\r\n\t\"caf\u{e9}\":\"\\u00e9\\/\", \"id\": [ ] }";
    let call = named_call("order:1", "INSERT", payload, &[&receiver.url()]);
    let message = call.publication.id;
    assert!(bench.carry(call));

    let request = receiver.request();
    assert_eq!(request.line, "POST /hook?key=hunter2 HTTP/1.1");
    assert_eq!(request.body, payload.as_bytes());
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("x-insforge-event"), "INSERT");
    assert_eq!(request.header("x-insforge-channel"), "order:1");
    assert_eq!(request.header("x-insforge-message-id"), message.to_string());
    assert_eq!(request.header("user-agent"), concat!("fanfare/", env!("CARGO_PKG_VERSION")));
    assert_eq!(request.header("host"), format!("127.0.0.1:{}", receiver.port));
    assert!(!request.has("authorization"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now - verified(&request) < 60);

    assert_eq!((bench.attempts(), bench.outcomes()), (1, [1, 0, 0, 0]));
    let (_, told) = bench.stop(PATIENCE);
    assert_eq!(told.try_iter().count(), 0, "each call is told once");
}

#[test]
fn every_url_is_called_and_told() {
    let (one, other) =
        (Receiver::always(Answer::Status(200)), Receiver::always(Answer::Status(400)));
    let bench = Bench::new(settings());
    let call = call(&[&one.url(), &other.url(), &one.url()]);
    let message = call.publication.id;
    bench.webhooks.intake().offer(call);
    let mut told: Vec<_> = (0..3).map(|_| bench.settled()).collect();
    told.sort_by_key(|settled| settled.delivered);
    let expected = [false, true, true].map(|delivered| Settled { message, delivered });
    assert_eq!(told, expected);
    for request in [one.request(), one.request(), other.request()] {
        assert_eq!(request.header("x-insforge-message-id"), message.to_string());
    }
    assert_eq!(bench.outcomes(), [2, 1, 0, 0]);
}

#[test]
fn names_that_a_header_cannot_carry_are_percent_encoded() {
    let receiver = Receiver::always(Answer::Status(200));
    let bench = Bench::new(settings());
    let call = named_call("caf\u{e9}:1", "a\r\nX-Injected: 1\r\n\r\n%", "{}", &[&receiver.url()]);
    assert!(bench.carry(call));
    let request = receiver.request();
    assert_eq!(request.header("x-insforge-channel"), "caf%C3%A9:1");
    assert_eq!(request.header("x-insforge-event"), "a%0D%0AX-Injected:%201%0D%0A%0D%0A%25");
    assert!(!request.has("x-injected"));
}

#[test]
fn a_user_and_password_are_sent_as_basic_authentication() {
    let receiver = Receiver::always(Answer::Status(200));
    let bench = Bench::new(settings());
    let url = format!("http://user:p%40ss@127.0.0.1:{}/hook", receiver.port);
    assert!(bench.carry(call(&[&url])));
    // printf 'user:p@ss' | base64
    assert_eq!(receiver.request().header("authorization"), "Basic dXNlcjpwQHNz");
}

#[test]
fn connections_are_used_again() {
    let short = "HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nthank";
    let receiver = Receiver::always(Answer::Raw(short));
    let bench = Bench::new(settings());
    for _ in 0..5 {
        assert!(bench.carry(call(&[&receiver.url()])));
    }
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn an_answer_without_end_costs_its_sender_the_connection_and_nobody_anything() {
    for start in [
        "HTTP/1.1 200 x\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 1000000000000\r\n\r\n",
        "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\n",
    ] {
        let receiver = Receiver::always(Answer::Endless(start));
        let bench = Bench::new(settings());
        let begun = Instant::now();
        assert!(bench.carry(call(&[&receiver.url()])), "{start}");
        receiver.wait_for_end();
        assert!(begun.elapsed() < PATIENCE / 2, "it does not take the timeout");
    }
}

#[test]
fn an_answer_that_never_ends_is_an_answer() {
    let receiver = Receiver::always(Answer::Raw("HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nth"));
    let bench = Bench::new(Settings { timeout: Duration::from_millis(200), ..settings() });
    assert!(bench.carry(call(&[&receiver.url()])));
    assert_eq!((bench.attempts(), bench.outcomes()), (1, [1, 0, 0, 0]));
}
