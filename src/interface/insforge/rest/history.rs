//! REST calls for history: messages, statistics, and the time for which messages are kept.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::query::Query;
use crate::interface::http::HttpContext;
use crate::interface::rest::fields::{self, Read};
use crate::interface::rest::{ApiError, Reply};
use crate::limits::{HISTORY_PAGE_MESSAGES_MAX, RETENTION_DAYS_MAX};
use crate::mailbox::{Changed, Gathered, Query as StoreQuery, StoreRefusal, StoreResult, Wish};
use crate::message::{
    ChannelDefinition, MessageQuery, Millis, Stats, StatsQuery, StoredMessage, iso_millis,
};

/// The number of messages on a page if the query has no `limit`.
const LIMIT: u64 = 100;

impl MessageQuery {
    /// Parses the query of `GET /api/realtime/messages`.
    ///
    /// # Errors
    /// 400 with the issues of all keys.
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let query = Query::new(query);
        let read = (
            query.id("channelId"),
            query.text("eventName"),
            query.integer("limit", 1..=HISTORY_PAGE_MESSAGES_MAX.into(), LIMIT),
            query.integer("offset", 0..=u64::MAX, 0),
            query.id("before"),
            query.only(&["channelId", "eventName", "limit", "offset", "before"]),
        );
        let (Ok(channel_id), Ok(event_name), Ok(limit), Ok(offset), Ok(before), Ok(())) = read
        else {
            let (channel_id, event_name, limit, offset, before, only) = read;
            return Err(fields::refuse([
                channel_id.err(),
                event_name.err(),
                limit.err(),
                offset.err(),
                before.err(),
                only.err(),
            ]));
        };
        let limit = u32::try_from(limit).expect("the bound above fits into 32 bits");
        Ok(Self { channel_id, event_name: event_name.map(Into::into), limit, offset, before })
    }
}

impl StatsQuery {
    /// Parses the query of `GET /api/realtime/messages/stats`.
    ///
    /// # Errors
    /// 400 with the issues of all keys.
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let query = Query::new(query);
        let only = query.only(&["channelId", "since"]);
        match (query.id("channelId"), query.date("since"), only) {
            (Ok(channel_id), Ok(since), Ok(())) => Ok(Self { channel_id, since }),
            (channel_id, since, only) => {
                Err(fields::refuse([channel_id.err(), since.err(), only.err()]))
            }
        }
    }
}

/// Runs `GET /api/realtime/messages`.
pub(super) async fn messages(
    http: &HttpContext<'_>,
    query: Option<&str>,
) -> Result<Reply, ApiError> {
    let query = MessageQuery::parse(query)?;
    if is_gone(http, query.channel_id) {
        return Ok(Reply::messages(&[], |_| false));
    }
    let found = http.query(|ticket| StoreQuery::Messages(ticket, query)).await?;
    let Gathered { found, unanswered } = answered(http, found)?;
    let definitions = http.shared.broker.definitions.load();
    let reply = Reply::messages(&found, |id| definitions.get(id).is_some());
    Ok(reply.unanswered_by(&unanswered))
}

/// Runs `GET /api/realtime/messages/stats`.
pub(super) async fn stats(http: &HttpContext<'_>, query: Option<&str>) -> Result<Reply, ApiError> {
    let mut query = StatsQuery::parse(query)?;
    if is_gone(http, query.channel_id) {
        // No message is that new, so nothing is counted; the retention time is still returned.
        query.since = Some(Millis::MAX);
    }
    let found = http.query(|ticket| StoreQuery::Stats(ticket, query)).await?;
    let Gathered { found, unanswered } = answered(http, found)?;
    Ok(Reply::stats(&found).unanswered_by(&unanswered))
}

/// Runs `DELETE /api/realtime/messages`.
pub(super) async fn clear(http: &HttpContext<'_>, query: Option<&str>) -> Result<Reply, ApiError> {
    check_clear(query)?;
    let cleared = http.wish(Wish::Clear).await?;
    let Changed { now: deleted, unconfirmed } = answered(http, cleared)?;
    Ok(Reply::messages_cleared(deleted).unconfirmed_by(&unconfirmed))
}

/// Runs `GET /api/realtime/config`.
pub(super) async fn config(http: &HttpContext<'_>) -> Result<Reply, ApiError> {
    let days = http.wish(Wish::Retention).await?;
    Ok(Reply::config(answered(http, days)?))
}

/// Runs `PATCH /api/realtime/config`.
pub(super) async fn set_config(http: &HttpContext<'_>, body: &[u8]) -> Result<Reply, ApiError> {
    let days = parse_retention(body)?;
    let set = http.wish(|ticket| Wish::SetRetention(ticket, days)).await?;
    let Changed { unconfirmed, .. } = answered(http, set)?;
    Ok(Reply::config_updated().unconfirmed_by(&unconfirmed))
}

/// Returns whether the query names a definition that does not exist (any more). The messages of a
/// deleted definition keep its id in the store, but no query may find them by it. So a deletion
/// costs the same for any number of messages.
fn is_gone(http: &HttpContext<'_>, channel_id: Option<Uuid>) -> bool {
    channel_id.is_some_and(|id| http.shared.broker.definitions.load().get(id).is_none())
}

/// Turns a refusal of the store into an error, and counts those for lack of room or time.
fn answered<T>(http: &HttpContext<'_>, answer: StoreResult<T>) -> Result<T, ApiError> {
    answer.map_err(|refusal| {
        match refusal {
            StoreRefusal::TooSlow => http.counters.refused_query_timeout.add(1),
            StoreRefusal::Busy => http.counters.refused_overloaded.add(1),
            _ => {}
        }
        refusal.into()
    })
}

