//! Messages of Forge Realtime: how they are parsed and written.

use proptest::prelude::*;
use serde_json::json;

use super::messages::EVENT_BYTES;
use super::*;
use crate::codec::json::{Document, Scratch};
use crate::interface::forge::nouns::{OVERRIDES_PROBLEM, TokenError};
use crate::message::{Channel, Content, MessageId, Publication, ReplayWish, Reply, Snapshot};

const EVENT: &str = "0190163d-8694-7000-8000-000000000001";

/// Returns a description of a parsed message.
fn understood(text: &str) -> String {
    let mut scratch = Scratch::default();
    let Ok(document) = Document::from_text(text, &mut scratch) else {
        return "no object".into();
    };
    let Said { id, request } = read(&document);
    let request = match request {
        Ok(Request::Connect(token)) => format!("connect {token}"),
        Ok(Request::Unsubscribe(topic)) => format!("unsubscribe {topic}"),
        Ok(Request::Subscribe { to, replay: ReplayWish { seconds, after, .. } }) => {
            format!("subscribe {} {seconds} {after:?}", described(&to))
        }
        Ok(Request::Publish { to, payload, .. }) => {
            format!("publish {} {}", described(&to), payload.raw())
        }
        Err(fault) => format!("{fault:?}"),
    };
    format!("{id:?} {request}")
}

fn described(to: &Target<'_>) -> String {
    let Target { channel, is_global, token, overrides } = to;
    format!("{channel} {is_global} {token:?} {overrides:?}")
}

#[test]
fn requests_are_understood() {
    let table = [
        (
            r#"{"type":"connect","id":1,"contextToken":"t","else":123456789012345678901234567890}"#,
            "Some(1) connect t",
        ),
        (r#"{"id":0,"type":"unsubscribe","topic":"q"}"#, "Some(0) unsubscribe q"),
        (
            r#"{"type":"subscribe","id":2,"channel":"c"}"#,
            "Some(2) subscribe c false None None 0 None",
        ),
        (
            r#"{"type":"subscribe","id":2,"channel":"c","global":true,"options":
                {"token":"","contextOverrides":["nothing"],"replaySeconds":0.2}}"#,
            "Some(2) subscribe c true None None 1 None",
        ),
        (
            r#"{"type":"subscribe","id":9007199254740991,"channel":"c","global":null,"options":
                {"token":"t","contextOverrides":["issue","board","issue"],"replaySeconds":1e99}}"#,
            "Some(9007199254740991) subscribe c false Some(\"t\") Some([Issue, Board]) \
             4294967295 None",
        ),
        (
            r#"{"type":"publish","id":4,"channel":"c","payload":"\u0061\/ 1e400","options":null}"#,
            r#"Some(4) publish c false None None "\u0061\/ 1e400""#,
        ),
    ];
    for (text, expected) in table {
        assert_eq!(understood(text), expected, "{text}");
    }
    let after =
        format!(r#"{{"type":"subscribe","id":1,"channel":"c","options":{{"after":"{EVENT}"}}}}"#);
    let expected = format!("Some(1) subscribe c false None None 0 Some({EVENT})");
    assert_eq!(understood(&after), expected);
}

