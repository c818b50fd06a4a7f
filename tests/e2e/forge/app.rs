//! An app that calls Forge's endpoints, and the contexts of its calls.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Node, Response, an_hour_from_now, sign};

/// The endpoints for publishing and for signing tokens.
pub(crate) const ENDPOINTS: [&str; 3] = ["publish", "publish/global", "token"];
/// The header with the invocation or installation that an app calls for.
pub(crate) const PROXY: &str = "forge-proxy-authorization";
/// The message for callers without valid credentials or rights.
pub(crate) const UNAUTHORIZED: &str = "Unauthorized request";
/// The message for invalid `contextOverrides`.
pub(crate) const OVERRIDES: &str =
    "Invalid value for contextOverrides. Please provide an array of valid context properties.";

/// The result of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The call was answered with 200.
    Done,
    /// The call was refused.
    Refused {
        status: u16,
        message: String,
        /// The value of `forge-proxy-error`; `None` if the header is missing.
        code: Option<String>,
    },
}

/// Returns an `exp` for tokens that prove a context, which may live for 15 minutes.
pub(crate) fn soon() -> u64 {
    an_hour_from_now() - 3_600 + 600
}

/// Returns the claims of a context token for a panel on an issue.
pub(crate) fn on_issue(installation: &str, module: &str, issue: &str) -> Value {
    let extension = json!({ "issue": { "id": issue }, "project": { "id": "10000" } });
    context(json!({ "installationId": installation, "moduleKey": module, "extension": extension }))
}

/// Returns the claims of the context that most tests use.
pub(crate) fn place() -> Value {
    on_issue("inst-1", "panel", "10001")
}

/// Adds the claims that every context token needs.
pub(crate) fn context(mut claims: Value) -> Value {
    claims["aud"] = json!("realtime");
    claims["exp"] = json!(soon());
    claims
}

/// Returns the value of the header for an invocation from this context.
pub(crate) fn invocation(claims: &Value) -> String {
    format!("Forge as=app,id={}", invocation_token(claims))
}

/// Returns the invocation token itself.
pub(crate) fn invocation_token(claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["aud"] = json!("realtime-invocation");
    sign(&claims)
}

/// Returns a service token of the back end of an installation.
pub(crate) fn service_token(installation: &str) -> String {
    let exp = an_hour_from_now();
    sign(&json!({ "aud": "realtime-service", "installationId": installation, "exp": exp }))
}

/// Calls an endpoint with a JSON body.
pub(crate) fn call(node: &Node, endpoint: &str, authorization: &str, body: &Value) -> Response {
    raw_call(node, endpoint, &[(PROXY, authorization)], body.to_string())
}

/// Calls an endpoint with any headers and any body.
pub(crate) fn raw_call(
    node: &Node,
    endpoint: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Response {
    node.request("POST", &format!("/forge/realtime/v1/{endpoint}"), headers, body.as_ref())
}

/// Returns a valid body for an endpoint.
pub(crate) fn good_body(endpoint: &str) -> Value {
    match endpoint {
        "token" => json!({ "channelName": "room", "claims": { "a": 1 } }),
        _ => json!({ "name": "room", "payload": "x" }),
    }
}

/// Publishes and returns the result. Panics if that is refused.
pub(crate) fn publish(node: &Node, endpoint: &str, authorization: &str, body: &Value) -> Value {
    let response = call(node, endpoint, authorization, body);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

/// Has the node sign a realtime token and returns it.
pub(crate) fn realtime_token(node: &Node, place: &Value, channel: &str, claims: &Value) -> String {
    let body = json!({ "channelName": channel, "claims": claims });
    let response = call(node, "token", &invocation(place), &body);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["token"].as_str().expect("a token is text").to_owned()
}

/// Returns an endpoint's message for faults that have none of their own.
pub(crate) fn failure(endpoint: &str) -> &'static str {
    match endpoint {
        "token" => "Error signing realtime token",
        _ => "Error publishing event to channel",
    }
}

/// Returns the refusal of a request for its content.
pub(crate) fn refused(status: u16, message: &str) -> Outcome {
    Outcome::Refused { status, message: message.to_owned(), code: None }
}

/// Returns the refusal of a caller, with its code in `forge-proxy-error`.
pub(crate) fn refused_at_head(code: &str) -> Outcome {
    Outcome::Refused { status: 401, message: UNAUTHORIZED.to_owned(), code: Some(code.to_owned()) }
}

/// Parses the answer of an endpoint. Panics if it does not have the format of its result.
pub(crate) fn outcome(endpoint: &str, response: &Response) -> Outcome {
    let (status, body) = (response.status, response.json());
    let media_type = response.header("content-type").and_then(|kind| kind.split(';').next());
    assert_eq!(media_type, Some("application/json"), "{body}");
    let again = matches!(status, 429 | 503).then_some("1");
    assert_eq!(response.header("retry-after"), again, "{status} {body}");
    let code = response.header("forge-proxy-error").map(str::to_owned);
    if status == 200 {
        assert_eq!(code, None, "{body}");
        check_result(endpoint, &body);
        return Outcome::Done;
    }
    let nothing = match endpoint {
        "token" => json!({ "token": null, "expiresAt": null }),
        _ => json!({ "eventId": null, "eventTimestamp": null }),
    };
    let mut rest = body.clone();
    rest.as_object_mut().map(|members| members.remove("errors"));
    assert_eq!(rest, nothing, "{body}");
    let [error] = &body["errors"].as_array().expect("errors are a list")[..] else {
        panic!("there is one: {body}");
    };
    let mut names = keys(error);
    names.retain(|name| name != "detail");
    assert_eq!(names, ["message", "status"], "{body}");
    assert!(error.get("detail").is_none_or(Value::is_string), "{body}");
    assert_eq!(error["status"], status, "{body}");
    let message = error["message"].as_str().expect("a message is text").to_owned();
    Outcome::Refused { status, message, code }
}

fn check_result(endpoint: &str, body: &Value) {
    if endpoint == "token" {
        assert_eq!(keys(body), ["expiresAt", "token"], "{body}");
        let token = body["token"].as_str().expect("a token is text");
        assert_eq!(token.split('.').count(), 3, "{token}");
        assert!(body["expiresAt"].is_u64(), "{body}");
        return;
    }
    assert_eq!(keys(body), ["errors", "eventId", "eventTimestamp"], "{body}");
    assert!(body["errors"].is_null(), "{body}");
    match (&body["eventId"], &body["eventTimestamp"]) {
        (Value::Null, Value::Null) => {}
        (Value::String(id), Value::String(at)) => {
            let version = Uuid::try_parse(id).map(|id| id.get_version_num());
            assert_eq!(version, Ok(7), "{body}");
            let at: u64 = at.parse().expect("a time is a number");
            assert!(at.abs_diff((an_hour_from_now() - 3_600) * 1_000) < 60_000, "{body}");
        }
        _ => panic!("both or neither: {body}"),
    }
}

/// Returns the names of an object's members in alphabetical order.
pub(crate) fn keys(object: &Value) -> Vec<String> {
    let members = object.as_object().unwrap_or_else(|| panic!("no object: {object}"));
    let mut names: Vec<String> = members.keys().cloned().collect();
    names.sort();
    names
}
