//! The reader of the store: answers questions about history and documents on a thread of its own,
//! so that none holds up what is to be stored, however long it takes.

use crossbeam_channel::Receiver;

use super::store::{Reader, StoreError};
use super::{documents, refused};
use crate::mailbox::{Mailboxes, Query, StoreRefusal};

/// Answers one question after the other, for as long as anybody may ask.
pub fn run(mut reader: Reader, queries: &Receiver<Query>, mailboxes: &Mailboxes) {
    for query in queries {
        match query {
            Query::Messages(ticket, query) => {
                let found = reader.messages(&query).map_err(|error| refusal(&error));
                mailboxes.answer(ticket, found);
            }
            Query::Stats(ticket, query) => {
                let found = reader.stats(query).map_err(|error| refusal(&error));
                mailboxes.answer(ticket, found);
            }
            Query::Document(ticket, key) => {
                mailboxes.answer(ticket, documents::look(&mut reader, &key));
            }
        }
    }
}

/// Says why history does not answer.
pub(super) fn refusal(error: &StoreError) -> StoreRefusal {
    refused(error, "history cannot be looked at")
}
