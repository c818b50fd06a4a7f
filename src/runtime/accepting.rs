//! Accepts connections, and hands the answers of other threads to the requests that wait for them.

use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpListener;

use super::acceptor::Acceptor;
use super::descriptors::is_shortage;
use super::driver::awaitable;
use super::servers;
use crate::mailbox::{Answered, Inbox, Slot};

/// How long accepting pauses if descriptors or places have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

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
    if let Err(error) = servers::begin(acceptor.clone()) {
        return tracing::error!(%error, "HTTP connections cannot be watched");
    }
    monoio::spawn(settle_answers(acceptor.clone(), inbox));
    loop {
        let accepted = match acceptor.check_place() {
            Ok(()) => listener.accept().await,
            Err(why) => Err(why),
        };
        match accepted.and_then(|(stream, _)| acceptor.begin(stream)) {
            Ok(()) => {}
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
    let awaitable = match bell.descriptor().try_clone().and_then(awaitable) {
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
