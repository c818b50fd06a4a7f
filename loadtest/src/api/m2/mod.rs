//! M2 Realtime: documents over WebSocket, written with HTTP.

mod document;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use serde_json::{Value, json};

pub(crate) use self::document::{Document, Version, written_version};
use crate::api::payload::payload;
use crate::api::{Api, Packet, Reply, Script, Step, Word, base58, header_value, percent_encoded};
use crate::handshake::Handshake;
use crate::http;
use crate::publisher::Schedule;
use crate::stamp::Template;
use crate::target::Target;

const PATH: &str = "/api/realtime/";
const STATUS_PATH: &str = "/api/realtime/status";
const RESOURCES_PATH: &str = "/api/realtime/resources";
const KINDS: [&str; 3] = ["kvStore", "collection", "liveConfig"];

/// The usual starts of a document and of a warning. One that begins differently is recognized too,
/// only slower.
const DOCUMENT: &[u8] = br#"{"userId":"#;
const WARNING: &[u8] = br#"{"warning":"#;

/// The floor's answer to a subscribe: a document that does not exist.
const NOT_FOUND: &str = concat!(
    r#"{"warning":"resource_not_found","message":"KVStore resource doesn't currently exist, "#,
    r#"subscription was still made successfully"}"#
);
/// Versions of a node differ from document to document, but have the same length.
const VERSION: &str = "2000-01-01T00:00:00.000Z";

/// Organization and project of resources.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Scope {
    organization: String,
    project: String,
}

impl Default for Scope {
    fn default() -> Self {
        Self { organization: "load".to_owned(), project: "test".to_owned() }
    }
}

/// Parses `ORGANIZATION/PROJECT`. Each name must be valid as a header's value.
impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (organization, project) = text.split_once('/').context("expected two names and a /")?;
        let name = |name| header_value(name, "name").map(str::to_owned);
        Ok(Self { organization: name(organization)?, project: name(project)? })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organization, self.project)
    }
}

/// The type and the id of a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Resource<'a> {
    pub(crate) kind: &'a str,
    pub(crate) id: &'a str,
}

impl<'a> Resource<'a> {
    /// Returns the resource of a channel `TYPE/ID`. A channel without a type is an item of the
    /// key-value store.
    fn of_channel(channel: &'a str) -> Self {
        let parts = channel.split_once('/').filter(|(kind, _)| KINDS.contains(kind));
        let (kind, id) = parts.unwrap_or((KINDS[0], channel));
        Self { kind, id }
    }

    /// Returns a resource whose type is the next one in each turn.
    pub(crate) fn of_turn(turn: usize, id: &'a str) -> Self {
        Self { kind: KINDS[turn % KINDS.len()], id }
    }

    /// Returns the message by which a client subscribes to it.
    pub(crate) fn subscribe(self) -> String {
        let Self { kind, id } = self;
        json!({ "action": "subscribe", "resource": { "type": kind, "id": id } }).to_string()
    }
}

/// Scope and credential of a client or a writer.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) scope: &'a Scope,
    /// A JWT or an API key.
    pub(crate) credential: Option<&'a str>,
}

impl Caller<'_> {
    fn headers(&self) -> Result<Vec<(&'static str, String)>> {
        let Self { scope, credential } = self;
        let bearer = |it| header_value(it, "credential").map(|it| format!("Bearer {it}"));
        let bearer = credential.map(bearer).transpose()?;
        let names = [
            ("x-m2-organization", scope.organization.clone()),
            ("x-m2-project", scope.project.clone()),
        ];
        Ok(names.into_iter().chain(bearer.map(|bearer| ("authorization", bearer))).collect())
    }

    /// Returns the upgrade request: with headers, or as from a browser, which cannot set headers.
    pub(crate) fn upgrade(&self, target: &Target, browser: bool) -> Result<Handshake> {
        let headers = self.headers()?;
        if browser {
            let lines: Vec<_> =
                headers.iter().map(|(name, value)| format!("{name}:{value}")).collect();
            let offer = base58::encode(&lines.join("\n"));
            return Ok(Handshake::upgrade(target, PATH, Some(&offer), &[]));
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Ok(Handshake::upgrade(target, PATH, None, &headers))
    }

    /// Returns the head of the request that writes a document, for a body of this length.
    pub(crate) fn put_head(
        &self,
        target: &Target,
        resource: Resource<'_>,
        body_bytes: usize,
    ) -> Result<String> {
        let Resource { kind, id } = resource;
        let headers = self.headers()?;
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let call = format!("PUT {RESOURCES_PATH}/{kind}/{}", percent_encoded(id));
        Ok(http::head(target, &call, &headers.join("\r\n"), body_bytes))
    }
}

