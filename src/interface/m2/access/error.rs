//! Errors of callers that may not read or write documents.

use crate::auth::TokenProblem;
use crate::auth::token::DateError;
use crate::interface::m2::limits::NAME_BYTES_MAX;
use crate::interface::rest::Challenge;

/// Why a caller may not read or write. The text is for people, and repeats no credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum M2Error {
    /// The caller has no valid credential, or not all of them are valid.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The credential is valid and does not permit this.
    #[error("{0}")]
    Forbidden(&'static str),
}

impl M2Error {
    /// The error of a caller without a credential.
    pub const NOTHING: Self = NOTHING;
    /// The error of a key or a writer's token without a certificate of the client.
    pub const CERTIFICATE: Self = Self::Forbidden(
        "this credential counts only beside a client certificate, and none was shown",
    );

    /// Returns the HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Unauthorized(_) => 401,
            Self::Forbidden(_) => 403,
        }
    }

    /// Returns the reason. It repeats no credential.
    pub fn why(self) -> &'static str {
        match self {
            Self::Unauthorized(why) | Self::Forbidden(why) => why,
        }
    }

    /// Returns what `WWW-Authenticate` says; `None` if the request alone decides.
    pub fn challenge(self) -> Option<Challenge> {
        match self {
            Self::Forbidden(_) | API_KEY => None,
            NOTHING | SCHEME => Some(Challenge::Missing),
            Self::Unauthorized(why) => Some(Challenge::Refused(why.into())),
        }
    }

    /// Returns the `error` code of the body.
    pub fn error(self) -> &'static str {
        match self {
            Self::Unauthorized(_) => "AUTH_UNAUTHORIZED",
            Self::Forbidden(_) => "FORBIDDEN",
        }
    }
}

pub(super) const NOTHING: M2Error = M2Error::Unauthorized(
    "a credential is missing; send Authorization: Bearer and a token, or x-api-key",
);
pub(super) const SCHEME: M2Error =
    M2Error::Unauthorized("Authorization must be Bearer and a token");
pub(super) const API_KEY: M2Error = M2Error::Unauthorized("the API key is not valid");
pub(super) const MALFORMED: M2Error = M2Error::Unauthorized(TokenProblem::Malformed.text());
pub(super) const OTHER_KIND: M2Error = M2Error::Unauthorized(TokenProblem::Audience.text());
pub(super) const NO_USER: M2Error = M2Error::Unauthorized(
    "the token must have a user_id, or a sub, of 1 to 255 bytes without control characters",
);
pub(super) const NO_ORGANIZATION: M2Error =
    M2Error::Forbidden("the token names no organization; it must have an organization_id");
pub(super) const OTHER_ORGANIZATION: M2Error =
    M2Error::Forbidden("the token's organization_id differs from x-m2-organization");
pub(super) const READS: M2Error = M2Error::Forbidden(
    "this credential permits only reading; write with the node's API key, or with the token of an \
     administrator or of a writer, whose aud is m2-writer",
);

const _: () = assert!(NAME_BYTES_MAX == 255, "a message above names the bound");

impl From<TokenProblem> for M2Error {
    fn from(problem: TokenProblem) -> Self {
        Self::Unauthorized(problem.text())
    }
}

impl From<DateError> for M2Error {
    fn from(error: DateError) -> Self {
        Self::Unauthorized(match error {
            DateError::Malformed => "the token's exp and nbf must be numbers",
            DateError::Expired => TokenProblem::Expired.text(),
            DateError::Early => TokenProblem::Early.text(),
        })
    }
}
