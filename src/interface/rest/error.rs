//! Errors of REST calls. All have the same shape.

use std::borrow::Cow;

use serde::Serialize;
use thiserror::Error;

use super::challenge::Challenge;
use super::reply::Reply;
use crate::auth::AuthError;
use crate::limits;
use crate::mailbox::StoreRefusal;
use crate::message::{MessageId, Ordered};

/// Why a request was refused: an HTTP status, a code for programs and a message for people.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{message}")]
pub struct ApiError {
    status: u16,
    error: &'static str,
    message: String,
    next_actions: Option<Cow<'static, str>>,
    /// Whether the client should try again after a second.
    must_retry: bool,
    allow: Option<&'static str>,
    challenge: Option<Challenge>,
    /// In a box, because few errors have one and all are returned by value.
    message_id: Option<Box<MessageId>>,
}

/// The message of an error if the cluster's stream can store nothing.
pub const UNAVAILABLE: &str =
    "The cluster cannot order messages at the moment; nothing was published or subscribed";
/// The message of an error if it is not known whether the cluster's stream has a publication.
pub const UNKNOWN: &str =
    "The cluster did not answer in time; the message may have been published or not";

impl ApiError {
    /// 404: no channel definition has the id, or no enabled one matches the name.
    pub fn channel_not_found() -> Self {
        Self::new(404, "NOT_FOUND", "Channel not found")
    }

    /// 404: no call has this path. The message leaves out the query, which may hold a token.
    pub fn endpoint_not_found(path: &str) -> Self {
        Self::new(404, "NOT_FOUND", format!("Endpoint {path} not found"))
            .advise("Please check the API documentation for available endpoints")
    }

    /// 404: a client of Socket.IO has another path than the node. `advice` says what to do.
    pub fn no_clients_here(path: &str, advice: &'static str) -> Self {
        Self::new(404, "NOT_FOUND", format!("No Socket.IO at {path}")).advise(advice)
    }

    /// 404: the node has no such file of the Socket.IO client. `advice` says what to do.
    pub fn no_client_file(path: &str, advice: &'static str) -> Self {
        Self::new(404, "NOT_FOUND", format!("No client file at {path}")).advise(advice)
    }

    /// 405: the path does not take this method. `allow` lists those that it takes.
    pub fn method_not_allowed(method: &str, path: &str, allow: &'static str) -> Self {
        let message = format!("Method {method} is not allowed for {path}");
        let refused = Self::new(405, "METHOD_NOT_ALLOWED", message);
        Self { allow: Some(allow), ..refused }.advise(format!("Use one of: {allow}"))
    }