/// Returns the body of a request that writes a document with `payload_bytes` bytes of data.
pub(crate) fn put_body(payload_bytes: usize) -> Result<Template> {
    payload(r#"{"data":"#, payload_bytes, "", "}")
}

/// Requests the node's status, so that the memory of a first answer counts for no connection.
pub(crate) fn ensure_ready(target: &Target) -> Result<()> {
    let accept = "Accept: application/json";
    let answer = http::ask(target, &http::head(target, &format!("GET {STATUS_PATH}"), accept, 0))?;
    let status = answer.status;
    ensure!(status == 200, "the status was answered {status}: {}", answer.excerpt());
    Ok(())
}

/// Returns the script of a client. The client speaks first, and the node answers a subscribe with
/// the present state.
pub(super) fn script(
    target: &Target,
    caller: Caller<'_>,
    browser: bool,
    channel: Option<&str>,
) -> Result<Script> {
    let subscribed = channel.map(|_| Step { awaited: Word::Subscribed, answer: None });
    Ok(Script {
        api: Api::M2,
        handshake: caller.upgrade(target, browser)?,
        opening: channel.map(|channel| Resource::of_channel(channel).subscribe()),
        steps: subscribed.into_iter().collect(),
        plain: None,
    })
}

/// Returns the request of a publication, to be stamped.
pub(super) fn request(
    target: &Target,
    caller: Caller<'_>,
    schedule: &Schedule,
) -> Result<Template> {
    let body_bytes = put_body(schedule.payload_bytes)?.text().len();
    let head = caller.put_head(target, Resource::of_channel(&schedule.channel), body_bytes)?;
    payload(&format!("{head}{{\"data\":"), schedule.payload_bytes, "", "}")
}

/// Classifies a message from the server.
pub(super) fn read(text: &[u8]) -> Packet<'_> {
    if text.starts_with(DOCUMENT) {
        return Packet::Event(text);
    }
    if text.starts_with(WARNING) {
        return Packet::Word(Word::Subscribed);
    }
    let message = serde_json::from_slice::<Value>(text).unwrap_or_default();
    let has = |name| message.get(name).is_some();
    match (has("resource"), has("warning"), has("error")) {
        (true, _, _) => Packet::Event(text),
        (_, true, _) => Packet::Word(Word::Subscribed),
        (_, _, true) => Packet::Refused(text),
        _ => Packet::Other,
    }
}

