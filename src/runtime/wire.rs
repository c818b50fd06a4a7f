//! The socket of a connection and its encryption, as they move between threads. A connection keeps
//! of its records only what its socket has not taken.

use std::os::fd::OwnedFd;

use crate::broker::link::Link;
use crate::broker::outbox::{Gone, Outbox};
use crate::broker::outgoing::Outgoing;
use crate::codec::tls::{RECORD_BYTES_MAX, Tls, TlsError};
use crate::interface::frame::Frame;
use crate::interface::throttle::Held;

/// A socket with what belongs to it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: OwnedFd,
    /// `None` if it is not encrypted.
    pub(super) sealed: Option<Box<Sealed>>,
    /// What it counts at its client's address.
    pub(super) held: Option<Held>,
    /// Whether messages may be compressed.
    pub(super) deflates: bool,
}

impl Wire {
    /// Creates the wire of a socket that leaves HTTP.
    pub(super) fn new(socket: OwnedFd, tls: Option<Box<Tls>>) -> Self {
        let sealed = tls.map(|tls| Box::new(Sealed::new(*tls)));
        Self { socket, sealed, held: None, deflates: false }
    }
}

/// The encrypted side of a connection.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) tls: Tls,
    /// Records that the socket has not taken: at most one with frames, and answers to the client's
    /// records. It owns no memory if it is empty.
    pub(super) unsent: Vec<u8>,
    /// The frames that end in those records.
    pub(super) frames: Gone,
}

impl Sealed {
    fn new(tls: Tls) -> Self {
        Self { tls, unsent: Vec::new(), frames: Gone::default() }
    }

    /// Returns how many bytes of an incomplete record the connection holds.
    pub(super) fn held_bytes(&self) -> usize {
        self.tls.held_bytes()
    }

    /// Returns the frames that the socket has taken in part or not at all, which are given up.
    pub(super) fn give_up(&mut self) -> Gone {
        std::mem::take(&mut self.frames)
    }

    /// Prepares to tell the client that nothing more comes. Returns false if it was told.
    pub(super) fn say_end(&mut self, link: &mut Link<Frame>) -> bool {
        if self.tls.is_closed() {
            return false;
        }
        self.tls.close(&mut self.unsent);
        link.set_sealed(self.unsent.len());
        !self.unsent.is_empty()
    }

    /// Seals the next bytes of an outbox, as many as one record has. Returns how many those are.
    pub(super) fn seal<F: Outgoing>(
        &mut self,
        outbox: &Outbox<F>,
        (content, sealed): (&mut Vec<u8>, &mut Vec<u8>),
    ) -> Result<usize, TlsError> {
        content.clear();
        for slice in outbox.slices() {
            let room = RECORD_BYTES_MAX - content.len();
            content.extend_from_slice(&slice[..slice.len().min(room)]);
            if content.len() == RECORD_BYTES_MAX {
                break;
            }
        }
        self.tls.seal(content, sealed)?;
        Ok(content.len())
    }
}
