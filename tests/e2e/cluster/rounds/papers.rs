//! Documents of M2 that are written and read on every node. Versions must rise for every reader, no
//! answered write may be lost, and in the end all must have the newest.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use super::client::{LOOK, read};
use super::stage::Stage;
use crate::dial::dial;
use crate::m2::app::{path, place, service};
use crate::m2::listener::message;
use crate::tcp::{Tcp, request};

const KIND: &str = "kvStore";
const DOCUMENTS: u64 = 6;
/// How long nodes that serve again may show different documents.
pub(super) const AGREE_WITHIN: Duration = Duration::from_secs(5);
/// Longer than any node is stopped.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two writes, and between two attempts.
const PACE: Duration = Duration::from_millis(50);

/// What writers and readers saw of the documents of a round.
pub(super) struct Papers {
    /// A part of their ids, so that no other round has them.
    mark: u32,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    writes: Vec<Write>,
    /// The newest that each reader has of each document: by node and document.
    read: BTreeMap<(u64, u64), State>,
    /// Whether the broker has lost the documents.
    is_emptied: bool,
    problems: Vec<String>,
}

/// A version, and the number of the write that the document is from.
type State = (String, u64);

struct Write {
    document: u64,
    outcome: Outcome,
    /// The version under which somebody has read it.
    seen: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Outcome {
    Stored(String),
    Refused,
    Unknown,
}

/// How many writes had which outcome.
#[derive(Default)]
pub(super) struct Written {
    pub(super) stored: usize,
    pub(super) refused: usize,
    pub(super) unknown: usize,
    /// How long it took until all nodes and readers had the same.
    pub(super) agreed: Duration,
}

impl Papers {
    pub(super) fn new() -> Self {
        Self { mark: rand::random(), ledger: Mutex::default() }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes on a node until the round becomes quiet, and reads each document on another one.
    pub(super) fn write(&self, stage: &Stage, port: u16, another: u16) {
        while !stage.is_quiet() {
            let document = rand::random::<u64>() % DOCUMENTS;
            let number = self.asked(document);
            let answer = self.call(port, "PUT", document, &json!({ "data": number }).to_string());
            let outcome = match answer {
                Some((200, body)) => Outcome::Stored(version_of(&body)),
                Some((503, body)) if body["error"] != "BACKPLANE_UNKNOWN" => Outcome::Refused,
                Some((503, _)) | None => Outcome::Unknown,
                Some((status, body)) => {
                    self.ledger().problems.push(format!("a write is answered {status} {body}"));
                    Outcome::Unknown
                }
            };
            self.ledger().writes[number as usize].outcome = outcome.clone();
            if let Outcome::Stored(version) = outcome {
                self.check_read(another, document, &version);
            }
            thread::sleep(PACE);
        }
    }

    /// Reads what was written with this version or is newer.
    fn check_read(&self, port: u16, document: u64, version: &str) {
        let read = match self.call(port, "GET", document, "") {
            Some((200, body)) => version_of(&body),
            Some((404, _)) => String::new(),
            _ => return,
        };
        let mut ledger = self.ledger();
        if *read < *version && !ledger.is_emptied {
            ledger.problems.push(format!("{document}: {read:?} is read behind {version}"));
        }
    }

    fn asked(&self, document: u64) -> u64 {
        let mut ledger = self.ledger();
        ledger.writes.push(Write { document, outcome: Outcome::Unknown, seen: None });
        ledger.writes.len() as u64 - 1
    }

    /// Notes that the broker is about to lose the documents.
    pub(super) fn are_lost(&self) {
        self.ledger().is_emptied = true;
    }

    /// Receives all documents on a node until the round is over.
    pub(super) fn read(&self, stage: &Stage, node: u64, port: u16) {
        while !stage.is_over() {
            if self.listen(stage, node, port).is_none() {
                thread::sleep(PACE);
            }
        }
    }

    /// Connects and receives documents. Returns `None` at the end of the connection.
    fn listen(&self, stage: &Stage, node: u64, port: u16) -> Option<()> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        let headers = service(place());
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let mut websocket = dial(stream, "/api/realtime/", headers, PATIENCE).ok()?;
        websocket.get_ref().set_read_timeout(Some(LOOK)).ok()?;
        let mut must_subscribe = true;
        while !stage.is_over() {
            for document in (0..DOCUMENTS).filter(|_| must_subscribe) {
                let message = message("subscribe", KIND, &self.id(document));
                websocket.send(Message::text(message)).ok()?;
            }
            let Some(text) = read(&mut websocket).ok()? else {
                must_subscribe = false;
                continue;
            };
            // A node that is cut off refuses subscribes.
            must_subscribe = !self.told(node, &text);
            if must_subscribe {
                thread::sleep(PACE);
            }
        }
        Some(())
    }

