//! Long-polling requests between the nodes of a cluster: an acceptor passes those for sessions of
//! other nodes on, and workers are asked for other nodes.

use bytes::Bytes;

use super::arrivals::{Arrival, Arrivals, Asked};
use super::http_connection::{End, HttpConnection};
use super::pending::{Client, wait};
use crate::broker::received::Received;
use crate::interface::entrance::polled;
use crate::interface::http::{Away, HttpContext, Outcome, Poll};
use crate::interface::rest::Reply;
use crate::mailbox::{AwayPoll, Mailboxes, PollRefusal, PollTicket, Slot};
use crate::message::{Refused, SessionId};

/// Passes a request on to the node of its session, and waits for the answer as [`wait`] does.
pub(super) async fn pass_on(
    http: &HttpContext<'_>,
    connection: &mut HttpConnection,
    (away, body): (Away, Received),
) -> Result<(Outcome, Option<Client>), End> {
    let Away { node, session, is_post } = away;
    let Some(passing) = &http.shared.broker.mailboxes.passing else {
        return Ok((polled(Err(PollRefusal::UnknownSession)), None));
    };
    let mut receipt = None;
    let put = |ticket| {
        let poll = AwayPoll { node, session, body: is_post.then(|| body.into()) };
        receipt = Some(passing.pass(poll, ticket)?);
        Ok(())
    };
    let pending = match http.put(put, &http.counters.refused_overloaded) {
        Ok(pending) => pending,
        Err(error) => return Ok((Reply::from(error).into(), None)),
    };
    let client = (receipt.map(Client::Away), !is_post);
    let (outcome, client) = wait(http, connection, pending, client).await?;
    // If this node stops, the client can go on at another one.
    Ok((Outcome { is_unfinished: false, ..outcome }, client))
}

/// Asks the worker of a session for another node, whose client sends `body`, or asks for packets if
/// the request has no body.
///
/// # Errors
/// [`Refused::Overloaded`] if the worker's mailbox has no free place. Then the ticket was not used.
pub fn ask(
    (mailboxes, arrivals): (&Mailboxes, &Arrivals),
    session: SessionId,
    body: Option<Bytes>,
    ticket: PollTicket,
) -> Result<(), Refused> {
    let worker = session.worker;
    let place = mailboxes.workers.of(worker).reserve(Slot::Control).ok_or(Refused::Overloaded)?;
    let (poll, body) = match body {
        Some(body) => (Poll::Post(session), Received::whole(body)),
        None => (Poll::Get(session), Received::default()),
    };
    arrivals.post(worker, place, Arrival::Poll(Asked { ticket, poll, body }));
    Ok(())
}
