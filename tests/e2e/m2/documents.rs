//! Documents over HTTP: written, read and deleted, each time with a later version.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use super::app::{
    call, delete, frame, is_version, path, place, put, put_text, service, user, written,
};
use super::listener::Listener;
use crate::support::{API_KEY, Node, Response};
use crate::tcp::{Tcp, request};

const KEY: (&str, &str) = ("kvStore", "World:kvstoreClient:testKey");
const PRIVATE: (&str, &str) = ("collection", "private");
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Sends a request about a resource as a back end.
pub(crate) fn at(
    method: &str,
    (kind, id): (&str, &str),
    query: &str,
    body: &str,
    node: &Node,
) -> Response {
    let path = format!("{}{query}", path(kind, id));
    call(node, (method, &path), &service(place()), body)
}

/// Returns the date `ahead_ms` milliseconds from now.
pub(crate) fn date(ahead_ms: i64) -> String {
    let now = jiff::Timestamp::now().as_millisecond();
    let date = jiff::Timestamp::from_millisecond(now + ahead_ms).expect("it is a date");
    format!("{date:.3}")
}

/// Checks status and code of a refusal, and returns its message.
pub(crate) fn refusal(response: &Response, status: u16, error: &str) -> String {
    let body = response.json();
    let message = body["message"].as_str().unwrap_or_default().to_owned();
    let mut expected = json!({ "error": error, "message": message, "statusCode": status });
    if let Some(more) = body.get("nextActions") {
        expected["nextActions"] = more.clone();
    }
    assert_eq!((response.status, &body), (status, &expected));
    message
}

