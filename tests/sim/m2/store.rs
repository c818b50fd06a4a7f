//! The model of the store and of the only thread that writes to it. The writer assigns versions,
//! commits waiting writes together, fans them out, and reads between two commits. Its work is cut
//! into steps, between which other threads may run.

use std::collections::{HashMap, VecDeque};
use std::sync::OnceLock;

use fanfare::mailbox::{Reservation, WorkerMailboxes};
use fanfare::message::{Channel, Document, DocumentKey, Found, Load, Now};

use super::resource::{Resource, User};
use super::world::Common;
use super::{BYTES_MAX, Planted};
use fanfare::interface::m2::documents::{answer_load, publish_document};

/// No simulated document depends on when it is published.
const NOW: Now = Now { nanos: 0, wall: 0 };
/// The most documents in one commit.
const BATCH_MAX: usize = 50;
/// The most deleted documents that are remembered.
const DELETED_MAX: usize = 6;
/// How many deleted documents are forgotten at a time.
const DELETED_FORGOTTEN: usize = 3;

/// A document, or the record of a deleted one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    /// The resource that the writer named.
    pub(super) resource: Resource,
    pub(super) audience: Option<User>,
    pub(super) version: u64,
    /// The length of the data; `None` if the document is deleted.
    pub(super) bytes: Option<usize>,
}

/// A request to write a document, or to delete it.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) resource: Resource,
    pub(super) audience: Option<User>,
    pub(super) bytes: Option<usize>,
    /// The version that the writer gives; `None` if the store assigns one.
    pub(super) version: Option<u64>,
}

impl Stored {
    /// Returns the document as the node gets it. The author's id tells clients of the model which
    /// document they receive.
    fn document(&self, planted: Planted) -> Document {
        static DATA: OnceLock<String> = OnceLock::new();
        let &Self { resource, ref audience, version, bytes } = self;
        let data = DATA.get_or_init(|| format!("\"{}\"", "x".repeat(BYTES_MAX)));
        let user = audience.as_deref().unwrap_or_default();
        let author = format!("{}/{}/{user}", resource.scope, resource.number);
        Document {
            key: DocumentKey { resource: resource.channel(planted), audience: audience.clone() },
            user_id: Some(author.into()),
            data: bytes.map(|bytes| [&data[..=bytes], "\""].concat().into()),
            version,
        }
    }
}

#[derive(Default)]
pub(super) struct Store {
    documents: HashMap<(Channel, Option<User>), Stored>,
    /// The previous version of each document that has one.
    older: HashMap<(Channel, Option<User>), Stored>,
    /// The latest version among forgotten documents.
    forgotten: u64,
}

impl Store {
    fn write(&mut self, channel: Channel, write: Write, now: u64) -> Result<Stored, &'static str> {
        let Write { resource, audience, bytes, version: given } = write;
        let key = (channel, audience.clone());
        let before = self.documents.get(&key);
        let last = before.map_or(self.forgotten, |before| before.version);
        if given.is_some_and(|given| given <= last) {
            return Err("stale");
        }
        if bytes.is_none() && before.is_none_or(|before| before.bytes.is_none()) {
            return Err("missing");
        }
        let version = given.unwrap_or(now.max(last + 1));
        let written = Stored { resource, audience, version, bytes };
        if let Some(older) = self.documents.insert(key.clone(), written.clone()) {
            self.older.insert(key, older);
        }
        self.forget();
        Ok(written)
    }

    /// Forgets the deleted documents with the oldest versions if there are too many.
    fn forget(&mut self) {
        let deleted = self.documents.values().filter(|one| one.bytes.is_none());
        let mut versions: Vec<_> = deleted.map(|one| one.version).collect();
        if versions.len() > DELETED_MAX {
            versions.sort_unstable();
            let oldest = versions[DELETED_FORGOTTEN - 1];
            self.documents.retain(|_, one| one.bytes.is_some() || one.version > oldest);
            self.forgotten = self.forgotten.max(oldest);
        }
    }

    pub(super) fn read(&self, channel: &Channel, audience: Option<&User>) -> Option<Stored> {
        self.documents.get(&(channel.clone(), audience.cloned())).cloned()
    }

    /// Reads the documents that a subscriber requests.
    pub(super) fn load(&self, load: &Load) -> Found<Stored> {
        let shared = if load.shared { self.read(&load.resource, None) } else { None };
        let personal = load.user.as_ref().and_then(|user| self.read(&load.resource, Some(user)));
        Found { shared, personal }
    }

    /// Reads the previous versions of the documents that a subscriber requests.
    pub(super) fn load_older(&self, load: &Load) -> Found<Stored> {
        let older = |now: Stored| {
            let key = (load.resource.clone(), now.audience.clone());
            self.older.get(&key).cloned().unwrap_or(now)
        };
        self.load(load).map(older)
    }

    /// Returns the version of a document and whether it exists. A document without a record has the
    /// latest forgotten version.
    pub(super) fn stands(&self, resource: Resource, audience: Option<&User>) -> (u64, bool) {
        let mut all = self.documents.values();
        let one = all.find(|one| one.resource == resource && one.audience.as_ref() == audience);
        one.map_or((self.forgotten, false), |one| (one.version, one.bytes.is_some()))
    }
}

