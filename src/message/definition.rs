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
    /// How its channels behave.
    pub options: ChannelOptions,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}

/// How the channels of a definition behave. The default is what the original does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChannelOptions {
    /// Publications are fanned out and nothing else: no history, no webhooks.
    pub ephemeral: bool,
    /// What subscribers learn of each other.
    pub presence: PresenceMode,
    /// What becomes of a subscriber that does not keep up.
    pub slow_consumer: SlowConsumer,
    /// What a channel keeps of its publications for later subscribers.
    pub retain: Retain,
    /// Publications a second that the clients of one channel may make, all of them together, at
    /// most [`RATE_LIMIT_MAX`](crate::limits::RATE_LIMIT_MAX); 0 for as many as they like.
    pub rate_limit: u32,
}

/// What a channel keeps of its publications for later subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Retain {
    /// Nothing.
    #[default]
    None,
    /// The last publication, as long as the channel has a subscriber. It is a copy of what the
    /// store has, so that it may be missing.
    Last,
    /// The publications of the last seconds.
    Window {
        /// At least 1 and at most [`REPLAY_SECONDS_MAX`](crate::limits::REPLAY_SECONDS_MAX).
        seconds: u32,
    },
}

impl Retain {
    /// Returns a window of so many seconds; `None` for 0 seconds.
    pub fn window(seconds: u32) -> Self {
        if seconds == 0 { Self::None } else { Self::Window { seconds } }
    }

    /// Returns the length of the window in seconds; 0 if there is no window.
    pub fn seconds(self) -> u32 {
        match self {
            Self::Window { seconds } => seconds,
            Self::None | Self::Last => 0,
        }
    }
}

/// What subscribers learn of each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PresenceMode {
    /// Who is there, who joins and who leaves.
    #[default]
    Full,
    /// How many are there, when they subscribe.
    Count,
    /// Nothing.
    Off,
}

impl PresenceMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Count, Self::Off];

    /// As the interface and the store write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Count => "count",
            Self::Off => "off",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// What becomes of a subscriber whose outbox is at its bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SlowConsumer {
    /// It is closed, and may come again.
    #[default]
    Close,
    /// It loses the channel's oldest publications that wait, and is told so.
    DropOldest,
    /// Of the channel's publications that wait it gets the latest of each event name.
    Latest,
}

impl SlowConsumer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Close, Self::DropOldest, Self::Latest];

    /// As the interface and the store write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::DropOldest => "drop_oldest",
            Self::Latest => "latest",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.name() == name)
    }
}

/// What an update says of the options: those that are not mentioned stay as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OptionsChange {
    /// See [`ChannelOptions::ephemeral`].
    pub ephemeral: Option<bool>,
    /// See [`ChannelOptions::presence`].
    pub presence: Option<PresenceMode>,
    /// See [`ChannelOptions::slow_consumer`].
    pub slow_consumer: Option<SlowConsumer>,
    /// See [`ChannelOptions::retain`].
    pub retain: Option<Retain>,
    /// See [`ChannelOptions::rate_limit`].
    pub rate_limit: Option<u32>,
}

impl OptionsChange {
    /// The options after the change.
    pub fn apply(self, before: ChannelOptions) -> ChannelOptions {
        ChannelOptions {
            ephemeral: self.ephemeral.unwrap_or(before.ephemeral),
            presence: self.presence.unwrap_or(before.presence),
            slow_consumer: self.slow_consumer.unwrap_or(before.slow_consumer),
            retain: self.retain.unwrap_or(before.retain),
            rate_limit: self.rate_limit.unwrap_or(before.rate_limit),
        }
    }
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
    /// What becomes of the options.
    pub options: OptionsChange,
}

impl ChannelDefinition {
    /// What contradicts itself in it, if anything does.
    pub fn problem(&self) -> Option<&'static str> {
        let calls = self.webhook_urls.as_ref().is_some_and(|urls| !urls.is_empty());
        (self.options.ephemeral && calls).then_some(EPHEMERAL_CALLS)
    }
}

const EPHEMERAL_CALLS: &str =
    "webhookUrls: An ephemeral channel calls no webhooks; leave one of the two out";

impl ChannelChange {
    /// The definition after the change, made now.
    pub fn apply(self, before: &ChannelDefinition, now: Millis) -> ChannelDefinition {
        ChannelDefinition {
            id: before.id,
            pattern: self.pattern.unwrap_or_else(|| before.pattern.clone()),
            description: self.description.or(before.description.clone()),
            webhook_urls: self.webhook_urls.or(before.webhook_urls.clone()),
            enabled: self.enabled.unwrap_or(before.enabled),
            options: self.options.apply(before.options),
            created_at: before.created_at,
            updated_at: now,
        }
    }
}
