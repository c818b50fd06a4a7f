//! What callers of Forge Realtime may say, be it over HTTP or over sockets.

use std::fmt;

use super::Entity;
use crate::limits::FORGE_CHANNEL_BYTES_MAX;

/// What callers are told whose overrides are no array of properties that there are, in the words of
/// Forge's own client.
pub const OVERRIDES_PROBLEM: &str =
    "Invalid value for contextOverrides. Please provide an array of valid context properties.";

/// What is wrong with the name of a Forge channel, or `None`. Any other text is one, byte for byte.
pub fn forge_channel_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("String must contain at least 1 character(s)");
    }
    if name.len() > FORGE_CHANNEL_BYTES_MAX {
        return Some("String must contain at most 255 byte(s)");
    }
    name.contains(char::is_control).then_some("String must not contain control characters")
}

const _: () = assert!(FORGE_CHANNEL_BYTES_MAX == 255, "the message above names the bound");

/// The entities that overrides name, each once; an item is `None` where it is no string. `None`
/// where one of them is no name of an entity ([`OVERRIDES_PROBLEM`]). No names at all are overrides
/// too, and not the same as none being given.
pub fn overrides<'n>(names: impl IntoIterator<Item = Option<&'n str>>) -> Option<Vec<Entity>> {
    let mut entities = Vec::new();
    for name in names {
        let entity = Entity::named(name?)?;
        if !entities.contains(&entity) {
            entities.push(entity);
        }
    }
    Some(entities)
}

/// Why a realtime token gives nothing. Its text is what callers are told, whatever the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenError {
    /// It is no realtime token of this installation.
    Invalid,
    /// It was one.
    Expired,
    /// It is for another channel.
    ChannelMismatch,
    /// It is for something else on this channel.
    MissingPermission,
}

impl TokenError {
    /// As callers are told.
    pub fn code(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID_TOKEN",
            Self::Expired => "TOKEN_EXPIRED",
            Self::ChannelMismatch => "CHANNEL_NAME_MISMATCH",
            Self::MissingPermission => "MISSING_PERMISSION",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Realtime token validation failed: {}", self.code())
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_nearly_any_name() {
        let longest = "é".repeat(127) + "x";
        for name in ["a", " ", "a:b/*", "é😀", "\u{a0}", "\u{2028}", &longest] {
            assert_eq!(forge_channel_problem(name), None, "{name:?}");
        }
        let control = Some("String must not contain control characters");
        for name in ["a\n", "\0", "\u{7f}", "\u{85}"] {
            assert_eq!(forge_channel_problem(name), control, "{name:?}");
        }
        assert_eq!(forge_channel_problem(""), Some("String must contain at least 1 character(s)"));
        let long = Some("String must contain at most 255 byte(s)");
        assert_eq!(forge_channel_problem(&"é".repeat(128)), long);
    }

    #[test]
    fn overrides_are_a_set_of_names() {
        let named = |names: &[&str]| overrides(names.iter().map(|name| Some(*name)));
        assert_eq!(named(&[]), Some(vec![]));
        let both = Some(vec![Entity::Issue, Entity::Project]);
        assert_eq!(named(&["issue", "project", "issue"]), both);
        let all = Entity::ALL.map(|entity| Some(entity.name()));
        assert_eq!(overrides(all).map(|entities| entities.len()), Some(7));
        for names in [&["Issue"][..], &[""], &["issue", "user"], &["issue "]] {
            assert_eq!(named(names), None, "{names:?}");
        }
        assert_eq!(overrides([Some("issue"), None]), None);
    }
}
