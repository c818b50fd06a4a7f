//! A back end that writes documents, and where it and its subscribers are.

use serde_json::{Value, json};

use crate::support::{API_KEY, Node, Response, an_hour_from_now, sign};
use crate::tcp;

/// Headers, or what a subprotocol embeds for them.
pub(crate) type Headers = Vec<(&'static str, String)>;

/// The organization of most tests, and its project.
pub(crate) const ORGANIZATION: &str = "testOrg";
pub(crate) const PROJECT: &str = "testProj";
/// What a message that makes no sense is answered with.
pub(crate) const INVALID: &str = r#"{"error":"Invalid message format"}"#;

/// In that project.
pub(crate) fn place() -> Headers {
    place_of(ORGANIZATION, PROJECT)
}

/// In another.
pub(crate) fn place_of(organization: &str, project: &str) -> Headers {
    vec![("x-m2-organization", organization.into()), ("x-m2-project", project.into())]
}

/// There on behalf of nobody in particular.
pub(crate) fn service(mut place: Headers) -> Headers {
    place.push(("x-api-key", API_KEY.into()));
    place
}

/// There on behalf of a user.
pub(crate) fn user(mut place: Headers, name: &str) -> Headers {
    let organization = value(&place, "x-m2-organization");
    let claims = json!({ "user_id": name, "organization_id": organization });
    place.push(("authorization", bearer(claims)));
    place
}

/// The value of a token that is good for an hour.
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

/// Where a resource is over HTTP; its id is put there as it is.
pub(crate) fn path(kind: &str, id: &str) -> String {
    format!("/api/realtime/resources/{kind}/{id}")
}

/// A call with these headers. A body of nothing is none.
pub(crate) fn call(
    node: &Node,
    (method, path): (&str, &str),
    headers: &Headers,
    body: &str,
) -> Response {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    node.request(method, path, &headers, body.as_bytes())
}

/// Writes a document as a back end of the place. Answers its version.
pub(crate) fn put(node: &Node, place: &Headers, resource: (&str, &str), body: &Value) -> String {
    put_text(node, place, resource, &body.to_string())
}

/// The same with a body that is text already.
pub(crate) fn put_text(
    node: &Node,
    place: &Headers,
    (kind, id): (&str, &str),
    body: &str,
) -> String {
    let path = path(kind, id);
    written(&call(node, ("PUT", &path), &service(place.clone()), body))
}

/// A request that writes a document as a back end of the place, for a connection that is kept.
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

/// Deletes a document. Answers the version of that.
pub(crate) fn delete(node: &Node, place: &Headers, (kind, id): (&str, &str), body: &str) -> String {
    let path = path(kind, id);
    written(&call(node, ("DELETE", &path), &service(place.clone()), body))
}

/// The version of what was written.
pub(crate) fn written(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    let version = answer["version"].as_str().expect("a version is text").to_owned();
    assert_eq!(answer, json!({ "version": version, "durability": "stored" }));
    assert!(is_version(&version), "{version}");
    version
}

/// Whether it is a date to the millisecond, in UTC.
pub(crate) fn is_version(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}

/// A document as it is told, byte for byte.
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

/// The warning that a resource has no document.
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
