//! Invocations, which a platform registers before it calls an app.

use std::time::Duration;

use serde_json::{Value, json};

use super::app::{
    Outcome, call, good_body, keys, on_issue, outcome, place, publish, refused, refused_at_head,
    service_token,
};
use super::listener::Listener;
use crate::support::{
    ANON_KEY, API_KEY, Node, Response, an_hour_from_now, sign, user_token, wait_until,
};

/// Bodies that are refused.
const NO_REGISTRATIONS: [&str; 24] = [
    "",
    "null",
    "[]",
    "{",
    "{}",
    r#"{"moduleKey":"m","ui":true,"ttlSeconds":5}"#,
    r#"{"installationId":"","moduleKey":"m","ui":true,"ttlSeconds":5}"#,
    r#"{"installationId":7,"moduleKey":"m","ui":true,"ttlSeconds":5}"#,
    r#"{"installationId":"i","ui":true,"ttlSeconds":5}"#,
    r#"{"installationId":"i","moduleKey":7,"ui":true,"ttlSeconds":5}"#,
    r#"{"installationId":"i","moduleKey":"m","ttlSeconds":5}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":null,"ttlSeconds":5}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":"true","ttlSeconds":5}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":1,"ttlSeconds":5}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":0}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":-1}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":901}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":1.5}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":"5"}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":5,"extension":"x"}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":5,"accountId":7}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":5,"else":{"a":[null]}}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":5,"extensions":{}}"#,
];

/// Bodies that are accepted.
const REGISTRATIONS: [&str; 6] = [
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":1}"#,
    r#"{"installationId":"i","moduleType":"t","ui":false,"ttlSeconds":900}"#,
    r#"{"installationId":"i","contextKey":"c","ui":true,"ttlSeconds":900}"#,
    r#"{"installationId":"i","moduleKey":"m","extension":{"issue":{"id":"1"}},"ui":true,"ttlSeconds":9}"#,
    r#"{"installationId":"i","moduleKey":"m","accountId":"alice","ui":true,"ttlSeconds":9}"#,
    r#"{"installationId":"i","moduleKey":"m","ui":true,"ttlSeconds":9,"aud":"realtime","iat":1}"#,
];

/// Path segments and the ids that they encode.
const IDS: [(&str, &str); 8] = [
    ("inv-1", "inv-1"),
    ("A", "A"),
    ("0190c5b4-7b5e-7c3a-8d2f-1a2b3c4d5e6f", "0190c5b4-7b5e-7c3a-8d2f-1a2b3c4d5e6f"),
    ("a%2Fb%3Dc%25", "a/b=c%"),
    ("%61%2b%3F", "a+?"),
    ("a+b", "a+b"),
    ("a.b", "a.b"),
    ("run.2024.07", "run.2024.07"),
];

/// Returns a registration from the usual context with this change.
pub(crate) fn registration(change: Value) -> Value {
    let mut body = place();
    (body["ui"], body["ttlSeconds"]) = (json!(true), json!(60));
    let members = body.as_object_mut().expect("a registration has members");
    members.extend(change.as_object().expect("a change has members").clone());
    body
}

fn path(id: &str) -> String {
    format!("/admin/v1/invocations/{id}")
}

pub(crate) fn admin(node: &Node, method: &str, id: &str, body: &str) -> Response {
    node.request(method, &path(id), &[("x-api-key", API_KEY)], body.as_bytes())
}

pub(crate) fn register(node: &Node, id: &str, change: Value) -> Value {
    let response = admin(node, "PUT", id, &registration(change).to_string());
    assert_eq!(response.status, 201, "{}", response.text());
    response.json()
}

pub(crate) fn use_it(node: &Node, id: &str) -> Outcome {
    let response = call(node, "publish", &format!("Forge id={id}"), &good_body("publish"));
    outcome("publish", &response)
}

/// Checks that an answer is this refusal, in the format of the administrator's interface.
fn check_refusal(response: &Response, status: u16, case: &str) {
    assert_eq!(response.status, status, "{case}: {}", response.text());
    let body = response.json();
    let mut names = keys(&body);
    names.retain(|name| name != "nextActions");
    assert_eq!(names, ["error", "message", "statusCode"], "{case}: {body}");
    assert_eq!(body["statusCode"], status, "{case}: {body}");
    assert!(body["error"].is_string() && body["message"].is_string(), "{case}: {body}");
    assert_eq!(response.header("forge-proxy-error"), None, "{case}");
}

#[test]
fn an_invocation_is_good_until_it_is_revoked() {
    let node = Node::start();
    for (segment, id) in IDS {
        assert_eq!(use_it(&node, id), refused_at_head("UNKNOWN_INVOCATION"), "{id}");
        let told = register(&node, segment, json!({}));
        assert_eq!(keys(&told), ["expiresAt", "id", "installationId", "ui"], "{told}");
        let values = (&told["id"], &told["installationId"], &told["ui"]);
        assert_eq!(values, (&json!(id), &json!("inst-1"), &json!(true)));
        let expires_at = told["expiresAt"].as_u64().expect("a time is a number");
        assert!(expires_at.abs_diff(an_hour_from_now() - 3_600 + 60) < 30, "{told}");
        assert_eq!(use_it(&node, id), Outcome::Done, "{id}");

        let response = admin(&node, "DELETE", segment, "");
        assert_eq!((response.status, response.body.as_slice()), (204, &b""[..]), "{id}");
        assert_eq!(use_it(&node, id), refused_at_head("UNKNOWN_INVOCATION"), "{id}");
        check_refusal(&admin(&node, "DELETE", segment, ""), 404, id);
    }
}

