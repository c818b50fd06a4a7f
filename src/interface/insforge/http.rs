//! Engine.IO over HTTP: requests that open a session, poll it, or offer to carry it on a WebSocket.

use super::client_bundle;
use super::engineio::{CLOSE, RequestError, decode_id, jsonp_refusal};
use super::probe::{Probe, refused_upgrade};
use super::rest::Route;
use super::session::{App, Session};
use super::unsupported::Unsupported;
use crate::codec::http::{Method, Request, Response};
use crate::interface::http::{Away, Entrance, HttpContext, Outcome, Poll};
use crate::interface::rest::{ApiError, Reply};
use crate::interface::websocket::upgrade;
use crate::mailbox::{PollRefusal, Polled};
use crate::message::{NodeTag, SessionId, WorkerId};

/// The session of a client that upgrades to a WebSocket or opens a session on long-polling.
#[derive(Debug)]
pub enum Opened {
    /// A session that begins with this connection.
    Session(Session),
    /// A WebSocket that offers to carry a polling session.
    Probe(Probe),
}

/// The purpose of a valid request.
enum Wanted {
    Open,
    OpenOnWebSocket,
    Get(SessionId),
    Post(SessionId),
    Pass(Away),
    Carry(SessionId),
}

/// Returns the application of sessions that are opened under this path; `None` if the path is not
/// one of Engine.IO's. `is_conformance` selects the applications of conformance suites.
pub(in crate::interface) fn app(path: &str, is_conformance: bool) -> Option<App> {
    let is_below = |name: &str| {
        path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match is_conformance {
        _ if is_below("/socket.io") && !is_conformance => Some(App::Insforge),
        true if is_below("/socket.io") => Some(App::SocketIoConformance),
        true if is_below("/engine.io") => Some(App::EngineIoConformance),
        _ => None,
    }
}

/// Returns whether a request is one of Engine.IO that arrives at a path of others: its client has
/// another `path` than the node.
pub(in crate::interface) fn is_astray(request: &Request) -> bool {
    request.query.as_deref().is_some_and(|query| query.contains("EIO="))
        && request.query_value("EIO") != Ok(None)
        && request.query_value("transport") != Ok(None)
}

/// Refuses a request of Engine.IO at a path of others.
pub(in crate::interface) fn refuse_astray<S, C>(
    http: &HttpContext<'_>,
    request: &Request,
) -> Entrance<S, C> {
    let what = Unsupported::Path;
    http.shared.unsupported.refused(what, &request.path, http.now.monotonic());
    Entrance::refuse(ApiError::no_clients_here(&request.path, what.advice()))
}

/// Decides, by the head of a request to an Engine.IO path, how the request is served.
pub(in crate::interface) fn entrance(
    http: &HttpContext<'_>,
    request: &Request,
    app: App,
) -> Entrance<Opened, Route> {
    if let Some(name) = client_bundle::file_name(&request.path) {
        return Entrance::Respond(client_bundle::response(
            &http.shared.client_bundle,
            request,
            name,
        ));
    }
    let (now, timings) = (http.now, &http.shared.timings);
    let random = &mut *http.random.borrow_mut();
    match wanted(http, request) {
        Ok(Wanted::Open | Wanted::OpenOnWebSocket) if http.is_stopping => {
            Entrance::refuse(ApiError::stopping())
        }
        Ok(Wanted::Open) => {
            let session = Session::polling(app, now, timings, random);
            let session = session.lacking_certificate(http.lacks_certificate(request));
            Entrance::Poll(Poll::Open(Opened::Session(session)))
        }
        Ok(Wanted::OpenOnWebSocket) => {
            let session = Session::websocket(app, now, timings, random);
            let session = session.lacking_certificate(http.lacks_certificate(request));
            upgrade(http, request, Opened::Session(session), subprotocol(request), None)
        }
        Ok(Wanted::Get(session)) => Entrance::Poll(Poll::Get(session)),
        Ok(Wanted::Post(session)) => Entrance::Poll(Poll::Post(session)),
        Ok(Wanted::Pass(away)) => Entrance::Pass(away),
        Ok(Wanted::Carry(session)) => {
            let probe = Probe::new(session, now.monotonic() + timings.upgrade_timeout_ms);
            let protocol = subprotocol(request);
            upgrade(http, request, Opened::Probe(probe), protocol, Some(session.worker))
        }
        Err(error) => Entrance::Respond(refused(http, request, error)),
    }
}

/// Returns the first subprotocol that a client offers, which the stock server selects: a client
/// that offers any closes a WebSocket without one.
fn subprotocol(request: &Request) -> Option<String> {
    let offered = request.header("sec-websocket-protocol")?.split(',').next()?.trim();
    (!offered.is_empty()).then(|| offered.to_owned())
}

/// Checks a request in the order in which the stock Engine.IO server does.
fn wanted(http: &HttpContext<'_>, request: &Request) -> Result<Wanted, RequestError> {
    let transport = request.query_value("transport");
    let is_websocket = match transport.as_ref().map(Option::as_deref) {
        Ok(Some("websocket")) => true,
        Ok(Some("polling")) => false,
        _ => return Err(RequestError::UnknownTransport),
    };
    let sid = request.query_value("sid").map_err(|_| RequestError::UnknownSession)?;
    if let Some(sid) = sid {
        let decoded = decode_id(&sid, http.shared.tag);
        let (session, elsewhere) = decoded.ok_or(RequestError::UnknownSession)?;
        if let Some(node) = elsewhere {
            return wanted_elsewhere(request, is_websocket, (session, node)).map(Wanted::Pass);
        }
        if !is_here(http, session.worker) {
            return Err(RequestError::UnknownSession);
        }
        return match request.method {
            Method::Get if is_websocket && request.upgrade => Ok(Wanted::Carry(session)),
            Method::Get if !is_websocket => Ok(Wanted::Get(session)),
            Method::Post if !is_websocket => Ok(Wanted::Post(session)),
            _ => Err(RequestError::BadRequest),
        };
    }
    if request.method != Method::Get {
        return Err(RequestError::BadHandshakeMethod);
    }
    if is_websocket && !request.upgrade {
        return Err(RequestError::NoUpgrade);
    }
    if !is_websocket && request.query_value("j") != Ok(None) {
        return Err(RequestError::Jsonp);
    }
    if request.query_value("EIO") != Ok(Some("4".into())) {
        return Err(RequestError::UnsupportedVersion);
    }
    match is_websocket {
        true => Ok(Wanted::OpenOnWebSocket),
        false => Ok(Wanted::Open),
    }
}

/// Returns what a request wants of a session of another node. That node does not share the sockets
/// of this one, so that a WebSocket is refused: the client stays on long-polling.
fn wanted_elsewhere(
    request: &Request,
    is_websocket: bool,
    (session, node): (SessionId, NodeTag),
) -> Result<Away, RequestError> {
    match request.method {
        Method::Get if is_websocket && request.upgrade => Err(RequestError::UnknownSession),
        Method::Get if !is_websocket => Ok(Away { node, session, is_post: false }),
        Method::Post if !is_websocket => Ok(Away { node, session, is_post: true }),
        _ => Err(RequestError::BadRequest),
    }
}

fn is_here(http: &HttpContext<'_>, worker: WorkerId) -> bool {
    worker.index() < http.shared.broker.mailboxes.workers.len()
}

/// Returns the refusal of a request, and logs it if the client asks for something that is not
/// supported: an upgrade gets plain text, a script element a script, other requests get JSON.
fn refused(http: &HttpContext<'_>, request: &Request, error: RequestError) -> Response {
    let value_of = |name| request.query_value(name).ok().flatten().unwrap_or_default();
    let is_old = value_of("EIO") != "4";
    let what = error.unsupported().map(|what| match what {
        // JSONP is what such a client falls back to, not what it is refused for.
        Unsupported::Jsonp if is_old => Unsupported::Version,
        what => what,
    });
    if let Some(what) = what {
        let asked = match what {
            Unsupported::Transport | Unsupported::NoUpgrade => {
                format!("transport={}", value_of("transport"))
            }
            _ => format!("EIO={}", value_of("EIO")),
        };
        http.shared.unsupported.refused(what, &asked, http.now.monotonic());
    }
    match (error, what) {
        (RequestError::Jsonp, Some(what)) => {
            http.counters.refused_invalid.add(1);
            let script = jsonp_refusal(&value_of("j"), is_old, what.advice());
            Response::with_type(200, "text/javascript; charset=utf-8", script)
                .header("X-Content-Type-Options", "nosniff")
                .header("Cache-Control", "no-store")
        }
        _ if request.upgrade => refused_upgrade(error),
        _ => Response::json(400, error.json()),
    }
}

/// Returns the refusal of a request by a page whose origin may not use the node, as the stock
/// server refuses what its `allowRequest` forbids.
pub(in crate::interface) fn refuse_origin() -> Response {
    Response::json(403, RequestError::Forbidden.json())
}

/// Renders the answer to a polling request. If the session goes on, the outcome is unfinished: a
/// stopping node must still answer the client's next request.
pub(in crate::interface) fn polled(answer: Result<Polled, PollRefusal>) -> Outcome {
    let (response, is_unfinished) = match answer {
        Ok(Polled::Payload(payload)) => {
            let is_unfinished = payload != CLOSE.as_bytes();
            (Response::with_type(200, "text/plain; charset=UTF-8", payload), is_unfinished)
        }
        Ok(Polled::Taken) => (Response::with_type(200, "text/html", "ok"), true),
        Err(PollRefusal::UnknownSession) => {
            return Response::json(400, RequestError::UnknownSession.json()).into();
        }
        Err(PollRefusal::BadRequest) => {
            return Response::json(400, RequestError::BadRequest.json()).into();
        }
        Err(PollRefusal::TooMany) => {
            return Reply::from(ApiError::too_many_polling_sessions()).into();
        }
        Err(PollRefusal::Overloaded) => return Reply::from(ApiError::overloaded()).into(),
    };
    Outcome { response, is_unfinished }
}