    /// 400: the body is JSON but not what the call expects. `message` names the fields and what is
    /// wrong.
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_INPUT", message)
    }

    /// 400: the body is not JSON. `message` is the parser's text.
    pub fn invalid_json(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_INPUT", message)
            .advise("Please ensure your request body contains valid JSON")
    }

    /// 409: another channel definition has this pattern.
    pub fn duplicate_pattern(pattern: &str) -> Self {
        let message = format!("A channel with the pattern \"{pattern}\" already exists");
        Self::new(409, "DATABASE_DUPLICATE", message)
            .advise("Choose another value for the field pattern, or update the existing channel")
    }

    /// 409: there are [`limits::DEFINITIONS_MAX`] channel definitions already.
    pub fn definitions_full() -> Self {
        let message = format!("There are {} channels, the most allowed", limits::DEFINITIONS_MAX);
        Self::new(409, "LIMIT_REACHED", message)
            .advise("Delete channels that are no longer used, or use patterns that cover several")
    }

    /// 413: the body is longer than the call permits, which is `bytes_max`.
    pub fn payload_too_large(bytes_max: usize) -> Self {
        let message = format!("The request body is longer than {bytes_max} bytes");
        Self::new(413, "PAYLOAD_TOO_LARGE", message)
    }

    /// 413: the payload or the data of a publication, `what`, is longer than the node permits.
    pub fn payload_too_long(what: &str, bytes_max: usize) -> Self {
        Self::new(413, "PAYLOAD_TOO_LARGE", format!("{what}: longer than {bytes_max} bytes"))
            .advise("Send less at once; the operator can raise limits.payload_bytes")
    }

    /// 503 with `Retry-After`: a queue that the request needs is full. The request has changed
    /// nothing.
    pub fn overloaded() -> Self {
        let message = "The node is overloaded and did not process the request";
        Self::new(503, "OVERLOADED", message).retry().advise("Try again after a second")
    }

    /// Returns the error of a publication with this id that the cluster's stream does not have, or
    /// may not have.
    pub fn not_ordered(ordered: &Ordered, id: MessageId) -> Self {
        match ordered {
            Ordered::Overloaded => Self::overloaded(),
            Ordered::Unknown => Self::unknown(id),
            _ => Self::unavailable(),
        }
    }

    /// 503 with `Retry-After`: the cluster's stream can store nothing. Nothing was published.
    pub fn unavailable() -> Self {
        Self::new(503, "BACKPLANE_UNAVAILABLE", UNAVAILABLE)
            .retry()
            .advise("Try again after a second")
    }

    /// 503 with `Retry-After`: the cluster can take no change. Nothing was changed.
    pub fn change_unavailable() -> Self {
        let message = "The cluster cannot take changes at the moment; nothing was changed";
        Self::new(503, "BACKPLANE_UNAVAILABLE", message)
            .retry()
            .advise("Try again after a second; /api/health says what is wrong")
    }

    /// 503: the cluster did not answer in time, so that it is not known whether it has the change.
    pub fn change_unknown() -> Self {
        let message = "The cluster did not answer in time: the change may be made or not";
        Self::new(503, "BACKPLANE_UNKNOWN", message).advise("Read it before you make it again")
    }

    /// 503 with `Retry-After`: the message at which the page should begin is on no node that
    /// answers, and some do not answer.
    pub fn incomplete() -> Self {
        let message = "before: Nodes that may have this message do not answer at the moment";
        Self::new(503, "BACKPLANE_UNAVAILABLE", message)
            .retry()
            .advise("Try again after a second, or begin again without a cursor")
    }

    /// 503: the cluster's stream did not answer in time, so that it is not known whether it has the
    /// publication with this id.
    pub fn unknown(id: MessageId) -> Self {
        let advice =
            "Publish again with this messageId within two minutes: the message is delivered once";
        let unknown = Self::new(503, "BACKPLANE_UNKNOWN", UNKNOWN).advise(advice);
        Self { message_id: Some(Box::new(id)), ..unknown }
    }

    /// 503 with `Retry-After`: the node has no descriptor for a connection that lasts. It goes on
    /// serving those that it has.
    pub fn no_descriptors() -> Self {
        let message = "The node has as many connections as its limit on descriptors allows";
        Self::new(503, "OVERLOADED", message)
            .retry()
            .advise("Try again after a second; the operator can raise the limit")
    }

    /// 503 with `Retry-After`: the node has as many connections as it may have.
    pub fn too_many_connections() -> Self {
        let message = "The node has as many connections as it may have";
        Self::new(503, "OVERLOADED", message)
            .retry()
            .advise("Try again after a second; the operator can raise limits.connections")
    }

    /// 503 with `Retry-After`: the node has as many sessions on long-polling as it may have.
    pub fn too_many_polling_sessions() -> Self {
        let message = "The node has as many sessions on long-polling as it may have";
        Self::new(503, "OVERLOADED", message)
            .retry()
            .advise("Connect with a WebSocket; the operator can raise limits.polling_sessions")
    }

    /// 429 with `Retry-After`: the caller's address has as many connections as it may have.
    pub fn too_many_of_address() -> Self {
        let message = "This address has as many connections as it may have";
        Self::new(429, "RATE_LIMITED", message).retry().advise("Close another connection first")
    }

    /// 503 with `Retry-After`: more sessions begin than may in a second.
    pub fn too_many_handshakes() -> Self {
        Self::new(503, "OVERLOADED", "The node begins no more sessions in this second")
            .retry()
            .advise("Try again after a second")
    }

    /// 429 with `Retry-After`: the caller's address sends too many requests without a credential.
    pub fn too_many_requests() -> Self {
        Self::new(429, "RATE_LIMITED", "This address sends too many requests without a credential")
            .retry()
            .advise("Try again after a second, or send a credential")
    }

    /// 400: no message has the id at which the page should begin.
    pub fn unknown_cursor() -> Self {
        Self::invalid_input("before: Unknown message")
            .advise("Begin again without a cursor; the message may have been removed")
    }

    /// 400: the payloads of the page have more than [`limits::HISTORY_PAGE_BYTES_MAX`] bytes
    /// together.
    pub fn page_too_long() -> Self {
        let bytes_max = limits::HISTORY_PAGE_BYTES_MAX;
        let message = format!("limit: The messages hold more than {bytes_max} bytes together");
        Self::invalid_input(message).advise("Ask for fewer messages at a time")
    }

    /// 503: the query took longer than [`limits::QUERY_MS_MAX`]. Trying again would not help.
    pub fn too_slow() -> Self {
        let message = format!("The query took more than {} ms", limits::QUERY_MS_MAX);
        Self::new(503, "QUERY_TIMEOUT", message)
            .advise("Go from page to page with before instead of offset, or ask for less")
    }

    /// 503 with `Retry-After`: the node accepts no new clients, because it is about to stop.
    pub fn stopping() -> Self {
        let message = "The node is stopping and takes no new clients";
        Self::new(503, "DRAINING", message).retry().advise("Connect again")
    }

    /// 403: the credential counts only beside a certificate of the client.
    pub fn no_certificate() -> Self {
        Self::new(403, "AUTH_CERTIFICATE_REQUIRED", AuthError::Certificate.to_string()).advise(
            "Connect with a certificate of an authority in tls.client_ca_file of the node, or \
             directly to its unix socket",
        )
    }

    /// 403: the request was sent by a page whose origin may not use the node.
    pub fn foreign_origin() -> Self {
        Self::new(403, "FORBIDDEN", "Pages of this origin may not use this node")
            .advise("The setting cors.allowed_origins of the node lists those that may")
    }

    /// 500: the store failed. The log has the cause.
    pub fn store_failed() -> Self {
        Self::new(500, "INTERNAL_ERROR", "The store could not complete the request")
            .advise("Check the node's log for the cause")
    }

    /// Creates the error of a credential that was refused.
    pub fn auth(
        status: u16,
        error: &'static str,
        message: String,
        next_actions: Option<&'static str>,
    ) -> Self {
        let next_actions = next_actions.map(Cow::Borrowed);
        Self { next_actions, ..Self::new(status, error, message) }
    }

    /// Creates the error of a request that breaks the rules of HTTP, or uses a part of HTTP that
    /// the node does not support.
    pub fn http(status: u16, message: impl Into<String>) -> Self {
        let error = match status {
            404 => "NOT_FOUND",
            405 => "METHOD_NOT_ALLOWED",
            408 => "REQUEST_TIMEOUT",
            413 => "PAYLOAD_TOO_LARGE",
            431 => "HEADERS_TOO_LARGE",
            501 => "NOT_IMPLEMENTED",
            503 => "OVERLOADED",
            505 => "HTTP_VERSION_NOT_SUPPORTED",
            500.. => "INTERNAL_ERROR",
            _ => "INVALID_INPUT",
        };
        Self::new(status, error, message)
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the code for programs, for example `INVALID_INPUT`.
    pub fn code(&self) -> &'static str {
        self.error
    }

    /// Creates an error without advice. `message` says what is wrong.
    pub(in crate::interface) fn new(
        status: u16,
        error: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let message = message.into();
        Self {
            status,
            error,
            message,
            next_actions: None,
            must_retry: false,
            allow: None,
            challenge: None,
            message_id: None,
        }
    }

    /// Adds what a 401 says about the bearer token. Without this, it depends only on whether the
    /// request has an `Authorization` header with one.
    pub(in crate::interface) fn challenge(self, challenge: Challenge) -> Self {
        Self { challenge: Some(challenge), ..self }
    }

    /// Adds `Retry-After: 1`: the client should try again after a second.
    pub(in crate::interface) fn retry(self) -> Self {
        Self { must_retry: true, ..self }
    }

    /// Adds advice about what to do.
    pub(in crate::interface) fn advise(self, next_actions: impl Into<Cow<'static, str>>) -> Self {
        Self { next_actions: Some(next_actions.into()), ..self }
    }
}

