//! Channel definitions and how they change.

use uuid::Uuid;

use super::Millis;

/// A channel definition, as administrators keep it: names that match its pattern may be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelDefinition {
    /// Its id.
    pub id: Uuid,
    /// A name, or a pattern in which `*` and `%` stand for any run of characters.
    pub pattern: String,
    /// For people.
    pub description: Option<String>,
    /// Where publications are posted.
    pub webhook_urls: Option<Vec<String>>,
    /// A disabled definition matches nothing.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}

/// What an update says of a field that may be without a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<T> {
    /// The field was not mentioned.
    Unchanged,
    /// It was `null`.
    Cleared,
    /// It has a new value.
    Set(T),
}

impl<T> Change<T> {
    /// The field after the change.
    pub fn or(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Unchanged => before,
            Self::Cleared => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// A change to a channel. One without any field is legal, and still counts as an update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelChange {
    /// The new pattern, `None` to keep it.
    pub pattern: Option<String>,
    /// What becomes of the description.
    pub description: Change<String>,
    /// What becomes of the webhook URLs.
    pub webhook_urls: Change<Vec<String>>,
    /// Whether it is to be enabled, `None` to keep it.
    pub enabled: Option<bool>,
}

impl ChannelChange {
    /// The definition after the change, made now.
    pub fn apply(self, before: &ChannelDefinition, now: Millis) -> ChannelDefinition {
        ChannelDefinition {
            id: before.id,
            pattern: self.pattern.unwrap_or_else(|| before.pattern.clone()),
            description: self.description.or(before.description.clone()),
            webhook_urls: self.webhook_urls.or(before.webhook_urls.clone()),
            enabled: self.enabled.unwrap_or(before.enabled),
            created_at: before.created_at,
            updated_at: now,
        }
    }
}
