//! The seam between outboxes and the kernel: a worker offers the bytes of many connections at once,
//! and learns how many of them each socket took.
//!
//! The back end sends them one by one ([`Direct`]) or as one batch through a ring (`ring.rs`).
//! Both are done when the call returns, so that the bytes that they are offered are borrowed and
//! nothing of a connection is under way between two calls.

mod backend;
mod ring;

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use crate::message::{ConnId, FrameBytes};

pub use backend::{Backend, Transmitter};

/// A batch: connections, each with the frames that it is to be sent.
#[derive(Debug)]
pub struct Offers<'a> {
    ids: &'a [ConnId],
    slices: Vec<IoSlice<'a>>,
    /// For each connection: its socket, and where its slices end.
    sockets: Vec<(&'a OwnedFd, usize)>,
    /// The connections whose only slice is a part of a frame that may be lent to the kernel, by
    /// their places in the batch.
    lendable: Vec<(usize, &'a FrameBytes)>,
}

/// The bytes of one connection, in order.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The connection that the bytes are for.
    pub id: ConnId,
    /// Its socket, to which nothing else is under way.
    pub socket: &'a OwnedFd,
    /// At least one slice.
    pub slices: &'a [IoSlice<'a>],
}

impl<'a> Offers<'a> {
    /// Creates a batch for these connections, each of which [`Self::add`] must be called for.
    pub fn new(ids: &'a [ConnId]) -> Self {
        let (slices, sockets) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
        Self { ids, slices, sockets, lendable: Vec::new() }
    }

    /// Adds the socket of the next connection and a slice of a frame, which the kernel may read
    /// until it has sent it. Returns how many bytes those are.
    pub fn lend(&mut self, socket: &'a OwnedFd, slice: &'a [u8], frame: &'a FrameBytes) -> usize {
        self.lendable.push((self.sockets.len(), frame));
        self.add(socket, [slice].into_iter())
    }

    /// Adds the socket of the next connection and at least one slice of bytes. Returns how many
    /// bytes those are.
    pub fn add(&mut self, socket: &'a OwnedFd, slices: impl Iterator<Item = &'a [u8]>) -> usize {
        let start = self.slices.len();
        self.slices.extend(slices.map(IoSlice::new));
        self.sockets.push((socket, self.slices.len()));
        bytes(&self.slices[start..])
    }

    /// Returns the connections.
    pub fn ids(&self) -> &[ConnId] {
        self.ids
    }

    /// Iterates over the connections.
    pub fn iter(&self) -> impl Iterator<Item = Offer<'_>> {
        let mut start = 0;
        self.ids.iter().zip(&self.sockets).map(move |(&id, &(socket, end))| {
            let slices = &self.slices[start..end];
            start = end;
            Offer { id, socket, slices }
        })
    }
}

fn bytes(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many bytes each socket took, in the order of the offers. [`Errno::AGAIN`] means none at
    /// the moment, [`Errno::INTR`] that it was not tried, and any other error that the connection
    /// has failed.
    pub taken: Vec<Result<usize, Errno>>,
    /// Connections of earlier batches whose sends turned out to have failed. What reached their
    /// clients is not known.
    pub failed_late: Vec<ConnId>,
}

/// Counts of frames that were lent to the kernel, so that it need not copy them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loans {
    /// The kernel sent the frame's own memory.
    pub spared: u64,
    /// The kernel copied the frame after all.
    pub copied: u64,
    /// Too many others were lent already.
    pub refused: u64,
}

/// A way to the sockets.
pub trait Transmit {
    /// Offers each connection's bytes to its socket without waiting, and replaces `outcome`.
    fn transmit(&mut self, offers: &Offers<'_>, outcome: &mut Outcome);
    /// Returns from how many bytes on a frame is to be lent instead of copied.
    fn lend_min(&self) -> usize {
        usize::MAX
    }
}

/// Sends the bytes of one connection after another through a function.
#[derive(Debug)]
pub struct OneByOne<F>(F);

/// Creates a way to sockets that calls `send` for each connection, which returns how many bytes its
/// socket took.
pub fn one_by_one<F>(send: F) -> OneByOne<F>
where
    F: FnMut(ConnId, &OwnedFd, &[IoSlice<'_>]) -> Result<usize, Errno>,
{
    OneByOne(send)
}

impl<F> Transmit for OneByOne<F>
where
    F: FnMut(ConnId, &OwnedFd, &[IoSlice<'_>]) -> Result<usize, Errno>,
{
    fn transmit(&mut self, offers: &Offers<'_>, outcome: &mut Outcome) {
        outcome.taken.clear();
        outcome.failed_late.clear();
        let sent = offers.iter().map(|Offer { id, socket, slices }| (self.0)(id, socket, slices));
        outcome.taken.extend(sent);
    }
}

/// Sends the bytes of one connection after another by system calls.
#[derive(Debug)]
pub struct Direct;

impl Transmit for Direct {
    fn transmit(&mut self, offers: &Offers<'_>, outcome: &mut Outcome) {
        one_by_one(|_, socket, slices| send_slices(socket, slices)).transmit(offers, outcome);
    }
}

/// The result of sending an outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// The kernel took everything that it was offered.
    All,
    /// The kernel takes no more bytes at the moment.
    Full,
    /// The connection has failed.
    Failed,
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
