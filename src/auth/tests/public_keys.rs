//! Tests of which public keys the node trusts, and which of them it tries for a token.

use super::*;

#[test]
fn keys_are_chosen_by_their_id() {
    let mut keys = keys();
    keys.add_pem(Some("old"), include_str!("../testdata/es256_b.pem")).unwrap();
    keys.add_pem(Some("new"), ES_PEM).unwrap();
    let mut auth = Authenticator::new(Arc::new(keys));
    let token = |which, kid: Value| {
        asymmetric(Algorithm::ES256, which, &json!({"alg": "ES256", "kid": kid}))
    };
    assert!(auth.verify(&token('a', json!("new")), NOW).is_ok());
    assert!(auth.verify(&token('b', json!("old")), NOW).is_ok());
    assert!(auth.verify(&token('a', json!(null)), NOW).is_ok(), "without id each key is tried");
    assert_eq!(
        auth.verify(&token('a', json!("old")), NOW),
        Err(AuthError::Token(TokenProblem::Signature))
    );
    assert_eq!(
        auth.verify(&token('a', json!("other")), NOW),
        Err(AuthError::Token(TokenProblem::Signature))
    );
}

#[test]
fn keys_without_an_id_serve_tokens_whose_id_no_key_has() {
    let mut auth = trusting(&[ES_PEM, RS_PEM]);
    let token = asymmetric(Algorithm::ES256, 'a', &json!({"alg": "ES256", "kid": "2024-11"}));
    assert!(auth.verify(&token, NOW).is_ok());
    // An id counts only among the keys of the token's algorithm.
    let mut keys = keys();
    keys.add_pem(Some("k"), RS_PEM).unwrap();
    keys.add_pem(None, ES_PEM).unwrap();
    let token = asymmetric(Algorithm::ES256, 'a', &json!({"alg": "ES256", "kid": "k"}));
    assert!(Authenticator::new(Arc::new(keys)).verify(&token, NOW).is_ok());
}

#[test]
fn a_set_of_keys_is_the_same_in_any_file_and_order() {
    let set = |pems: &[&str], jwks: Option<&str>| {
        let mut keys = keys();
        for pem in pems {
            keys.add_pem(None, pem).unwrap();
        }
        jwks.map(|jwks| keys.add_jwks(jwks).unwrap());
        keys.public_set()
    };
    let key = JWKS.lines().find(|line| line.contains("ec-1")).unwrap().trim_end_matches(',');
    let nameless = format!("{{\"keys\":[{}]}}", key.replace("\"kid\": \"ec-1\", ", ""));
    let named = format!("{{\"keys\":[{key}]}}");
    let all = set(&[RS_PEM, ES_PEM, ED_PEM], None);
    assert_eq!(all.lines().count(), 3);
    assert_eq!(set(&[ED_PEM, RS_PEM, ES_PEM, RS_PEM], None), all);
    assert_eq!(set(&[RS_PEM, ED_PEM], Some(&nameless)), all);
    assert_ne!(set(&[RS_PEM, ED_PEM], Some(&named)), all, "an id decides for which tokens");
    assert_ne!(set(&[RS_PEM, ES_PEM], None), all);
    assert_eq!(set(&[], None), "");
}

#[test]
fn a_jwk_set_is_trusted_key_by_key() {
    let mut keys = keys();
    assert_eq!(keys.add_jwks(JWKS), Ok(3), "the encryption key and P-384 are passed over");
    let mut auth = Authenticator::new(Arc::new(keys));
    for (algorithm, name, kid) in [
        (Algorithm::RS256, "RS256", "rsa-1"),
        (Algorithm::ES256, "ES256", "ec-1"),
        (Algorithm::EdDSA, "EdDSA", "ed-1"),
    ] {
        let good = asymmetric(algorithm, 'a', &json!({"alg": name, "kid": kid}));
        assert!(auth.verify(&good, NOW).is_ok(), "{name}");
        let strangers = asymmetric(algorithm, 'b', &json!({"alg": name, "kid": kid}));
        assert_eq!(
            auth.verify(&strangers, NOW),
            Err(AuthError::Token(TokenProblem::Signature)),
            "{name}"
        );
        let unknown = asymmetric(algorithm, 'a', &json!({"alg": name, "kid": "gone"}));
        assert_eq!(
            auth.verify(&unknown, NOW),
            Err(AuthError::Token(TokenProblem::Signature)),
            "{name}"
        );
    }
}

