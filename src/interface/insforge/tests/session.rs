//! Tests of packets and deadlines that open, renew or end a session.

use super::*;

#[test]
fn a_session_may_go_to_another_thread() {
    fn moves<T: Send>(_: &T) {}
    moves(&Room::new().session());
}

#[test]
fn what_breaks_the_protocol_is_a_violation() {
    let mut room = Room::new();
    let mut session = room.session();
    for text in ["", "9", "2", "5", "4", r#"42["realtime:subscribe",{"channel":"c"}]"#, "430[]"] {
        assert!(room.try_text(&mut session, text).is_err(), "{text}");
    }
    assert!(session.on_binary(&mut room.ctx(), b"unannounced").is_err());
    room.text(&mut session, "40/other,");
    assert!(room.sent()[0].contains("Invalid namespace"));
    room.text(&mut session, r#"40{"apiKey":"wrong"}"#);
    assert_eq!(
        room.sent(),
        [
            r#"44{"message":"Invalid API key","data":{"code":"API_KEY_INVALID","message":"the API key is not that of this node"}}"#
        ]
    );
    room.text(&mut session, CONNECT);
    assert!(room.try_text(&mut session, CONNECT).is_err());
    room.text(&mut session, r#"451-["realtime:subscribe",{"channel":{"_placeholder":true}}]"#);
    assert!(room.try_text(&mut session, "430[]").is_err());
    assert!(room.try_text(&mut session, "6").unwrap().is_stay());
    let closed = room.try_text(&mut session, "1").unwrap();
    assert!(is_closed(&closed, Reason::Client));
}

#[test]
fn a_client_that_leaves_the_namespace_may_enter_again() {
    let mut room = Room::new();
    let mut session = room.session();
    room.text(&mut session, CONNECT);
    room.text(&mut session, r#"42["realtime:subscribe",{"channel":"c"}]"#);
    room.pass(10);
    assert!(matches!(room.try_text(&mut session, "41").unwrap(), Next::Renew));
    assert!(room.try_text(&mut session, "41").unwrap().is_stay());
    assert_eq!(room.shared.broker.directory.channels(), 0);
    assert!(room.link.resume().is_none() && session.subscriber(room.id).is_none());
    let deadline = session.deadline(room.now, &room.shared);
    assert_eq!(deadline, TIMINGS.ping_interval_ms.min(10 + TIMINGS.connect_timeout_ms));
    room.text(&mut session, CONNECT);
    assert!(room.link.resume().is_some());
}

#[test]
fn time_pings_a_client_and_ends_it() {
    let mut room = Room::new();
    let mut session = room.session();
    room.pass(TIMINGS.ping_interval_ms);
    assert!(session.on_deadline(&mut room.ctx()).is_stay());
    assert_eq!(room.sent(), ["2"]);
    room.text(&mut session, "3");
    room.pass(TIMINGS.connect_timeout_ms - TIMINGS.ping_interval_ms);
    assert!(is_closed(&session.on_deadline(&mut room.ctx()), Reason::ConnectTimeout));

    let mut session = room.reconnect();
    room.text(&mut session, &user("alice", room.now.wall_seconds() + 5, ""));
    let deadline = session.deadline(room.now, &room.shared);
    assert_eq!(deadline, room.now.monotonic() + 5_000);
    room.pass(5_000);
    room.sent();
    assert!(is_closed(&session.on_deadline(&mut room.ctx()), Reason::Expired));
    assert!(room.sent()[0].contains("TOKEN_EXPIRED"));

    let mut session = room.reconnect();
    room.text(&mut session, CONNECT);
    room.pass(TIMINGS.ping_interval_ms + TIMINGS.ping_timeout_ms);
    assert!(is_closed(&session.on_deadline(&mut room.ctx()), Reason::PingTimeout));
}

#[test]
fn sessions_of_conformance_suites_echo() {
    let mut room = Room::new();
    let now = room.now;
    let mut echo =
        Session::websocket(App::EngineIoConformance, now, &TIMINGS, &mut room.local.random);
    room.text(&mut echo, "4hello");
    assert!(echo.on_binary(&mut room.ctx(), b"bytes").unwrap().is_stay());
    assert_eq!(room.sent(), ["4hello", "bytes"]);
    assert_eq!(echo.deadline(now, &room.shared), TIMINGS.ping_interval_ms);

    let app = App::SocketIoConformance;
    let mut suite = Session::websocket(app, now, &TIMINGS, &mut room.local.random);
    assert!(room.try_text(&mut suite, r#"42["message",1]"#).is_err());
    room.text(&mut suite, "40/custom,");
    room.text(&mut suite, r#"42/custom,["message",1]"#);
    room.text(&mut suite, r#"451-/custom,["message",{"_placeholder":true,"num":0}]"#);
    assert!(suite.on_binary(&mut room.ctx(), b"bytes").unwrap().is_stay());
    let sent = room.sent();
    assert!(sent[0].starts_with(r#"40/custom,{"sid":""#));
    let expected = [
        r#"42/custom,["auth",{}]"#,
        r#"42/custom,["message-back",1]"#,
        r#"451-/custom,["message-back",{"_placeholder":true,"num":0}]"#,
        "bytes",
    ];
    assert_eq!(sent[1..], expected);
    assert!(room.try_text(&mut suite, "41/custom,").unwrap().is_stay());
    assert!(room.try_text(&mut suite, r#"42/custom,["message",1]"#).is_err());
    room.pass(TIMINGS.connect_timeout_ms);
    assert!(is_closed(&suite.on_deadline(&mut room.ctx()), Reason::ConnectTimeout));
}
