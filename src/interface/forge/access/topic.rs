//! Topics, which isolate the channels of Forge from each other.
//!
//! A publisher reaches exactly the subscribers with the same installation, family (global or
//! context), channel, scope and claims. The id of a topic is a keyed hash of these five as
//! canonical JSON. The key is derived from the node's secret, so nodes with the same secret agree
//! on an id and no caller can compute one.

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

/// Bytes of a topic's id before base64: enough that finding two tuples with the same id is
/// infeasible.
const ID_BYTES: usize = 16;

/// The five properties that a subscriber and a publisher must have in common.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// The installation of the channel; equal to that of the context, if there is one.
    pub installation: &'a str,
    /// The name of the channel.
    pub channel: &'a str,
    /// The family and the scope.
    pub reach: Reach<'a>,
    /// The canonical claims of the presented realtime token ([`Grant::claims`](super::Grant));
    /// `None` if there is no token, which differs from a token with empty claims.
    pub claims: Option<&'a str>,
}

/// The family of a channel, global or context, and its scope in a context.
#[derive(Clone, Copy, Debug)]
pub enum Reach<'a> {
    /// The whole installation. A global channel never has the topic of a context's channel.
    Global,
    /// The place of this context.
    Place(&'a Context),
    /// All places whose contexts have the same identities for these entities. Order and repetition
    /// do not matter. An empty selection is a scope of its own.
    Entities(&'a Context, &'a [Entity]),
}

impl<'a> Reach<'a> {
    /// Returns the reach that a request selects. A caller may always subscribe in its own context,
    /// and publish there if the context has a user interface.
    ///
    /// # Errors
    /// [`NoInterface`] if the context has no user interface and the caller publishes, or if there
    /// is no context.
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

/// The error of a caller that publishes in a context without a user interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Only a context with a user interface may publish in it")]
pub struct NoInterface;

/// The error of a caller that selects an entity which its context lacks. If absence counted as a
/// value, all contexts without the entity would share a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the context has no {}", .0.name())]
pub struct MissingEntity(pub Entity);

/// Shows the canonical tuple, so that an operator can find out why a subscriber does not receive an
/// event.
impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match tuple(self) {
            Ok(tuple) => f.write_str(&tuple),
            Err(missing) => missing.fmt(f),
        }
    }
}

/// The purpose for which the key of topics is derived from the node's secret.
const PURPOSE: &str = "fanfare forge: topics, 1";

/// The key that topics' ids are hashed with, the same on all nodes with the same secret.
#[derive(Debug)]
pub(super) struct TopicKey(Hmac<Sha256>);

impl TopicKey {
    /// Derives the key from the node's secret.
    pub(super) fn new(keys: &Keys) -> Self {
        let key = keys.derive(PURPOSE);
        Self(Hmac::new_from_slice(&key).expect("HMAC takes a key of any length"))
    }
}

/// Returns the channel whose name is the topic's id.
///
/// # Errors
/// [`MissingEntity`] if the context lacks a selected entity.
pub(super) fn channel(key: &TopicKey, topic: &Topic<'_>) -> Result<Channel, MissingEntity> {
    let mac = key.0.clone().chain_update(tuple(topic)?).finalize().into_bytes();
    Ok(Channel::topic(&URL_SAFE_NO_PAD.encode(&mac[..ID_BYTES])))
}

/// Returns the five properties as a canonical JSON array. Its items are canonical, so it is made by
/// joining them.
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
