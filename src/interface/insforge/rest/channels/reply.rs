//! Replies that show channel definitions.

use std::sync::Arc;

use serde::{Serialize, Serializer as _};

use crate::interface::rest::Reply;
use crate::message::{ChannelDefinition, iso_millis};

impl Reply {
    /// Returns 200 with one definition, which was read or updated.
    pub fn channel(definition: &ChannelDefinition) -> Self {
        Self::json(200, &ChannelJson::from(definition))
    }

    /// Returns 201 with the definition that was created.
    pub fn channel_created(definition: &ChannelDefinition) -> Self {
        Self::json(201, &ChannelJson::from(definition))
    }

    /// Returns 200 with definitions in the given order. Callers expect the newest first.
    pub fn channels(definitions: &[Arc<ChannelDefinition>]) -> Self {
        let mut body = Vec::with_capacity(256 * definitions.len() + 2);
        serde_json::Serializer::new(&mut body)
            .collect_seq(definitions.iter().map(|one| ChannelJson::from(&**one)))
            .expect("writing structs of strings and numbers to memory succeeds");
        let body = String::from_utf8(body).expect("JSON is UTF-8");
        Self::of(200, body)
    }

    /// Returns 200 with the message that the channel was deleted.
    pub fn channel_deleted() -> Self {
        Self::of(200, DELETED.into())
    }
}

const DELETED: &str = r#"{"message":"Channel deleted"}"#;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChannelJson<'a> {
    id: String,
    pattern: &'a str,
    description: Option<&'a str>,
    webhook_urls: Option<&'a [String]>,
    enabled: bool,
    // An option is left out if it has its default, so a definition without options looks like
    // InsForge's.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<&'static str>,
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
            order: (!is_default(&options.order)).then(|| options.order.name()),
            created_at: iso_millis(definition.created_at),
            updated_at: iso_millis(definition.updated_at),
        }
    }
}
