//! What a client of M2 says of itself before its first message: where it is, and what proves that
//! it may be there.
//!
//! It says so in headers, or, since a browser cannot send any, in one value of
//! `Sec-WebSocket-Protocol`: lines of `name:value`, in base58. Nothing but names that are meant for
//! this can come in there, and what comes in a real header counts before it: a load balancer may
//! have set that.

use std::fmt;

use thiserror::Error;

use super::limits::SUBPROTOCOL_BYTES_MAX;
use super::nouns::{Scope, name_problem};
use crate::codec::base58;
use crate::codec::http::{Request, Unclear};

#[cfg(test)]
mod tests;

const SUBPROTOCOL: &str = "sec-websocket-protocol";
/// What all names begin with that say where a client is.
const PREFIX: &str = "x-m2-";

/// What a client or a caller says of itself. None of it is proved yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Said {
    /// Where it is.
    pub scope: Scope,
    /// `Authorization`, never empty.
    pub authorization: Option<String>,
    /// `x-api-key`, never empty.
    pub api_key: Option<String>,
    /// The subprotocol that was accepted: the answer must repeat it exactly. It may hold a
    /// credential.
    pub subprotocol: Option<String>,
}

/// Shows nothing that may be a credential.
impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Why a request is answered with 400. The words are for people, and repeat no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HandshakeError {
    /// A header is repeated.
    #[error("{0} is there more than once; send it once")]
    Repeated(&'static str),
    /// A header has one value in one spelling, and another in the other.
    #[error("{0} and {0}-id have different values; send one of them")]
    Spellings(&'static str),
    /// A subprotocol gives a name two values.
    #[error("Sec-WebSocket-Protocol: {0} has two values there; give it one, in one spelling")]
    Contradiction(&'static str),
    /// A value is none that there can be.
    #[error("{name} cannot be used: {problem}")]
    Value {
        /// The header.
        name: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Subprotocols were offered, none of them is ours, and no header says where the client is.
    #[error(
        "Sec-WebSocket-Protocol: no value can be used; offer the base58 of lines of name:value, \
         with x-m2-organization and x-m2-project among the names, in at most \
         {SUBPROTOCOL_BYTES_MAX} bytes, or send these as headers"
    )]
    Subprotocol,
    /// There is no organization.
    #[error(
        "x-m2-organization is missing; send it, or x-m2-organization-id, with a value; a browser \
         sends it in base58, as its subprotocol"
    )]
    Organization,
    /// There is no project, and there must be one.
    #[error("x-m2-project is missing; send it, or x-m2-project-id, with a value")]
    Project,
    /// There is no project, and this is within one.
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

/// Reads what a client says that wants a WebSocket.
///
/// # Errors
/// What is wrong with it.
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

/// Reads what a caller of HTTP says: in headers.
///
/// # Errors
/// What is wrong with it.
pub fn of_call(request: &Request, require_project: bool) -> Result<Said, HandshakeError> {
    Fields::of_headers(request)?.into_said(None, require_project)
}

/// What may be said, in the order of [`Field::ALL`].
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

    /// Its name in the other spelling, where it is one of the scope. The page on realtime has the
    /// shorter one, all other pages have this.
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

    /// The one of that name, in either spelling and whatever its case; and the name as it is
    /// written here.
    fn named(name: &str) -> Option<(Self, &'static str)> {
        let names = Self::ALL.into_iter().flat_map(|it| it.names().map(move |known| (it, known)));
        names.into_iter().find(|(_, known)| known.eq_ignore_ascii_case(name))
    }

    fn is_of_scope(self) -> bool {
        self.other_name().is_some()
    }

    /// What was given under a name of it, if it can be that; an empty value is none.
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

/// The values of all fields, in the order of [`Field::ALL`]; none of them is empty.
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

    /// Of a text that [`decoded`] has let through.
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

    /// These, and of others those that are not among them.
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

/// What two say who must not say different things.
fn one_of<'a>(one: Option<&'a str>, other: Option<&'a str>) -> Option<Option<&'a str>> {
    (one.is_none() || other.is_none() || one == other).then_some(one.or(other))
}

/// The text in a subprotocol, if it is one of ours: every line of it a name and a value, and
/// a name among them that may come in this way.
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

/// Whether a name may come in a subprotocol, known or not.
fn is_ours(name: &str) -> bool {
    let prefix = name.get(..PREFIX.len());
    Field::named(name).is_some() || prefix.is_some_and(|it| it.eq_ignore_ascii_case(PREFIX))
}

/// The lines of a text that are not blank. Where it has no newline, who made it may have written
/// one as `\n`, or have copied the documentation's example, which shows blanks.
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

/// Splits at blanks before names that may come in this way.
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

/// The name and the value of a line, if it has both and the name can be that of a header.
fn pair(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let (name, value) = (name.trim_ascii(), value.trim_ascii());
    (!name.is_empty() && name.bytes().all(is_name_byte)).then_some((name, value))
}

/// See RFC 9110, section 5.6.2.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
