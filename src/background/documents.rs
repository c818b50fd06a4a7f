//! The writer's part in documents. Queued writes are committed together, fanned out after their
//! commit, and answered. Documents for subscribers are read between two commits, so that each lies
//! exactly between the publications before it and those after it.

use crossbeam_channel::Receiver;

use super::history::Pace;
use super::store::{Reader, Store, StoreError, Written};
use super::{News, now, refused};
use crate::limits::{DOCUMENT_BATCH_MAX, LOAD_BYTES_MAX};
use crate::mailbox::{
    self, Mailboxes, Reservation, StoreRefusal, StoreResult, WorkerMailboxes, Write,
};
use crate::message::{Document, DocumentKey, Durability, Found, Load};
use crate::metrics::{Counters, LogThrottle};

/// The queues of writes and loads, and the pace of commits.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) writes: Receiver<Write>,
    pub(super) loads: Receiver<Load>,
    pace: Pace,
    log_throttle: LogThrottle,
}

/// A place for a publication at every worker.
type Places<'r> = Reservation<'r, WorkerMailboxes>;

/// Writes that are committed together, each with places for its fan-out.
struct Batch<'r> {
    writes: Vec<Write>,
    places: Vec<Places<'r>>,
}

impl Documents {
    pub(super) fn new(writes: Receiver<Write>, loads: Receiver<Load>) -> Self {
        Self { writes, loads, pace: Pace::default(), log_throttle: LogThrottle::default() }
    }

    /// Commits this write together with those queued behind it, fans them out and answers them.
    /// Refuses it with `Busy` if a worker has no place for its fan-out.
    pub(super) fn write(
        &mut self,
        first: Write,
        store: &mut Store,
        (mailboxes, counters): (&Mailboxes, &Counters),
        announce: &impl Fn(News<'_>),
    ) {
        self.pace.keep();
        let Some(Batch { writes, places }) = self.gather(first, mailboxes) else {
            counters.refused_overloaded.add(1);
            return;
        };
        let sync = writes.iter().any(|write| write.level == Durability::Synced);
        let (all, tickets): (Vec<_>, Vec<_>) =
            writes.into_iter().map(|write| (write.what, write.ticket)).unzip();
        let written = match store.write_documents(&all, now(), sync) {
            Ok(written) => written,
            Err(error) => {
                let refusal = refusal(&error);
                let refuse = |ticket| mailboxes.answer(ticket, Err(refusal.clone()));
                return tickets.into_iter().for_each(refuse);
            }
        };
        counters.commits.add(1);
        let reached = if sync { Durability::Synced } else { Durability::Stored };
        for ((written, places), ticket) in written.into_iter().zip(places).zip(tickets) {
            mailboxes.answer(ticket, settle(written, (places, reached), counters, announce));
        }
    }

    /// Collects at most [`DOCUMENT_BATCH_MAX`] writes, each with places for its fan-out. If a
    /// worker has no place, answers the first write with `Busy` and returns `None`.
    fn gather<'r>(&self, first: Write, mailboxes: &'r Mailboxes) -> Option<Batch<'r>> {
        mailboxes.documents.taken(&first);
        let Some(places) = mailboxes.workers.reserve_all() else {
            mailboxes.answer(first.ticket, Err(StoreRefusal::Busy));
            return None;
        };
        let mut batch = Batch { writes: vec![first], places: vec![places] };
        while batch.writes.len() < DOCUMENT_BATCH_MAX
            && let Some(places) = mailboxes.workers.reserve_all()
            && let Ok(write) = self.writes.try_recv()
        {
            mailboxes.documents.taken(&write);
            batch.writes.push(write);
            batch.places.push(places);
        }
        Some(batch)
    }

    /// Reads the documents for this load and those queued behind it, until it has read
    /// [`DOCUMENT_BATCH_MAX`] loads or [`LOAD_BYTES_MAX`] bytes.
    pub(super) fn load(
        &mut self,
        first: Load,
        store: &Store,
        counters: &Counters,
        announce: &impl Fn(News<'_>),
    ) {
        let (mut loads, mut bytes) = (0, 0);
        let mut next = Some(first);
        while let Some(load) = next {
            counters.documents_loaded.add(1);
            let found = read(&load, store);
            if let Err(error) = &found
                && let Some(count) = self.log_throttle.add(1)
            {
                tracing::warn!(%error, count, "documents could not be read for subscribers");
            }
            let found = found.ok();
            (loads, bytes) = (loads + 1, bytes + found.as_ref().map_or(0, length));
            announce(News::Loaded(load, found));
            let goes_on = loads < DOCUMENT_BATCH_MAX && bytes < LOAD_BYTES_MAX;
            next = if goes_on { self.loads.try_recv().ok() } else { None };
        }
    }
}

/// Reads a document. Returns `None` if it does not exist or was deleted.
pub(super) fn look(reader: &mut Reader, key: &DocumentKey) -> StoreResult<Option<Box<Document>>> {
    let found = reader.document(key).map_err(|error| refusal(&error))?;
    Ok(found.filter(|document| document.data.is_some()).map(Box::new))
}

/// Returns how many bytes of data the documents hold.
fn length(found: &Found<Document>) -> usize {
    let documents = found.shared.iter().chain(&found.personal);
    documents.map(|document| document.data.as_ref().map_or(0, |data| data.len())).sum()
}

fn read(load: &Load, store: &Store) -> Result<Found<Document>, StoreError> {
    let read = |audience| {
        let resource = load.resource.clone();
        store.document(&DocumentKey { resource, audience })
    };
    let shared = if load.shared { read(None)? } else { None };
    let personal = match &load.user {
        Some(user) => read(Some(user.clone()))?,
        None => None,
    };
    Ok(Found { shared, personal })
}

/// Fans out the document if it was written. Returns the answer for its writer.
fn settle(
    written: Written,
    (places, reached): (Places<'_>, Durability),
    counters: &Counters,
    announce: &impl Fn(News<'_>),
) -> StoreResult<mailbox::Written> {
    match written {
        Written::Done(document) => {
            let version = document.version;
            counters.documents_written.add(1);
            announce(News::Document(document, places));
            Ok(mailbox::Written::Done(version, reached))
        }
        Written::Stale(current) => {
            counters.documents_stale.add(1);
            Ok(mailbox::Written::Stale(current))
        }
        Written::Missing => Err(StoreRefusal::NotFound),
        Written::Full => Err(StoreRefusal::Full),
    }
}

fn refusal(error: &StoreError) -> StoreRefusal {
    refused(error, "documents could not be read or written")
}
