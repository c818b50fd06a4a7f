//! Tokens that others sign: what makes them valid, and that each kind is accepted only for its own
//! purpose.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::app::{place, realtime_token, service_token, soon};
use super::doors::{
    administers, claims_of, enters_insforge, narrows_publish, narrows_sockets, proves_context,
    proves_invocation, vouches,
};
use crate::support::{
    ANON_KEY, API_KEY, JWT_SECRET, Node, an_hour_from_now, repository, sign, user_token,
};

fn with(name: &'static str, value: String) -> Node {
    Node::with(move |command: &mut Command| {
        command.env(name, &value);
    })
}

fn now() -> u64 {
    an_hour_from_now() - 3_600
}

/// Signs a token whose header may name another algorithm than the real one.
fn sign_as(said: &str, algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    let header = json!({ "alg": said, "typ": "JWT" }).to_string();
    let message = [header, claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm);
    format!("{message}.{}", signature.expect("the key fits"))
}

fn secret() -> EncodingKey {
    EncodingKey::from_secret(JWT_SECRET.as_bytes())
}

/// A place that takes a token, the kinds that it accepts, and a function that tries one there.
type Door = (&'static str, &'static [&'static str], Passes);
type Passes = fn(&Node, &str) -> bool;

const DOORS: [Door; 8] = [
    ("a context", &["context"], proves_context),
    ("an invocation", &["invocation"], proves_invocation),
    ("a token of a publish", &["realtime"], narrows_publish),
    ("a token on a socket", &["realtime"], narrows_sockets),
    ("a caller", &["service", "admin", "API key"], |node, token| {
        vouches(node, ("authorization", &format!("Bearer {token}")))
    }),
    ("a caller's key", &["API key"], |node, token| vouches(node, ("x-api-key", token))),
    ("a socket of InsForge", &["user", "admin", "anon key"], enters_insforge),
    ("an administrator", &["admin", "API key"], administers),
];

#[test]
fn each_kind_of_token_opens_what_it_is_for() {
    let node = Node::start();
    // All claims that any kind needs, so that only the audience distinguishes the kinds.
    let everything = |more: Value| {
        let mut claims = json!({
            "iss": "fanfare", "iat": now(), "exp": soon(), "sub": "alice", "ui": true,
            "installationId": "inst-1", "moduleKey": "panel", "role": "project_admin",
            "channel": { "name": "room", "claims": {} },
        });
        let more = more.as_object().expect("claims are members").clone();
        claims.as_object_mut().expect("claims are members").extend(more);
        sign(&claims)
    };
    let of = |audience: &str| everything(json!({ "aud": audience }));
    let all = ["realtime", "realtime-invocation", "realtime-service", "realtime-channel"];
    let tokens = [
        ("context", of("realtime")),
        ("invocation", of("realtime-invocation")),
        ("service", of("realtime-service")),
        ("realtime", realtime_token(&node, &place(), "room", &json!({}))),
        ("one like a realtime token", of("realtime-channel")),
        ("one for everything", everything(json!({ "aud": all }))),
        ("user", user_token("alice")),
        ("admin", everything(json!({}))),
        ("API key", API_KEY.to_owned()),
        ("anon key", ANON_KEY.to_owned()),
        ("nothing", "nothing".to_owned()),
    ];
    for (door, passing, passes) in DOORS {
        for (kind, token) in &tokens {
            assert_eq!(passes(&node, token), passing.contains(kind), "{door}: {kind}");
        }
    }
}

/// Returns changes of a valid token's claims, and whether it stays valid. `null` removes a claim.
fn changes() -> Vec<(Value, bool)> {
    vec![
        (json!({}), true),
        (json!({ "iat": now(), "iss": "host", "sub": "alice", "else": [1, { "x": null }] }), true),
        (json!({ "extension": null }), true),
        (json!({ "moduleKey": null, "moduleType": "jira:issuePanel" }), true),
        (json!({ "moduleKey": null, "contextKey": "dashboard-1" }), true),
        (json!({ "exp": now() + 900 }), true),
        (json!({ "nbf": now() }), true),
        (json!({ "exp": null }), false),
        (json!({ "exp": now() - 1 }), false),
        (json!({ "exp": soon().to_string() }), false),
        (json!({ "exp": now() + 1_000 }), false),
        (json!({ "nbf": now() + 300 }), false),
        (json!({ "aud": null }), false),
        (json!({ "aud": "Realtime" }), false),
        (json!({ "installationId": null }), false),
        (json!({ "installationId": "" }), false),
        (json!({ "installationId": 7 }), false),
        (json!({ "moduleKey": null }), false),
        (json!({ "moduleKey": 7 }), false),
        (json!({ "moduleType": 7 }), false),
        (json!({ "contextKey": [] }), false),
        (json!({ "extension": "issue" }), false),
        (json!({ "extension": [] }), false),
        (json!({ "scopes": "read:app-global-channel:realtime" }), false),
        (json!({ "scopes": [7] }), false),
    ]
}

#[test]
fn a_context_or_an_invocation_is_proved_by_a_good_token_alone() {
    let node = Node::start();
    let doors: [(_, Passes); 2] =
        [("realtime", proves_context), ("realtime-invocation", proves_invocation)];
    for (audience, passes) in doors {
        let mut good = place();
        good["aud"] = json!(audience);
        for (change, is_good) in changes() {
            let mut claims = good.clone();
            let members = claims.as_object_mut().expect("claims are members");
            members.extend(change.as_object().expect("a change names members").clone());
            members.retain(|name, value| !(change.get(name).is_some() && value.is_null()));
            assert_eq!(passes(&node, &sign(&claims)), is_good, "{audience}: {claims}");
        }
        let token = sign(&good);
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let other = EncodingKey::from_secret(&[b'x'; 64]);
        let sha512 = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &good, &secret());
        let forged = [
            sign_as("HS256", Algorithm::HS256, &other, &good),
            sign_as("none", Algorithm::HS256, &secret(), &good),
            sha512.expect("claims are JSON"),
            format!("{message}."),
            format!("{message}.{}", &signature[1..]),
            format!("{token}."),
            format!("x{token}"),
            "x.y.z".to_owned(),
            "..".to_owned(),
        ];
        for token in forged {
            assert!(!passes(&node, &token), "{audience}: {token}");
        }
    }
}

/// A service token has claims of its own, and may live longer.
#[test]
fn a_back_end_is_vouched_for_by_a_good_token_alone() {
    let node = Node::start();
    let good = json!({ "aud": "realtime-service", "installationId": "inst-1", "exp": soon() });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        sign(&claims)
    };
    let other = EncodingKey::from_secret(&[b'x'; 64]);
    let table = [
        (sign(&good), true),
        (service_token("inst-1"), true),
        (with("exp", Value::Null), false),
        (with("exp", json!(now() - 1)), false),
        (with("installationId", Value::Null), false),
        (with("installationId", json!(1)), false),
        (with("installationId", json!("")), false),
        (with("nbf", json!(now() + 300)), false),
        (sign_as("HS256", Algorithm::HS256, &other, &good), false),
        (sign_as("none", Algorithm::HS256, &secret(), &good), false),
    ];
    for (token, is_good) in table {
        let vouches = vouches(&node, ("authorization", &format!("Bearer {token}")));
        assert_eq!(vouches, is_good, "{}", claims_of(&token));
    }
}

