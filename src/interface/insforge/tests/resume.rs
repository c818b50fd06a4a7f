//! Tests of resuming sessions.

use super::*;

/// Lets a client subscribe to `c`, and ends its connection if `is_noticed`. Returns its session,
/// and the CONNECT packet with which it asks to resume that.
fn cut(room: &mut Room, is_noticed: bool) -> (Session, String) {
    let mut session = room.session();
    room.text(&mut session, &user("alice", LATER, ""));
    room.text(&mut session, r#"42["realtime:subscribe",{"channel":"c"}]"#);
    room.take_mail(&mut session);
    let sent = room.sent();
    let more = format!(r#","pid":"{}""#, value(&sent[0], "pid"));
    if is_noticed {
        room.end(&mut session, Reason::Client);
    }
    (session, user("alice", LATER, &more))
}

fn publish(room: &mut Room, session: &mut Session) {
    let text = r#"42["realtime:publish",{"channel":"c","event":"missed","payload":{}}]"#;
    room.text(session, text);
}

#[test]
fn a_client_that_was_cut_resumes() {
    let mut room = Room::new();
    let (old, connect) = cut(&mut room, true);
    let mut other = room.reconnect();
    room.text(&mut other, CONNECT);
    room.text(&mut other, r#"42["realtime:subscribe",{"channel":"c"}]"#);
    publish(&mut room, &mut other);
    room.take_mail(&mut other);
    room.end(&mut other, Reason::Protocol);

    let mut session = room.reconnect();
    room.text(&mut session, &connect);
    assert!(room.sent().is_empty(), "its CONNECT is answered when it hears its channels");
    assert!(room.try_text(&mut session, &connect).is_err());
    room.take_mail(&mut session);
    let sent = room.sent();
    assert_eq!(value(&sent[0], "pid"), value(&connect, "pid"));
    assert!(sent[1].contains("missed") && sent[2].contains("presence:sync"), "{sent:?}");
    let members = [old.subscriber(room.id), session.subscriber(room.id)];
    let members = members.map(|subscriber| subscriber.expect("it has entered").member);
    assert_eq!(members[0], members[1]);
    publish(&mut room, &mut session);
    room.take_mail(&mut session);
    assert!(room.sent()[0].contains("missed"));
    assert_eq!(room.local.counters.recovered.get(), 1);
    assert_eq!(room.local.counters.recovered_publications.get(), 1);
}

#[test]
fn a_resuming_client_displaces_its_older_connection_and_no_other() {
    for is_theirs in [true, false] {
        let mut room = Room::new();
        let (mut old, connect) = cut(&mut room, false);
        let older = (room.id, std::mem::replace(&mut room.link, link()));
        let mut session = room.reconnect();
        let next = room.try_text(&mut session, &connect).unwrap();
        let Next::Displace { old: displaced, resuming } = next else { panic!("{next:?}") };
        assert_eq!(displaced, older.0);
        assert!(old.holds(&resuming.credential) && !session.holds(&resuming.credential));
        let newer = (room.id, std::mem::replace(&mut room.link, older.1));
        room.id = older.0;
        room.end(&mut old, Reason::Client);
        (room.id, room.link) = newer;
        displace(&mut room, &mut session, &resuming, is_theirs);
        room.take_mail(&mut session);
        let is_same = value(&room.sent()[0], "pid") == value(&connect, "pid");
        assert_eq!(is_same, is_theirs);
        let counters = &room.local.counters;
        let counted = (counters.recovered.get(), counters.not_recovered.get());
        assert_eq!(counted, (u64::from(is_theirs), u64::from(!is_theirs)));
    }
}

fn displace(room: &mut Room, session: &mut Session, resuming: &Resuming, is_theirs: bool) {
    assert!(session.on_displaced(&mut room.ctx(), resuming, is_theirs).is_stay());
}

#[test]
fn a_session_that_cannot_be_resumed_is_begun_anew() {
    let mut room = Room::new();
    let (_, connect) = cut(&mut room, true);
    let policies = room.shared.broker.policies.load().replaced_by(Permissions::default());
    room.shared.broker.policies.store(Arc::new(policies));
    let mut session = room.reconnect();
    room.text(&mut session, &connect);
    assert_ne!(value(&room.sent()[0], "pid"), value(&connect, "pid"));
    assert_eq!(room.local.counters.not_recovered.get(), 1);
    assert_eq!(room.shared.broker.directory.channels(), 0);

    let mut stranger = room.reconnect();
    let auth = &connect[2..];
    assert!(stranger.on_stayed(&mut room.ctx(), auth).is_stay());
    assert!(room.sent()[0].starts_with("40"));
    assert_eq!(room.local.counters.not_recovered.get(), 2);
}
