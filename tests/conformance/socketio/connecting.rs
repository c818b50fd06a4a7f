//! CONNECT and DISCONNECT of namespaces, on both transports.

use std::time::{Duration, Instant};

use super::{assert_echoes, brisk, calm, connect, connected, heard};
use crate::frames::{Heard, Peer};
use crate::node::CONNECT_TIMEOUT_MS;
use crate::session::{SEPARATOR, assert_closes};

/// How long a connection may be open without CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(CONNECT_TIMEOUT_MS);
const LATE: Duration = Duration::from_secs(8);

#[test]
fn the_main_namespace_connects() {
    let mut peer = calm().open_websocket();
    connect(&mut peer, "", "");
    assert_echoes(&mut peer, "hello");
}

#[test]
fn the_main_namespace_connects_with_a_payload() {
    connect(&mut calm().open_websocket(), "", r#"{"token":"123"}"#);
}

#[test]
fn a_custom_namespace_connects() {
    connect(&mut calm().open_websocket(), "/custom,", "");
}

#[test]
fn a_custom_namespace_connects_with_a_payload() {
    connect(&mut calm().open_websocket(), "/custom,", r#"{"token":"abc"}"#);
}

#[test]
fn a_namespace_needs_no_comma_when_nothing_follows() {
    let mut peer = calm().open_websocket();
    peer.say("40/custom");
    assert!(peer.hear().text().starts_with(r#"40/custom,{"sid":""#));
    assert_eq!(peer.hear(), heard(r#"42/custom,["auth",{}]"#));
}

#[test]
fn namespaces_share_a_connection_and_no_ids() {
    let mut peer = calm().open_websocket();
    let main = connect(&mut peer, "", r#"{"in":"main"}"#);
    let custom = connect(&mut peer, "/custom,", r#"{"in":"custom"}"#);
    assert_ne!(main, custom);
    peer.say(r#"42/custom,["message","there"]"#);
    peer.say(r#"42["message","here"]"#);
    assert_eq!(peer.hear(), heard(r#"42/custom,["message-back","there"]"#));
    assert_eq!(peer.hear(), heard(r#"42["message-back","here"]"#));
}

#[test]
fn an_unknown_namespace_is_refused_and_the_connection_lives() {
    let mut peer = calm().open_websocket();
    for packet in ["40/random", "40/random,", r#"40/random,{"token":"x"}"#] {
        peer.say(packet);
        assert_eq!(peer.hear(), heard(r#"44/random,{"message":"Invalid namespace"}"#), "{packet}");
    }
    connect(&mut peer, "", "");
    assert_echoes(&mut peer, "hello");
}

#[test]
fn a_connection_without_connect_is_closed() {
    let mut peer = brisk().open_websocket();
    let start = Instant::now();
    assert_closes(&mut peer, "no CONNECT");
    let took = start.elapsed();
    assert!(took > CONNECT_TIMEOUT.mul_f32(0.8), "closed after {took:?}");
    assert!(took < CONNECT_TIMEOUT + LATE, "closed after {took:?}");
}

#[test]
fn a_polling_session_without_connect_is_closed() {
    let session = brisk().open_polling();
    let start = Instant::now();
    loop {
        let response = session.poll();
        if response.status == 400 || response.text() == "1" {
            break;
        }
        assert_eq!(response.text(), "2");
        session.post_ok("3");
    }
    let took = start.elapsed();
    assert!(took > CONNECT_TIMEOUT.mul_f32(0.8), "closed after {took:?}");
    assert!(took < CONNECT_TIMEOUT + LATE, "closed after {took:?}");
    session.assert_closed();
}

#[test]
fn a_connection_that_connected_outlives_the_wait() {
    let mut peer = brisk().open_websocket();
    connect(&mut peer, "", "");
    let start = Instant::now();
    while start.elapsed() < CONNECT_TIMEOUT.mul_f32(1.5) {
        assert_eq!(peer.hear(), heard("2"));
        peer.say("3");
    }
    assert_echoes(&mut peer, "still here");
}

#[test]
fn a_client_that_leaves_the_main_namespace_keeps_the_transport() {
    let mut peer = brisk().open_websocket();
    connect(&mut peer, "", "");
    peer.say("41");
    assert_eq!(peer.hear(), heard("2"));
    peer.say("3");
    connect(&mut peer, "", "");
    assert_echoes(&mut peer, "back again");
}

#[test]
fn leaving_one_namespace_leaves_the_other_alone() {
    let mut peer = connected();
    connect(&mut peer, "/custom,", "");
    for packet in ["41/custom", r#"42["message","to the main namespace"]"#] {
        peer.say(packet);
    }
    assert_eq!(peer.hear(), heard(r#"42["message-back","to the main namespace"]"#));
    // The comma after the namespace is optional.
    connect(&mut peer, "/custom,", "");
    peer.say("41/custom,");
    assert_echoes(&mut peer, "hello");
}

#[test]
fn a_session_connects_over_polling_and_moves_to_websocket() {
    let session = calm().open_polling();
    session.post_ok(r#"40{"token":"x"}"#);
    let packets = session.packets_to(2);
    assert!(packets[0].starts_with(r#"40{"sid":""#), "{packets:?}");
    assert!(!packets[0].contains(&session.sid), "the socket's id is not the session's");
    assert_eq!(packets[1], r#"42["auth",{"token":"x"}]"#);
    let mut peer = session.second_socket();
    peer.say("2probe");
    assert_eq!(peer.hear(), heard("3probe"));
    session.post_ok(&format!(r#"42["message",1]{SEPARATOR}42["message",2]"#));
    let mut echoes = session.packets_to(1);
    peer.say("5");
    while echoes.len() < 2 {
        echoes.push(peer.hear().text());
    }
    assert_eq!(echoes, [r#"42["message-back",1]"#, r#"42["message-back",2]"#]);
    assert_echoes(&mut peer, "moved");
}

#[test]
fn a_client_disconnects_over_polling() {
    let session = calm().open_polling();
    session.post_ok("40");
    session.packets_to(2);
    session.post_ok("41");
    session.post_ok("1");
    session.assert_closed();
}

#[test]
fn a_client_that_closes_is_answered() {
    let mut peer = connected();
    peer.say("41");
    peer.send(&crate::frames::Frame::close(1000, ""));
    assert!(matches!(peer.hear(), Heard::Close(Some(1000), _)));
}

/// Runs on a node in normal mode, where leaving a namespace ends subscriptions.
#[test]
fn what_follows_a_leave_on_the_same_connection_is_read_to_its_end() {
    const ROUNDS: usize = 3_000;
    let mut peer = Peer::open(crate::node::plain(), "/socket.io/?EIO=4&transport=websocket");
    assert!(matches!(peer.hear(), Heard::Text(_)));
    let hello = format!(r#"40{{"token":"{}"}}"#, crate::support::ANON_KEY);
    peer.say_at_once([hello.as_str(), "41"].repeat(ROUNDS));
    for round in 0..ROUNDS {
        let welcome = peer.hear().text();
        assert!(welcome.starts_with(r#"40{"sid":""#), "round {round}: {welcome}");
    }
}
