//! Parses the handshake of an M2 client: its scope and its credentials.
//!
//! A client sends both in headers. A browser cannot send headers, so it offers a subprotocol
//! instead: lines of `name:value` in base58, as one value of `Sec-WebSocket-Protocol`. Only the
//! names of this handshake are taken from a subprotocol. A real header takes precedence over it,
//! because a load balancer may have set the header.

use std::fmt;

use thiserror::Error;

use super::limits::SUBPROTOCOL_BYTES_MAX;
use super::nouns::{Scope, name_problem};
use crate::codec::base58;
use crate::codec::http::{Request, Unclear};

#[cfg(test)]
mod tests;

const SUBPROTOCOL: &str = "sec-websocket-protocol";
/// The prefix of the headers that describe the scope.
const PREFIX: &str = "x-m2-";

/// The scope and the credentials in a handshake or a call. Nothing is proved yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Said {
    /// The scope that the client asks for.
    pub scope: Scope,
    /// The value of `Authorization`; never empty.
    pub authorization: Option<String>,
    /// The value of `x-api-key`; never empty.
    pub api_key: Option<String>,
    /// The accepted subprotocol, which the answer must repeat exactly. It may contain a credential.
    pub subprotocol: Option<String>,
}

/// Shows only the scope, because everything else may be a credential.
impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Why a request is answered with 400. The text is for people, and repeats no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HandshakeError {
    /// This header occurs more than once.
    #[error("{0} is sent more than once; send it once")]
    Repeated(&'static str),
    /// This header has different values in its two spellings.
    #[error("{0} and {0}-id have different values; send one of them")]
    Spellings(&'static str),
    /// A subprotocol gives this name two values.
    #[error("Sec-WebSocket-Protocol: {0} has two values there; give it one, in one spelling")]
    Contradiction(&'static str),
    /// A value is not valid.
    #[error("{name} cannot be used: {problem}")]
    Value {
        /// The name of the header.
        name: &'static str,
        /// The fault of the value, in words that do not repeat it.
        problem: &'static str,
    },
    /// The client offers only foreign subprotocols, and no header describes the scope.
    #[error(
        "Sec-WebSocket-Protocol: no value can be used; offer the base58 of lines of name:value, \
         with x-m2-organization and x-m2-project among the names, in at most \
         {SUBPROTOCOL_BYTES_MAX} bytes, or send these as headers"
    )]
    Subprotocol,
    /// The organization is missing.
    #[error(
        "x-m2-organization is missing; send it, or x-m2-organization-id, with a value; a browser \
         sends it in base58, as its subprotocol"
    )]
    Organization,
    /// The project is missing, and the configuration requires one.
    #[error("x-m2-project is missing; send it, or x-m2-project-id, with a value")]
    Project,
    /// The project is missing, although this header names a part of one.
    #[error("{0} is within a project; send x-m2-project, too")]
    ProjectOf(&'static str),
}

impl HandshakeError {
    fn of(name: &'static str, unclear: Unclear) -> Self {
        match unclear {
            Unclear::Repeated => Self::Repeated(name),
            Unclear::NotUtf8 => Self::Value { name, problem: "it is not UTF-8" },
        }
    }
}

/// Parses the handshake of a WebSocket.
///
/// # Errors
/// [`HandshakeError`] for a scope or a header that is not valid.
pub fn of_socket(request: &Request, require_project: bool) -> Result<Said, HandshakeError> {
    let real = Fields::of_headers(request)?;
    let offered = || {
        let lists = request.header_values(SUBPROTOCOL).flat_map(|list| list.split(','));
        lists.map(str::trim_ascii).filter(|value| !value.is_empty())
    };
    if let Some((value, text)) = offered().find_map(|value| Some((value, decoded(value)?))) {
        let fields = real.or(Fields::of_text(&text)?);
        return fields.into_said(Some(value), require_project);
    }
    if offered().next().is_some() && !real.has_scope() {
        return Err(HandshakeError::Subprotocol);
    }
    real.into_said(None, require_project)
}

