//! Channel definitions over REST.

use std::sync::Arc;

use rand::RngExt as _;
use serde::{Serialize, Serializer as _};
use serde_json::value::RawValue;
use url::Url;
use uuid::Uuid;

use crate::interface::http::HttpContext;
use crate::interface::rest::fields::{self, Read};
use crate::interface::rest::{ApiError, Reply};
use crate::limits::{
    CHANNEL_BYTES_MAX, RATE_LIMIT_MAX, REPLAY_SECONDS_MAX, WEBHOOKS_PER_DEFINITION_MAX,
};
use crate::mailbox::{StoreChange, Wish};
use crate::message::{
    Change, ChannelChange, ChannelDefinition, ChannelOptions, Millis, OptionsChange, PresenceMode,
    Retain, SlowConsumer, iso_millis,
};

/// Longest description of a channel, in bytes. A longer one is refused as `INVALID_INPUT`.
const DESCRIPTION_BYTES_MAX: usize = 4_096;
/// Longest webhook URL, in bytes. A longer one is refused as `INVALID_INPUT`.
const WEBHOOK_URL_BYTES_MAX: usize = 2_048;

/// A channel that is to be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NewChannel {
    /// The pattern, which keeps to the rule of [`check_pattern`].
    pub pattern: String,
    /// The description; never empty.
    pub description: Option<String>,
    /// The webhook URLs, each of which parses as a URL, as they were written.
    pub webhook_urls: Option<Vec<String>>,
    /// Whether the channel is enabled: true unless the body says otherwise.
    pub enabled: bool,
    /// The options of its channels.
    pub options: ChannelOptions,
}

impl NewChannel {
    /// Parses the body of `POST /api/realtime/channels`.
    ///
    /// # Errors
    /// 400 with the issues of all fields, or else with that of the pattern rule.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let required = |pattern| fields::required("pattern", pattern).and_then(new_pattern);
        let (pattern, change) = read(body, required)?;
        check_pattern(&pattern)?;
        Ok(Self {
            pattern,
            description: change.description.or(None).filter(|text| !text.is_empty()),
            webhook_urls: change.webhook_urls.or(None),
            enabled: change.enabled.unwrap_or(true),
            options: change.options.apply(ChannelOptions::default()),
        })
    }

    /// Returns the definition, created now under this id.
    fn into_definition(self, id: Uuid, now: Millis) -> ChannelDefinition {
        ChannelDefinition {
            id,
            pattern: self.pattern,
            description: self.description,
            webhook_urls: self.webhook_urls,
            enabled: self.enabled,
            options: self.options,
            created_at: now,
            updated_at: now,
        }
    }
}

impl ChannelChange {
    /// Parses the body of `PUT /api/realtime/channels/{id}`.
    ///
    /// # Errors
    /// 400 with the issues of all fields, or else with that of the pattern rule.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let (pattern, change) = read(body, |pattern| pattern.map(changed_pattern).transpose())?;
        if let Some(pattern) = &pattern {
            check_pattern(pattern)?;
        }
        Ok(Self { pattern, ..change })
    }
}

/// Reads what a body says of a channel: the pattern by `read_pattern`, and all other fields.
fn read<'a, P>(
    body: &'a [u8],
    read_pattern: impl FnOnce(Option<&'a RawValue>) -> Read<P>,
) -> Result<(P, ChannelChange), ApiError> {
    let [pattern, description, webhook_urls, enabled, options @ ..] =
        fields::object(body, &FIELDS)?;
    let read = (
        read_pattern(pattern),
        nullable(description, read_description),
        nullable(webhook_urls, read_webhook_urls),
        enabled.map(|value| fields::flag("enabled", value)).transpose(),
        read_options(options),
    );
    match read {
        (Ok(pattern), Ok(description), Ok(webhook_urls), Ok(enabled), Ok(options)) => {
            let change =
                ChannelChange { pattern: None, description, webhook_urls, enabled, options };
            Ok((pattern, change))
        }
        (pattern, description, urls, enabled, options) => Err(fields::refuse([
            pattern.err(),
            description.err(),
            urls.err(),
            enabled.err(),
            options.err(),
        ])),
    }
}

/// Creates a channel.
pub(super) async fn create(http: &HttpContext<'_>, new: NewChannel) -> Result<Reply, ApiError> {
    let id = uuid::Builder::from_random_bytes(http.random.borrow_mut().random()).into_uuid();
    let definition = new.into_definition(id, http.now.wall);
    store(http, StoreChange::Insert(definition), Reply::channel_created).await
}

/// Changes a channel.
pub(super) async fn update(
    http: &HttpContext<'_>,
    id: Option<Uuid>,
    change: ChannelChange,
) -> Result<Reply, ApiError> {
    let id = id.ok_or_else(ApiError::channel_not_found)?;
    store(http, StoreChange::Update(id, change, http.now.wall), Reply::channel).await
}