/// A reserved place for a publication at every worker.
type Places<'s> = Reservation<'s, WorkerMailboxes>;

#[derive(Default)]
pub(super) struct Writer<'s> {
    pub(super) writes: VecDeque<Write>,
    doing: VecDeque<Doing<'s>>,
}

/// A step that the writer takes before it accepts new work.
enum Doing<'s> {
    FanOut(Stored, Places<'s>),
    /// Read a load; the flag is false if the read fails.
    Read(Load, bool),
    Answer(Load, Option<Found<Stored>>),
}

impl<'s> Writer<'s> {
    pub(super) fn is_idle(&self, common: &Common<'s>) -> bool {
        let is_done = self.doing.is_empty() && self.writes.is_empty();
        is_done && common.start.node.inboxes.loads.is_empty()
    }

    /// Takes the next step of the work that it has begun, if there is one.
    pub(super) fn go_on(&mut self, common: &Common<'s>) {
        let planted = common.terms.planted;
        match self.doing.pop_front() {
            None => {}
            Some(Doing::FanOut(written, places)) => fan_out(common, &written, places),
            Some(Doing::Read(load, is_readable)) => {
                let found = is_readable.then(|| common.load(&load));
                self.doing.push_front(Doing::Answer(load, found));
            }
            Some(Doing::Answer(load, found)) => {
                let found = found.map(|found| found.map(|stored| stored.document(planted)));
                answer_load(&common.start.node.hub.interfaces, load, found, NOW);
            }
        }
    }

    /// Begins to answer queued loads, unless the writer is busy. The reads fail if the store is not
    /// readable.
    pub(super) fn read(&mut self, common: &Common<'s>, is_readable: bool) {
        if self.doing.is_empty() || common.terms.planted == Planted::LoadBeforeFanOut {
            let loads = common.start.node.inboxes.loads.try_iter().take(BATCH_MAX);
            let reads: Vec<_> = loads.map(|load| Doing::Read(load, is_readable)).collect();
            reads.into_iter().rev().for_each(|read| self.doing.push_front(read));
        }
    }

    /// Commits waiting writes for whose fan-out there are places, unless the writer is busy.
    pub(super) fn commit(&mut self, common: &Common<'s>, now: u64) {
        if !self.doing.is_empty() || self.writes.is_empty() {
            return;
        }
        let mailboxes = &common.start.node.hub.interfaces.broker.mailboxes.workers;
        let Some(first) = mailboxes.reserve_all() else {
            common.note("busy", 1);
            self.writes.pop_front();
            return;
        };
        let mut all = vec![first];
        while all.len() < BATCH_MAX.min(self.writes.len())
            && let Some(places) = mailboxes.reserve_all()
        {
            all.push(places);
        }
        for places in all {
            let write = self.writes.pop_front().expect("there are as many");
            let channel = write.resource.channel(common.terms.planted);
            match common.store.borrow_mut().write(channel, write, now) {
                Ok(written) => self.doing.push_back(Doing::FanOut(written, places)),
                Err(why) => common.note(why, 1),
            }
        }
    }
}

fn fan_out(common: &Common<'_>, written: &Stored, places: Places<'_>) {
    let planted = common.terms.planted;
    let mut document = written.document(planted);
    if planted == Planted::AudienceIgnored {
        document.key.audience = None;
    }
    common.note("written", 1);
    publish_document(&common.start.node.hub.interfaces, document, places, NOW);
}
