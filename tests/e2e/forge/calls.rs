//! HTTP calls of apps: valid and invalid requests, and the answer to each fault.

use serde_json::{Value, json};

use super::app::{
    ENDPOINTS, OVERRIDES, Outcome, PROXY, call, failure, good_body, invocation, invocation_token,
    outcome, place, raw_call, refused, refused_at_head,
};
use crate::support::Node;

/// Sets of values of an invalid header; `ID` stands for an invocation.
const MALFORMED: [&[&str]; 36] = [
    &[],
    &[""],
    &["Forge"],
    &["Forge "],
    &["Forge ID"],
    &["ID"],
    &["id=ID"],
    &["as=app,id=ID"],
    &["Forge,id=ID"],
    &["Forge=id=ID"],
    &["Forged id=ID"],
    &["Bearer id=ID"],
    &["Forge as=app"],
    &["Forge as=user,accountId=a"],
    &["Forge id=ID,installationId=inst-1"],
    &["Forge id=ID,id=ID"],
    &["Forge installationId=inst-1,installationId=inst-1"],
    &["Forge as=app,as=app,id=ID"],
    &["Forge as=user,accountId=a,accountId=a,id=ID"],
    &["Forge x=1,x=2,id=ID"],
    &["Forge as=admin,id=ID"],
    &["Forge as=App,id=ID"],
    &["Forge as=,id=ID"],
    &["Forge id="],
    &["Forge as=app,id="],
    &["Forge installationId="],
    &["Forge accountId=a,id=ID"],
    &["Forge as=app,accountId=a,id=ID"],
    &["Forge as=user,accountId=,id=ID"],
    &["Forge id=ID,"],
    &["Forge ,id=ID"],
    &["Forge id=ID,,as=app"],
    &["Forge as=app id=ID"],
    &["Forge id = ID"],
    &["Forge id=ID,as"],
    &["Forge as=app,id=ID", "Forge as=app,id=ID"],
];

/// Other valid forms of the header.
const WELL_FORMED: [&str; 11] = [
    "Forge id=ID",
    "Forge as=app,id=ID",
    "Forge id=ID,as=app",
    "forge as=app,id=ID",
    "FORGE as=user,id=ID",
    "Forge as=app, id=ID",
    "Forge as=app ,id=ID",
    "Forge  as=app  ,  id=ID",
    "Forge as=user,id=ID,accountId=557058:0b1c",
    "Forge accountId=a,as=user,id=ID",
    "Forge as=app,id=ID,traceId=1,else=a=b",
];

/// Bodies that are not an event.
const NO_EVENTS: [&str; 44] = [
    "",
    " ",
    "x",
    "null",
    "true",
    "7",
    r#""name""#,
    "[]",
    r#"[{"name":"a","payload":"p"}]"#,
    "{",
    "{}",
    r#"{"name":"a","payload":"p"}}"#,
    r#"{"name":"a","payload":"p"} x"#,
    r#"{"name":"a","payload":"p",}"#,
    r#"{'name':'a','payload':'p'}"#,
    "\u{feff}{\"name\":\"a\",\"payload\":\"p\"}",
    "{\"name\":\"a\",\"payload\":\"\n\"}",
    r#"{"name":"a","payload":"\x"}"#,
    r#"{"name":"a"}"#,
    r#"{"payload":"p"}"#,
    r#"{"channelName":"a","payload":"p"}"#,
    r#"{"Name":"a","payload":"p"}"#,
    r#"{"name":null,"payload":"p"}"#,
    r#"{"name":7,"payload":"p"}"#,
    r#"{"name":true,"payload":"p"}"#,
    r#"{"name":["a"],"payload":"p"}"#,
    r#"{"name":{"a":1},"payload":"p"}"#,
    r#"{"name":"","payload":"p"}"#,
    r#"{"name":"a\u0000","payload":"p"}"#,
    r#"{"name":"\n","payload":"p"}"#,
    "{\"name\":\"\u{7f}\",\"payload\":\"p\"}",
    "{\"name\":\"\u{85}\",\"payload\":\"p\"}",
    r#"{"name":"a","payload":null}"#,
    r#"{"name":"a","payload":7}"#,
    r#"{"name":"a","payload":false}"#,
    r#"{"name":"a","payload":["p"]}"#,
    r#"{"name":"a","payload":{"p":1}}"#,
    r#"{"name":"a","payload":"p","options":"x"}"#,
    r#"{"name":"a","payload":"p","options":7}"#,
    r#"{"name":"a","payload":"p","options":[]}"#,
    r#"{"name":"a","payload":"p","options":true}"#,
    r#"{"name":"a","payload":"p","options":{"token":7}}"#,
    r#"{"name":"a","payload":"p","options":{"token":{}}}"#,
    r#"{"name":"a","payload":"p","options":{"token":["a.b.c"]}}"#,
];

