//! Permission to subscribe: for clients with a valid token of the organization or with a key, or
//! for all clients if the node requires no credential.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use jsonwebtoken::{EncodingKey, Header, get_current_timestamp};
use serde_json::{Value, json};

use super::app::{Headers, ORGANIZATION, bearer, frame, place, place_of, put, user};
use super::handshakes::open;
use super::listener::Listener;
use crate::support::{ANON_KEY, API_KEY, JWT_SECRET, Node, an_hour_from_now, user_token};

const OWN: (&str, &str) = ("collection", "private");
/// The key of services that may only read: any text of 32 bytes.
const READERS_KEY: &str = "0123456789-readers-0123456789-ab";

/// Returns the status of the answer to a handshake with these credentials.
pub(crate) fn shown(node: &Node, credentials: &[(&'static str, &str)]) -> u16 {
    let mut headers = place();
    headers.extend(credentials.iter().map(|(name, value)| (*name, (*value).to_owned())));
    match Listener::try_connect(node, &headers) {
        Ok(_) => 101,
        Err(refusal) => refused(&refusal, credentials),
    }
}

/// Returns the status of a refusal, after checking that it has the node's format and repeats no
/// credential.
fn refused(refusal: &str, credentials: &[(&'static str, &str)]) -> u16 {
    let (status, body) = refusal.split_once(' ').expect("a status and a body");
    let status: u16 = status.parse().expect("a status is a number");
    let body: Value = serde_json::from_str(body).expect("the body is JSON");
    let error = if status == 403 { "FORBIDDEN" } else { "AUTH_UNAUTHORIZED" };
    assert_eq!((&body["error"], &body["statusCode"]), (&json!(error), &json!(status)), "{body}");
    let message = body["message"].as_str().expect("there is a message");
    let repeats = |(_, value): &(_, &str)| value.len() > 8 && message.contains(value);
    assert!(!message.is_empty() && !credentials.iter().any(repeats), "{message}");
    status
}

/// Returns the user whose own documents a token gives access to. Each of the users here has one.
pub(crate) fn reads_as(node: &Node, authorization: &str) -> String {
    let mut headers = place();
    headers.push(("authorization", authorization.to_owned()));
    let mut listener = Listener::connect(node, &headers);
    let told: Value = serde_json::from_str(&listener.subscribe(OWN.0, OWN.1)).expect("it is JSON");
    told["data"].as_str().unwrap_or("nobody").to_owned()
}

#[test]
fn a_token_names_its_user_and_its_organization() {
    let node = Node::start();
    for name in ["alice", "bob", "é"] {
        put(&node, &place(), OWN, &json!({ "userId": name, "data": name }));
    }
    let organization = json!({ "organization_id": ORGANIZATION });
    let of = |more: Value| {
        let mut claims = organization.clone();
        let members = claims.as_object_mut().expect("claims are members");
        members.extend(more.as_object().expect("claims are members").clone());
        bearer(claims)
    };
    let table = [
        (json!({ "user_id": "alice" }), "alice"),
        (json!({ "sub": "alice" }), "alice"),
        (json!({ "user_id": "bob", "sub": "alice" }), "bob"),
        (json!({ "user_id": null, "sub": "alice" }), "alice"),
        (json!({ "user_id": "\u{e9}" }), "é"),
        (json!({ "user_id": "carol" }), "nobody"),
        (json!({ "user_id": "alice", "role": "project_admin", "aud": "platform" }), "alice"),
        (json!({ "user_id": "alice", "aud": ["platform", 7], "iss": "x", "else": {} }), "alice"),
    ];
    for (claims, expected) in table {
        assert_eq!(reads_as(&node, &of(claims.clone())), expected, "{claims}");
    }
    // Some platforms write the scheme in lower case.
    let lower = of(json!({ "user_id": "bob" })).replace("Bearer", "bearer");
    assert_eq!(reads_as(&node, &lower), "bob");
}

#[test]
fn a_token_that_is_not_good_opens_nothing() {
    let node = Node::start();
    let of = |more: Value| {
        let mut claims = json!({ "user_id": "u", "organization_id": ORGANIZATION });
        let members = claims.as_object_mut().expect("claims are members");
        members.extend(more.as_object().expect("claims are members").clone());
        members.retain(|_, value| *value != json!("gone"));
        shown(&node, &[("authorization", &bearer(claims))])
    };
    let now = get_current_timestamp();
    let long = "x".repeat(256);
    let table = [
        (json!({}), 101),
        (json!({ "nbf": now, "iat": now }), 101),
        (json!({ "user_id": "x".repeat(255) }), 101),
        (json!({ "exp": now - 100 }), 401),
        (json!({ "exp": "soon" }), 401),
        (json!({ "nbf": now + 300 }), 401),
        (json!({ "user_id": "gone" }), 401),
        (json!({ "user_id": "" }), 401),
        (json!({ "user_id": "", "sub": "alice" }), 401),
        (json!({ "user_id": 7 }), 401),
        (json!({ "user_id": 7, "sub": "alice" }), 401),
        (json!({ "user_id": long }), 401),
        (json!({ "user_id": "a\nb" }), 401),
        (json!({ "organization_id": "gone" }), 403),
        (json!({ "organization_id": "testorg" }), 403),
        (json!({ "organization_id": "" }), 403),
        (json!({ "organization_id": 7 }), 403),
        (json!({ "organization_id": [ORGANIZATION] }), 403),
        (json!({ "aud": "realtime" }), 401),
        (json!({ "aud": "realtime-invocation" }), 401),
        (json!({ "aud": "realtime-service" }), 401),
        (json!({ "aud": "realtime-channel" }), 401),
        (json!({ "aud": "m2-writer" }), 401),
        (json!({ "aud": ["platform", "m2-writer"] }), 401),
        (json!({ "aud": ["m2-writer", "realtime"] }), 401),
    ];
    for (more, status) in table {
        assert_eq!(of(more.clone()), status, "{more}");
    }
}

#[test]
fn whatever_is_shown_must_be_good() {
    let node = Node::start();
    let good = bearer(json!({ "user_id": "u", "organization_id": ORGANIZATION }));
    let forged = jsonwebtoken::encode(
        &Header::default(),
        &json!({ "user_id": "u", "organization_id": ORGANIZATION, "exp": an_hour_from_now() }),
        &EncodingKey::from_secret(&[b'x'; 64]),
    );
    let forged = format!("Bearer {}", forged.expect("claims are JSON"));
    let as_bearer = |key: &str| format!("Bearer {key}");
    let table: [(&[(&str, &str)], u16); 16] = [
        (&[("authorization", &good)], 101),
        (&[("x-api-key", API_KEY)], 101),
        (&[("authorization", &as_bearer(API_KEY))], 101),
        (&[("authorization", &good), ("x-api-key", API_KEY)], 101),
        (&[("authorization", &as_bearer(API_KEY)), ("x-api-key", API_KEY)], 101),
        (&[], 401),
        (&[("authorization", ""), ("x-api-key", "")], 401),
        (&[("authorization", &forged)], 401),
        (&[("authorization", &forged), ("x-api-key", API_KEY)], 401),
        (&[("authorization", &good), ("x-api-key", "nonsense")], 401),
        (&[("authorization", "Bearer"), ("x-api-key", API_KEY)], 401),
        (&[("authorization", &good["Bearer ".len()..])], 401),
        (&[("authorization", &as_bearer(&API_KEY.replace("ff", "fe")))], 401),
        (&[("x-api-key", &good["Bearer ".len()..])], 401),
        (&[("x-api-key", ANON_KEY)], 401),
        (&[("authorization", &as_bearer(&user_token("u")))], 403),
    ];
    for (credentials, status) in table {
        assert_eq!(shown(&node, credentials), status, "{credentials:?}");
    }
}

#[test]
fn keys_are_services_of_any_organization_without_a_user() {
    let node = Node::with_env(&[("FANFARE_M2_API_KEY", READERS_KEY)]);
    let (bearer, public) = (format!("Bearer {READERS_KEY}"), ("collection", "public"));
    for (name, key) in
        [("x-api-key", API_KEY), ("x-api-key", READERS_KEY), ("authorization", &bearer)]
    {
        for organization in ["one", "another"] {
            let mut headers = place_of(organization, "p");
            let version = put(&node, &headers, public, &json!({ "data": organization }));
            put(&node, &headers, OWN, &json!({ "userId": "u", "data": 1 }));
            let own = json!({ "userId": "u", "audience": "user", "data": "own" });
            put(&node, &headers, public, &own);
            headers.push((name, key.to_owned()));
            let mut listener = Listener::connect(&node, &headers);
            listener.subscribe_early(OWN.0, OWN.1);
            let shared = frame(None, public, &json!(organization).to_string(), &version);
            assert_eq!(listener.subscribe(public.0, public.1), shared);
            listener.is_answered();
        }
    }
    let wrong = READERS_KEY.replace('0', "1");
    assert_eq!(shown(&node, &[("x-api-key", &wrong)]), 401);
    assert_eq!(shown(&node, &[("x-api-key", READERS_KEY), ("authorization", "Bearer x")]), 401);
}

#[test]
fn where_nobody_is_asked_what_is_shown_must_still_be_good() {
    let node = open();
    put(&node, &place(), OWN, &json!({ "userId": "u", "data": "u" }));
    let of =
        |organization: &str| bearer(json!({ "user_id": "u", "organization_id": organization }));
    let table: [(&[(&str, &str)], u16); 7] = [
        (&[], 101),
        (&[("authorization", ""), ("x-api-key", "")], 101),
        (&[("x-api-key", API_KEY)], 101),
        (&[("authorization", &of(ORGANIZATION))], 101),
        (&[("authorization", &of("another"))], 403),
        (&[("authorization", "Bearer nonsense")], 401),
        (&[("x-api-key", "nonsense")], 401),
    ];
    for (credentials, status) in table {
        assert_eq!(shown(&node, credentials), status, "{credentials:?}");
    }
    assert_eq!(reads_as(&node, &of(ORGANIZATION)), "u");
    Listener::connect(&node, &place()).subscribe_early(OWN.0, OWN.1);
}

#[test]
fn only_on_loopback_nobody_is_asked() {
    let directory = tempfile::tempdir().expect("a directory of the test");
    let start = |listen: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(["check", "--listen", listen, "--data-dir"]).arg(directory.path());
        command.env_clear().env("FANFARE_M2_REQUIRE_AUTH", "false");
        command.env("FANFARE_API_KEY", API_KEY).env("FANFARE_ANON_KEY", ANON_KEY);
        command.env("FANFARE_JWT_SECRET", JWT_SECRET);
        let output = command.output().expect("the program runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).expect("it says text"))
    };
    for listen in ["127.0.0.1:7299", "[::1]:7299"] {
        assert!(start(listen).0, "{listen}");
    }
    for listen in ["0.0.0.0:7299", "[::]:7299", "192.0.2.1:7299"] {
        let (is_good, said) = start(listen);
        assert!(!is_good && said.contains("m2.require_auth"), "{listen}: {said}");
    }
}

#[test]
fn a_connection_ends_with_its_token_where_the_node_is_told_so() {
    // Up to a second is lost to rounding.
    const LIFE: Duration = Duration::from_secs(6);
    let strict = Node::with_env(&[("FANFARE_CLOSE_EXPIRED", "true")]);
    let lenient = Node::start();
    let began = Instant::now();
    let soon = |name: &str| -> Headers {
        let exp = get_current_timestamp() + LIFE.as_secs();
        let claims = json!({ "user_id": name, "organization_id": ORGANIZATION, "exp": exp });
        let mut headers = place();
        headers.push(("authorization", bearer(claims)));
        headers
    };
    let mut ends = Listener::connect(&strict, &soon("u"));
    let mut stays = Listener::connect(&lenient, &soon("u"));
    let mut longer = Listener::connect(&strict, &user(place(), "u"));
    for listener in [&mut ends, &mut stays, &mut longer] {
        listener.subscribe_early(OWN.0, OWN.1);
    }
    assert_eq!(ends.hear_or_end(), Err(Some(1008)));
    assert!(began.elapsed() >= LIFE - Duration::from_millis(1_100), "not before its time");
    // The lenient node's clock has also passed that moment by then.
    thread::sleep(LIFE.saturating_sub(began.elapsed()));
    for (node, listener) in [(&strict, &mut longer), (&lenient, &mut stays)] {
        let version = put(node, &place(), OWN, &json!({ "userId": "u", "data": 1 }));
        assert_eq!(listener.hear(), frame(Some("u"), OWN, "1", &version));
    }
    assert_eq!(strict.metric("fanfare_connections_closed_total{reason=\"expired\"}"), 1);
    assert_eq!(strict.metric("fanfare_connections{api=\"m2\",transport=\"websocket\"}"), 1);
}
