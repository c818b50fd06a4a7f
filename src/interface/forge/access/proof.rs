//! Verifies the tokens of Forge and returns what they prove.

use std::sync::Arc;

use serde::Deserialize;

use super::audience;
use super::channel_token::{self, ChannelTokenKey, ClaimsError, Grant, NewToken, Signed, Wanted};
use super::context::{self, ContextClaims};
use super::topic::{self, MissingEntity, Topic, TopicKey};
use crate::auth::cache::{Proof, TokenCache};
use crate::auth::token::{self, DateError};
use crate::auth::value::Plain;
use crate::auth::{Audience, Keys, TokenProblem};
use crate::interface::forge::limits::PROOF_S_MAX;
use crate::interface::forge::nouns::{Context, TokenError};
use crate::limits::TOKEN_CACHE_MAX;
use crate::message::Channel;

/// Seconds by which an issuer's clock may be ahead of the node's before the longest tokens of that
/// issuer are refused.
const LIFETIME_LEEWAY_S: u64 = 30;

/// Why a token is refused. The text is a detail for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    /// The token is malformed.
    #[error("{}", TokenProblem::Malformed.text())]
    Malformed,
    /// No trusted issuer has signed the token.
    #[error("{}", TokenProblem::Signature.text())]
    Signature,
    /// The token is for another purpose than this `aud`, or for several.
    #[error("the token is for something else: its `aud` must be `{0}` here")]
    Audience(&'static str),
    /// The time in `exp` has been reached.
    #[error("the token has expired")]
    Expired,
    /// The time in `nbf` has not been reached.
    #[error("the token is not valid yet")]
    Early,
    /// The token would be valid for longer than [`PROOF_S_MAX`].
    #[error("the token would be valid for more than {PROOF_S_MAX} seconds")]
    Lifetime,
    /// A claim is missing or not valid, as this text says.
    #[error("{0}")]
    Claims(&'static str),
}

impl ProofError {
    /// Returns the reason for logs.
    pub fn why(self) -> &'static str {
        match self {
            Self::Malformed => TokenProblem::Malformed.text(),
            Self::Signature => TokenProblem::Signature.text(),
            Self::Audience(_) => TokenProblem::Audience.text(),
            Self::Expired => TokenProblem::Expired.text(),
            Self::Early => TokenProblem::Early.text(),
            Self::Lifetime => "the token would be valid for too long",
            Self::Claims(problem) => problem,
        }
    }
}

impl From<DateError> for ProofError {
    fn from(error: DateError) -> Self {
        match error {
            DateError::Malformed => Self::Claims("exp and nbf must be numbers"),
            DateError::Expired => Self::Expired,
            DateError::Early => Self::Early,
        }
    }
}

/// The verifier of Forge's tokens on one thread. It caches the proofs of verified tokens.
#[derive(Debug)]
pub struct ForgeAuth {
    keys: Arc<Keys>,
    channel_tokens: ChannelTokenKey,
    topics: TopicKey,
    token_lifetime_s: u64,
    contexts: TokenCache<Arc<Context>>,
    invocations: TokenCache<Arc<Context>>,
    services: TokenCache<Arc<str>>,
}

impl ForgeAuth {
    /// Creates a verifier with empty caches. Realtime tokens that it signs are valid for
    /// `token_lifetime_s` seconds. If the keys change, a new verifier is needed.
    pub fn new(keys: Arc<Keys>, token_lifetime_s: u64) -> Self {
        Self {
            channel_tokens: ChannelTokenKey::new(Arc::clone(&keys)),
            topics: TopicKey::new(&keys),
            keys,
            token_lifetime_s,
            contexts: TokenCache::new(TOKEN_CACHE_MAX),
            invocations: TokenCache::new(TOKEN_CACHE_MAX),
            services: TokenCache::new(TOKEN_CACHE_MAX),
        }
    }

    /// Returns the context that a context token proves at `now_s` seconds since the epoch.
    pub fn context(&mut self, token: &str, now_s: u64) -> Result<Arc<Context>, ProofError> {
        self.contexts.proof(token, now_s, ProofError::Malformed, || {
            proved_context(&self.keys, token, audience::CONTEXT, now_s)
        })
    }