#[test]
fn what_makes_no_sense_is_said_to() {
    for text in [
        "{}",
        r#"{"type":"connect","contextToken":"t"}"#,
        r#"{"type":"connect","id":-1,"contextToken":"t"}"#,
        r#"{"type":"connect","id":1.5,"contextToken":"t"}"#,
        r#"{"type":"connect","id":9007199254740992,"contextToken":"t"}"#,
        r#"{"type":"connect","id":"1","contextToken":"t"}"#,
    ] {
        assert_eq!(understood(text), "None Message", "{text}");
    }
    for text in [r#"{"id":1}"#, r#"{"id":1,"type":5}"#, r#"{"id":1,"type":"Connect"}"#] {
        assert_eq!(understood(text), "Some(1) Message", "{text}");
    }
    for (members, problem) in [
        (r#""type":"connect""#, "contextToken: Expected string"),
        (r#""type":"unsubscribe","topic":1"#, "topic: Expected string"),
        (r#""type":"subscribe""#, "channel: Expected string"),
        (r#""type":"publish","channel":"c""#, "payload: Expected string"),
        (r#""type":"publish","channel":"c","payload":{}"#, "payload: Expected string"),
        (r#""type":"subscribe","channel":"c","global":1"#, "global: Expected boolean"),
        (r#""type":"subscribe","channel":"c","options":[]"#, "options: Expected object"),
        (
            r#""type":"subscribe","channel":"c","options":{"contextOverrides":"issue"}"#,
            OVERRIDES_PROBLEM,
        ),
        (
            r#""type":"subscribe","channel":"c","options":{"contextOverrides":null}"#,
            OVERRIDES_PROBLEM,
        ),
        (
            r#""type":"subscribe","channel":"c","options":{"replaySeconds":-1}"#,
            "replaySeconds: Expected a number, 0 or more",
        ),
        (
            r#""type":"subscribe","channel":"c","options":{"after":"x"}"#,
            "after: Expected the id of an event",
        ),
    ] {
        let expected = format!("Some(1) Input({problem:?})");
        assert_eq!(understood(&format!(r#"{{"id":1,{members}}}"#)), expected, "{members}");
    }
}

fn publication(payload: &str) -> Publication {
    let id = MessageId::try_parse(EVENT).expect("it is one");
    let content = Content::Event { payload: payload.into() };
    Publication::new(id, Channel::topic("Qm3"), 1_719_999_999_999, content)
}

#[test]
fn an_event_is_as_documented() {
    let live = event(&publication(r#""{\"a\":1}""#), r#""{\"a\":1}""#, None);
    let rest = r#""eventTimestamp":"1719999999999","payload":"{\"a\":1}"}"#;
    let expected = format!(r#"{{"type":"event","topic":"Qm3","eventId":"{EVENT}",{rest}"#);
    assert_eq!(live, expected);
    assert!(live.len() <= EVENT_BYTES, "no second allocation");
    let again = event(&publication(r#""x""#), r#""x""#, Some(2));
    assert!(again.starts_with(r#"{"type":"event","topic":"Qm3","replay":2,"eventId":"#));
}

#[test]
fn answers_are_as_documented() {
    let subscribed = |last| Reply::Subscribed {
        channel: Channel::topic("Qm3"),
        presence: std::sync::Arc::<Snapshot>::default(),
        present: 0,
        last,
    };
    let id = MessageId::try_parse(EVENT).expect("it is one");
    let table = [
        (
            reply(&subscribed(None), Some(2)),
            json!({ "type": "subscribed", "id": 2, "topic": "Qm3", "last": null }),
        ),
        (
            reply(&subscribed(Some(id)), Some(2)),
            json!({ "type": "subscribed", "id": 2, "topic": "Qm3", "last": EVENT }),
        ),
        (reply(&Reply::Unsubscribed, Some(5)), json!({ "type": "unsubscribed", "id": 5 })),
        (
            Some(published(Some(4), Some((id, 17)))),
            json!({ "type": "published", "id": 4, "eventId": EVENT, "eventTimestamp": "17" }),
        ),
        (
            Some(published(Some(4), None)),
            json!({ "type": "published", "id": 4, "eventId": null, "eventTimestamp": null }),
        ),
        (
            Some(connected(None, [0; 9], 1_719_999_999, (5, 60))),
            json!({ "type": "connected", "connectionId": "AAAAAAAAAAAA", "expiresAt": 1_719_999_999, "replaySeconds": 60, "node": "0000000000000005" }),
        ),
        (
            Some(error(Some(2), &Fault::Token(TokenError::Expired))),
            json!({ "type": "error", "id": 2, "error": {
                "message": "Realtime token validation failed: TOKEN_EXPIRED",
                "code": "TOKEN_EXPIRED",
            } }),
        ),
        (
            Some(gap(&Channel::topic("Qm3"), Some(7))),
            json!({ "type": "subscription_error", "topic": "Qm3", "error": {
                "message": "7 events were lost", "code": "GAP",
            } }),
        ),
    ];
    for (text, expected) in table {
        let text = text.expect("there is something to say");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), expected);
    }
    assert_eq!(reply(&Reply::Unsubscribed, None), None, "nobody asked");
}

proptest! {
    #[test]
    fn a_payload_arrives_as_it_was_sent(payload: String) {
        let raw = serde_json::to_string(&payload).expect("text is JSON");
        let message = format!(r#"{{"type":"publish","id":1,"channel":"c","payload": {raw} }}"#);
        let mut scratch = Scratch::default();
        let document = Document::from_text(&message, &mut scratch).expect("it is an object");
        let Ok(Request::Publish { payload: read, .. }) = read(&document).request else {
            panic!("{message}");
        };
        prop_assert_eq!(read.raw(), &raw);
        let text = event(&publication(&raw), read.raw(), None);
        let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(event["payload"].as_str(), Some(&*payload));
    }
}
