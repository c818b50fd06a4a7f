//! Pings, and the end of sessions that do not answer them.

use std::time::{Duration, Instant};

use super::brisk;
use crate::frames::Heard;
use crate::node::{PING_INTERVAL_MS, PING_TIMEOUT_MS};
use crate::session::{Polling, assert_error};

const PING_INTERVAL: Duration = Duration::from_millis(PING_INTERVAL_MS);
const PING_TIMEOUT: Duration = Duration::from_millis(PING_TIMEOUT_MS);
/// How early a timer may fire, because the node reads its clock in whole ticks.
const SLACK: Duration = Duration::from_millis(60);
/// How late an event may be on a busy machine.
const LATE: Duration = Duration::from_secs(8);

/// Polls without answering pings, and checks that the session ends.
fn assert_ends(session: &Polling) {
    let end = Instant::now() + PING_INTERVAL + PING_TIMEOUT + LATE;
    loop {
        assert!(Instant::now() < end, "the session lives on");
        let response = session.poll();
        if response.status == 400 {
            return assert_error(&response, 1, "Session ID unknown");
        }
        assert!(matches!(response.text(), "1" | "2"), "{response:?}");
    }
}

#[test]
fn polling_clients_are_pinged() {
    // Measured from before the pong that starts the interval, so that a stall of this test only
    // adds to it.
    let mut start = Instant::now();
    let session = brisk().open_polling();
    for round in 0..3 {
        let response = session.poll();
        assert_eq!((response.status, response.text()), (200, "2"), "round {round}");
        assert!(start.elapsed() > PING_INTERVAL - SLACK, "round {round}: too early");
        start = Instant::now();
        session.post_ok("3");
    }
}

#[test]
fn polling_clients_that_do_not_answer_are_gone() {
    let session = brisk().open_polling();
    std::thread::sleep(PING_INTERVAL + PING_TIMEOUT + 2 * SLACK);
    assert_ends(&session);
}

#[test]
fn polling_clients_that_poll_and_do_not_answer_are_gone() {
    let session = brisk().open_polling();
    assert_eq!(session.poll().text(), "2");
    assert_ends(&session);
}

#[test]
fn websocket_clients_are_pinged() {
    let mut start = Instant::now();
    let mut peer = brisk().open_websocket();
    for round in 0..3 {
        assert_eq!(peer.hear(), Heard::Text("2".into()), "round {round}");
        assert!(start.elapsed() > PING_INTERVAL - SLACK, "round {round}: too early");
        start = Instant::now();
        peer.say("3");
    }
}

#[test]
fn websocket_clients_that_do_not_answer_are_closed() {
    let mut peer = brisk().open_websocket();
    let start = Instant::now();
    assert_eq!(peer.hear(), Heard::Text("2".into()));
    let heard = peer.hear();
    assert!(heard.is_over(), "{heard:?}");
    let took = start.elapsed();
    assert!(took > PING_INTERVAL + PING_TIMEOUT - SLACK, "closed after {took:?}");
    assert!(took < PING_INTERVAL + PING_TIMEOUT + LATE, "closed after {took:?}");
}

#[test]
fn sessions_that_answer_live_on() {
    let mut peer = brisk().open_websocket();
    let session = brisk().open_polling();
    let start = Instant::now();
    while start.elapsed() < 2 * (PING_INTERVAL + PING_TIMEOUT) {
        assert_eq!(session.poll().text(), "2");
        session.post_ok("3");
        assert_eq!(peer.hear(), Heard::Text("2".into()));
        peer.say("3");
    }
}
