//! One client: it subscribes to its documents and remembers what it saw last of each.

use std::cmp::Ordering;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, bail};

use crate::api::m2::{Document, Version};
use crate::api::{Api, Packet};
use crate::connection::{Arrival, Connection, Dial, Message};
use crate::documents::field::{self, Field};
use crate::heard::Heard;
use crate::upgrade::Upgrade;

/// Subscribes that may wait for their answer: a page that opens sends all of its own at once.
const UNANSWERED_MAX: usize = 64;

/// What a client knows of one document.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Watch {
    /// Which.
    pub(super) resource: u32,
    /// The newest version seen; zero before the first.
    pub(super) version: Version,
    /// The write of this run that made it, if one did.
    pub(super) write: Option<u64>,
    /// The version that there was at the subscribe; zero if none.
    pub(super) found: Version,
    /// Newer versions seen since.
    pub(super) updates: u32,
}

/// What clients heard that they should not have, and what they found when they came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Documents that were there when they were subscribed to.
    pub(crate) found: u64,
    /// Warnings that there is none.
    pub(crate) warned: u64,
    /// The same version again.
    pub(crate) duplicated: u64,
    /// A version older than one seen before.
    pub(crate) reordered: u64,
    /// A document that the client does not watch, or with the data of another.
    pub(crate) misrouted: u64,
}

/// What all clients hear, added up, and what tells them whether it is right.
pub(super) struct Hearing {
    pub(super) field: Field,
    /// Writes of this run are due after it.
    pub(super) since_ns: u64,
    pub(super) heard: Heard,
    pub(super) counts: Counts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Connecting,
    Connected,
    /// So many subscribes were sent, and so many answered.
    Subscribing(usize, usize),
    Listening,
}

/// One connection and what came over it.
pub(super) struct Watcher {
    connection: Connection,
    stage: Stage,
    /// A slow one reads late by intention, which would say nothing of the server.
    timed: bool,
    /// In the order of their numbers.
    pub(super) watches: Vec<Watch>,
}

impl Watcher {
    /// Begins to connect; the socket turns writable when that is decided.
    pub(super) fn dial(dial: Dial, watched: Vec<u32>, timed: bool) -> Result<Self> {
        let watch = |resource| Watch { resource, ..Watch::default() };
        Ok(Self {
            connection: Connection::dial(dial)?,
            stage: Stage::Connecting,
            timed,
            watches: watched.into_iter().map(watch).collect(),
        })
    }

    /// Whether it waits for writability instead of readability.
    pub(super) fn is_dialling(&self) -> bool {
        self.connection.is_dialling()
    }

    /// Whether it may subscribe.
    pub(super) fn is_connected(&self) -> bool {
        self.stage != Stage::Connecting
    }

    /// Whether it was told of all documents.
    pub(super) fn is_listening(&self) -> bool {
        self.stage == Stage::Listening
    }

    /// The connection is decided: asks for the upgrade.
    pub(super) fn begin(&mut self, upgrade: &Upgrade) -> Result<()> {
        self.connection.begin(upgrade)
    }

    /// Asks for its documents.
    pub(super) fn subscribe(&mut self, hearing: &mut Hearing) -> Result<()> {
        let first = self.watches.len().min(UNANSWERED_MAX);
        self.stage = Stage::Subscribing(first, 0);
        (0..first).try_for_each(|at| self.ask(at, hearing))
    }

    /// Reads once into `scratch` and acts on all that is whole. An error means that the connection
    /// is over.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        upgrade: &Upgrade,
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
            // It does not say which of the subscribes it is about.
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
        // What an earlier run left behind was written by another draw, or by another program.
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
        // Where documents are written while clients subscribe, the first that one hears of a
        // document may have followed a warning: it then stands for those before it.
        if first && !self.is_listening() {
            self.watches[place].found = version;
            counts.found += 1;
            return self.on_answer(hearing);
        }
        self.watches[place].updates += 1;
        heard.received += 1;
        heard.frames.note(message.frame_bytes);
        if let Some(stamp) = stamp.filter(|stamp| stamp.due_ns >= heard.measure_from_ns)
            && self.timed
        {
            heard.latency.saturating_record(message.read_ns.saturating_sub(stamp.due_ns));
        }
        Ok(())
    }

    /// One subscribe is answered: the next follows.
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
