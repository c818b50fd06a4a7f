//! Tests of reading channel definitions from bodies and of showing them in replies.

use std::sync::Arc;

use super::body::{DESCRIPTION_BYTES_MAX, WEBHOOK_URL_BYTES_MAX};
use super::*;
use crate::limits::{CHANNEL_BYTES_MAX, WEBHOOKS_PER_DEFINITION_MAX};
use crate::message::{ChannelOptions, ChannelOrder, PresenceMode, Retain, SlowConsumer};

fn made(body: &str) -> NewChannel {
    NewChannel::parse(body.as_bytes()).unwrap()
}

fn changed(body: &str) -> ChannelChange {
    ChannelChange::parse(body.as_bytes()).unwrap()
}

fn refused(body: &str) -> String {
    let refusal = NewChannel::parse(body.as_bytes()).unwrap_err();
    assert_eq!((refusal.status(), refusal.code()), (400, "INVALID_INPUT"));
    refusal.to_string()
}

fn change_refused(body: &str) -> String {
    ChannelChange::parse(body.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_new_channel_is_read() {
    let full = r#"{"pattern":"n:*","description":"d","webhookUrls":["https://e.x/w"],
        "enabled":false,"createdAt":1}"#;
    let expected = NewChannel {
        pattern: "n:*".into(),
        description: Some("d".into()),
        webhook_urls: Some(vec!["https://e.x/w".into()]),
        enabled: false,
        options: ChannelOptions::default(),
    };
    assert_eq!(made(full), expected);
    let bare =
        NewChannel { description: None, webhook_urls: None, enabled: true, ..expected.clone() };
    assert_eq!(made(r#"{"pattern":"n:*"}"#), bare);
    assert_eq!(made(r#"{"pattern":"n:*","description":null,"webhookUrls":null}"#), bare);
    assert_eq!(made(r#"{"pattern":"n:*","description":""}"#), bare);
    let no_urls = NewChannel { webhook_urls: Some(vec![]), ..bare };
    assert_eq!(made(r#"{"pattern":"n:*","webhookUrls":[]}"#), no_urls);
}

#[test]
fn issues_are_worded_as_documented() {
    let table = [
        ("{}", "pattern: Channel pattern is required"),
        ("", "pattern: Channel pattern is required"),
        (r#"{"pattern":""}"#, "pattern: Channel pattern is required"),
        (r#"{"pattern":5}"#, "pattern: Expected string, received number"),
        (r#"{"pattern":null}"#, "pattern: Expected string, received null"),
        (r#"{"pattern":"a","webhookUrls":["x"]}"#, "webhookUrls.0: Invalid url"),
        (
            r#"{"pattern":"a","webhookUrls":["http://a","x",1]}"#,
            "webhookUrls.1: Invalid url, webhookUrls.2: Expected string, received number",
        ),
        (
            r#"{"pattern":"a","webhookUrls":"http://a"}"#,
            "webhookUrls: Expected array, received string",
        ),
        (r#"{"pattern":"a","enabled":"yes"}"#, "enabled: Expected boolean, received string"),
        (r#"{"pattern":"a","enabled":null}"#, "enabled: Expected boolean, received null"),
        (
            r#"{"enabled":1,"description":[],"pattern":"a b","webhookUrls":{}}"#,
            "description: Expected string, received array, \
             webhookUrls: Expected array, received object, \
             enabled: Expected boolean, received number",
        ),
        ("[]", "Expected object, received array"),
    ];
    for (body, message) in table {
        assert_eq!(refused(body), message, "{body}");
    }
    assert_eq!(
        change_refused(r#"{"pattern":""}"#),
        "pattern: String must contain at least 1 character(s)"
    );
    assert_eq!(
        change_refused(r#"{"pattern":null,"enabled":0}"#),
        "pattern: Expected string, received null, enabled: Expected boolean, received number"
    );
}

#[test]
fn options_are_read_changed_and_shown_where_they_are_set() {
    let all = r#"{"pattern":"a","ephemeral":true,"presence":"count",
        "slowConsumer":"drop_oldest","replaySeconds":30,"rateLimit":5,"order":"local"}"#;
    let options = ChannelOptions {
        ephemeral: true,
        presence: PresenceMode::Count,
        slow_consumer: SlowConsumer::DropOldest,
        retain: Retain::window(30),
        rate_limit: 5,
        order: ChannelOrder::Local,
    };
    assert_eq!(made(all).options, options);
    assert_eq!(made(r#"{"pattern":"a"}"#).options, ChannelOptions::default());
    let shown = Reply::channel(&made(all).into_definition(Uuid::nil(), 0)).body;
    let expected = r#""enabled":true,"ephemeral":true,"presence":"count","#.to_owned()
        + r#""slowConsumer":"drop_oldest","replaySeconds":30,"rateLimit":5,"order":"local","createdAt""#;
    assert!(shown.contains(&expected), "{shown}");
    let before = made(all).into_definition(Uuid::nil(), 0);
    let change = changed(r#"{"presence":null,"slowConsumer":"latest","rateLimit":null}"#);
    let after = change.apply(&before, 1).options;
    let expected = ChannelOptions {
        presence: PresenceMode::Full,
        slow_consumer: SlowConsumer::Latest,
        rate_limit: 0,
        ..options
    };
    assert_eq!(after, expected);
}

#[test]
fn options_that_are_none_are_named() {
    let table = [
        (r#""ephemeral":1"#, "ephemeral: Expected boolean, received number"),
        (r#""presence":true"#, "presence: Expected string, received boolean"),
        (r#""presence":"some""#, "presence: Invalid enum value. Expected 'full' | 'count' | 'off'"),
        (
            r#""slowConsumer":"drop""#,
            "slowConsumer: Invalid enum value. Expected 'close' | 'drop_oldest' | 'latest'",
        ),
        (r#""replaySeconds":3601"#, "replaySeconds: expected a whole number from 0 to 3600"),
        (r#""rateLimit":0"#, "rateLimit: expected a whole number from 1 to 1000000"),
        (r#""order":"global""#, "order: Invalid enum value. Expected 'cluster' | 'local'"),
        (r#""rateLimit":1.5"#, "rateLimit: expected a whole number from 1 to 1000000"),
        (
            r#""rateLimit":"5","ephemeral":"yes""#,
            "ephemeral: Expected boolean, received string, \
             rateLimit: expected a whole number from 1 to 1000000",
        ),
    ];
    for (options, message) in table {
        assert_eq!(refused(&format!(r#"{{"pattern":"a",{options}}}"#)), message, "{options}");
    }
}

#[test]
fn an_ephemeral_channel_has_no_webhooks() {
    let both = r#"{"pattern":"a","ephemeral":true,"webhookUrls":["https://e.x/"]}"#;
    let definition = made(both).into_definition(Uuid::nil(), 0);
    assert!(definition.problem().is_some_and(|problem| problem.starts_with("webhookUrls: ")));
    let without = changed(r#"{"webhookUrls":[]}"#).apply(&definition, 1);
    assert_eq!(without.problem(), None);
}

#[test]
fn bounds_are_named() {
    let pattern = "p".repeat(CHANNEL_BYTES_MAX);
    assert_eq!(made(&format!(r#"{{"pattern":"{pattern}"}}"#)).pattern, pattern);
    let message = refused(&format!(r#"{{"pattern":"{pattern}p"}}"#));
    assert_eq!(message, "pattern: String must contain at most 512 byte(s)");
    let description = "d".repeat(DESCRIPTION_BYTES_MAX + 1);
    let message = refused(&format!(r#"{{"pattern":"a","description":"{description}"}}"#));
    assert_eq!(message, "description: String must contain at most 4096 byte(s)");
    let urls = vec!["1"; WEBHOOKS_PER_DEFINITION_MAX + 1].join(",");
    let message = change_refused(&format!(r#"{{"webhookUrls":[{urls}]}}"#));
    assert_eq!(message, "webhookUrls: Array must contain at most 32 element(s)");
    let url = format!("http://{}", "u".repeat(WEBHOOK_URL_BYTES_MAX));
    let message = change_refused(&format!(r#"{{"webhookUrls":["{url}"]}}"#));
    assert_eq!(message, "webhookUrls.0: String must contain at most 2048 byte(s)");
}

#[test]
fn patterns_keep_to_the_rule() {
    let sound = [
        "orders",
        "order:%",
        "order:*",
        "a:%:b",
        "a:*:b",
        "a::b",
        "a:b:",
        "-",
        "chat_room",
        "a.b",
        "_",
        ".",
        "a:_.-",
        "a:*%*",
        "A9:Z0",
        "a::",
        "*",
        "%",
        "test-*",
        "room_%",
        "*:a",
        "*a:b*",
    ];
    for pattern in sound {
        assert_eq!(made(&format!(r#"{{"pattern":"{pattern}"}}"#)).pattern, pattern);
    }
    let unsound = ["a:", "*:", ":", ":a", ":*", "a b", "a:b c", "ä", "a:ä", "a/b", "a?"];
    for pattern in unsound {
        let body = format!(r#"{{"pattern":"{pattern}"}}"#);
        assert!(refused(&body).starts_with("Invalid channel pattern. Use "), "{pattern}");
        assert!(change_refused(&body).starts_with("Invalid channel pattern. "), "{pattern}");
    }
    let newline = r#"{"pattern":"orders\n"}"#;
    assert!(refused(newline).starts_with("Invalid channel pattern. Use "));
}

#[test]
fn what_parses_as_a_url_is_kept_as_written() {
    for url in ["ftp://x", "javascript:1", "http://localhost", "HTTP://E.x/a%20b?c"] {
        let body = format!(r#"{{"pattern":"a","webhookUrls":["{url}"]}}"#);
        assert_eq!(made(&body).webhook_urls, Some(vec![url.to_owned()]));
    }
}

fn definition() -> ChannelDefinition {
    let new = made(r#"{"pattern":"order:%","webhookUrls":["https://example.com/webhook"]}"#);
    let id = Uuid::try_parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
    new.into_definition(id, 1_777_136_400_000)
}

#[test]
fn changes_touch_what_they_mention() {
    let before = definition();
    let after = changed("{}").apply(&before, 1_777_136_401_000);
    assert_eq!(after, ChannelDefinition { updated_at: 1_777_136_401_000, ..before.clone() });
    let change = r#"{"pattern":"o:*","description":"","webhookUrls":null,"enabled":false}"#;
    let after = changed(change).apply(&before, 1_777_136_402_000);
    assert_eq!(
        after,
        ChannelDefinition {
            pattern: "o:*".into(),
            description: Some(String::new()),
            webhook_urls: None,
            enabled: false,
            updated_at: 1_777_136_402_000,
            ..before
        }
    );
    let again = changed(r#"{"description":null}"#).apply(&after, 1);
    assert_eq!((again.description, again.pattern), (None, "o:*".into()));
}

#[test]
fn channels_are_rendered_as_documented() {
    let expected = r#"{"id":"550e8400-e29b-41d4-a716-446655440000","pattern":"order:%","#
        .to_owned()
        + r#""description":null,"webhookUrls":["https://example.com/webhook"],"#
        + r#""enabled":true,"createdAt":"2026-04-25T17:00:00.000Z","#
        + r#""updatedAt":"2026-04-25T17:00:00.000Z"}"#;
    let one = Arc::new(definition());
    assert_eq!(Reply::channel(&one).body, expected);
    assert_eq!(Reply::channel(&one).status, 200);
    let created = Reply::channel_created(&one);
    assert_eq!((created.status, created.body), (201, expected.clone()));
    assert_eq!(Reply::channels(&[]).body, "[]");
    let two = [Arc::clone(&one), one];
    assert_eq!(Reply::channels(&two).body, format!("[{expected},{expected}]"));
    assert_eq!(Reply::channel_deleted().body, r#"{"message":"Channel deleted"}"#);
}