    /// Takes what a reader is told. Returns false if that is a refusal.
    fn told(&self, node: u64, text: &str) -> bool {
        let body: Value = serde_json::from_str(text).expect("it is JSON");
        if body.get("warning").is_some() || body.get("error").is_some() {
            return body.get("error").is_none();
        }
        let mut ledger = self.ledger();
        let document = body["resource"]["id"].as_str().and_then(|id| id.rsplit_once(':'));
        let document = document.and_then(|(_, number)| number.parse().ok());
        let (Some(document), Some(number)) = (document, body["data"].as_u64()) else {
            ledger.problems.push(format!("unexpected on n{node}: {text}"));
            return true;
        };
        ledger.told(node, document, (version_of(&body), number));
        true
    }

    /// Waits until all nodes and readers have the same. Returns the outcomes of the writes, and
    /// what was wrong.
    pub(super) fn settle(&self, ports: &[(u64, u16)]) -> (Written, Vec<String>) {
        let begin = Instant::now();
        let mut differing = Some("not looked".to_owned());
        let mut states = Vec::new();
        while differing.is_some() && begin.elapsed() < AGREE_WITHIN {
            states = (0..DOCUMENTS).map(|document| self.state(document, ports)).collect();
            differing = states.iter().find_map(|state| state.as_ref().err().cloned());
        }
        let agreed = begin.elapsed();
        let mut ledger = self.ledger();
        ledger.problems.extend(differing);
        for (document, state) in (0..).zip(states) {
            if let Ok(state) = state {
                ledger.check_newest(document, state);
            }
        }
        ledger.check_versions();
        let count = |is: fn(&Outcome) -> bool| {
            ledger.writes.iter().filter(|write| is(&write.outcome)).count()
        };
        let written = Written {
            stored: count(|one| matches!(one, Outcome::Stored(_))),
            refused: count(|one| matches!(one, Outcome::Refused)),
            unknown: count(|one| matches!(one, Outcome::Unknown)),
            agreed,
        };
        (written, std::mem::take(&mut ledger.problems))
    }

    /// Returns the state of a document; `None` if there is none. The error says who has another.
    fn state(&self, document: u64, ports: &[(u64, u16)]) -> Result<Option<State>, String> {
        let mut states = ports.iter().map(|&(node, port)| {
            let state = match self.call(port, "GET", document, "") {
                Some((200, body)) => Some((version_of(&body), body["data"].as_u64().unwrap_or(0))),
                Some((404, _)) => None,
                answer => return Err(format!("{document}: n{node} answers {answer:?}")),
            };
            Ok((node, state))
        });
        let states: Vec<_> = states.by_ref().collect::<Result<_, _>>()?;
        let (_, first) = &states[0];
        if let Some((node, other)) = states.iter().find(|(_, state)| state != first) {
            return Err(format!("{document}: n1 has {first:?}, n{node} has {other:?}"));
        }
        let ledger = self.ledger();
        for (node, _) in ports.iter().filter(|_| first.is_some()) {
            let read = ledger.read.get(&(*node, document));
            if read != first.as_ref() {
                return Err(format!("{document}: {first:?}, and n{node}'s reader has {read:?}"));
            }
        }
        Ok(first.clone())
    }
}

impl Papers {
    fn id(&self, document: u64) -> String {
        format!("paper:{}:{document}", self.mark)
    }

    /// Sends a request of a back end. Returns `None` if the node is gone.
    fn call(&self, port: u16, method: &str, document: u64, body: &str) -> Option<(u16, Value)> {
        let mut tcp = Tcp::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?);
        let line = format!("{method} {} HTTP/1.1", path(KIND, &self.id(document)));
        let headers = service(place());
        let headers = headers.iter().map(|(name, value)| format!("{name}: {value}"));
        let head: Vec<_> = [line].into_iter().chain(headers).collect();
        let head: Vec<_> = head.iter().map(String::as_str).collect();
        let response = if tcp.send(request(&head, body)) {
            tcp.try_response(method, PATIENCE)?
        } else {
            return None;
        };
        Some((response.status, response.json()))
    }
}

