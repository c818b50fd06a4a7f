//! Engine.IO over HTTP: requests that open a session, poll it, or offer to carry it on a WebSocket.

use super::engineio::{CLOSE, RequestError, decode_id};
use super::probe::{Probe, refused_upgrade};
use super::rest::Route;
use super::session::{App, Session};
use crate::codec::http::{Method, Request, Response};
use crate::interface::http::{Entrance, HttpContext, Outcome, Poll};
use crate::interface::rest::{ApiError, Reply};
use crate::interface::websocket::upgrade;
use crate::mailbox::{PollRefusal, Polled};
use crate::message::{SessionId, WorkerId};

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
    Carry(SessionId),
}

/// Returns the application of sessions that are opened under this path; `None` if the path is not
/// one of Engine.IO's. `is_conformance` selects the applications of conformance suites.
pub(in crate::interface) fn app(path: &str, is_conformance: bool) -> Option<App> {
    match path {
        "/socket.io/" | "/socket.io" if is_conformance => Some(App::SocketIoConformance),
        "/socket.io/" | "/socket.io" => Some(App::Insforge),
        "/engine.io/" | "/engine.io" if is_conformance => Some(App::EngineIoConformance),
        _ => None,
    }
}

/// Decides, by the head of a request to an Engine.IO path, how the request is served.
pub(in crate::interface) fn entrance(
    http: &HttpContext<'_>,
    request: &Request,
    app: App,
) -> Entrance<Opened, Route> {
    let (now, timings) = (http.now, &http.shared.timings);
    let random = &mut *http.random.borrow_mut();
    match wanted(http, request) {
        Ok(Wanted::Open | Wanted::OpenOnWebSocket) if http.is_stopping => {
            Entrance::refuse(ApiError::stopping())
        }
        Ok(Wanted::Open) => {
            let session = Session::polling(app, now, timings, random);
            Entrance::Poll(Poll::Open(Opened::Session(session)))
        }
        Ok(Wanted::OpenOnWebSocket) => {
            let session = Session::websocket(app, now, timings, random);
            upgrade(request, Opened::Session(session), None, None)
        }
        Ok(Wanted::Get(session)) => Entrance::Poll(Poll::Get(session)),
        Ok(Wanted::Post(session)) => Entrance::Poll(Poll::Post(session)),
        Ok(Wanted::Carry(session)) => {
            let probe = Probe::new(session, now.monotonic() + timings.upgrade_timeout_ms);
            upgrade(request, Opened::Probe(probe), None, Some(session.worker))
        }
        Err(error) => Entrance::Respond(refused(request, error)),
    }
}

/// Checks a request in the order in which the stock Engine.IO server does.
fn wanted(http: &HttpContext<'_>, request: &Request) -> Result<Wanted, RequestError> {
    let transport = request.query_value("transport");
    let is_websocket = match transport.as_deref() {
        Some("websocket") => true,
        Some("polling") => false,
        _ => return Err(RequestError::UnknownTransport),
    };
    if let Some(sid) = request.query_value("sid") {
        let session = decode_id(&sid).filter(|session| is_here(http, session.worker));
        let session = session.ok_or(RequestError::UnknownSession)?;
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
        return Err(RequestError::BadRequest);
    }
    if request.query_value("EIO").as_deref() != Some("4") {
        return Err(RequestError::UnsupportedVersion);
    }
    match is_websocket {
        true => Ok(Wanted::OpenOnWebSocket),
        false => Ok(Wanted::Open),
    }
}

fn is_here(http: &HttpContext<'_>, worker: WorkerId) -> bool {
    worker.index() < http.shared.broker.mailboxes.workers.len()
}

/// Returns the refusal of a request: an upgrade gets plain text, other requests get JSON.
fn refused(request: &Request, error: RequestError) -> Response {
    match request.upgrade {
        true => refused_upgrade(error),
        false => Response::json(400, error.json()),
    }
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
        Err(PollRefusal::Overloaded) => return Reply::from(ApiError::overloaded()).into(),
    };
    Outcome { response: response.header("Cache-Control", "no-store"), is_unfinished }
}