/// Parses the body of `PATCH /api/realtime/config`. Returns the number of days for which messages
/// are kept; `None` for ever.
///
/// # Errors
/// 400 with the issue of the number.
fn parse_retention(body: &[u8]) -> Result<Option<u32>, ApiError> {
    let [days] = fields::settings(body, &["retentionDays"], &[])?;
    let days = fields::required("retentionDays", days).and_then(read_days);
    days.map_err(ApiError::invalid_input)
}

fn read_days(value: &RawValue) -> Read<Option<u32>> {
    if fields::is_null(value) {
        return Ok(None);
    }
    let days = fields::integer("retentionDays", value, 1..=RETENTION_DAYS_MAX);
    days.map(Some).map_err(|issue| issue + ", or null")
}

/// Checks that `DELETE /api/realtime/messages`, which removes all messages, has no query: a caller
/// that tries to remove only some of them must not lose all.
///
/// # Errors
/// 400 if there is a query.
fn check_clear(query: Option<&str>) -> Result<(), ApiError> {
    match query {
        None | Some("") => Ok(()),
        Some(_) => Err(ApiError::invalid_input(
            "This call removes all messages and accepts no filter; send it without a query",
        )),
    }
}

impl Reply {
    /// Returns 200 with a page of messages. The id of a message's definition is shown if that is
    /// `known`, otherwise as `null`.
    pub fn messages(messages: &[StoredMessage], known: impl Fn(Uuid) -> bool) -> Self {
        let payloads: usize = messages.iter().map(|message| message.payload.len()).sum();
        let mut body = String::with_capacity(payloads + 512 * messages.len() + 2);
        body.push('[');
        for (at, message) in messages.iter().enumerate() {
            if at > 0 {
                body.push(',');
            }
            write_message(&mut body, message, known(message.channel_id));
        }
        body.push(']');
        Self::ok(body)
    }

    /// Returns 200 with the statistics.
    pub fn stats(stats: &Stats) -> Self {
        let rate = match stats.wh_audience {
            0 => 0.0,
            calls => stats.wh_delivered as f64 / calls as f64,
        };
        // Formatted by hand, because the rates 0 and 1 must be written as in JavaScript, without a
        // fraction.
        let mut body = format!(
            "{{\"totalMessages\":{},\"whDeliveryRate\":{rate},\"topEvents\":[",
            stats.messages
        );
        for (at, (event_name, count)) in stats.top_events.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            put(
                &mut body,
                format_args!("{comma}{{\"eventName\":{},\"count\":{count}}}", Json(event_name)),
            );
        }
        put(&mut body, format_args!("],\"retentionDays\":{}}}", days(stats.retention_days)));
        Self::ok(body)
    }

    /// Returns 200 with the number of messages removed.
    pub fn messages_cleared(deleted: u64) -> Self {
        Self::ok(format!("{{\"deleted\":{deleted}}}"))
    }

    /// Returns 200 with the settings of history. `None` means that messages are kept for ever.
    pub fn config(retention_days: Option<u32>) -> Self {
        Self::ok(format!("{{\"retentionDays\":{}}}", days(retention_days)))
    }

    /// Returns 200 with the message that the settings were changed.
    pub fn config_updated() -> Self {
        Self::ok(CONFIG_UPDATED.to_owned())
    }

    /// Returns 200 with all definitions and the permissions, which are given as JSON.
    pub fn metadata(definitions: &[Arc<ChannelDefinition>], permissions_json: &str) -> Self {
        let channels = Self::channels(definitions).body;
        Self::ok(format!("{{\"channels\":{channels},\"permissions\":{permissions_json}}}"))
    }

    fn ok(body: String) -> Self {
        Self::of(200, body)
    }
}

const CONFIG_UPDATED: &str = r#"{"message":"Retention config updated successfully"}"#;

/// Appends a message as JSON. Its payload is copied as it was published and not parsed again.
fn write_message(body: &mut String, message: &StoredMessage, is_channel_known: bool) {
    let channel_id = is_channel_known.then(|| message.channel_id.to_string());
    let (sender_type, sender_id) = message.sender.parts();
    put(
        body,
        format_args!(
            "{{\"id\":\"{}\",\"eventName\":{},\"channelId\":{},\"channelName\":{},\"payload\":{},\
             \"senderType\":\"{sender_type}\",\"senderId\":{},\"wsAudienceCount\":{},\
             \"whAudienceCount\":{},\"whDeliveredCount\":{},\"createdAt\":\"{}\"}}",
            message.id,
            Json(&message.event_name),
            Json(&channel_id),
            Json(&message.channel_name),
            message.payload,
            Json(&sender_id),
            message.ws_audience,
            message.wh_audience,
            message.wh_delivered,
            iso_millis(message.created_at)
        ),
    );
}

/// A value that is displayed as JSON.
struct Json<'a, T>(&'a T);

impl<T: Serialize> std::fmt::Display for Json<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| std::fmt::Error)?)
    }
}

fn days(retention: Option<u32>) -> String {
    retention.map_or_else(|| "null".to_owned(), |days| days.to_string())
}

fn put(body: &mut String, text: std::fmt::Arguments<'_>) {
    body.write_fmt(text).expect("strings serialize, and writing to a String succeeds");
}

#[cfg(test)]
mod tests;
