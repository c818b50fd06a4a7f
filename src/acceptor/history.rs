//! History over HTTP: questions to its reader, wishes to the side.

use uuid::Uuid;

use super::{Acceptor, rest};
use crate::api::history::parse_retention;
use crate::api::{ApiError, Reply};
use crate::mailbox::{Query, StoreRefusal, StoreResult, Wish};
use crate::message::{MessageQuery, Millis, StatsQuery};

/// `GET /api/realtime/messages`
pub(super) async fn messages(acceptor: &Acceptor, query: Option<&str>) -> Result<Reply, ApiError> {
    let query = MessageQuery::parse(query)?;
    if is_gone(acceptor, query.channel_id) {
        return Ok(Reply::messages(&[], |_| false));
    }
    let found = acceptor.query(|ticket| Query::Messages(ticket, query)).await?;
    let messages = answered(acceptor, found)?;
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
    let found = acceptor.query(|ticket| Query::Stats(ticket, query)).await?;
    Ok(Reply::stats(&answered(acceptor, found)?))
}

/// `DELETE /api/realtime/messages`
pub(super) async fn clear(acceptor: &Acceptor) -> Result<Reply, ApiError> {
    let cleared = acceptor.wish(Wish::Clear).await?;
    Ok(Reply::messages_cleared(answered(acceptor, cleared)?))
}

/// `GET /api/realtime/config`
pub(super) async fn config(acceptor: &Acceptor) -> Result<Reply, ApiError> {
    let days = acceptor.wish(Wish::Retention).await?;
    Ok(Reply::config(answered(acceptor, days)?))
}

/// `PATCH /api/realtime/config`
pub(super) async fn set_config(acceptor: &Acceptor, body: &[u8]) -> Result<Reply, ApiError> {
    let days = parse_retention(body)?;
    let set = acceptor.wish(|ticket| Wish::SetRetention(ticket, days)).await?;
    answered(acceptor, set)?;
    Ok(Reply::config_updated())
}

/// Whether this definition was removed, or never was. Its messages are those of no definition then,
/// as if every one of them had been told; so removing one costs the same however many it has.
fn is_gone(acceptor: &Acceptor, channel_id: Option<Uuid>) -> bool {
    channel_id.is_some_and(|id| acceptor.hub.definitions.load().get(id).is_none())
}

/// Renders a refusal about history, and counts those that are for want of room or time.
fn answered<T>(acceptor: &Acceptor, answer: StoreResult<T>) -> Result<T, ApiError> {
    answer.map_err(|refusal| {
        match refusal {
            StoreRefusal::TooSlow => acceptor.counters.refused_query_timeout.add(1),
            StoreRefusal::Busy => acceptor.counters.refused_overloaded.add(1),
            _ => {}
        }
        rest::refused(refusal)
    })
}
