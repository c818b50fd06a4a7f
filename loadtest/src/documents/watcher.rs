//! One client: it subscribes to its documents and remembers the last state of each.

use std::cmp::Ordering;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, bail};

use crate::api::m2::{Document, Version};
use crate::api::{Api, Packet};
use crate::connection::{Arrival, Connection, Dial, Message};
use crate::documents::field::{self, Field};
use crate::handshake::Handshake;
use crate::heard::Heard;

/// Subscribes that may wait for their answers. A page that opens sends all of its subscribes at
/// once.
const UNANSWERED_MAX: usize = 64;

/// A client's knowledge of one document.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Watch {
    /// The number of the document.
    pub(super) resource: u32,
    /// The newest version received; zero before the first.
    pub(super) version: Version,
    /// The write of this run that made this version; `None` if it was not of this run.
    pub(super) write: Option<u64>,
    /// The version at the time of the subscribe; zero if the document did not exist.
    pub(super) found: Version,
    /// Number of newer versions received since.
    pub(super) updates: u32,
}

/// Answers to the subscribes, and deliveries that were wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Documents that existed at their subscribe.
    pub(crate) found: u64,
    /// Warnings that a document does not exist.
    pub(crate) warned: u64,
    /// Deliveries of the version that the client had received last.
    pub(crate) duplicated: u64,
    /// Deliveries of an older version than the last one.
    pub(crate) reordered: u64,
    /// Deliveries of a document that the client does not watch, or with the data of another
    /// document.
    pub(crate) misrouted: u64,
}

/// The updates of all clients, added up, and the state that checks them.
pub(super) struct Hearing {
    pub(super) field: Field,
    /// All writes of this run are due after this time.
    pub(super) since_ns: u64,
    pub(super) heard: Heard,
    pub(super) counts: Counts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Connecting,
    Connected,
    /// The number of subscribes sent, and the number answered.
    Subscribing(usize, usize),
    Listening,
}

/// One connection and the documents that it watches.
pub(super) struct Watcher {
    connection: Connection,
    stage: Stage,
    /// Whether its latencies count. A slow client is late by intention, which says nothing of the
    /// server.
    timed: bool,
    /// In ascending order of the documents' numbers.
    pub(super) watches: Vec<Watch>,
}

impl Watcher {
    /// Starts to connect. The socket becomes writable when the attempt has succeeded or failed.
    pub(super) fn dial(dial: Dial, watched: Vec<u32>, timed: bool) -> Result<Self> {
        let watch = |resource| Watch { resource, ..Watch::default() };
        Ok(Self {
            connection: Connection::dial(dial)?,
            stage: Stage::Connecting,
            timed,
            watches: watched.into_iter().map(watch).collect(),
        })
    }

    /// Whether the client waits for writability instead of readability.
    pub(super) fn is_dialling(&self) -> bool {
        self.connection.is_dialling()
    }

    /// Whether the upgrade is done, so that the client may subscribe.
    pub(super) fn is_connected(&self) -> bool {
        self.stage != Stage::Connecting
    }

    /// Whether all subscribes were answered.
    pub(super) fn is_listening(&self) -> bool {
        self.stage == Stage::Listening
    }

    /// Requests the upgrade once the socket is writable. Returns an error if the connection failed.
    pub(super) fn begin(&mut self, upgrade: &Handshake) -> Result<()> {
        self.connection.begin(upgrade)
    }

    /// Sends the first subscribes.
    pub(super) fn subscribe(&mut self, hearing: &mut Hearing) -> Result<()> {
        let first = self.watches.len().min(UNANSWERED_MAX);
        self.stage = Stage::Subscribing(first, 0);
        (0..first).try_for_each(|at| self.ask(at, hearing))
    }

