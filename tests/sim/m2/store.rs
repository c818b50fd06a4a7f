//! The store, and the only thread that writes to it: it gives versions, commits what waits together,
//! fans it out, and reads between two commits. Its work is cut into the smallest steps between which
//! another thread could do something.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fanfare::mailbox::{Loaded, Mail, Reservation, WorkerMailboxes};
use fanfare::message::{Channel, Current, Found, Load, Publication};

use super::Planted;
use super::hub::{Hub, Resource, User};

/// Documents written in one commit.
const BATCH_MAX: usize = 50;
/// Deleted documents that are remembered.
const DELETED_MAX: usize = 6;
/// And forgotten at a time.
const DELETED_FORGOTTEN: usize = 3;

/// A document, or what is remembered of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    /// As whoever wrote it named it.
    pub(super) resource: Resource,
    pub(super) audience: Option<User>,
    pub(super) version: u64,
    /// How long its frame is; none once it is deleted.
    pub(super) bytes: Option<usize>,
}

/// A document is to be written, or deleted.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) resource: Resource,
    pub(super) audience: Option<User>,
    pub(super) bytes: Option<usize>,
    /// A version that the writer gives.
    pub(super) version: Option<u64>,
}

#[derive(Default)]
pub(super) struct Store {
    documents: HashMap<(Channel, Option<User>), Stored>,
    /// The latest version of those that are not remembered.
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
        self.documents.insert(key, written.clone());
        self.forget();
        Ok(written)
    }

    /// Forgets the deleted documents with the oldest versions, where there are too many.
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

    pub(super) fn load(&self, load: &Load) -> Found<Stored> {
        let shared = if load.shared { self.read(&load.resource, None) } else { None };
        let personal = load.user.as_ref().and_then(|user| self.read(&load.resource, Some(user)));
        Found { shared, personal }
    }

    /// The version of a document, or of those that are forgotten; and whether it is there.
    pub(super) fn stands(&self, resource: Resource, audience: Option<&User>) -> (u64, bool) {
        let mut all = self.documents.values();
        let one = all.find(|one| one.resource == resource && one.audience.as_ref() == audience);
        one.map_or((self.forgotten, false), |one| (one.version, one.bytes.is_some()))
    }
}

/// A place for a publication at every worker.
type Places<'s> = Reservation<'s, WorkerMailboxes>;

#[derive(Default)]
pub(super) struct Writer<'s> {
    pub(super) writes: VecDeque<Write>,
    doing: VecDeque<Doing<'s>>,
    /// What was read and should have been told before anything else was written: a planted fault.
    late: VecDeque<Doing<'s>>,
}

/// What it will do next, whatever others want.
enum Doing<'s> {
    FanOut(Stored, Places<'s>),
    /// Where the store cannot be read, that is the answer.
    Read(Load, bool),
    Learn(Load, Option<Found<Arc<Publication>>>),
    Tell(Load, Option<Found<Arc<Publication>>>),
}

impl<'s> Writer<'s> {
    pub(super) fn is_idle(&self, hub: &Hub) -> bool {
        let is_done = self.doing.is_empty() && self.late.is_empty();
        is_done && self.writes.is_empty() && hub.loads.borrow().is_empty()
    }

    /// Does the next of what it has begun, if anything.
    pub(super) fn go_on(&mut self, hub: &Hub) {
        match self.doing.pop_front().or_else(|| self.late.pop_front()) {
            None => {}
            Some(Doing::FanOut(document, places)) => fan_out(hub, &document, places),
            Some(Doing::Read(load, is_readable)) => {
                let found = is_readable.then(|| hub.store.borrow().load(&load));
                let found = found.map(|found| found.map(|document| hub.publication(&document)));
                let next = Doing::Learn(load, found);
                match hub.terms.planted {
                    Planted::SnapshotAfterUpdate => self.late.push_back(next),
                    _ => self.doing.push_front(next),
                }
            }
            Some(Doing::Learn(load, found)) => {
                learn(hub, &load, found.as_ref());
                self.doing.push_front(Doing::Tell(load, found));
            }
            Some(Doing::Tell(load, found)) => {
                let mailbox = hub.start.mailboxes.of(load.connection.worker);
                mailbox.answer(Mail::Loaded(Box::new(Loaded { load, found })));
            }
        }
    }

    /// Begins to read what it is asked for, if it can, unless it is busy.
    pub(super) fn read(&mut self, hub: &Hub, is_readable: bool) {
        let is_between = self.doing.is_empty() || hub.terms.planted == Planted::LoadBeforeFanOut;
        if is_between {
            let mut loads = hub.loads.borrow_mut();
            let count = loads.len().min(BATCH_MAX);
            let reads = loads.drain(..count).rev().map(|load| Doing::Read(load, is_readable));
            reads.for_each(|read| self.doing.push_front(read));
        }
    }

    /// Commits what waits, as far as there are places for its fan-out, unless it is busy.
    pub(super) fn commit(&mut self, hub: &Hub<'s>, now: u64) {
        if !self.doing.is_empty() || self.writes.is_empty() {
            return;
        }
        let mailboxes = &hub.start.mailboxes;
        let Some(first) = mailboxes.reserve_all() else {
            hub.note("busy", 1);
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
            let channel = hub.channel(write.resource);
            match hub.store.borrow_mut().write(channel, write, now) {
                Ok(written) => self.doing.push_back(Doing::FanOut(written, places)),
                Err(why) => hub.note(why, 1),
            }
        }
    }
}

/// As [`fanfare::interface::m2::documents::publish_document`].
fn fan_out(hub: &Hub, document: &Stored, mut places: Places<'_>) {
    let publication = hub.publication(document);
    hub.note("written", 1);
    if document.bytes.is_none() && !hub.terms.notify_deletes {
        if document.audience.is_none() {
            hub.directory.forget(&publication.channel);
        }
        return;
    }
    let published = hub.directory.publish_reserved(&mut places, &publication);
    assert!(published.is_ok(), "there is room");
}

/// The first half of [`fanfare::interface::m2::documents::answer_load`].
fn learn(hub: &Hub, load: &Load, found: Option<&Found<Arc<Publication>>>) {
    if let Some(Found { shared, .. }) = found.filter(|_| load.shared) {
        let shared = shared.as_ref().filter(|one| one.content.exists());
        let current = shared.map_or(Current::Absent, |one| Current::Known(one.clone()));
        hub.directory.learn(&load.resource, &current);
    }
}
