//! The words of Forge's room: where a caller is, what it may select, and why a token is refused.

use std::fmt;

use super::limits::CHANNEL_BYTES_MAX;

/// A property of a context that a caller may select to be its scope.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Entity {
    /// Jira's `board`.
    Board,
    /// Confluence's `content`.
    Content,
    /// Jira's `issue`.
    Issue,
    /// Jira's `project`.
    Project,
    /// Bitbucket's `pullRequest`.
    PullRequest,
    /// Bitbucket's `repository`.
    Repository,
    /// Confluence's `space`.
    Space,
}

impl Entity {
    /// All of them, by name.
    pub const ALL: [Self; 7] = [
        Self::Board,
        Self::Content,
        Self::Issue,
        Self::Project,
        Self::PullRequest,
        Self::Repository,
        Self::Space,
    ];

    /// As contexts and overrides write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Board => "board",
            Self::Content => "content",
            Self::Issue => "issue",
            Self::Project => "project",
            Self::PullRequest => "pullRequest",
            Self::Repository => "repository",
            Self::Space => "space",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entity| entity.name() == name)
    }
}

/// A context that was proved. Nothing in it is asserted by the caller itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// The installation of an app, which bounds everything.
    pub installation: Box<str>,
    /// On whose behalf, for audit only: users in one place share their channels.
    pub account: Option<Box<str>>,
    /// The scope that it has unless the caller selects another one: canonical JSON (RFC 8785) of
    /// module, entities and the host's own key.
    pub place: Box<str>,
    /// The entities that it has, each with the canonical JSON of its identity, in the order of
    /// [`Entity::ALL`].
    pub entities: Box<[(Entity, Box<str>)]>,
    /// Whether it may hear global channels, where its token says anything of scopes.
    pub reads_global: Option<bool>,
    /// Whether a user interface is behind it: others publish on global channels only.
    pub is_ui: bool,
    /// When its proof expires, in seconds since the epoch.
    pub expires_at: u64,
}

impl Context {
    /// Whether both are the same place of the same installation.
    pub fn is_same_place(&self, other: &Self) -> bool {
        (&self.installation, &self.place) == (&other.installation, &other.place)
    }
}

/// What callers are told whose overrides are no array of properties that there are, in the words of
/// Forge's own client.
pub const OVERRIDES_PROBLEM: &str =
    "Invalid value for contextOverrides. Please provide an array of valid context properties.";

/// What is wrong with the name of a Forge channel, or `None`. Any other text is one, byte for byte.
pub fn channel_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("String must contain at least 1 character(s)");
    }
    if name.len() > CHANNEL_BYTES_MAX {
        return Some("String must contain at most 255 byte(s)");
    }
    name.contains(char::is_control).then_some("String must not contain control characters")
}

const _: () = assert!(CHANNEL_BYTES_MAX == 255, "the message above names the bound");

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
            assert_eq!(channel_problem(name), None, "{name:?}");
        }
        let control = Some("String must not contain control characters");
        for name in ["a\n", "\0", "\u{7f}", "\u{85}"] {
            assert_eq!(channel_problem(name), control, "{name:?}");
        }
        assert_eq!(channel_problem(""), Some("String must contain at least 1 character(s)"));
        let long = Some("String must contain at most 255 byte(s)");
        assert_eq!(channel_problem(&"é".repeat(128)), long);
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