/// Deletes a channel.
pub(super) async fn delete(http: &HttpContext<'_>, id: Option<Uuid>) -> Result<Reply, ApiError> {
    let id = id.ok_or_else(ApiError::channel_not_found)?;
    store(http, StoreChange::Delete(id), |_| Reply::channel_deleted()).await
}

/// Has the store make a change, and renders the definition that it answers with.
async fn store(
    http: &HttpContext<'_>,
    change: StoreChange,
    render: impl FnOnce(&ChannelDefinition) -> Reply,
) -> Result<Reply, ApiError> {
    let changed = http.wish(|ticket| Wish::Change(ticket, change)).await?;
    changed.map(|definition| render(&definition)).map_err(ApiError::from)
}

impl Reply {
    /// 200 with one channel: read or updated.
    pub fn channel(definition: &ChannelDefinition) -> Self {
        Self::json(200, &ChannelJson::from(definition))
    }

    /// 201 with the channel that was created.
    pub fn channel_created(definition: &ChannelDefinition) -> Self {
        Self::json(201, &ChannelJson::from(definition))
    }

    /// 200 with channels in the order given, which clients expect to be the newest first.
    pub fn channels(definitions: &[Arc<ChannelDefinition>]) -> Self {
        let mut body = Vec::with_capacity(256 * definitions.len() + 2);
        serde_json::Serializer::new(&mut body)
            .collect_seq(definitions.iter().map(|one| ChannelJson::from(&**one)))
            .expect("writing structs of strings and numbers to memory succeeds");
        let body = String::from_utf8(body).expect("JSON is UTF-8");
        Self::of(200, body)
    }

    /// 200: the channel is gone.
    pub fn channel_deleted() -> Self {
        Self::of(200, DELETED.into())
    }
}

const DELETED: &str = r#"{"message":"Channel deleted"}"#;

const FIELDS: [&str; 9] = [
    "pattern",
    "description",
    "webhookUrls",
    "enabled",
    "ephemeral",
    "presence",
    "slowConsumer",
    "replaySeconds",
    "rateLimit",
];

/// Reads the options, which stand behind InsForge's own fields in [`FIELDS`]. `null` stands for an
/// option's default.
fn read_options(options: [Option<&RawValue>; 5]) -> Read<OptionsChange> {
    let [ephemeral, presence, slow_consumer, retain, rate_limit] = options;
    let read = (
        or_default(ephemeral, |value| fields::flag("ephemeral", value)),
        or_default(presence, |value| {
            let names = PresenceMode::ALL.map(PresenceMode::name);
            fields::choice("presence", value, &names).map(|at| PresenceMode::ALL[at])
        }),
        or_default(slow_consumer, |value| {
            let names = SlowConsumer::ALL.map(SlowConsumer::name);
            fields::choice("slowConsumer", value, &names).map(|at| SlowConsumer::ALL[at])
        }),
        or_default(retain, |value| {
            fields::integer("replaySeconds", value, 0..=REPLAY_SECONDS_MAX).map(Retain::window)
        }),
        or_default(rate_limit, |value| fields::integer("rateLimit", value, 1..=RATE_LIMIT_MAX)),
    );
    match read {
        (Ok(ephemeral), Ok(presence), Ok(slow_consumer), Ok(retain), Ok(rate_limit)) => {
            Ok(OptionsChange { ephemeral, presence, slow_consumer, retain, rate_limit })
        }
        (ephemeral, presence, slow, retain, rate) => {
            let issues = [ephemeral.err(), presence.err(), slow.err(), retain.err(), rate.err()];
            let issues: Vec<String> = issues.into_iter().flatten().collect();
            Err(issues.join(", "))
        }
    }
}

fn or_default<'a, T: Default>(
    field: Option<&'a RawValue>,
    read: impl FnOnce(&'a RawValue) -> Read<T>,
) -> Read<Option<T>> {
    match field {
        None => Ok(None),
        Some(value) if fields::is_null(value) => Ok(Some(T::default())),
        Some(value) => read(value).map(Some),
    }
}

/// Reads the pattern of a new channel. InsForge has another text for an empty one than on a change.
fn new_pattern(value: &RawValue) -> Read<String> {
    if value.get() == "\"\"" {
        return Err("pattern: Channel pattern is required".into());
    }
    changed_pattern(value)
}

fn changed_pattern(value: &RawValue) -> Read<String> {
    fields::nonempty("pattern", value, CHANNEL_BYTES_MAX).map(Into::into)
}

fn read_description(value: &RawValue) -> Read<String> {
    fields::text("description", value, DESCRIPTION_BYTES_MAX).map(Into::into)
}

fn read_webhook_urls(value: &RawValue) -> Read<Vec<String>> {
    let items = fields::list("webhookUrls", value, WEBHOOKS_PER_DEFINITION_MAX)?;
    let mut urls = Vec::with_capacity(items.len());
    let mut issues = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        match read_url(&format!("webhookUrls.{at}"), item) {
            Ok(url) => urls.push(url),
            Err(issue) => issues.push(issue),
        }
    }
    if issues.is_empty() { Ok(urls) } else { Err(issues.join(", ")) }
}

