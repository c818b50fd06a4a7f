//! WebSocket handshakes, and giving the socket to its worker: out of the runtime's hands.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use monoio::net::TcpStream;

use super::http::Http;
use super::{Acceptor, Outcome};
use crate::codec::http::{Request, Response};
use crate::codec::websocket::handshake;
use crate::mailbox::{Accepted, Handover, Mail, Purpose};

/// Has a connection become a WebSocket, if its client keeps to the rules of that.
pub(super) fn upgrade(request: &Request, purpose: Purpose, protocol: Option<String>) -> Outcome {
    match handshake::check(request) {
        Ok(accept) => {
            let key = accept.as_str().to_owned();
            Outcome::Upgrade(purpose, Accepted { key, protocol })
        }
        Err(error) => {
            let mut response = Response::text(error.status(), error.to_string());
            for (name, value) in error.headers() {
                response = response.header(name, *value);
            }
            Outcome::Respond(response)
        }
    }
}

/// Gives the socket to the worker that it belongs to.
pub(super) fn hand_over(acceptor: &Acceptor, http: Http, purpose: Purpose, accept: Accepted) {
    let mailboxes = &acceptor.hub.mailboxes;
    let (socket, leftover) = match http.into_socket() {
        Ok(taken) => taken,
        Err(error) => return tracing::warn!(%error, "an upgrade failed for want of descriptors"),
    };
    let worker = match &purpose {
        Purpose::Probe(session) => {
            mailboxes.assign_to(session.worker);
            session.worker
        }
        Purpose::EngineIo(_) | Purpose::Forge(_) | Purpose::M2(_) | Purpose::Echo => {
            mailboxes.assign()
        }
    };
    let handover = Handover { socket, leftover, accept: Some(accept), purpose };
    if mailboxes.control(worker, Mail::Adopt(Box::new(handover))).is_err() {
        // The socket was dropped with the mail: the client sees that and tries again.
        mailboxes.unassign(worker);
        acceptor.counters.refused_overloaded.add(1);
    }
}

/// A descriptor of the stream's socket that the runtime knows nothing of.
///
/// A duplicate, because an operation that was given up may still be in flight: until the kernel
/// has cancelled it, it keeps the runtime's descriptor open, and the runtime refuses to part with
/// that. The runtime closes its own when the last of them is over.
///
/// # Errors
/// When the process has no descriptors left.
pub(super) fn detach(stream: TcpStream) -> io::Result<OwnedFd> {
    // SAFETY: `stream` owns the descriptor and lives until the end of this function, and the
    // borrow ends with the statement.
    #[allow(unsafe_code, reason = "the runtime's stream lends its descriptor as a number only")]
    let borrowed = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    borrowed.try_clone_to_owned()
}