/// Converts the store's reason for a refusal.
impl From<StoreRefusal> for ApiError {
    fn from(refusal: StoreRefusal) -> Self {
        match refusal {
            StoreRefusal::Invalid(problem) => Self::invalid_input(problem),
            StoreRefusal::NotFound => Self::channel_not_found(),
            StoreRefusal::Duplicate(pattern) => Self::duplicate_pattern(&pattern),
            StoreRefusal::Full => Self::definitions_full(),
            StoreRefusal::UnknownMessage => Self::unknown_cursor(),
            StoreRefusal::PageTooLong => Self::page_too_long(),
            StoreRefusal::TooSlow => Self::too_slow(),
            StoreRefusal::Busy => Self::overloaded(),
            StoreRefusal::Failed => Self::store_failed(),
            StoreRefusal::Unavailable => Self::change_unavailable(),
            StoreRefusal::Unknown => Self::change_unknown(),
            StoreRefusal::Incomplete => Self::incomplete(),
        }
    }
}

impl From<ApiError> for Reply {
    fn from(refusal: ApiError) -> Self {
        let body = ErrorBody {
            error: refusal.error,
            message: &refusal.message,
            status_code: refusal.status,
            next_actions: refusal.next_actions.as_deref(),
            message_id: refusal.message_id.map(|id| id.to_string()),
        };
        let reply = Self::json(refusal.status, &body);
        Self {
            retry_after_s: refusal.must_retry.then_some(1),
            allow: refusal.allow,
            challenge: refusal.challenge,
            ..reply
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    error: &'static str,
    message: &'a str,
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_actions: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bodies_have_one_shape() {
        let body = Reply::from(ApiError::channel_not_found()).body;
        assert_eq!(body, r#"{"error":"NOT_FOUND","message":"Channel not found","statusCode":404}"#);
        let refusal = ApiError::auth(401, "AUTH_UNAUTHORIZED", "Invalid token".into(), Some("x"));
        assert_eq!(
            Reply::from(refusal).body,
            r#"{"error":"AUTH_UNAUTHORIZED","message":"Invalid token","statusCode":401,"#
                .to_owned()
                + r#""nextActions":"x"}"#
        );
    }

    #[test]
    fn what_the_caller_sent_is_escaped() {
        let body = Reply::from(ApiError::endpoint_not_found("/\"\n\\")).body;
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(parsed["message"], "Endpoint /\"\n\\ not found");
    }

    #[test]
    fn each_refusal_has_its_status_and_code() {
        let table = [
            (ApiError::duplicate_pattern("a"), 409, "DATABASE_DUPLICATE"),
            (ApiError::definitions_full(), 409, "LIMIT_REACHED"),
            (ApiError::payload_too_large(5), 413, "PAYLOAD_TOO_LARGE"),
            (ApiError::overloaded(), 503, "OVERLOADED"),
            (ApiError::stopping(), 503, "DRAINING"),
            (ApiError::too_many_connections(), 503, "OVERLOADED"),
            (ApiError::too_many_handshakes(), 503, "OVERLOADED"),
            (ApiError::too_many_requests(), 429, "RATE_LIMITED"),
            (ApiError::too_many_of_address(), 429, "RATE_LIMITED"),
            (ApiError::foreign_origin(), 403, "FORBIDDEN"),
            (ApiError::unknown_cursor(), 400, "INVALID_INPUT"),
            (ApiError::page_too_long(), 400, "INVALID_INPUT"),
            (ApiError::too_slow(), 503, "QUERY_TIMEOUT"),
            (ApiError::store_failed(), 500, "INTERNAL_ERROR"),
            (ApiError::invalid_json("x"), 400, "INVALID_INPUT"),
            (ApiError::http(431, "x"), 431, "HEADERS_TOO_LARGE"),
            (ApiError::http(501, "x"), 501, "NOT_IMPLEMENTED"),
            (ApiError::http(505, "x"), 505, "HTTP_VERSION_NOT_SUPPORTED"),
            (ApiError::http(411, "x"), 411, "INVALID_INPUT"),
        ];
        for (refusal, status, code) in table {
            assert_eq!((refusal.status(), refusal.code()), (status, code), "{refusal}");
        }
        assert_eq!(Reply::from(ApiError::overloaded()).retry_after_s, Some(1));
    }
}