#[test]
fn a_document_is_written_looked_at_and_deleted() {
    let node = Node::start();
    let missing = refusal(&at("GET", KEY, "", "", &node), 404, "NOT_FOUND");
    assert_eq!(missing, "KVStore resource doesn't currently exist");
    refusal(&at("DELETE", KEY, "", "", &node), 404, "NOT_FOUND");
    let first = put(&node, &place(), KEY, &json!({ "data": { "a": 1 }, "userId": "author" }));
    assert_eq!(
        at("GET", KEY, "", "", &node).line(),
        frame(Some("author"), KEY, r#"{"a":1}"#, &first)
    );
    let second = put(&node, &place(), KEY, &json!({ "data": [], "userId": null }));
    let found = at("GET", KEY, "", "", &node);
    assert_eq!(found.line(), frame(None, KEY, "[]", &second));
    let kind = found.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/json"), "{kind}");
    assert_eq!(head(&node), (200, Some(found.text().len())));
    let third = delete(&node, &place(), KEY, "");
    assert_eq!(head(&node).0, 404);
    refusal(&at("GET", KEY, "", "", &node), 404, "NOT_FOUND");
    refusal(&at("DELETE", KEY, "", "", &node), 404, "NOT_FOUND");
    let fourth = put(&node, &place(), KEY, &json!({ "data": 0 }));
    assert!(first < second && second < third && third < fourth);
    for (kind, title) in [("collection", "Collection"), ("liveConfig", "LiveConfig")] {
        let missing = refusal(&at("GET", (kind, "x"), "", "", &node), 404, "NOT_FOUND");
        assert_eq!(missing, format!("{title} resource doesn't currently exist"));
    }
}

/// Returns status and `Content-Length` of the answer to HEAD.
fn head(node: &Node) -> (u16, Option<usize>) {
    let target = format!("HEAD {} HTTP/1.1", path(KEY.0, KEY.1));
    let key = format!("x-api-key: {API_KEY}");
    let head = [&target, "x-m2-organization: testOrg", "x-m2-project: testProj", &key];
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
    tcp.send(request(&head, ""));
    let answer = tcp.response_to("HEAD");
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    assert!(tcp.is_silent_for(Duration::from_millis(50)), "there is no body");
    (answer.status, length)
}

#[test]
fn versions_rise_whatever_their_writers_say() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    listener.subscribe_early(KEY.0, KEY.1);
    let mut versions: Vec<String> =
        (0..50).map(|number| put(&node, &place(), KEY, &json!({ "data": number }))).collect();
    // Writers may give versions that are later than the last, even ahead of the clock.
    for version in [date(1_000), date(23 * HOUR_MS)] {
        let body = json!({ "data": 1, "version": version });
        assert_eq!(put(&node, &place(), KEY, &body), version);
        versions.push(version);
    }
    for number in 0..5 {
        versions.push(put(&node, &place(), KEY, &json!({ "data": number })));
    }
    assert!(versions.iter().all(|version| is_version(version)));
    assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
    for expected in &versions {
        assert!(listener.hear().ends_with(&format!(r#","version":"{expected}"}}"#)));
    }
    listener.is_answered();
}

#[test]
fn a_write_that_comes_late_is_dropped_and_told_so() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    listener.subscribe_early(KEY.0, KEY.1);
    let version = date(-10_000);
    put(&node, &place(), KEY, &json!({ "data": "kept", "version": version }));
    let kept = frame(None, KEY, "\"kept\"", &version);
    assert_eq!(listener.hear(), kept);
    for late in [version.clone(), date(-20_000), "1970-01-01T00:00:00.000Z".into()] {
        let write = json!({ "data": "late", "version": late }).to_string();
        let deletion = json!({ "version": late }).to_string();
        let by_query = format!("?version={late}");
        let table = [("PUT", "", &*write), ("DELETE", "", &*deletion), ("DELETE", &by_query, "")];
        for (method, query, body) in table {
            let response = at(method, KEY, query, body, &node);
            let answer = response.json();
            assert_eq!((response.status, &answer["error"]), (409, &json!("STALE_VERSION")));
            assert_eq!((&answer["version"], &answer["statusCode"]), (&json!(version), &json!(409)));
            assert!(answer["message"].is_string(), "{answer}");
        }
    }
    assert_eq!(at("GET", KEY, "", "", &node).line(), kept);
    assert_eq!(node.metric("fanfare_documents_stale_total"), 9);
    // The version of a deletion counts as well.
    let gone = date(-5_000);
    let deletion = json!({ "version": gone }).to_string();
    assert_eq!(delete(&node, &place(), KEY, &deletion), gone);
    let body = json!({ "data": "late", "version": version }).to_string();
    assert_eq!(at("PUT", KEY, "", &body, &node).json()["version"], gone);
    assert_eq!(at("DELETE", KEY, &format!("?version={version}"), "", &node).status, 409);
    assert_eq!(at("DELETE", KEY, "", "", &node).status, 404);
    let again = put(&node, &place(), KEY, &json!({ "data": "again" }));
    for expected in [frame(None, KEY, "null", &gone), frame(None, KEY, "\"again\"", &again)] {
        assert_eq!(listener.hear(), expected);
    }
    listener.is_answered();
}

#[test]
fn a_deletion_is_told_and_what_comes_again_as_well() {
    let telling = Node::start();
    let silent = Node::with_env(&[("FANFARE_M2_NOTIFY_DELETES", "false")]);
    for (node, tells) in [(&telling, true), (&silent, false)] {
        let mut listener = Listener::connect(node, &service(place()));
        put(node, &place(), KEY, &json!({ "data": 1, "userId": "author" }));
        listener.subscribe(KEY.0, KEY.1);
        for number in 0..3 {
            let deleted = delete(node, &place(), KEY, "");
            if tells {
                assert_eq!(listener.hear(), frame(None, KEY, "null", &deleted));
            }
            let mut later = Listener::connect(node, &service(place()));
            later.subscribe_early(KEY.0, KEY.1);
            listener.subscribe_early(KEY.0, KEY.1);
            let version = put(node, &place(), KEY, &json!({ "data": number }));
            let expected = frame(None, KEY, &number.to_string(), &version);
            assert_eq!([listener.hear(), later.hear()], [expected.clone(), expected]);
        }
        let by = delete(node, &place(), KEY, r#"{"userId":"who"}"#);
        if tells {
            assert_eq!(listener.hear(), frame(Some("who"), KEY, "null", &by));
        }
        listener.is_answered();
    }
}

#[test]
fn a_user_has_documents_of_its_own_beside_the_shared_one() {
    let node = Node::start();
    let own = json!({ "userId": "u v", "audience": "user", "data": "own" });
    let shared = put(&node, &place(), KEY, &json!({ "userId": "u v", "data": "shared" }));
    let own = put(&node, &place(), KEY, &own);
    let query = "?userId=u%20v&audience=user";
    let get = |query: &str| at("GET", KEY, query, "", &node).line().to_owned();
    assert_eq!(get(""), frame(Some("u v"), KEY, "\"shared\"", &shared));
    assert_eq!(get("?audience=shared&userId=x"), get(""));
    assert_eq!(get(query), frame(Some("u v"), KEY, "\"own\"", &own));
    refusal(&at("GET", KEY, "?userId=x&audience=user", "", &node), 404, "NOT_FOUND");
    for bad in ["?audience=user", "?audience=all&userId=u", "?userId=%00&audience=user"] {
        refusal(&at("GET", KEY, bad, "", &node), 400, "INVALID_INPUT");
        refusal(&at("DELETE", KEY, bad, "", &node), 400, "INVALID_INPUT");
    }
    let mut listener = Listener::connect(&node, &user(place(), "u v"));
    let mut told = vec![listener.subscribe(KEY.0, KEY.1), listener.hear()];
    told.sort();
    assert_eq!(told, [get(query), get("")], "both are told");
    // Each of the two documents is deleted alone, by a query or by a body.
    let deleted = written(&at("DELETE", KEY, query, "", &node));
    assert_eq!(listener.hear(), frame(Some("u v"), KEY, "null", &deleted));
    assert_eq!(at("GET", KEY, query, "", &node).status, 404);
    assert_eq!(listener.subscribe(KEY.0, KEY.1), get(""), "one is left");
    let body = r#"{"audience":"shared","userId":null}"#;
    let deleted = delete(&node, &place(), KEY, body);
    assert_eq!(listener.hear(), frame(None, KEY, "null", &deleted));
    listener.subscribe_early(KEY.0, KEY.1);

    for (id, audience) in [("private", None), ("private", Some("user")), ("x", Some("user"))] {
        let mut body = json!({ "userId": "u v", "data": 1 });
        if let Some(audience) = audience {
            body["audience"] = json!(audience);
        }
        let version = put(&node, &place(), ("collection", id), &body);
        let found = at("GET", ("collection", id), "?userId=u%20v&audience=user", "", &node);
        assert_eq!(found.line(), frame(Some("u v"), ("collection", id), "1", &version));
    }
    assert_eq!(at("GET", PRIVATE, "", "", &node).status, 400);
}

#[test]
fn a_write_is_as_safe_as_it_is_told_to_be() {
    let node = Node::start();
    let table = [
        ("", "stored"),
        ("?durability=memory", "stored"),
        ("?durability=stored", "stored"),
        ("?durability=synced", "synced"),
        ("?durability=synced&", "synced"),
    ];
    for (query, level) in table {
        // In a cluster, NATS decides when to sync.
        let level = if node.is_three() { "stored" } else { level };
        for (method, body) in [("PUT", r#"{"data":1}"#), ("DELETE", "")] {
            let answer = at(method, KEY, query, body, &node);
            let json: Value = answer.json();
            assert_eq!((answer.status, &json["durability"]), (200, &json!(level)), "{query}");
            let expected = format!(r#"{{"version":{},"durability":"{level}"}}"#, json["version"]);
            assert_eq!(answer.line(), expected);
        }
    }
    put_text(&node, &place(), KEY, r#"{"data":1}"#);
}
