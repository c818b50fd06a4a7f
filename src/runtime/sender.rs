//! Sends the outboxes of connections with frames to send: in batches, with one non-blocking send
//! for each connection.

use std::io::IoSlice;
use std::iter;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::connection::{Connection, Connections, State};
use super::sealing::Sealing;
use super::transmit::{Offers, Outcome, Transmit, send_slices};
use crate::broker::outbox::{Outbox, Spares};
use crate::broker::outgoing::Outgoing;
use crate::interface::Shared;
use crate::interface::context::{Context, Local};
use crate::limits::{SEND_BATCH_MAX, SEND_BATCH_SLICES_MAX, VECTORED_FRAMES_MAX};
use crate::message::{ConnId, Now};
use crate::metrics::Counters;

pub use super::transmit::Sent;

/// The connections of one batch, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    ids: Vec<ConnId>,
    /// How many bytes were offered to each.
    offered: Vec<usize>,
    outcome: Outcome,
    /// Whether some of them are encrypted.
    has_sealed: bool,
    sealing: Sealing,
    /// Connections without a socket.
    pub(super) polling: Vec<u32>,
}

impl Batch {
    /// Takes connections that have something to send, each once. Returns how many entries of the
    /// list it looked at, at most `most`.
    pub(super) fn fill(
        &mut self,
        connections: &mut Connections,
        local: &mut Local,
        most: usize,
    ) -> usize {
        let (mut looked, mut slices) = (0, 0);
        while looked < most && self.ids.len() < SEND_BATCH_MAX && slices < SEND_BATCH_SLICES_MAX {
            let Some(slot) = local.outboxes.next_dirty() else { break };
            looked += 1;
            let id = connections.id(slot);
            let Some(connection) = connections.get_mut(slot) else { continue };
            let link = &mut connection.link;
            // If the slot had another connection before, that one may have left an entry. A
            // connection must not be in a batch twice, because its bytes would be sent twice.
            if !std::mem::take(&mut link.is_dirty) {
                continue;
            }
            match &link.socket {
                None => self.polling.push(slot),
                Some(_) if link.is_drained() => sent_all(id, connection, local),
                Some(_) => {
                    self.ids.push(id);
                    self.has_sealed |= connection.sealed.is_some();
                    slices += link.outbox.len().min(VECTORED_FRAMES_MAX);
                }
            }
        }
        looked
    }

    /// Offers the frames of the batch to their sockets.
    pub(super) fn transmit(&mut self, connections: &mut Connections, transmit: &mut impl Transmit) {
        self.offered.clear();
        if self.has_sealed {
            self.sealing.seal(connections, &self.ids);
        }
        let mut parts = self.sealing.parts();
        let lend_min = transmit.lend_min();
        let mut offers = Offers::new(&self.ids);
        for id in &self.ids {
            let connection = connections.get(id.slot).expect("it was there a moment ago");
            let outbox = &connection.link.outbox;
            let socket = connection.link.socket.as_ref().expect("a moment ago, too");
            if self.has_sealed
                && let Some(sealed) = &connection.sealed
                && let Some(part) = parts.next()
            {
                let records = self.sealing.offered(part, sealed);
                self.offered.push(offers.add(socket, iter::once(records)));
                continue;
            }
            let offered = match outbox.lendable(lend_min) {
                Some((rest, frame)) => offers.lend(socket, rest, frame),
                None => offers.add(socket, outbox.slices().take(VECTORED_FRAMES_MAX)),
            };
            self.offered.push(offered);
        }
        transmit.transmit(&offers, &mut self.outcome);
    }

    /// Empties the batch and returns its connections that have failed.
    pub(super) fn settle(&mut self, connections: &mut Connections, local: &mut Local) -> Vec<u32> {
        let mut failed = Vec::new();
        let Outcome { taken, failed_late } = &mut self.outcome;
        let mut parts = self.sealing.parts();
        for ((id, offered), taken) in self.ids.drain(..).zip(&self.offered).zip(&*taken) {
            let Some(connection) = connections.get_mut(id.slot) else { continue };
            let Local { outboxes, counters, .. } = local;
            counters.sends.add(1);
            let Connection { link, sealed, .. } = &mut *connection;
            let spares = &mut outboxes.spares;
            let sent = if self.has_sealed
                && let Some(sealed) = sealed
                && let Some(part) = parts.next()
            {
                self.sealing.note_taken(part, *taken, (link, sealed), (spares, counters))
            } else {
                note_taken(*taken, *offered, &mut link.outbox, spares, counters)
            };
            match sent {
                Sent::All if link.is_drained() => sent_all(id, connection, local),
                Sent::All => outboxes.mark(id.slot, link),
                Sent::Full => outboxes.block(link),
                Sent::Failed => failed.push(id.slot),
            }
        }
        for id in failed_late.drain(..) {
            tracing::error!(?id, "the kernel reported a send too late; its client is closed");
            failed.extend(connections.by_id(id).map(|_| id.slot));
        }
        self.has_sealed = false;
        failed
    }
}

/// Does what is due once everything was sent. If the socket is being closed, tells an encrypted
/// client so, and shuts down this side, which fails only if the peer was faster.
fn sent_all(id: ConnId, connection: &mut Connection, local: &mut Local) {
    let is_closing = connection.is_closing();
    let Connection { link, sealed, .. } = connection;
    if is_closing && sealed.as_mut().is_some_and(|sealed| sealed.say_end(link)) {
        local.outboxes.mark(id.slot, link);
    } else if is_closing && let Some(socket) = &link.socket {
        let _ = shutdown(socket, Shutdown::Write);
    } else if link.is_stale() {
        local.outboxes.stale.push(id);
    }
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

/// Sends an outbox until it is empty or the kernel takes no more.
pub fn send_waiting<F: Outgoing>(
    socket: &OwnedFd,
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
        let taken = send_slices(socket, &slices[..count]);
        let sent = note_taken(taken, offered, outbox, spares, counters);
        if sent != Sent::All {
            return sent;
        }
    }
    Sent::All
}

/// Removes from an outbox what its socket took of the bytes that it was offered. Returns
/// [`Sent::All`] if those were all, or nothing was tried.
fn note_taken<F: Outgoing>(
    taken: Result<usize, Errno>,
    offered: usize,
    outbox: &mut Outbox<F>,
    spares: &mut Spares<F>,
    counters: &Counters,
) -> Sent {
    let taken = match taken {
        Ok(taken) => taken,
        Err(Errno::AGAIN) => return Sent::Full,
        Err(Errno::INTR) => return Sent::All,
        Err(_) => return Sent::Failed,
    };
    counters.bytes_sent.add(taken as u64);
    let finished = outbox.advance(taken, spares);
    counters.frames_sent.add(finished.frames);
    counters.delivered.add(finished.deliveries);
    counters.frames_per_drain.record(finished.frames);
    if taken < offered { Sent::Full } else { Sent::All }
}
