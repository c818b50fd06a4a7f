//! The reader of the store: answers questions about history and documents on a thread of its own,
//! so that none holds up what is to be stored, however long it takes.

use crossbeam_channel::Receiver;

use super::documents;
use super::store::{Reader, StoreError};
use crate::mailbox::{Answer, AnswerBody, HistoryAnswer, HistoryRefusal, Mailboxes, Query};

/// Answers one question after the other, for as long as anybody may ask.
pub fn run(mut reader: Reader, queries: &Receiver<Query>, mailboxes: &Mailboxes) {
    for query in queries {
        let (from, ticket, body) = match query {
            Query::Messages(from, ticket, query) => {
                let found = reader.messages(&query).map(HistoryAnswer::Messages);
                (from, ticket, answered(found))
            }
            Query::Stats(from, ticket, query) => {
                let found = reader.stats(query).map(HistoryAnswer::Stats);
                (from, ticket, answered(found))
            }
            Query::Document(from, ticket, key) => {
                (from, ticket, AnswerBody::Document(documents::look(&mut reader, &key)))
            }
        };
        mailboxes.answer(from, Answer { ticket, body });
    }
}

/// What is said of history, or why nothing.
pub(super) fn answered(found: Result<HistoryAnswer, StoreError>) -> AnswerBody {
    AnswerBody::History(found.unwrap_or_else(|error| HistoryAnswer::Refused(refusal(&error))))
}

fn refusal(error: &StoreError) -> HistoryRefusal {
    match error {
        StoreError::UnknownMessage { .. } => HistoryRefusal::UnknownMessage,
        StoreError::PageTooLong => HistoryRefusal::PageTooLong,
        StoreError::TooSlow => {
            tracing::warn!(%error, "a question to history is given up");
            HistoryRefusal::TooSlow
        }
        error if error.is_temporary() => {
            tracing::warn!(%error, "history cannot be looked at");
            HistoryRefusal::Busy
        }
        error => {
            tracing::error!(%error, "history failed");
            HistoryRefusal::Failed
        }
    }
}
