//! The decision which topic a caller may hear or publish on: one for HTTP and for WebSockets.

use std::sync::Arc;

use super::channel_token::{Grant, Permission, Wanted};
use super::proof::ForgeAuth;
use super::topic::{MissingEntity, NoInterface, Reach, Topic};
use crate::interface::forge::nouns::{Context, Entity, TokenError};
use crate::interface::forge::publish::admit_installation;
use crate::interface::shared::Shared;
use crate::message::{Channel, Now};

/// Where a caller acts from, once that is proved.
#[derive(Clone, Debug)]
pub enum Origin {
    /// From this context.
    Context(Arc<Context>),
    /// From an installation, outside of any context.
    Installation(Box<str>),
}

impl Origin {
    /// The installation that is proved.
    pub fn installation(&self) -> &str {
        match self {
            Self::Context(context) => &context.installation,
            Self::Installation(installation) => installation,
        }
    }

    /// The context that is proved, if any is.
    pub fn context(&self) -> Option<&Context> {
        match self {
            Self::Context(context) => Some(context),
            Self::Installation(_) => None,
        }
    }
}

/// What a caller wants to do with a channel.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// To subscribe, or to publish.
    pub permission: Permission,
    /// The channel's name.
    pub channel: &'a str,
    /// Whether the global channel of that name is meant.
    pub is_global: bool,
    /// The realtime token that narrows the channel.
    pub token: Option<&'a str>,
    /// The entities that take the place of the whole context.
    pub overrides: Option<&'a [Entity]>,
}

/// Why a caller may not do what it wants to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denied {
    /// The realtime token is not good for this.
    #[error(transparent)]
    Token(TokenError),
    /// The installation is above its rate.
    #[error("the installation is above its rate")]
    RateLimited,
    /// The context may not hear global channels.
    #[error("the context lacks the scope read:app-global-channel:realtime")]
    Scope,
    /// Only a context with a user interface may publish in it.
    #[error(transparent)]
    NoInterface(NoInterface),
    /// The context has no such entity.
    #[error(transparent)]
    MissingEntity(MissingEntity),
}

/// Finds the topic that a caller means, if the caller may do there what it wants to. Returns what
/// the realtime token gives as well, if there is one.
///
/// # Errors
/// The first of the faults in the order of [`Denied`]. What a bad token asks for is not counted in
/// the installation's rate.
pub fn authorize(
    (shared, auth): (&Shared, &ForgeAuth),
    origin: &Origin,
    asked: &Asked<'_>,
    now: Now,
) -> Result<(Channel, Option<Grant>), Denied> {
    let Asked { permission, channel, is_global, token, overrides } = *asked;
    let installation = origin.installation();
    let wanted = Wanted { channel, installation, permission };
    let grant = token.map(|token| auth.channel_token(token, &wanted, now.wall_seconds()));
    let grant = grant.transpose().map_err(Denied::Token)?;
    if !admit_installation(shared, installation, now) {
        return Err(Denied::RateLimited);
    }
    let reads_global = origin.context().and_then(|context| context.reads_global);
    let may_listen = reads_global.unwrap_or(!shared.forge.require_scopes);
    if is_global && permission == Permission::Subscribe && !may_listen {
        return Err(Denied::Scope);
    }
    let reach = Reach::chosen(permission, is_global, origin.context(), overrides);
    let reach = reach.map_err(Denied::NoInterface)?;
    let claims = grant.as_ref().map(|grant| &*grant.claims);
    let scope = Topic { installation, channel, reach, claims };
    let topic = auth.topic(&scope).map_err(Denied::MissingEntity)?;
    tracing::debug!(what = permission.name(), %scope, topic = topic.as_str(), "a scope");
    Ok((topic, grant))
}
