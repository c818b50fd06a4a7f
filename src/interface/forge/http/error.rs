//! Errors of Forge's calls. Their bodies have the same members as those of successful calls.

use serde::Serialize;

use crate::interface::forge::access::ClaimsError;
use crate::interface::forge::nouns::{OVERRIDES_PROBLEM, TokenError};
use crate::interface::rest::{Challenge, Reply, UNAVAILABLE, UNKNOWN};
use crate::message::{MessageId, Ordered};

/// The refused call, which determines the members of the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// A publish, on a global channel or in a context.
    Publish,
    /// A request for a realtime token.
    Token,
}

/// Why the headers of a call are refused. The answer has the code in `forge-proxy-error`, and
/// Forge's client throws an error with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyError {
    /// `forge-proxy-authorization` is missing, repeated or malformed.
    InvalidProxyAuthorization,
    /// The invocation is unknown or has expired, or its token is refused.
    UnknownInvocation,
    /// The call needs a credential of the caller and has none.
    CallerCredentialRequired,
    /// The credential of the caller is refused.
    InvalidCallerCredential,
}

impl ProxyError {
    /// Returns the code that programs read.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidProxyAuthorization => "INVALID_PROXY_AUTHORIZATION",
            Self::UnknownInvocation => "UNKNOWN_INVOCATION",
            Self::CallerCredentialRequired => "CALLER_CREDENTIAL_REQUIRED",
            Self::InvalidCallerCredential => "INVALID_CALLER_CREDENTIAL",
        }
    }
}

/// Why a call is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForgeError {
    kind: Kind,
    /// A text for people, if there is more to say than the message does.
    detail: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Headers(ProxyError),
    OtherInstallation,
    Malformed,
    Overrides,
    Token(TokenError),
    RateLimited,
    NotAllowed,
    TooLarge,
    Overloaded,
    NotOrdered,
}

impl ForgeError {
    /// 401: the headers do not prove the origin of the call or its caller.
    pub fn headers(error: ProxyError, detail: impl Into<String>) -> Self {
        Self::new(Kind::Headers(error), detail)
    }

    /// 403: the caller is the back end of another installation.
    pub fn other_installation() -> Self {
        Self::new(Kind::OtherInstallation, "The caller's credential is for another installation")
    }

    /// 400: the body is not valid; `detail` says why.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Kind::Malformed, detail)
    }

    /// 400: the overrides are not an array of names of entities.
    pub fn overrides() -> Self {
        Self { kind: Kind::Overrides, detail: None }
    }

    /// 429: the installation is above its rate.
    pub fn rate_limited() -> Self {
        Self { kind: Kind::RateLimited, detail: None }
    }

    /// 403: the caller may not publish on this channel; `detail` says why.
    pub fn not_allowed(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotAllowed, detail)
    }

    /// 413: the payload or the whole body is too long.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(Kind::TooLarge, detail)
    }

    /// 503: a mailbox is full. Nothing was published.
    pub fn overloaded() -> Self {
        let detail = "The node is overloaded and did not process the request";
        Self::new(Kind::Overloaded, detail)
    }

    /// 503: the cluster's stream does not have the event with this id, or it is not known whether
    /// it does.
    pub fn not_ordered(ordered: &Ordered, id: MessageId) -> Self {
        match ordered {
            Ordered::Unknown => Self::new(
                Kind::NotOrdered,
                format!("{UNKNOWN}; publish it again with the eventId {id}"),
            ),
            _ => Self::new(Kind::NotOrdered, UNAVAILABLE),
        }
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> u16 {
        match self.kind {
            Kind::Malformed | Kind::Overrides => 400,
            Kind::Headers(_) | Kind::Token(TokenError::Invalid | TokenError::Expired) => 401,
            Kind::Token(TokenError::ChannelMismatch | TokenError::MissingPermission) => 403,
            Kind::OtherInstallation | Kind::NotAllowed => 403,
            Kind::TooLarge => 413,
            Kind::RateLimited => 429,
            Kind::Overloaded | Kind::NotOrdered => 503,
        }
    }

    /// Returns the answer to a call that was refused with this error.
    pub fn reply(&self, call: Call) -> Reply {
        let status = self.status();
        let error =
            ErrorBody { message: self.message(call), status, detail: self.detail.as_deref() };
        let reply = match call {
            Call::Publish => Reply::json(status, &NotPublished::because([error])),
            Call::Token => Reply::json(status, &NotSigned::because([error])),
        };
        let proxy_error = match self.kind {
            Kind::Headers(error) => Some(error.code()),
            _ => None,
        };
        let retry_after_s = matches!(status, 429 | 503).then_some(1);
        // Only this error is about the bearer token, if the request has one.
        let is_callers = proxy_error == Some(ProxyError::InvalidCallerCredential.code());
        let challenge = (status == 401 && !is_callers).then_some(Challenge::Missing);
        Reply { proxy_error, retry_after_s, challenge, ..reply }
    }

    fn message(&self, call: Call) -> String {
        let message = match (self.kind, call) {
            (Kind::Token(error), _) => return error.to_string(),
            (Kind::Headers(_) | Kind::OtherInstallation, _) => "Unauthorized request",
            (Kind::Overrides, _) => OVERRIDES_PROBLEM,
            (Kind::RateLimited, _) => "RATE_LIMIT_EXCEEDED",
            (_, Call::Publish) => "Error publishing event to channel",
            (_, Call::Token) => "Error signing realtime token",
        };
        message.to_owned()
    }

    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: Some(detail.into()) }
    }
}

