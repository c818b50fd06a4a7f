//! Reading the copy, for callers and for subscribers.

use super::{Desk, Look, Waiter};
use crate::background::store::StoreError;
use crate::background::{News, refused};
use crate::limits::{DOCUMENT_BATCH_MAX, LOAD_BYTES_MAX};
use crate::mailbox::StoreRefusal;
use crate::message::{Document, DocumentKey, Found, Load};

impl<S: Fn() -> bool> Desk<S> {
    /// Lets a caller's question wait for a proof.
    pub(super) fn take_look(&mut self, look: Look) {
        if !(self.is_serving)() {
            return self.mailboxes.answer(look.0, Err(StoreRefusal::Unavailable));
        }
        let ends = self.ends();
        self.proofs.wait(Waiter::Look(look), ends);
    }

    /// Lets a subscriber's load wait for a proof.
    pub(super) fn take_load(&mut self, load: Load) {
        let ends = self.ends();
        self.proofs.wait(Waiter::Load(load), ends);
    }

    /// Answers a caller by the copy, which has the proof.
    pub(super) fn look(&self, (ticket, key): Look) {
        let found = self.copy.document(&key);
        let found = found.map_err(|error| refused(&error, "a document could not be read"));
        let found = found.map(|found| found.filter(|one| one.data.is_some()).map(Box::new));
        self.mailboxes.answer(ticket, found);
    }

    /// Reads the documents for subscribers whose proof the copy has, until it has read
    /// [`DOCUMENT_BATCH_MAX`] loads or [`LOAD_BYTES_MAX`] bytes.
    pub(super) fn load(&mut self, announce: &impl Fn(News<'_>)) {
        let (mut loads, mut bytes) = (0, 0);
        while loads < DOCUMENT_BATCH_MAX
            && bytes < LOAD_BYTES_MAX
            && let Some(load) = self.ready.pop_front()
        {
            self.counters.documents_loaded.add(1);
            let found = self.read(&load);
            if let Err(error) = &found {
                self.say(error);
            }
            let found = found.ok();
            let documents = found.iter().flat_map(|one| one.shared.iter().chain(&one.personal));
            let length = |one: &Document| one.data.as_ref().map_or(0, |data| data.len());
            (loads, bytes) = (loads + 1, bytes + documents.map(length).sum::<usize>());
            announce(News::Loaded(load, found));
        }
    }

    fn read(&self, load: &Load) -> Result<Found<Document>, StoreError> {
        let read = |audience| {
            let resource = load.resource.clone();
            self.copy.document(&DocumentKey { resource, audience })
        };
        let shared = if load.shared { read(None)? } else { None };
        let personal = match &load.user {
            Some(user) => read(Some(user.clone()))?,
            None => None,
        };
        Ok(Found { shared, personal })
    }
}
