//! Authentication of a client by the JSON of its Socket.IO CONNECT packet.
//!
//! The packet comes from a client that is not authenticated yet, and it may be as long as a
//! message. The parser therefore skips members that it does not need, without allocating them.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::auth::{AuthError, Authenticator, TokenProblem};
use crate::message::Credential;

impl Authenticator {
    /// Authenticates a client by the JSON of its Socket.IO CONNECT packet, which may be empty, at
    /// `now_s` seconds since the epoch. If `apiKey` is truthy in JavaScript, it alone decides;
    /// otherwise the `token` does.
    ///
    /// # Errors
    /// If the packet has neither or the one that decides is invalid. The text of the error is the
    /// message of `CONNECT_ERROR`.
    pub fn connect(&mut self, auth_json: &str, now_s: u64) -> Result<Arc<Credential>, AuthError> {
        let handshake = Handshake::parse(auth_json).ok_or(AuthError::Nothing)?;
        match &handshake.api_key {
            Field::Falsy => {}
            Field::Text(key) => return self.api_key(key),
            Field::Other => return Err(AuthError::ApiKey),
        }
        match &handshake.token {
            Field::Falsy => Err(AuthError::Nothing),
            Field::Text(token) => self.token(token, now_s),
            Field::Other => Err(AuthError::Token(TokenProblem::Malformed)),
        }
    }
}

/// The value of a member, by its truthiness in JavaScript.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum Field {
    /// Absent, null, false, 0 or the empty string.
    #[default]
    Falsy,
    /// A non-empty string.
    Text(String),
    /// Any other truthy value.
    Other,
}

/// The members of the packet that authentication uses. If a name is repeated, its last member
/// counts, as in JavaScript.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Handshake {
    api_key: Field,
    token: Field,
}

impl Handshake {
    /// Parses the text of one JSON object. Returns `None` for any other text.
    fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

impl<'de> Deserialize<'de> for Handshake {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HandshakeVisitor)
    }
}

struct HandshakeVisitor;

impl<'de> Visitor<'de> for HandshakeVisitor {
    type Value = Handshake;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Handshake, A::Error> {
        let mut handshake = Handshake::default();
        while let Some(name) = members.next_key::<String>()? {
            match name.as_str() {
                "apiKey" => handshake.api_key = members.next_value()?,
                "token" => handshake.token = members.next_value()?,
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(handshake)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Falsy)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field, E> {
        Ok(truth(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Field, E> {
        Ok(truth(value != 0))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Field, E> {
        Ok(truth(value != 0))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Field, E> {
        Ok(truth(value != 0.0))
    }

    fn visit_str<E>(self, value: &str) -> Result<Field, E> {
        Ok(if value.is_empty() { Field::Falsy } else { Field::Text(value.to_owned()) })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Field, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

fn truth(value: bool) -> Field {
    if value { Field::Other } else { Field::Falsy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truthiness_is_javascripts() {
        let field = |json: &str| serde_json::from_str::<Field>(json).unwrap();
        for json in ["null", "false", "0", "-0", "0.0", "-0.0", "0e5", "\"\""] {
            assert_eq!(field(json), Field::Falsy, "{json}");
        }
        for json in ["true", "1", "-1", "0.5", "1e300", "[]", "[[1],{}]", "{}", "{\"a\":[1]}"] {
            assert_eq!(field(json), Field::Other, "{json}");
        }
        assert_eq!(field("\"0\""), Field::Text("0".into()));
        assert_eq!(field("\"\\u0061\""), Field::Text("a".into()));
    }

    #[test]
    fn the_last_of_equal_names_counts_and_the_rest_is_skipped() {
        let json = r#" {"x":{"token":"no"},"token":"a","token":"b","apiKey":0} "#;
        let handshake = Handshake::parse(json).unwrap();
        assert_eq!(handshake.token, Field::Text("b".into()));
        assert_eq!(handshake.api_key, Field::Falsy);
    }

    #[test]
    fn only_one_object_is_accepted() {
        for json in ["", " ", "null", "[]", "\"token\"", "{", "{}{}", "{\"token\"}", "{\"a\":1,}"] {
            assert_eq!(Handshake::parse(json), None, "{json}");
        }
        assert_eq!(Handshake::parse("{}"), Some(Handshake::default()));
    }
}
