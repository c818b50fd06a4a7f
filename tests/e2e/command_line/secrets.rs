//! Faults of files with secrets and public keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::case::{Case, RS_PEM, SECRET, assert_refused, jwks, kept, pem, toml};
use super::text;
use crate::support::{ANON_KEY, API_KEY};

const RS_PRIVATE: &str = include_str!("../../../src/auth/testdata/rs256_a.key");
const RS_WEAK: &str = include_str!("../../../src/auth/testdata/rs1024.pem");
const ES384_PEM: &str = include_str!("../../../src/auth/testdata/es384.pem");
const ED_JWK: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"k",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

#[test]
fn broken_secrets_in_the_data_directory_are_refused() {
    let advice = "is missing; add it, or move the file away for the next start to make new keys";
    let missing = |name: &str| -> &'static str {
        format!("./fanfare-data/keys.toml: `{name}` {advice}").leak()
    };
    let anon_key = format!("anon_key = '{ANON_KEY}'\n");
    assert_refused(vec![
        kept("").says(&[missing("api_key"), missing("anon_key"), missing("jwt_secret")]),
        kept(anon_key.clone()).env("FANFARE_API_KEY", API_KEY).says(&[missing("jwt_secret")]),
        kept(format!("{anon_key}api_key = 'ik_hunter2'\njwt_secret = 'hunter2'")).says(&[
            "./fanfare-data/keys.toml:2: `api_key` must be `ik_` and more, at least 32 characters of `A-Z`, `a-z`, `0-9` and `-._~+/=`",
            "./fanfare-data/keys.toml:3: `jwt_secret` must be a text of at least 32 bytes",
        ]),
        kept(format!("{anon_key}password = 'hunter2'"))
            .says(&["./fanfare-data/keys.toml:2: unknown key `password`"]),
        kept("api_key = hunter2").says(&["./fanfare-data/keys.toml:1: not valid TOML: "]),
        kept(b"\xFFhunter2").says(&["./fanfare-data/keys.toml: line 1 is not UTF-8 text"]),
        Case::default()
            .file("fanfare-data/keys.toml/x", "")
            .says(&["./fanfare-data/keys.toml: cannot be read: Is a directory (os error 21)"]),
    ]);
}

/// A start would close the file to others before it read it.
#[test]
fn a_check_of_secrets_that_others_may_read_changes_nothing() {
    let case = kept("jwt_secret = 'hunter2'");
    let dir = case.set_up();
    let keys = dir.path().join("fanfare-data/keys.toml");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let output = case.run("check", dir.path());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.starts_with("fanfare: ./fanfare-data/keys.toml:1: `jwt_secret` must be"),
        "{said}"
    );
    assert_eq!(keys.metadata().expect("it is ours").permissions().mode() & 0o777, 0o644);
}

#[test]
fn pem_files_without_good_public_keys_are_refused() {
    let at = "f.toml:2: `auth.public_keys_file`: k.pem:";
    let at = |reason: &str| -> &'static str { format!("{at} {reason}").leak() };
    let hidden = RS_PRIVATE.lines().nth(1).expect("a key has a body");
    let private = format!("# the next line is a secret: {SECRET}\n{RS_PRIVATE}");
    assert_refused(vec![
        toml("[auth]\npublic_keys_file = 'k.pem'")
            .says(&[at("cannot be read: No such file or directory (os error 2)")]),
        pem("hunter2").says(&[at("no PEM block found: expected `-----BEGIN PUBLIC KEY-----`")]),
        pem(b"\n\n\xFF").says(&[at("line 3 is not UTF-8 text")]),
        pem(private.clone()).says(&[at("line 2: a private key; give the node the public one")]),
        pem(format!("{RS_PEM}{ES384_PEM}"))
            .says(&[at("line 10: not an RSA, P-256 or Ed25519 key")]),
        pem(RS_WEAK).says(&[at("line 1: the RSA modulus must have 2048 to 8192 bits")]),
        pem(RS_PEM.replace("END PUBLIC", "END RSA PUBLIC"))
            .says(&[at("line 1: the labels of BEGIN and END differ")]),
        pem(RS_PEM.repeat(33)).says(&[at("more than 32 public keys")]),
    ]);
    let case = pem(private);
    let said = case.run("check", case.set_up().path()).stderr;
    assert!(!text(&said).contains(hidden));
}

#[test]
fn jwk_sets_without_good_public_keys_are_refused() {
    let at = "environment variable FANFARE_JWKS_FILE: `auth.jwks_file`: set.json:";
    let at = |reason: &str| -> &'static str { format!("{at} {reason}").leak() };
    let set = |key: &str| jwks(format!(r#"{{"keys":[{key}]}}"#));
    assert_refused(vec![
        jwks("hunter2").says(&[at("not a JWK set: expected value at line 1 column 1")]),
        jwks("{\"keys\":\n[").says(&[at("not a JWK set: EOF while parsing a list at line 2")]),
        jwks(r#"{"keys":"hunter2"}"#)
            .says(&[at("not a JWK set: expected an object with an array `keys` at line 1")]),
        jwks(ED_JWK).says(&[at("not a JWK set: expected an object with an array `keys`")]),
        set("").says(&[at("not a JWK set: it has no keys")]),
        set(r#"{"kty":"oct","k":"hunter2"}"#)
            .says(&[at("keys[0]: a symmetric key does not belong among public keys")]),
        set(&ED_JWK.replace("{", r#"{"d":"hunter2","#))
            .says(&[at("keys[0] (`k`): a private key; remove `d` and the other private members")]),
        set(r#"{"kty":"EC","crv":"P-384"}"#)
            .says(&[at("keys[0]: not an RSA, P-256 or Ed25519 key")]),
        set(r#"{"kty":"RSA","alg":"PS256"}"#)
            .says(&[at("keys[0]: its `alg` is not RS256, ES256 or EdDSA")]),
        set(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#)
            .says(&[at("keys[0]: the RSA modulus must have 2048 to 8192 bits")]),
        set(&format!("{ED_JWK},{ED_JWK}"))
            .says(&[at("keys[1] (`k`): a key before it has the same `kid`")]),
    ]);
}
