//! A back end that writes documents, and the organizations and projects of documents and
//! subscribers.

use serde_json::{Value, json};

use crate::support::{API_KEY, Node, Response, an_hour_from_now, sign};
use crate::tcp;

/// Headers, or lines that a subprotocol embeds in their place.
pub(crate) type Headers = Vec<(&'static str, String)>;

/// The organization that most tests use, and its project.
pub(crate) const ORGANIZATION: &str = "testOrg";
pub(crate) const PROJECT: &str = "testProj";
/// The answer to an invalid message.
pub(crate) const INVALID: &str = r#"{"error":"Invalid message format"}"#;

/// Returns the headers of that project.
pub(crate) fn place() -> Headers {
    place_of(ORGANIZATION, PROJECT)
}

/// Returns the headers of this project.
pub(crate) fn place_of(organization: &str, project: &str) -> Headers {
    vec![("x-m2-organization", organization.into()), ("x-m2-project", project.into())]
}

/// Adds the credential of a service.
pub(crate) fn service(mut place: Headers) -> Headers {
    place.push(("x-api-key", API_KEY.into()));
    place
}

/// Adds the credential of a user.
pub(crate) fn user(mut place: Headers, name: &str) -> Headers {
    let organization = value(&place, "x-m2-organization");
    let claims = json!({ "user_id": name, "organization_id": organization });
    place.push(("authorization", bearer(claims)));
    place
}

/// Returns the value of a header with a token that is valid for an hour.
pub(crate) fn bearer(mut claims: Value) -> String {
    if claims.get("exp").is_none() {
        claims["exp"] = json!(an_hour_from_now());
    }
    format!("Bearer {}", sign(&claims))
}

fn value(headers: &Headers, name: &str) -> String {
    let found = headers.iter().find(|(header, _)| *header == name);
    found.map(|(_, value)| value.clone()).expect("the header is there")
}

/// Returns the path of a resource. The id is not encoded.
pub(crate) fn path(kind: &str, id: &str) -> String {
    format!("/api/realtime/resources/{kind}/{id}")
}

/// Sends a request with these headers. An empty `body` means none.
pub(crate) fn call(
    node: &Node,
    (method, path): (&str, &str),
    headers: &Headers,
    body: &str,
) -> Response {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    node.request(method, path, &headers, body.as_bytes())
}

/// Writes a document as a back end and returns its version.
pub(crate) fn put(node: &Node, place: &Headers, resource: (&str, &str), body: &Value) -> String {
    put_text(node, place, resource, &body.to_string())
}

/// Writes a document with this text as body, and returns its version.
pub(crate) fn put_text(
    node: &Node,
    place: &Headers,
    (kind, id): (&str, &str),
    body: &str,
) -> String {
    let path = path(kind, id);
    written(&call(node, ("PUT", &path), &service(place.clone()), body))
}

/// Returns a request that writes a document as a back end, for a connection that is kept.
pub(crate) fn write_request(
    place: &Headers,
    (kind, id): (&str, &str),
    query: &str,
    data: &Value,
) -> Vec<u8> {
    let target = format!("PUT {}{query} HTTP/1.1", path(kind, id));
    let headers = service(place.clone());
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut head = vec![target.as_str()];
    head.extend(lines.iter().map(String::as_str));
    tcp::request(&head, json!({ "data": data }).to_string())
}

/// Deletes a document and returns the version of the deletion.
pub(crate) fn delete(node: &Node, place: &Headers, (kind, id): (&str, &str), body: &str) -> String {
    let path = path(kind, id);
    written(&call(node, ("DELETE", &path), &service(place.clone()), body))
}

/// Returns the version in the answer to a write.
pub(crate) fn written(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    let version = answer["version"].as_str().expect("a version is text").to_owned();
    assert_eq!(answer, json!({ "version": version, "durability": "stored" }));
    assert!(is_version(&version), "{version}");
    version
}

/// Whether a text is a date in UTC with milliseconds.
pub(crate) fn is_version(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}

/// Returns the frame in which subscribers receive a document, byte for byte.
pub(crate) fn frame(
    user: Option<&str>,
    (kind, id): (&str, &str),
    data: &str,
    version: &str,
) -> String {
    let resource = format!(r#"{{"type":"{kind}","id":{}}}"#, json!(id));
    let user = json!(user);
    format!(r#"{{"userId":{user},"resource":{resource},"data":{data},"version":"{version}"}}"#)
}

/// Returns the warning that a resource has no document.
pub(crate) fn warning(kind: &str) -> String {
    let title = match kind {
        "kvStore" => "KVStore",
        "collection" => "Collection",
        _ => "LiveConfig",
    };
    let message = format!(
        "{title} resource doesn't currently exist, subscription was still made successfully"
    );
    format!(r#"{{"warning":"resource_not_found","message":"{message}"}}"#)
}
