//! The acceptor role: accepts connections, serves HTTP on them, and hands over those that leave
//! HTTP. It runs on threads of its own or inside the workers' threads. In both cases it reaches
//! workers only through mailboxes.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::net::{TcpListener, TcpStream};
use rand::rngs::StdRng;

use super::arrivals::Arrivals;
use super::descriptors::is_shortage;
use super::health::Findings;
use super::http_connection::{End, HttpConnection, HttpTerms};
use super::responses::{count_refusal, end, preflight, refuse};
use super::shared::Shared;
use super::upgrade::hand_over;
use super::{metrics, pending};
use crate::broker::received::Received;
use crate::codec::http::{Date, Dates, HttpError, Method, Request};
use crate::codec::json::Scratch;
use crate::interface::Session;
use crate::interface::authenticators::Authenticators;
use crate::interface::entrance::{self, Call, Entrance};
use crate::interface::http::{HttpContext, NodeHealth, Outcome, Upgrade, complete};
use crate::interface::rest::{ApiError, Reply};
use crate::limits::HTTP_CONNECTIONS_MAX;
use crate::mailbox::{AcceptorId, Answered, Inbox, Slot, Tickets};
use crate::message::{Now, SessionId};
use crate::metrics::Counters;

/// How long accepting pauses if descriptors or places have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The state that the connections of one acceptor share.
#[derive(Debug)]
pub struct Acceptor {
    shared: Arc<Shared>,
    arrivals: Arc<Arrivals>,
    auth: RefCell<Authenticators>,
    /// Buffers for decoding JSON.
    json: RefCell<Scratch>,
    random: RefCell<StdRng>,
    dates: Dates,
    counters: Arc<Counters>,
    tickets: Tickets,
    findings: Findings,
    connections: Cell<usize>,
    terms: Rc<HttpTerms>,
}

/// The acceptor's answer to a request.
enum Answer {
    /// A response. It may hold packets of this session, which are lost if the client does not
    /// receive it.
    Respond(Outcome, Option<SessionId>),
    /// A response after which the connection ends, because the rest of the request is not read.
    Last(Outcome),
    /// The connection becomes a WebSocket.
    Upgrade(Upgrade<Session>),
}

impl Acceptor {
    /// Creates an acceptor without connections.
    pub fn new(
        id: AcceptorId,
        (shared, arrivals): (Arc<Shared>, Arc<Arrivals>),
        auth: Authenticators,
        counters: Arc<Counters>,
        random: StdRng,
    ) -> Self {
        Self {
            terms: Rc::new(HttpTerms::new(shared.clone(), counters.clone())),
            tickets: Tickets::new(
                id,
                shared.interfaces.broker.mailboxes.acceptors[usize::from(id.0)].clone(),
            ),
            shared,
            arrivals,
            auth: RefCell::new(auth),
            json: RefCell::default(),
            random: RefCell::new(random),
            dates: Dates::default(),
            counters,
            findings: Findings::default(),
            connections: Cell::new(0),
        }
    }

    /// Returns what a handler may use, with the present time.
    fn context(&self) -> HttpContext<'_> {
        self.context_at(self.shared.clock.now())
    }

    /// Returns what a handler may use, with a time that was read before. Takes new keys if there
    /// are any.
    fn context_at(&self, now: Now) -> HttpContext<'_> {
        self.auth.borrow_mut().refresh();
        HttpContext {
            now,
            is_stopping: self.is_stopping(),
            shared: &self.shared.interfaces,
            auth: &self.auth,
            json: &self.json,
            random: &self.random,
            tickets: &self.tickets,
            counters: &self.counters,
        }
    }

    /// Notes in the log that a body was too long.
    fn note(&self, end: &End) {
        if matches!(end, End::Broken(HttpError::BodyTooLong)) {
            let (why, now) =
                ("a request body is longer than allowed", self.shared.clock.monotonic());
            self.auth.borrow_mut().refusals.note("http", why, now);
        }
    }

    /// Returns the date of a response that is sent now.
    fn date(&self) -> Date {
        self.dates.at(self.shared.clock.coarse_seconds())
    }

    fn is_stopping(&self) -> bool {
        self.shared.shutdown.get().is_some()
    }

    /// Checks whether one more connection may be accepted at the moment.
    ///
    /// # Errors
    /// Why it may not.
    fn check_place(&self) -> io::Result<()> {
        let why = if self.connections.get() >= HTTP_CONNECTIONS_MAX {
            "an acceptor has as many HTTP connections as it may"
        } else if !self.shared.descriptors.has_spare() {
            "all descriptors are in use but those that are kept back"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, why))
    }
}

