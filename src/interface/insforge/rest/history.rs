//! History over REST: messages, statistics, and for how long messages are kept.

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
use crate::mailbox::{Query as StoreQuery, StoreRefusal, StoreResult, Wish};
use crate::message::{
    ChannelDefinition, MessageQuery, Millis, Stats, StatsQuery, StoredMessage, iso_millis,
};

/// Messages on a page if the query does not say how many.
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
        );
        let (Ok(channel_id), Ok(event_name), Ok(limit), Ok(offset), Ok(before)) = read else {
            let (channel_id, event_name, limit, offset, before) = read;
            let issues =
                [channel_id.err(), event_name.err(), limit.err(), offset.err(), before.err()];
            return Err(fields::refuse(issues));
        };
        let limit = u32::try_from(limit).expect("the bound above fits");
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
        match (query.id("channelId"), query.date("since")) {
            (Ok(channel_id), Ok(since)) => Ok(Self { channel_id, since }),
            (channel_id, since) => Err(fields::refuse([channel_id.err(), since.err()])),
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
    let messages = answered(http, found)?;
    let definitions = http.shared.broker.definitions.load();
    Ok(Reply::messages(&messages, |id| definitions.get(id).is_some()))
}

/// Runs `GET /api/realtime/messages/stats`.
pub(super) async fn stats(http: &HttpContext<'_>, query: Option<&str>) -> Result<Reply, ApiError> {
    let mut query = StatsQuery::parse(query)?;
    if is_gone(http, query.channel_id) {
        // Nothing was published at that time; what holds for all of history is still told.
        query.since = Some(Millis::MAX);
    }
    let found = http.query(|ticket| StoreQuery::Stats(ticket, query)).await?;
    Ok(Reply::stats(&answered(http, found)?))
}

/// Runs `DELETE /api/realtime/messages`.
pub(super) async fn clear(http: &HttpContext<'_>, query: Option<&str>) -> Result<Reply, ApiError> {
    check_clear(query)?;
    let cleared = http.wish(Wish::Clear).await?;
    Ok(Reply::messages_cleared(answered(http, cleared)?))
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
    answered(http, set)?;
    Ok(Reply::config_updated())
}

/// Whether the definition of this id was removed, or never was. Its messages count as those of no
/// definition then. They need not be changed for that, so that removing a definition costs the same
/// however many messages it has.
fn is_gone(http: &HttpContext<'_>, channel_id: Option<Uuid>) -> bool {
    channel_id.is_some_and(|id| http.shared.broker.definitions.load().get(id).is_none())
}

/// Renders a refusal about history, and counts those for want of room or time.
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

/// Parses the body of `PATCH /api/realtime/config`: for how many days messages are to be kept,
/// `None` for ever.
///
/// # Errors
/// 400 with what is wrong with the number.
fn parse_retention(body: &[u8]) -> Result<Option<u32>, ApiError> {
    let [days] = fields::object(body, &["retentionDays"])?;
    let days = fields::required("retentionDays", days).and_then(read_days);
    days.map_err(ApiError::invalid_input)
}

fn read_days(value: &RawValue) -> Read<Option<u32>> {
    if fields::is_null(value) {
        return Ok(None);
    }
    let days = fields::integer("retentionDays", value, 1..=RETENTION_DAYS_MAX);
    // InsForge has another text for a number that is not positive.
    let least = "Number must be greater than or equal to 1";
    days.map(Some).map_err(|issue| issue.replace(least, "Number must be greater than 0"))
}

/// Checks that `DELETE /api/realtime/messages`, which removes everything, has no query: a caller
/// that means to remove a part must not lose all.
///
/// # Errors
/// 400 if there is a query.
fn check_clear(query: Option<&str>) -> Result<(), ApiError> {
    match query {
        None | Some("") => Ok(()),
        Some(_) => Err(ApiError::invalid_input(
            "This removes all messages and takes no filter; leave the query out to do so",
        )),
    }
}

impl Reply {
    /// 200 with a page of messages. The definition of a message is shown if it is `known`, else as
    /// `null`.
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

