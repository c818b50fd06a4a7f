//! What a token is for. No token of one kind passes for another one.

use serde_json::Value;

/// The kinds of tokens that say more than who a user is, as their `aud` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Proves where a subscriber of Forge is.
    Context,
    /// Proves where a publisher of Forge was invoked.
    Invocation,
    /// Proves that a caller is the back end of an installation of Forge.
    Service,
    /// Opens one channel of Forge with claims of its own; only the node itself signs it.
    Channel,
    /// Proves that a caller may write M2's documents of an organization.
    M2Writer,
}

impl Audience {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Context, Self::Invocation, Self::Service, Self::Channel, Self::M2Writer];

    /// As `aud` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Context => "realtime",
            Self::Invocation => "realtime-invocation",
            Self::Service => "realtime-service",
            Self::Channel => "realtime-channel",
            Self::M2Writer => "m2-writer",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|audience| audience.name() == name)
    }

    /// The audience of a token, from its `aud`: a name, or a list of names (RFC 7519 section 4.1.3)
    /// of which the others are no concern of ours. A token for several purposes of ours is for
    /// none.
    pub(crate) fn of(aud: &Value) -> Option<Self> {
        let Value::Array(names) = aud else { return Self::named(aud.as_str()?) };
        let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
        let mut found = names?.into_iter().filter_map(Self::named);
        let first = found.next()?;
        found.all(|other| other == first).then_some(first)
    }

    /// Whether a token is for any of these purposes, whatever else its `aud` holds.
    pub(crate) fn is_named_in(aud: &Value) -> bool {
        let is_ours = |name: &Value| name.as_str().and_then(Self::named).is_some();
        is_ours(aud) || aud.as_array().is_some_and(|names| names.iter().any(is_ours))
    }
}