    /// Reads once into `scratch` and handles all complete messages. An error means that the
    /// connection is over.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        upgrade: &Handshake,
        hearing: &mut Hearing,
    ) -> Result<()> {
        let Some(mut received) = self.connection.receive(scratch)? else {
            return Ok(());
        };
        while let Some(arrival) =
            self.connection.next(&mut received, upgrade, &mut hearing.heard)?
        {
            match arrival {
                Arrival::Open => self.stage = Stage::Connected,
                Arrival::Message(message) => self.on_message(message, hearing)?,
            }
        }
        self.connection.keep(received);
        Ok(())
    }

    fn on_message(&mut self, message: Message<'_>, hearing: &mut Hearing) -> Result<()> {
        match Api::M2.read(message.text) {
            Packet::Event(text) => self.on_document(&Document::read(text)?, message, hearing),
            Packet::Word(_) => {
                hearing.counts.warned += 1;
                self.on_answer(hearing)
            }
            // The refusal does not say which subscribe it is about.
            Packet::Refused(reason) if !self.is_listening() => {
                bail!("a subscribe was refused: {}", String::from_utf8_lossy(reason))
            }
            _ => {
                hearing.heard.complain(message.text);
                Ok(())
            }
        }
    }

    fn on_document(
        &mut self,
        document: &Document<'_>,
        message: Message<'_>,
        hearing: &mut Hearing,
    ) -> Result<()> {
        let Hearing { field, since_ns, heard, counts } = hearing;
        // A document of an earlier run was written by another draw, or by another program.
        let stamp = document.stamp().filter(|stamp| stamp.due_ns >= *since_ns);
        let number = field::number(document.resource())
            .filter(|number| stamp.is_none_or(|stamp| field.written(stamp.sequence) == *number));
        let place = number.map(|number| self.watches.binary_search_by_key(&number, Watch::number));
        let Some(Ok(place)) = place else {
            counts.misrouted += 1;
            return Ok(());
        };
        let watch = &mut self.watches[place];
        let version = document.version()?;
        let first = watch.version == Version::default();
        match version.cmp(&watch.version) {
            Ordering::Less => counts.reordered += 1,
            Ordering::Equal => counts.duplicated += 1,
            Ordering::Greater => {}
        }
        if version <= watch.version {
            return Ok(());
        }
        watch.version = version;
        watch.write = stamp.map(|stamp| stamp.sequence);
        // If documents are written while clients subscribe, the first state of a document may
        // follow a warning. It then answers the subscribe and stands for the states before it.
        if first && !self.is_listening() {
            self.watches[place].found = version;
            counts.found += 1;
            return self.on_answer(hearing);
        }
        self.watches[place].updates += 1;
        heard.received += 1;
        heard.frames.note(message.frame_bytes);
        if let Some(stamp) = stamp.filter(|_| self.timed) {
            heard.time(stamp.due_ns, message.read_ns);
        }
        Ok(())
    }

    /// Counts the answer to a subscribe and sends the next one.
    fn on_answer(&mut self, hearing: &mut Hearing) -> Result<()> {
        let Stage::Subscribing(asked, answered) = self.stage else {
            return Ok(());
        };
        let (next, answered) = ((asked + 1).min(self.watches.len()), answered + 1);
        let done = answered == self.watches.len();
        self.stage = if done { Stage::Listening } else { Stage::Subscribing(next, answered) };
        if next > asked { self.ask(asked, hearing) } else { Ok(()) }
    }

    fn ask(&self, at: usize, hearing: &mut Hearing) -> Result<()> {
        let number = self.watches[at].resource;
        let wish = field::resource(number, &field::id(number)).subscribe();
        self.connection.say(wish.as_bytes(), &mut hearing.heard)
    }
}

impl Watch {
    fn number(&self) -> u32 {
        self.resource
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};
    use serde_json::Value;

    use super::*;
    use crate::api::m2::{Caller, Scope};
    use crate::clock::{now_ns, timespec};
    use crate::handshake::KEY_ANSWER;
    use crate::target::Target;

    const FIELD: Field = Field { seed: 3, resources: 50, subscriptions: 3 };
    const WARNING: &str = r#"{"warning":"resource_not_found","message":"m"}"#;

    /// A client and the server's end of its connection.
    struct Pair {
        watcher: Watcher,
        server: TcpStream,
        upgrade: Handshake,
        hearing: Hearing,
    }

    impl Pair {
        /// Returns a client that is connected.
        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let server = listener.local_addr().unwrap();
            let target: Target = format!("http://{server}").parse().unwrap();
            let caller = Caller { scope: &Scope::default(), credential: None };
            let upgrade = caller.upgrade(&target, false).unwrap();
            let dial = Dial { server, source: None, receive_bytes: None };
            let watcher = Watcher::dial(dial, FIELD.watched(0), true).unwrap();
            let mut heard = Heard::new();
            heard.measure_from_ns = 0;
            let counts = Counts::default();
            let hearing = Hearing { field: FIELD, since_ns: now_ns(), heard, counts };
            let server = listener.accept().unwrap().0;
            let mut pair = Self { watcher, server, upgrade, hearing };
            pair.watcher.begin(&pair.upgrade).unwrap();
            let mut request = [0; 2_048];
            assert!(pair.server.read(&mut request).unwrap() > 0);
            let head = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept";
            pair.say_bytes(format!("{head}: {KEY_ANSWER}\r\n\r\n").as_bytes()).unwrap();
            assert!(pair.watcher.is_connected() && !pair.watcher.is_listening());
            pair
        }

        /// Returns a client that was warned for each of its documents.
        fn listening() -> Self {
            let mut pair = Self::new();
            pair.watcher.subscribe(&mut pair.hearing).unwrap();
            (0..3).for_each(|_| pair.say(WARNING).unwrap());
            assert!(pair.watcher.is_listening());
            pair
        }

        fn say(&mut self, text: &str) -> Result<()> {
            let length = u16::try_from(text.len()).unwrap();
            let head = [&[0x81, 126][..], &length.to_be_bytes()].concat();
            self.say_bytes(&[&head, text.as_bytes()].concat())
        }

