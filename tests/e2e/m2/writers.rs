//! Permission to write documents over HTTP: for callers with a writing credential, but not for
//! those that may only read, although those may look at documents. Also checks that each kind of
//! token is accepted only for its own purpose.

use std::process::Command;

use serde_json::{Value, json};

use super::app::{Headers, ORGANIZATION, bearer, call, path, place, place_of, put};
use super::handshakes::open;
use super::listener::Listener;
use crate::forge::doors::{
    administers, claims_of, enters_insforge, narrows_publish, narrows_sockets, proves_context,
    proves_invocation, vouches,
};
use crate::support::{ANON_KEY, API_KEY, JWT_SECRET, Node, an_hour_from_now, sign, user_token};

const READERS_KEY: &str = "0123456789-readers-0123456789-ab";

/// Returns the status of all writes in the organization with these credentials. All must agree.
fn calls_in(node: &Node, organization: &str, credentials: &[(&'static str, &str)]) -> u16 {
    let mut headers = place_of(organization, "p");
    headers.extend(credentials.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let path = path("kvStore", "k");
    let table = [("PUT", r#"{"data":1}"#), ("DELETE", "")];
    let statuses = table.map(|(method, body)| one_call(node, (method, &path), &headers, body));
    assert!(statuses.iter().all(|status| *status == statuses[0]), "{credentials:?}: {statuses:?}");
    statuses[0]
}

fn one_call(node: &Node, what: (&str, &str), headers: &Headers, body: &str) -> u16 {
    let response = call(node, what, headers, body);
    let error = match response.status {
        401 => "AUTH_UNAUTHORIZED",
        403 => "FORBIDDEN",
        status => return status,
    };
    let body = response.json();
    let message = body["message"].as_str().expect("there is a message");
    let expected = json!({ "error": error, "message": message, "statusCode": response.status });
    assert_eq!(body, expected);
    response.status
}

fn calls(node: &Node, credentials: &[(&'static str, &str)]) -> u16 {
    calls_in(node, ORGANIZATION, credentials)
}

fn writer(more: Value) -> String {
    let mut claims = json!({ "aud": "m2-writer", "organization_id": ORGANIZATION });
    let members = claims.as_object_mut().expect("claims are members");
    members.extend(more.as_object().expect("claims are members").clone());
    members.retain(|_, value| *value != json!("gone"));
    bearer(claims)
}

fn admin() -> String {
    bearer(json!({ "sub": "root", "role": "project_admin" }))
}

#[test]
fn a_key_an_administrator_and_a_writer_may_and_no_reader() {
    let node = Node::with_env(&[("FANFARE_M2_API_KEY", READERS_KEY)]);
    let reader = bearer(json!({ "user_id": "u", "organization_id": ORGANIZATION }));
    let as_bearer = |key: &str| format!("Bearer {key}");
    let table: [(&[(&str, &str)], u16); 18] = [
        (&[("x-api-key", API_KEY)], 200),
        (&[("authorization", &as_bearer(API_KEY))], 200),
        (&[("authorization", &admin())], 200),
        (&[("authorization", &writer(json!({})))], 200),
        (&[("authorization", &writer(json!({}))), ("x-api-key", API_KEY)], 200),
        // A reading credential does not invalidate a writing one beside it.
        (&[("authorization", &reader), ("x-api-key", API_KEY)], 200),
        (&[("authorization", &writer(json!({}))), ("x-api-key", READERS_KEY)], 200),
        (&[], 401),
        (&[("authorization", &reader)], 403),
        (&[("authorization", &reader), ("x-api-key", READERS_KEY)], 403),
        (&[("x-api-key", READERS_KEY)], 403),
        (&[("authorization", &as_bearer(READERS_KEY))], 403),
        (&[("authorization", &bearer(json!({ "sub": "u", "role": "authenticated" })))], 403),
        (&[("x-api-key", ANON_KEY)], 401),
        (&[("authorization", "Bearer nonsense")], 401),
        (&[("authorization", "Bearer nonsense"), ("x-api-key", API_KEY)], 401),
        (&[("authorization", &writer(json!({}))), ("x-api-key", "nonsense")], 401),
        (&[("authorization", "Basic dTpw"), ("x-api-key", API_KEY)], 401),
    ];
    for (credentials, status) in table {
        assert_eq!(calls(&node, credentials), status, "{credentials:?}");
    }
}

#[test]
fn a_writer_is_one_of_its_organization_alone() {
    let node = Node::start();
    for (organization, status) in [(ORGANIZATION, 200), ("another", 403), ("testorg", 403)] {
        let token = writer(json!({}));
        assert_eq!(calls_in(&node, organization, &[("authorization", &token)]), status);
        assert_eq!(calls_in(&node, organization, &[("authorization", &admin())]), 200);
    }
    let exp = an_hour_from_now() - 3_600 - 100;
    let table = [
        (json!({ "user_id": "u", "sub": "u", "role": "authenticated" }), 200),
        (json!({ "aud": ["m2-writer", "platform"] }), 200),
        (json!({ "organization_id": "gone" }), 403),
        (json!({ "organization_id": 7 }), 403),
        (json!({ "organization_id": [ORGANIZATION] }), 403),
        (json!({ "exp": exp }), 401),
        (json!({ "nbf": an_hour_from_now() }), 401),
        (json!({ "aud": ["m2-writer", "realtime-service"] }), 401),
        (json!({ "aud": "realtime-service", "role": "project_admin", "sub": "u" }), 401),
        (json!({ "aud": "M2-Writer", "user_id": "u" }), 403),
        (json!({ "aud": "gone", "user_id": "u" }), 403),
    ];
    for (claims, status) in table {
        let token = writer(claims.clone());
        assert_eq!(calls(&node, &[("authorization", &token)]), status, "{claims}");
    }
}

#[test]
fn who_writes_is_asked_where_readers_are_not() {
    let node = open();
    let reader = bearer(json!({ "user_id": "u", "organization_id": ORGANIZATION }));
    assert_eq!(calls(&node, &[]), 401);
    assert_eq!(calls(&node, &[("authorization", &reader)]), 403);
    assert_eq!(calls(&node, &[("x-api-key", API_KEY)]), 200);
    // The refused requests had no effect.
    let version = put(&node, &place(), ("kvStore", "k"), &json!({ "data": "kept" }));
    for (method, body) in [("PUT", r#"{"data":2}"#), ("DELETE", "")] {
        assert_eq!(call(&node, (method, &path("kvStore", "k")), &place(), body).status, 401);
    }
    let mut listener = Listener::connect(&node, &place());
    assert!(listener.subscribe("kvStore", "k").contains(&version));
}

/// Returns the status of reading an existing document with these credentials.
fn look(node: &Node, resource: (&str, &str), credentials: &[(&'static str, &str)]) -> u16 {
    let mut headers = place();
    headers.extend(credentials.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let response = call(node, ("GET", &path(resource.0, resource.1)), &headers, "");
    let is_own = response.status == 200 && response.json()["data"] != "shared";
    assert!(!is_own || response.json()["userId"] == "u", "{}", response.text());
    response.status
}

#[test]
fn who_reads_may_look_at_what_it_would_hear_of() {
    let node = Node::with_env(&[("FANFARE_M2_API_KEY", READERS_KEY)]);
    put(&node, &place(), ("kvStore", "k"), &json!({ "data": "shared" }));
    for name in ["u", "v"] {
        let body = json!({ "userId": name, "audience": "user", "data": name });
        put(&node, &place(), ("kvStore", "k"), &body);
        put(&node, &place(), ("collection", "private"), &body);
    }
    let user = bearer(json!({ "user_id": "u", "organization_id": ORGANIZATION }));
    let stranger = bearer(json!({ "user_id": "u", "organization_id": "another" }));
    let (user, key) = ([("authorization", user.as_str())], [("x-api-key", READERS_KEY)]);
    let node_key = [("x-api-key", API_KEY)];
    let shared = ("kvStore", "k");
    let [own, others] = ["k?audience=user", "k?audience=user&userId=v"].map(|id| ("kvStore", id));
    let [private, others_private] = ["private", "private?userId=v"].map(|id| ("collection", id));
    let named = ("kvStore", "k?audience=user&userId=u");
    let table: [(_, &[(&str, &str)], u16); 17] = [
        (shared, &user, 200),
        (own, &user, 200),
        (named, &user, 200),
        (private, &user, 200),
        (others, &user, 403),
        (others_private, &user, 403),
        (shared, &key, 200),
        (own, &key, 400),
        (private, &key, 400),
        (named, &key, 403),
        (others_private, &key, 403),
        (named, &node_key, 200),
        (private, &node_key, 400),
        (shared, &[], 401),
        (named, &[], 401),
        (shared, &[("authorization", &stranger)], 403),
        (shared, &[("x-api-key", "nonsense")], 401),
    ];
    for (resource, credentials, status) in table {
        assert_eq!(look(&node, resource, credentials), status, "{resource:?} {credentials:?}");
    }
    let lenient = open();
    put(&lenient, &place(), shared, &json!({ "data": "shared" }));
    put(&lenient, &place(), ("collection", "private"), &json!({ "userId": "u", "data": "u" }));
    assert_eq!(look(&lenient, shared, &[]), 200);
    assert_eq!(look(&lenient, ("collection", "private?userId=u"), &[]), 403);
}

/// Whether a token of the organization opens a socket.
fn reads(node: &Node, token: &str) -> bool {
    let mut headers = place();
    headers.push(("authorization", format!("Bearer {token}")));
    Listener::try_connect(node, &headers).is_ok()
}

fn writes(node: &Node, token: &str) -> bool {
    calls(node, &[("authorization", &format!("Bearer {token}"))]) == 200
}

#[test]
fn each_kind_of_token_opens_what_it_is_for() {
    let node = Node::start();
    // All claims that any kind needs, so that only the audience distinguishes the kinds.
    let everything = |aud: Value| {
        let mut claims = json!({
            "exp": an_hour_from_now() - 3_000, "sub": "u", "user_id": "u", "role": "authenticated",
            "organization_id": ORGANIZATION, "installationId": "inst-1", "moduleKey": "panel",
            "ui": true, "channel": { "name": "room", "claims": {} },
        });
        if !aud.is_null() {
            claims["aud"] = aud;
        }
        sign(&claims)
    };
    type Passes = fn(&Node, &str) -> bool;
    let doors: [(&str, Passes, &[&str]); 10] = [
        ("M2 to read", reads, &["user", "somebody"]),
        ("M2 to write", writes, &["writer"]),
        ("InsForge", enters_insforge, &["user", "somebody", "user of InsForge"]),
        ("an administrator", administers, &[]),
        ("a context", proves_context, &["context"]),
        ("an invocation", proves_invocation, &["invocation"]),
        ("a token of a publish", narrows_publish, &[]),
        ("a token on a socket", narrows_sockets, &[]),
        (
            "a caller",
            |node, token| vouches(node, ("authorization", &format!("Bearer {token}"))),
            &["service"],
        ),
        ("a caller's key", |node, token| vouches(node, ("x-api-key", token)), &[]),
    ];
    let tokens = [
        ("writer", everything(json!("m2-writer"))),
        ("writer and user", everything(json!(["m2-writer", "realtime"]))),
        ("context", everything(json!("realtime"))),
        ("invocation", everything(json!("realtime-invocation"))),
        ("service", everything(json!("realtime-service"))),
        ("user", everything(Value::Null)),
        ("somebody", everything(json!("platform"))),
        ("user of InsForge", user_token("u")),
    ];
    for (door, passes, passing) in doors {
        for (kind, token) in &tokens {
            assert_eq!(passes(&node, token), passing.contains(kind), "{door}: {kind}");
        }
    }
}

#[test]
fn what_the_program_makes_for_trying_out_is_good() {
    let node = Node::start();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.arg("token").args(args).env_clear().env("FANFARE_JWT_SECRET", JWT_SECRET);
        command.output().expect("the program runs")
    };
    let make = |args: &[&str]| {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("it is text").trim_end().to_owned()
    };
    let user = make(&["m2", "--user", "alice", "--organization", ORGANIZATION]);
    let claims = claims_of(&user);
    let named = (&claims["user_id"], &claims["organization_id"]);
    assert_eq!(named, (&json!("alice"), &json!(ORGANIZATION)));
    assert!(reads(&node, &user) && !writes(&node, &user));
    let writer = make(&["m2-writer", "--organization", ORGANIZATION]);
    assert!(writes(&node, &writer) && !reads(&node, &writer));
    let other = make(&["m2-writer", "--organization", "another"]);
    assert!(!writes(&node, &other));
    for args in [&["m2", "--organization", "o"][..], &["m2", "--user", "u"], &["m2-writer"]] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}