    /// 200 with the statistics.
    pub fn stats(stats: &Stats) -> Self {
        let rate = match stats.wh_audience {
            0 => 0.0,
            calls => stats.wh_delivered as f64 / calls as f64,
        };
        // Written here, because 0 and 1 must look as JavaScript writes them.
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

    /// 200: so many messages were removed.
    pub fn messages_cleared(deleted: u64) -> Self {
        Self::ok(format!("{{\"deleted\":{deleted}}}"))
    }

    /// 200 with the settings of history.
    pub fn config(retention_days: Option<u32>) -> Self {
        Self::ok(format!("{{\"retentionDays\":{}}}", days(retention_days)))
    }

    /// 200: the settings are in force.
    pub fn config_updated() -> Self {
        Self::ok(CONFIG_UPDATED.to_owned())
    }

    /// 200 with all that is set up: channels, and permissions in their own JSON.
    pub fn metadata(definitions: &[Arc<ChannelDefinition>], permissions_json: &str) -> Self {
        let channels = Self::channels(definitions).body;
        Self::ok(format!("{{\"channels\":{channels},\"permissions\":{permissions_json}}}"))
    }

    fn ok(body: String) -> Self {
        Self::of(200, body)
    }
}

const CONFIG_UPDATED: &str = r#"{"message":"Retention config updated successfully"}"#;

/// Appends a message. Its payload goes in as it was published, without being parsed again.
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

/// A text, or `None`, as JSON.
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
    body.write_fmt(text).expect("texts serialize, and memory takes them");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::message::Sender;

    const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

    fn id() -> Uuid {
        Uuid::try_parse(ID).unwrap()
    }

    #[test]
    fn all_messages_are_removed_or_none() {
        assert_eq!(check_clear(None), Ok(()));
        assert_eq!(check_clear(Some("channelId=x")).unwrap_err().status(), 400);
    }

    #[test]
    fn a_query_is_read() {
        let none = MessageQuery {
            channel_id: None,
            event_name: None,
            limit: 100,
            offset: 0,
            before: None,
        };
        for query in [None, Some(""), Some("eventName="), Some("page=2&limit=100")] {
            assert_eq!(MessageQuery::parse(query).unwrap(), none, "{query:?}");
        }
        let query =
            format!("channelId={ID}&eventName=a%26b+c&limit=50&offset=7&before={ID}&other=x");
        let full = MessageQuery {
            channel_id: Some(id()),
            event_name: Some("a&b c".into()),
            limit: 50,
            offset: 7,
            before: Some(id()),
        };
        assert_eq!(MessageQuery::parse(Some(&query)).unwrap(), full);
        let far = MessageQuery::parse(Some("offset=1e300")).unwrap();
        assert_eq!(far.offset, u64::MAX);
    }

    #[test]
    fn issues_of_a_query_are_worded_as_documented() {
        let table = [
            ("limit=0", "limit: Number must be greater than or equal to 1"),
            ("limit=1001", "limit: Number must be less than or equal to 1000"),
            ("limit=abc", "limit: Expected number, received nan"),
            ("limit=1.5", "limit: Expected integer, received float"),
            ("offset=-1", "offset: Number must be greater than or equal to 0"),
            ("channelId=x", "channelId: Invalid uuid"),
            ("before=x", "before: Invalid uuid"),
            ("eventName=a&eventName=b", "eventName: Expected string, received array"),
            (
                "before=&offset=x&limit=0&channelId=1",
                "channelId: Invalid uuid, limit: Number must be greater than or equal to 1, \
                 offset: Expected number, received nan, before: Invalid uuid",
            ),
        ];
        for (query, message) in table {
            let refusal = MessageQuery::parse(Some(query)).unwrap_err();
            assert_eq!((refusal.status(), refusal.code()), (400, "INVALID_INPUT"));
            assert_eq!(refusal.to_string(), message, "{query}");
        }
    }

    #[test]
    fn the_scope_of_statistics_is_read() {
        assert_eq!(StatsQuery::parse(None).unwrap(), StatsQuery::default());
        let query = format!("since=2024-01-01T00:00:00Z&channelId={ID}");
        let expected = StatsQuery { channel_id: Some(id()), since: Some(1_704_067_200_000) };
        assert_eq!(StatsQuery::parse(Some(&query)).unwrap(), expected);
        for since in ["x", "", "1704067200000"] {
            let refusal = StatsQuery::parse(Some(&format!("since={since}"))).unwrap_err();
            assert_eq!(refusal.to_string(), "since: Invalid date", "{since}");
        }
        let refusal = StatsQuery::parse(Some("since=x&channelId=y")).unwrap_err();
        assert_eq!(refusal.to_string(), "channelId: Invalid uuid, since: Invalid date");
    }

