//! Topics: what isolates the channels of Forge from each other (contract section 1.5).
//!
//! Who publishes reaches who has subscribed with the same installation, family, channel, scope and
//! claims, and nobody else. The tuple of the five, as canonical JSON, is hashed with a key of the
//! node's own: nodes with one secret agree on a topic's id, and nobody can make one from outside.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;

use super::context::push_entities;
use super::{Permission, jcs};
use crate::auth::keys::Keys;
use crate::message::{Channel, Context, Entity};

/// Bytes of a topic's id before base64: nobody finds two tuples with the same.
const ID_BYTES: usize = 16;

/// What a subscriber hears and a publisher reaches.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// Whose channel it is: the context's installation, where there is a context.
    pub installation: &'a str,
    /// Its name.
    pub channel: &'a str,
    /// From where it is heard.
    pub reach: Reach<'a>,
    /// The canonical claims of the token that was presented ([`Grant::claims`](super::Grant)); no
    /// token is not the same as one with empty claims.
    pub claims: Option<&'a str>,
}

/// From where a channel is heard.
#[derive(Clone, Copy, Debug)]
pub enum Reach<'a> {
    /// From everywhere in the installation. No such channel ever meets one of the others.
    Global,
    /// From the same place.
    Place(&'a Context),
    /// From every place with the same of these entities. Their order does not matter, nor whether
    /// one is named twice; none is a reach of its own.
    Entities(&'a Context, &'a [Entity]),
}

impl<'a> Reach<'a> {
    /// From where a caller means a channel. In its own context a caller may listen in any case, and
    /// publish where a user interface is behind it.
    ///
    /// # Errors
    /// [`NoInterface`], also where there is no context at all.
    pub fn chosen(
        permission: Permission,
        is_global: bool,
        context: Option<&'a Context>,
        overrides: Option<&'a [Entity]>,
    ) -> Result<Self, NoInterface> {
        if is_global {
            return Ok(Self::Global);
        }
        let may = |context: &&Context| context.is_ui || permission == Permission::Subscribe;
        let context = context.filter(may).ok_or(NoInterface)?;
        Ok(overrides.map_or(Self::Place(context), |selected| Self::Entities(context, selected)))
    }
}

/// Somebody publishes in a context who is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Only a user interface publishes in its context")]
pub struct NoInterface;

/// A context lacks an entity that was selected. All contexts without it would meet if its absence
/// counted as a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the context has no {}", .0.name())]
pub struct MissingEntity(pub Entity);

/// For whoever looks for the reason why two do not hear each other: what is compared.
impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match tuple(self) {
            Ok(tuple) => f.write_str(&tuple),
            Err(missing) => missing.fmt(f),
        }
    }
}

/// The channel of a topic.
pub(super) fn channel(keys: &Keys, topic: &Topic<'_>) -> Result<Channel, MissingEntity> {
    let mac = keys.topics().chain_update(tuple(topic)?).finalize().into_bytes();
    Ok(Channel::topic(&URL_SAFE_NO_PAD.encode(&mac[..ID_BYTES])))
}

/// A canonical array is made of its canonical items, one after the other.
fn tuple(topic: &Topic<'_>) -> Result<String, MissingEntity> {
    let mut out = String::from("[");
    jcs::push_string(&mut out, topic.installation);
    out.push_str(match topic.reach {
        Reach::Global => r#","global","#,
        Reach::Place(_) | Reach::Entities(..) => r#","context","#,
    });
    jcs::push_string(&mut out, topic.channel);
    out.push(',');
    push_scope(&mut out, topic)?;
    out.push(',');
    out.push_str(topic.claims.unwrap_or("null"));
    out.push(']');
    Ok(out)
}

fn push_scope(out: &mut String, topic: &Topic<'_>) -> Result<(), MissingEntity> {
    match topic.reach {
        Reach::Global => out.push_str("null"),
        Reach::Place(context) => {
            debug_assert_eq!(topic.installation, &*context.installation);
            out.push_str(&context.place);
        }
        Reach::Entities(context, selected) => {
            debug_assert_eq!(topic.installation, &*context.installation);
            let has = |entity| context.entities.iter().any(|(present, _)| *present == entity);
            if let Some(missing) = selected.iter().find(|entity| !has(**entity)) {
                return Err(MissingEntity(*missing));
            }
            let entities = context.entities.iter();
            out.push_str(r#"{"overrides":"#);
            push_entities(out, entities.filter(|(entity, _)| selected.contains(entity)));
            out.push('}');
        }
    }
    Ok(())
}