        /// Sends these bytes as the server and has the client read them.
        fn say_bytes(&mut self, bytes: &[u8]) -> Result<()> {
            self.server.write_all(bytes).unwrap();
            let mut fds = [PollFd::new(&self.watcher, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&timespec(Duration::from_secs(5))));
            assert_eq!(ready.unwrap(), 1, "the client has nothing to read");
            self.watcher.read(&mut [0; 4_096], &self.upgrade, &mut self.hearing)
        }

        /// Returns the next message from the client.
        fn hear(&mut self) -> Value {
            let mut head = [0; 6];
            self.server.read_exact(&mut head).unwrap();
            let mut text = vec![0; usize::from(head[1] & 0x7F)];
            self.server.read_exact(&mut text).unwrap();
            text.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= head[2 + at % 4]);
            serde_json::from_slice(&text).unwrap()
        }

        fn counts(&self) -> (u64, u64, u64, u64) {
            let Counts { duplicated, reordered, misrouted, .. } = self.hearing.counts;
            (self.hearing.heard.received, duplicated, reordered, misrouted)
        }
    }

    /// Returns the number of a write of this document.
    fn write_of(number: u32) -> u64 {
        (0..).find(|sequence| FIELD.written(*sequence) == number).unwrap()
    }

    fn document(number: u32, sequence: u64, due_ns: u64, millisecond: u32) -> String {
        let id = field::id(number);
        let kind = field::resource(number, &id).kind;
        let version = format!("2024-01-30T15:50:35.{millisecond:03}Z");
        format!(r#"{{"userId":null,"resource":{{"type":"{kind}","id":"{id}"}},"data":{{"t":"#)
            + &format!(r#""@{sequence:010}:{due_ns:019}","pad":""}},"version":"{version}"}}"#)
    }

    #[test]
    fn a_client_asks_for_its_documents_and_is_told_what_there_is() {
        let mut pair = Pair::new();
        pair.watcher.subscribe(&mut pair.hearing).unwrap();
        for number in FIELD.watched(0) {
            let wish = pair.hear();
            assert_eq!(wish["action"], "subscribe");
            assert_eq!(wish["resource"]["id"], field::id(number));
        }
        pair.say(WARNING).unwrap();
        // In an earlier run, a write of this number may have been for another document.
        let left_behind = document(FIELD.watched(0)[1], 0, 1, 7);
        pair.say(&left_behind).unwrap();
        assert!(!pair.watcher.is_listening());
        pair.say(WARNING).unwrap();
        assert!(pair.watcher.is_listening());
        assert_eq!((pair.hearing.counts.found, pair.hearing.counts.warned), (1, 2));
        let watch = pair.watcher.watches[1];
        assert!(watch.found == watch.version && watch.write.is_none());
        assert_eq!(pair.counts(), (0, 0, 0, 0));
    }

    #[test]
    fn updates_count_once_and_in_their_order() {
        let mut pair = Pair::listening();
        let number = FIELD.watched(0)[0];
        let sequence = write_of(number);
        for (millisecond, expected) in [
            (5, (1, 0, 0, 0)),
            (6, (2, 0, 0, 0)),
            (6, (2, 1, 0, 0)),
            (5, (2, 1, 1, 0)),
            (9, (3, 1, 1, 0)),
        ] {
            pair.say(&document(number, sequence, now_ns(), millisecond)).unwrap();
            assert_eq!(pair.counts(), expected);
        }
        let watch = pair.watcher.watches[0];
        assert_eq!(
            (watch.updates, watch.write, watch.found),
            (3, Some(sequence), Version::default())
        );
        assert_eq!(pair.hearing.heard.latency.len(), 3);
    }

    #[test]
    fn what_a_client_did_not_ask_for_is_misrouted() {
        let mut pair = Pair::listening();
        let watched = FIELD.watched(0);
        let other = (0..FIELD.resources).find(|number| !watched.contains(number)).unwrap();
        pair.say(&document(other, write_of(other), now_ns(), 5)).unwrap();
        assert_eq!(pair.counts(), (0, 0, 0, 1));
        // The name is right, but the data was written to another document.
        pair.say(&document(watched[0], write_of(other), now_ns(), 5)).unwrap();
        assert_eq!(pair.counts(), (0, 0, 0, 2));
        assert_eq!(pair.watcher.watches[0].updates, 0);
    }

    #[test]
    fn a_refusal_ends_a_client_that_subscribes_and_is_a_complaint_later() {
        let refusal = r#"{"error":"Overloaded"}"#;
        let mut early = Pair::new();
        early.watcher.subscribe(&mut early.hearing).unwrap();
        assert!(early.say(refusal).unwrap_err().to_string().contains("Overloaded"));
        let mut late = Pair::listening();
        late.say(refusal).unwrap();
        assert_eq!(late.hearing.heard.errors.1, 1);
    }
}
