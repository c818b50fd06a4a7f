//! Signs tokens of readers and writers with the node's secret, for trying things out. In production
//! a platform signs such tokens with its own key.

use serde::Serialize;

use super::WRITERS;
use super::holder::is_name;
use crate::auth::{SignError, token};

/// The claims of a token to sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewToken<'a> {
    /// The user of a reader's token; `None` for a writer's token.
    pub user: Option<&'a str>,
    /// The organization whose documents the token is for.
    pub organization: &'a str,
    /// What the node asks of the `iss` and the `aud` of a reader's token; `None` for nothing.
    pub asked: [Option<&'a str>; 2],
    /// When the token is signed, in seconds since the epoch.
    pub issued_at: u64,
    /// When the token expires, in seconds since the epoch.
    pub expires_at: u64,
}

/// Signs a token with HS256.
///
/// # Errors
/// [`SignError`] if the node would refuse the token, or if the secret is too short.
pub fn sign_token(secret: &str, new: &NewToken<'_>) -> Result<String, SignError> {
    #[derive(Serialize)]
    struct NewClaims<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        aud: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        iss: Option<&'a str>,
        iat: u64,
        exp: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<&'a str>,
        organization_id: &'a str,
    }
    let NewToken { user, organization, asked, issued_at, expires_at } = *new;
    if !user.is_none_or(is_name) {
        return Err(SignError::Claims(
            "a user has 1 to 255 bytes, no control characters among them",
        ));
    }
    if !is_name(organization) {
        return Err(SignError::Claims(
            "an organization has 1 to 255 bytes, no control characters among them",
        ));
    }
    let [iss, aud] = if user.is_some() { asked } else { [None, Some(WRITERS.name())] };
    let claims = NewClaims {
        aud,
        iss,
        iat: issued_at,
        exp: expires_at,
        user_id: user,
        organization_id: organization,
    };
    Ok(token::sign_with_secret(secret, &claims)?)
}