/// Reads a text that parses as a URL. Which addresses are called is decided when they are called.
fn read_url(path: &str, value: &RawValue) -> Read<String> {
    let text = fields::text(path, value, WEBHOOK_URL_BYTES_MAX)?;
    match Url::parse(&text) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err(format!("{path}: Invalid url")),
    }
}

fn nullable<'a, T>(
    field: Option<&'a RawValue>,
    read: impl FnOnce(&'a RawValue) -> Read<T>,
) -> Read<Change<T>> {
    match field {
        None => Ok(Change::Unchanged),
        Some(value) if fields::is_null(value) => Ok(Change::Cleared),
        Some(value) => read(value).map(Change::Set),
    }
}

/// Checks InsForge's rule, `^[a-zA-Z0-9-]+(:[a-zA-Z0-9%:-]+)*$`, with `_` and `.` allowed too, and
/// `*` wherever `%` is. As there, the text of the error does not name the field.
fn check_pattern(pattern: &str) -> Result<(), ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let any = |c: char| plain(c) || matches!(c, ':' | '%' | '*');
    let (first, rest) = match pattern.split_once(':') {
        None => (pattern, None),
        Some((first, rest)) => (first, Some(rest)),
    };
    let first_is_sound = !first.is_empty() && first.chars().all(plain);
    let rest_is_sound = rest.is_none_or(|rest| !rest.is_empty() && rest.chars().all(any));
    if first_is_sound && rest_is_sound {
        return Ok(());
    }
    Err(ApiError::invalid_input(
        "Invalid channel pattern. Use alphanumeric characters, hyphens, underscores, dots and \
         colons, and * or % for wildcards after the first colon.",
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChannelJson<'a> {
    id: String,
    pattern: &'a str,
    description: Option<&'a str>,
    webhook_urls: Option<&'a [String]>,
    enabled: bool,
    // An option is shown if it is not the default: a channel without options looks as InsForge's.
    #[serde(skip_serializing_if = "is_default")]
    ephemeral: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_consumer: Option<&'static str>,
    #[serde(skip_serializing_if = "is_default")]
    replay_seconds: u32,
    #[serde(skip_serializing_if = "is_default")]
    rate_limit: u32,
    created_at: String,
    updated_at: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl<'a> From<&'a ChannelDefinition> for ChannelJson<'a> {
    fn from(definition: &'a ChannelDefinition) -> Self {
        let options = &definition.options;
        Self {
            id: definition.id.to_string(),
            pattern: &definition.pattern,
            description: definition.description.as_deref(),
            webhook_urls: definition.webhook_urls.as_deref(),
            enabled: definition.enabled,
            ephemeral: options.ephemeral,
            presence: (!is_default(&options.presence)).then(|| options.presence.name()),
            slow_consumer: (!is_default(&options.slow_consumer))
                .then(|| options.slow_consumer.name()),
            replay_seconds: options.retain.seconds(),
            rate_limit: options.rate_limit,
            created_at: iso_millis(definition.created_at),
            updated_at: iso_millis(definition.updated_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("{}", "pattern: Required"),
            ("", "pattern: Required"),
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
            "slowConsumer":"drop_oldest","replaySeconds":30,"rateLimit":5}"#;
        let options = ChannelOptions {
            ephemeral: true,
            presence: PresenceMode::Count,
            slow_consumer: SlowConsumer::DropOldest,
            retain: Retain::window(30),
            rate_limit: 5,
        };
        assert_eq!(made(all).options, options);
        assert_eq!(made(r#"{"pattern":"a"}"#).options, ChannelOptions::default());
        let shown = Reply::channel(&made(all).into_definition(Uuid::nil(), 0)).body;
        let expected = r#""enabled":true,"ephemeral":true,"presence":"count","#.to_owned()
            + r#""slowConsumer":"drop_oldest","replaySeconds":30,"rateLimit":5,"createdAt""#;
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
            (
                r#""presence":"some""#,
                "presence: Invalid enum value. Expected 'full' | 'count' | 'off'",
            ),
            (
                r#""slowConsumer":"drop""#,
                "slowConsumer: Invalid enum value. Expected 'close' | 'drop_oldest' | 'latest'",
            ),
            (r#""replaySeconds":3601"#, "replaySeconds: Number must be less than or equal to 3600"),
            (r#""rateLimit":0"#, "rateLimit: Number must be greater than or equal to 1"),
            (r#""rateLimit":1.5"#, "rateLimit: Expected integer, received float"),
            (
                r#""rateLimit":"5","ephemeral":"yes""#,
                "ephemeral: Expected boolean, received string, \
                 rateLimit: Expected number, received string",
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
        ];
        for pattern in sound {
            assert_eq!(made(&format!(r#"{{"pattern":"{pattern}"}}"#)).pattern, pattern);
        }
        let unsound = [
            "%", "*", "%:a", "*:a", "a%", "a*", "a:", ":", ":a", "a b", "a:b c", "ä", "a:ä", "a/b",
        ];
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
}
