//! Decides on which topic a caller may subscribe or publish, for HTTP and for WebSockets.

use std::sync::Arc;

use super::channel_token::{Grant, Permission, Wanted};
use super::proof::ForgeAuth;
use super::topic::{MissingEntity, NoInterface, Reach, Topic};
use crate::interface::forge::nouns::{Context, Entity, TokenError};
use crate::interface::forge::publish::admit_installation;
use crate::interface::shared::Shared;
use crate::message::{Channel, Now};

/// The proved origin of a request.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A context, which names its installation.
    Context(Arc<Context>),
    /// An installation, without a context.
    Installation(Box<str>),
}

impl Origin {
    /// Returns the proved installation.
    pub fn installation(&self) -> &str {
        match self {
            Self::Context(context) => &context.installation,
            Self::Installation(installation) => installation,
        }
    }

    /// Returns what tells the events of this origin from those of all others: its installation, and
    /// the account if one is known.
    pub fn publisher(&self) -> [&str; 2] {
        let account = self.context().and_then(|context| context.account.as_deref());
        [self.installation(), account.unwrap_or_default()]
    }

    /// Returns the proved context; `None` if only the installation is proved.
    pub fn context(&self) -> Option<&Context> {
        match self {
            Self::Context(context) => Some(context),
            Self::Installation(_) => None,
        }
    }
}

/// A request to subscribe or to publish.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The permission that the request needs.
    pub permission: Permission,
    /// The name of the channel.
    pub channel: &'a str,
    /// Whether the request is for the global channel of that name.
    pub is_global: bool,
    /// The realtime token whose claims narrow the topic.
    pub token: Option<&'a str>,
    /// The entities that replace the default scope; `None` for the default scope.
    pub overrides: Option<&'a [Entity]>,
}

/// Why a request is denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denied {
    /// The channel's name is longer than this many bytes, which the configuration allows.
    #[error("String must contain at most {0} byte(s)")]
    LongChannel(usize),
    /// The realtime token is refused.
    #[error(transparent)]
    Token(TokenError),
    /// The installation is above its rate.
    #[error("the installation is above its rate")]
    RateLimited,
    /// The context may not subscribe to global channels.
    #[error("the context lacks the scope read:app-global-channel:realtime")]
    Scope,
    /// The context of a publish has no user interface, or there is no context.
    #[error(transparent)]
    NoInterface(NoInterface),
    /// The context lacks a selected entity.
    #[error(transparent)]
    MissingEntity(MissingEntity),
}

/// Returns the topic of a request that is allowed, and the grant of the realtime token, if the
/// request has one.
///
/// # Errors
/// The first applicable error in the order of [`Denied`]. A request with a refused token does not
/// count towards the installation's rate.
pub fn authorize(
    (shared, auth): (&Shared, &ForgeAuth),
    origin: &Origin,
    asked: &Asked<'_>,
    now: Now,
) -> Result<(Channel, Option<Grant>), Denied> {
    let Asked { permission, channel, is_global, token, overrides } = *asked;
    let bytes_max = shared.config.limits.channel_bytes;
    if channel.len() > bytes_max {
        return Err(Denied::LongChannel(bytes_max));
    }
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
    tracing::debug!(what = permission.name(), %scope, topic = topic.as_str(), "topic selected");
    Ok((topic, grant))
}
