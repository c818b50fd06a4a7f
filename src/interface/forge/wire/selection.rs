//! Reads the `options` of a request.

use crate::codec::json::Value;
use crate::interface::forge::nouns::{Entity, overrides};

/// What `options` select on a channel, over HTTP as over a socket.
#[derive(Debug, Default)]
pub struct Selection<'a> {
    /// The realtime token whose claims narrow the topic.
    pub token: Option<&'a str>,
    /// What is to be the scope instead of the whole context; never on a global channel.
    pub overrides: Option<Vec<Entity>>,
}

/// The member that is not what it must be. Each interface has words of its own for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SelectionFault {
    /// `options`, which is a value of this kind and no object.
    Options(&'static str),
    /// `token`, which is a value of this kind and no string.
    Token(&'static str),
    /// `contextOverrides`, which is no array of names of entities.
    Overrides,
}

impl<'a> Selection<'a> {
    /// Reads the member `options`, which may be absent or null.
    ///
    /// # Errors
    /// The first member that is not what it must be. `contextOverrides` of a global channel mean
    /// nothing, and are not looked at.
    pub fn read(options: Option<Value<'_, 'a>>, is_global: bool) -> Result<Self, SelectionFault> {
        let options = match options {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Object(options)) => options,
            Some(other) => return Err(SelectionFault::Options(other.kind())),
        };
        let [token, names] = options.members(&["token", "contextOverrides"]);
        let token = match token {
            None | Some(Value::Null) => None,
            // An empty one is none to Forge's client as well.
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