/// Bodies that are an event.
const EVENTS: [&str; 14] = [
    r#"{"name":"a","payload":"p"}"#,
    r#"{"name":"a","payload":""}"#,
    r#"{"name":" ","payload":"p"}"#,
    r#"{"name":"a:b/*%","payload":"p"}"#,
    r#"{"name":"\u00e9😀","payload":"p"}"#,
    " \r\n\t{ \"payload\" : \"p\" , \"name\" : \"a\" } \n",
    r#"{"name":"a","payload":"p","options":null}"#,
    r#"{"name":"a","payload":"p","options":{}}"#,
    r#"{"name":"a","payload":"p","options":{"token":null}}"#,
    r#"{"name":"a","payload":"p","options":{"token":""}}"#,
    r#"{"name":"a","payload":"p","options":{"contextOverrides":[]}}"#,
    r#"{"name":"a","payload":"p","options":{"contextOverrides":["issue","project","issue"]}}"#,
    r#"{"name":"a","payload":"p","options":{"else":{"token":7}}}"#,
    r#"{"name":"a","payload":"p","x":[1,null,{"name":7}],"n":123456789012345678901234567890}"#,
];

/// Invalid values of `contextOverrides`.
const NO_OVERRIDES: [&str; 11] = [
    "null",
    "true",
    "7",
    r#""issue""#,
    "{}",
    r#"{"issue":true}"#,
    r#"["nobody"]"#,
    r#"["issue","nobody"]"#,
    r#"["Issue"]"#,
    "[7]",
    "[null]",
];

/// Bodies that are not a request for a token.
const NO_TOKENS: [&str; 24] = [
    "",
    "null",
    "[]",
    "{",
    "{}",
    r#"{"channelName":"a"}"#,
    r#"{"claims":{}}"#,
    r#"{"name":"a","claims":{}}"#,
    r#"{"channelName":7,"claims":{}}"#,
    r#"{"channelName":null,"claims":{}}"#,
    r#"{"channelName":"","claims":{}}"#,
    r#"{"channelName":"a\u0000","claims":{}}"#,
    r#"{"channelName":"a","claims":null}"#,
    r#"{"channelName":"a","claims":[]}"#,
    r#"{"channelName":"a","claims":"{}"}"#,
    r#"{"channelName":"a","claims":7}"#,
    r#"{"channelName":"a","claims":{"n":1e400}}"#,
    r#"{"channelName":"a","claims":{"n":01}}"#,
    r#"{"channelName":"a","claims":{},"permissions":null}"#,
    r#"{"channelName":"a","claims":{},"permissions":"publish"}"#,
    r#"{"channelName":"a","claims":{},"permissions":{"publish":true}}"#,
    r#"{"channelName":"a","claims":{},"permissions":["read"]}"#,
    r#"{"channelName":"a","claims":{},"permissions":["Publish"]}"#,
    r#"{"channelName":"a","claims":{},"permissions":[7]}"#,
];

/// Bodies that are a request for a token.
const TOKENS: [&str; 7] = [
    r#"{"channelName":"a","claims":{}}"#,
    r#"{"channelName":" a:b/*","claims":{"a":[1,{"b":null}],"c":"é"}}"#,
    r#"{"channelName":"a","claims":{},"permissions":[]}"#,
    r#"{"channelName":"a","claims":{},"permissions":["subscribe"]}"#,
    r#"{"channelName":"a","claims":{},"permissions":["publish","subscribe","publish"]}"#,
    r#"{"channelName":"a","claims":{},"name":7,"payload":null}"#,
    r#"{"channelName":"a","claims":{"n":1e300,"m":123456789012345678901234567890}}"#,
];

/// Calls with this body on behalf of a context with all rights, and returns the result.
fn outcome_of(node: &Node, endpoint: &str, body: impl AsRef<[u8]>) -> Outcome {
    let authorization = invocation(&place());
    outcome(endpoint, &raw_call(node, endpoint, &[(PROXY, &authorization)], body))
}

