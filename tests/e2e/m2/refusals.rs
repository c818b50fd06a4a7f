//! Invalid writes, and requests to paths that do not exist.

use serde_json::json;

use super::app::{call, frame, path, place, put, service};
use super::documents::{HOUR_MS, at, date, refusal};
use crate::support::{API_KEY, Node};

const KEY: (&str, &str) = ("kvStore", "World:kvstoreClient:testKey");
const PRIVATE: (&str, &str) = ("collection", "private");

#[test]
fn a_write_that_makes_no_sense_is_told_why_and_not_done() {
    let node = Node::start();
    let long = "x".repeat(256);
    let table = [
        (KEY, "", "Required".to_owned()),
        (KEY, r#"{"data":1,"else":1}"#, "Unrecognized key(s) in object: 'else'".into()),
        (KEY, r#"{"data":1,"userid":"u","audience":"user"}"#, "Unrecognized key(s)".into()),
        (KEY, "{}", "data: Required".into()),
        (KEY, "nonsense", String::new()),
        (KEY, "[1]", "Expected object, received array".into()),
        (KEY, "{\"data\":1}x", String::new()),
        (KEY, "{\"data\":01}", String::new()),
        (KEY, "{\"data\":\"\u{1}\"}", String::new()),
        (KEY, r#"{"data":null}"#, "data: ".into()),
        (KEY, r#"{"data":1,"userId":1}"#, "userId: Expected string".into()),
        (KEY, r#"{"data":1,"userId":"a\n"}"#, "userId: it has control".into()),
        (KEY, &format!(r#"{{"data":1,"userId":"{long}"}}"#), "userId: it has more than 255".into()),
        (KEY, r#"{"data":1,"audience":"all"}"#, "audience: Invalid enum value".into()),
        (KEY, r#"{"data":1,"audience":7}"#, "audience: Expected string".into()),
        (KEY, r#"{"data":1,"audience":"user"}"#, "userId: Required".into()),
        (KEY, r#"{"data":1,"audience":"user","userId":""}"#, "userId: Required".into()),
        (PRIVATE, r#"{"data":1}"#, "userId: Required".into()),
        (PRIVATE, r#"{"data":1,"audience":"shared","userId":"u"}"#, "audience: ".into()),
        (KEY, r#"{"data":1,"version":1706629835742}"#, "version: Expected string".into()),
        (KEY, r#"{"data":1,"version":""}"#, "version: Expected a date".into()),
        (KEY, r#"{"data":1,"version":"2024-01-30"}"#, "version: Expected a date".into()),
        (KEY, r#"{"data":1,"version":"2024-01-30T15:50:35Z"}"#, "version: Expected".into()),
        (KEY, r#"{"data":1,"version":"2024-01-30T15:50:35.7425Z"}"#, "version: ".into()),
        (KEY, r#"{"data":1,"version":"2024-01-30T15:50:35.742+01:00"}"#, "version: ".into()),
        (KEY, r#"{"data":1,"version":"2024-02-30T15:50:35.742Z"}"#, "version: Expected".into()),
        (
            KEY,
            &format!(r#"{{"data":1,"version":"{}"}}"#, date(25 * HOUR_MS)),
            "version: It is more than 24 hours ahead".into(),
        ),
    ];
    for (resource, body, expected) in table {
        let told = refusal(&at("PUT", resource, "", body, &node), 400, "INVALID_INPUT");
        assert!(told.starts_with(&expected) && !told.is_empty(), "{body}: {told}");
    }
    let not_text = node.request(
        "PUT",
        &path(KEY.0, KEY.1),
        &[("x-api-key", API_KEY), ("x-m2-organization", "testOrg"), ("x-m2-project", "testProj")],
        b"{\"data\":\"\xff\"}",
    );
    refusal(&not_text, 400, "INVALID_INPUT");
    // A parameter in the wrong place or misspelt must not count as left out.
    for query in ["?durability=forever", "?durabilty=synced", "?userId=u", "?version=x"] {
        refusal(&at("PUT", KEY, query, r#"{"data":1}"#, &node), 400, "INVALID_INPUT");
    }
    for (query, body) in [("?userId=u", r#"{"userId":"u"}"#), ("", r#"{"data":1}"#), ("?x=y", "")] {
        refusal(&at("DELETE", KEY, query, body, &node), 400, "INVALID_INPUT");
    }
    refusal(&at("GET", KEY, "?audiance=user", "", &node), 400, "INVALID_INPUT");
    let body = format!(r#"{{"data":"{}"}}"#, "x".repeat(1_100_000));
    assert_eq!(at("PUT", KEY, "", &body, &node).status, 413);
    for resource in [KEY, PRIVATE] {
        let found = at("GET", resource, "?userId=u", "", &node);
        assert_eq!(found.status, 404, "{}", found.text());
    }
    assert_eq!(node.metric("fanfare_publications_total{api=\"m2\",source=\"http\"}"), 0);
}

#[test]
fn paths_and_methods_are_known_or_refused() {
    let node = Node::start();
    let table = [
        ("GET", "/api/realtime/resources/kvstore/a", 404, None),
        ("PUT", "/api/realtime/resources/KVStore/a", 404, None),
        ("PUT", "/api/realtime/resources/thing/a", 404, None),
        ("GET", "/api/realtime/resources/", 404, None),
        ("GET", "/api/realtime/resources", 404, None),
        ("GET", "/api/realtime/resources/kvStore", 400, None),
        ("PUT", "/api/realtime/resources/kvStore/", 400, None),
        ("PUT", "/api/realtime/resources/kvStore/%ff", 400, None),
        ("POST", "/api/realtime/resources/kvStore/a", 405, Some("GET, HEAD, PUT, DELETE")),
        (
            "PATCH",
            "/api/realtime/resources/collection/private",
            405,
            Some("GET, HEAD, PUT, DELETE"),
        ),
        ("POST", "/api/realtime/status", 405, Some("GET, HEAD")),
    ];
    for (method, path, status, allow) in table {
        let response = call(&node, (method, path), &service(place()), r#"{"data":1}"#);
        assert_eq!((response.status, response.header("allow")), (status, allow), "{method} {path}");
        assert_eq!(response.json()["statusCode"], status, "{method} {path}");
    }
    let long = "x".repeat(513);
    refusal(&at("PUT", ("kvStore", &long), "", r#"{"data":1}"#, &node), 400, "INVALID_INPUT");
    // The rest of the path behind the type is the id.
    for (raw, id) in [("a/b%20c//d/", "a/b c//d/"), ("%2F%3F%25", "/?%"), ("..%2f..", "../..")] {
        let version = put(&node, &place(), ("kvStore", raw), &json!({ "data": 1 }));
        let found = at("GET", ("kvStore", raw), "?", "", &node);
        assert_eq!(found.line(), frame(None, ("kvStore", id), "1", &version));
    }
}
