//! History over HTTP: questions to its reader, wishes to the side.

use uuid::Uuid;

use super::Acceptor;
use crate::api::history::parse_retention;
use crate::api::{ApiError, Reply};
use crate::mailbox::{AcceptorId, AnswerBody, HistoryAnswer, HistoryRefusal, Query, Ticket, Wish};
use crate::message::{MessageQuery, Millis, StatsQuery};

/// `GET /api/realtime/messages`
pub(super) async fn messages(acceptor: &Acceptor, query: Option<&str>) -> Result<Reply, ApiError> {
    let query = MessageQuery::parse(query)?;
    if is_gone(acceptor, query.channel_id) {
        return Ok(Reply::messages(&[], |_| false));
    }
    let answer = ask(acceptor, |from, ticket| Query::Messages(from, ticket, query)).await?;
    let HistoryAnswer::Messages(messages) = answer else { return Err(ApiError::store_failed()) };
    let definitions = acceptor.hub.definitions.load();
    Ok(Reply::messages(&messages, |id| definitions.get(id).is_some()))
}

/// `GET /api/realtime/messages/stats`
pub(super) async fn stats(acceptor: &Acceptor, query: Option<&str>) -> Result<Reply, ApiError> {
    let mut query = StatsQuery::parse(query)?;
    if is_gone(acceptor, query.channel_id) {
        // Nothing was published then, and what holds for all of history is still told.
        query.since = Some(Millis::MAX);
    }
    let answer = ask(acceptor, |from, ticket| Query::Stats(from, ticket, query)).await?;
    let HistoryAnswer::Stats(stats) = answer else { return Err(ApiError::store_failed()) };
    Ok(Reply::stats(&stats))
}

/// `DELETE /api/realtime/messages`
pub(super) async fn clear(acceptor: &Acceptor) -> Result<Reply, ApiError> {
    let answer = wish(acceptor, Wish::Clear).await?;
    let HistoryAnswer::Cleared(deleted) = answer else { return Err(ApiError::store_failed()) };
    Ok(Reply::messages_cleared(deleted))
}

/// `GET /api/realtime/config`
pub(super) async fn config(acceptor: &Acceptor) -> Result<Reply, ApiError> {
    let answer = wish(acceptor, Wish::Retention).await?;
    let HistoryAnswer::Retention(days) = answer else { return Err(ApiError::store_failed()) };
    Ok(Reply::config(days))
}

/// `PATCH /api/realtime/config`
pub(super) async fn set_config(acceptor: &Acceptor, body: &[u8]) -> Result<Reply, ApiError> {
    let days = parse_retention(body)?;
    wish(acceptor, |from, ticket| Wish::SetRetention(from, ticket, days)).await?;
    Ok(Reply::config_updated())
}

/// Whether this definition was removed, or never was. Its messages are those of no definition then,
/// as if every one of them had been told; so removing one costs the same however many it has.
fn is_gone(acceptor: &Acceptor, channel_id: Option<Uuid>) -> bool {
    channel_id.is_some_and(|id| acceptor.hub.definitions.load().get(id).is_none())
}

async fn ask(
    acceptor: &Acceptor,
    query: impl FnOnce(AcceptorId, Ticket) -> Query,
) -> Result<HistoryAnswer, ApiError> {
    let put = |from, ticket| acceptor.hub.mailboxes.query(query(from, ticket));
    answered(acceptor, acceptor.ask(put, &acceptor.counters.refused_reader_queue).await?)
}

async fn wish(
    acceptor: &Acceptor,
    wish: impl FnOnce(AcceptorId, Ticket) -> Wish,
) -> Result<HistoryAnswer, ApiError> {
    answered(acceptor, acceptor.wish(wish).await?)
}

fn answered(acceptor: &Acceptor, answer: AnswerBody) -> Result<HistoryAnswer, ApiError> {
    match answer {
        AnswerBody::History(HistoryAnswer::Refused(refusal)) => {
            Err(refused_with(acceptor, refusal))
        }
        AnswerBody::History(answer) => Ok(answer),
        // Questions about history are answered with history only.
        _ => Err(ApiError::store_failed()),
    }
}

fn refused_with(acceptor: &Acceptor, refusal: HistoryRefusal) -> ApiError {
    match refusal {
        HistoryRefusal::UnknownMessage => ApiError::unknown_cursor(),
        HistoryRefusal::PageTooLong => ApiError::page_too_long(),
        HistoryRefusal::TooSlow => {
            acceptor.counters.refused_query_timeout.add(1);
            ApiError::too_slow()
        }
        HistoryRefusal::Busy => {
            acceptor.counters.refused_overloaded.add(1);
            ApiError::overloaded()
        }
        HistoryRefusal::Failed => ApiError::store_failed(),
    }
}
