//! Tests with real keys and tokens. The key pairs in `testdata` were made for these tests alone.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod public_keys;
mod tokens;

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const RS_PEM: &str = include_str!("../testdata/rs256_a.pem");
pub(crate) const ES_PEM: &str = include_str!("../testdata/es256_a.pem");
pub(crate) const ED_PEM: &str = include_str!("../testdata/eddsa_a.pem");
const JWKS: &str = include_str!("../testdata/jwks.json");

pub(crate) fn api_key() -> String {
    format!("ik_{}", "a1".repeat(32))
}

fn anon_key() -> String {
    format!("anon_{}", "b2".repeat(32))
}

fn keys() -> Keys {
    const RESERVED: [Audience; 1] = [Audience::new("reserved")];
    keys_reserving(&RESERVED)
}

pub(crate) fn keys_reserving(audiences: &'static [Audience]) -> Keys {
    Keys::new(&api_key(), &anon_key(), SECRET, audiences).unwrap()
}

fn authenticator() -> Authenticator {
    Authenticator::new(Arc::new(keys()))
}

fn trusting(pems: &[&str]) -> Authenticator {
    let mut keys = keys();
    for pem in pems {
        assert_eq!(keys.add_pem(None, pem), Ok(1));
    }
    Authenticator::new(Arc::new(keys))
}

pub(crate) fn private_key(algorithm: Algorithm, which: char) -> EncodingKey {
    let pem = match (algorithm, which) {
        (Algorithm::RS256, 'a') => include_bytes!("../testdata/rs256_a.key").as_slice(),
        (Algorithm::RS256, _) => include_bytes!("../testdata/rs256_b.key"),
        (Algorithm::ES256, 'a') => include_bytes!("../testdata/es256_a.key"),
        (Algorithm::ES256, _) => include_bytes!("../testdata/es256_b.key"),
        (_, 'a') => include_bytes!("../testdata/eddsa_a.key"),
        (..) => include_bytes!("../testdata/eddsa_b.key"),
    };
    match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(pem).unwrap(),
        Algorithm::ES256 => EncodingKey::from_ec_pem(pem).unwrap(),
        _ => EncodingKey::from_ed_pem(pem).unwrap(),
    }
}

pub(crate) fn signed_with(
    key: &EncodingKey,
    algorithm: Algorithm,
    header: &Value,
    claims: &str,
) -> String {
    let header = URL_SAFE_NO_PAD.encode(header.to_string());
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm, key).unwrap();
    let signature = signer.try_sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Returns a token signed with HS256 and the node's secret. The claims are encoded as they are.
pub(crate) fn hs256(claims: &str) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    signed_with(&key, Algorithm::HS256, &json!({"alg": "HS256"}), claims)
}