#[test]
fn broken_keys_are_explained() {
    let new = |api: &str, anon: &str, secret: &str| Keys::new(api, anon, secret, &[]).unwrap_err();
    assert_eq!(new("x", "anon_", SECRET).to_string(), "the API key must begin with `ik_`");
    assert_eq!(new("ik_", "x", SECRET).to_string(), "the anon key must begin with `anon_`");
    let short = "the JWT secret has 31 bytes; HS256 needs at least 32";
    assert_eq!(new("ik_", "anon_", &SECRET[..31]).to_string(), short);

    let pem = |text: &str| keys().add_pem(None, text).unwrap_err().to_string();
    let private = include_str!("../testdata/rs256_a.key");
    let cases = [
        ("", "no PEM block found"),
        ("just text\n", "no PEM block found"),
        (private, "line 1: a private key"),
        ("\n-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", "line 2: a certificate"),
        ("-----BEGIN PUBLIC KEY", "line 1: malformed BEGIN line"),
        ("-----BEGIN DH PARAMETERS-----", "line 1: not a `PUBLIC KEY`"),
        ("-----BEGIN PUBLIC KEY-----\nAA==", "line 1: the block has no END line"),
        (
            "-----BEGIN PUBLIC KEY-----\nAA==\n-----END RSA PUBLIC KEY-----",
            "line 1: the labels of BEGIN and END differ",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----",
            "line 1: the block is not base64",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "line 1: not an RSA, P-256 or Ed25519 key",
        ),
        (include_str!("../testdata/es384.pem"), "line 1: not an RSA, P-256 or Ed25519 key"),
        (include_str!("../testdata/rs1024.pem"), "line 1: the RSA modulus must have 2048 to 8192"),
    ];
    for (text, expected) in cases {
        assert!(pem(text).starts_with(expected), "{text:?} gave {:?}", pem(text));
    }
    let second = format!("{ES_PEM}\n# rotated\n{private}");
    assert_eq!(pem(&second).split(':').next(), Some("line 7"));
}