#[test]
fn an_invocation_is_where_it_was_registered_last() {
    let node = Node::start();
    let mut listeners = ["inst-1", "inst-2"].map(|installation| {
        let mut listener = Listener::connect(&node, &on_issue(installation, "panel", "10001"));
        listener.subscribe("room", &json!({}));
        listener
    });
    for (at, installation) in ["inst-1", "inst-2", "inst-1"].into_iter().enumerate() {
        register(&node, "inv-1", json!({ "installationId": installation }));
        let result = publish(&node, "publish", "Forge id=inv-1", &good_body("publish"));
        assert_eq!(listeners[at % 2].hear()["eventId"], result["eventId"]);
    }
    let told = register(&node, "inv-1", json!({ "ui": false }));
    assert_eq!(told["ui"], false);
    assert_eq!(use_it(&node, "inv-1"), refused(403, "Error publishing event to channel"));
    // Another module of the same installation.
    register(&node, "inv-1", json!({ "moduleKey": "other" }));
    let result = publish(&node, "publish", "Forge id=inv-1", &good_body("publish"));
    assert!(result["eventId"].is_null(), "{result}");
    listeners.iter_mut().for_each(Listener::hear_nothing);
}

#[test]
fn an_invocation_expires() {
    let node = Node::start();
    for (id, ttl) in [("short", 5), ("renewed", 5), ("long", 900)] {
        register(&node, id, json!({ "ttlSeconds": ttl }));
        assert_eq!(use_it(&node, id), Outcome::Done, "{id}");
    }
    register(&node, "renewed", json!({ "ttlSeconds": 60 }));
    wait_until("it has expired", || use_it(&node, "short") != Outcome::Done);
    assert_eq!(use_it(&node, "short"), refused_at_head("UNKNOWN_INVOCATION"));
    check_refusal(&admin(&node, "DELETE", "short", ""), 404, "expired");
    std::thread::sleep(Duration::from_millis(600));
    for id in ["renewed", "long"] {
        assert_eq!(use_it(&node, id), Outcome::Done, "{id}");
    }
}

#[test]
fn invocations_are_registered_by_administrators() {
    let node = Node::start();
    let body = registration(json!({})).to_string();
    let bearer = |token: &str| Some(("authorization", format!("Bearer {token}")));
    let key = |key: &str| Some(("x-api-key", key.to_owned()));
    let token = |role: &str| sign(&json!({ "sub": "a", "role": role, "exp": an_hour_from_now() }));
    let table = [
        (None, 401),
        (key("ik_wrong"), 401),
        (bearer("nonsense"), 401),
        (bearer(ANON_KEY), 401),
        (bearer(&service_token("inst-1")), 401),
        (bearer(&user_token("alice")), 403),
        (key(API_KEY), 0),
        (bearer(API_KEY), 0),
        (bearer(&token("project_admin")), 0),
    ];
    for (credential, refusal) in table {
        let headers: Vec<_> =
            credential.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = |method: &str, id: &str, body: &str| {
            node.request(method, &path(id), &headers, body.as_bytes())
        };
        if refusal == 0 {
            assert_eq!(request("PUT", "inv-1", &body).status, 201, "{headers:?}");
            assert_eq!(request("DELETE", "inv-1", "").status, 204, "{headers:?}");
            continue;
        }
        // Without a valid credential, other faults are not reported.
        for (method, id, body) in
            [("PUT", "inv-1", body.as_str()), ("PUT", "a,b", "{"), ("DELETE", "inv-1", "")]
        {
            check_refusal(&request(method, id, body), refusal, &format!("{headers:?}"));
        }
        assert_eq!(use_it(&node, "inv-1"), refused_at_head("UNKNOWN_INVOCATION"));
    }
}

#[test]
fn what_is_registered_is_a_place_or_is_told_that_it_is_none() {
    let node = Node::start();
    for body in NO_REGISTRATIONS {
        check_refusal(&admin(&node, "PUT", "inv-1", body), 400, body);
    }
    let long = registration(json!({ "else": "x".repeat(1_000_001) })).to_string();
    check_refusal(&admin(&node, "PUT", "inv-1", &long), 413, "too long");
    assert_eq!(use_it(&node, "inv-1"), refused_at_head("UNKNOWN_INVOCATION"));
    for body in REGISTRATIONS {
        assert_eq!(admin(&node, "PUT", "inv-1", body).status, 201, "{body}");
    }
    let body = registration(json!({})).to_string();
    // Ids that could not stand in the header, or are too long.
    let long = "x".repeat(2_000);
    for id in ["a,b", "a%2Cb", "%20", "a%20b", "%00", "a%0Ab", "%7F", "%C3%A9", &long] {
        for method in ["PUT", "DELETE"] {
            check_refusal(&admin(&node, method, id, &body), 400, id);
        }
    }
    for id in ["", "a/b"] {
        check_refusal(&admin(&node, "PUT", id, &body), 404, id);
    }
    for method in ["GET", "POST", "PATCH"] {
        let response = admin(&node, method, "inv-1", "");
        check_refusal(&response, 405, method);
        assert_eq!(response.header("allow"), Some("PUT, DELETE"));
    }
}
