//! A back end that writes documents and reads their states.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Dice, FEW, Key, PATIENCE, Resource, SCOPES, Shared, USERS, credential};
use crate::tcp::{self, Response, Tcp};

/// Pause between two attempts to connect to a node that does not listen.
const RETRY: Duration = Duration::from_millis(20);
/// A date far in the past.
const STALE: &str = "2001-02-03T04:05:06.789Z";

pub(crate) struct BackEnd {
    port: u16,
    tcp: Option<Tcp>,
    dice: Dice,
    /// The latest version of each document that an answer has named.
    versions: HashMap<Key, String>,
    written: usize,
}

impl BackEnd {
    pub(crate) fn new(port: u16, number: usize, seed: u64) -> Self {
        let dice = Dice::new(seed, 500 + number);
        Self { port, tcp: None, dice, versions: HashMap::new(), written: 0 }
    }

    /// Writes and deletes until `is_enough` is set, even if the node ends meanwhile.
    pub(crate) fn live(mut self, shared: &Shared) {
        while !shared.is_enough.load(Ordering::Relaxed) {
            let scope = self.dice.one_of(&SCOPES);
            let resource = self.dice.resource(scope);
            let some = self.dice.one_of(&USERS);
            let is_personal = resource.is_private() || self.dice.below(3) == 0;
            let key = (resource, is_personal.then_some(some));
            let answer = match self.dice.below(10) {
                0..3 => self.delete(key),
                3 => {
                    let stale = json!({ "version": STALE });
                    let answer = self.try_put(key, &json!("stale"), stale);
                    // The first write of a document may have any version.
                    answer.filter(|answer| answer.status != 200)
                }
                _ => {
                    let data = self.data(key);
                    self.try_put(key, &data, json!({}))
                }
            };
            self.settle(key, answer, shared);
            thread::sleep(self.dice.pause(1, 6));
        }
    }

    fn data(&mut self, (resource, owner): Key) -> Value {
        self.written += 1;
        // Documents with many subscribers are sometimes large, so that some clients do not keep up.
        let fill = match self.dice.below(if resource.number < FEW { 14 } else { 10 }) {
            0..5 => 10,
            5..9 => self.dice.below(10_000),
            _ => 50_000 + self.dice.below(250_000),
        };
        let written = format!("{:?} of {owner:?}: {}", resource.scope, self.written);
        json!({ "owner": owner, "written": written, "fill": "x".repeat(fill) })
    }

    /// Checks the answer to a write and records its version.
    fn settle(&mut self, key: Key, answer: Option<Response>, shared: &Shared) {
        let Some(answer) = answer else { return };
        match answer.status {
            200 => {
                let version = answer.json()["version"].as_str().expect("it has one").to_owned();
                let before = self.versions.insert(key, version.clone());
                assert!(before.is_none_or(|before| before < version), "{key:?}: {version}");
                let mut all = shared.answered();
                let latest = all.entry(key).or_default();
                *latest = version.max(std::mem::take(latest));
            }
            // There is no document, the version is stale, or the node is full or stopping.
            404 | 409 | 503 => {}
            _ => panic!("{key:?}: {answer:?}"),
        }
    }

    /// Writes a document. Panics if that is refused.
    pub(crate) fn put(&mut self, key: Key, data: &Value) {
        let answer = self.try_put(key, data, json!({})).expect("the node answers");
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    fn try_put(&mut self, key: Key, data: &Value, mut body: Value) -> Option<Response> {
        body["data"] = data.clone();
        if let Some(owner) = key.1 {
            body["userId"] = json!(owner);
            body["audience"] = json!("user");
        }
        self.call("PUT", key, &body.to_string())
    }

    fn delete(&mut self, key: Key) -> Option<Response> {
        self.call("DELETE", key, "")
    }

    /// Reads a document; `None` if it does not exist.
    fn look(&mut self, key: Key) -> Option<(String, Value)> {
        let answer = self.call("GET", key, "").expect("the node answers");
        if answer.status == 404 {
            return None;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut document = answer.json();
        let version = document["version"].as_str().expect("it has one").to_owned();
        Some((version, document["data"].take()))
    }

    /// Reads the documents with these keys.
    pub(crate) fn look_at(
        &mut self,
        keys: impl Iterator<Item = Key>,
    ) -> HashMap<Key, (String, Value)> {
        keys.filter_map(|key| Some((key, self.look(key)?))).collect()
    }

    /// Reads the documents of all resources: shared ones, and each user's own.
    pub(crate) fn look_at_all(&mut self) -> HashMap<Key, (String, Value)> {
        let owners = || [None].into_iter().chain(USERS.map(Some));
        let keys =
            Resource::all().flat_map(|resource| owners().map(move |owner| (resource, owner)));
        self.look_at(keys.filter(|(resource, owner)| owner.is_some() || !resource.is_private()))
    }

    /// Sends a request to the node; `None` if the node ends meanwhile.
    fn call(&mut self, method: &str, (resource, owner): Key, body: &str) -> Option<Response> {
        let mut path = format!("/api/realtime/resources/{}/{}", resource.kind, resource.id());
        if let Some(owner) = owner.filter(|_| method != "PUT") {
            path.push_str(&format!("?userId={owner}&audience=user"));
        }
        let (name, key) = credential(None);
        let mut head = vec![format!("{method} {path} HTTP/1.1"), format!("{name}: {key}")];
        head.extend(resource.scope.headers().map(|(name, value)| format!("{name}: {value}")));
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let mut tcp = self.tcp.take().unwrap_or_else(|| connect(self.port));
        if !tcp.send(tcp::request(&head, body)) {
            return None;
        }
        let answer = tcp.try_response(method, PATIENCE)?;
        if answer.header("connection") != Some("close") {
            self.tcp = Some(tcp);
        }
        Some(answer)
    }
}

/// Connects, and waits until the node listens.
fn connect(port: u16) -> Tcp {
    let end = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(stream) => return Tcp::over(stream),
            Err(error) => assert!(Instant::now() < end, "connecting to the node: {error}"),
        }
        thread::sleep(RETRY);
    }
}
