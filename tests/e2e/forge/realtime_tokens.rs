//! Realtime tokens, which the node signs: their claims, and the order in which their faults are
//! reported.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::app::{call, invocation, keys, on_issue, outcome, place, refused};
use super::doors::claims_of;
use super::listener::Listener;
use crate::support::{Node, an_hour_from_now};

fn living_for(seconds: &'static str) -> Node {
    Node::with(move |command: &mut Command| {
        command.env("FANFARE_FORGE_TOKEN_LIFETIME_S", seconds);
    })
}

#[test]
fn a_realtime_token_says_what_was_asked_for() {
    let node = living_for("120");
    let asked = json!({ "b": [1.0, "é"], "a": { "x": null } });
    for (permissions, expected) in [
        (None, None),
        (Some(json!([])), Some(json!([]))),
        (Some(json!(["publish"])), Some(json!(["publish"]))),
    ] {
        let mut body = json!({ "channelName": "room", "claims": asked });
        if let Some(permissions) = permissions {
            body["permissions"] = permissions;
        }
        let result = call(&node, "token", &invocation(&place()), &body).json();
        let claims = claims_of(result["token"].as_str().expect("a token is text"));
        let expires_at = result["expiresAt"].as_u64().expect("a time is a number");
        assert!(expires_at.abs_diff(an_hour_from_now() - 3_600 + 120) < 30, "{result}");
        assert_eq!(claims["exp"], expires_at);
        assert_eq!(
            (&claims["aud"], &claims["installationId"]),
            (&json!("realtime-channel"), &json!("inst-1"))
        );
        assert_eq!(claims["channel"]["name"], "room");
        assert_eq!(claims["channel"]["claims"], json!({ "b": [1, "é"], "a": { "x": null } }));
        assert_eq!(claims.get("permissions"), expected.as_ref(), "{claims}");
        assert!(claims["iss"].is_string() && claims["iat"].is_u64(), "{claims}");
        assert_eq!(keys(&claims["channel"]), ["claims", "name"]);
    }
}

#[test]
fn of_several_faults_of_a_realtime_token_the_first_is_told() {
    let short = living_for("1");
    let node = Node::start();
    // Nodes with the same secret accept each other's tokens.
    let signed = |node: &Node, installation: &str, channel: &str| {
        let header = invocation(&on_issue(installation, "panel", "10001"));
        let body = json!({ "channelName": channel, "claims": {}, "permissions": [] });
        let token = call(node, "token", &header, &body).json()["token"].clone();
        token.as_str().expect("a token is text").to_owned()
    };
    let mut broken = signed(&short, "inst-1", "other");
    broken.pop();
    let table = [
        (broken, 401, "INVALID_TOKEN"),
        (signed(&short, "inst-2", "other"), 401, "INVALID_TOKEN"),
        (signed(&node, "inst-2", "room"), 401, "INVALID_TOKEN"),
        (signed(&short, "inst-1", "other"), 401, "TOKEN_EXPIRED"),
        (signed(&short, "inst-1", "room"), 401, "TOKEN_EXPIRED"),
        (signed(&node, "inst-1", "other"), 403, "CHANNEL_NAME_MISMATCH"),
        (signed(&node, "inst-1", "room"), 403, "MISSING_PERMISSION"),
    ];
    std::thread::sleep(Duration::from_millis(1_100));
    let mut listener = Listener::connect(&node, &place());
    for (token, status, code) in table {
        let message = format!("Realtime token validation failed: {code}");
        let options = json!({ "token": token });
        for endpoint in ["publish", "publish/global"] {
            let body = json!({ "name": "room", "payload": "x", "options": options });
            let response = call(&node, endpoint, &invocation(&place()), &body);
            assert_eq!(outcome(endpoint, &response), refused(status, &message), "{endpoint}");
        }
        for (what, is_global) in
            [("subscribe", false), ("subscribe", true), ("publish", false), ("publish", true)]
        {
            let answer = listener.ask(json!({
                "type": what, "channel": "room", "global": is_global, "payload": "x",
                "options": options,
            }));
            assert_eq!(answer["error"], json!({ "message": message, "code": code }), "{what}");
        }
    }
}

#[test]
fn a_permission_is_for_what_it_says_and_no_token_is_none() {
    let node = Node::start();
    let token = |permissions: Value| {
        let body = json!({ "channelName": "room", "claims": {}, "permissions": permissions });
        call(&node, "token", &invocation(&place()), &body).json()["token"].clone()
    };
    let mut listener = Listener::connect(&node, &place());
    let mut topics = Vec::new();
    for (permission, other) in [("subscribe", "publish"), ("publish", "subscribe")] {
        let options = json!({ "token": token(json!([permission])) });
        let mut say = |what: &str| {
            let message =
                json!({ "type": what, "channel": "room", "payload": "x", "options": options });
            listener.ask(message)
        };
        assert_eq!(say(other)["error"]["code"], "MISSING_PERMISSION");
        let answer = say(permission);
        assert!(answer["type"] != "error", "{answer}");
        if permission == "subscribe" {
            topics.push(answer["topic"].clone());
            listener.ask(json!({ "type": "unsubscribe", "topic": topics[0] }));
        }
    }
    for options in [json!({}), json!({ "token": null }), json!({ "token": "" }), Value::Null] {
        topics.push(json!(listener.subscribe("room", &json!({ "options": options }))));
    }
    assert!(topics[2..].iter().all(|topic| *topic == topics[1]), "{topics:?}");
    assert_ne!(topics[0], topics[1], "empty claims are claims");
}