    /// Returns the context that an invocation token proves at `now_s` seconds since the epoch.
    pub fn invocation(&mut self, token: &str, now_s: u64) -> Result<Arc<Context>, ProofError> {
        self.invocations.proof(token, now_s, ProofError::Malformed, || {
            proved_context(&self.keys, token, audience::INVOCATION, now_s)
        })
    }

    /// Returns the installation that a service token is for, at `now_s` seconds since the epoch.
    /// Its holder is the back end of that installation.
    pub fn service(&mut self, token: &str, now_s: u64) -> Result<Arc<str>, ProofError> {
        self.services.proof(token, now_s, ProofError::Malformed, || {
            let (claims, expires_at) = proved(&self.keys, token, audience::SERVICE, now_s)?;
            let claims: ServiceClaims = token::object(&claims).ok_or(ProofError::Malformed)?;
            let installation =
                context::installation(&claims.installation_id).map_err(ProofError::Claims)?;
            Ok(Proof { of: installation.into(), expires_at: Some(expires_at) })
        })
    }

    /// Verifies a realtime token at `now_s` seconds since the epoch.
    ///
    /// # Errors
    /// The first applicable error in the order of [`TokenError`].
    pub fn channel_token(
        &self,
        token: &str,
        wanted: &Wanted<'_>,
        now_s: u64,
    ) -> Result<Grant, TokenError> {
        channel_token::verify(&self.channel_tokens, token, wanted, now_s)
    }

    /// Signs a realtime token at `now_s` seconds since the epoch.
    ///
    /// # Errors
    /// [`ClaimsError`] if the claims cannot be signed.
    pub fn sign(&self, new: &NewToken<'_>, now_s: u64) -> Result<Signed, ClaimsError> {
        channel_token::sign(&self.channel_tokens, new, self.token_lifetime_s, now_s)
    }

    /// Returns the channel of a topic, which is the same on all nodes with the same secret.
    ///
    /// # Errors
    /// [`MissingEntity`] if the context lacks a selected entity.
    pub fn topic(&self, topic: &Topic<'_>) -> Result<Channel, MissingEntity> {
        topic::channel(&self.topics, topic)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceClaims {
    #[serde(default)]
    installation_id: Plain,
}

/// The claims that context, invocation and service tokens have in common.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    aud: Plain,
    #[serde(default)]
    exp: Option<Plain>,
    #[serde(default, deserialize_with = "token::present")]
    nbf: Option<Plain>,
}

fn proved_context(
    keys: &Keys,
    token: &str,
    audience: Audience,
    now_s: u64,
) -> Result<Proof<Arc<Context>>, ProofError> {
    let (claims, expires_at) = proved(keys, token, audience, now_s)?;
    if expires_at > now_s.saturating_add(PROOF_S_MAX + LIFETIME_LEEWAY_S) {
        return Err(ProofError::Lifetime);
    }
    let context = ContextClaims::parse(&claims)
        .and_then(|claims| claims.into_context(expires_at))
        .map_err(ProofError::Claims)?;
    Ok(Proof { of: Arc::new(context), expires_at: Some(expires_at) })
}

/// Verifies that a token is for this audience and valid at `now_s` seconds since the epoch. Returns
/// its claims, and when it expires.
fn proved(
    keys: &Keys,
    token: &str,
    audience: Audience,
    now_s: u64,
) -> Result<(Vec<u8>, u64), ProofError> {
    let claims = token::claims(keys, token).map_err(|problem| match problem {
        TokenProblem::Signature => ProofError::Signature,
        _ => ProofError::Malformed,
    })?;
    let envelope: Envelope = token::object(&claims).ok_or(ProofError::Malformed)?;
    if keys.audience_of(&envelope.aud.0) != Some(audience) {
        return Err(ProofError::Audience(audience.name()));
    }
    let expires_at = token::expiry(envelope.exp.as_ref(), envelope.nbf.as_ref(), now_s)?;
    Ok((claims, expires_at.ok_or(ProofError::Claims("exp is missing"))?))
}
