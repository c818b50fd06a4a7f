//! Reads the bytes that ready sockets have received, into the buffer of the turn, and hands them to
//! their sessions.

use std::collections::VecDeque;
use std::io::IoSlice;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::connection::{Connection, Connections};
use super::transmit::send_slices;
use super::worker::Worker;
use crate::codec::tls::TlsError;
use crate::interface::next::Reason;
use crate::limits::{DEFLATED_READ_BYTES, READS_PER_TURN_MAX};

/// Puts a socket into the list of sockets to read, unless it is there already.
pub(super) fn note_unread(
    connections: &mut Connections,
    unread: &mut VecDeque<u32>,
    slot: u32,
    ended: bool,
) {
    let Some(connection) = connections.get_mut(slot) else { return };
    connection.link.has_ended |= ended;
    if !connection.link.is_unread {
        connection.link.is_unread = true;
        unread.push_back(slot);
    }
}

/// Reads a socket and hands the bytes to its session. Returns true if the socket must be read again
/// in the next turn, because it has received more than one turn reads.
pub(super) fn read(worker: &mut Worker, slot: u32, scratch: &mut [u8]) -> bool {
    for _ in 0..READS_PER_TURN_MAX {
        let Some(connection) = worker.connections.get_mut(slot) else { return false };
        let Some(socket) = &connection.link.socket else { return false };
        let room = if connection.link.deflates() { DEFLATED_READ_BYTES } else { scratch.len() };
        let scratch = &mut scratch[..room];
        let length = match recv(socket, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((length, _)) if length > 0 => length,
            Err(Errno::AGAIN) => return false,
            Err(Errno::INTR) => continue,
            Ok(_) => {
                worker.input_ended(slot);
                return false;
            }
            Err(_) => {
                worker.ended(slot);
                return false;
            }
        };
        let has_ended = connection.link.has_ended;
        let is_sealed = connection.sealed.is_some();
        worker.local.counters.bytes_received.add(length as u64);
        worker.at(worker.shared.clock.now());
        let received = &mut scratch[..length];
        let owner = match is_sealed {
            false => worker.receive(slot, received),
            true => receive_sealed(worker, slot, received),
        };
        if owner != Some(slot) {
            // The connection has ended, or another session has taken the socket over. In the latter
            // case the poller reports what is still to be read.
            return false;
        }
        // A short read has emptied the socket, and later bytes are announced again. Only an end
        // that was announced together with the bytes must still be read.
        if length < scratch.len() && !has_ended {
            return false;
        }
        if worker.local.deflating.is_spent() {
            break;
        }
    }
    true
}

/// The longest buffer of received content that is kept for the next connection, in bytes.
const CONTENT_BYTES_MAX: usize = 128 * 1024;

/// Hands the content of received records to the session of a connection. Returns the slot that now
/// owns the socket; `None` if the connection has ended.
fn receive_sealed(worker: &mut Worker, slot: u32, received: &mut [u8]) -> Option<u32> {
    let mut content = std::mem::take(&mut worker.opened);
    let opened = open(worker, slot, received, &mut content);
    let mut owner = Some(slot);
    if !content.is_empty() {
        owner = worker.receive(slot, &mut content);
        content.clear();
    }
    if content.capacity() <= CONTENT_BYTES_MAX {
        worker.opened = content;
    }
    match (owner, opened?) {
        (Some(owner), Err(error)) => {
            tracing::debug!(%error, "closing a connection because its encryption has failed");
            worker.remove(owner, Reason::Protocol);
            None
        }
        (Some(owner), Ok(true)) => {
            worker.input_ended(owner);
            None
        }
        (owner, _) => owner,
    }
}

/// Opens records. Returns whether the client will send nothing more; `None` if the connection has
/// ended.
fn open(
    worker: &mut Worker,
    slot: u32,
    received: &mut [u8],
    content: &mut Vec<u8>,
) -> Option<Result<bool, TlsError>> {
    let connection = worker.connections.get_mut(slot)?;
    let Connection { link, sealed: Some(sealed), .. } = connection else { return None };
    let opened = sealed.tls.open(received, content, &mut sealed.unsent);
    if !sealed.unsent.is_empty() {
        link.set_sealed(sealed.unsent.len());
        if let (Err(_), Some(socket)) = (&opened, &link.socket) {
            // The alert is the last that the client receives.
            let _ = send_slices(socket, &[IoSlice::new(&sealed.unsent)]);
        } else {
            worker.local.outboxes.mark(slot, link);
        }
    }
    Some(opened.map(|()| sealed.tls.is_over()))
}
