//! Tests of readers and writers with real keys and signatures.

use jsonwebtoken::Algorithm;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::error::{NO_ORGANIZATION, NO_USER, OTHER_KIND, OTHER_ORGANIZATION};
use super::*;
use crate::auth::tests::{
    ED_PEM, ES_PEM, NOW, RS_PEM, SECRET, api_key, hs256, keys_reserving, private_key, signed_with,
};
use crate::auth::{Authenticator, KeyError, SignError, TokenProblem};
use crate::interface::authenticators::AUDIENCES;
use crate::limits::TOKEN_BYTES_MAX;

const READERS_KEY: &str = "readers-key-0123456789-0123456789";
const ORGANIZATION: &str = "Org/1";

fn keys() -> Keys {
    keys_reserving(&AUDIENCES)
}

fn auth() -> M2Auth {
    M2Auth::new(Arc::new(keys()), Terms::new(true, Some(READERS_KEY)))
}

/// Returns the required claims of a reader's token with these claims, which replace those of the
/// same name.
fn claims(more: Value) -> Value {
    let mut claims = json!({"user_id": "u1", "organization_id": ORGANIZATION, "exp": NOW + 60});
    let Value::Object(more) = more else { panic!("{more}") };
    claims.as_object_mut().unwrap().extend(more);
    claims
}

