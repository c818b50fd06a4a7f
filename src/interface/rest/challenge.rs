//! `WWW-Authenticate`, which every 401 must have (RFC 9110 section 15.5.2).

use std::borrow::Cow;

use crate::auth::bearer_token;
use crate::codec::http::Request;

/// What a 401 says about bearer tokens (RFC 6750 section 3). The API key is taken as a bearer token
/// too, so this is the only scheme.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Challenge {
    /// The request has no bearer token, or something else was refused.
    Missing,
    /// The bearer token was refused. The text says why and repeats no credential; it is empty if
    /// there is nothing to say.
    Refused(Cow<'static, str>),
}

impl Challenge {
    /// Returns the challenge for a refused request if nothing else is known about the refusal.
    pub(in crate::interface) fn of(request: &Request) -> Self {
        match request.header("authorization").and_then(bearer_token) {
            Some(_) => Self::Refused("".into()),
            None => Self::Missing,
        }
    }

    /// Returns the value of the header.
    pub(in crate::interface) fn value(&self) -> Cow<'static, str> {
        const REFUSED: &str = "Bearer realm=\"fanfare\", error=\"invalid_token\"";
        match self {
            Self::Missing => "Bearer realm=\"fanfare\"".into(),
            Self::Refused(why) if why.is_empty() => REFUSED.into(),
            Self::Refused(why) => {
                // These two cannot stand in a description (RFC 6750 section 3).
                let why = why.replace(['"', '\\'], "'");
                format!("{REFUSED}, error_description=\"{why}\"").into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_is_told_apart_from_a_missing_one() {
        let table = [
            (Challenge::Missing, "Bearer realm=\"fanfare\""),
            (Challenge::Refused("".into()), "Bearer realm=\"fanfare\", error=\"invalid_token\""),
            (
                Challenge::Refused("it's \"x\\".into()),
                "Bearer realm=\"fanfare\", error=\"invalid_token\", \
                 error_description=\"it's 'x'\"",
            ),
        ];
        for (challenge, expected) in table {
            assert_eq!(challenge.value(), expected);
        }
    }
}
