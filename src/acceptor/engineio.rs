//! Engine.IO over HTTP (contract sections 7.2 and 7.4): requests are checked here and forwarded to
//! the worker on which the session lives; upgrades hand the socket over to it.

use super::handover::upgrade;
use super::http::{End, Http};
use super::{Acceptor, Outcome, rest};
use crate::api::ApiError;
use crate::codec::http::{Method, Request, Response};
use crate::interface::insforge::engineio::{RequestError, decode_id};
use crate::mailbox::{Mail, Poll, PollRefusal, PollRequest, Polled, Purpose};
use crate::message::{App, SessionId, WorkerId};

/// The payload that ends a session.
pub(super) const OVER: &[u8] = crate::interface::insforge::engineio::CLOSE.as_bytes();

/// Answers a request to an Engine.IO path.
pub(super) async fn answer(
    acceptor: &Acceptor,
    http: &mut Http,
    request: &Request,
    app: App,
) -> Result<Outcome, End> {
    match wanted(acceptor, request, app) {
        Ok(Wanted::Upgrade(Purpose::EngineIo(_)) | Wanted::Open) if acceptor.is_stopping() => {
            http.body(request).await?;
            Ok(Outcome::Respond(rest::response(ApiError::stopping().into())))
        }
        Ok(Wanted::Upgrade(purpose)) => Ok(upgrade(request, purpose, None)),
        Ok(Wanted::Open) => {
            http.body(request).await?;
            let worker = acceptor.hub.mailboxes.assign();
            forward(acceptor, http, worker, PollRequest::Open(app)).await
        }
        Ok(Wanted::Get(session)) => {
            http.body(request).await?;
            forward(acceptor, http, session.worker, PollRequest::Get(session)).await
        }
        Ok(Wanted::Post(session)) => {
            let body = http.body(request).await?;
            forward(acceptor, http, session.worker, PollRequest::Post(session, body)).await
        }
        Err(error) => {
            http.body(request).await?;
            Ok(Outcome::Respond(refused(request, error)))
        }
    }
}

/// The conformance echo.
pub(super) fn echo(request: &Request) -> Outcome {
    upgrade(request, Purpose::Echo, None)
}

/// What a request asks for.
enum Wanted {
    Open,
    Get(SessionId),
    Post(SessionId),
    Upgrade(Purpose),
}

/// The checks of a stock server, in its order.
fn wanted(acceptor: &Acceptor, request: &Request, app: App) -> Result<Wanted, RequestError> {
    let transport = request.query_value("transport");
    let is_websocket = match transport.as_deref() {
        Some("websocket") => true,
        Some("polling") => false,
        _ => return Err(RequestError::UnknownTransport),
    };
    if let Some(sid) = request.query_value("sid") {
        let session = decode_id(&sid).filter(|session| is_here(acceptor, session.worker));
        let session = session.ok_or(RequestError::UnknownSession)?;
        return match request.method {
            Method::Get if is_websocket && request.upgrade => {
                Ok(Wanted::Upgrade(Purpose::Probe(session)))
            }
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
        true => Ok(Wanted::Upgrade(Purpose::EngineIo(app))),
        false => Ok(Wanted::Open),
    }
}

fn is_here(acceptor: &Acceptor, worker: WorkerId) -> bool {
    worker.index() < acceptor.hub.mailboxes.workers.len()
}

/// Upgrade requests are refused in plain text, others in JSON.
fn refused(request: &Request, error: RequestError) -> Response {
    match request.upgrade {
        true => Response::with_type(400, "text/html", error.message()),
        false => Response::json(400, error.json()),
    }
}

/// Asks the session's worker, and waits for its answer as long as the client does.
async fn forward(
    acceptor: &Acceptor,
    http: &mut Http,
    worker: WorkerId,
    request: PollRequest,
) -> Result<Outcome, End> {
    let session = match &request {
        PollRequest::Get(session) | PollRequest::Post(session, _) => Some(*session),
        PollRequest::Open(_) => None,
    };
    let is_get = matches!(request, PollRequest::Get(_));
    let put = |ticket| {
        let poll = Poll { ticket, request };
        acceptor.hub.mailboxes.control(worker, Mail::Poll(Box::new(poll)))
    };
    let mut pending = match acceptor.put(put, &acceptor.counters.refused_overloaded) {
        Ok(pending) => pending,
        Err(error) => {
            if session.is_none() {
                acceptor.hub.mailboxes.unassign(worker);
            }
            return Ok(Outcome::Respond(rest::response(error.into())));
        }
    };
    let answer = loop {
        // The read itself stays outside: a read that is given up loses what it had read.
        let answered = monoio::select! {
            answer = &mut pending => Some(answer),
            () = http.sends_ahead() => None,
        };
        match answered {
            Some(answer) => break answer,
            None if http.fill().await.is_ok() => {}
            None => {
                if let Some(session) = session {
                    tell_gone(acceptor, session);
                }
                return Err(End::Gone);
            }
        }
    };
    let response = response(answer);
    Ok(match session {
        Some(session) if is_get => Outcome::Deliver(response, session),
        _ => Outcome::Respond(response),
    })
}

/// The client went away with a request of this session, or with packets on their way to it.
pub(super) fn tell_gone(acceptor: &Acceptor, session: SessionId) {
    // Where there is no room for it the session ends with its heartbeat instead.
    let _ = acceptor.hub.mailboxes.control(session.worker, Mail::PollGone(session));
}

fn response(answer: Result<Polled, PollRefusal>) -> Response {
    let answered = match answer {
        Ok(Polled::Payload(payload)) => {
            Response::with_type(200, "text/plain; charset=UTF-8", payload)
        }
        Ok(Polled::Taken) => Response::with_type(200, "text/html", "ok"),
        Err(PollRefusal::UnknownSession) => {
            return Response::json(400, RequestError::UnknownSession.json());
        }
        Err(PollRefusal::BadRequest) => {
            return Response::json(400, RequestError::BadRequest.json());
        }
        Err(PollRefusal::Overloaded) => return rest::response(ApiError::overloaded().into()),
    };
    answered.header("Cache-Control", "no-store")
}
