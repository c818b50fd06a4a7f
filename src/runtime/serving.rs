//! Serves the requests of a connection.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::acceptor::Acceptor;
use super::http_connection::{End, Excess, HttpConnection, cut};
use super::pending::{self, Client};
use super::responses::{count_refusal, end, preflight, refuse};
use super::upgrade::hand_over;
use super::{metrics, passing};
use crate::codec::http::{HttpError, Method, Request, Response};
use crate::interface::Session;
use crate::interface::entrance::{self, Call, Entrance};
use crate::interface::http::{HttpContext, NodeHealth, Outcome, Upgrade};
use crate::interface::rest::{ApiError, Reply};
use crate::message::Now;

/// Largest buffer of a response's body that is kept for the next one, in bytes.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

/// The acceptor's answer to a request.
enum Answer {
    /// A response. It may hold packets for this client, which are lost if the client does not
    /// receive it.
    Respond(Outcome, Option<Client>),
    /// A refusal that is counted already.
    Refuse(Response),
    /// A response after which the connection ends, because the rest of the request is not read.
    Last(Outcome),
    /// The connection becomes a WebSocket.
    Upgrade(Upgrade<Session>),
}

/// Serves the requests of a connection that have arrived. Then the connection waits for more
/// without a task, or has ended or left HTTP.
pub(super) async fn serve(acceptor: &Acceptor, mut connection: Box<HttpConnection>) {
    if let Err(end) = connection.fill() {
        let end = if connection.has_begun() { cut(end) } else { end };
        acceptor.note(&end, connection.peer());
        return refuse((&acceptor.counters, acceptor.date()), connection, None, end).await;
    }
    serve_received(acceptor, connection).await;
}

/// Serves the requests that were received on a connection.
pub(super) async fn serve_received(acceptor: &Acceptor, mut connection: Box<HttpConnection>) {
    let mut request = acceptor.request.take();
    loop {
        match connection.head(&mut request) {
            Ok(true) => {}
            Ok(false) => break,
            Err(end) => {
                let around = (&*acceptor.counters, acceptor.date());
                return refuse(around, connection, None, end).await;
            }
        }
        let Some(served) = serve_request(acceptor, connection, &request).await else { return };
        connection = served;
    }
    acceptor.request.replace(request);
    if let Err(end) = connection.may_begin() {
        let around = (&*acceptor.counters, acceptor.date());
        return refuse(around, connection, None, end).await;
    }
    if connection.has_answered() {
        connection.park();
    } else {
        acceptor.answers.push(connection);
    }
}

/// Serves one request. Returns the connection if it goes on.
async fn serve_request(
    acceptor: &Acceptor,
    mut connection: Box<HttpConnection>,
    request: &Request,
) -> Option<Box<HttpConnection>> {
    let under_way = UnderWay::new(acceptor);
    let answered = answer(acceptor, &mut connection, request).await;
    let (Outcome { response, is_unfinished }, client) = match answered {
        Ok(Answer::Respond(outcome, receiver)) => {
            let status = outcome.response.status;
            count_refusal(&acceptor.counters, status);
            if matches!(status, 400 | 401) {
                let (client, now) = (connection.caller().address, acceptor.monotonic());
                acceptor.shared.interfaces.throttle.note_refused(client, request, now);
            }
            (outcome, receiver)
        }
        Ok(Answer::Refuse(response)) => (response.into(), None),
        answered => {
            end_or_leave(acceptor, connection, request, answered).await;
            return None;
        }
    };
    let response = acceptor.complete(response, request);
    let head_only = request.method == Method::Head;
    let may_stay = !acceptor.is_stopping() || is_unfinished || is_watched(&request.path);
    let keep_alive = request.keep_alive && may_stay && !connection.is_brief();
    let mut sent = connection.respond(&response, acceptor.date(), keep_alive, head_only).await;
    // Packets are lost if they are not sent, and only this request knows of that.
    if sent.is_ok() && (!keep_alive || client.is_some()) {
        sent = connection.flush().await;
    }
    if sent.is_err() {
        client
            .into_iter()
            .for_each(|client| client.tell_gone(&acceptor.context(connection.caller())));
        return None;
    }
    client.into_iter().for_each(Client::tell_received);
    if let Some(buffer) = response.body.into_buffer(BUFFER_BYTES_MAX) {
        acceptor.buffer.replace(buffer);
    }
    drop(under_way);
    if keep_alive {
        return Some(connection);
    }
    connection.finish().await;
    None
}

