//! Sends the outboxes of connections with frames to send: vectored, non-blocking, one send for each
//! connection.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, send, sendmsg, shutdown};

use super::connection::{Connection, Connections, State};
use crate::broker::outbox::{Outbox, Spares};
use crate::broker::outgoing::Outgoing;
use crate::interface::Shared;
use crate::interface::context::{Context, Local};
use crate::limits::VECTORED_FRAMES_MAX;
use crate::message::{ConnId, Now};
use crate::metrics::Counters;

/// Sends the outbox of a connection and does what the result calls for, except that the caller
/// removes a connection that has failed. `transmit` offers bytes to a socket and returns how many
/// it took. Returns `None` if the connection has no socket.
pub(super) fn drain(
    id: ConnId,
    connection: &mut Connection,
    local: &mut Local,
    mut transmit: impl FnMut(ConnId, &OwnedFd, &[IoSlice<'_>]) -> Result<usize, Errno>,
) -> Option<Sent> {
    let is_closing = connection.is_closing();
    let link = &mut connection.link;
    link.is_dirty = false;
    let socket = link.socket.as_ref()?;
    let Local { outboxes, counters, .. } = local;
    let take = |slices: &[IoSlice<'_>]| transmit(id, socket, slices);
    let sent = send_to(take, &mut link.outbox, &mut outboxes.spares, counters);
    match sent {
        // Once everything was sent, this side of a closing socket is shut down. That fails only if
        // the peer was faster, which is no problem.
        Sent::All if is_closing => drop(shutdown(socket, Shutdown::Write)),
        Sent::All if link.is_stale() => outboxes.stale.push(id),
        Sent::Full => outboxes.block(link),
        Sent::All | Sent::Failed => {}
    }
    Some(sent)
}

/// Calls the sessions whose clients have taken all their frames and have stale documents to be read
/// again.
pub(super) fn reload_stale(
    connections: &mut Connections,
    (local, shared, now): (&mut Local, &Shared, Now),
) {
    for id in std::mem::take(&mut local.outboxes.stale) {
        if let Some(Connection { link, state: State::Open(session), .. }) = connections.by_id(id) {
            session.on_drained(&mut Context { id, now, link, local, shared });
        }
    }
    local.loads.ask(shared, local.worker);
}

/// The result of sending an outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// The outbox is empty.
    All,
    /// The kernel takes no more bytes at the moment.
    Full,
    /// The connection has failed.
    Failed,
}

/// Sends an outbox until it is empty or the kernel takes no more.
pub fn send_waiting<F: Outgoing>(
    socket: &OwnedFd,
    outbox: &mut Outbox<F>,
    spares: &mut Spares<F>,
    counters: &Counters,
) -> Sent {
    send_to(|slices| send_slices(socket, slices), outbox, spares, counters)
}

/// Offers an outbox's frames to `take` until the outbox is empty or `take` takes no more.
fn send_to<F: Outgoing>(
    mut take: impl FnMut(&[IoSlice<'_>]) -> Result<usize, Errno>,
    outbox: &mut Outbox<F>,
    spares: &mut Spares<F>,
    counters: &Counters,
) -> Sent {
    while !outbox.is_empty() {
        let mut slices = [IoSlice::new(&[]); VECTORED_FRAMES_MAX];
        let (mut count, mut offered) = (0, 0);
        for (place, bytes) in slices.iter_mut().zip(outbox.slices()) {
            *place = IoSlice::new(bytes);
            (count, offered) = (count + 1, offered + bytes.len());
        }
        counters.sends.add(1);
        let taken = match take(&slices[..count]) {
            Ok(taken) => taken,
            Err(Errno::AGAIN) => return Sent::Full,
            Err(Errno::INTR) => continue,
            Err(_) => return Sent::Failed,
        };
        counters.bytes_sent.add(taken as u64);
        let finished = outbox.advance(taken, spares);
        counters.frames_sent.add(finished.frames);
        counters.delivered.add(finished.deliveries);
        counters.frames_per_drain.record(finished.frames);
        if taken < offered {
            return Sent::Full;
        }
    }
    Sent::All
}

/// Offers bytes to a socket without waiting. Returns how many it took.
///
/// # Errors
/// [`Errno::AGAIN`] if the socket takes none at the moment; any other if the connection has failed.
pub(super) fn send_slices(socket: &OwnedFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match slices {
        // A single buffer is the usual case, for which the kernel has a shorter path.
        [one] => send(socket, one, flags),
        many => sendmsg(socket, many, &mut SendAncillaryBuffer::default(), flags),
    }
}
