//! `fanfare token`: tokens and their options.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{listing, run, text};
use crate::support::{JWT_SECRET, Node};

#[test]
fn a_token_is_printed_alone_and_makes_no_keys() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let refused = run(&["token", "user"], &[], dir.path());
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(2), ""));
    assert_eq!(
        text(&refused.stderr),
        "fanfare: ./fanfare-data/keys.toml: there are no keys yet; start the node first, or set \
         FANFARE_JWT_SECRET\n"
    );
    assert_eq!(listing(dir.path()), []);

    let node = Node::start();
    let secret = [("FANFARE_JWT_SECRET", JWT_SECRET)];
    for (kind, status) in [("user", 403), ("admin", 200)] {
        let printed = run(&["token", kind, "--sub", "somebody"], &secret, dir.path());
        assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""));
        let token = text(&printed.stdout).strip_suffix('\n').expect("it ends its line");
        assert!(!token.contains(char::is_whitespace));
        let headers = [("authorization", &*format!("Bearer {token}"))];
        let answer = node.request("GET", "/api/realtime/channels", &headers, b"");
        assert_eq!(answer.status, status, "{kind}");
    }
    assert_eq!(listing(dir.path()), []);
}

#[test]
fn tokens_of_forge_are_printed_alone_and_prove_nothing_to_insforge() {
    let node = Node::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let secret = [("FANFARE_JWT_SECRET", JWT_SECRET)];
    let place = ["--installation", "inst-1", "--module", "panel", "--sub", "account"];
    let entities = ["--extension", r#"{"issue":{"id":"1"}}"#, "--scopes", "a,b"];
    let cases = [
        ("forge-context", [&place[..], &entities].concat(), "realtime", 900),
        ("forge-invocation", [&place[..], &["--no-ui"]].concat(), "realtime-invocation", 900),
        ("forge-service", place[..2].to_vec(), "realtime-service", 3_600),
    ];
    for (kind, options, audience, lifetime) in cases {
        let printed = run(&[&["token", kind], &options[..]].concat(), &secret, dir.path());
        assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""), "{kind}");
        let token = text(&printed.stdout).strip_suffix('\n').expect("it ends its line");
        assert!(!token.contains(char::is_whitespace));
        let claims = token.split('.').nth(1).expect("it has three parts");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
        let mut claims: Value = serde_json::from_slice(&claims).expect("JSON");
        let (exp, iat) = (claims["exp"].as_u64(), claims["iat"].as_u64());
        assert_eq!(exp.expect("a date") - iat.expect("a date"), lifetime, "{kind}");
        let members = claims.as_object_mut().expect("an object");
        members.retain(|name, _| !matches!(name.as_str(), "exp" | "iat"));
        let mut expected = json!({"aud": audience, "installationId": "inst-1"});
        if kind != "forge-service" {
            expected["moduleKey"] = json!("panel");
            expected["sub"] = json!("account");
        }
        if kind == "forge-context" {
            expected["extension"] = json!({"issue": {"id": "1"}});
            expected["scopes"] = json!(["a", "b"]);
        }
        if kind == "forge-invocation" {
            expected["ui"] = json!(false);
        }
        assert_eq!(claims, expected, "{kind}");
        let headers = [("authorization", &*format!("Bearer {token}"))];
        assert_eq!(node.request("GET", "/api/realtime/channels", &headers, b"").status, 401);
    }
    assert_eq!(listing(dir.path()), []);
}

#[test]
fn tokens_of_m2_are_printed_alone_and_prove_nothing_to_insforge() {
    let node = Node::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let secret = [("FANFARE_JWT_SECRET", JWT_SECRET)];
    let organization = ["--organization", "org-1"];
    let cases = [
        ("m2", &["--user", "alice"][..], json!({"user_id": "alice"})),
        ("m2-writer", &[], json!({"aud": "m2-writer"})),
    ];
    for (kind, options, mut expected) in cases {
        let printed =
            run(&[&["token", kind], options, &organization].concat(), &secret, dir.path());
        assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""), "{kind}");
        let token = text(&printed.stdout).strip_suffix('\n').expect("it ends its line");
        assert!(!token.contains(char::is_whitespace));
        let claims = token.split('.').nth(1).expect("it has three parts");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
        let claims: Value = serde_json::from_slice(&claims).expect("JSON");
        let (exp, iat) = (claims["exp"].as_u64(), claims["iat"].as_u64());
        assert_eq!(exp.expect("a date") - iat.expect("a date"), 3_600, "{kind}");
        expected["organization_id"] = json!("org-1");
        (expected["exp"], expected["iat"]) = (json!(exp), json!(iat));
        assert_eq!(claims, expected, "{kind}");
        let headers = [("authorization", &*format!("Bearer {token}"))];
        assert_eq!(node.request("GET", "/api/realtime/channels", &headers, b"").status, 401);
    }
    assert_eq!(listing(dir.path()), []);
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = ["--installation", "i", "--module", "m"];
    let long = "x".repeat(256);
    let m2 = ["--user", "u", "--organization", "o"];
    let cases: [(&str, &[&str], &str); 17] = [
        ("forge-context", &[&place[..], &["--expires-in", "901"]].concat(), "at most 900 seconds"),
        ("forge-invocation", &[&place[..], &["--expires-in", "901"]].concat(), "at most 900"),
        ("forge-context", &[&place[..], &["--extension", "{"]].concat(), "not a JSON object: EOF"),
        ("forge-context", &[&place[..], &["--extension", "[]"]].concat(), "not a JSON object: inv"),
        ("forge-context", &[&place[..], &["--no-ui"]].concat(), "unexpected argument '--no-ui'"),
        ("forge-context", &place[..2], "--module <KEY>"),
        ("forge-context", &place[2..], "--installation <ID>"),
        ("forge-context", &["--installation", "", "--module", "m"], "a value is required"),
        ("forge-service", &place, "unexpected argument '--module'"),
        ("user", &place, "unexpected argument '--installation'"),
        ("m2", &m2[..2], "--organization <ID>"),
        ("m2", &m2[2..], "--user <USER>"),
        ("m2", &["--user", "", "--organization", "o"], "a value is required"),
        ("m2", &["--user", &long, "--organization", "o"], "a user has 1 to 255 bytes"),
        ("m2-writer", &["--organization", &long], "an organization has 1 to 255 bytes"),
        ("m2-writer", &m2, "unexpected argument '--user'"),
        ("m2-writer", &[], "--organization <ID>"),
    ];
    for (kind, options, said) in cases {
        let args = [&["token", kind], options].concat();
        let output = run(&args, &[("FANFARE_JWT_SECRET", JWT_SECRET)], dir.path());
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{args:?}");
        assert!(text(&output.stderr).contains(said), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn each_kind_of_token_shows_its_own_options() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let has = |kind: &str, option: &str| {
        text(&run(&["token", kind, "--help"], &[], dir.path()).stdout).contains(option)
    };
    let of_forge = ["--installation", "--module ", "--extension", "--no-ui"];
    let options = [&["--sub ", "--user ", "--organization "][..], &of_forge].concat();
    let kinds = [
        ("user", &options[..1]),
        ("admin", &options[..1]),
        ("forge-context", &["--sub ", "--installation", "--module ", "--extension"]),
        ("forge-invocation", &[&["--sub "][..], &of_forge].concat()),
        ("forge-service", &of_forge[..1]),
        ("m2", &options[1..3]),
        ("m2-writer", &options[2..3]),
    ];
    for (kind, expected) in kinds {
        for option in &options {
            assert_eq!(has(kind, option), expected.contains(option), "{kind} {option}");
        }
    }
}