#[test]
fn a_header_is_well_formed_or_says_nothing() {
    let (node, id) = (Node::start(), invocation_token(&place()));
    for endpoint in ENDPOINTS {
        for values in MALFORMED {
            let values: Vec<_> = values.iter().map(|value| value.replace("ID", &id)).collect();
            let headers: Vec<_> = values.iter().map(|value| (PROXY, value.as_str())).collect();
            let response = raw_call(&node, endpoint, &headers, good_body(endpoint).to_string());
            let expected = refused_at_head("INVALID_PROXY_AUTHORIZATION");
            assert_eq!(outcome(endpoint, &response), expected, "{endpoint} {values:?}");
        }
        for value in WELL_FORMED {
            let value = value.replace("ID", &id);
            let response = call(&node, endpoint, &value, &good_body(endpoint));
            assert_eq!(outcome(endpoint, &response), Outcome::Done, "{endpoint} {value}");
        }
    }
}

#[test]
fn a_body_is_an_event_or_is_told_that_it_is_none() {
    let node = Node::start();
    let [longest, too_long] = ["x", "é"].map(|last| "é".repeat(127) + last);
    let name = |name: &str| json!({ "name": name, "payload": "p" }).to_string();
    for endpoint in ["publish", "publish/global"] {
        let bodies = NO_EVENTS.map(str::to_owned).into_iter().chain([name(&too_long)]);
        for body in bodies {
            let expected = refused(400, failure(endpoint));
            assert_eq!(outcome_of(&node, endpoint, &body), expected, "{endpoint} {body:?}");
        }
        let no_text = b"{\"name\":\"a\",\"payload\":\"\xff\"}";
        assert_eq!(outcome_of(&node, endpoint, no_text), refused(400, failure(endpoint)));
        for body in EVENTS.map(str::to_owned).into_iter().chain([name(&longest)]) {
            assert_eq!(outcome_of(&node, endpoint, &body), Outcome::Done, "{endpoint} {body:?}");
        }
        for overrides in NO_OVERRIDES {
            let options = format!(r#"{{"contextOverrides":{overrides}}}"#);
            let body = format!(r#"{{"name":"a","payload":"p","options":{options}}}"#);
            let expected = match endpoint {
                "publish" => refused(400, OVERRIDES),
                _ => Outcome::Done,
            };
            assert_eq!(outcome_of(&node, endpoint, &body), expected, "{endpoint} {body}");
        }
    }
}

#[test]
fn a_body_becomes_a_token_or_is_told_that_it_does_not() {
    let node = Node::start();
    let claims = |bytes: usize| {
        let claims = json!({ "a": "x".repeat(bytes - json!({ "a": "" }).to_string().len()) });
        json!({ "channelName": "a", "claims": claims }).to_string()
    };
    let long_name = json!({ "channelName": "x".repeat(256), "claims": {} }).to_string();
    for body in NO_TOKENS.map(str::to_owned).into_iter().chain([claims(4_097), long_name]) {
        let expected = refused(400, "Error signing realtime token");
        assert_eq!(outcome_of(&node, "token", &body), expected, "{body}");
    }
    for body in TOKENS.map(str::to_owned).into_iter().chain([claims(4_096)]) {
        assert_eq!(outcome_of(&node, "token", &body), Outcome::Done, "{body}");
    }
}

#[test]
fn the_media_type_of_a_body_does_not_matter() {
    let (node, authorization) = (Node::start(), invocation(&place()));
    let types =
        ["", "text/plain", "application/xml", "application/json; charset=utf-16", "nonsense"];
    for endpoint in ENDPOINTS {
        for media_type in types {
            let headers = [(PROXY, authorization.as_str()), ("content-type", media_type)];
            let response = raw_call(&node, endpoint, &headers, good_body(endpoint).to_string());
            assert_eq!(outcome(endpoint, &response), Outcome::Done, "{endpoint} {media_type}");
        }
    }
}

#[test]
fn a_payload_has_as_many_bytes_as_it_may() {
    let small = Node::with_env(&[("FANFARE_FORGE_PAYLOAD_BYTES", "1024")]);
    for (node, most) in [(&Node::start(), 262_144), (&small, 1_024)] {
        let table = [
            ("x".repeat(most), true),
            ("x".repeat(most + 1), false),
            ("é".repeat(most / 2), true),
            ("é".repeat(most / 2) + "x", false),
            // An escape counts as the bytes that it stands for.
            (r"\n".repeat(most), true),
            (r"\n".repeat(most) + "x", false),
            (r"\ud83d\ude00".repeat(most / 4) + "x", false),
        ];
        for endpoint in ["publish", "publish/global"] {
            for (payload, is_taken) in &table {
                let body = format!(r#"{{"name":"a","payload":"{payload}"}}"#);
                let expected =
                    if *is_taken { Outcome::Done } else { refused(413, failure(endpoint)) };
                let told = outcome_of(node, endpoint, &body);
                assert_eq!(told, expected, "{endpoint} {}…", &body[..40]);
            }
        }
    }
}

#[test]
fn a_body_has_a_million_bytes_at_most() {
    let node = Node::start();
    for endpoint in ENDPOINTS {
        let padded = |bytes: usize| {
            let mut body = good_body(endpoint).to_string();
            body.extend(std::iter::repeat_n(' ', bytes - body.len()));
            body
        };
        assert_eq!(outcome_of(&node, endpoint, padded(1_000_000)), Outcome::Done, "{endpoint}");
        let expected = refused(413, failure(endpoint));
        assert_eq!(outcome_of(&node, endpoint, padded(1_000_001)), expected, "{endpoint}");
        // The caller is checked before the size.
        let headers = [(PROXY, "Forge as=app")];
        let response = raw_call(&node, endpoint, &headers, padded(1_000_001));
        let expected = refused_at_head("INVALID_PROXY_AUTHORIZATION");
        assert_eq!(outcome(endpoint, &response), expected, "{endpoint}");
    }
}

/// Tests faults in the order of their checks, each together with later ones.
#[test]
fn of_several_faults_the_first_is_told() {
    let node = Node::start();
    let mut elsewhere = place();
    elsewhere["ui"] = json!(false);
    let (elsewhere, stranger) = (invocation(&elsewhere), "Forge as=app,id=nobody");
    let options = |overrides: Value| json!({ "token": "a.b.c", "contextOverrides": overrides });
    let no_body = json!({ "name": "room", "options": options(json!(["nobody"])) });
    let no_overrides =
        json!({ "name": "room", "payload": "x", "options": options(json!(["nobody"])) });
    let no_token = json!({ "name": "room", "payload": "x", "options": options(json!(["space"])) });
    let no_place =
        json!({ "name": "room", "payload": "x", "options": { "contextOverrides": ["space"] } });
    let bad = Some("Bearer nonsense");
    let failed = failure("publish");
    let table = [
        ("Forge as=app", bad, &no_body, refused_at_head("INVALID_PROXY_AUTHORIZATION")),
        (stranger, bad, &no_body, refused_at_head("INVALID_CALLER_CREDENTIAL")),
        (stranger, None, &no_body, refused_at_head("UNKNOWN_INVOCATION")),
        (&elsewhere, None, &no_body, refused(400, failed)),
        (&elsewhere, None, &no_overrides, refused(400, OVERRIDES)),
        (
            &elsewhere,
            None,
            &no_token,
            refused(401, "Realtime token validation failed: INVALID_TOKEN"),
        ),
        (&elsewhere, None, &no_place, refused(403, failed)),
        (&invocation(&place()), None, &no_place, refused(403, failed)),
    ];
    for (authorization, caller, body, expected) in table {
        let headers: Vec<_> = [(PROXY, authorization)]
            .into_iter()
            .chain(caller.map(|caller| ("authorization", caller)))
            .collect();
        let response = raw_call(&node, "publish", &headers, body.to_string());
        assert_eq!(outcome("publish", &response), expected, "{headers:?} {body}");
    }
}

/// A fault that is found before the rate check is always reported and does not count. A fault that
/// is found after it is reported only while the rate allows the call.
#[test]
fn faults_of_the_body_come_before_the_rate_and_those_of_the_place_behind_it() {
    let node = Node::with_env(&[("FANFARE_FORGE_RATE_LIMIT", "1")]);
    let claims = |value: &str| format!(r#"{{"channelName":"a","claims":{{"a":{value}}}}}"#);
    let too_long = claims(&format!("\"{}\"", "x".repeat(4_096)));
    let faults = [("publish", "{}".to_owned()), ("token", too_long), ("token", claims("1e400"))];
    for (endpoint, body) in &faults {
        for _ in 0..10 {
            let expected = refused(400, failure(endpoint));
            assert_eq!(outcome_of(&node, endpoint, body), expected, "{endpoint}");
        }
    }
    let mut elsewhere = place();
    elsewhere["ui"] = json!(false);
    let header = invocation(&elsewhere);
    let told = |_| outcome("publish", &call(&node, "publish", &header, &good_body("publish")));
    let told: Vec<_> = (0..40).map(told).collect();
    assert_eq!(told[0], refused(403, failure("publish")), "nothing has counted so far");
    let limited = refused(429, "RATE_LIMIT_EXCEEDED");
    assert!(told.contains(&limited), "{told:?}");
    for endpoint in ["publish/global", "token"] {
        let body = good_body(endpoint).to_string();
        let is_limited = (0..40).any(|_| outcome_of(&node, endpoint, &body) == limited);
        assert!(is_limited, "{endpoint} counts as well");
    }
}
