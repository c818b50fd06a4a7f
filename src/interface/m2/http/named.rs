//! Parses the query and the body of a call about a document.

use std::borrow::Cow;
use std::sync::Arc;

use bytestring::ByteString;
use serde_json::value::RawValue;

use crate::codec::http::query_pairs;
use crate::interface::m2::limits::VERSION_AHEAD_MS_MAX;
use crate::interface::m2::nouns::{ResourceKind, Scope, channel_of, name_problem};
use crate::interface::rest::fields::{self, Read};
use crate::interface::rest::{ApiError, dates};
use crate::message::{DocumentKey, DocumentWrite, Millis, iso_millis};

/// An example of a version, for error texts.
const DATE: &str = "2026-04-25T17:00:00.123Z";

/// The resource that a path names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The kind of the resource.
    pub kind: ResourceKind,
    pub(super) id: Box<str>,
}

impl Named {
    /// Parses a write from its body, `{userId?, audience?, data, version?}`. The query may have
    /// `durability` and nothing else. `keep` returns a text that outlives the body.
    ///
    /// # Errors
    /// 400 with the issues of all members. Unknown members are errors: a misspelt `audience` must
    /// not make a private document public.
    pub fn write(
        &self,
        scope: &Scope,
        (query, body): (Option<&str>, &[u8]),
        now: Millis,
        keep: &dyn Fn(&str) -> ByteString,
    ) -> Result<DocumentWrite, ApiError> {
        Said::in_query(query, &[DURABILITY])?;
        let names = [USER_ID, AUDIENCE, "data", VERSION];
        let [user_id, audience, data, version] = fields::strict_body(body, &names)?;
        let said = Said::in_body(user_id, audience, version);
        let data = fields::required("data", data).and_then(some_data);
        let (Ok(said), Ok(data)) = (&said, &data) else {
            return Err(fields::refuse([said.err(), data.err()]));
        };
        self.settle(scope, said, Some(keep(data.get())), now)
    }

    /// Parses a deletion from its body, `{userId?, audience?, version?}`, or from the query if
    /// there is no body.
    ///
    /// # Errors
    /// As [`Named::write`].
    pub fn delete(
        &self,
        scope: &Scope,
        (query, body): (Option<&str>, &[u8]),
        now: Millis,
        _keep: &dyn Fn(&str) -> ByteString,
    ) -> Result<DocumentWrite, ApiError> {
        if body.is_empty() {
            let said = Said::in_query(query, &[USER_ID, AUDIENCE, VERSION, DURABILITY])?;
            return self.settle(scope, &said, None, now);
        }
        Said::in_query(query, &[DURABILITY])?;
        let [user_id, audience, version] =
            fields::strict_body(body, &[USER_ID, AUDIENCE, VERSION])?;
        let said = Said::in_body(user_id, audience, version);
        self.settle(scope, &said.map_err(ApiError::invalid_input)?, None, now)
    }

    /// Returns the key of the document that a query describes with `userId` and `audience`.
    /// `userId` is the `reader` by default.
    ///
    /// # Errors
    /// As [`Named::write`].
    pub fn look(
        &self,
        scope: &Scope,
        query: Option<&str>,
        reader: Option<&str>,
    ) -> Result<DocumentKey, ApiError> {
        let mut said = Said::in_query(query, &[USER_ID, AUDIENCE])?;
        said.user_id = said.user_id.or(reader.map(Cow::Borrowed));
        Ok(self.settle(scope, &said, None, 0)?.key)
    }

    fn settle(
        &self,
        scope: &Scope,
        said: &Said<'_>,
        data: Option<ByteString>,
        now: Millis,
    ) -> Result<DocumentWrite, ApiError> {
        let read = (said.user(), said.is_personal(self), said.version(now));
        let (Ok(user), Ok(is_personal), Ok(version)) = read else {
            let (user, is_personal, version) = read;
            return Err(fields::refuse([user.err(), is_personal.err(), version.err()]));
        };
        let resource = channel_of(&scope.to_string(), self.kind, &self.id);
        let audience = user.filter(|_| is_personal).map(Arc::from);
        let key = DocumentKey { resource, audience };
        Ok(DocumentWrite { key, user_id: user.map(Box::from), data, version })
    }
}

