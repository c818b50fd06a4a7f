//! Tests of the tokens that the node accepts and refuses.

use super::*;
use crate::limits::TOKEN_BYTES_MAX;

/// Returns whether a token was refused before its claims counted.
fn is_refused(verdict: &Result<Arc<Credential>, AuthError>) -> bool {
    use TokenProblem::{Malformed, Signature};
    matches!(verdict, Err(AuthError::Token(Malformed | Signature)))
}

#[test]
fn a_token_says_who_its_holder_is() {
    let token = hs256(r#"{"sub":"u1","email":"a@b.c","role":"project_admin","exp":1800000009}"#);
    let expected = Credential {
        id: "u1".into(),
        email: Some("a@b.c".into()),
        role: Role::ProjectAdmin,
        is_user: true,
        expires_at: Some(NOW + 9),
    };
    assert_eq!(*verify(&token).unwrap(), expected);

    let role = |claims: &str| verify(&hs256(claims)).map(|credential| credential.role.clone());
    assert_eq!(role(r#"{"sub":"u"}"#), Ok(Role::Authenticated));
    assert_eq!(role(r#"{"sub":"u","role":null}"#), Ok(Role::Authenticated));
    assert_eq!(role(r#"{"sub":"u","role":"anon"}"#), Ok(Role::Anon));
    assert_eq!(role(r#"{"sub":"u","role":"root"}"#), Ok(Role::Unknown("root".into())));
    assert_eq!(role(r#"{"sub":"u","role":""}"#), Ok(Role::Unknown("".into())));
    assert_eq!(
        role(r#"{"sub":"u","role":["project_admin"]}"#),
        Err(AuthError::Token(TokenProblem::Malformed))
    );
}

#[test]
fn a_token_without_a_subject_is_refused() {
    for claims in ["{}", r#"{"sub":""}"#, r#"{"sub":true}"#, r#"{"sub":null}"#, r#"{"sub":["u"]}"#]
    {
        assert_eq!(verify(&hs256(claims)), Err(AuthError::Subject), "{claims}");
    }
    // The expiry is checked before the subject.
    assert_eq!(verify(&hs256(r#"{"exp":1}"#)), Err(AuthError::Token(TokenProblem::Expired)));
}

#[test]
fn a_subject_that_is_a_number_is_its_text() {
    for (claims, id) in [(r#"{"sub":5}"#, "5"), (r#"{"sub":-1.5}"#, "-1.5")] {
        assert_eq!(&*verify(&hs256(claims)).unwrap().id, id);
    }
}

#[test]
fn a_refresh_token_is_refused_and_other_types_are_not() {
    let refused = Err(AuthError::Token(TokenProblem::Refresh));
    let claims = r#"{"sub":"u","type":"refresh","iss":"insforge"}"#;
    assert_eq!(verify(&hs256(claims)).map(drop), refused);
    for kind in [r#""access""#, "null", r#"["refresh"]"#] {
        assert!(verify(&hs256(&format!(r#"{{"sub":"u","type":{kind}}}"#))).is_ok(), "{kind}");
    }
}

#[test]
fn tokens_are_taken_of_the_issuers_and_for_the_audiences_that_are_set() {
    use TokenProblem::{Audience, Issuer};
    let verify = |issuers: &[&str], audiences: &[&str], claims: &str| {
        let owned = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
        let mut keys = keys();
        keys.accept_only(Accepted { issuers: owned(issuers), audiences: owned(audiences) });
        let verified = Authenticator::new(Arc::new(keys)).verify(&hs256(claims), NOW);
        verified.map(drop).map_err(|error| match error {
            AuthError::Token(problem) => problem,
            other => panic!("{other}"),
        })
    };
    let (both, neither) = (r#"{"sub":"u","iss":"a","aud":["x","y"]}"#, r#"{"sub":"u"}"#);
    assert_eq!(verify(&[], &[], neither), Ok(()));
    assert_eq!(verify(&["b", "a"], &["y"], both), Ok(()));
    assert_eq!(verify(&["b"], &["y"], both), Err(Issuer));
    assert_eq!(verify(&["a"], &["z"], both), Err(Audience));
    assert_eq!(verify(&["a"], &[], neither), Err(Issuer));
    assert_eq!(verify(&[], &["x"], neither), Err(Audience));
    assert_eq!(verify(&["a"], &[], r#"{"sub":"u","iss":["a"]}"#), Err(Issuer));
    assert_eq!(verify(&[], &["x"], r#"{"sub":"u","aud":"x"}"#), Ok(()));
    assert_eq!(verify(&[], &["x"], r#"{"sub":"u","aud":["X",null,{"x":"x"}]}"#), Err(Audience));
    // A purpose of the node's own is never a user's, even if it is listed.
    assert_eq!(verify(&[], &["reserved"], r#"{"sub":"u","aud":"reserved"}"#), Err(Audience));
}

#[test]
fn previous_keys_count_beside_the_present_ones() {
    let (old, older) = (format!("ik_{}", "c".repeat(29)), format!("ik_{}", "d".repeat(40)));
    let anon = format!("anon_{}", "e".repeat(27));
    let mut keys = keys();
    assert_eq!(keys.add_previous(&[&anon], &[]), Err(KeyError::ApiKey));
    assert_eq!(keys.add_previous(&[], &[&old]), Err(KeyError::AnonKey));
    keys.add_previous(&[&old, &older], &[&anon]).unwrap();
    let mut auth = Authenticator::new(Arc::new(keys));
    for key in [&api_key(), &old, &older] {
        assert_eq!(auth.admin(None, Some(key), NOW), Ok(()), "{key}");
        assert_eq!(auth.api_key(key).unwrap().role, Role::ProjectAdmin, "{key}");
    }
    assert_eq!(auth.admin(None, Some(&anon), NOW), Err(AdminError::ApiKey));
    for key in [&anon_key(), &anon] {
        assert_eq!(auth.token(key, NOW).unwrap().role, Role::Anon, "{key}");
    }
    assert_eq!(auth.token("anon_", NOW), Err(AuthError::AnonKey));
}

#[test]
fn unknown_keys_are_told_and_only_those() {
    let unknown = Arc::<UnknownKey>::default();
    let mut keys = keys();
    let header = |kid: &str| json!({"alg": "ES256", "kid": kid});
    keys.follow(None, unknown.clone()).unwrap();
    let mut auth = Authenticator::new(Arc::new(keys));
    let token = asymmetric(Algorithm::ES256, 'a', &header("stranger"));
    assert!(auth.verify(&token, NOW).is_err());
    assert!(unknown.take() && !unknown.take(), "it is told once");
    // Without a `kid`, and by the secret, there is no key to fetch.
    let nameless = asymmetric(Algorithm::ES256, 'a', &json!({"alg": "ES256"}));
    assert!(auth.verify(&nameless, NOW).is_err() && !unknown.take());
}

#[test]
fn dates_are_kept_to_the_second() {
    let cases = [
        (r#"{"sub":"u","exp":1800000001}"#, Ok(())),
        (r#"{"sub":"u","exp":1800000000.5}"#, Ok(())),
        (r#"{"sub":"u","exp":1800000000}"#, Err(AuthError::Token(TokenProblem::Expired))),
        (r#"{"sub":"u","exp":1799999999.9}"#, Err(AuthError::Token(TokenProblem::Expired))),
        (r#"{"sub":"u","exp":-1}"#, Err(AuthError::Token(TokenProblem::Expired))),
        (r#"{"sub":"u","exp":1e300}"#, Ok(())),
        (r#"{"sub":"u","exp":"1800000001"}"#, Err(AuthError::Token(TokenProblem::Malformed))),
        (r#"{"sub":"u","exp":null}"#, Err(AuthError::Token(TokenProblem::Malformed))),
        (r#"{"sub":"u","nbf":1800000005}"#, Ok(())),
        (r#"{"sub":"u","nbf":1800000006}"#, Err(AuthError::Token(TokenProblem::Early))),
        (r#"{"sub":"u","nbf":1800000005.5}"#, Err(AuthError::Token(TokenProblem::Early))),
        (r#"{"sub":"u","nbf":"0"}"#, Err(AuthError::Token(TokenProblem::Malformed))),
        (r#"{"sub":"u","aud":"other","iss":["x"],"iat":"never"}"#, Ok(())),
    ];
    for (claims, expected) in cases {
        assert_eq!(verify(&hs256(claims)).map(drop), expected, "{claims}");
    }
}

#[test]
fn each_algorithm_verifies_with_its_own_key() {
    let mut auth = trusting(&[RS_PEM, ES_PEM, ED_PEM]);
    for (algorithm, name) in
        [(Algorithm::RS256, "RS256"), (Algorithm::ES256, "ES256"), (Algorithm::EdDSA, "EdDSA")]
    {
        let header = json!({"alg": name, "typ": "JWT"});
        let good = asymmetric(algorithm, 'a', &header);
        assert_eq!(&*auth.verify(&good, NOW).unwrap().id, "u", "{name}");
        let strangers = asymmetric(algorithm, 'b', &header);
        assert_eq!(
            auth.verify(&strangers, NOW),
            Err(AuthError::Token(TokenProblem::Signature)),
            "{name}"
        );
        assert_eq!(
            verify(&good),
            Err(AuthError::Token(TokenProblem::Signature)),
            "{name}: no key is configured"
        );
    }
}

#[test]
fn a_public_key_is_never_an_hmac_secret() {
    let mut auth = trusting(&[RS_PEM, ES_PEM, ED_PEM]);
    let der = |pem: &str| {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        base64::engine::general_purpose::STANDARD.decode(body).unwrap()
    };
    for pem in [RS_PEM, ES_PEM, ED_PEM] {
        for secret in [pem.as_bytes().to_vec(), pem.trim().as_bytes().to_vec(), der(pem)] {
            let key = EncodingKey::from_secret(&secret);
            for alg in ["HS256", "RS256", "ES256", "EdDSA"] {
                let header = json!({"alg": alg});
                let forged = signed_with(&key, Algorithm::HS256, &header, r#"{"sub":"u"}"#);
                assert_eq!(
                    auth.verify(&forged, NOW),
                    Err(AuthError::Token(TokenProblem::Signature)),
                    "{alg}"
                );
            }
        }
    }
}

#[test]
fn an_algorithm_that_no_key_is_pinned_to_is_refused() {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for alg in ["none", "None", "NONE", "", "hs256", "HS384", "HS512", "RS512", "PS256", "ES384"] {
        let header = json!({"alg": alg});
        let token = signed_with(&key, Algorithm::HS256, &header, r#"{"sub":"u"}"#);
        assert!(is_refused(&verify(&token)), "{alg}");
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        for unsigned in [unsigned.to_owned(), format!("{unsigned}.")] {
            assert!(is_refused(&verify(&unsigned)), "{alg}");
        }
    }
    // HS512 is not HS256, even with the right secret.
    let header = json!({"alg": "HS512"});
    let token = signed_with(&key, Algorithm::HS512, &header, r#"{"sub":"u"}"#);
    assert_eq!(verify(&token), Err(AuthError::Token(TokenProblem::Signature)));
    // An RSA key is pinned to RS256 and verifies nothing else.
    let rsa = private_key(Algorithm::RS256, 'a');
    let header = json!({"alg": "PS256"});
    let token = signed_with(&rsa, Algorithm::PS256, &header, r#"{"sub":"u"}"#);
    assert_eq!(
        trusting(&[RS_PEM]).verify(&token, NOW),
        Err(AuthError::Token(TokenProblem::Signature))
    );
}

#[test]
fn headers_that_are_not_understood_are_refused() {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for header in [
        json!({"alg": "HS256", "crit": ["exp"]}),
        json!({"alg": "HS256", "crit": null}),
        json!({"alg": "HS256", "kid": 5}),
        json!({"alg": ["HS256"]}),
        json!({"typ": "JWT"}),
        json!(["HS256"]),
    ] {
        let token = signed_with(&key, Algorithm::HS256, &header, r#"{"sub":"u"}"#);
        assert_eq!(verify(&token), Err(AuthError::Token(TokenProblem::Malformed)), "{header}");
    }
    let claims = [r#"["u"]"#, "\"u\"", "{", "", r#"{"sub":"u"}{}"#, r#"{"sub":"u","sub":"v"}"#];
    for claims in claims {
        assert_eq!(
            verify(&hs256(claims)),
            Err(AuthError::Token(TokenProblem::Malformed)),
            "{claims}"
        );
    }
}

/// Returns a token with these encoded parts, correctly signed with HS256 and the node's secret.
fn around(header: &str, claims: &str) -> String {
    let message = format!("{header}.{claims}");
    let signer = (DEFAULT_PROVIDER.signer_factory)(
        &Algorithm::HS256,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    );
    let signature = signer.unwrap().try_sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_header_says_once_what_is_read_of_it() {
    let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"u"}"#);
    let refused = [
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":"a","kid":"a"}"#,
        r#"{"alg":"HS256","crit":[],"crit":[]}"#,
        r#"{"alg":{"HS256":null}}"#,
        r#"{"alg":"HS256"}{}"#,
        r#"["JWT","HS256"]"#,
        "",
    ];
    for header in refused {
        let token = around(&URL_SAFE_NO_PAD.encode(header), &claims);
        assert_eq!(verify(&token), Err(AuthError::Token(TokenProblem::Malformed)), "{header}");
    }
    // Parameters that the node does not read may have any value and may be repeated.
    let accepted = [
        r#" {"alg":"HS256"} "#,
        r#"{"alg":"HS256","kid":null}"#,
        r#"{"\u0061lg":"HS256","typ":5,"cty":[],"jku":{},"jwk":{"kty":1},"url":7}"#,
        r#"{"alg":"HS256","typ":"a","typ":"b","x5u":0,"x5c":"x","enc":false,"zip":[]}"#,
        r#"{"alg":"HS256","x":{"$serde_json::private::RawValue":1},"x":0}"#,
    ];
    for header in accepted {
        let token = around(&URL_SAFE_NO_PAD.encode(header), &claims);
        assert!(verify(&token).is_ok(), "{header}");
    }
    let claims = r#"{"sub":"u","nonce":["a"],"nonce":5,"iat":{"x":[1]},"jti":null}"#;
    assert!(verify(&hs256(claims)).is_ok());
}

#[test]
fn the_parts_of_a_token_are_base64url_without_padding() {
    // Both end with a group of two characters, the last of which has four bits that must be zero.
    let (header, claims) = (r#"{"alg":"HS256"}  "#, r#"{"sub":"???"}"#);
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    assert!(header.ends_with('A') && claims.ends_with('Q') && claims.contains('_'), "{claims}");
    assert!(verify(&around(&header, &claims)).is_ok());
    let spoilt = |part: &str| {
        let (start, _) = part.split_at(part.len() - 1);
        [format!("{part}=="), format!("{part} "), format!("{part}\n"), format!("{start}Z")]
    };
    let standard = claims.replace('_', "/");
    let headers = spoilt(&header).map(|header| around(&header, &claims));
    let bodies = spoilt(&claims).map(|claims| around(&header, &claims));
    for token in headers.into_iter().chain(bodies).chain([around(&header, &standard)]) {
        assert_eq!(verify(&token), Err(AuthError::Token(TokenProblem::Malformed)), "{token}");
    }
    let good = around(&header, &claims);
    let (message, signature) = good.rsplit_once('.').unwrap();
    // The last character of 32 encoded bytes has two unused bits.
    let (start, last) = signature.split_at(signature.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.find(last).and_then(|at| alphabet.chars().nth(at + 1)).unwrap();
    for signature in [format!("{signature}="), format!("{start}{next}"), String::new()] {
        let token = format!("{message}.{signature}");
        assert_eq!(verify(&token), Err(AuthError::Token(TokenProblem::Signature)), "{token}");
    }
}

#[test]
fn a_tampered_token_is_refused_wherever_it_was_tampered_with() {
    for token in
        [hs256(r#"{"sub":"u"}"#), asymmetric(Algorithm::EdDSA, 'a', &json!({"alg":"EdDSA"}))]
    {
        let mut auth = trusting(&[ED_PEM]);
        assert!(auth.verify(&token, NOW).is_ok());
        for at in 0..token.len() {
            let mut tampered = token.clone().into_bytes();
            tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
            let tampered = String::from_utf8(tampered).unwrap();
            assert!(is_refused(&auth.verify(&tampered, NOW)), "{at}: {tampered}");
        }
        for tampered in [format!("{token}="), format!("{token}."), format!(" {token}")] {
            assert!(is_refused(&auth.verify(&tampered, NOW)), "{tampered}");
        }
        let (_, signature) = token.rsplit_once('.').unwrap();
        let other = hs256(r#"{"sub":"admin"}"#);
        let (message, _) = other.rsplit_once('.').unwrap();
        let swapped = format!("{message}.{signature}");
        assert_eq!(auth.verify(&swapped, NOW), Err(AuthError::Token(TokenProblem::Signature)));
    }
}

#[test]
fn a_token_may_be_as_long_as_its_bound_and_no_longer() {
    let token =
        |filler: usize| hs256(&json!({"sub": "u", "filler": "x".repeat(filler)}).to_string());
    let filler =
        (0..).find(|n| token(TOKEN_BYTES_MAX * 3 / 4 - 200 + n).len() >= TOKEN_BYTES_MAX - 1);
    let longest = TOKEN_BYTES_MAX * 3 / 4 - 200 + filler.unwrap();
    let (fits, exceeds) = (token(longest), token(longest + 3));
    assert!(fits.len() <= TOKEN_BYTES_MAX && exceeds.len() > TOKEN_BYTES_MAX);
    assert!(verify(&fits).is_ok());
    assert_eq!(verify(&exceeds), Err(AuthError::Token(TokenProblem::Malformed)));
}

#[test]
fn a_verified_token_is_remembered_until_it_expires() {
    let mut auth = authenticator();
    let token = hs256(r#"{"sub":"u","exp":1800000010}"#);
    let first = auth.verify(&token, NOW).unwrap();
    let json = json!({"token": token}).to_string();
    assert!(Arc::ptr_eq(&first, &auth.connect(&json, NOW + 9).unwrap()), "shared by connections");
    assert_eq!(auth.connect(&json, NOW + 10), Err(AuthError::Token(TokenProblem::Expired)));
    assert_eq!(auth.verify(&token, NOW + 10), Err(AuthError::Token(TokenProblem::Expired)));
    let other = auth.verify(&hs256(r#"{"sub":"v"}"#), NOW).unwrap();
    assert_eq!(&*other.id, "v");
}

#[test]
fn a_minted_token_is_accepted_and_signed_as_the_standard_says() {
    let claims = UserClaims {
        sub: "u1",
        role: Some("project_admin"),
        email: Some("a@b.c"),
        exp: Some(NOW + 60),
        others: serde_json::Map::from_iter([("team".to_owned(), json!("red"))]),
    };
    let credential = verify(&sign_user(SECRET, &claims).unwrap()).unwrap();
    assert_eq!((&*credential.id, &credential.role), ("u1", &Role::ProjectAdmin));
    assert_eq!(credential.email.as_deref(), Some("a@b.c"));
    assert_eq!(credential.expires_at, Some(NOW + 60));

    let bare = sign_user(SECRET, &UserClaims { sub: "u2", ..UserClaims::default() }).unwrap();
    assert_eq!(verify(&bare).unwrap().expires_at, None);
    // Computed with `openssl dgst -sha256 -hmac`.
    assert_eq!(bare, include_str!("../testdata/hs256.jwt").trim());
    assert_eq!(sign_user("short", &claims), Err(KeyError::SecretTooShort { bytes: 5 }));
}

#[test]
fn tokens_have_names_of_their_own() {
    let names: HashSet<_> = ["", "a", "b", "a.b.c"].map(keys::digest).into_iter().collect();
    assert_eq!(names.len(), 4);
}

proptest! {
    #[test]
    fn no_token_panics(
        token in ".{0,200}",
        dots in "[A-Za-z0-9_-]{0,60}(\\.[A-Za-z0-9_-]{0,60}){0,4}",
    ) {
        let mut auth = trusting(&[RS_PEM, ES_PEM, ED_PEM]);
        prop_assert!(auth.verify(&token, NOW).is_err());
        prop_assert!(auth.verify(&dots, NOW).is_err());
        prop_assert!(auth.admin(Some(&token), Some(&dots), NOW).is_err());
    }

    #[test]
    fn no_signature_panics(
        alg in "HS256|RS256|ES256|EdDSA",
        claims in any::<Vec<u8>>(),
        signature in any::<Vec<u8>>(),
    ) {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let header = encode(json!({"alg": alg}).to_string().as_bytes());
        let token = format!("{header}.{}.{}", encode(&claims), encode(&signature));
        let mut auth = trusting(&[RS_PEM, ES_PEM, ED_PEM]);
        prop_assert!(is_refused(&auth.verify(&token, NOW)));
    }

    #[test]
    fn signed_claims_never_panic(
        claims in r#"\{("(sub|exp|nbf|role|email)":[-0-9eE."a-z\[\]{}]{0,12},?){0,4}\}"#,
    ) {
        let _verdict = verify(&hs256(&claims));
    }
}