/// Accepts connections until the node stops, as a task beside others of this thread.
pub fn run_beside(acceptor: Acceptor, listener: std::net::TcpListener, inbox: Inbox<Answered>) {
    monoio::spawn(run(acceptor, listener, inbox));
}

/// Accepts connections until the node stops, on the thread that serves them. Then it waits forever,
/// because tasks of this thread go on serving. Returns only if the listener cannot be watched.
pub async fn run(acceptor: Acceptor, listener: std::net::TcpListener, inbox: Inbox<Answered>) {
    let acceptor = Rc::new(acceptor);
    // epoll needs a non-blocking listener. On such a listener io_uring would not wait for a client,
    // but fail at once with `EAGAIN`.
    let watched = listener.set_nonblocking(monoio::utils::is_legacy());
    let watched = watched.and_then(|()| TcpListener::from_std(listener));
    let listener = match watched {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the listener cannot be watched"),
    };
    monoio::spawn(settle_answers(acceptor.clone(), inbox));
    loop {
        let accepted = match acceptor.check_place() {
            Ok(()) => listener.accept().await,
            Err(why) => Err(why),
        };
        match accepted {
            Ok((stream, _)) => {
                // Without this, a lone small frame may wait for the acknowledgement of the frame
                // before it.
                let _ = stream.set_nodelay(true);
                acceptor.connections.set(acceptor.connections.get() + 1);
                acceptor.counters.http_connections.add(1);
                let is_spare = acceptor.shared.descriptors.is_kept_back(&stream);
                if is_spare {
                    acceptor.shared.descriptors.begin_spare();
                }
                monoio::spawn(serve(acceptor.clone(), stream, is_spare));
            }
            // The listener was shut down: no new connection comes, and the present ones are still
            // served.
            Err(error) if acceptor.is_stopping() && !is_shortage(&error) => break,
            Err(error) => {
                acceptor.shared.descriptors.note_pause(&error);
                acceptor.counters.accept_pauses.add(1);
                monoio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Hands answers from the mailbox to the requests that wait for them.
async fn settle_answers(acceptor: Rc<Acceptor>, inbox: Inbox<Answered>) {
    let bell = inbox.mailbox().doorbell();
    // Monoio awaits sockets only. It never reads this descriptor, so it need not be a socket.
    let awaitable = bell.descriptor().try_clone().map(std::net::TcpStream::from);
    let awaitable = awaitable.and_then(TcpStream::from_std);
    let awaitable = match awaitable {
        Ok(awaitable) => awaitable,
        Err(error) => return tracing::error!(%error, "an acceptor's mailbox cannot be watched"),
    };
    loop {
        while let Some(answer) = inbox.take(|_| Slot::Control) {
            acceptor.tickets.settle(answer);
        }
        if bell.sleep(|| inbox.is_empty()) {
            let _ = awaitable.readable(false).await;
            bell.silence();
            bell.woke();
        }
    }
}

/// Serves a connection until it ends or leaves HTTP.
async fn serve(acceptor: Rc<Acceptor>, stream: TcpStream, is_spare: bool) {
    let connection = HttpConnection::new(stream, is_spare, acceptor.terms.clone());
    serve_requests(&acceptor, connection).await;
    if is_spare {
        acceptor.shared.descriptors.end_spare();
    }
    acceptor.connections.set(acceptor.connections.get() - 1);
    acceptor.counters.http_connections.sub(1);
}

async fn serve_requests(acceptor: &Acceptor, mut connection: HttpConnection) {
    loop {
        let request = match connection.head().await {
            Ok(request) => request,
            Err(end) => {
                let around = (&*acceptor.counters, acceptor.date());
                return refuse(around, connection, None, end).await;
            }
        };
        let under_way = UnderWay::new(acceptor);
        let (outcome, packets_of) = match answer(acceptor, &mut connection, &request).await {
            Ok(Answer::Respond(outcome, packets_of)) => (outcome, packets_of),
            Ok(Answer::Last(outcome)) => {
                count_refusal(&acceptor.counters, outcome.response.status);
                let response = complete(outcome.response, &request);
                return end(connection, &response, acceptor.date()).await;
            }
            Ok(Answer::Upgrade(upgrade)) => {
                let http = acceptor.context();
                let ways = (&*acceptor.arrivals, &acceptor.shared.descriptors);
                let handed_over = hand_over((&http, acceptor.date()), ways, connection, upgrade);
                let Some((connection, error)) = handed_over.err().map(|refused| *refused) else {
                    return;
                };
                let refusal = complete(Reply::from(error).into(), &request);
                return end(connection, &refusal, acceptor.date()).await;
            }
            Err(end) => {
                acceptor.note(&end);
                let around = (&*acceptor.counters, acceptor.date());
                return refuse(around, connection, Some(&request), end).await;
            }
        };
        let Outcome { response, is_unfinished } = outcome;
        count_refusal(&acceptor.counters, response.status);
        let response = complete(response, &request);
        let head_only = request.method == Method::Head;
        let may_stay = !acceptor.is_stopping() || is_unfinished || is_watched(&request.path);
        let keep_alive = request.keep_alive && may_stay && !connection.is_spare();
        let date = acceptor.date();
        if connection.respond(&response, date, keep_alive, head_only).await.is_err() {
            if let Some(session) = packets_of {
                pending::tell_gone(&acceptor.context(), session);
            }
            return;
        }
        drop(under_way);
        if !keep_alive {
            return connection.finish().await;
        }
    }
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
    if request.method == Method::Options {
        connection.body(request).await?;
        return Ok(Answer::Respond(preflight(request).into(), None));
    }
    if request.path == metrics::PATH {
        connection.body(request).await?;
        return Ok(Answer::Respond(metrics::answer(&acceptor.shared, request).into(), None));
    }
    let now = acceptor.shared.clock.now();
    let outcome = match entrance::entrance(&acceptor.context_at(now), request) {
        Entrance::Upgrade(upgrade) => return Ok(Answer::Upgrade(upgrade)),
        Entrance::Poll(_) if connection.is_spare() => {
            connection.body(request).await?;
            acceptor.counters.refused_descriptors.add(1);
            acceptor.shared.descriptors.note_refusal();
            Reply::from(ApiError::no_descriptors()).into()
        }
        Entrance::Poll(poll) => {
            let asked = (poll, connection.body(request).await?);
            let http = acceptor.context();
            let forwarded = pending::forward(&http, &acceptor.arrivals, connection, asked).await;
            return forwarded.map(|(outcome, session)| Answer::Respond(outcome, session));
        }
        Entrance::Health(render) => {
            connection.body(request).await?;
            let http = acceptor.context();
            let problems = &*acceptor.findings.problems(&http).await;
            let (now, is_stopping) = (http.now.wall, http.is_stopping);
            render(&NodeHealth { now, is_stopping, problems }).into()
        }
        Entrance::Call(call) => return run_call(acceptor, connection, request, (call, now)).await,
        Entrance::Respond(response) => {
            connection.body(request).await?;
            response.into()
        }
    };
    Ok(Answer::Respond(outcome, None))
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
            acceptor.note(&end);
            acceptor.counters.http_refused.add(1);
            return Ok(Answer::Last(call.refuse_body(&acceptor.context(), request)));
        }
        Err(end) => return Err(end),
    };
    let now = arrived.unwrap_or_else(|| acceptor.shared.clock.now());
    let outcome = call.run(&acceptor.context_at(now), request, &Received::whole(body.into())).await;
    Ok(Answer::Respond(outcome, None))
}
