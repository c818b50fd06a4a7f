//! What administrators set for all nodes of a cluster: entries of a bucket that all nodes follow,
//! each under a key of its own.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{
    Action, ChannelDefinition, ChannelOptions, ChannelOrder, Millis, Permissions, Policy,
    PolicyCommand, PresenceMode, Retain, SlowConsumer,
};

/// The start of the keys of channel definitions; the id follows.
const CHANNEL: &str = "channel.";
const PERMISSIONS: &str = "permissions";
const RETENTION: &str = "retention";

/// The key of an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Key {
    /// The channel definition with this id.
    Channel(Uuid),
    /// All policies.
    Permissions,
    /// How long history is kept.
    Retention,
}

impl Key {
    /// Returns the key as the bucket has it.
    pub fn text(self) -> String {
        match self {
            Self::Channel(id) => format!("{CHANNEL}{id}"),
            Self::Permissions => PERMISSIONS.to_owned(),
            Self::Retention => RETENTION.to_owned(),
        }
    }

    /// Reads a key; `None` if it is not of this release.
    pub fn read(text: &str) -> Option<Self> {
        match text {
            PERMISSIONS => Some(Self::Permissions),
            RETENTION => Some(Self::Retention),
            _ => Uuid::try_parse(text.strip_prefix(CHANNEL)?).ok().map(Self::Channel),
        }
    }
}

/// What the bucket has under a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A channel definition.
    Channel(ChannelDefinition),
    /// All policies.
    Permissions(Permissions),
    /// For how many days history is kept; `None` for ever.
    Retention(Option<u32>),
}

impl Entry {
    /// Returns where the entry belongs. A later entry with the same key replaces it.
    pub fn key(&self) -> Key {
        match self {
            Self::Channel(definition) => Key::Channel(definition.id),
            Self::Permissions(_) => Key::Permissions,
            Self::Retention(_) => Key::Retention,
        }
    }

    /// Returns whether a node has this without being told.
    pub fn is_default(&self) -> bool {
        match self {
            Self::Channel(_) => false,
            Self::Permissions(permissions) => *permissions == Permissions::default(),
            Self::Retention(days) => days.is_none(),
        }
    }

    /// Returns the entry as JSON text.
    pub fn encode(&self) -> String {
        let text = match self {
            Self::Channel(definition) => serde_json::to_string(&ChannelText::from(definition)),
            Self::Permissions(permissions) => {
                serde_json::to_string(&PermissionsText::from(permissions))
            }
            Self::Retention(days) => serde_json::to_string(&RetentionText { days: *days }),
        };
        text.expect("structs of strings and numbers serialize")
    }

    /// Reads the entry under a key; `None` if it is not as this release writes it. Members that
    /// this release does not know are passed over.
    pub fn decode(key: Key, text: &[u8]) -> Option<Self> {
        Some(match key {
            Key::Channel(id) => {
                Self::Channel(serde_json::from_slice::<ChannelText>(text).ok()?.read(id)?)
            }
            Key::Permissions => {
                let PermissionsText { subscribe, publish } = serde_json::from_slice(text).ok()?;
                let read = |side: Vec<PolicyText>| side.into_iter().map(PolicyText::read).collect();
                let (subscribe, publish): (Option<_>, Option<_>) = (read(subscribe), read(publish));
                Self::Permissions(Permissions { subscribe: subscribe?, publish: publish? })
            }
            Key::Retention => {
                Self::Retention(serde_json::from_slice::<RetentionText>(text).ok()?.days)
            }
        })
    }
}

#[derive(Serialize, Deserialize)]
struct ChannelText {
    pattern: String,
    description: Option<String>,
    webhook_urls: Option<Vec<String>>,
    enabled: bool,
    ephemeral: bool,
    presence: String,
    slow_consumer: String,
    replay_seconds: u32,
    rate_limit: u32,
    order: String,
    created_at: Millis,
    updated_at: Millis,
}