    #[test]
    fn retention_is_read() {
        assert_eq!(parse_retention(br#"{"retentionDays":30}"#), Ok(Some(30)));
        assert_eq!(parse_retention(br#"{"retentionDays":null}"#), Ok(None));
        let table = [
            ("{}", "retentionDays: Required"),
            ("", "retentionDays: Required"),
            (r#"{"retentionDays":0}"#, "retentionDays: Number must be greater than 0"),
            (r#"{"retentionDays":-3}"#, "retentionDays: Number must be greater than 0"),
            (r#"{"retentionDays":1.5}"#, "retentionDays: Expected integer, received float"),
            (r#"{"retentionDays":"30"}"#, "retentionDays: Expected number, received string"),
            (
                r#"{"retentionDays":36501}"#,
                "retentionDays: Number must be less than or equal to 36500",
            ),
        ];
        for (body, message) in table {
            let refusal = parse_retention(body.as_bytes()).unwrap_err();
            assert_eq!((refusal.status(), refusal.code()), (400, "INVALID_INPUT"));
            assert_eq!(refusal.to_string(), message, "{body}");
        }
    }

    fn message() -> StoredMessage {
        StoredMessage {
            id: Uuid::from_u128(0x660e_8400_e29b_41d4_a716_4466_5544_0000),
            event_name: "order.\"created\"".into(),
            channel_id: id(),
            channel_name: "order:\n1".into(),
            payload: "{\"orderId\": \"123\" , \"n\":1.0}".into(),
            sender: Sender::User(Some("alice".into())),
            ws_audience: 5,
            wh_audience: 2,
            wh_delivered: 1,
            created_at: 1_777_136_400_123,
        }
    }

    #[test]
    fn messages_are_rendered_with_their_payloads_as_they_came() {
        let reply = Reply::messages(&[message()], |known| known == id());
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.body,
            r#"[{"id":"660e8400-e29b-41d4-a716-446655440000","#.to_owned()
                + r#""eventName":"order.\"created\"","#
                + r#""channelId":"550e8400-e29b-41d4-a716-446655440000","#
                + r#""channelName":"order:\n1","payload":{"orderId": "123" , "n":1.0},"#
                + r#""senderType":"user","senderId":"alice","wsAudienceCount":5,"#
                + r#""whAudienceCount":2,"whDeliveredCount":1,"#
                + r#""createdAt":"2026-04-25T17:00:00.123Z"}]"#
        );
        assert_eq!(Reply::messages(&[], |_| true).body, "[]");
    }

    #[test]
    fn what_is_gone_or_nobody_is_null() {
        let system = StoredMessage { sender: Sender::System, ..message() };
        let nobody = StoredMessage { sender: Sender::User(None), ..message() };
        let reply = Reply::messages(&[system, nobody], |_| false);
        let shown: Value = serde_json::from_str(&reply.body).unwrap();
        for (message, sender_type) in shown.as_array().unwrap().iter().zip(["system", "user"]) {
            assert_eq!(message["senderType"], sender_type);
            assert_eq!((&message["senderId"], &message["channelId"]), (&json!(null), &json!(null)));
        }
    }

    #[test]
    fn statistics_are_rendered() {
        let stats = Stats {
            messages: 1_250,
            wh_audience: 50,
            wh_delivered: 49,
            top_events: vec![("order.created".into(), 450), ("\"".into(), 1)],
            retention_days: Some(30),
        };
        assert_eq!(
            Reply::stats(&stats).body,
            r#"{"totalMessages":1250,"whDeliveryRate":0.98,"topEvents":["#.to_owned()
                + r#"{"eventName":"order.created","count":450},{"eventName":"\"","count":1}],"#
                + r#""retentionDays":30}"#
        );
        let none = r#"{"totalMessages":0,"whDeliveryRate":0,"topEvents":[],"retentionDays":null}"#;
        assert_eq!(Reply::stats(&Stats::default()).body, none);
        let all = Stats { wh_audience: 2, wh_delivered: 2, ..Stats::default() };
        assert!(Reply::stats(&all).body.contains("\"whDeliveryRate\":1,"));
    }

    #[test]
    fn settings_and_metadata_are_rendered() {
        assert_eq!(Reply::config(None).body, r#"{"retentionDays":null}"#);
        assert_eq!(Reply::config(Some(7)).body, r#"{"retentionDays":7}"#);
        assert_eq!(Reply::messages_cleared(42).body, r#"{"deleted":42}"#);
        let permissions = r#"{"subscribe":{"policies":[]},"publish":{"policies":[]}}"#;
        let reply = Reply::metadata(&[], permissions);
        assert_eq!(reply.body, format!(r#"{{"channels":[],"permissions":{permissions}}}"#));
    }
}