fn token(more: Value) -> String {
    hs256(&claims(more).to_string())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Returns a writer's token with these claims and without a user.
fn writers(more: Value) -> String {
    let mut claims = claims(json!({"aud": "m2-writer"}));
    let Value::Object(more) = more else { panic!("{more}") };
    let members = claims.as_object_mut().unwrap();
    members.remove("user_id");
    members.extend(more);
    hs256(&claims.to_string())
}

fn reads(token: &str) -> Result<Reader, M2Error> {
    auth().reader(Some(&bearer(token)), None, ORGANIZATION, NOW)
}

fn writes(token: &str) -> Result<(), M2Error> {
    auth().writer(Some(&bearer(token)), None, ORGANIZATION, NOW)
}

fn user(id: &str, expires_at: Option<u64>) -> Result<Reader, M2Error> {
    Ok(Reader { user: Some(id.into()), expires_at })
}

const SERVICE: Result<Reader, M2Error> = Ok(Reader::SERVICE);

const SIGNATURE: M2Error = M2Error::Unauthorized(TokenProblem::Signature.text());

#[test]
fn a_token_says_who_reads() {
    let expires = Some(NOW + 60);
    let cases = [
        (json!({}), user("u1", expires)),
        (json!({"sub": "u2"}), user("u1", expires)),
        (json!({"user_id": null, "sub": "u2"}), user("u2", expires)),
        (json!({"user_id": null, "sub": 7}), user("7", expires)),
        (
            json!({"exp": NOW + 1, "aud": "elsewhere", "iss": 7, "role": ["x"]}),
            user("u1", Some(NOW + 1)),
        ),
        (json!({"user_id": "ü".repeat(127) + "x"}), user(&("ü".repeat(127) + "x"), expires)),
        (json!({"user_id": null}), Err(NO_USER)),
        (json!({"user_id": "", "sub": "u2"}), Err(NO_USER)),
        (json!({"user_id": 7, "sub": "u2"}), Err(NO_USER)),
        (json!({"user_id": ["u1"], "sub": "u2"}), Err(NO_USER)),
        (json!({"user_id": null, "sub": {"id": "u"}}), Err(NO_USER)),
        (json!({"user_id": "a\nb"}), Err(NO_USER)),
        (json!({"user_id": "ü".repeat(128)}), Err(NO_USER)),
        (json!({"organization_id": "Org/2"}), Err(OTHER_ORGANIZATION)),
        (json!({"organization_id": "org/1"}), Err(OTHER_ORGANIZATION)),
        (json!({"organization_id": ""}), Err(OTHER_ORGANIZATION)),
        (json!({"organization_id": null}), Err(NO_ORGANIZATION)),
        (json!({"organization_id": [ORGANIZATION]}), Err(NO_ORGANIZATION)),
        // The user is checked before the organization.
        (json!({"user_id": "", "organization_id": "Org/2"}), Err(NO_USER)),
    ];
    for (more, expected) in cases {
        assert_eq!(reads(&token(more.clone())), expected, "{more}");
    }
    let no_expiry = json!({"sub": "u", "organization_id": ORGANIZATION}).to_string();
    assert_eq!(reads(&hs256(&no_expiry)), user("u", None));
}

#[test]
fn dates_are_those_of_all_tokens() {
    let cases = [
        (json!({"exp": NOW}), Err("the token has expired")),
        (json!({"exp": "soon"}), Err("the token's exp and nbf must be numbers")),
        (json!({"exp": null}), Err("the token's exp and nbf must be numbers")),
        (json!({"nbf": NOW + 5}), Ok(())),
        (json!({"nbf": NOW + 6}), Err("the token is not valid yet")),
    ];
    for (more, expected) in cases {
        let expected = expected.map_err(M2Error::Unauthorized);
        assert_eq!(reads(&token(more.clone())).map(drop), expected, "{more}");
        assert_eq!(writes(&writers(more.clone())), expected, "{more}");
    }
}

#[test]
fn a_token_is_signed_by_somebody_who_is_trusted() {
    let claims = claims(json!({}));
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let header = json!({ "alg": format!("{algorithm:?}") });
        let [own, other] = ['a', 'b'].map(|which| {
            let key = private_key(algorithm, which);
            bearer(&signed_with(&key, algorithm, &header, &claims.to_string()))
        });
        let mut trusting = keys();
        for pem in [RS_PEM, ES_PEM, ED_PEM] {
            assert_eq!(trusting.add_pem(None, pem), Ok(1));
        }
        let mut trusting = M2Auth::new(Arc::new(trusting), Terms::new(true, None));
        let mut read = |header: &str| trusting.reader(Some(header), None, ORGANIZATION, NOW);
        assert_eq!(read(&own), user("u1", Some(NOW + 60)), "{algorithm:?}");
        assert_eq!(read(&other), Err(SIGNATURE), "{algorithm:?}");
        assert_eq!(auth().reader(Some(&own), None, ORGANIZATION, NOW), Err(SIGNATURE));
    }
    let good = token(json!({}));
    let long = token(json!({"padding": "x".repeat(TOKEN_BYTES_MAX)}));
    let array = hs256(r#"["u1"]"#);
    let twice = hs256(r#"{"user_id":"u1","user_id":"u1","organization_id":"Org/1"}"#);
    for token in ["a.b.c", ".", "x", &good[1..], &long, &array, &twice] {
        assert_eq!(reads(token), Err(MALFORMED), "{token:.80}");
        assert_eq!(writes(token), Err(MALFORMED), "{token:.80}");
    }
    assert_eq!(reads(&format!("{good}x")), Err(SIGNATURE));
}

#[test]
fn keys_read_every_organization() {
    let (api, readers) = (api_key(), READERS_KEY);
    let wrong = format!("ik_{}", "a2".repeat(32));
    let (api_bearer, readers_bearer) = (bearer(&api), bearer(readers));
    let cases = [
        (None, Some(&*api), SERVICE),
        (None, Some(readers), SERVICE),
        (Some(&*api_bearer), None, SERVICE),
        (Some(&*readers_bearer), None, SERVICE),
        (Some(&*api_bearer), Some(readers), SERVICE),
        (None, Some(&*wrong), Err(API_KEY)),
        (None, Some(&readers[1..]), Err(API_KEY)),
        (None, Some("x"), Err(API_KEY)),
        (Some(&*api_bearer), Some("x"), Err(API_KEY)),
        (Some(&*api), None, Err(SCHEME)),
        (Some("Bearer"), None, Err(SCHEME)),
        (Some("Basic dTpw"), Some(&*api), Err(SCHEME)),
    ];
    for (authorization, x_api_key, expected) in cases {
        let verdict = auth().reader(authorization, x_api_key, "any", NOW);
        assert_eq!(verdict, expected, "{authorization:?} {x_api_key:?}");
    }
    assert_eq!(reads(&wrong), Err(API_KEY));
    let mut without = M2Auth::new(Arc::new(keys()), Terms::new(true, None));
    assert_eq!(without.reader(None, Some(readers), "any", NOW), Err(API_KEY));
    assert_eq!(without.reader(Some(&readers_bearer), None, "any", NOW), Err(MALFORMED));
}

#[test]
fn all_that_is_shown_must_be_good() {
    let good = bearer(&token(json!({})));
    let expired = bearer(&token(json!({"exp": 1})));
    let foreign = bearer(&token(json!({"organization_id": "Org/2"})));
    let past = M2Error::Unauthorized("the token has expired");
    let api = api_key();
    for require_auth in [true, false] {
        let mut auth = M2Auth::new(Arc::new(keys()), Terms::new(require_auth, Some(READERS_KEY)));
        let mut read =
            |authorization: &str, key| auth.reader(Some(authorization), key, ORGANIZATION, NOW);
        for key in [&*api, READERS_KEY] {
            assert_eq!(read(&good, Some(key)), user("u1", Some(NOW + 60)), "the token says more");
            assert_eq!(read(&expired, Some(key)), Err(past));
            assert_eq!(read(&foreign, Some(key)), Err(OTHER_ORGANIZATION));
        }
        assert_eq!(read(&good, Some("x")), Err(API_KEY));
        assert_eq!(read(&expired, None), Err(past));
        assert_eq!(auth.reader(None, Some("x"), ORGANIZATION, NOW), Err(API_KEY));
        let nothing = auth.reader(None, None, ORGANIZATION, NOW);
        assert_eq!(nothing, if require_auth { Err(NOTHING) } else { SERVICE });
        assert_eq!(auth.writer(None, None, ORGANIZATION, NOW), Err(NOTHING));
    }
}

#[test]
fn who_writes_is_more_than_a_reader() {
    let api = api_key();
    let admin = |more: Value| {
        let claims = json!({"sub": "a", "role": "project_admin", "exp": NOW + 60});
        let (Value::Object(mut claims), Value::Object(more)) = (claims, more) else { panic!() };
        claims.extend(more);
        hs256(&Value::Object(claims).to_string())
    };
    let cases = [
        (bearer(&api), None, Ok(())),
        (bearer(&admin(json!({}))), None, Ok(())),
        (bearer(&admin(json!({"organization_id": "Org/2"}))), None, Ok(())),
        (bearer(&writers(json!({}))), None, Ok(())),
        (bearer(&writers(json!({"aud": ["m2-writer", "elsewhere"]}))), None, Ok(())),
        (bearer(&writers(json!({"user_id": 7, "sub": ""}))), None, Ok(())),
        (bearer(&writers(json!({"organization_id": "Org/2"}))), None, Err(OTHER_ORGANIZATION)),
        (bearer(&writers(json!({"organization_id": null}))), None, Err(NO_ORGANIZATION)),
        (
            bearer(&writers(
                json!({"organization_id": "Org/2", "role": "project_admin", "sub": "a"}),
            )),
            None,
            Err(OTHER_ORGANIZATION),
        ),
        (bearer(&token(json!({}))), None, Err(READS)),
        (bearer(&token(json!({"organization_id": null}))), None, Err(READS)),
        (bearer(&token(json!({"role": "Project_admin"}))), None, Err(READS)),
        (bearer(&token(json!({"role": ["project_admin"]}))), None, Err(READS)),
        // An administrator needs a subject, as in all interfaces.
        (bearer(&token(json!({"role": "project_admin"}))), None, Err(READS)),
        (bearer(&admin(json!({"sub": ""}))), None, Err(NO_USER)),
        (bearer(READERS_KEY), None, Err(READS)),
        (bearer("ik_x"), None, Err(API_KEY)),
        ("Basic x".into(), None, Err(SCHEME)),
        // One credential that permits writing is enough if the other is valid.
        (bearer(&token(json!({}))), Some(&*api), Ok(())),
        (bearer(READERS_KEY), Some(&*api), Ok(())),
        (bearer(&writers(json!({"organization_id": "Org/2"}))), Some(&*api), Ok(())),
        (bearer(&writers(json!({}))), Some(READERS_KEY), Ok(())),
        (bearer(&token(json!({}))), Some(READERS_KEY), Err(READS)),
        (bearer(&admin(json!({}))), Some("x"), Err(API_KEY)),
        (bearer("a.b.c"), Some(&*api), Err(MALFORMED)),
    ];
    for (authorization, x_api_key, expected) in cases {
        let verdict = auth().writer(Some(&authorization), x_api_key, ORGANIZATION, NOW);
        assert_eq!(verdict, expected, "{authorization} {x_api_key:?}");
    }
    assert_eq!(auth().writer(None, Some(&api), ORGANIZATION, NOW), Ok(()));
    assert_eq!(auth().writer(None, Some(READERS_KEY), ORGANIZATION, NOW), Err(READS));
    assert_eq!(auth().writer(None, Some("x"), ORGANIZATION, NOW), Err(API_KEY));
}

#[test]
fn tokens_of_our_own_kinds_are_for_what_they_say() {
    for audience in AUDIENCES {
        let aud = audience.name();
        for aud in [json!(aud), json!([aud]), json!(["elsewhere", aud])] {
            let token = token(json!({"aud": aud, "sub": "a", "role": "project_admin"}));
            assert_eq!(reads(&token), Err(OTHER_KIND), "{aud}");
            let may_write = if audience == WRITERS { Ok(()) } else { Err(OTHER_KIND) };
            assert_eq!(writes(&token), may_write, "{aud}");
        }
    }
    for aud in [json!(["m2-writer", "realtime"]), json!(["m2-writer", 7])] {
        assert_eq!(writes(&writers(json!({ "aud": aud }))), Err(OTHER_KIND), "{aud}");
    }
    let mut users = Authenticator::new(Arc::new(keys()));
    let all = writers(json!({"sub": "a", "role": "project_admin"}));
    assert!(
        users.verify(&all, NOW).is_err() && users.admin(Some(&bearer(&all)), None, NOW).is_err()
    );
}

#[test]
fn a_verified_token_is_remembered_until_it_expires() {
    let mut auth = auth();
    let header = bearer(&token(json!({"exp": NOW + 10})));
    let mut read = |organization, now_s| auth.reader(Some(&header), None, organization, now_s);
    let first = read(ORGANIZATION, NOW).unwrap().user.unwrap();
    let again = read(ORGANIZATION, NOW + 9).unwrap().user.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!(read("Org/2", NOW + 9), Err(OTHER_ORGANIZATION));
    let past = M2Error::Unauthorized("the token has expired");
    assert_eq!(read(ORGANIZATION, NOW + 10), Err(past));
    assert_eq!(auth.writer(Some(&header), None, ORGANIZATION, NOW), Err(READS));
}

#[test]
fn minted_tokens_are_good() {
    let new = |user, organization| NewToken {
        user,
        organization,
        asked: [None; 2],
        issued_at: NOW,
        expires_at: NOW + 60,
    };
    let reader = sign_token(SECRET, &new(Some("u1"), ORGANIZATION)).unwrap();
    assert_eq!(reads(&reader), user("u1", Some(NOW + 60)));
    assert_eq!(writes(&reader), Err(READS));
    // InsForge does not accept it for a user's token.
    let mut users = Authenticator::new(Arc::new(keys()));
    assert!(users.verify(&reader, NOW).is_err());
    let writer = sign_token(SECRET, &new(None, ORGANIZATION)).unwrap();
    assert_eq!((reads(&writer), writes(&writer)), (Err(OTHER_KIND), Ok(())));

    let long = "o".repeat(256);
    for organization in ["", "a\tb", &long] {
        for user in [None, Some("u")] {
            let error = sign_token(SECRET, &new(user, organization)).unwrap_err();
            assert!(error.to_string().starts_with("an organization has 1 to 255 bytes"), "{error}");
        }
        let error = sign_token(SECRET, &new(Some(organization), ORGANIZATION)).unwrap_err();
        assert!(error.to_string().starts_with("a user has 1 to 255 bytes"), "{error}");
    }
    let short = sign_token("short", &new(None, ORGANIZATION));
    assert_eq!(short, Err(SignError::Key(KeyError::SecretTooShort { bytes: 5 })));
}

#[test]
fn errors_say_what_they_are_and_nothing_secret() {
    let unauthorized = auth().reader(None, None, ORGANIZATION, NOW).unwrap_err();
    assert_eq!((unauthorized.status(), unauthorized.error()), (401, "AUTH_UNAUTHORIZED"));
    let forbidden = writes(&token(json!({}))).unwrap_err();
    assert_eq!((forbidden.status(), forbidden.error()), (403, "FORBIDDEN"));
    let mut auth = auth();
    let printed = format!("{auth:?}");
    assert!(!printed.contains(READERS_KEY) && !printed.contains(SECRET), "{printed}");
    for authorization in ["Bearer hunter2", "hunter2 x", "Bearer ik_hunter2", "Bearer a.hunter2.c"]
    {
        for key in [None, Some("hunter2")] {
            let error = auth.reader(Some(authorization), key, ORGANIZATION, NOW).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_that_is_guessed_gets_in(
        authorization in proptest::option::of("(Bearer )?.{0,60}"),
        dots in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){2}",
        api_key in proptest::option::of(".{1,40}"),
    ) {
        let mut auth = auth();
        for header in [authorization, Some(bearer(&dots))] {
            let (header, key) = (header.as_deref(), api_key.as_deref());
            prop_assert!(auth.reader(header, key, ORGANIZATION, NOW).is_err());
            prop_assert!(auth.writer(header, key, ORGANIZATION, NOW).is_err());
        }
    }

    #[test]
    fn signed_claims_never_panic(
        claims in r#"\{("(user_id|sub|organization_id|exp|aud|role)":[-0-9eE."a-z\[\]{}]{0,12},?){0,4}\}"#,
    ) {
        let token = hs256(&claims);
        // None of these claims has an administrator or names this organization.
        prop_assert!(reads(&token).is_err());
        prop_assert!(writes(&token).is_err());
    }
}
