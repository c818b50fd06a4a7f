//! Credentials that may administer the node, and requests that need no credential.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{self, ANON_KEY, API_KEY, Node};

const WRONG_KEY: &str = "ik_ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

#[test]
fn health_needs_no_credential() {
    let node = Node::start();
    let response = node.request("GET", "/api/health", &[], b"");
    let body = response.json();
    assert_eq!((response.status, &body["status"]), (200, &json!("ok")));
    for key in ["version", "service", "timestamp"] {
        assert!(body[key].is_string(), "{key} in {body}");
    }
}

#[test]
fn administrators_are_let_in() {
    let node = Node::start();
    let bearer_key = format!("Bearer {API_KEY}");
    let bearer_token = format!("Bearer {}", token("project_admin"));
    let credentials: [&[(&str, &str)]; 5] = [
        &[("Authorization", &bearer_key)],
        &[("X-API-Key", API_KEY)],
        &[("x-api-key", API_KEY)],
        &[("Authorization", &bearer_token)],
        &[("Authorization", "Bearer nonsense"), ("X-API-Key", API_KEY)],
    ];
    for credential in credentials {
        assert_eq!(ask(&node, credential), (200, json!([])), "{credential:?}");
    }
}

#[test]
fn a_missing_credential_is_asked_for() {
    let refusal = json!({
        "error": "AUTH_INVALID_CREDENTIALS",
        "message": "No admin token provided",
        "statusCode": 401,
        "nextActions": "Send the API key in X-API-Key, or the JWT of an administrator as Authorization: Bearer.",
    });
    assert_eq!(ask(&Node::start(), &[]), (401, refusal));
}

#[test]
fn a_bad_token_is_refused() {
    let node = Node::start();
    let refusal = |why: &str| {
        json!({
            "error": "AUTH_UNAUTHORIZED",
            "message": "Invalid token",
            "statusCode": 401,
            "nextActions": format!(
                "Reason: {why}. Send a JWT that this node trusts and that has not expired, or the \
                 API key in X-API-Key."
            ),
        })
    };
    let (malformed, late) = ("the token is malformed", "the token has expired");
    let expired = support::sign(&json!({ "sub": "ada", "role": "project_admin", "exp": 1 }));
    // The anon key is neither an administrator's key nor a token.
    for (token, why) in [("nonsense", malformed), (&expired, late), (ANON_KEY, malformed)] {
        let bearer = format!("Bearer {token}");
        assert_eq!(ask(&node, &[("Authorization", &bearer)]), (401, refusal(why)), "{token}");
    }
}

#[test]
fn another_role_is_no_administrator() {
    let node = Node::start();
    let refusal = json!({
        "error": "AUTH_UNAUTHORIZED",
        "message": "Admin access required",
        "statusCode": 403,
        "nextActions": "Send the JWT of an administrator, whose role is project_admin, or the API key in X-API-Key.",
    });
    for role in ["authenticated", "anon"] {
        let bearer = format!("Bearer {}", token(role));
        assert_eq!(ask(&node, &[("Authorization", &bearer)]), (403, refusal.clone()), "{role}");
    }
}

#[test]
fn a_bad_api_key_decides_alone() {
    let node = Node::start();
    let refusal = json!({
        "error": "AUTH_INVALID_API_KEY",
        "message": "Invalid API key",
        "statusCode": 401,
        "nextActions": "Send the API key of this node; fanfare keys prints it on the machine of the node.",
    });
    let bearer_key = format!("Bearer {WRONG_KEY}");
    let bearer_token = format!("Bearer {}", token("project_admin"));
    let credentials: [&[(&str, &str)]; 4] = [
        &[("Authorization", &bearer_key)],
        &[("X-API-Key", WRONG_KEY)],
        &[("X-API-Key", "any form")],
        &[("X-API-Key", WRONG_KEY), ("Authorization", &bearer_token)],
    ];
    for credential in credentials {
        assert_eq!(ask(&node, credential), (401, refusal.clone()), "{credential:?}");
    }
}

#[test]
fn every_route_asks_who_comes_before_what_is_sent() {
    let node = Node::start();
    let routes = [
        ("GET", "/api/realtime/channels"),
        ("POST", "/api/realtime/channels"),
        ("GET", "/api/realtime/channels/no-uuid"),
        ("PUT", "/api/realtime/channels/no-uuid"),
        ("DELETE", "/api/realtime/channels/no-uuid"),
        ("POST", "/api/realtime/messages"),
    ];
    for (method, path) in routes {
        let response = node.request(method, path, &[], b"{");
        let error = response.json()["error"].clone();
        let expected = (401, json!("AUTH_INVALID_CREDENTIALS"));
        assert_eq!((response.status, error), expected, "{method} {path}");
    }
}

#[test]
fn an_unknown_route_is_named() {
    let (status, body) = Node::start().admin("GET", "/api/nowhere", &Value::Null);
    let not_found = json!({
        "error": "NOT_FOUND",
        "message": "Endpoint /api/nowhere not found",
        "statusCode": 404,
        "nextActions": "Please check the API documentation for available endpoints",
    });
    assert_eq!((status, body), (404, not_found));
}

/// Lists the channels of a node without channels, with these headers. Returns status and body.
fn ask(node: &Node, headers: &[(&str, &str)]) -> (u16, Value) {
    let response = node.request("GET", "/api/realtime/channels", headers, b"");
    (response.status, response.json())
}

fn token(role: &str) -> String {
    let sub = "770e8400-e29b-41d4-a716-446655440000";
    support::sign(&json!({ "sub": sub, "role": role, "exp": support::an_hour_from_now() }))
}

/// The node gets one public key of the issuer for each algorithm.
#[test]
fn tokens_of_a_trusted_issuer_are_let_in() {
    let keys = support::repository("src/auth/testdata");
    let read = |name: &str| std::fs::read(keys.join(name)).expect("a key of the repository");
    let bundle: Vec<u8> =
        ["rs256_a.pem", "es256_a.pem", "eddsa_a.pem"].iter().flat_map(|name| read(name)).collect();
    let file = tempfile::NamedTempFile::new().expect("a file of the test");
    std::fs::write(&file, bundle).expect("a file of the test");
    let path = file.path().to_owned();
    let node = Node::with(move |command| {
        command.env("FANFARE_PUBLIC_KEYS_FILE", &path);
    });
    let claims = json!({
        "sub": "ada",
        "role": "project_admin",
        "exp": support::an_hour_from_now(),
    });
    for (algorithm, trusted, stranger) in [
        (Algorithm::RS256, "rs256_a.key", "rs256_b.key"),
        (Algorithm::ES256, "es256_a.key", "es256_b.key"),
        (Algorithm::EdDSA, "eddsa_a.key", "eddsa_b.key"),
    ] {
        let answer = |name: &str| {
            let key = match algorithm {
                Algorithm::RS256 => EncodingKey::from_rsa_pem(&read(name)),
                Algorithm::ES256 => EncodingKey::from_ec_pem(&read(name)),
                _ => EncodingKey::from_ed_pem(&read(name)),
            };
            let key = key.expect("a key of the repository");
            let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key);
            let bearer = format!("Bearer {}", token.expect("claims are JSON"));
            ask(&node, &[("Authorization", &bearer)]).0
        };
        assert_eq!((answer(trusted), answer(stranger)), (200, 401), "{algorithm:?}");
    }
}
