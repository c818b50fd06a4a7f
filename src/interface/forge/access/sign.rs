//! Signs context, invocation and service tokens with the node's secret, for trying things out. In
//! production a host signs such tokens with its own key.

use serde::Serialize;
use serde_json::{Map, Value};

use super::context::{ContextClaims, is_installation};
use crate::auth::token::sign_with_secret;
use crate::auth::{Audience, SignError};
use crate::interface::forge::limits::PROOF_S_MAX;

/// The claims of a context, invocation or service token to sign.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewProof<'a> {
    /// The kind of the token.
    #[serde(rename = "aud", serialize_with = "name")]
    pub audience: Audience,
    /// When the token is signed, in seconds since the epoch.
    #[serde(rename = "iat")]
    pub issued_at: u64,
    /// When the token expires, in seconds since the epoch.
    #[serde(rename = "exp")]
    pub expires_at: u64,
    /// The installation that the token is for.
    #[serde(rename = "installationId")]
    pub installation: &'a str,
    /// The place; `None` for a service token.
    #[serde(flatten)]
    pub place: Option<NewPlace<'a>>,
}

/// The claims of a token that describe a place. Absent ones are left out.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewPlace<'a> {
    /// The key of the app's module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_key: Option<&'a str>,
    /// The type of the app's module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_type: Option<&'a str>,
    /// The host's own key of the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_key: Option<&'a str>,
    /// The entities of the place, by their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<&'a Map<String, Value>>,
    /// The account of the user, as claim `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<&'a str>,
    /// The scopes of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<&'a [String]>,
    /// Whether the context has a user interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ui: Option<bool>,
}

const _: () = assert!(PROOF_S_MAX == 900, "the message below names the bound");

/// Signs a token with HS256.
///
/// # Errors
/// [`SignError`] if the node would refuse the token, or if the secret is too short.
pub fn sign_proof(secret: &str, new: &NewProof<'_>) -> Result<String, SignError> {
    if !is_installation(new.installation) {
        return Err(SignError::Claims(
            "an installation's name has 1 to 512 bytes, no control characters among them",
        ));
    }
    if new.place.is_some() {
        if new.expires_at.saturating_sub(new.issued_at) > PROOF_S_MAX {
            return Err(SignError::Claims(
                "a context or invocation token may be valid for at most 900 seconds",
            ));
        }
        let json = serde_json::to_vec(new).expect("claims serialize to an object");
        ContextClaims::parse(&json)
            .and_then(|claims| claims.into_context(new.expires_at))
            .map_err(SignError::Claims)?;
    }
    Ok(sign_with_secret(secret, new)?)
}

fn name<S: serde::Serializer>(audience: &Audience, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(audience.name())
}
