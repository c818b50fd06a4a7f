//! Topics, which isolate the channels of Forge from each other.
//!
//! A publisher reaches the subscribers with the same installation, family, channel, scope and
//! claims, and no others. The tuple of the five, as canonical JSON, is hashed with a key of the
//! node's own: nodes with the same secret agree on a topic's id, and no caller can make one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::channel_token::Permission;
use super::context::push_entities;
use super::jcs;
use crate::auth::keys::Keys;
use crate::interface::forge::nouns::{Context, Entity};
use crate::message::Channel;

/// Bytes of a topic's id before base64: enough that no two tuples with the same id can be found.
const ID_BYTES: usize = 16;

/// What a subscriber hears and a publisher reaches.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// The installation that the channel belongs to: the context's, if there is a context.
    pub installation: &'a str,
    /// Its name.
    pub channel: &'a str,
    /// From where the channel is heard.
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
    /// Returns the reach that a caller means. In its own context a caller may subscribe in any
    /// case, and publish if the context has a user interface.
    ///
    /// # Errors
    /// [`NoInterface`], also if there is no context.
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

/// A caller publishes in a context that has no user interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Only a user interface publishes in its context")]
pub struct NoInterface;

/// A context lacks an entity that was selected. All contexts without it would meet if its absence
/// counted as a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the context has no {}", .0.name())]
pub struct MissingEntity(pub Entity);

/// Shows what is compared, for people who ask why a subscriber does not hear a publisher.
impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match tuple(self) {
            Ok(tuple) => f.write_str(&tuple),
            Err(missing) => missing.fmt(f),
        }
    }
}

/// What the key of topics is derived for.
const PURPOSE: &str = "fanfare forge: topics, 1";

/// The key of topics' ids, which is the same on all nodes with the same secret.
#[derive(Debug)]
pub(super) struct TopicKey(Hmac<Sha256>);

impl TopicKey {
    /// Derives the key.
    pub(super) fn new(keys: &Keys) -> Self {
        let key = keys.derive(PURPOSE);
        Self(Hmac::new_from_slice(&key).expect("HMAC takes a key of any length"))
    }
}

/// Returns the channel of a topic.
pub(super) fn channel(key: &TopicKey, topic: &Topic<'_>) -> Result<Channel, MissingEntity> {
    let mac = key.0.clone().chain_update(tuple(topic)?).finalize().into_bytes();
    Ok(Channel::topic(&URL_SAFE_NO_PAD.encode(&mac[..ID_BYTES])))
}

/// Returns the five as a canonical array, which is made of its canonical items one after the other.
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
