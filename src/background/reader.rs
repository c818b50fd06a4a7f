//! The thread of the reader: it answers queries about history and documents, so that a slow query
//! does not delay the writer.

use crossbeam_channel::{Receiver, Sender};

use super::cluster::documents::Look;
use super::store::{Reader, StoreError};
use super::{documents, refused};
use crate::mailbox::{Mailboxes, Query, StoreRefusal};

/// Answers queries, one after the other, until the queue is closed. In a cluster, `looks` takes the
/// questions for documents.
pub fn run(
    mut reader: Reader,
    queries: &Receiver<Query>,
    mailboxes: &Mailboxes,
    looks: Option<&Sender<Look>>,
) {
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
            Query::Document(ticket, key) => match looks {
                Some(looks) => {
                    if let Err(full) = looks.try_send((ticket, key)) {
                        mailboxes.answer(full.into_inner().0, Err(StoreRefusal::Busy));
                    }
                }
                None => mailboxes.answer(ticket, documents::look(&mut reader, &key)),
            },
        }
    }
}

/// Converts an error about history into the refusal that the caller receives.
pub(super) fn refusal(error: &StoreError) -> StoreRefusal {
    refused(error, "history could not be read or changed")
}
