//! Tests of commands: checks, answers, and waiting for a verdict.

use super::*;

#[test]
fn a_client_subscribes_publishes_and_unsubscribes() {
    let mut room = Room::new();
    let mut session = room.session();
    assert!(session.on_open(&mut room.ctx()).is_stay());
    let opening = room.sent().remove(0);
    let id = decode_id(value(&opening, "sid"), None);
    let own = SessionId { worker: WORKER, slot: 0, key: *session.key() };
    assert_eq!(id, Some((own, None)));
    room.text(&mut session, CONNECT);
    assert!(room.sent()[0].starts_with(r#"40{"sid":""#));
    room.text(&mut session, r#"421["realtime:publish",{"channel":"c","event":"e","payload":1}]"#);
    assert!(room.sent()[0].contains("REALTIME_NOT_SUBSCRIBED"));
    room.text(&mut session, r#"422["realtime:subscribe",{"channel":"c"}]"#);
    assert!(room.sent().is_empty(), "it is acknowledged when its activation comes up");
    room.take_mail(&mut session);
    assert!(room.sent()[0].starts_with(r#"432[{"ok":true,"channel":"c""#));
    room.text(&mut session, r#"423["realtime:publish",{"channel":"c","event":"e","payload":{}}]"#);
    let sent = room.sent();
    assert!(sent[0].starts_with(r#"433[{"ok":true,"messageId":"#), "{sent:?}");
    room.take_mail(&mut session);
    assert_eq!(value(&room.sent()[0], "messageId"), value(&sent[0], "messageId"));
    room.text(&mut session, r#"424["realtime:unsubscribe",{"channel":"c"}]"#);
    room.text(&mut session, r#"425["realtime:unsubscribe",{"channel":"c"}]"#);
    room.take_mail(&mut session);
    room.text(&mut session, r#"426["realtime:unsubscribe",{"channel":"c"}]"#);
    let acknowledged = [r#"434[{"ok":true}]"#, r#"435[{"ok":true}]"#, r#"436[{"ok":true}]"#];
    assert_eq!(room.sent(), acknowledged);
    room.text(&mut session, r#"427["realtime:subscribe",{"channel":"unknown"}]"#);
    assert!(room.sent()[0].contains("REALTIME_UNAUTHORIZED"));
    assert_eq!(room.local.counters.publications_socket.get(), 1);
    assert_eq!(room.local.counters.subscriptions.get(), 0);
}

#[test]
fn a_newer_credential_must_be_of_the_same_identity() {
    let mut room = Room::new();
    let mut session = room.session();
    room.text(&mut session, &user("alice", LATER, ""));
    room.sent();
    for (name, answer) in [("alice", r#""ok":true"#), ("bob", "belongs to another client")] {
        let auth = user(name, LATER + 60, "");
        room.text(&mut session, &format!(r#"421["realtime:auth",{}]"#, &auth[2..]));
        assert!(room.sent()[0].contains(answer), "{name}");
    }
    room.text(&mut session, r#"421["realtime:auth",{"token":"x"}]"#);
    assert!(room.sent()[0].contains("the previous one stays in force"));
}

fn ask(name: &str) -> Policy {
    Policy {
        name: name.into(),
        command: PolicyCommand::Select,
        roles: vec!["public".into()],
        using: Some("channel_name() = 'c'".into()),
        with_check: None,
    }
}

#[test]
fn commands_wait_for_a_verdict_in_their_order() {
    let permissions = Permissions { subscribe: vec![ask("p")], publish: Vec::new() };
    let mut room = Room::with(permissions);
    let mut session = room.session();
    room.text(&mut session, &user("alice", LATER, ""));
    room.sent();
    room.text(&mut session, r#"421["realtime:subscribe",{"channel":"c"}]"#);
    room.text(&mut session, r#"422["realtime:publish",{"channel":"c","event":"e","payload":1}]"#);
    room.text(&mut session, r#"423["realtime:nothing"]"#);
    assert!(room.sent().is_empty());
    assert_eq!(room.local.counters.commands_waiting.get(), 3);
    let question = room.inboxes.policies.try_recv().expect("the policies are asked");
    let verdict = Verdict { question, judgement: Judgement::Allowed };
    room.shared.broker.mailboxes.workers.of(WORKER).answer(Mail::Verdict(Box::new(verdict)));
    room.take_mail(&mut session);
    let sent = room.sent();
    let starts = [r#"432[{"ok":true"#, r#"433[{"ok":false"#, r#"431[{"ok":true"#, "42["];
    assert_eq!(sent.len(), starts.len(), "{sent:?}");
    assert!(sent.iter().zip(starts).all(|(text, start)| text.starts_with(start)), "{sent:?}");
    assert_eq!(room.local.counters.commands_waiting.get(), 0);

    room.text(&mut session, r#"424["realtime:subscribe",{"channel":"c2"}]"#);
    assert_eq!(room.local.counters.commands_waiting.get(), 1);
    room.end(&mut session, Reason::Client);
    assert_eq!(room.local.counters.commands_waiting.get(), 0);
}