fn asymmetric(algorithm: Algorithm, which: char, header: &Value) -> String {
    signed_with(&private_key(algorithm, which), algorithm, header, r#"{"sub":"u"}"#)
}

fn connect(auth: &Value) -> Result<Arc<Credential>, AuthError> {
    authenticator().connect(&auth.to_string(), NOW)
}

fn verify(token: &str) -> Result<Arc<Credential>, AuthError> {
    authenticator().verify(token, NOW)
}

const MALFORMED: AuthError = AuthError::Token(TokenProblem::Malformed);

#[test]
fn the_api_key_alone_decides_when_it_is_truthy() {
    let credential = connect(&json!({"apiKey": api_key(), "token": "nonsense"})).unwrap();
    let expected = Credential {
        id: "api-key".into(),
        email: None,
        role: Role::ProjectAdmin,
        is_user: false,
        expires_at: None,
    };
    assert_eq!(*credential, expected);

    let wrong = format!("ik_{}", "a2".repeat(32));
    let good_token = hs256(r#"{"sub":"u"}"#);
    for key in [json!(wrong), json!("x"), json!(1), json!(true), json!([]), json!({})] {
        let auth = json!({"apiKey": key, "token": good_token});
        assert_eq!(connect(&auth), Err(AuthError::ApiKey), "{auth}");
    }
    for key in [json!(""), json!(0), json!(false), json!(null)] {
        let auth = json!({"apiKey": key, "token": good_token});
        assert_eq!(&*connect(&auth).unwrap().id, "u", "{auth}");
    }
}

#[test]
fn the_anon_key_connects_as_anonymous() {
    let credential = connect(&json!({"token": anon_key()})).unwrap();
    assert_eq!((&*credential.id, &credential.role), ("anonymous", &Role::Anon));
    assert!(!credential.is_user);
    for token in ["anon_".to_owned(), anon_key() + "0", format!("anon_{}", "b3".repeat(32))] {
        assert_eq!(connect(&json!({"token": token})), Err(AuthError::AnonKey), "{token}");
    }
    // Neither key is accepted in the other's place.
    assert_eq!(connect(&json!({"token": api_key()})), Err(MALFORMED));
    assert_eq!(connect(&json!({"apiKey": anon_key()})), Err(AuthError::ApiKey));
}

#[test]
fn nothing_to_go_by_is_said_to_be_nothing() {
    for json in ["", "{}", "[]", "null", "5", "\"anon_\"", "{\"token\":", "{\"Token\":\"x\"}"] {
        assert_eq!(authenticator().connect(json, NOW), Err(AuthError::Nothing), "{json}");
    }
    for token in [json!(null), json!(""), json!(0), json!(false)] {
        assert_eq!(connect(&json!({"token": token})), Err(AuthError::Nothing));
    }
    for token in [json!(7), json!(true), json!([]), json!({})] {
        assert_eq!(connect(&json!({"token": token})), Err(MALFORMED));
    }
}

#[test]
fn messages_are_as_documented() {
    let told = |error: AuthError| error.to_string();
    assert_eq!(told(AuthError::ApiKey), "Invalid API key");
    assert_eq!(told(AuthError::AnonKey), "Invalid anon key");
    assert_eq!(told(AuthError::Nothing), "No authentication provided");
    assert_eq!(told(MALFORMED), "Invalid token");
    assert_eq!(told(AuthError::Subject), "Invalid token subject");
}

#[test]
fn administration_follows_the_documented_table() {
    let mut auth = authenticator();
    let (api_key, anon_key) = (api_key(), anon_key());
    let wrong_key = format!("ik_{}", "00".repeat(32));
    let admin = hs256(r#"{"sub":"u","role":"project_admin"}"#);
    let user = hs256(r#"{"sub":"u","role":"authenticated"}"#);
    let nobody = hs256(r#"{"role":"project_admin"}"#);
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    let cases = [
        (None, None, Err(AdminError::Nothing)),
        (Some(String::new()), None, Err(AdminError::Nothing)),
        (Some("Bearer".into()), None, Err(AdminError::Nothing)),
        (Some("Bearer  ".into()), Some(""), Err(AdminError::Nothing)),
        (Some(format!("Basic {api_key}")), None, Err(AdminError::Nothing)),
        (Some(api_key.clone()), None, Err(AdminError::Nothing)),
        (bearer("x.y.z"), None, Err(AdminError::Token(TokenProblem::Malformed))),
        (bearer(&anon_key), None, Err(AdminError::Token(TokenProblem::Malformed))),
        (bearer(&nobody), None, Err(AdminError::Token(TokenProblem::Subject))),
        (bearer(&user), None, Err(AdminError::NotAdmin)),
        (bearer(&admin), None, Ok(())),
        (Some(format!("bEARER   {admin} ")), None, Ok(())),
        (bearer(&api_key), None, Ok(())),
        (bearer(&wrong_key), None, Err(AdminError::ApiKey)),
        (bearer(&wrong_key), Some(api_key.as_str()), Err(AdminError::ApiKey)),
        (bearer(&api_key), Some("x"), Ok(())),
        (None, Some(api_key.as_str()), Ok(())),
        (None, Some("x"), Err(AdminError::ApiKey)),
        (bearer(&admin), Some("x"), Err(AdminError::ApiKey)),
        (bearer(&admin), Some(""), Ok(())),
        (bearer(&user), Some(api_key.as_str()), Ok(())),
    ];
    for (authorization, x_api_key, expected) in cases {
        let verdict = auth.admin(authorization.as_deref(), x_api_key, NOW);
        assert_eq!(verdict, expected, "{authorization:?} {x_api_key:?}");
    }
}

#[test]
fn admin_errors_say_what_to_send() {
    let body = |error: AdminError| {
        (error.status(), error.error(), error.to_string(), error.next_actions())
    };
    let expected = [
        (
            AdminError::Nothing,
            (401, "AUTH_INVALID_CREDENTIALS", "No admin token provided"),
            "Send the API key in X-API-Key, or the JWT of an administrator as Authorization: Bearer.",
        ),
        (
            AdminError::Token(TokenProblem::Expired),
            (401, "AUTH_UNAUTHORIZED", "Invalid token"),
            "Send a JWT that this node trusts and that has not expired, or the API key in X-API-Key.",
        ),
        (
            AdminError::NotAdmin,
            (403, "AUTH_UNAUTHORIZED", "Admin access required"),
            "Send the JWT of an administrator, whose role is project_admin, or the API key in X-API-Key.",
        ),
        (
            AdminError::ApiKey,
            (401, "AUTH_INVALID_API_KEY", "Invalid API key"),
            "Send the API key of this node; fanfare keys prints it on the machine of the node.",
        ),
    ];
    for (error, (status, code, message), next_actions) in expected {
        assert_eq!(body(error), (status, code, message.to_owned(), next_actions));
    }
}

#[test]
fn nothing_secret_is_printed() {
    let printed = format!("{:?} {:?}", keys(), authenticator());
    for secret in [SECRET, &api_key()[3..], &anon_key()[5..]] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

proptest! {
    #[test]
    fn no_handshake_panics(json in ".{0,200}", fragment in r#"\{"(token|apiKey)":.{0,80}\}"#) {
        let mut auth = authenticator();
        prop_assert!(auth.connect(&json, NOW).is_err());
        prop_assert!(auth.connect(&fragment, NOW).is_err());
    }
}