impl From<&ChannelDefinition> for ChannelText {
    fn from(definition: &ChannelDefinition) -> Self {
        let ChannelOptions { ephemeral, presence, slow_consumer, retain, rate_limit, order } =
            definition.options;
        Self {
            pattern: definition.pattern.clone(),
            description: definition.description.clone(),
            webhook_urls: definition.webhook_urls.clone(),
            enabled: definition.enabled,
            ephemeral,
            presence: presence.name().to_owned(),
            slow_consumer: slow_consumer.name().to_owned(),
            replay_seconds: retain.seconds(),
            rate_limit,
            order: order.name().to_owned(),
            created_at: definition.created_at,
            updated_at: definition.updated_at,
        }
    }
}

impl ChannelText {
    fn read(self, id: Uuid) -> Option<ChannelDefinition> {
        let options = ChannelOptions {
            ephemeral: self.ephemeral,
            presence: PresenceMode::named(&self.presence)?,
            slow_consumer: SlowConsumer::named(&self.slow_consumer)?,
            retain: Retain::window(self.replay_seconds),
            rate_limit: self.rate_limit,
            order: ChannelOrder::named(&self.order)?,
        };
        Some(ChannelDefinition {
            id,
            pattern: self.pattern,
            description: self.description,
            webhook_urls: self.webhook_urls,
            enabled: self.enabled,
            options,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct PermissionsText {
    subscribe: Vec<PolicyText>,
    publish: Vec<PolicyText>,
}

impl From<&Permissions> for PermissionsText {
    fn from(permissions: &Permissions) -> Self {
        let side = |action| permissions.side(action).iter().map(PolicyText::from).collect();
        Self { subscribe: side(Action::Subscribe), publish: side(Action::Publish) }
    }
}

#[derive(Serialize, Deserialize)]
struct PolicyText {
    name: String,
    command: String,
    roles: Vec<String>,
    using: Option<String>,
    with_check: Option<String>,
}

impl From<&Policy> for PolicyText {
    fn from(policy: &Policy) -> Self {
        let Policy { name, command, roles, using, with_check } = policy.clone();
        Self { name, command: command.name().to_owned(), roles, using, with_check }
    }
}

impl PolicyText {
    fn read(self) -> Option<Policy> {
        let Self { name, command, roles, using, with_check } = self;
        Some(Policy { name, command: PolicyCommand::named(&command)?, roles, using, with_check })
    }
}

#[derive(Serialize, Deserialize)]
struct RetentionText {
    days: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> [Entry; 4] {
        let definition = ChannelDefinition {
            id: Uuid::from_u128(7),
            pattern: "order:\"*".into(),
            description: None,
            webhook_urls: Some(vec!["https://a.example/".into()]),
            enabled: false,
            options: ChannelOptions {
                presence: PresenceMode::Count,
                slow_consumer: SlowConsumer::Latest,
                retain: Retain::window(9),
                rate_limit: 3,
                order: ChannelOrder::Local,
                ephemeral: false,
            },
            created_at: 5,
            updated_at: 6,
        };
        let policy = Policy {
            name: "own".into(),
            command: PolicyCommand::All,
            roles: vec!["anon".into()],
            using: Some("true".into()),
            with_check: None,
        };
        let permissions = Permissions { subscribe: vec![policy], publish: vec![] };
        [
            Entry::Channel(definition),
            Entry::Permissions(permissions),
            Entry::Retention(None),
            Entry::Retention(Some(3)),
        ]
    }

    #[test]
    fn entries_are_read_back() {
        for entry in entries() {
            let (key, text) = (entry.key(), entry.encode());
            assert_eq!(Key::read(&key.text()), Some(key));
            assert_eq!(Entry::decode(key, text.as_bytes()), Some(entry));
        }
    }

    #[test]
    fn what_a_later_release_adds_is_passed_over_and_other_values_are_not_guessed() {
        let [Entry::Channel(definition), ..] = entries() else { panic!("it is the first") };
        let (key, text) =
            (Key::Channel(definition.id), Entry::Channel(definition.clone()).encode());
        let more = text.replacen('{', "{\"later\":1,", 1);
        assert_eq!(Entry::decode(key, more.as_bytes()), Some(Entry::Channel(definition)));
        let other = text.replace("\"count\"", "\"later\"");
        assert_eq!(Entry::decode(key, other.as_bytes()), None);
        assert_eq!(Entry::decode(key, b"{}"), None);
        assert_eq!(Key::read("channel.x"), None);
        assert_eq!(Key::read("later"), None);
    }
}