/// Parses the headers of an HTTP call.
///
/// # Errors
/// [`HandshakeError`] for a scope or a header that is not valid.
pub fn of_call(request: &Request, require_project: bool) -> Result<Said, HandshakeError> {
    Fields::of_headers(request)?.into_said(None, require_project)
}

/// The fields of a handshake, in the order of [`Field::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Organization,
    Project,
    LaunchContext,
    World,
    Authorization,
    ApiKey,
}

impl Field {
    const ALL: [Self; 6] = [
        Self::Organization,
        Self::Project,
        Self::LaunchContext,
        Self::World,
        Self::Authorization,
        Self::ApiKey,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Organization => "x-m2-organization",
            Self::Project => "x-m2-project",
            Self::LaunchContext => "x-m2-launch-context",
            Self::World => "x-m2-world",
            Self::Authorization => "authorization",
            Self::ApiKey => "x-api-key",
        }
    }

    /// Returns the second spelling of a name of the scope. M2's page on realtime has the first one,
    /// all its other pages have this one.
    fn other_name(self) -> Option<&'static str> {
        match self {
            Self::Organization => Some("x-m2-organization-id"),
            Self::Project => Some("x-m2-project-id"),
            Self::LaunchContext => Some("x-m2-launch-context-id"),
            Self::World => Some("x-m2-world-id"),
            Self::Authorization | Self::ApiKey => None,
        }
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name()).chain(self.other_name())
    }

    /// Returns the field of that name, in either spelling and any case, and the name in lower case.
    fn named(name: &str) -> Option<(Self, &'static str)> {
        let names = Self::ALL.into_iter().flat_map(|it| it.names().map(move |known| (it, known)));
        names.into_iter().find(|(_, known)| known.eq_ignore_ascii_case(name))
    }

    fn is_of_scope(self) -> bool {
        self.other_name().is_some()
    }

    /// Checks a value that was given under a name of the field. Returns `None` for an empty value.
    fn value<'a>(
        self,
        name: &'static str,
        value: &'a str,
    ) -> Result<Option<&'a str>, HandshakeError> {
        let problem = if self.is_of_scope() { name_problem(value) } else { None };
        match problem {
            Some(problem) => Err(HandshakeError::Value { name, problem }),
            None => Ok(Some(value).filter(|value| !value.is_empty())),
        }
    }
}

/// The values of all fields, in the order of [`Field::ALL`]. No value is empty.
#[derive(Default)]
struct Fields<'a>([Option<&'a str>; Field::ALL.len()]);

impl<'a> Fields<'a> {
    fn of_headers(request: &'a Request) -> Result<Self, HandshakeError> {
        let mut fields = Self::default();
        for (field, place) in Field::ALL.into_iter().zip(&mut fields.0) {
            for name in field.names() {
                let value = request.only_header(name);
                let value = value.map_err(|unclear| HandshakeError::of(name, unclear))?;
                let value = value.unwrap_or_default();
                *place = one_of(*place, field.value(name, value)?)
                    .ok_or(HandshakeError::Spellings(field.name()))?;
            }
        }
        Ok(fields)
    }

    /// Parses the text of a subprotocol that [`decoded`] has accepted.
    fn of_text(text: &'a str) -> Result<Self, HandshakeError> {
        let mut fields = Self::default();
        for (name, value) in lines(text).into_iter().filter_map(pair) {
            let Some((field, name)) = Field::named(name) else { continue };
            let place = &mut fields.0[field as usize];
            *place = one_of(*place, field.value(name, value)?)
                .ok_or(HandshakeError::Contradiction(field.name()))?;
        }
        Ok(fields)
    }

    /// Returns these values, and those of `others` for fields that have no value here.
    fn or(self, others: Self) -> Self {
        let mut values = self.0;
        for (value, other) in values.iter_mut().zip(others.0) {
            *value = value.or(other);
        }
        Self(values)
    }