#[test]
fn broken_jwk_sets_are_explained() {
    let jwks = |json: &str| keys().add_jwks(json).unwrap_err().to_string();
    let cases = [
        ("", "not a JWK set: EOF"),
        ("{}", "not a JWK set: expected an object with an array `keys` at line 1 column 2"),
        (r#"{"keys":"hunter2"}"#, "not a JWK set: expected an object with an array `keys` at"),
        (r#"{"keys":[]}"#, "not a JWK set: it has no keys"),
        (r#"{"keys":[5]}"#, "keys[0]: not an object"),
        (r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"s"}]}"#, "keys[0] (`s`): a symmetric key"),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}]}"#, "keys[0]: a private key"),
        (r#"{"keys":[{"kty":"RSA","use":"enc"}]}"#, "keys[0]: its `use` is not `sig`"),
        (r#"{"keys":[{"kty":"RSA","alg":"RS512"}]}"#, "keys[0]: its `alg` is not RS256"),
        (r#"{"keys":[{"kty":"RSA","alg":"ES256"}]}"#, "keys[0]: its `alg` is not RS256"),
        (r#"{"keys":[{"kty":"EC","crv":"P-521"}]}"#, "keys[0]: not an RSA, P-256 or Ed25519 key"),
        (r#"{"keys":[{"kty":"RSA","e":"AQAB"}]}"#, "keys[0]: a member that this type of key"),
        (r#"{"keys":[{"kty":"RSA","n":"=","e":"AQAB"}]}"#, "keys[0]: a member is not base64url"),
        (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "keys[0]: the RSA modulus must"),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}"#, "keys[0]: an Ed25519 key must"),
        (
            r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#,
            "keys[0]: the coordinates of a P-256 point",
        ),
    ];
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","kid":"k"}"#;
    let twice = format!(r#"{{"keys":[{key},{key}]}}"#);
    assert_eq!(jwks(&twice), "keys[1] (`k`): a key before it has the same `kid`");
    for (json, expected) in cases {
        assert!(jwks(json).starts_with(expected), "{json} gave {:?}", jwks(json));
    }
}

/// Returns a PEM block around these bytes.
fn block(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

#[test]
fn a_key_on_another_curve_is_not_taken_for_one_that_is_known() {
    let point = [7; 64];
    let id_ec = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
    let prime256v1 = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    let p256 = [b"\x30\x59\x30\x13", &id_ec[..], prime256v1, b"\x03\x42\x00\x04", &point].concat();
    assert_eq!(keys().add_pem(None, &block(&p256)), Ok(1));
    let others = [
        // secp256k1, whose points have the same length; P-256 with a compressed point; Ed448;
        // X25519.
        [b"\x30\x56\x30\x10", &id_ec[..], b"\x06\x05\x2b\x81\x04\x00\x0a\x03\x42\x00\x04", &point]
            .concat(),
        [b"\x30\x39\x30\x13", &id_ec[..], prime256v1, b"\x03\x22\x00\x02", &point[..32]].concat(),
        [&b"\x30\x43\x30\x05\x06\x03\x2b\x65\x71\x03\x3a\x00"[..], &point[..57]].concat(),
        [&b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00"[..], &point[..32]].concat(),
    ];
    for der in others {
        let told = keys().add_pem(None, &block(&der)).unwrap_err().to_string();
        assert_eq!(told, "line 1: not an RSA, P-256 or Ed25519 key");
    }
    let short = keys().add_pem(None, &block(&p256[..p256.len() - 1])).unwrap_err().to_string();
    assert_eq!(short, "line 1: the coordinates of a P-256 point must have 32 bytes each");
}

#[test]
fn the_numbers_of_a_key_have_bounds() {
    let trust = |members: String| {
        let told = keys().add_jwks(&format!(r#"{{"keys":[{{{members}}}]}}"#));
        told.map_err(|error| error.to_string())
    };
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let rsa = |modulus: &[u8], exponent: &[u8]| {
        trust(format!(r#""kty":"RSA","n":"{}","e":"{}""#, encode(modulus), encode(exponent)))
    };
    let e = [1, 0, 1];
    for bytes in [256, 1_024] {
        assert_eq!(rsa(&vec![255; bytes], &e), Ok(1), "{bytes}");
        assert_eq!(rsa(&[vec![0; 9], vec![255; bytes]].concat(), &[0, 1, 0, 1]), Ok(1), "{bytes}");
    }
    let size = Err("keys[0]: the RSA modulus must have 2048 to 8192 bits".to_owned());
    for bytes in [0, 255, 1_025] {
        assert_eq!(rsa(&vec![255; bytes], &e), size, "{bytes}");
    }
    assert_eq!(rsa(&[vec![0; 9], vec![255; 255]].concat(), &e), size);
    for exponent in [&[][..], &[0], &[1], &[0, 1]] {
        let told = Err("keys[0]: the RSA exponent is too small".to_owned());
        assert_eq!(rsa(&[255; 256], exponent), told, "{exponent:?}");
    }
    let p256 = |x: usize, y: usize| {
        let [x, y] = [x, y].map(|bytes| encode(&vec![7; bytes]));
        trust(format!(r#""kty":"EC","crv":"P-256","x":"{x}","y":"{y}""#))
    };
    assert_eq!(p256(32, 32), Ok(1));
    for (x, y) in [(31, 33), (33, 31), (32, 31), (64, 0)] {
        assert!(p256(x, y).is_err_and(|told| told.contains("the coordinates")), "{x} {y}");
    }
    for bytes in [31, 33] {
        let ed25519 = format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, encode(&vec![7; bytes]));
        assert!(trust(ed25519).is_err_and(|told| told.contains("32 bytes")), "{bytes}");
    }
}

#[test]
fn members_of_a_key_that_are_not_read_may_be_anything() {
    let x = URL_SAFE_NO_PAD.encode([7; 32]);
    let key = |more: &str| {
        let json = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}",{more}}}]}}"#);
        keys().add_jwks(&json).map_err(|error| error.to_string())
    };
    for more in [r#""key_ops":"verify""#, r#""x5c":5"#, r#""x5u":{},"x5t":[]"#, r#""y":null"#] {
        assert_eq!(key(more), Ok(1), "{more}");
    }
    for more in [r#""kid":5"#, r#""alg":[]"#, r#""use":true"#, r#""y":7"#] {
        assert!(
            key(more).is_err_and(|told| told.contains("a member that must be a string")),
            "{more}"
        );
    }
}

#[test]
fn a_bundle_is_taken_whole_or_not_at_all_and_bounded() {
    let mut keys = keys();
    assert_eq!(keys.add_pem(None, &format!("# issuer\n{RS_PEM}{ES_PEM}\r\n{ED_PEM}")), Ok(3));
    let many = ED_PEM.repeat(PUBLIC_KEYS_MAX - 2);
    assert_eq!(keys.add_pem(None, &many), Err(KeyError::TooMany));
    assert_eq!(keys.add_pem(None, &ED_PEM.repeat(PUBLIC_KEYS_MAX - 3)), Ok(PUBLIC_KEYS_MAX - 3));
    assert_eq!(keys.add_pem(None, ED_PEM), Err(KeyError::TooMany));
}

proptest! {
    #[test]
    fn no_key_file_panics(text in any::<String>(), body in "[A-Za-z0-9+/=\n]{0,300}") {
        let block = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        prop_assert!(keys().add_pem(None, &text).is_err());
        prop_assert!(keys().add_pem(None, &block).is_err());
        prop_assert!(keys().add_jwks(&text).is_err());
    }
}
