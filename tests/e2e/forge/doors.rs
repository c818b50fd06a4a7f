//! Checks whether tokens are accepted, in each place that takes one. The context is the first
//! installation.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::app::{
    Outcome, PROXY, UNAUTHORIZED, call, good_body, invocation, outcome, place, raw_call, refused,
    refused_at_head,
};
use super::listener::Listener;
use crate::support::{Node, http};

/// The message for invalid realtime tokens, over HTTP and on sockets.
const INVALID: &str = "Realtime token validation failed: INVALID_TOKEN";

/// Returns the claims of a token without checking its signature.
pub(crate) fn claims_of(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("a token has three parts");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("they are base64");
    serde_json::from_slice(&claims).expect("they are JSON")
}

/// Whether a token is accepted as context token, at the handshake and in a first message. Both must
/// agree.
pub(crate) fn proves_context(node: &Node, token: &str) -> bool {
    let bearer = format!("Bearer {token}");
    let at_once = match Listener::dial_with(node.port(), &[("authorization", &bearer)]) {
        Ok(mut listener) => {
            assert_eq!(listener.hear()["type"], "connected");
            true
        }
        Err(refusal) => {
            assert!(refusal.starts_with("401 "), "{refusal}");
            false
        }
    };
    let mut listener = Listener::dial(node.port());
    let answer = listener.ask(json!({ "type": "connect", "contextToken": token }));
    let is_proved = answer["type"] == "connected";
    if !is_proved {
        let error = json!({ "message": UNAUTHORIZED, "code": "UNAUTHORIZED" });
        assert_eq!(answer, json!({ "type": "error", "id": answer["id"], "error": error }));
    }
    assert_eq!(is_proved, at_once, "{answer}");
    is_proved
}

/// Whether a token is accepted as an invocation in the header of a call.
pub(crate) fn proves_invocation(node: &Node, token: &str) -> bool {
    let response = call(node, "publish", &format!("Forge id={token}"), &good_body("publish"));
    let outcome = outcome("publish", &response);
    assert!([Outcome::Done, refused_at_head("UNKNOWN_INVOCATION")].contains(&outcome));
    outcome == Outcome::Done
}

/// Whether a header lets its sender call for the first installation.
pub(crate) fn vouches(node: &Node, (name, value): (&str, &str)) -> bool {
    let headers = [(PROXY, "Forge as=app,installationId=inst-1"), (name, value)];
    let response = raw_call(node, "publish/global", &headers, good_body("publish").to_string());
    let outcome = outcome("publish/global", &response);
    assert!([Outcome::Done, refused_at_head("INVALID_CALLER_CREDENTIAL")].contains(&outcome));
    outcome == Outcome::Done
}

/// Whether a token is accepted as realtime token of the channel over HTTP.
pub(crate) fn narrows_publish(node: &Node, token: &str) -> bool {
    let body = json!({ "name": "room", "payload": "x", "options": { "token": token } });
    let outcome = outcome("publish", &call(node, "publish", &invocation(&place()), &body));
    assert!([Outcome::Done, refused(401, INVALID)].contains(&outcome), "{outcome:?}");
    outcome == Outcome::Done
}

/// Whether a token is accepted as realtime token on a socket, for a subscribe and a publish. Both
/// must agree.
pub(crate) fn narrows_sockets(node: &Node, token: &str) -> bool {
    let done = ["subscribe", "publish"].map(|what| {
        let mut listener = Listener::connect(node, &place());
        let answer = listener.ask(json!({
            "type": what, "channel": "room", "payload": "x", "options": { "token": token },
        }));
        if answer["type"] == "error" {
            let error = json!({ "message": INVALID, "code": "INVALID_TOKEN" });
            assert_eq!(answer["error"], error, "{answer}");
        }
        answer["type"] != "error"
    });
    assert_eq!(done[0], done[1]);
    done[0]
}

/// Whether a token lets a client connect to InsForge.
pub(crate) fn enters_insforge(node: &Node, token: &str) -> bool {
    let port = node.port();
    let request = |method: &str, sid: &str, body: &str| {
        let path = format!("/socket.io/?EIO=4&transport=polling{sid}");
        let response = http::request(port, method, &path, &[], body.as_bytes());
        assert_eq!(response.status, 200, "{}", response.text());
        response.text().to_owned()
    };
    let opened: Value =
        serde_json::from_str(&request("GET", "", "")[1..]).expect("the session opens");
    let sid = format!("&sid={}", opened["sid"].as_str().expect("a name is text"));
    request("POST", &sid, &format!("40{}", json!({ "token": token })));
    let answer = request("GET", &sid, "");
    assert!(answer.starts_with("40") || answer.starts_with("44"), "{answer}");
    answer.starts_with("40")
}

/// Whether a token lets its holder administer the node, through either interface. All must agree.
pub(crate) fn administers(node: &Node, token: &str) -> bool {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let registration =
        json!({ "ttlSeconds": 5, "ui": true, "installationId": "i", "moduleKey": "m" });
    let calls = [
        ("GET", "/api/realtime/channels", String::new(), 200),
        ("PUT", "/admin/v1/invocations/inv-1", registration.to_string(), 201),
        ("DELETE", "/admin/v1/invocations/inv-1", String::new(), 204),
    ];
    let done = calls.map(|(method, path, body, expected)| {
        let status = node.request(method, path, &headers, body.as_bytes()).status;
        assert!([expected, 401, 403].contains(&status), "{method} {path}: {status}");
        status == expected
    });
    assert!(done[0] == done[1] && done[1] == done[2], "{done:?}");
    done[0]
}
