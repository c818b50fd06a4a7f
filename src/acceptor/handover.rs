//! Taking a socket out of the runtime's hands.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use monoio::net::TcpStream;

/// A descriptor of the stream's socket that the runtime knows nothing of.
///
/// A duplicate, because an operation that was given up may still be in flight: until the kernel
/// has cancelled it, it keeps the runtime's descriptor open, and the runtime refuses to part with
/// that. The runtime closes its own when the last of them is over.
///
/// # Errors
/// When the process has no descriptors left.
pub(super) fn detach(stream: TcpStream) -> io::Result<OwnedFd> {
    // SAFETY: `stream` owns the descriptor and lives until the end of this function, and the
    // borrow ends with the statement.
    #[allow(unsafe_code, reason = "the runtime's stream lends its descriptor as a number only")]
    let borrowed = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    borrowed.try_clone_to_owned()
}