const USER_ID: &str = "userId";
const AUDIENCE: &str = "audience";
const VERSION: &str = "version";
const DURABILITY: &str = "durability";

/// The members of a body, or of a query, besides the data. They are not checked yet.
#[derive(Default)]
struct Said<'a> {
    user_id: Option<Cow<'a, str>>,
    audience: Option<Cow<'a, str>>,
    version: Option<Cow<'a, str>>,
}

impl<'a> Said<'a> {
    /// Parses a query, which may have only these names.
    fn in_query(query: Option<&'a str>, names: &[&str]) -> Result<Self, ApiError> {
        let mut said = Self::default();
        let pairs = query_pairs(query.unwrap_or_default()).filter(|(name, _)| !name.is_empty());
        for (name, value) in pairs {
            if !names.contains(&&*name) {
                let expected = names.join("', '");
                return Err(ApiError::invalid_input(format!(
                    "'{name}' is not expected in the query of this call, which may have '{expected}'"
                )));
            }
            let value =
                value.map_err(|error| ApiError::invalid_input(format!("{name}: {error}")))?;
            let place = match &*name {
                USER_ID => &mut said.user_id,
                AUDIENCE => &mut said.audience,
                VERSION => &mut said.version,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(ApiError::invalid_input(format!("{name}: Expected once")));
            }
        }
        Ok(said)
    }

    fn in_body(
        user_id: Option<&'a RawValue>,
        audience: Option<&'a RawValue>,
        version: Option<&'a RawValue>,
    ) -> Read<Self> {
        let text = |path: &str, value: Option<&'a RawValue>| {
            let value = value.filter(|value| !fields::is_null(value));
            value.map(|value| fields::text(path, value, usize::MAX)).transpose()
        };
        Ok(Self {
            user_id: text(USER_ID, user_id)?,
            audience: text(AUDIENCE, audience)?,
            version: text(VERSION, version)?,
        })
    }

    fn user(&self) -> Read<Option<&str>> {
        let user = self.user_id.as_deref().filter(|user| !user.is_empty());
        match user.and_then(name_problem) {
            None => Ok(user),
            Some(problem) => Err(format!("userId: {problem}")),
        }
    }

    /// Returns whether the call is about a user's own document. This needs a user.
    fn is_personal(&self, resource: &Named) -> Read<bool> {
        let is_private = resource.kind.is_private(&resource.id);
        let is_personal = match (self.audience.as_deref(), is_private) {
            (Some("user"), _) | (None, true) => true,
            (Some("shared"), false) | (None, false) => false,
            (Some("shared"), true) => {
                let problem = "collection/private has a document for each user and no shared one";
                return Err(format!("audience: {problem}"));
            }
            (Some(_), _) => {
                return Err("audience: Invalid enum value. Expected 'shared' | 'user'".to_owned());
            }
        };
        let names_nobody = self.user_id.as_deref().unwrap_or_default().is_empty();
        if is_personal && names_nobody {
            return Err("userId: Required, as it is about a user's own document".to_owned());
        }
        Ok(is_personal)
    }

    fn version(&self, now: Millis) -> Read<Option<Millis>> {
        let Some(text) = self.version.as_deref() else { return Ok(None) };
        let version = dates::millis(text).filter(|version| iso_millis(*version) == text);
        let version = version.ok_or_else(|| {
            format!("version: Expected a date in UTC with milliseconds, like {DATE}")
        })?;
        if version > now.saturating_add(VERSION_AHEAD_MS_MAX) {
            return Err("version: It is more than 24 hours ahead of the node's clock".to_owned());
        }
        Ok(Some(version))
    }
}

const _: () = assert!(VERSION_AHEAD_MS_MAX == 24 * 3_600_000, "the message names the bound");

/// Refuses `null`, because `null` means to subscribers that the document was deleted.
fn some_data(value: &RawValue) -> Read<&RawValue> {
    if fields::is_null(value) {
        return Err("data: Expected a value; to remove the document, use DELETE".to_owned());
    }
    Ok(value)
}
