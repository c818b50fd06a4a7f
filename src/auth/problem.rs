//! Why a token is not valid.

use super::token::DateError;

/// Why a token is not valid. What its claims say is told only if a trusted key has signed them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenProblem {
    /// The token is too long, is not a JWT, or has an unknown algorithm or a claim of a wrong type.
    Malformed,
    /// No key that the node trusts has signed the token.
    Signature,
    /// The token is for one of the purposes of [`Audience`](super::Audience), or for none of those
    /// that the node is set to take tokens for.
    Audience,
    /// The token is of none of the issuers that the node is set to take tokens of.
    Issuer,
    /// The token serves to get other tokens.
    Refresh,
    /// The time in `exp` has come.
    Expired,
    /// The time in `nbf` has not come.
    Early,
    /// The token's `sub` is missing, empty or neither a string nor a number.
    Subject,
}

impl TokenProblem {
    /// Returns the code for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "TOKEN_MALFORMED",
            Self::Signature => "TOKEN_SIGNATURE_INVALID",
            Self::Audience => "TOKEN_AUDIENCE_INVALID",
            Self::Issuer => "TOKEN_ISSUER_INVALID",
            Self::Refresh => "TOKEN_TYPE_INVALID",
            Self::Expired => "TOKEN_EXPIRED",
            Self::Early => "TOKEN_NOT_YET_VALID",
            Self::Subject => "TOKEN_SUBJECT_INVALID",
        }
    }

    /// Returns the text for people, which repeats nothing of the token.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::Signature => "the token is signed by no key that this node trusts",
            Self::Audience => "the token is for something else, as its aud says",
            Self::Issuer => "the token is from an issuer that this node is not set to trust",
            Self::Refresh => "the token is a refresh token, which only its issuer takes",
            Self::Expired => "the token has expired",
            Self::Early => "the token is not valid yet",
            Self::Subject => "the token's sub is missing, empty or neither a text nor a number",
        }
    }
}

impl From<DateError> for TokenProblem {
    fn from(error: DateError) -> Self {
        match error {
            DateError::Malformed => Self::Malformed,
            DateError::Expired => Self::Expired,
            DateError::Early => Self::Early,
        }
    }
}
