//! One outbox to one socket: vectored, non-blocking sends.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use crate::engine::outbox::{Outbox, Spares};
use crate::limits::VECTORED_FRAMES_MAX;
use crate::metrics::Counters;

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Nothing waits any more.
    All,
    /// The kernel takes no more at the moment.
    Full,
    /// The connection is broken.
    Failed,
}

/// Sends what waits until nothing does or the kernel takes no more.
pub fn send_waiting<F: AsRef<[u8]>>(
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
        let taken = match send_slices(socket, &slices[..count]) {
            Ok(taken) => taken,
            Err(Errno::AGAIN) => return Sent::Full,
            Err(Errno::INTR) => continue,
            Err(_) => return Sent::Failed,
        };
        counters.bytes_sent.add(taken as u64);
        let finished = outbox.advance(taken, spares);
        counters.frames_sent.add(finished as u64);
        if taken < offered {
            return Sent::Full;
        }
    }
    Sent::All
}

fn send_slices(socket: &OwnedFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match slices {
        // The kernel's path for a single buffer is the shorter one, and the usual one.
        [one] => send(socket, one, flags),
        many => sendmsg(socket, many, &mut SendAncillaryBuffer::default(), flags),
    }
}
