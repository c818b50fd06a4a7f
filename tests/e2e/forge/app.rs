//! An app that calls Forge's endpoints, and the places it calls from.

use serde_json::{Value, json};

use crate::support::{Node, Response, an_hour_from_now, sign};

/// Of tokens that prove a context, which may live for 15 minutes.
pub(crate) fn soon() -> u64 {
    an_hour_from_now() - 3_600 + 600
}

/// The claims of a context token for a panel on an issue.
pub(crate) fn on_issue(installation: &str, module: &str, issue: &str) -> Value {
    let extension = json!({ "issue": { "id": issue }, "project": { "id": "10000" } });
    context(json!({ "installationId": installation, "moduleKey": module, "extension": extension }))
}

/// The claims of a context token.
pub(crate) fn context(mut claims: Value) -> Value {
    claims["aud"] = json!("realtime");
    claims["exp"] = json!(soon());
    claims
}

/// The header of a call for an invocation from the same place.
pub(crate) fn invocation(claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["aud"] = json!("realtime-invocation");
    format!("Forge as=app,id={}", sign(&claims))
}

/// A call to one of the endpoints.
pub(crate) fn call(node: &Node, endpoint: &str, authorization: &str, body: &Value) -> Response {
    let headers = [("forge-proxy-authorization", authorization)];
    let path = format!("/forge/realtime/v1/{endpoint}");
    node.request("POST", &path, &headers, body.to_string().as_bytes())
}

/// Publishes, where nobody refuses it. Answers the result.
pub(crate) fn publish(node: &Node, endpoint: &str, authorization: &str, body: &Value) -> Value {
    let response = call(node, endpoint, authorization, body);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

/// Has a realtime token signed.
pub(crate) fn realtime_token(node: &Node, place: &Value, channel: &str, claims: &Value) -> String {
    let body = json!({ "channelName": channel, "claims": claims });
    let response = call(node, "token", &invocation(place), &body);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["token"].as_str().expect("a token is text").to_owned()
}
