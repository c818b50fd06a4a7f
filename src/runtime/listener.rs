//! The listeners of a node. All acceptors accept on all of them.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

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
    /// Whether the socket was passed to the process, and goes on listening when the node stops.
    pub is_passed: bool,
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
        let (is_public, is_passed) = (self.is_public, self.is_passed);
        Ok(Self { socket, terms: self.terms.clone(), is_public, is_passed })
    }
}

/// A listener, as the runtime of an acceptor awaits it.
pub(super) struct Awaited {
    socket: AwaitedSocket,
    pub(super) terms: Option<Arc<ArcSwap<Terms>>>,
    pub(super) is_public: bool,
    is_passed: bool,
    /// Who waits for a connection on a socket that was passed.
    waiting: Cell<Option<Waker>>,
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
    pub(super) fn new(
        Listener { socket, terms, is_public, is_passed }: Listener,
    ) -> io::Result<Self> {
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
        Ok(Self { socket, terms, is_public, is_passed, waiting: Cell::default() })
    }

    /// Accepts the next connection. Returns it with its other end. `has_ended` says whether the
    /// node has stopped accepting.
    ///
    /// # Errors
    /// If the listener was shut down, or the process has no descriptors left.
    pub(super) async fn accept(&self, has_ended: impl Fn() -> bool) -> io::Result<(OwnedFd, Peer)> {
        if !self.is_passed {
            return self.accept_next().await;
        }
        // Nothing shuts such a socket down, because others may go on with it.
        let mut accept = pin!(self.accept_next());
        poll_fn(|context| {
            if has_ended() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            self.waiting.set(Some(context.waker().clone()));
            accept.as_mut().poll(context)
        })
        .await
    }

    /// Lets an accept that waits look whether the node has stopped accepting.
    pub(super) fn wake(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    async fn accept_next(&self) -> io::Result<(OwnedFd, Peer)> {
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
