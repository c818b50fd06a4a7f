//! Audiences of tokens. No token of one kind passes for another one.

use serde_json::Value;

/// A purpose of tokens that the node reserves for itself, named by their `aud`. A token with such a
/// purpose never says who a user is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Audience(&'static str);

impl Audience {
    /// Creates the purpose that `aud` calls `name`.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Returns the name that `aud` holds.
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// All purposes that one node reserves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserved(pub(super) &'static [Audience]);

impl Reserved {
    fn named(self, name: &str) -> Option<Audience> {
        self.0.iter().copied().find(|audience| audience.0 == name)
    }

    /// Returns the reserved purpose of a token from its `aud`: a name, or a list of names (RFC 7519
    /// section 4.1.3). Names that are not reserved are ignored. A token that names two reserved
    /// purposes has none.
    pub(super) fn of(self, aud: &Value) -> Option<Audience> {
        let Value::Array(names) = aud else { return self.named(aud.as_str()?) };
        let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
        let mut found = names?.into_iter().filter_map(|name| self.named(name));
        let first = found.next()?;
        found.all(|other| other == first).then_some(first)
    }

    /// Returns whether `aud` names a reserved purpose, whatever else it holds.
    pub(super) fn is_named_in(self, aud: &Value) -> bool {
        let is_reserved = |name: &Value| name.as_str().and_then(|name| self.named(name)).is_some();
        is_reserved(aud) || aud.as_array().is_some_and(|names| names.iter().any(is_reserved))
    }
}
