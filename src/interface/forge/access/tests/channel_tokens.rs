//! Realtime tokens: the content of signed tokens, and which tokens are accepted.

use super::*;

const WANTED: Wanted<'static> =
    Wanted { channel: "ch", installation: "inst-1", permission: Permission::Publish };

fn asked(claims: &str) -> NewToken<'_> {
    NewToken { installation: "inst-1", channel: "ch", claims, permissions: None }
}

/// Returns the payload of a valid token, as the node signs it.
fn payload() -> Value {
    json!({
        "iss": "fanfare", "aud": "realtime-channel", "iat": NOW, "exp": NOW + 60,
        "installationId": "inst-1", "channel": {"name": "ch", "claims": {"a": 1}},
        "permissions": ["publish"],
    })
}

/// Returns a token that is signed with the node's key for realtime tokens.
fn own(payload: &Value) -> String {
    token::sign(&ChannelTokenKey::new(trusting()).signs, payload)
}

fn verify(token: &str) -> Result<Grant, TokenError> {
    forge().channel_token(token, &WANTED, NOW)
}

fn said(token: &str) -> Value {
    let json = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(json).unwrap()).unwrap()
}

#[test]
fn a_signed_token_says_what_is_documented() {
    let permissions = [Permission::Publish, Permission::Subscribe, Permission::Publish];
    let new = NewToken { permissions: Some(&permissions), ..asked(r#" { "b": 1.0, "a": "x" } "#) };
    let signed = forge().sign(&new, NOW).unwrap();
    assert_eq!(signed.expires_at, NOW + LIFETIME_S);
    let expected = json!({
        "iss": "fanfare", "aud": "realtime-channel", "iat": NOW, "exp": NOW + LIFETIME_S,
        "installationId": "inst-1", "channel": {"name": "ch", "claims": {"a": "x", "b": 1}},
        "permissions": ["subscribe", "publish"],
    });
    assert_eq!(said(&signed.token), expected);
    let grant = verify(&signed.token).unwrap();
    let expected = Grant { claims: r#"{"a":"x","b":1}"#.into(), expires_at: NOW + LIFETIME_S };
    assert_eq!(grant, expected);

    let all = forge().sign(&asked("{}"), NOW).unwrap();
    assert_eq!(said(&all.token).get("permissions"), None);
    let nodes_agree = ForgeAuth::new(trusting(), 1).channel_token(&all.token, &WANTED, NOW);
    assert_eq!(nodes_agree.unwrap().claims, "{}".into());
}

#[test]
fn a_tokens_life_ends_with_its_second() {
    let token = forge().sign(&asked("{}"), NOW).unwrap().token;
    let at = |now_s| forge().channel_token(&token, &WANTED, now_s).map(drop);
    assert_eq!(at(NOW + LIFETIME_S - 1), Ok(()));
    assert_eq!(at(NOW + LIFETIME_S), Err(TokenError::Expired));
    let signed = ForgeAuth::new(trusting(), u64::MAX).sign(&asked("{}"), NOW).unwrap();
    assert_eq!(signed.expires_at, u64::MAX);
}

#[test]
fn permissions_are_all_none_or_those_named() {
    use Permission::{Publish, Subscribe};
    let cases: [(Option<&[Permission]>, [bool; 2]); 5] = [
        (None, [true, true]),
        (Some(&[]), [false, false]),
        (Some(&[Subscribe]), [true, false]),
        (Some(&[Publish]), [false, true]),
        (Some(&[Subscribe, Publish]), [true, true]),
    ];
    for (permissions, expected) in cases {
        let token = forge().sign(&NewToken { permissions, ..asked("{}") }, NOW).unwrap().token;
        let verdicts = [Subscribe, Publish]
            .map(|permission| forge().channel_token(&token, &Wanted { permission, ..WANTED }, NOW));
        for (verdict, is_allowed) in verdicts.into_iter().zip(expected) {
            let verdict = verdict.map(drop);
            let refused = Err(TokenError::MissingPermission);
            assert_eq!(verdict, if is_allowed { Ok(()) } else { refused }, "{permissions:?}");
        }
    }
    for permission in [Subscribe, Publish] {
        assert_eq!(Permission::named(permission.name()), Some(permission));
    }
    assert_eq!(Permission::named("Publish"), None);
}

#[test]
fn what_is_no_token_of_this_installation_is_invalid() {
    assert!(verify(&own(&payload())).is_ok());
    let altered = |more: Value| own(&with(payload(), more));
    let without = |name: &str| {
        let mut payload = payload();
        payload.as_object_mut().unwrap().remove(name).unwrap();
        own(&payload)
    };
    let good = own(&payload());
    let invalid = [
        String::new(),
        "a.b".into(),
        "a.b.c".into(),
        good.rsplit_once('.').unwrap().0.into(),
        format!("{good}.{good}"),
        format!("{good}A"),
        format!("{good} "),
        hs256(&payload().to_string()),
        issued(Algorithm::EdDSA, &payload()),
        token::sign(&ChannelTokenKey::new(trusting()).signs, &json!([1])),
        altered(json!({"aud": "realtime"})),
        altered(json!({"aud": null})),
        altered(json!({"aud": ["realtime-channel", "realtime"]})),
        altered(json!({"installationId": "inst-2"})),
        altered(json!({"installationId": ["inst-1"]})),
        altered(json!({"channel": null})),
        altered(json!({"channel": "ch"})),
        altered(json!({"channel": {}})),
        altered(json!({"channel": {"name": "ch"}})),
        altered(json!({"channel": {"claims": {}}})),
        altered(json!({"channel": {"name": 7, "claims": {}}})),
        altered(json!({"channel": {"name": "ch", "claims": null}})),
        altered(json!({"channel": {"name": "ch", "claims": [1]}})),
        altered(json!({"permissions": null})),
        altered(json!({"permissions": "publish"})),
        altered(json!({"permissions": ["publish", 1]})),
        altered(json!({"exp": null})),
        altered(json!({"exp": "1800000060"})),
        altered(json!({"exp": -1})),
        altered(json!({"padding": "x".repeat(TOKEN_BYTES_MAX)})),
        without("aud"),
        without("exp"),
        without("channel"),
        without("installationId"),
    ];
    for token in invalid {
        assert_eq!(verify(&token), Err(TokenError::Invalid), "{token}");
    }
    // Permissions and members that a later version may add are ignored.
    let later = altered(json!({"permissions": ["publish", "listen"], "x": 1}));
    assert!(verify(&later).is_ok());
}

#[test]
fn the_algorithm_is_pinned() {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let payload = payload().to_string();
    let own = ChannelTokenKey::new(trusting());
    for alg in ["none", "hs256", "HS384", "HS512", "RS256"] {
        for key in [&own.signs, &key] {
            let token = signed_with(key, Algorithm::HS256, &json!({ "alg": alg }), &payload);
            assert_eq!(verify(&token), Err(TokenError::Invalid), "{alg}");
        }
    }
    let header = json!({"alg": "HS256", "crit": ["exp"]});
    let token = signed_with(&own.signs, Algorithm::HS256, &header, &payload);
    assert_eq!(verify(&token), Err(TokenError::Invalid));
    let header = json!({"alg": "HS256", "kid": "any"});
    assert!(verify(&signed_with(&own.signs, Algorithm::HS256, &header, &payload)).is_ok());
}

/// The error of each violated check, in the order of the checks; the first five are all `Invalid`.
const FAULTS: [TokenError; 8] = [
    TokenError::Invalid,
    TokenError::Invalid,
    TokenError::Invalid,
    TokenError::Invalid,
    TokenError::Invalid,
    TokenError::Expired,
    TokenError::ChannelMismatch,
    TokenError::MissingPermission,
];

fn faulty(faults: u32) -> String {
    let has = |at: u32| faults & (1 << at) != 0;
    let mut payload = payload();
    if has(1) {
        payload["aud"] = json!("realtime");
    }
    if has(2) {
        payload["installationId"] = json!("inst-2");
    }
    if has(5) {
        payload["exp"] = json!(NOW);
    }
    if has(6) {
        payload["channel"]["name"] = json!("other");
    }
    if has(3) {
        payload["channel"]["claims"] = json!([]);
    }
    if has(4) {
        payload["channel"] = json!("ch");
    }
    if has(7) {
        payload["permissions"] = json!(["subscribe"]);
    }
    if has(0) { hs256(&payload.to_string()) } else { own(&payload) }
}

#[test]
fn of_several_faults_the_first_is_told() {
    for faults in 0..1_u32 << FAULTS.len() {
        let verdict = verify(&faulty(faults)).map(drop);
        let expected = match FAULTS.get(faults.trailing_zeros() as usize) {
            Some(error) => Err(*error),
            None => Ok(()),
        };
        assert_eq!(verdict, expected, "{faults:b}");
    }
}

#[test]
fn errors_have_the_documented_words() {
    let told = [
        (TokenError::Invalid, "INVALID_TOKEN"),
        (TokenError::Expired, "TOKEN_EXPIRED"),
        (TokenError::ChannelMismatch, "CHANNEL_NAME_MISMATCH"),
        (TokenError::MissingPermission, "MISSING_PERMISSION"),
    ];
    for (error, code) in told {
        assert_eq!(error.code(), code);
        assert_eq!(error.to_string(), format!("Realtime token validation failed: {code}"));
    }
}

#[test]
fn claims_are_an_object_of_at_most_four_kibibytes() {
    let sign = |claims: &str| forge().sign(&asked(claims), NOW).map(drop);
    let none = [
        "",
        "null",
        "[]",
        "7",
        "\"{}\"",
        "{",
        "{}{}",
        "{a:1}",
        r#"{"a":1e400}"#,
        "{\"a\":\"\\ud800\"}",
    ];
    for claims in none {
        assert_eq!(sign(claims), Err(ClaimsError::NotAnObject), "{claims}");
    }
    let of = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
    assert_eq!((of(4_096).len(), sign(&of(4_096))), (4_096, Ok(())));
    assert_eq!(sign(&of(4_097)), Err(ClaimsError::TooLong));
    assert_eq!(sign(&format!("{:<4097}", "{}")), Err(ClaimsError::TooLong), "blanks count");
    // These numbers are longer in canonical form than as given.
    let numbers = format!(r#"{{"a":[{}1]}}"#, "1e20,".repeat(400));
    assert!(numbers.len() < 4_096);
    assert_eq!(sign(&numbers), Err(ClaimsError::TooLong));
}

#[test]
fn whatever_is_signed_is_accepted_again() {
    let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let deepest = (1..200).rev().find(|depth| forge().sign(&asked(&deep(*depth)), NOW).is_ok());
    let deepest = deepest.unwrap();
    assert!(deepest > 100, "{deepest}");
    // All values have their greatest length, and all characters of the names are escaped in JSON.
    let (channel, installation) = ("\"".repeat(512), "\\".repeat(512));
    let longest = format!(r#"{{"a":"{}"}}"#, "x".repeat(4_096 - 8));
    for claims in [&deep(deepest), &longest, r#"{"a":{"b":"\u0000\n€😀\"\\"},"":-0}"#] {
        let permissions = [Permission::Subscribe, Permission::Publish];
        let new = NewToken {
            installation: &installation,
            channel: &channel,
            claims,
            permissions: Some(&permissions),
        };
        let signed = forge().sign(&new, NOW).unwrap();
        let wanted = Wanted { channel: &channel, installation: &installation, ..WANTED };
        let grant = forge().channel_token(&signed.token, &wanted, NOW).unwrap();
        let value: Value = serde_json::from_str(claims).unwrap();
        assert_eq!(*grant.claims, jcs::canonical(&value));
    }
}

proptest! {
    #[test]
    fn no_token_panics(
        token in ".{0,200}",
        dots in "[A-Za-z0-9_-]{0,60}(\\.[A-Za-z0-9_-]{0,60}){0,4}",
        claims in "\\{?.{0,60}\\}?",
    ) {
        prop_assert_eq!(verify(&token), Err(TokenError::Invalid));
        prop_assert_eq!(verify(&dots), Err(TokenError::Invalid));
        let is_object = serde_json::from_str::<Map<String, Value>>(&claims).is_ok();
        prop_assert_eq!(forge().sign(&asked(&claims), NOW).is_ok(), is_object);
    }

    #[test]
    fn a_tampered_token_is_invalid(at in 0_usize..200, by in "[A-Za-z0-9_.-]") {
        let token = own(&payload());
        let at = at % token.len();
        let mut tampered = token.clone();
        tampered.replace_range(at..=at, &by);
        prop_assume!(tampered != token);
        prop_assert_eq!(verify(&tampered), Err(TokenError::Invalid));
    }
}

/// A claim may have the key that `serde_json` marks raw values with. A parser that honoured the key
/// would take its text for the value.
#[test]
fn no_key_of_claims_stands_for_something_else() {
    let forge = forge();
    let honest = forge.sign(&asked(r#"{"filter":{"role":"admin"}}"#), NOW).unwrap();
    let key = "$serde_json::private::RawValue";
    let forged = format!(r#"{{"filter":{{"{key}":"{{\"role\":\"admin\"}}"}}}}"#);
    let forged = forge.sign(&asked(&forged), NOW).unwrap();
    let claims = |token: &str| forge.channel_token(token, &WANTED, NOW).unwrap().claims;
    assert_ne!(claims(&honest.token), claims(&forged.token));
    assert!(claims(&forged.token).contains(key));
}