impl Ledger {
    /// Notes what a reader has received.
    fn told(&mut self, node: u64, document: u64, state: State) {
        let write = self.writes.get_mut(state.1 as usize);
        match write.filter(|write| write.document == document) {
            None => self.problems.push(format!("{document}: nobody wrote {state:?}")),
            Some(write) => {
                let seen = write.seen.get_or_insert_with(|| state.0.clone());
                if *seen != state.0 {
                    self.problems.push(format!("{document}: {state:?} was read as {seen}"));
                }
            }
        }
        let before = self.read.insert((node, document), state.clone());
        if before.as_ref().is_some_and(|before| {
            before.0 > state.0 || (before.0 == state.0 && before.1 != state.1)
        }) {
            self.problems.push(format!("{document}: n{node} tells {state:?} behind {before:?}"));
        }
    }

    /// Checks that no answered write is newer than what there is in the end.
    fn check_newest(&mut self, document: u64, state: Option<State>) {
        if self.is_emptied {
            return;
        }
        let answered = self.writes.iter().filter(|write| write.document == document);
        let versions = answered.filter_map(|write| match &write.outcome {
            Outcome::Stored(version) => Some(version),
            _ => None,
        });
        let newest = versions.max();
        if newest > state.as_ref().map(|(version, _)| version) {
            let problem = format!("{document}: {newest:?} was answered, and there is {state:?}");
            self.problems.push(problem);
        }
    }

    /// Checks that what was read is what was answered, and that no version was given twice.
    fn check_versions(&mut self) {
        let mut given = BTreeMap::new();
        for (number, Write { document, outcome, seen }) in self.writes.iter().enumerate() {
            let problem = match (outcome, seen) {
                (Outcome::Refused, Some(seen)) => format!("refused, and read as {seen}"),
                (Outcome::Stored(version), Some(seen)) if version != seen => {
                    format!("answered as {version}, and read as {seen}")
                }
                (Outcome::Stored(version), _) => match given.insert((*document, version), number) {
                    Some(other) => format!("{version} was given to write {other} as well"),
                    None => continue,
                },
                _ => continue,
            };
            self.problems.push(format!("{document}, write {number}: {problem}"));
        }
    }
}

fn version_of(body: &Value) -> String {
    body["version"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "2026-01-01T00:00:00.000Z";
    const NEW: &str = "2026-01-01T00:00:01.000Z";

    /// Returns the problems after these writes of one document, and these words to one reader.
    fn problems(outcomes: &[Outcome], told: &[(&str, u64)], newest: Option<(&str, u64)>) -> usize {
        let mut ledger = Ledger::default();
        let write = |outcome: &Outcome| Write { document: 0, outcome: outcome.clone(), seen: None };
        ledger.writes = outcomes.iter().map(write).collect();
        let owned = |&(version, number): &(&str, u64)| (version.to_owned(), number);
        told.iter().for_each(|state| ledger.told(1, 0, owned(state)));
        ledger.check_newest(0, newest.as_ref().map(owned));
        ledger.check_versions();
        ledger.problems.len()
    }

    #[test]
    fn a_lost_write_and_versions_that_fall_or_differ_are_found() {
        let stored = |version: &str| Outcome::Stored(version.to_owned());
        let two = [stored(OLD), stored(NEW)];
        assert_eq!(problems(&two, &[(OLD, 0), (NEW, 1)], Some((NEW, 1))), 0);
        assert_eq!(problems(&two, &[(NEW, 1), (NEW, 1)], Some((NEW, 1))), 0, "told again");
        assert_eq!(problems(&two, &[], Some((OLD, 0))), 1, "the newest is lost");
        assert_eq!(problems(&two, &[], None), 1);
        assert_eq!(problems(&two, &[(NEW, 1), (OLD, 0)], Some((NEW, 1))), 1, "it falls");
        assert_eq!(problems(&[stored(NEW)], &[(OLD, 0)], Some((NEW, 0))), 1, "another version");
        assert_eq!(problems(&[Outcome::Refused], &[(OLD, 0)], Some((OLD, 0))), 1, "refused");
        assert_eq!(problems(&[Outcome::Unknown], &[(OLD, 0)], Some((OLD, 0))), 0);
        assert_eq!(problems(&[stored(OLD), stored(OLD)], &[], Some((OLD, 1))), 1, "given twice");
        assert_eq!(problems(&[], &[(OLD, 7)], Some((OLD, 7))), 1, "nobody wrote it");
    }
}
