//! Reads the bodies of calls that create and change channel definitions.

use serde_json::value::RawValue;
use url::Url;
use uuid::Uuid;

use crate::interface::rest::ApiError;
use crate::interface::rest::fields::{self, Read};
use crate::limits::{
    CHANNEL_BYTES_MAX, RATE_LIMIT_MAX, REPLAY_SECONDS_MAX, WEBHOOKS_PER_DEFINITION_MAX,
};
use crate::message::webhook_url::Refusal;
use crate::message::{
    Change, ChannelChange, ChannelDefinition, ChannelOptions, ChannelOrder, Millis, OptionsChange,
    PresenceMode, Retain, SlowConsumer,
};

/// Longest description of a channel, in bytes. A longer one is refused as `INVALID_INPUT`.
pub(super) const DESCRIPTION_BYTES_MAX: usize = 4_096;
/// Longest webhook URL, in bytes. A longer one is refused as `INVALID_INPUT`.
pub(super) const WEBHOOK_URL_BYTES_MAX: usize = 2_048;

const FIELDS: [&str; 10] = [
    "pattern",
    "description",
    "webhookUrls",
    "enabled",
    "ephemeral",
    "presence",
    "slowConsumer",
    "replaySeconds",
    "rateLimit",
    "order",
];

/// Fields of an answer that a body may repeat and cannot change.
const READ_ONLY: [&str; 3] = ["id", "createdAt", "updatedAt"];

/// A channel definition that is to be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::interface::insforge::rest) struct NewChannel {
    /// The pattern, which [`check_pattern`] has accepted.
    pub pattern: String,
    /// The description; `None` if it is absent, `null` or empty.
    pub description: Option<String>,
    /// The webhook URLs as they were written. Each parses as a URL.
    pub webhook_urls: Option<Vec<String>>,
    /// Whether the definition is enabled: true unless the body says otherwise.
    pub enabled: bool,
    /// The options of the definition's channels.
    pub options: ChannelOptions,
}

impl NewChannel {
    /// Parses the body of `POST /api/realtime/channels`.
    ///
    /// # Errors
    /// 400 with the issues of all fields. If they have none, 400 if the pattern breaks its rule.
    pub(in crate::interface::insforge::rest) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let (pattern, change) = read(body, new_pattern)?;
        check_pattern(&pattern)?;
        Ok(Self {
            pattern,
            description: change.description.or(None).filter(|text| !text.is_empty()),
            webhook_urls: change.webhook_urls.or(None),
            enabled: change.enabled.unwrap_or(true),
            options: change.options.apply(ChannelOptions::default()),
        })
    }

    /// Returns the definition with this id, created at `now`.
    pub(super) fn into_definition(self, id: Uuid, now: Millis) -> ChannelDefinition {
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
    /// 400 with the issues of all fields. If they have none, 400 if the pattern breaks its rule.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let (pattern, change) = read(body, |pattern| pattern.map(changed_pattern).transpose())?;
        if let Some(pattern) = &pattern {
            check_pattern(pattern)?;
        }
        Ok(Self { pattern, ..change })
    }
}

/// Reads a body: the pattern with `read_pattern`, and all other fields as a change.
fn read<'a, P>(
    body: &'a [u8],
    read_pattern: impl FnOnce(Option<&'a RawValue>) -> Read<P>,
) -> Result<(P, ChannelChange), ApiError> {
    let [pattern, description, webhook_urls, enabled, options @ ..] =
        fields::settings(body, &FIELDS, &READ_ONLY)?;
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

/// Reads the options: the last six of [`FIELDS`], which InsForge does not have. `null` sets an
/// option to its default.
fn read_options(options: [Option<&RawValue>; 6]) -> Read<OptionsChange> {
    let [ephemeral, presence, slow_consumer, retain, rate_limit, order] = options;
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
        or_default(order, |value| {
            let names = ChannelOrder::ALL.map(ChannelOrder::name);
            fields::choice("order", value, &names).map(|at| ChannelOrder::ALL[at])
        }),
    );
    match read {
        (Ok(ephemeral), Ok(presence), Ok(slow_consumer), Ok(retain), Ok(rate_limit), Ok(order)) => {
            Ok(OptionsChange { ephemeral, presence, slow_consumer, retain, rate_limit, order })
        }
        (ephemeral, presence, slow, retain, rate, order) => {
            let issues = [
                ephemeral.err(),
                presence.err(),
                slow.err(),
                retain.err(),
                rate.err(),
                order.err(),
            ];
            let issues: Vec<String> = issues.into_iter().flatten().collect();
            Err(issues.join(", "))
        }
    }
}

/// Reads an option: `None` if the field is absent, the default for `null`.
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

/// Reads the pattern of a new definition. Its error text for an empty pattern differs from that of
/// a change, as in InsForge, and a missing one is answered like an empty one, as documented.
fn new_pattern(value: Option<&RawValue>) -> Read<String> {
    match value {
        Some(value) if value.get() != "\"\"" => changed_pattern(value),
        _ => Err("pattern: Channel pattern is required".into()),
    }
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

/// Reads a text that parses as a URL. Whether a webhook may have it depends on the configuration
/// and is checked later.
fn read_url(path: &str, value: &RawValue) -> Read<String> {
    let text = fields::text(path, value, WEBHOOK_URL_BYTES_MAX)?;
    match Url::parse(&text) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err(format!("{path}: Invalid url")),
    }
}

/// Checks that the webhooks of a definition may be called. URLs that it had before may stay.
///
/// # Errors
/// 400 with an issue for each URL that would never be called.
pub(super) fn check_webhooks(
    urls: &[String],
    before: &[String],
    allow_private: bool,
) -> Result<(), ApiError> {
    let mut issues = Vec::new();
    let mut is_private = false;
    for (at, url) in urls.iter().enumerate().filter(|(_, url)| !before.contains(url)) {
        let Some(refusal) = Refusal::of(url, allow_private) else { continue };
        is_private |= refusal == Refusal::Address;
        issues.push(format!("webhookUrls.{at}: It would never be called, because {refusal}"));
    }
    if issues.is_empty() {
        return Ok(());
    }
    let refused = ApiError::invalid_input(issues.join(", "));
    Err(refused.advise(if is_private {
        "Use a public address, or start the node with webhooks.allow_private \
         (FANFARE_WEBHOOKS_ALLOW_PRIVATE) set to true"
    } else {
        "Use a URL that begins with https:// or http://"
    }))
}

/// Reads a field that `null` clears and that stays unchanged if it is absent.
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

/// Checks InsForge's rule, `^[a-zA-Z0-9-]+(:[a-zA-Z0-9%:-]+)*$`, extended: `_` and `.` are allowed
/// too, and both wildcards anywhere. As in InsForge, the error text does not name the field.
fn check_pattern(pattern: &str) -> Result<(), ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '%' | '*');
    let any = |c: char| plain(c) || c == ':';
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
        "Invalid channel pattern. Use alphanumeric characters, hyphens, underscores, dots, colons \
         between them, and * or % for wildcards.",
    ))
}
