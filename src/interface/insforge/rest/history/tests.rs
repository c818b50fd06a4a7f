//! Tests of reading queries of history and of showing it in replies.

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
    let none =
        MessageQuery { channel_id: None, event_name: None, limit: 100, offset: 0, before: None };
    for query in [None, Some(""), Some("eventName="), Some("limit=100")] {
        assert_eq!(MessageQuery::parse(query).unwrap(), none, "{query:?}");
    }
    let query = format!("channelId={ID}&eventName=a%26b+c&limit=50&offset=7&before={ID}");
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
fn issues_of_a_query_name_the_key() {
    let table = [
        ("limit=0", "limit: expected a whole number from 1 to 1000"),
        ("limit=1001", "limit: expected a whole number from 1 to 1000"),
        ("limit=abc", "limit: expected a whole number from 1 to 1000"),
        ("limit=1.5", "limit: expected a whole number from 1 to 1000"),
        ("offset=-1", "offset: expected a whole number from 0"),
        ("channelId=x", "channelId: Invalid uuid"),
        ("before=x", "before: Invalid uuid"),
        ("channelName=order:1", "Unrecognized key(s) in query: 'channelName'"),
        ("b=1&limit=5&a&b", "Unrecognized key(s) in query: 'a', 'b'"),
        ("eventName=a&eventName=b", "eventName: Expected string, received array"),
        (
            "before=&offset=x&limit=0&channelId=1",
            "channelId: Invalid uuid, limit: expected a whole number from 1 to 1000, \
             offset: expected a whole number from 0, before: Invalid uuid",
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
    let refusal = StatsQuery::parse(Some("until=2024-01-01")).unwrap_err();
    assert_eq!(refusal.to_string(), "Unrecognized key(s) in query: 'until'");
    let refusal = StatsQuery::parse(Some("since=x&channelId=y")).unwrap_err();
    assert_eq!(refusal.to_string(), "channelId: Invalid uuid, since: Invalid date");
}

#[test]
fn retention_is_read() {
    assert_eq!(parse_retention(br#"{"retentionDays":30}"#), Ok(Some(30)));
    assert_eq!(parse_retention(br#"{"retentionDays":null}"#), Ok(None));
    let range = "retentionDays: expected a whole number from 1 to 36500, or null";
    let table = [
        ("{}", "retentionDays: Required"),
        ("", "retentionDays: Required"),
        (r#"{"retentionDays":0}"#, range),
        (r#"{"retentionDays":-3}"#, range),
        (r#"{"retentionDays":1.5}"#, range),
        (r#"{"retentionDays":"30"}"#, range),
        (r#"{"retentionDays":36501}"#, range),
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
