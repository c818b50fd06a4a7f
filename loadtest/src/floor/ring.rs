//! Sends the same bytes to many sockets through a ring of io_uring, in batches.
//!
//! Each send has `MSG_DONTWAIT`, so that the kernel finishes it while it takes the batch: then the
//! bytes have been sent or a completion says what is left. With `MSG_WAITALL` a short send counts as
//! a failure; without it the kernel would skip the completion of a short send too.

use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use io_uring::squeue::Flags;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// Sends of one batch. Batches of 64 to 256 cost the same.
const BATCH: u32 = 128;

/// A ring that only sends.
pub(super) struct Ring(IoUring);

/// A send that did not take all bytes: the place of its socket and what the kernel answered.
pub(super) struct Short {
    pub(super) at: usize,
    pub(super) sent: Result<usize, Errno>,
}

impl Ring {
    /// Creates the ring. The thread that calls this is the only one that may use it.
    pub(super) fn new() -> Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .build(BATCH)
            .context("the kernel gives no ring (io_uring); --sends coalescing needs none")?;
        ensure!(ring.params().is_feature_skip_cqe_on_success(), "the kernel is too old for this");
        Ok(Self(ring))
    }

    /// Sends `bytes` to each socket and returns those that did not take all of them. Each socket
    /// comes with its place.
    pub(super) fn send_to_each<'a>(
        &mut self,
        sockets: impl Iterator<Item = (usize, BorrowedFd<'a>)>,
        bytes: &'a [u8],
    ) -> Result<Vec<Short>> {
        let length = u32::try_from(bytes.len()).context("a turn of more than 4 GiB")?;
        let flags = (SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits() | RecvFlags::WAITALL.bits();
        let mut shorts = Vec::new();
        let mut queued = 0;
        for (at, socket) in sockets {
            let send = opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), length);
            let send = send
                .flags(flags.cast_signed())
                .build()
                .flags(Flags::SKIP_SUCCESS)
                .user_data(at as u64);
            #[allow(unsafe_code, reason = "the queue cannot know that the bytes outlive the send")]
            // SAFETY: `bytes` and the socket are borrowed until this function returns, and `flush`
            // returns only when the kernel has finished each send (`MSG_DONTWAIT` never leaves one
            // for later).
            unsafe {
                self.0.submission().push(&send).context("a full queue")?;
            }
            queued += 1;
            if queued == BATCH {
                self.flush(&mut shorts)?;
                queued = 0;
            }
        }
        self.flush(&mut shorts)?;
        Ok(shorts)
    }

    /// Hands the queue to the kernel and takes the completions of those that did not take all.
    fn flush(&mut self, shorts: &mut Vec<Short>) -> Result<()> {
        while !self.0.submission().is_empty() {
            match self.0.submit() {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                Err(error) => return Err(error).context("the ring takes no sends"),
            }
        }
        for completion in self.0.completion() {
            let at = usize::try_from(completion.user_data())?;
            let result = completion.result();
            let sent = usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
            shorts.push(Short { at, sent });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn pairs(count: usize) -> Vec<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pair = |_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0);
        (0..count).map(pair).collect()
    }

    #[test]
    fn each_socket_of_several_batches_gets_the_bytes_once() {
        let mut pairs = pairs(2 * BATCH as usize + 3);
        let mut ring = Ring::new().unwrap();
        for bytes in [&b"first"[..], b"second"] {
            let sockets = pairs.iter().map(|(_, server)| server.as_fd()).enumerate();
            assert!(ring.send_to_each(sockets, bytes).unwrap().is_empty());
        }
        for (client, server) in &mut pairs {
            server.shutdown(std::net::Shutdown::Write).unwrap();
            let mut received = String::new();
            client.read_to_string(&mut received).unwrap();
            assert_eq!(received, "firstsecond");
        }
    }

    #[test]
    fn what_a_full_or_closed_socket_does_not_take_is_reported() {
        let mut pairs = pairs(3);
        let mut ring = Ring::new().unwrap();
        // More than the buffers of a connection hold.
        let bytes = vec![b'y'; 64 << 20];
        let full = |ring: &mut Ring, server: &TcpStream| {
            ring.send_to_each([(7, server.as_fd())].into_iter(), &bytes).unwrap()
        };
        let first = full(&mut ring, &pairs[0].1);
        assert_eq!((first.len(), first[0].at), (1, 7));
        let mut sent = first[0].sent.unwrap();
        assert!(sent > 0 && sent < bytes.len());
        // The kernel may make room after the first send, by enlarging its buffers.
        let refused = loop {
            match full(&mut ring, &pairs[0].1)[0].sent {
                Ok(more) => sent += more,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, Errno::AGAIN);
        pairs[1].1.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(full(&mut ring, &pairs[1].1)[0].sent, Err(Errno::PIPE));
        let mut received = vec![0; sent];
        pairs[0].0.read_exact(&mut received).unwrap();
        assert!(received.iter().all(|byte| *byte == b'y'));
    }
}