/// Ends a connection after a request that it cannot go on after, or passes its socket on.
async fn end_or_leave(
    acceptor: &Acceptor,
    connection: Box<HttpConnection>,
    request: &Request,
    answered: Result<Answer, End>,
) {
    let (connection, response) = match answered {
        Ok(Answer::Respond(Outcome { response, .. }, _) | Answer::Refuse(response)) => {
            (connection, response)
        }
        Ok(Answer::Last(outcome)) => {
            count_refusal(&acceptor.counters, outcome.response.status);
            (connection, outcome.response)
        }
        Ok(Answer::Upgrade(upgrade)) => match leave(acceptor, connection, upgrade).await {
            Some((connection, error)) => (connection, Reply::from(error).into()),
            None => return,
        },
        Err(end) => {
            acceptor.note(&end, connection.peer());
            let around = (&*acceptor.counters, acceptor.date());
            let complete = |response| acceptor.complete(response, request);
            return refuse(around, connection, Some(&complete), end).await;
        }
    };
    end(connection, &acceptor.complete(response, request), acceptor.date()).await;
}

/// Sends the responses before an upgrade and hands the socket over. Returns the connection if it
/// cannot leave HTTP, and why.
async fn leave(
    acceptor: &Acceptor,
    mut connection: Box<HttpConnection>,
    upgrade: Upgrade<Session>,
) -> Option<(Box<HttpConnection>, ApiError)> {
    connection.flush().await.ok()?;
    let http = acceptor.context(connection.caller());
    let ways = (&*acceptor.arrivals, &acceptor.shared.descriptors);
    hand_over((&http, acceptor.date()), ways, connection, upgrade).err().map(|refused| *refused)
}

/// Returns whether this is a path that clients watch until the end of the node. Their connections
/// are kept while the node is stopping, because it accepts no new ones.
fn is_watched(path: &str) -> bool {
    path == metrics::PATH || entrance::is_watched(path)
}

/// Counts a request as under way until it is answered, handed over or abandoned.
struct UnderWay<'a>(&'a Acceptor);

impl<'a> UnderWay<'a> {
    fn new(acceptor: &'a Acceptor) -> Self {
        acceptor.counters.http_requests.add(1);
        acceptor.counters.http_under_way.add(1);
        Self(acceptor)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.counters.http_under_way.sub(1);
    }
}

/// Finds out what a request leads to, reads its body and produces the response.
async fn answer(
    acceptor: &Acceptor,
    connection: &mut HttpConnection,
    request: &Request,
) -> Result<Answer, End> {
    let now = acceptor.shared.clock.now();
    let unknown = connection.find_caller(request).err();
    let http = acceptor.context_at(now, connection.caller());
    if connection.excess() == Some(Excess::Address) {
        return Ok(Answer::Last(entrance::refuse_connection(&http).into()));
    }
    if let Some(refusal) = entrance::refuse(&http, request, unknown) {
        // The body of one request too many is not waited for.
        if refusal.status == 429 && !connection.has_body(request) {
            return Ok(Answer::Last(refusal.into()));
        }
        connection.body(request).await?;
        return Ok(Answer::Refuse(refusal));
    }
    if request.method == Method::Options {
        connection.body(request).await?;
        return Ok(Answer::Respond(preflight(request).into(), None));
    }
    if let Some(response) = entrance::refuse_administration(&http, request) {
        connection.body(request).await?;
        return Ok(Answer::Respond(response.into(), None));
    }
    if request.path == metrics::PATH {
        connection.body(request).await?;
        return Ok(Answer::Respond(metrics::answer(&acceptor.shared, request).into(), None));
    }
    let entrance = entrance::entrance(&http, request);
    if let Some(refusal) = refuse_session((&http, request), connection, &entrance) {
        connection.body(request).await?;
        return Ok(Answer::Refuse(refusal));
    }
    let outcome = match entrance {
        Entrance::Upgrade(upgrade) => return Ok(Answer::Upgrade(upgrade)),
        Entrance::Poll(_) | Entrance::Pass(_) if connection.is_spare() => {
            connection.body(request).await?;
            acceptor.counters.refused_descriptors.add(1);
            acceptor.shared.descriptors.note_refusal();
            Reply::from(ApiError::no_descriptors()).into()
        }
        Entrance::Poll(poll) => {
            let asked = (poll, connection.body(request).await?);
            connection.flush().await?;
            let http = acceptor.context(connection.caller());
            let forwarded = pending::forward(&http, &acceptor.arrivals, connection, asked).await;
            return forwarded.map(|(outcome, client)| Answer::Respond(outcome, client));
        }
        Entrance::Pass(away) => {
            let asked = (away, connection.body(request).await?);
            connection.flush().await?;
            let passed =
                passing::pass_on(&acceptor.context(connection.caller()), connection, asked).await;
            return passed.map(|(outcome, client)| Answer::Respond(outcome, client));
        }
        Entrance::Health(render) => {
            connection.body(request).await?;
            connection.flush().await?;
            health(acceptor, connection, render).await.into()
        }
        Entrance::Call(call) => return run_call(acceptor, connection, request, (call, now)).await,
        Entrance::Respond(response) => {
            connection.body(request).await?;
            response.into()
        }
    };
    Ok(Answer::Respond(outcome, None))
}