/// 401 or 403: the realtime token is refused.
impl From<TokenError> for ForgeError {
    fn from(error: TokenError) -> Self {
        Self { kind: Kind::Token(error), detail: None }
    }
}

/// 400: the claims cannot be signed.
impl From<ClaimsError> for ForgeError {
    fn from(error: ClaimsError) -> Self {
        Self::malformed(error.to_string())
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    message: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// The body of a refused publish. Absent values are `null`, because callers read all three members.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotPublished<'a> {
    event_id: (),
    event_timestamp: (),
    errors: [ErrorBody<'a>; 1],
}

impl<'a> NotPublished<'a> {
    fn because(errors: [ErrorBody<'a>; 1]) -> Self {
        Self { event_id: (), event_timestamp: (), errors }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotSigned<'a> {
    token: (),
    expires_at: (),
    errors: [ErrorBody<'a>; 1],
}

impl<'a> NotSigned<'a> {
    fn because(errors: [ErrorBody<'a>; 1]) -> Self {
        Self { token: (), expires_at: (), errors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: &str = "Error publishing event to channel";
    const NOT_SIGNED: &str = "Error signing realtime token";

    #[test]
    fn each_refusal_has_the_shape_of_its_call() {
        let refusal = ForgeError::malformed("name: Required");
        let (publish, token) = (refusal.reply(Call::Publish), refusal.reply(Call::Token));
        assert_eq!(
            publish.body,
            r#"{"eventId":null,"eventTimestamp":null,"errors":[{"message":"#.to_owned()
                + r#""Error publishing event to channel","status":400,"detail":"name: Required"}]}"#
        );
        assert_eq!(
            token.body,
            r#"{"token":null,"expiresAt":null,"errors":[{"message":"#.to_owned()
                + r#""Error signing realtime token","status":400,"detail":"name: Required"}]}"#
        );
        assert_eq!((publish.status, token.status), (400, 400));
        let bare = ForgeError::rate_limited().reply(Call::Token).body;
        let errors = r#"[{"message":"RATE_LIMIT_EXCEEDED","status":429}]"#;
        assert_eq!(bare, format!(r#"{{"token":null,"expiresAt":null,"errors":{errors}}}"#));
    }

    #[test]
    fn each_refusal_has_its_status_and_message() {
        let unauthorized = "Unauthorized request";
        let invalid = "Realtime token validation failed: INVALID_TOKEN";
        let expired = "Realtime token validation failed: TOKEN_EXPIRED";
        let mismatch = "Realtime token validation failed: CHANNEL_NAME_MISMATCH";
        let missing = "Realtime token validation failed: MISSING_PERMISSION";
        let sentence = "Invalid value for contextOverrides. \
                        Please provide an array of valid context properties.";
        let limited = "RATE_LIMIT_EXCEEDED";
        let headers = ForgeError::headers(ProxyError::UnknownInvocation, "x");
        let table = [
            (headers, 401, [unauthorized, unauthorized]),
            (ForgeError::other_installation(), 403, [unauthorized, unauthorized]),
            (ForgeError::malformed("x"), 400, [FAILED, NOT_SIGNED]),
            (ForgeError::overrides(), 400, [sentence, sentence]),
            (TokenError::Invalid.into(), 401, [invalid, invalid]),
            (TokenError::Expired.into(), 401, [expired, expired]),
            (TokenError::ChannelMismatch.into(), 403, [mismatch, mismatch]),
            (TokenError::MissingPermission.into(), 403, [missing, missing]),
            (ForgeError::rate_limited(), 429, [limited, limited]),
            (ForgeError::not_allowed("x"), 403, [FAILED, NOT_SIGNED]),
            (ForgeError::too_large("x"), 413, [FAILED, NOT_SIGNED]),
            (ForgeError::overloaded(), 503, [FAILED, NOT_SIGNED]),
            (ClaimsError::NotAnObject.into(), 400, [FAILED, NOT_SIGNED]),
        ];
        for (refusal, status, messages) in table {
            for (call, message) in [Call::Publish, Call::Token].into_iter().zip(messages) {
                let reply = refusal.reply(call);
                let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
                let error = &body["errors"][0];
                assert_eq!((reply.status, refusal.status()), (status, status), "{refusal:?}");
                assert_eq!(
                    (&error["message"], &error["status"]),
                    (&message.into(), &status.into())
                );
                let again = (status == 429 || status == 503).then_some(1);
                assert_eq!(reply.retry_after_s, again, "{refusal:?}");
                assert_eq!(reply.proxy_error.is_some(), matches!(refusal.kind, Kind::Headers(_)));
            }
        }
    }

    #[test]
    fn what_is_wrong_with_headers_stands_in_a_header() {
        let table = [
            (ProxyError::InvalidProxyAuthorization, "INVALID_PROXY_AUTHORIZATION"),
            (ProxyError::UnknownInvocation, "UNKNOWN_INVOCATION"),
            (ProxyError::CallerCredentialRequired, "CALLER_CREDENTIAL_REQUIRED"),
            (ProxyError::InvalidCallerCredential, "INVALID_CALLER_CREDENTIAL"),
        ];
        for (error, code) in table {
            let reply = ForgeError::headers(error, "expected `Forge`").reply(Call::Publish);
            assert_eq!((reply.status, reply.proxy_error), (401, Some(code)));
            let detail = r#"{"message":"Unauthorized request","status":401,"detail":"#;
            let errors = format!(r#""errors":[{detail}"expected `Forge`"}}]}}"#);
            assert!(reply.body.ends_with(&errors), "{}", reply.body);
        }
    }
}