#[test]
fn the_algorithm_of_a_key_is_pinned() {
    let file = |name: &str| repository(&format!("src/auth/testdata/{name}"));
    let pem = file("eddsa_a.pem");
    let path = pem.to_str().expect("the path is text").to_owned();
    let node = with("FANFARE_PUBLIC_KEYS_FILE", path);
    let read = |name: &str| std::fs::read(file(name)).expect("the file is there");
    let [own, strange] = ["eddsa_a.key", "eddsa_b.key"]
        .map(|name| EncodingKey::from_ed_pem(&read(name)).expect("it is a key"));
    let ecdsa = EncodingKey::from_ec_pem(&read("es256_a.key")).expect("it is a key");
    let public = EncodingKey::from_secret(&read("eddsa_a.pem"));
    let doors: [(_, Passes); 3] = [
        ("realtime", proves_context),
        ("realtime-invocation", proves_invocation),
        ("realtime-service", |node, token| {
            vouches(node, ("authorization", &format!("Bearer {token}")))
        }),
    ];
    for (audience, passes) in doors {
        let mut claims = place();
        claims["aud"] = json!(audience);
        let table = [
            ("EdDSA", Algorithm::EdDSA, &own, true),
            ("HS256", Algorithm::HS256, &secret(), true),
            ("EdDSA", Algorithm::EdDSA, &strange, false),
            ("ES256", Algorithm::ES256, &ecdsa, false),
            ("EdDSA", Algorithm::ES256, &ecdsa, false),
            ("ES256", Algorithm::EdDSA, &own, false),
            ("HS256", Algorithm::EdDSA, &own, false),
            ("HS256", Algorithm::HS256, &public, false),
            ("EdDSA", Algorithm::HS256, &public, false),
            ("EdDSA", Algorithm::HS256, &secret(), false),
            ("none", Algorithm::EdDSA, &own, false),
            ("eddsa", Algorithm::EdDSA, &own, false),
        ];
        for (said, algorithm, key, is_good) in table {
            let token = sign_as(said, algorithm, key, &claims);
            assert_eq!(passes(&node, &token), is_good, "{audience}: {said} by {algorithm:?}");
        }
    }
}

