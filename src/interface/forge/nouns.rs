//! The nouns of Forge's room: contexts, their entities, names of channels, and errors of realtime
//! tokens.

use std::fmt;

use super::limits::CHANNEL_BYTES_MAX;

/// A kind of object that a context can name, and that a caller may select for its scope.
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
    /// All entities, in alphabetical order of their names.
    pub const ALL: [Self; 7] = [
        Self::Board,
        Self::Content,
        Self::Issue,
        Self::Project,
        Self::PullRequest,
        Self::Repository,
        Self::Space,
    ];

    /// Returns the name that contexts and overrides use.
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

    /// Returns the entity of that name; `None` for other names. Case matters.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entity| entity.name() == name)
    }
}

/// A proved context: a trusted issuer has signed it, or a platform has registered it. Nothing in it
/// is the caller's own assertion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// The installation of the app. No channel reaches beyond it.
    pub installation: Box<str>,
    /// The user's account, for audit only: all users in one place share its channels.
    pub account: Option<Box<str>>,
    /// The default scope, unless the caller selects entities: canonical JSON (RFC 8785) of module,
    /// entities and the host's own key.
    pub place: Box<str>,
    /// The entities in the context, each with the canonical JSON of its identity, in the order of
    /// [`Entity::ALL`].
    pub entities: Box<[(Entity, Box<str>)]>,
    /// Whether it may subscribe to global channels; `None` if its token has no `scopes`.
    pub reads_global: Option<bool>,
    /// Whether the context has a user interface. Without one, callers publish on global channels
    /// only.
    pub is_ui: bool,
    /// When the proof expires, in seconds since the epoch.
    pub expires_at: u64,
}

impl Context {
    /// Returns whether both contexts have the same place in the same installation.
    pub fn is_same_place(&self, other: &Self) -> bool {
        (&self.installation, &self.place) == (&other.installation, &other.place)
    }
}

/// The error for overrides that are not an array of known names, in the words of Forge's own
/// client.
pub const OVERRIDES_PROBLEM: &str =
    "Invalid value for contextOverrides. Please provide an array of valid context properties.";

/// Returns what is wrong with the name of a Forge channel; `None` if it is valid. Names are
/// compared byte for byte.
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

/// Returns the entities that overrides name, without repetitions. A name is `None` if it is not a
/// string. The result is `None` if a name is not that of an entity ([`OVERRIDES_PROBLEM`]). An
/// empty list is a valid override and differs from absent overrides.
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

/// Why a realtime token is refused. Callers receive the text over HTTP and over WebSockets. If
/// several reasons apply, the first in this order is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenError {
    /// The token is malformed, is not signed by this node's key, or is for another installation.
    Invalid,
    /// The token has expired.
    Expired,
    /// The token is for another channel.
    ChannelMismatch,
    /// The token does not permit this action on the channel.
    MissingPermission,
}

impl TokenError {
    /// Returns the code that callers receive.
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
