//! The `options` of a request: which subscribers of a channel an event reaches.

use crate::codec::json::Value;
use crate::interface::forge::nouns::{Entity, overrides};

/// The realtime token and the scope that `options` select, over HTTP and over WebSockets.
#[derive(Debug, Default)]
pub struct Selection<'a> {
    /// The realtime token whose claims narrow the topic.
    pub token: Option<&'a str>,
    /// The entities that replace the default scope; always `None` for a global channel.
    pub overrides: Option<Vec<Entity>>,
}

/// The member that is not valid. HTTP and WebSockets have error texts of their own for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SelectionFault {
    /// `options` is not an object but a value of this kind.
    Options(&'static str),
    /// `token` is not a string but a value of this kind.
    Token(&'static str),
    /// `contextOverrides` is not an array of names of entities.
    Overrides,
}

impl<'a> Selection<'a> {
    /// Parses the member `options`, which may be absent or null. `contextOverrides` of a global
    /// channel are ignored.
    ///
    /// # Errors
    /// The first member that is not valid.
    pub fn read(options: Option<Value<'_, 'a>>, is_global: bool) -> Result<Self, SelectionFault> {
        let options = match options {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Object(options)) => options,
            Some(other) => return Err(SelectionFault::Options(other.kind())),
        };
        let [token, names] = options.members(&["token", "contextOverrides"]);
        let token = match token {
            None | Some(Value::Null) => None,
            // Forge's client ignores an empty token, too.
            Some(Value::Text(token)) => Some(token.value).filter(|token| !token.is_empty()),
            Some(other) => return Err(SelectionFault::Token(other.kind())),
        };
        let overrides = match names {
            Some(names) if !is_global => Some(entities(names).ok_or(SelectionFault::Overrides)?),
            _ => None,
        };
        Ok(Self { token, overrides })
    }
}

fn entities(names: Value<'_, '_>) -> Option<Vec<Entity>> {
    let Value::Array(names) = names else { return None };
    overrides(names.map(|name| name.as_text().map(|text| text.value)))
}
