//! Parses contexts from the claims of tokens and from registrations.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::jcs;
use crate::auth::token::{self, object, present};
use crate::auth::value::Plain;
use crate::interface::forge::limits::INSTALLATION_BYTES_MAX;
use crate::interface::forge::nouns::{Context, Entity};

/// The scope that allows subscribing to global channels, for contexts that list their scopes.
const READS_GLOBAL: &str = "read:app-global-channel:realtime";

/// A host's description of a context: the claims of a context or invocation token, or the body of a
/// registration. Other claims are ignored; a registration has none.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContextClaims {
    installation_id: Plain,
    module_key: Plain,
    module_type: Plain,
    context_key: Plain,
    extension: Plain,
    account_id: Plain,
    sub: Plain,
    #[serde(deserialize_with = "present")]
    scopes: Option<Plain>,
    #[serde(deserialize_with = "present")]
    ui: Option<Plain>,
}

impl ContextClaims {
    /// Parses one JSON object.
    ///
    /// # Errors
    /// A text for the caller if this is not one JSON object, or if a member occurs twice.
    pub fn parse(json: &[u8]) -> Result<Self, &'static str> {
        object(json).ok_or("expected one JSON object without repeated members")
    }

    /// Returns the described context, valid until `expires_at` seconds since the epoch.
    ///
    /// # Errors
    /// A text for the caller that says which member is not valid, and why.
    pub fn into_context(self, expires_at: u64) -> Result<Context, &'static str> {
        let installation = installation(&self.installation_id)?;
        let module_key = text(self.module_key, "moduleKey must be a non-empty string")?;
        let module_type = text(self.module_type, "moduleType must be a non-empty string")?;
        let context_key = text(self.context_key, "contextKey must be a non-empty string")?;
        let account = text(self.account_id, "accountId must be a non-empty string")?;
        let subject = subject(&self.sub)?;
        if module_key.is_none() && module_type.is_none() && context_key.is_none() {
            return Err("one of moduleKey, moduleType and contextKey is needed");
        }
        let entities = entities(self.extension)?;
        let place = Place { module_key, module_type, context_key };
        Ok(Context {
            installation,
            account: account.or(subject),
            place: place.canonical(&entities),
            entities,
            reads_global: self.scopes.map(reads_global).transpose()?,
            is_ui: match self.ui {
                None => true,
                Some(Plain(Value::Bool(is_ui))) => is_ui,
                Some(_) => return Err("ui must be true or false"),
            },
            expires_at,
        })
    }
}

/// Parses the name of an installation.
pub(super) fn installation(Plain(value): &Plain) -> Result<Box<str>, &'static str> {
    let name = value.as_str().filter(|name| is_installation(name));
    name.map(Into::into)
        .ok_or("installationId must be a string of 1 to 512 bytes without control characters")
}

const _: () = assert!(INSTALLATION_BYTES_MAX == 512, "the message above names the bound");

/// Returns whether a text is a valid name of an installation.
pub(super) fn is_installation(name: &str) -> bool {
    (1..=INSTALLATION_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control)
}

/// Returns the user that `sub` names, as in all interfaces; `None` without one.
fn subject(sub: &Plain) -> Result<Option<Box<str>>, &'static str> {
    if sub.0.is_null() {
        return Ok(None);
    }
    token::subject(sub).map(Some).ok_or("sub must be a non-empty string or a number")
}

fn text(Plain(value): Plain, problem: &'static str) -> Result<Option<Box<str>>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if !text.is_empty() => Ok(Some(text.into())),
        _ => Err(problem),
    }
}

/// Returns whether these scopes allow subscribing to global channels. An explicit null is an error,
/// because the operator may allow more to contexts without scopes.
fn reads_global(Plain(scopes): Plain) -> Result<bool, &'static str> {
    const PROBLEM: &str = "scopes must be an array of strings";
    let Value::Array(scopes) = scopes else { return Err(PROBLEM) };
    let scopes: Option<Vec<&str>> = scopes.iter().map(Value::as_str).collect();
    Ok(scopes.ok_or(PROBLEM)?.contains(&READS_GLOBAL))
}

/// Entities with the canonical JSON of their identities, as in [`Context::entities`].
type Entities = Box<[(Entity, Box<str>)]>;

fn entities(Plain(extension): Plain) -> Result<Entities, &'static str> {
    let extension = match extension {
        Value::Null => Map::new(),
        Value::Object(members) => members,
        _ => return Err("extension must be an object"),
    };
    let found = Entity::ALL.into_iter().filter_map(|entity| {
        let value = extension.get(entity.name()).filter(|value| !value.is_null())?;
        Some((entity, jcs::canonical(identity(value)).into()))
    });
    Ok(found.collect())
}

/// Returns the part of an entity that identifies it: its id, or the whole value if it has none.
fn identity(value: &Value) -> &Value {
    value.get("id").filter(|id| !id.is_null()).unwrap_or(value)
}

struct Place {
    module_key: Option<Box<str>>,
    module_type: Option<Box<str>>,
    context_key: Option<Box<str>>,
}

impl Place {
    /// Returns the canonical JSON of the place, by writing the members in canonical order.
    fn canonical(&self, entities: &[(Entity, Box<str>)]) -> Box<str> {
        let mut out = String::from(r#"{"ctx":"#);
        push_entities(&mut out, entities.iter());
        let module = match (&self.module_key, &self.module_type) {
            (Some(key), _) => ("module", Some(key)),
            (None, kind) => ("moduleType", kind.as_ref()),
        };
        for (name, value) in [("key", self.context_key.as_ref()), module] {
            let Some(value) = value else { continue };
            out.push(',');
            jcs::push_string(&mut out, name);
            out.push(':');
            jcs::push_string(&mut out, value);
        }
        out.push('}');
        out.into()
    }
}

/// Appends a JSON object of entities and their identities. The entities must be in the order of
/// [`Entity::ALL`], which is the canonical order.
pub(super) fn push_entities<'a>(
    out: &mut String,
    entities: impl Iterator<Item = &'a (Entity, Box<str>)>,
) {
    out.push('{');
    for (index, (entity, identity)) in entities.enumerate() {
        if index > 0 {
            out.push(',');
        }
        jcs::push_string(out, entity.name());
        out.push(':');
        out.push_str(identity);
    }
    out.push('}');
}
