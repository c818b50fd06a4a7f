//! How a node ends: told to by a signal, it lets everybody go and keeps what it was given.

use std::io;
use std::net::TcpListener;
use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use super::listen::stop_listening;
use super::{Event, NodeError};
use crate::limits::{SHUTDOWN_FLUSH_MS, SHUTDOWN_GRACE_MS, SHUTDOWN_POLLS_MS};
use crate::mailbox::Wish;
use crate::message::Millis;
use crate::runtime::shared::{Shared, Shutdown};

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(5);
/// The exit status of a process that a signal ended is this and the signal's number.
const ENDED_BY_SIGNAL: i32 = 128;

/// Listens for the signals that stop a node: the first is told to `told`, a second ends the
/// process at once.
///
/// # Errors
/// When the system does not let the node handle them.
pub(super) fn watch_signals(told: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signals = signals.forever();
        if let Some(signal) = signals.next() {
            let _ = told.send(Event::Signal(signal_name(signal).unwrap_or("a signal")));
        }
        if let Some(signal) = signals.next() {
            tracing::warn!("a second signal: stopping at once");
            process::exit(ENDED_BY_SIGNAL + signal);
        }
    })?;
    Ok(())
}

/// Stops accepting, once nobody is left who needs a connection for each poll; has the workers let
/// their connections go over `window` milliseconds, waits for the requests under way, and flushes
/// the store.
///
/// # Errors
/// When a thread ends meanwhile, or the store cannot be flushed.
pub(super) fn drain(
    hub: &Shared,
    listener: &TcpListener,
    window: Millis,
    events: &Receiver<Event>,
) -> Result<(), NodeError> {
    let start = Instant::now();
    // Nobody else sets it, so it is not set yet.
    let _ = hub.shutdown.set(Shutdown { began: hub.clock.monotonic(), window });
    hub.interfaces.broker.mailboxes.workers.ring_all();
    // Who is on long-polling must connect once more to hear the last; nobody new is let in.
    let polls_end = start + Duration::from_millis(SHUTDOWN_POLLS_MS);
    wait_while(|| pollings(hub) > 0, polls_end, events)?;
    stop_listening(listener);
    let ends = start + Duration::from_millis(window + SHUTDOWN_GRACE_MS);
    wait_while(|| hub.interfaces.broker.mailboxes.connections() + requests(hub) > 0, ends, events)?;
    let (connections, requests) = (hub.interfaces.broker.mailboxes.connections(), requests(hub));
    if connections + requests > 0 {
        tracing::warn!(connections, requests, "some did not end in time and are cut off");
    }
    flush(hub, events)?;
    let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(elapsed_ms, "stopped");
    Ok(())
}

/// Waits until something is no longer so, or until `ends`, as long as every thread lives.
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

fn flush(hub: &Shared, events: &Receiver<Event>) -> Result<(), NodeError> {
    let ends = Instant::now() + Duration::from_millis(SHUTDOWN_FLUSH_MS);
    while hub.interfaces.broker.mailboxes.wish(Wish::Stop).is_err() {
        if Instant::now() > ends {
            return Err(NodeError::FlushTime);
        }
        thread::sleep(LOOK);
    }
    loop {
        match events.recv_timeout(ends.saturating_duration_since(Instant::now())) {
            Ok(Event::Flushed(flushed)) => return flushed.map_err(NodeError::Flush),
            Ok(Event::Ended(name)) => return Err(NodeError::Thread(name)),
            Ok(Event::Ready | Event::Signal(_)) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(NodeError::FlushTime);
            }
        }
    }
}

fn pollings(hub: &Shared) -> u64 {
    hub.metrics.sum(|one| &one.pollings) + hub.metrics.sum(|one| &one.conformance_pollings)
}

fn requests(hub: &Shared) -> u64 {
    hub.metrics.sum(|counters| &counters.http_under_way)
}
