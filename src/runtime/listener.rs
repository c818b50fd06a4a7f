//! The listeners of a node. All acceptors accept on all of them.

use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use arc_swap::ArcSwap;
use monoio::net;

use crate::codec::tls::Terms;
use crate::message::Peer;

/// A socket that listens.
#[derive(Debug)]
pub enum Socket {
    /// On an address and a port.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener),
}

/// A socket that listens, and what its clients find there.
#[derive(Debug)]
pub struct Listener {
    /// Shared with the other acceptors.
    pub socket: Socket,
    /// The terms of TLS, which reloads replace; `None` if clients do not encrypt.
    pub terms: Option<Arc<ArcSwap<Terms>>>,
    /// Whether administration is served elsewhere only.
    pub is_public: bool,
}

impl Listener {
    /// Returns the same listener for another thread.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(socket) => Socket::Tcp(socket.try_clone()?),
            Socket::Unix(socket) => Socket::Unix(socket.try_clone()?),
        };
        Ok(Self { socket, terms: self.terms.clone(), is_public: self.is_public })
    }
}

/// A listener, as the runtime of an acceptor awaits it.
pub(super) struct Awaited {
    socket: AwaitedSocket,
    pub(super) terms: Option<Arc<ArcSwap<Terms>>>,
    pub(super) is_public: bool,
}

enum AwaitedSocket {
    Tcp(net::TcpListener),
    Unix(net::UnixListener),
}

impl Awaited {
    /// Watches a listener. Must be called on the acceptor's own thread.
    ///
    /// # Errors
    /// If the kernel has no memory to watch it.
    pub(super) fn new(Listener { socket, terms, is_public }: Listener) -> io::Result<Self> {
        // epoll needs a non-blocking listener. On such a listener io_uring would not wait for a
        // client, but fail at once with `EAGAIN`.
        let is_nonblocking = monoio::utils::is_legacy();
        let socket = match socket {
            Socket::Tcp(socket) => {
                socket.set_nonblocking(is_nonblocking)?;
                AwaitedSocket::Tcp(net::TcpListener::from_std(socket)?)
            }
            Socket::Unix(socket) => {
                socket.set_nonblocking(is_nonblocking)?;
                AwaitedSocket::Unix(net::UnixListener::from_std(socket)?)
            }
        };
        Ok(Self { socket, terms, is_public })
    }

    /// Accepts the next connection. Returns it with its other end.
    ///
    /// # Errors
    /// If the listener was shut down, or the process has no descriptors left.
    pub(super) async fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        match &self.socket {
            AwaitedSocket::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((owned(stream), address.into()))
            }
            AwaitedSocket::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                Ok((owned(stream), Peer::Local))
            }
        }
    }
}

fn owned(stream: impl IntoRawFd) -> OwnedFd {
    // SAFETY: the runtime gives the descriptor away, and no operation on it has begun.
    #[allow(unsafe_code, reason = "the runtime's stream gives its descriptor as a number only")]
    unsafe {
        OwnedFd::from_raw_fd(stream.into_raw_fd())
    }
}
