//! Upgrades from long-polling to WebSocket, which must not lose a message.

use std::time::{Duration, Instant};

use super::calm;
use crate::frames::{BINARY, Frame, Heard, Peer};
use crate::node;
use crate::session::{MOMENT, Polling, assert_closes};

const UPGRADE_TIMEOUT: Duration = Duration::from_millis(node::UPGRADE_TIMEOUT_MS);

fn heard(text: &str) -> Heard {
    Heard::Text(text.into())
}

fn probe(session: &Polling) -> Peer {
    let mut peer = session.second_socket();
    peer.say("2probe");
    assert_eq!(peer.hear(), heard("3probe"));
    peer
}

fn upgraded(session: &Polling) -> Peer {
    let mut peer = probe(session);
    peer.say("5");
    peer.say("4upgraded");
    assert_eq!(peer.hear(), heard("4upgraded"));
    peer
}

#[test]
fn a_poll_that_waits_is_released_and_the_session_moves() {
    let session = calm().open_polling();
    let mut poll = session.start_poll();
    assert!(poll.is_silent_for(MOMENT));
    let mut peer = probe(&session);
    let released = poll.response();
    assert_eq!((released.status, released.text()), (200, "6"));
    peer.say("5");
    peer.say("4hello");
    assert_eq!(peer.hear(), heard("4hello"));
    peer.send(&Frame::new(BINARY, [1, 2, 3]));
    assert_eq!(peer.hear(), Heard::Binary(vec![1, 2, 3]));
}

#[test]
fn a_poll_during_the_probe_is_released_as_well() {
    let session = calm().open_polling();
    let mut peer = probe(&session);
    assert_eq!(session.poll().text(), "6");
    peer.say("5");
    peer.say("4hello");
    assert_eq!(peer.hear(), heard("4hello"));
}

#[test]
fn polling_goes_on_during_the_probe() {
    let session = calm().open_polling();
    let mut peer = probe(&session);
    session.post_ok("4by post");
    assert_eq!(session.packets(), ["4by post"]);
    peer.say("5");
    peer.say("4by socket");
    assert_eq!(peer.hear(), heard("4by socket"));
}

#[test]
fn what_waits_is_flushed_over_the_new_socket() {
    let session = calm().open_polling();
    let mut poll = session.start_poll();
    assert!(poll.is_silent_for(MOMENT));
    let mut peer = probe(&session);
    assert_eq!(poll.response().text(), "6");
    session.post_ok("4one\x1ebAgM=\x1e4three");
    assert_eq!(peer.hear_within(MOMENT), Heard::Nothing, "the session is not here yet");
    peer.say("5");
    assert_eq!(peer.hear(), heard("4one"));
    assert_eq!(peer.hear(), Heard::Binary(vec![2, 3]));
    assert_eq!(peer.hear(), heard("4three"));
}

#[test]
fn a_client_that_does_not_wait_for_answers_is_served_as_well() {
    for _ in 0..20 {
        let session = calm().open_polling();
        let mut peer = session.second_socket();
        peer.say_at_once(["2probe", "5", "4hello"]);
        assert_eq!(peer.hear(), heard("3probe"));
        assert_eq!(peer.hear(), heard("4hello"));
    }
}

#[test]
fn a_client_that_does_not_probe_is_served_as_well() {
    let session = calm().open_polling();
    let mut poll = session.start_poll();
    assert!(poll.is_silent_for(MOMENT));
    let mut peer = session.second_socket();
    peer.say_at_once(["5", "4hello"]);
    assert_eq!(poll.response().text(), "6", "the poll that waited is released");
    assert_eq!(peer.hear(), heard("4hello"));
    assert_eq!(session.poll().status, 400);
    peer.say("1");
    assert_closes(&mut peer, "packet `1`");
    session.assert_closed();
}

#[test]
fn what_waits_is_flushed_without_a_probe_as_well() {
    let session = calm().open_polling();
    session.post_ok("4one\x1ebAgM=\x1e4three");
    let mut peer = session.second_socket();
    assert_eq!(peer.hear_within(MOMENT), Heard::Nothing, "the session is not here yet");
    peer.say("5");
    assert_eq!(peer.hear(), heard("4one"));
    assert_eq!(peer.hear(), Heard::Binary(vec![2, 3]));
    assert_eq!(peer.hear(), heard("4three"));
}

#[test]
fn requests_after_the_upgrade_are_refused_and_disturb_nothing() {
    let session = calm().open_polling();
    let mut peer = upgraded(&session);
    assert_eq!(session.poll().status, 400);
    assert_eq!(session.post("4by post").status, 400);
    peer.say("4still here");
    assert_eq!(peer.hear(), heard("4still here"));
}

#[test]
fn a_further_socket_after_the_upgrade_is_closed_and_disturbs_nothing() {
    let session = calm().open_polling();
    let mut peer = upgraded(&session);
    assert_second_is_refused(&session);
    peer.say("4still here");
    assert_eq!(peer.hear(), heard("4still here"));
}

#[test]
fn a_further_socket_during_the_probe_is_closed_and_disturbs_nothing() {
    let session = calm().open_polling();
    let mut peer = probe(&session);
    assert_second_is_refused(&session);
    peer.say("5");
    peer.say("4still here");
    assert_eq!(peer.hear(), heard("4still here"));
}

/// Checks that a second WebSocket is refused with an HTTP error, or closed after opening.
fn assert_second_is_refused(session: &Polling) {
    let target = session.target("websocket");
    match Peer::try_open(calm().addr, &target) {
        Ok(mut second) => assert_closes(&mut second, "a second socket"),
        Err(response) => assert_eq!(response.status, 400),
    }
}

#[test]
fn a_socket_that_probes_badly_is_dropped_and_polling_goes_on() {
    for packet in ["4hello", "abc", "2wrong", "1"] {
        let session = calm().open_polling();
        let mut peer = session.second_socket();
        peer.say(packet);
        assert_closes(&mut peer, packet);
        session.assert_echoes("4still polling");
    }
}

#[test]
fn a_socket_that_leaves_during_the_probe_is_forgotten_and_polling_goes_on() {
    let session = calm().open_polling();
    drop(probe(&session));
    std::thread::sleep(MOMENT);
    session.assert_echoes("4still polling");
    // Another attempt is possible.
    upgraded(&session);
}

#[test]
fn a_probe_that_is_never_finished_is_dropped_and_polling_goes_on() {
    let session = calm().open_polling();
    let mut peer = probe(&session);
    let start = Instant::now();
    while start.elapsed() < UPGRADE_TIMEOUT / 2 {
        session.assert_echoes("4meanwhile");
        std::thread::sleep(2 * MOMENT);
    }
    let heard = peer.hear();
    assert!(heard.is_over(), "the socket is dropped in time, heard {heard:?}");
    assert!(start.elapsed() > UPGRADE_TIMEOUT.mul_f32(0.8), "not before its time");
    session.assert_echoes("4still polling");
}

#[test]
fn the_session_ends_with_its_new_socket() {
    let session = calm().open_polling();
    let mut peer = upgraded(&session);
    peer.say("1");
    assert_closes(&mut peer, "packet `1`");
    session.assert_closed();
}
