//! The seam for HTTP: finds the interface that a request is for and runs its calls.

use std::convert::Infallible;

use super::http::{self, HttpContext, Outcome, is_forwarded};
use super::rest::{ApiError, Reply};
use super::websocket::upgrade;
use super::{Session, events, forge, front, insforge, m2};
use crate::broker::received::Received;
use crate::codec::http::Request;
use crate::interface::insforge::engineio::{self, Part};
use crate::interface::insforge::violation::Violation;
use crate::limits::HTTP_BODY_BYTES_MAX;
use crate::mailbox::{PollRefusal, Polled};

#[cfg(test)]
mod tests;

/// The path of the WebSocket that echoes messages, for conformance suites.
const ECHO: &str = "/_test/echo";

/// The way that a request of any interface takes after its head.
pub type Entrance = http::Entrance<Session, Call>;

/// A call that runs once the request's body has been read.
#[derive(Debug)]
pub enum Call {
    /// A call of InsForge Realtime, or of an administrator.
    Insforge(insforge::rest::Route),
    /// A call of Forge Realtime.
    Forge(forge::http::Route),
    /// A call of M2 Realtime.
    M2(m2::http::Route),
}

/// Returns what a request leads to. Paths that no interface has are refused with 404.
pub fn entrance(http: &HttpContext<'_>, request: &Request) -> Entrance {
    let path = &*request.path;
    let is_conformance = http.shared.config.conformance && !is_forwarded(request);
    if let Some(app) = insforge::http::app(path, is_conformance) {
        return insforge::http::entrance(http, request, app).map(Session::from, Call::Insforge);
    }
    if insforge::http::is_astray(request) {
        return insforge::http::refuse_astray(http, request);
    }
    if is_conformance && path == ECHO {
        return upgrade(request, Session::Echo, None, None);
    }
    if front::is_ours(path) {
        return Entrance::Respond(front::response(request));
    }
    if events::http::is_ours(path) {
        return events::http::entrance(http, request)
            .map(Session::Events, |call: Infallible| match call {});
    }
    if m2::http::is_ours(path) {
        return m2::http::entrance(http, request).map(Session::M2, Call::M2);
    }
    if forge::http::is_ours(path) {
        return forge::http::entrance(http, request).map(Session::Forge, Call::Forge);
    }
    insforge::rest::entrance(request).map(Session::Insforge, Call::Insforge)
}

/// Returns whether clients poll this path to watch a stopping node until its end.
pub fn is_watched(path: &str) -> bool {
    path == insforge::rest::HEALTH
}

/// Returns the outcome of a long-polling request from its worker's answer.
pub fn polled(answer: Result<Polled, PollRefusal>) -> Outcome {
    insforge::http::polled(answer)
}

/// Splits the body of a long-polling request into packets.
pub fn packets(body: &str) -> impl Iterator<Item = Result<Part<'_>, Violation>> {
    engineio::payload(body)
}

impl Call {
    /// Runs the call and returns its outcome.
    pub async fn run(self, http: &HttpContext<'_>, request: &Request, body: &Received) -> Outcome {
        match self {
            Self::Insforge(route) => insforge::rest::run(http, request, route, body).await.into(),
            Self::Forge(route) => forge::http::run(http, request, &route, body).await.into(),
            Self::M2(route) => m2::http::run(http, request, route, body).await.into(),
        }
    }

    /// Returns the refusal of a call whose body is longer than [`HTTP_BODY_BYTES_MAX`].
    pub fn refuse_body(&self, http: &HttpContext<'_>, request: &Request) -> Outcome {
        let reply = match self {
            Self::Forge(route) => forge::http::refuse_body(http, request, route),
            Self::Insforge(_) | Self::M2(_) => None,
        };
        reply
            .unwrap_or_else(|| Reply::from(ApiError::payload_too_large(HTTP_BODY_BYTES_MAX)))
            .into()
    }
}

impl From<insforge::http::Opened> for Session {
    fn from(opened: insforge::http::Opened) -> Self {
        match opened {
            insforge::http::Opened::Session(session) => Self::Insforge(session),
            insforge::http::Opened::Probe(probe) => Self::Probe(probe),
        }
    }
}
