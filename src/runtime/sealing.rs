//! Seals what a batch sends: what a turn has for an encrypted connection becomes one record, in
//! memory that all connections of the batch share.

use std::io::IoSlice;

use rustix::io::Errno;

use super::connection::{Connection, Connections};
use super::transmit::{Sent, send_slices};
use super::wire::Sealed;
use crate::broker::link::Link;
use crate::broker::outbox::{Gone, Spares};
use crate::interface::frame::Frame;
use crate::message::ConnId;
use crate::metrics::Counters;

/// What a batch has sealed.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    /// Memory for the content of one record.
    content: Vec<u8>,
    /// The records of the batch: at most `SEND_BATCH_MAX`.
    records: Vec<u8>,
    /// One part for each encrypted connection of the batch, in order.
    parts: Vec<Part>,
}

/// What one connection is offered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Where its record is, which is empty if earlier records are still to be sent.
    start: usize,
    end: usize,
    /// How many bytes of its outbox the record holds.
    content: usize,
    has_failed: bool,
}

impl Sealing {
    /// Seals what the encrypted ones among the connections of a batch have to send.
    pub(super) fn seal(&mut self, connections: &mut Connections, ids: &[ConnId]) {
        self.parts.clear();
        self.records.clear();
        for id in ids {
            let Some(connection) = connections.get_mut(id.slot) else { continue };
            let Connection { link, sealed: Some(sealed), .. } = connection else { continue };
            let start = self.records.len();
            let content = match sealed.unsent.is_empty() {
                true => sealed.seal(&link.outbox, (&mut self.content, &mut self.records)),
                false => Ok(0),
            };
            let part = Part {
                start,
                end: self.records.len(),
                content: content.as_ref().copied().unwrap_or(0),
                has_failed: content.is_err(),
            };
            self.parts.push(part);
        }
    }

    /// Iterates over what the encrypted connections are offered, in the order of the batch.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        self.parts.iter().copied()
    }

    /// Returns the bytes that a connection is offered.
    pub(super) fn offered<'a>(&'a self, part: Part, sealed: &'a Sealed) -> &'a [u8] {
        if sealed.unsent.is_empty() { &self.records[part.start..part.end] } else { &sealed.unsent }
    }

    /// Notes what a socket took of what it was offered.
    pub(super) fn note_taken(
        &self,
        part: Part,
        taken: Result<usize, Errno>,
        (link, sealed): (&mut Link<Frame>, &mut Sealed),
        (spares, counters): (&mut Spares<Frame>, &Counters),
    ) -> Sent {
        let is_tried = taken != Err(Errno::INTR);
        let taken = match taken {
            _ if part.has_failed => return Sent::Failed,
            Ok(taken) => taken,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => return Sent::Failed,
        };
        counters.bytes_sent.add(taken as u64);
        if sealed.unsent.is_empty() {
            sealed.frames = link.outbox.advance(part.content, spares);
            let rest = &self.records[part.start + taken..part.end];
            sealed.unsent.extend_from_slice(rest);
        } else {
            sealed.unsent.drain(..taken);
        }
        link.set_sealed(sealed.unsent.len());
        if !sealed.unsent.is_empty() {
            return if is_tried { Sent::Full } else { Sent::All };
        }
        // Without the memory that it had.
        sealed.unsent = Vec::new();
        let Gone { frames, deliveries } = std::mem::take(&mut sealed.frames);
        counters.frames_sent.add(frames);
        counters.delivered.add(deliveries);
        counters.frames_per_drain.record(frames);
        Sent::All
    }
}

/// Sends what an outbox holds, until it is empty or the socket takes no more.
pub(super) fn send_waiting(
    connection: &mut Connection,
    spares: &mut Spares<Frame>,
    counters: &Counters,
) -> Sent {
    let Connection { link, sealed: Some(sealed), .. } = connection else { return Sent::All };
    let mut sealing = Sealing::default();
    while !link.is_drained() {
        let start = sealing.records.len();
        let mut part = Part { start, end: start, content: 0, has_failed: false };
        if sealed.unsent.is_empty() {
            let memory = (&mut sealing.content, &mut sealing.records);
            match sealed.seal(&link.outbox, memory) {
                Ok(content) => part.content = content,
                Err(_) => return Sent::Failed,
            }
            part.end = sealing.records.len();
        }
        let Some(socket) = &link.socket else { return Sent::Failed };
        let bytes = IoSlice::new(sealing.offered(part, sealed));
        let taken = send_slices(socket, &[bytes]);
        let sent = sealing.note_taken(part, taken, (link, sealed), (spares, counters));
        if sent != Sent::All {
            return sent;
        }
    }
    Sent::All
}
