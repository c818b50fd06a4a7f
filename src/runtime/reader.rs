//! Reads the bytes that ready sockets have received, into the buffer of the turn, and hands them to
//! their sessions.

use std::collections::VecDeque;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::connection::Connections;
use super::worker::Worker;
use crate::limits::READS_PER_TURN_MAX;

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
        worker.local.counters.bytes_received.add(length as u64);
        worker.at(worker.shared.clock.now());
        if worker.receive(slot, &mut scratch[..length]) != Some(slot) {
            // The connection has ended, or another session has taken the socket over. In the latter
            // case the poller reports what is still to be read.
            return false;
        }
        // A short read has emptied the socket, and later bytes are announced again. Only an end
        // that was announced together with the bytes must still be read.
        if length < scratch.len() && !has_ended {
            return false;
        }
    }
    true
}