/// Returns a publication as a node delivers it.
pub(super) fn delivered(schedule: &Schedule) -> Result<Template> {
    let Resource { kind, id } = Resource::of_channel(&schedule.channel);
    let id = Value::from(id);
    let before = format!(r#"{{"userId":null,"resource":{{"type":"{kind}","id":{id}}},"data":"#);
    payload(&before, schedule.payload_bytes, "", &format!(r#","version":"{VERSION}"}}"#))
}

/// Returns the floor's answer to a message; `None` if it needs none.
pub(super) fn reply(text: &[u8]) -> Option<Reply> {
    let message: Value = serde_json::from_slice(text).ok()?;
    let subscribes = message["action"] == "subscribe";
    subscribes.then(|| Reply { text: NOT_FOUND.to_owned(), subscribes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Reader, Stamp};

    /// The message that a node delivered for the payload below, written to `kvStore/load:1`. Only
    /// the stamp and the version were inserted later.
    const DELIVERED: &str = concat!(
        r#"{"userId":null,"resource":{"type":"kvStore","id":"load:1"},"data":"#,
        r#"{"t":"@0000000012:0000000000000000345","pad":"xxxxxxxxxxxxxxxx"},"#,
        r#""version":"2024-01-30T15:50:35.742Z"}"#
    );
    const STAMP: Stamp = Stamp { sequence: 12, due_ns: 345 };

    fn target() -> Target {
        "http://127.0.0.1:1".parse().unwrap()
    }

    fn schedule(channel: &str) -> Schedule {
        Schedule {
            channel: channel.to_owned(),
            event: "load".to_owned(),
            payload_bytes: 64,
            rate: 1.0,
            publications: 1,
        }
    }

    #[test]
    fn channels_name_resources() {
        for (channel, kind, id) in [
            ("load:1", "kvStore", "load:1"),
            ("kvStore/a/b", "kvStore", "a/b"),
            ("collection/public", "collection", "public"),
            ("liveConfig/game", "liveConfig", "game"),
            ("kvstore/a", "kvStore", "kvstore/a"),
        ] {
            assert_eq!(Resource::of_channel(channel), Resource { kind, id });
        }
        let said: Value =
            serde_json::from_str(&Resource::of_channel("collection/a\"b").subscribe()).unwrap();
        let resource = json!({ "type": "collection", "id": "a\"b" });
        assert_eq!(said, json!({ "action": "subscribe", "resource": resource }));
    }

    #[test]
    fn clients_say_who_they_are_in_headers_or_as_browsers_do() {
        let scope = "testOrg/testProj".parse().unwrap();
        let reader = Caller { scope: &scope, credential: Some("e.y.J\n") };
        let Script { handshake, opening, .. } =
            script(&target(), reader, false, Some("load:1")).unwrap();
        for header in ["x-m2-organization: testOrg", "authorization: Bearer e.y.J"] {
            assert!(handshake.request.contains(&format!("\r\n{header}\r\n")), "{header}");
        }
        assert!(handshake.request.starts_with("GET /api/realtime/ HTTP/1.1\r\n"));
        assert!(opening.unwrap().contains("load:1"));
        let nobody = Caller { scope: &scope, credential: None };
        let browser = nobody.upgrade(&target(), true).unwrap();
        let offer = "zvtwh2Pc4738C3hkLXwcLbY3LnsqYfMmKG2NWiWNE9yL8xVwQhcLFKCzzne1fqbf";
        assert!(browser.request.contains(&format!("\r\nSec-WebSocket-Protocol: {offer}\r\n")));
        assert!(!browser.request.contains("x-m2"));
        let silent = script(&target(), nobody, false, None).unwrap();
        assert!(silent.steps.is_empty() && silent.opening.is_none());
    }

    #[test]
    fn scopes_and_credentials_that_would_break_a_header_are_refused() {
        for bad in ["load", "/test", "load/", "lo\nad/test", "load/t\u{e9}st"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad:?}");
        }
        let scope = Scope::default();
        assert_eq!(scope, "load/test".parse().unwrap());
        let caller = Caller { scope: &scope, credential: Some("se\r\ncret") };
        let error = caller.upgrade(&target(), false).err().unwrap();
        assert!(!format!("{error:#}").contains("cret"));
    }

    #[test]
    fn a_publication_is_one_whole_request() {
        let scope = Scope::default();
        let writer = Caller { scope: &scope, credential: Some("ik_1") };
        let mut template = request(&target(), writer, &schedule("collection/a b%/c")).unwrap();
        let request = String::from_utf8(template.stamped(STAMP).to_vec()).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let line = "PUT /api/realtime/resources/collection/a%20b%25%2Fc HTTP/1.1\r\n";
        assert!(head.starts_with(line), "{head}");
        assert!(head.contains("\r\nauthorization: Bearer ik_1\r\n"));
        assert!(head.ends_with(&format!("\r\nContent-Length: {}", body.len())));
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["data"].to_string().len(), 64);
        assert_eq!(body.as_object().unwrap().len(), 1);
    }

    #[test]
    fn messages_are_sorted() {
        let spaced = br#" { "version":"x", "resource":{} }"#;
        for document in [DELIVERED.as_bytes(), spaced] {
            assert_eq!(read(document), Packet::Event(document));
        }
        for warning in [NOT_FOUND.as_bytes(), br#"{"message":"m","warning":"w"}"#] {
            assert_eq!(read(warning), Packet::Word(Word::Subscribed));
        }
        let error = br#"{"error":"Too many subscriptions"}"#;
        assert_eq!(read(error), Packet::Refused(error));
        assert_eq!(read(b"[]"), Packet::Other);
        assert_eq!(read(b"40"), Packet::Other);
    }

    #[test]
    fn the_floor_answers_a_subscribe_only() {
        let said = Resource::of_channel("a").subscribe();
        let answer = reply(said.as_bytes()).unwrap();
        assert!(answer.subscribes);
        assert_eq!(read(answer.text.as_bytes()), Packet::Word(Word::Subscribed));
        assert!(reply(said.replace("subscribe", "unsubscribe").as_bytes()).is_none());
    }

    #[test]
    fn the_floor_delivers_what_a_node_does_but_for_the_version() {
        let mut template = delivered(&schedule("load:1")).unwrap();
        let text = template.stamped(STAMP);
        let expected = DELIVERED.replace("2024-01-30T15:50:35.742Z", VERSION);
        assert_eq!(str::from_utf8(text).unwrap(), expected);
        assert_eq!(Reader::new().find(text), Some(STAMP));
    }
}