    fn get(&self, field: Field) -> Option<&'a str> {
        self.0[field as usize]
    }

    fn has_scope(&self) -> bool {
        Field::ALL.into_iter().any(|field| field.is_of_scope() && self.get(field).is_some())
    }

    fn into_said(
        self,
        subprotocol: Option<&str>,
        require_project: bool,
    ) -> Result<Said, HandshakeError> {
        let organization = self.get(Field::Organization).ok_or(HandshakeError::Organization)?;
        if self.get(Field::Project).is_none() {
            let within = [Field::World, Field::LaunchContext];
            if let Some(field) = within.into_iter().find(|field| self.get(*field).is_some()) {
                return Err(HandshakeError::ProjectOf(field.name()));
            }
            if require_project {
                return Err(HandshakeError::Project);
            }
        }
        let part = |field| self.get(field).unwrap_or_default().into();
        Ok(Said {
            scope: Scope {
                organization: organization.into(),
                project: part(Field::Project),
                launch_context: part(Field::LaunchContext),
                world: part(Field::World),
            },
            authorization: self.get(Field::Authorization).map(str::to_owned),
            api_key: self.get(Field::ApiKey).map(str::to_owned),
            subprotocol: subprotocol.map(str::to_owned),
        })
    }
}

/// Merges two optional values; `None` if both are set and differ.
fn one_of<'a>(one: Option<&'a str>, other: Option<&'a str>) -> Option<Option<&'a str>> {
    (one.is_none() || other.is_none() || one == other).then_some(one.or(other))
}

/// Decodes a subprotocol. Returns its text if each line is a name and a value, and at least one
/// name is of this handshake; `None` for a foreign subprotocol or one that is too long.
fn decoded(subprotocol: &str) -> Option<String> {
    if subprotocol.len() > SUBPROTOCOL_BYTES_MAX {
        return None;
    }
    let text = String::from_utf8(base58::decode(subprotocol)?).ok()?;
    let mut has_ours = false;
    for line in lines(&text) {
        let (name, _) = pair(line)?;
        has_ours |= is_ours(name);
    }
    has_ours.then_some(text)
}

/// Returns whether a name is one of this handshake: a known name, or any name with the prefix.
fn is_ours(name: &str) -> bool {
    let prefix = name.get(..PREFIX.len());
    Field::named(name).is_some() || prefix.is_some_and(|it| it.eq_ignore_ascii_case(PREFIX))
}

/// Returns the lines of a text that are not blank. A text without a newline may have been written
/// with `\n` instead, or copied from M2's documentation, whose example shows blanks.
fn lines(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = if text.contains('\n') {
        text.lines().collect()
    } else if text.contains(r"\n") {
        text.split(r"\n").collect()
    } else {
        split_before_names(text)
    };
    lines.into_iter().map(str::trim_ascii).filter(|line| !line.is_empty()).collect()
}

/// Splits a text at each blank before a name of this handshake.
fn split_before_names(text: &str) -> Vec<&str> {
    let begins_name = |at: &usize| {
        let is_blank = matches!(text.as_bytes()[*at], b' ' | b'\t');
        is_blank && pair(&text[at + 1..]).is_some_and(|(name, _)| is_ours(name))
    };
    let mut start = 0;
    let mut parts = Vec::new();
    for at in (0..text.len()).filter(begins_name) {
        parts.push(&text[start..at]);
        start = at + 1;
    }
    parts.push(&text[start..]);
    parts
}

/// Splits a line into name and value; `None` without a colon, or if no header can have that name.
fn pair(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let (name, value) = (name.trim_ascii(), value.trim_ascii());
    (!name.is_empty() && name.bytes().all(is_name_byte)).then_some((name, value))
}

/// Returns whether a byte may be part of a header's name (RFC 9110, section 5.6.2).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
