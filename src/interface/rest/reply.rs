//! Replies in JSON, and the headers that go with them.

use serde::Serialize;

use crate::codec::http::Response;

/// A reply: status, JSON body, and the headers that depend on the outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body, JSON.
    pub body: String,
    /// Value of `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// Value of `Allow`, which a 405 must carry (RFC 9110 section 15.5.6).
    pub allow: Option<&'static str>,
    /// Value of `forge-proxy-error`: what is wrong with the headers of a Forge call.
    pub proxy_error: Option<&'static str>,
}

impl Reply {
    /// Creates a reply whose body is this value in JSON.
    pub(in crate::interface) fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).expect("structs of strings and numbers serialize");
        Self::of(status, body)
    }

    /// Creates a reply whose body is JSON already, or nothing.
    pub(in crate::interface) fn of(status: u16, body: String) -> Self {
        Self { status, body, retry_after_s: None, allow: None, proxy_error: None }
    }
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Self {
        let mut response = match reply.status {
            204 => Self::empty(204),
            status => Self::json(status, reply.body),
        };
        if let Some(seconds) = reply.retry_after_s {
            response = response.header("Retry-After", seconds.to_string());
        }
        if let Some(allow) = reply.allow {
            response = response.header("Allow", allow);
        }
        if let Some(code) = reply.proxy_error {
            response = response.header("forge-proxy-error", code);
        }
        response
    }
}
