//! The tasks that serve the HTTP connections of an acceptor.
//!
//! One of them leads: it awaits the poller and serves one ready connection after the other. If a
//! request has to wait, for another thread or for its client, another task leads from then on. So
//! there are as many tasks as requests that wait, and one more; no task begins for a request that
//! is answered at once.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::net::TcpStream;

use super::acceptor::Acceptor;
use super::driver::awaitable;
use super::http_connection::HttpConnection;
use super::http_poller::EVENTS_MAX;
use super::serving::{serve, serve_received};
use crate::limits::HTTP_SERVERS_SPARE_MAX;

/// What the tasks share.
struct Servers {
    acceptor: Rc<Acceptor>,
    /// The tasks that have nothing to serve and do not lead.
    spare: RefCell<Vec<Spare>>,
    /// The poller's descriptor, as the leader awaits it.
    poll: TcpStream,
    /// How many more events are handled before other tasks of the thread run.
    left: Cell<usize>,
}

/// A task that waits until it leads.
struct Spare {
    leads: Rc<Cell<bool>>,
    waker: Waker,
}

/// Begins to serve, on the thread of the acceptor.
///
/// # Errors
/// If the runtime cannot await the poller.
pub(super) fn begin(acceptor: Rc<Acceptor>) -> io::Result<()> {
    let poll = awaitable(acceptor.terms.poller.descriptor()?)?;
    monoio::spawn(end_late(acceptor.clone()));
    let servers =
        Rc::new(Servers { acceptor, spare: RefCell::default(), poll, left: Cell::new(0) });
    monoio::spawn(run(servers));
    Ok(())
}

/// Serves connections as long as the task leads, and waits until it leads again.
async fn run(servers: Rc<Servers>) {
    let leads = Rc::new(Cell::new(true));
    while leads.get() || servers.stand_by(&leads).await {
        let connection = servers.next().await;
        let mut serving = pin!(serve(&servers.acceptor, connection));
        poll_fn(|context| {
            let served = serving.as_mut().poll(context);
            if served.is_pending() && leads.replace(false) {
                // The answers to other requests do not wait for this one's.
                servers.acceptor.answers.send();
                appoint(&servers);
            }
            served
        })
        .await;
        if !leads.get() {
            servers.acceptor.answers.send();
        }
    }
}

/// Lets another task lead: one that has nothing to serve, or a new one.
fn appoint(servers: &Rc<Servers>) {
    match servers.spare.borrow_mut().pop() {
        Some(Spare { leads, waker }) => {
            leads.set(true);
            waker.wake();
        }
        None => drop(monoio::spawn(run(servers.clone()))),
    }
}

/// Lets the other tasks of this thread run. The epoll driver would find a ready descriptor without
/// doing so.
pub(super) async fn give_way() {
    let mut has_given = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_given, true) {
            return Poll::Ready(());
        }
        // A task that wakes itself runs before all others; one that another task wakes runs last.
        let waker = context.waker().clone();
        monoio::spawn(async move { waker.wake() });
        Poll::Pending
    })
    .await;
}

impl Servers {
    /// Returns the next ready connection. Between two batches of them other tasks of the thread
    /// run.
    async fn next(&self) -> Box<HttpConnection> {
        let poller = &self.acceptor.terms.poller;
        loop {
            if let Some(connection) = poller.next() {
                return connection;
            }
            self.acceptor.answers.send();
            // Under load the next requests are there, and the ring need not be asked for them.
            let taken = poller.collect(self.left.get());
            self.left.set(self.left.get() - taken);
            if taken > 0 {
                continue;
            }
            // An error means that the ring is broken. The next `collect` still finds what is ready.
            let _ = self.poll.readable(false).await;
            if monoio::utils::is_legacy() {
                give_way().await;
            }
            self.left.set(EVENTS_MAX);
        }
    }

    /// Waits until the task leads. Returns false if there are enough tasks that wait.
    async fn stand_by(&self, leads: &Rc<Cell<bool>>) -> bool {
        if self.spare.borrow().len() >= HTTP_SERVERS_SPARE_MAX {
            return false;
        }
        let mut is_listed = false;
        poll_fn(|context| {
            if leads.get() {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut is_listed, true) {
                let (leads, waker) = (leads.clone(), context.waker().clone());
                self.spare.borrow_mut().push(Spare { leads, waker });
            }
            Poll::Pending
        })
        .await;
        true
    }
}

/// Ends the connections that wait for a request. Those whose request has arrived are served first.
pub(super) fn end_idle(acceptor: &Rc<Acceptor>) {
    for mut connection in acceptor.terms.poller.take_parked() {
        if !connection.fill().unwrap_or(false) {
            continue;
        }
        // The node waits for what is under way.
        acceptor.counters.http_under_way.add(1);
        let acceptor = acceptor.clone();
        monoio::spawn(async move {
            serve_received(&acceptor, connection).await;
            acceptor.answers.send();
            acceptor.counters.http_under_way.sub(1);
        });
    }
}

/// Ends connections whose next request has not come in time.
async fn end_late(acceptor: Rc<Acceptor>) {
    let poller = &acceptor.terms.poller;
    let sleep = |millis| monoio::time::sleep(Duration::from_millis(millis));
    loop {
        poller.due(|| acceptor.monotonic(), sleep).await;
        poller.expire(acceptor.monotonic(), |connection| {
            // The refusal of a request that has begun may have to wait for the client.
            let acceptor = acceptor.clone();
            monoio::spawn(async move { acceptor.end_late(connection).await });
        });
    }
}
