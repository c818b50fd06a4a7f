//! Tokens of readers that a platform signs with its own keys.

use std::process::Command;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::app::{ORGANIZATION, bearer, place, put};
use super::readers::{reads_as, shown};
use crate::support::{Node, an_hour_from_now, repository};

const OWN: (&str, &str) = ("collection", "private");

#[test]
fn public_keys_of_each_kind_do() {
    let file = |name: &str| repository(&format!("src/auth/testdata/{name}"));
    let read = |name: &str| std::fs::read(file(name)).expect("the file is there");
    let with = |variable: &'static str, name: &str| {
        let path = file(name);
        Node::with(move |command: &mut Command| {
            command.env(variable, &path);
        })
    };
    let rsa = |name| EncodingKey::from_rsa_pem(&read(name)).expect("it is a key");
    let ecdsa = |name| EncodingKey::from_ec_pem(&read(name)).expect("it is a key");
    let eddsa = |name| EncodingKey::from_ed_pem(&read(name)).expect("it is a key");
    let table = [
        ("rs256_a.pem", Algorithm::RS256, rsa("rs256_a.key"), rsa("rs256_b.key")),
        ("es256_a.pem", Algorithm::ES256, ecdsa("es256_a.key"), ecdsa("es256_b.key")),
        ("eddsa_a.pem", Algorithm::EdDSA, eddsa("eddsa_a.key"), eddsa("eddsa_b.key")),
    ];
    let claims =
        json!({ "user_id": "u", "organization_id": ORGANIZATION, "exp": an_hour_from_now() });
    let sign = |header: Header, key: &EncodingKey| {
        let token = jsonwebtoken::encode(&header, &claims, key);
        format!("Bearer {}", token.expect("claims are JSON"))
    };
    for (name, algorithm, own, strange) in &table {
        let node = with("FANFARE_PUBLIC_KEYS_FILE", name);
        put(&node, &place(), OWN, &json!({ "userId": "u", "data": "u" }));
        assert_eq!(reads_as(&node, &sign(Header::new(*algorithm), own)), "u", "{name}");
        let forged = sign(Header::new(*algorithm), strange);
        assert_eq!(shown(&node, &[("authorization", &forged)]), 401, "{name}");
        // Tokens that are signed with the node's secret stay valid.
        assert_eq!(reads_as(&node, &bearer(claims.clone())), "u", "{name}");
    }
    let node = with("FANFARE_JWKS_FILE", "jwks.json");
    put(&node, &place(), OWN, &json!({ "userId": "u", "data": "u" }));
    let ids = ["rsa-1", "ec-1", "ed-1"];
    for (id, (_, algorithm, own, strange)) in ids.iter().zip(&table) {
        for other in ids {
            let header = Header { kid: Some(other.to_owned()), ..Header::new(*algorithm) };
            let token = sign(header.clone(), own);
            let status = if other == *id { 101 } else { 401 };
            assert_eq!(shown(&node, &[("authorization", &token)]), status, "{id} as {other}");
            let forged = sign(header, strange);
            assert_eq!(shown(&node, &[("authorization", &forged)]), 401, "{id}");
        }
    }
}
