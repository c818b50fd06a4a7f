//! Replies in JSON with the headers that depend on them.

use serde::Serialize;

use super::challenge::Challenge;
use crate::codec::http::Response;

/// A reply in JSON, with the headers that depend on its status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The status code of the response.
    pub status: u16,
    /// The body in JSON, without the newline at its end; empty with status 204.
    pub body: String,
    /// The value of `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// The value of `Allow`, which a 405 must have (RFC 9110 section 15.5.6).
    pub allow: Option<&'static str>,
    /// The value of `forge-proxy-error`, which names what is wrong with the headers of a Forge
    /// call.
    pub proxy_error: Option<&'static str>,
    /// A header that names nodes of a cluster, and their names. It is rare, and replies are moved
    /// often: with both headers in place a publish cost 80 instructions more.
    pub nodes: Option<Box<(&'static str, String)>>,
    /// What a 401 says about the bearer token; `None` if the request alone decides.
    pub challenge: Option<Challenge>,
}

impl Reply {
    /// Creates a reply with a value that is serialized to JSON.
    pub(in crate::interface) fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).expect("structs of strings and numbers serialize");
        Self::of(status, body)
    }

    /// Creates a reply with a body that is JSON already, or empty.
    pub(in crate::interface) fn of(status: u16, body: String) -> Self {
        Self {
            status,
            body,
            retry_after_s: None,
            allow: None,
            proxy_error: None,
            nodes: None,
            challenge: None,
        }
    }

    /// Names the nodes of a cluster that have not confirmed in time that a change is in force
    /// there.
    pub(in crate::interface) fn unconfirmed_by(self, nodes: &[Box<str>]) -> Self {
        self.naming("Fanfare-Unconfirmed", nodes)
    }

    /// Names the nodes of a cluster whose part is missing, because they did not answer in time or
    /// are gone.
    pub(in crate::interface) fn unanswered_by(self, nodes: &[Box<str>]) -> Self {
        self.naming("Fanfare-Unanswered", nodes)
    }

    fn naming(self, header: &'static str, nodes: &[Box<str>]) -> Self {
        Self { nodes: (!nodes.is_empty()).then(|| Box::new((header, nodes.join(", ")))), ..self }
    }
}

/// Ends the body in a newline, so that answers do not run into each other in a terminal.
impl From<Reply> for Response {
    fn from(mut reply: Reply) -> Self {
        let mut response = match reply.status {
            204 => Self::empty(204),
            status => {
                reply.body.push('\n');
                Self::json(status, reply.body)
            }
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
        if let Some(nodes) = reply.nodes {
            let (header, nodes) = *nodes;
            response = response.header(header, nodes);
        }
        if let Some(challenge) = reply.challenge {
            response = response.header("WWW-Authenticate", challenge.value());
        }
        response
    }
}