/// Returns the node's health, as an interface renders it.
async fn health(
    acceptor: &Acceptor,
    connection: &HttpConnection,
    render: impl FnOnce(&NodeHealth<'_>) -> Reply,
) -> Reply {
    let http = acceptor.context(connection.caller());
    let mut problems = acceptor.findings.problems(&http).await;
    let membership = http.shared.membership.as_ref();
    let degraded = match membership.and_then(|membership| membership.trouble(http.now)) {
        Some((text, true)) => {
            problems.push(text);
            None
        }
        Some((text, false)) => Some(text),
        None => http.shared.capture.as_ref().and_then(|capture| capture.trouble()),
    };
    let (problems, degraded) = (&*problems, degraded.as_deref());
    let (now, is_stopping) = (http.now.wall, acceptor.shared.notice.is_given());
    let is_bare = http.caller.entry.is_public;
    render(&NodeHealth { now, is_stopping, problems, degraded, is_bare })
}

/// Returns the refusal of a session that would begin on this connection, which is counted, if the
/// request, the connection or the session is one too many. Behind a proxy, the connection counts at
/// the client's address if it lasts.
fn refuse_session(
    (http, request): (&HttpContext<'_>, &Request),
    connection: &mut HttpConnection,
    entrance: &Entrance,
) -> Option<Response> {
    if let Some(refusal) = entrance::refuse_unchecked(http, request, entrance) {
        return Some(refusal);
    }
    if connection.excess().is_some() && entrance::begins_session(entrance) {
        http.counters.refused_connections.add(1);
        return Some(Reply::from(ApiError::too_many_connections()).into());
    }
    let refusal = entrance::refuse_session(http, entrance);
    if refusal.is_some() || !matches!(entrance, Entrance::Upgrade(_)) || !connection.is_shared() {
        return refusal;
    }
    match http.shared.throttle.hold(http.caller.address) {
        Ok(held) => connection.count(held),
        Err(_) => return Some(entrance::refuse_connection(http)),
    }
    None
}

/// Reads the body of a call and runs the call. `now` is the time when its head had been read.
async fn run_call(
    acceptor: &Acceptor,
    connection: &mut HttpConnection,
    request: &Request,
    (call, now): (Call, Now),
) -> Result<Answer, End> {
    // Only a body that has yet to arrive may take long. Reading both clocks anew for every call
    // made a publish over HTTP 1.2 % more expensive, by instructions.
    let arrived = connection.has_body(request).then_some(now);
    let body = match connection.body(request).await {
        Ok(body) => body,
        Err(end @ End::Broken(HttpError::BodyTooLong)) => {
            acceptor.note(&end, connection.peer());
            acceptor.counters.http_refused.add(1);
            return Ok(Answer::Last(
                call.refuse_body(&acceptor.context(connection.caller()), request),
            ));
        }
        Err(end) => return Err(end),
    };
    let now = arrived.unwrap_or_else(|| acceptor.shared.clock.now());
    let http = acceptor.context_at(now, connection.caller());
    let outcome = {
        let mut running = pin!(call.run(&http, request, &body));
        let at_once = poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await;
        match at_once {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                // The call waits for another thread. The responses before its own do not.
                connection.flush().await?;
                running.await
            }
        }
    };
    acceptor.terms.take_back(body);
    Ok(Answer::Respond(outcome, None))
}
