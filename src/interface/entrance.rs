//! The seam for HTTP: finds the interface that a request is for and runs its calls.

use std::convert::Infallible;

use super::caller::Unknown;
use super::http::{self, HttpContext, Outcome, Poll, admission};
use super::rest::{ApiError, Reply};
use super::throttle::has_credential;
use super::websocket::upgrade;
use super::{Session, events, forge, front, insforge, m2};
use crate::broker::received::Received;
use crate::codec::http::{Method, Request, Response};
use crate::config::origins::Admission;
use crate::interface::insforge::engineio::{self, Part};
use crate::interface::insforge::violation::Violation;
use crate::limits::HTTP_BODY_BYTES_MAX;
use crate::mailbox::{PollRefusal, Polled};

#[cfg(test)]
mod tests;

/// The path of the node's metrics, which the runtime renders.
pub const METRICS: &str = "/metrics";
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
    let is_conformance = http.shared.config.conformance && !http.is_forwarded(request);
    if let Some(app) = insforge::http::app(path, is_conformance) {
        return insforge::http::entrance(http, request, app).map(Session::from, Call::Insforge);
    }
    if insforge::http::is_astray(request) {
        return insforge::http::refuse_astray(http, request);
    }
    if is_conformance && path == ECHO {
        return upgrade(http, request, Session::Echo, None, None);
    }
    if front::is_ours(path) {
        return Entrance::Respond(front::response(request, http.caller.entry.is_public));
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
    insforge::rest::entrance(http, request).map(Session::Insforge, Call::Insforge)
}

/// Returns the refusal of a request before anything else is looked at, which is counted: its client
/// is not known, sends too many requests, or is a page that may not use the node. `None` if the
/// request may go on.
pub fn refuse(
    http: &HttpContext<'_>,
    request: &Request,
    unknown: Option<Unknown>,
) -> Option<Response> {
    if let Some(unknown) = unknown {
        http.counters.refused_invalid.add(1);
        http.note_refusal("http", unknown.why());
        return Some(Reply::from(unknown.error()).into());
    }
    let is_checked = request.method != Method::Options && request.path != METRICS;
    let refusal = match is_checked && has_credential(request) {
        true => None,
        false => refuse_rate(http, request),
    };
    refusal.or_else(|| refuse_origin(http, request))
}

/// Returns the refusal of a request for administration on a connection whose listener leaves that
/// to others: as if there were no such path. `None` if the request may go on. All that decides on
/// what is administration is here and in the functions that this one calls.
pub fn refuse_administration(http: &HttpContext<'_>, request: &Request) -> Option<Response> {
    if !http.caller.entry.is_public || request.method == Method::Options {
        return None;
    }
    let path = &*request.path;
    let is_administration = path == METRICS
        || forge::http::is_administration(path)
        || insforge::rest::is_administration(request.method_name(), path);
    is_administration.then(|| Reply::from(ApiError::endpoint_not_found(path)).into())
}

/// Returns the refusal of a request of an address that sends too many without a credential, in the
/// form that the request's interface has for it.
fn refuse_rate(http: &HttpContext<'_>, request: &Request) -> Option<Response> {
    let client = http.caller.address;
    if http.shared.throttle.admit_request(client, http.now.monotonic()) {
        return None;
    }
    http.counters.refused_address_rate.add(1);
    http.note_refusal("http", "the address sends too many requests without a credential");
    let reply = match forge::http::is_ours(&request.path) {
        true => forge::http::refuse_rate(request),
        false => ApiError::too_many_requests().into(),
    };
    Some(reply.into())
}

/// Returns the refusal of a connection of an address that has as many as it may have, and counts
/// it.
pub fn refuse_connection(http: &HttpContext<'_>) -> Response {
    http.counters.refused_address_connections.add(1);
    http.note_refusal("http", "the address has as many connections as it may have");
    Reply::from(ApiError::too_many_of_address()).into()
}

/// Returns the refusal of a request with a credential that its way does not look at, or does not
/// need: it counts at its address like one without.
pub fn refuse_unchecked(
    http: &HttpContext<'_>,
    request: &Request,
    entrance: &Entrance,
) -> Option<Response> {
    let checks = match entrance {
        Entrance::Call(call) => !matches!(call, Call::Forge(forge::http::Route::Module(_))),
        Entrance::Poll(poll) => !matches!(poll, Poll::Open(_)),
        Entrance::Upgrade(upgrade) => upgrade.to.is_some(),
        Entrance::Pass(_) => true,
        Entrance::Health(_) | Entrance::Respond(_) => false,
    };
    if checks || !has_credential(request) { None } else { refuse_rate(http, request) }
}

/// Returns the refusal of a session that would begin now, which is counted, if too many do.
pub fn refuse_session(http: &HttpContext<'_>, entrance: &Entrance) -> Option<Response> {
    if !begins_session(entrance) || http.shared.throttle.admit_session(http.now.monotonic()) {
        return None;
    }
    http.counters.refused_handshakes.add(1);
    Some(Reply::from(ApiError::too_many_handshakes()).into())
}

/// Returns whether a session begins, and not only carries on with another request or transport.
pub fn begins_session(entrance: &Entrance) -> bool {
    match entrance {
        Entrance::Upgrade(upgrade) => upgrade.to.is_none(),
        Entrance::Poll(poll) => matches!(poll, Poll::Open(_)),
        _ => false,
    }
}

/// Returns the refusal of a request by a page whose origin may not use the node, in the form that
/// the request's interface has for it. `None` if the request may go on.
fn refuse_origin(http: &HttpContext<'_>, request: &Request) -> Option<Response> {
    let asked = match &http.auth.borrow().origins {
        Some(origins) => admission(request, origins),
        None => None,
    };
    if asked != Some(Admission::Refused) {
        return None;
    }
    http.counters.refused_origins.add(1);
    http.note_refusal("http", "the page's origin is not in cors.allowed_origins");
    tracing::debug!(origin = request.header("origin"), "refusing a page's request for its origin");
    let path = &*request.path;
    Some(if insforge::http::app(path, http.shared.config.conformance).is_some() {
        insforge::http::refuse_origin()
    } else if forge::http::is_ours(path) {
        forge::http::refuse_origin(request).into()
    } else {
        Reply::from(ApiError::foreign_origin()).into()
    })
}

/// Returns whether clients poll this path to watch a stopping node until its end.
pub fn is_watched(path: &str) -> bool {
    matches!(path, insforge::rest::HEALTH | insforge::rest::LIVE)
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