#[test]
fn what_the_program_makes_for_trying_out_is_good() {
    let node = Node::start();
    let make = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.arg("token").args(args).env_clear().env("FANFARE_JWT_SECRET", JWT_SECRET);
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{args:?}: {output:?}");
        let said = String::from_utf8(output.stdout).expect("it is text");
        let token = said.strip_suffix('\n').expect("the line ends");
        assert!(token.split('.').count() == 3 && !token.contains(char::is_whitespace), "{said}");
        token.to_owned()
    };
    let place = ["--installation", "inst-1", "--module", "panel"];
    let more = ["--module-type", "T", "--extension", r#"{"issue":{"id":"10001"}}"#];
    let last = ["--sub", "alice", "--expires-in", "60"];
    let all = [&place[..], &more, &last].concat();
    let context = make(&[&["forge-context"], &all[..], &["--scopes", "a,b"]].concat());
    assert!(proves_context(&node, &context));
    let claims = claims_of(&context);
    assert_eq!((&claims["aud"], &claims["sub"]), (&json!("realtime"), &json!("alice")));
    assert_eq!((&claims["moduleKey"], &claims["moduleType"]), (&json!("panel"), &json!("T")));
    assert_eq!(claims["extension"], json!({ "issue": { "id": "10001" } }));
    assert_eq!(claims["scopes"], json!(["a", "b"]));
    assert!(claims["exp"].as_u64().is_some_and(|exp| exp.abs_diff(now() + 60) < 30));
    assert!(proves_context(&node, &make(&[&["forge-context"], &place[..]].concat())));
    let invocation = make(&[&["forge-invocation"], &all[..]].concat());
    assert!(proves_invocation(&node, &invocation));
    let background = make(&[&["forge-invocation"], &all[..], &["--no-ui"]].concat());
    assert_eq!(
        (&claims_of(&invocation)["ui"], &claims_of(&background)["ui"]),
        (&json!(true), &json!(false))
    );
    let service = make(&["forge-service", "--installation", "inst-1"]);
    assert!(vouches(&node, ("authorization", &format!("Bearer {service}"))));
}
