//! The thread of the reader: it answers queries about history and documents, so that a slow query
//! does not delay the writer.

use crossbeam_channel::{Receiver, Sender, select};

use super::cluster::documents::Look;
use super::histories::{self, Asked, Reading, Unoffered};
use super::store::{Reader, StoreError};
use super::{documents, refused};
use crate::mailbox::{Mailboxes, Query, StoreRefusal};

/// Answers queries, one after the other, until the queue is closed. In a cluster, `looks` takes the
/// questions for documents, and `reading` those that concern all nodes.
pub fn run(
    mut reader: Reader,
    queries: &Receiver<Query>,
    mailboxes: &Mailboxes,
    looks: Option<&Sender<Look>>,
    reading: &Reading,
) {
    loop {
        select! {
            recv(queries) -> query => match query {
                Ok(query) => answer(&mut reader, query, mailboxes, looks, reading),
                Err(_) => return,
            },
            recv(reading.looks()) -> look => {
                if let Ok(look) = look {
                    histories::answer(&mut reader, look);
                }
            }
        }
    }
}

fn answer(
    reader: &mut Reader,
    query: Query,
    mailboxes: &Mailboxes,
    looks: Option<&Sender<Look>>,
    reading: &Reading,
) {
    let asked = match query {
        Query::Messages(ticket, query) => Asked::Messages(ticket, query),
        Query::Stats(ticket, query) => Asked::Stats(ticket, query),
        Query::Document(ticket, key) => {
            match looks {
                Some(looks) => {
                    if let Err(full) = looks.try_send((ticket, key)) {
                        mailboxes.answer(full.into_inner().0, Err(StoreRefusal::Busy));
                    }
                }
                None => mailboxes.answer(ticket, documents::look(reader, &key)),
            }
            return;
        }
    };
    match reading.pass_on(asked) {
        Ok(()) => {}
        Err(Unoffered::Full(asked)) => asked.refuse(mailboxes, StoreRefusal::Busy),
        Err(Unoffered::Closed(asked)) => answer_alone(reader, asked, mailboxes, reading),
    }
}

/// Answers with what this node has.
fn answer_alone(reader: &mut Reader, asked: Asked, mailboxes: &Mailboxes, reading: &Reading) {
    match asked {
        Asked::Messages(ticket, query) => {
            let found = reader.messages(&query).map_err(|error| refusal(&error));
            mailboxes.answer(ticket, found.map(|found| reading.alone(found)));
        }
        Asked::Stats(ticket, query) => {
            let found = reader.stats(query).map_err(|error| refusal(&error));
            mailboxes.answer(ticket, found.map(|found| reading.alone(Box::new(found))));
        }
        // The writer passes these on.
        asked @ Asked::Clear(_) => asked.refuse(mailboxes, StoreRefusal::Failed),
    }
}

/// Converts an error about history into the refusal that the caller receives.
pub(super) fn refusal(error: &StoreError) -> StoreRefusal {
    refused(error, "history could not be read or changed")
}
