//! The messages of M2 Realtime: JSON text messages, one object each, over a plain
//! WebSocket. [`handshake`](super::handshake) reads what a client says of itself before that.
//!
//! A client sends `{"action","resource":{"type","id"}}`, with `subscribe` or `unsubscribe` for the
//! action and `kvStore`, `collection` or `liveConfig` for the type; members beyond these are passed
//! over. A subscribe is answered with the current document of the resource, or with the warning
//! that there is none; an unsubscribe with nothing. Every update is a document, and so is a
//! deletion, with `null` for its data. A message that makes no sense is answered with an error, and
//! the connection lives on.

use super::limits::RESOURCE_BYTES_MAX;
use super::nouns::resource_of;
use crate::codec::json::push_json;
use crate::codec::json::{Document, Value};
use crate::interface::m2::nouns::ResourceKind;
use crate::message::{Document as State, iso_millis};

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// To hear of a resource, and its state now.
    Subscribe(ResourceKind, &'a str),
    /// To hear of it no longer.
    Unsubscribe(ResourceKind, &'a str),
}

/// Why a message is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It makes no sense.
    Message,
    /// The resource's id is longer than it may be.
    IdTooLong,
    /// The connection's subscriptions are at their bound.
    TooManySubscriptions,
    /// The node has no room at the moment.
    Overloaded,
    /// The state of the resource could not be read.
    Unavailable,
}

/// Reads a message.
///
/// # Errors
/// [`Fault::Message`] or [`Fault::IdTooLong`].
pub fn read<'a>(document: &Document<'a>) -> Result<Request<'a>, Fault> {
    let [action, resource] = document.object().members(&["action", "resource"]);
    let request = match action.and_then(Value::as_text).map(|action| action.value) {
        Some("subscribe") => Request::Subscribe,
        Some("unsubscribe") => Request::Unsubscribe,
        _ => return Err(Fault::Message),
    };
    let Some(Value::Object(resource)) = resource else { return Err(Fault::Message) };
    let [kind, id] = resource.members(&["type", "id"]).map(|member| member?.as_text());
    let kind = kind.and_then(|kind| ResourceKind::named(kind.value)).ok_or(Fault::Message)?;
    let id = id.filter(|id| !id.value.is_empty()).ok_or(Fault::Message)?;
    if id.value.len() > RESOURCE_BYTES_MAX {
        return Err(Fault::IdTooLong);
    }
    Ok(request(kind, id.value))
}

/// A document, for everybody who is told of it.
pub fn document(document: &State) -> String {
    let State { key, user_id, data, version } = document;
    let (kind, id) = resource_of(&key.resource).expect("a document is that of a resource");
    let data = data.as_deref().unwrap_or("null");
    let mut out = String::with_capacity(data.len() + id.len() + DOCUMENT_BYTES);
    out.push_str(r#"{"userId":"#);
    match user_id {
        Some(user) => push_json(&mut out, user),
        None => out.push_str("null"),
    }
    out.push_str(r#","resource":{"type":""#);
    out.push_str(kind.name());
    out.push_str(r#"","id":"#);
    push_json(&mut out, id);
    out.push_str(r#"},"data":"#);
    out.push_str(data);
    out.push_str(r#","version":""#);
    out.push_str(&iso_millis(*version));
    out.push_str(r#""}"#);
    out
}

/// Bytes of a document besides its data and its id, with a user of usual length.
const DOCUMENT_BYTES: usize = 160;

/// The warning that a resource has no document. It names none, as in the original.
pub fn not_found(kind: ResourceKind) -> String {
    let title = title(kind);
    format!(
        "{{\"warning\":\"resource_not_found\",\"message\":\"{title} resource doesn't currently \
         exist, subscription was still made successfully\"}}"
    )
}

/// What people call a kind of resource.
pub fn title(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::KvStore => "KVStore",
        ResourceKind::Collection => "Collection",
        ResourceKind::LiveConfig => "LiveConfig",
    }
}

/// A message was not carried out.
pub fn error(fault: Fault) -> String {
    let error = match fault {
        Fault::Message => "Invalid message format",
        Fault::IdTooLong => "Resource id too long",
        Fault::TooManySubscriptions => "Too many subscriptions",
        Fault::Overloaded => "Overloaded",
        Fault::Unavailable => "Resource unavailable",
    };
    format!(r#"{{"error":"{error}"}}"#)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::codec::json::Scratch;
    use crate::interface::m2::nouns::channel_of;
    use crate::message::{DocumentKey, Millis};

    /// What a message is taken for; one that is no object is the caller's to refuse.
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
        let subscribe =
            |resource: &str| format!(r#"{{"action":"subscribe","resource":{resource}}}"#);
        let action = |action: &str| {
            format!(r#"{{"action":{action},"resource":{{"type":"kvStore","id":"k"}}}}"#)
        };
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
            // As it is printed on the original's page, with the quotes of a word processor.
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
        let data =
            r#"{"userId":"fakeUserId","datasourceId":"fakeDatasourceId","userCollection":[]}"#;
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
}
