//! Messages of M2 Realtime: how they are parsed and written.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::codec::json::Scratch;
use crate::interface::m2::nouns::channel_of;
use crate::message::{DocumentKey, Millis};

/// Parses a message and checks the result. A text that is not an object is an error of the message.
fn understood(text: &str, check: impl FnOnce(Result<Request<'_>, Fault>)) {
    let mut scratch = Scratch::default();
    match Document::from_text(text, &mut scratch) {
        Ok(document) => check(read(&document)),
        Err(_) => check(Err(Fault::Message)),
    }
}

#[test]
fn requests_are_understood() {
    use Request::{Subscribe, Unsubscribe};
    use ResourceKind::{Collection, KvStore, LiveConfig};
    let table = [
        (
            r#"{"action":"subscribe","resource":{"type":"kvStore","id":"World:kvstoreClient:testKey"}}"#,
            Subscribe(KvStore, "World:kvstoreClient:testKey"),
        ),
        (
            r#" {"resource":{"id":"public","type":"collection"},"action":"unsubscribe"} "#,
            Unsubscribe(Collection, "public"),
        ),
        (
            r#"{"action":"subscribe","resource":{"type":"liveConfig","id":"game\/\u00e9","x":1},
                "id":[{}],"y":null}"#,
            Subscribe(LiveConfig, "game/é"),
        ),
        (
            r#"{"action":"subscribe","resource":{"type":"kvStore","id":" \u0000"}}"#,
            Subscribe(KvStore, " \0"),
        ),
    ];
    for (text, expected) in table {
        understood(text, |request| assert_eq!(request, Ok(expected), "{text}"));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let subscribe = |resource: &str| format!(r#"{{"action":"subscribe","resource":{resource}}}"#);
    let action =
        |action: &str| format!(r#"{{"action":{action},"resource":{{"type":"kvStore","id":"k"}}}}"#);
    for text in [
        String::new(),
        "null".into(),
        "[]".into(),
        "\"subscribe\"".into(),
        "{".into(),
        "{}".into(),
        r#"{"action":"subscribe"}"#.into(),
        r#"{"resource":{"type":"kvStore","id":"k"}}"#.into(),
        action("null"),
        action("1"),
        action(r#""Subscribe""#),
        action(r#""publish""#),
        action(r#"["subscribe"]"#),
        subscribe("null"),
        subscribe(r#""kvStore""#),
        subscribe(r#"[{"type":"kvStore","id":"k"}]"#),
        subscribe("{}"),
        subscribe(r#"{"type":"kvStore"}"#),
        subscribe(r#"{"id":"k"}"#),
        subscribe(r#"{"type":"kvstore","id":"k"}"#),
        subscribe(r#"{"type":"","id":"k"}"#),
        subscribe(r#"{"type":null,"id":"k"}"#),
        subscribe(r#"{"type":["kvStore"],"id":"k"}"#),
        subscribe(r#"{"type":"kvStore","id":""}"#),
        subscribe(r#"{"type":"kvStore","id":7}"#),
        subscribe(r#"{"type":"kvStore","id":null}"#),
        // As printed in M2's documentation, with typographic quotes.
        subscribe("{\"type\": “liveConfig\",\"id\": “game\"}"),
    ] {
        understood(&text, |request| assert_eq!(request, Err(Fault::Message), "{text}"));
    }
}

#[test]
fn an_id_may_be_as_long_as_its_bound_and_no_longer() {
    let subscribe = |kind: &str, id: &str| {
        json!({"action": "subscribe", "resource": {"type": kind, "id": id}}).to_string()
    };
    let longest = "é".repeat(256);
    understood(&subscribe("kvStore", &longest), |request| {
        assert_eq!(request, Ok(Request::Subscribe(ResourceKind::KvStore, &longest)));
    });
    let beyond = format!("{longest}x");
    understood(&subscribe("kvStore", &beyond), |request| {
        assert_eq!(request, Err(Fault::IdTooLong));
    });
    understood(&subscribe("nothing", &beyond), |request| {
        assert_eq!(request, Err(Fault::Message));
    });
}

fn state(id: &str, user: Option<&str>, data: Option<&str>, version: Millis) -> State {
    let resource = channel_of("o/p///", ResourceKind::Collection, id);
    State {
        key: DocumentKey { resource, audience: None },
        user_id: user.map(Into::into),
        data: data.map(Into::into),
        version,
    }
}

#[test]
fn documents_look_as_in_the_original() {
    let data = r#"{"userId":"fakeUserId","datasourceId":"fakeDatasourceId","userCollection":[]}"#;
    let shown = document(&state("private", Some("fakeUserId"), Some(data), 1_706_629_842_735));
    assert_eq!(
        shown,
        format!(
            "{{\"userId\":\"fakeUserId\",\"resource\":{{\"type\":\"collection\",\
             \"id\":\"private\"}},\"data\":{data},\"version\":\"2024-01-30T15:50:42.735Z\"}}"
        )
    );
    assert_eq!(
        document(&state("a/\"b", None, None, 0)),
        r#"{"userId":null,"resource":{"type":"collection","id":"a/\"b"},"data":null,"version":"1970-01-01T00:00:00.000Z"}"#
    );
}

#[test]
fn data_is_not_touched() {
    let data = " {\"b\" : 1.0e+2,\"a\":\"\\u0061\\/\",\"a\":[ ]}\t";
    let shown = document(&state("x", None, Some(data), 1));
    assert!(shown.contains(&format!("\"data\":{data},\"version\"")), "{shown}");
}

#[test]
fn warnings_and_errors_are_as_documented() {
    let message = |title: &str| {
        format!(
            "{title} resource doesn't currently exist, subscription was still made successfully"
        )
    };
    for (kind, title) in [
        (ResourceKind::KvStore, "KVStore"),
        (ResourceKind::Collection, "Collection"),
        (ResourceKind::LiveConfig, "LiveConfig"),
    ] {
        let expected =
            format!(r#"{{"warning":"resource_not_found","message":"{}"}}"#, message(title));
        assert_eq!(not_found(kind), expected);
    }
    for (fault, text) in [
        (Fault::Message, r#"{"error":"Invalid message format"}"#),
        (Fault::IdTooLong, r#"{"error":"Resource id too long"}"#),
        (Fault::TooManySubscriptions, r#"{"error":"Too many subscriptions"}"#),
        (Fault::Overloaded, r#"{"error":"Overloaded"}"#),
        (Fault::Unavailable, r#"{"error":"Resource unavailable"}"#),
    ] {
        assert_eq!(error(fault), text);
    }
}

proptest! {
    #[test]
    fn whatever_is_in_a_document_it_is_json(
        id in ".{1,40}",
        user in proptest::option::of(".{0,40}"),
        text in ".{0,40}",
        version in 0..253_370_764_800_000_u64,
    ) {
        let data = json!({ "text": text });
        let shown = state(&id, user.as_deref(), Some(&data.to_string()), version);
        let shown: Json = serde_json::from_str(&document(&shown)).unwrap();
        let expected = json!({
            "userId": user,
            "resource": {"type": "collection", "id": id},
            "data": data,
            "version": iso_millis(version),
        });
        prop_assert_eq!(shown, expected);
    }

    #[test]
    fn ids_are_read_as_they_were_meant(id in ".{1,80}", is_subscribe in any::<bool>()) {
        let action = if is_subscribe { "subscribe" } else { "unsubscribe" };
        let text = json!({"action": action, "resource": {"type": "liveConfig", "id": id}});
        let mut scratch = Scratch::default();
        let text = text.to_string();
        let document = Document::from_text(&text, &mut scratch).unwrap();
        let kind = ResourceKind::LiveConfig;
        let expected = if is_subscribe {
            Request::Subscribe(kind, &id)
        } else {
            Request::Unsubscribe(kind, &id)
        };
        prop_assert_eq!(read(&document), Ok(expected));
    }

    #[test]
    fn no_message_panics(
        text in ".{0,80}",
        fragment in r#"\{"action":"subscribe","resource":\{("(type|id)":.{0,12},?){0,3}\}?\}"#,
    ) {
        for text in [text, fragment] {
            let mut scratch = Scratch::default();
            let Ok(document) = Document::from_text(&text, &mut scratch) else { continue };
            let _request = read(&document);
        }
    }
}
