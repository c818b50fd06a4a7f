//! Channel definitions and changes to them.

use uuid::Uuid;

use super::Millis;

/// A channel definition, which administrators keep: channels whose names match its pattern may be
/// used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelDefinition {
    /// The id, by which administrators change the definition.
    pub id: Uuid,
    /// A name, or a pattern in which `*` and `%` each match any run of characters.
    pub pattern: String,
    /// Free text for administrators.
    pub description: Option<String>,
    /// The URLs to which publications are posted.
    pub webhook_urls: Option<Vec<String>>,
    /// A disabled definition matches no name.
    pub enabled: bool,
    /// The behaviour of its channels.
    pub options: ChannelOptions,
    /// The time of its creation.
    pub created_at: Millis,
    /// The time of its last change.
    pub updated_at: Millis,
}

#[cfg(test)]
impl ChannelDefinition {
    /// Returns the definition with this number, of channels with the default options.
    pub(crate) fn numbered(number: u128, pattern: &str) -> Self {
        Self {
            id: Uuid::from_u128(number),
            pattern: pattern.to_owned(),
            description: None,
            webhook_urls: None,
            enabled: true,
            options: ChannelOptions::default(),
            created_at: 0,
            updated_at: 0,
        }
    }
}

/// The behaviour of a definition's channels. The default is that of the original.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChannelOptions {
    /// Publications are only fanned out: they reach neither history nor webhooks.
    pub ephemeral: bool,
    /// The news of presence that subscribers receive.
    pub presence: PresenceMode,
    /// The treatment of subscribers that do not keep up.
    pub slow_consumer: SlowConsumer,
    /// The publications that a channel keeps for later subscribers.
    pub retain: Retain,
    /// Publications a second of all clients of one channel together, at most
    /// [`RATE_LIMIT_MAX`](crate::limits::RATE_LIMIT_MAX); 0 for no limit.
    pub rate_limit: u32,
    /// The order of its publications in a cluster.
    pub order: ChannelOrder,
}

/// The order of a channel's publications in a cluster. A node alone has one order in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ChannelOrder {
    /// One order for all nodes, which a stream of the cluster gives.
    #[default]
    Cluster,
    /// Each node has an order of its own: what is published on a node is heard there only.
    Local,
}

impl ChannelOrder {
    /// All orders, among which [`Self::named`] searches.
    pub const ALL: [Self; 2] = [Self::Cluster, Self::Local];

    /// Returns the order's name in requests and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Local => "local",
        }
    }

    /// Returns the order of a name; `None` if there is no such order.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.name() == name)
    }
}

/// The publications that a channel keeps for later subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Retain {
    /// Nothing is kept for later subscribers.
    #[default]
    None,
    /// The last publication, while the channel has a subscriber. It is a copy of what the store
    /// has, so it may be missing.
    Last,
    /// The publications of the last seconds.
    Window {
        /// At least 1 and at most [`REPLAY_SECONDS_MAX`](crate::limits::REPLAY_SECONDS_MAX).
        seconds: u32,
    },
}

impl Retain {
    /// Returns a window of this length, or [`Retain::None`] for 0 seconds.
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

/// The news of presence that subscribers receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PresenceMode {
    /// The members when they subscribe, and each later join and leave.
    #[default]
    Full,
    /// The number of members when they subscribe.
    Count,
    /// Nothing: neither members nor joins and leaves.
    Off,
}

impl PresenceMode {
    /// All modes, among which [`Self::named`] searches.
    pub const ALL: [Self; 3] = [Self::Full, Self::Count, Self::Off];

    /// Returns the mode's name in requests and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Count => "count",
            Self::Off => "off",
        }
    }

    /// Returns the mode of a name; `None` if there is no such mode.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// The treatment of a subscriber whose outbox is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SlowConsumer {
    /// Its connection is closed. It may connect again.
    #[default]
    Close,
    /// The channel's oldest queued publications are dropped, and a gap notice is sent.
    DropOldest,
    /// Of the channel's queued publications only the latest of each event name is sent, with a gap
    /// notice.
    Latest,
}

impl SlowConsumer {
    /// All choices, among which [`Self::named`] searches.
    pub const ALL: [Self; 3] = [Self::Close, Self::DropOldest, Self::Latest];

    /// Returns the choice's name in requests and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::DropOldest => "drop_oldest",
            Self::Latest => "latest",
        }
    }

    /// Returns the choice of a name; `None` if there is no such choice.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }
}

/// An update of [`ChannelOptions`]. `None` leaves an option as it is.
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
    /// See [`ChannelOptions::order`].
    pub order: Option<ChannelOrder>,
}

impl OptionsChange {
    /// Returns the options after the change.
    pub fn apply(self, before: ChannelOptions) -> ChannelOptions {
        ChannelOptions {
            ephemeral: self.ephemeral.unwrap_or(before.ephemeral),
            presence: self.presence.unwrap_or(before.presence),
            slow_consumer: self.slow_consumer.unwrap_or(before.slow_consumer),
            retain: self.retain.unwrap_or(before.retain),
            rate_limit: self.rate_limit.unwrap_or(before.rate_limit),
            order: self.order.unwrap_or(before.order),
        }
    }
}

/// An update of an optional field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<T> {
    /// The update does not name the field.
    Unchanged,
    /// The update sets the field to `null`.
    Cleared,
    /// The update sets the field to this value.
    Set(T),
}

impl<T> Change<T> {
    /// Returns the field after the change.
    pub fn or(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Unchanged => before,
            Self::Cleared => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// An update of a definition. An update without any field is legal, and also sets the time of the
/// last change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelChange {
    /// The new pattern; `None` keeps it.
    pub pattern: Option<String>,
    /// The change of the description.
    pub description: Change<String>,
    /// The change of the webhook URLs.
    pub webhook_urls: Change<Vec<String>>,
    /// Whether the definition becomes enabled or disabled; `None` keeps it.
    pub enabled: Option<bool>,
    /// The change of the options.
    pub options: OptionsChange,
}

impl ChannelDefinition {
    /// Returns what is contradictory in the definition; `None` if nothing is.
    pub fn problem(&self) -> Option<&'static str> {
        let calls = self.webhook_urls.as_ref().is_some_and(|urls| !urls.is_empty());
        (self.options.ephemeral && calls).then_some(EPHEMERAL_CALLS)
    }
}

const EPHEMERAL_CALLS: &str =
    "webhookUrls: An ephemeral channel calls no webhooks; leave one of the two out";

impl ChannelChange {
    /// Returns the definition after the change, with `now` as the time of its last change.
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
