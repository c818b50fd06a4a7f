//! Accepts connections, and hands the answers of other threads to the requests that wait for them.
//!
//! The task that accepts a connection serves its first request, if that has come with it. If the
//! request has to wait, another task accepts from then on.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::acceptor::Acceptor;
use super::descriptors::is_shortage;
use super::driver::awaitable;
use super::listener::{Awaited, Listener};
use super::servers;
use super::serving::serve;
use crate::mailbox::{Answered, Inbox, Slot};

/// How long accepting pauses if descriptors or places have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections until the node stops, as tasks beside others of this thread.
pub fn run_beside(acceptor: Acceptor, listeners: Vec<Listener>, inbox: Inbox<Answered>) {
    if let Err(error) = begin(acceptor, listeners, inbox) {
        tracing::error!(%error, "a listener or HTTP connections cannot be watched");
    }
}

/// Accepts connections until the node stops, on the thread that serves them. Then it waits forever,
/// because tasks of this thread go on serving. Returns only if a listener cannot be watched.
pub async fn run(acceptor: Acceptor, listeners: Vec<Listener>, inbox: Inbox<Answered>) {
    match begin(acceptor, listeners, inbox) {
        Ok(()) => std::future::pending().await,
        Err(error) => {
            tracing::error!(%error, "a listener or HTTP connections cannot be watched");
        }
    }
}

/// Begins the tasks of an acceptor.
fn begin(acceptor: Acceptor, listeners: Vec<Listener>, inbox: Inbox<Answered>) -> io::Result<()> {
    let acceptor = Rc::new(acceptor);
    let listeners: io::Result<Vec<_>> = listeners.into_iter().map(Awaited::new).collect();
    let awaited = |listener| Rc::new((acceptor.clone(), listener));
    let listeners: Vec<_> = listeners?.into_iter().map(awaited).collect();
    servers::begin(acceptor.clone())?;
    listeners.iter().for_each(|listener| drop(monoio::spawn(accept(listener.clone()))));
    monoio::spawn(settle_answers(acceptor, listeners, inbox));
    Ok(())
}

/// Accepts connections until the node stops, and serves what has come with them. Ends earlier if a
/// request has to wait; then another task accepts.
async fn accept(acceptor_and_listener: Rc<(Rc<Acceptor>, Awaited)>) {
    let (acceptor, listener) = &*acceptor_and_listener;
    let accepts = Cell::new(true);
    while accepts.get() {
        let accepted = match acceptor.check_place() {
            Ok(()) => listener.accept(|| acceptor.shared.notice.is_closed()).await,
            Err(why) => Err(why),
        };
        let connection = match accepted {
            Ok((socket, peer)) => match acceptor.begin(socket, peer, listener) {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::error!(%error, "a connection cannot be encrypted and is closed");
                    continue;
                }
            },
            // The listener was shut down: no new connection comes, and the present ones are still
            // served.
            Err(error) if acceptor.is_stopping() && !is_shortage(&error) => return,
            Err(error) => {
                acceptor.shared.descriptors.note_pause(&error);
                acceptor.counters.accept_pauses.add(1);
                monoio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let mut serving = pin!(serve(acceptor, connection));
        poll_fn(|context| {
            let served = serving.as_mut().poll(context);
            if served.is_pending() && accepts.replace(false) {
                monoio::spawn(accept(acceptor_and_listener.clone()));
            }
            served
        })
        .await;
        acceptor.answers.send();
        // The epoll driver accepts without giving way while clients come.
        if monoio::utils::is_legacy() {
            servers::give_way().await;
        }
    }
}

/// Hands answers from the mailbox to the requests that wait for them, and ends what waits at the
/// end of the node.
async fn settle_answers(
    acceptor: Rc<Acceptor>,
    listeners: Vec<Rc<(Rc<Acceptor>, Awaited)>>,
    inbox: Inbox<Answered>,
) {
    let bell = inbox.mailbox().doorbell();
    let awaitable = match bell.descriptor().try_clone().and_then(awaitable) {
        Ok(awaitable) => awaitable,
        Err(error) => return tracing::error!(%error, "an acceptor's mailbox cannot be watched"),
    };
    let mut is_ended = false;
    loop {
        if acceptor.shared.notice.is_closed() {
            listeners.iter().for_each(|listener| listener.1.wake());
        }
        if acceptor.shared.http_end.is_ordered() && !std::mem::replace(&mut is_ended, true) {
            servers::end_idle(&acceptor);
            acceptor.shared.http_end.note();
        }
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
