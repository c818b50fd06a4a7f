//! The reader of history: answers questions on a thread of its own, so that none holds up what is
//! to be stored, however long it takes.

use crossbeam_channel::Receiver;

use super::store::{Reader, StoreError};
use crate::router::{Answer, AnswerBody, HistoryAnswer, HistoryRefusal, Query, Router};

/// Answers one question after the other, for as long as anybody may ask.
pub fn run(mut reader: Reader, queries: &Receiver<Query>, router: &Router) {
    for query in queries {
        let (from, ticket, found) = match query {
            Query::Messages(from, ticket, query) => {
                (from, ticket, reader.messages(&query).map(HistoryAnswer::Messages))
            }
            Query::Stats(from, ticket, query) => {
                (from, ticket, reader.stats(query).map(HistoryAnswer::Stats))
            }
        };
        router.answer(from, Answer { ticket, body: answered(found) });
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
