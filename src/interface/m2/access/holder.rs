//! The holders of tokens, as their claims describe them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::error::{NO_ORGANIZATION, NO_USER, OTHER_KIND, OTHER_ORGANIZATION, READS};
use super::{M2Error, Reader, WRITERS};
use crate::auth::Keys;
use crate::auth::token;
use crate::auth::value::Plain;
use crate::interface::m2::nouns::name_problem;
use crate::message::Role;

/// The holder of a valid token.
#[derive(Debug)]
pub(super) struct Holder {
    kind: Kind,
    organization: Option<Box<str>>,
    expires_at: Option<u64>,
}

#[derive(Debug)]
enum Kind {
    /// A user. It may read, and also write if it is an administrator.
    User { id: Arc<str>, is_admin: bool },
    /// A back end that may write and not read.
    Writer,
}

impl Holder {
    pub(super) fn reader(&self, organization: &str) -> Result<Reader, M2Error> {
        match &self.kind {
            Kind::Writer => Err(OTHER_KIND),
            Kind::User { id, .. } => {
                self.is_of(organization)?;
                Ok(Reader { user: Some(Arc::clone(id)), expires_at: self.expires_at })
            }
        }
    }

    pub(super) fn writes(&self, organization: &str) -> Result<(), M2Error> {
        match self.kind {
            Kind::Writer => self.is_of(organization),
            Kind::User { is_admin: true, .. } => Ok(()),
            Kind::User { .. } => Err(READS),
        }
    }

    fn is_of(&self, organization: &str) -> Result<(), M2Error> {
        match &self.organization {
            Some(own) if **own == *organization => Ok(()),
            Some(_) => Err(OTHER_ORGANIZATION),
            None => Err(NO_ORGANIZATION),
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    user_id: Plain,
    #[serde(default)]
    sub: Plain,
    #[serde(default)]
    organization_id: Plain,
    #[serde(default)]
    role: Plain,
    #[serde(default, deserialize_with = "token::present")]
    exp: Option<Plain>,
    #[serde(default, deserialize_with = "token::present")]
    nbf: Option<Plain>,
    #[serde(default)]
    aud: Plain,
    #[serde(default)]
    iss: Plain,
    #[serde(default, rename = "type")]
    kind: Plain,
}

/// Verifies a token. Returns its holder, and when it expires in seconds since the epoch.
pub(super) fn judge(
    keys: &Keys,
    token: &str,
    now_s: u64,
) -> Result<(Holder, Option<u64>), M2Error> {
    let claims: Claims = token::trusted(keys, token)?;
    let is_writers = keys.audience_of(&claims.aud.0) == Some(WRITERS);
    if !is_writers && keys.reserves(&claims.aud.0) {
        return Err(OTHER_KIND);
    }
    if !is_writers {
        token::check_provenance(keys, [&claims.kind, &claims.iss, &claims.aud])?;
    }
    let expires_at = token::expiry(claims.exp.as_ref(), claims.nbf.as_ref(), now_s)?;
    let kind = if is_writers { Kind::Writer } else { claims.user()? };
    let organization = claims.organization_id.0.as_str().map(Into::into);
    Ok((Holder { kind, organization, expires_at }, expires_at))
}

impl Claims {
    fn user(&self) -> Result<Kind, M2Error> {
        let sub = token::subject(&self.sub).filter(|name| is_name(name));
        let is_user = sub.is_some();
        let id = match &self.user_id.0 {
            Value::Null => sub,
            Value::String(name) if is_name(name) => Some(name.as_str().into()),
            _ => None,
        };
        let id = id.ok_or(NO_USER)?;
        // As in all interfaces, an administrator has a subject, and its role is a string.
        let is_admin = is_user
            && self.role.0.as_str().is_some_and(|role| Role::named(role) == Role::ProjectAdmin);
        Ok(Kind::User { id: id.into(), is_admin })
    }
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name_problem(name).is_none()
}
