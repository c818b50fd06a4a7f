//! The end of a node: after a signal it closes all connections over some time, and keeps what it
//! was given.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::listen::stop_listening;
use super::{Event, NodeError, cluster};
use crate::cluster::landing::Ending;
use crate::limits::{
    SHUTDOWN_CLUSTER_MS, SHUTDOWN_FLUSH_MS, SHUTDOWN_GRACE_MS, SHUTDOWN_IDLE_MS, SHUTDOWN_POLLS_MS,
};
use crate::mailbox::{PassingQueue, Wish};
use crate::message::Millis;
use crate::runtime::listener::Listener;
use crate::runtime::shared::{Shared, Shutdown};

/// Time between two looks at what is left.
const LOOK: Duration = Duration::from_millis(5);

/// Lets the node serve as before for `delay` milliseconds while its health says that it drains.
/// Another signal to stop ends the delay.
///
/// # Errors
/// If a thread ends meanwhile.
pub(super) fn wait_before(
    shared: &Shared,
    delay: Millis,
    events: &Receiver<Event>,
) -> Result<(), NodeError> {
    shared.notice.give();
    let ends = Instant::now() + Duration::from_millis(delay);
    loop {
        match events.recv_timeout(ends.saturating_duration_since(Instant::now())) {
            Ok(Event::Ended(name)) => return Err(NodeError::Thread(name)),
            Ok(Event::Flushed(flushed)) => return flushed.map_err(NodeError::Flush),
            Ok(Event::Ready) => {}
            Ok(Event::Signal(signal)) => {
                tracing::info!(signal, "the delay before the drain is cut short");
                return Ok(());
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Has the workers close their connections over `window` milliseconds, and stops accepting once no
/// long-polling client needs further connections. Then waits for requests under way, ends the HTTP
/// connections, and flushes the store.
///
/// # Errors
/// If a thread ends meanwhile, or the store cannot be flushed.
pub(super) fn drain(
    shared: &Shared,
    listeners: &[Listener],
    window: Millis,
    events: &Receiver<Event>,
) -> Result<(), NodeError> {
    let start = Instant::now();
    shared.notice.end();
    // Only this function sets it, so it is not set yet.
    let _ = shared.shutdown.set(Shutdown { began: shared.clock.monotonic(), window });
    shared.interfaces.broker.mailboxes.workers.ring_all();
    say(shared, Ending::Draining);
    shared.interfaces.broker.mailboxes.passing.iter().for_each(PassingQueue::ring);
    // A long-polling client must connect once more to receive the last packets; new clients are
    // refused.
    let polls_end = start + Duration::from_millis(SHUTDOWN_POLLS_MS);
    wait_while(|| pollings(shared) > 0, polls_end, events)?;
    stop_listening(shared, listeners);
    let ends = start + Duration::from_millis(window + SHUTDOWN_GRACE_MS);
    let connections = || shared.interfaces.broker.mailboxes.connections();
    let is_left = || connections() + requests(shared) > 0 || !shared.untold.is_over();
    wait_while(is_left, ends, events)?;
    let (connections, requests) = (connections(), requests(shared));
    if connections + requests > 0 {
        tracing::warn!(
            connections,
            requests,
            "connections and requests that did not end in time are cut off"
        );
    }
    end_http(shared, ends, events)?;
    leave_cluster(shared, events)?;
    flush(shared, events)?;
    let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(elapsed_ms, "stopped");
    Ok(())
}

/// Ends the HTTP connections that wait for a request. A client that is about to send its next one
/// has it answered before, and is told with the answer to close: a request that meets a closed
/// connection may or may not have been carried out, as far as its client knows.
fn end_http(shared: &Shared, ends: Instant, events: &Receiver<Event>) -> Result<(), NodeError> {
    let idle = Duration::from_millis(SHUTDOWN_IDLE_MS);
    let connections = || shared.metrics.sum(|counters| &counters.http_connections);
    wait_while(|| connections() > 0, Instant::now() + idle, events)?;
    shared.http_end.order();
    let acceptors = &shared.interfaces.broker.mailboxes.acceptors;
    acceptors.iter().for_each(|mailbox| mailbox.doorbell().ring());
    let ends = ends.max(Instant::now() + idle);
    wait_while(|| !shared.http_end.is_over() || requests(shared) > 0, ends, events)
}

/// Tells the thread of the cluster, if there is one, how far the end of the node is.
fn say(shared: &Shared, ending: Ending) {
    let stream = shared.interfaces.broker.mailboxes.stream.as_ref();
    if let (Some(membership), Some(stream)) = (&shared.interfaces.membership, stream) {
        membership.end(ending);
        stream.interests.doorbell().ring();
    }
}

/// Has the node leave its cluster: its claims end, and its entry in the register. What the stream
/// has answered by then goes to history before that is flushed.
fn leave_cluster(shared: &Shared, events: &Receiver<Event>) -> Result<(), NodeError> {
    if shared.interfaces.membership.is_none() {
        return Ok(());
    }
    say(shared, Ending::Over);
    let ends = Instant::now() + Duration::from_millis(SHUTDOWN_CLUSTER_MS);
    while let Ok(event) = events.recv_timeout(ends.saturating_duration_since(Instant::now())) {
        match event {
            Event::Ended(name) if name == cluster::THREAD => return Ok(()),
            Event::Ended(name) => return Err(NodeError::Thread(name)),
            Event::Ready | Event::Signal(_) | Event::Flushed(_) => {}
        }
    }
    tracing::warn!(
        "the node did not leave its cluster in time; the others will notice its silence"
    );
    Ok(())
}

/// Waits as long as the condition holds and every thread lives, at most until `ends`.
fn wait_while(
    is_so: impl Fn() -> bool,
    ends: Instant,
    events: &Receiver<Event>,
) -> Result<(), NodeError> {
    while is_so() && Instant::now() < ends {
        match events.recv_timeout(LOOK) {
            Ok(Event::Ended(name)) => return Err(NodeError::Thread(name)),
            Ok(Event::Ready | Event::Signal(_) | Event::Flushed(_)) | Err(_) => {}
        }
    }
    Ok(())
}

fn flush(shared: &Shared, events: &Receiver<Event>) -> Result<(), NodeError> {
    let ends = Instant::now() + Duration::from_millis(SHUTDOWN_FLUSH_MS);
    while shared.interfaces.broker.mailboxes.wish(Wish::Stop).is_err() {
        if Instant::now() > ends {
            return Err(NodeError::FlushTime);
        }
        thread::sleep(LOOK);
    }
    loop {
        match events.recv_timeout(ends.saturating_duration_since(Instant::now())) {
            Ok(Event::Flushed(flushed)) => return flushed.map_err(NodeError::Flush),
            // It may end later than it was waited for.
            Ok(Event::Ended(name)) if name == cluster::THREAD => {}
            Ok(Event::Ended(name)) => return Err(NodeError::Thread(name)),
            Ok(Event::Ready | Event::Signal(_)) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(NodeError::FlushTime);
            }
        }
    }
}

fn pollings(shared: &Shared) -> u64 {
    shared.metrics.sum(|one| &one.pollings) + shared.metrics.sum(|one| &one.conformance_pollings)
}

/// Returns how many requests are under way: of clients, and of other nodes for their clients.
fn requests(shared: &Shared) -> u64 {
    let of_nodes = shared.metrics.sum(|counters| &counters.cluster_polls_under_way);
    shared.metrics.sum(|counters| &counters.http_under_way) + of_nodes
}
