//! The listener that all acceptors share.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::UNSENT_BYTES_MAX;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4_096;

/// How long the node tries to listen on an address that is in use.
const LISTEN_PATIENCE: Duration = Duration::from_secs(2);
/// Time between two tries.
const LISTEN_PAUSE: Duration = Duration::from_millis(20);

/// Listens, and gives a predecessor that was killed time to release the address: the kernel takes a
/// ring with operations in flight apart after its process is gone, and until then keeps the
/// listener that they wait on.
pub(super) fn listen_patiently(address: SocketAddr) -> io::Result<TcpListener> {
    let since = Instant::now();
    loop {
        match listen(address) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && since.elapsed() < LISTEN_PATIENCE =>
            {
                thread::sleep(LISTEN_PAUSE);
            }
            listened => return listened,
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted node takes its port back while connections of its predecessor linger.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit both. With the delay, a lone small frame might wait for the
    // acknowledgement of the frame before it.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Stops listening, even if other threads hold the socket: every accept that waits on it fails, and
/// the address is free for a successor.
pub(super) fn stop_listening(listener: &TcpListener) {
    if let Err(error) = shutdown(listener, Shutdown::Both) {
        tracing::warn!(%error, "the listener cannot be closed before the node ends");
    }
}
