//! A WebSocket connection from the client's side, driven by readiness.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Socket, Type};

use crate::clock::now_ns;
use crate::heard::Heard;
use crate::upgrade::Upgrade;
use crate::wire::{self, Frame};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Dialling,
    Upgrading,
    Open,
}

/// One connection and how far it has come.
pub(crate) struct Connection {
    socket: Socket,
    stage: Stage,
    /// Bytes of a frame that has not fully arrived; empty, and without memory, as a rule.
    carry: Vec<u8>,
}

/// How a connection is made.
#[derive(Clone, Copy)]
pub(crate) struct Dial {
    /// The server.
    pub(crate) server: SocketAddr,
    /// Where from; `None` leaves it to the kernel.
    pub(crate) source: Option<SocketAddr>,
    /// Room for what was not read yet; `None` leaves it to the kernel.
    pub(crate) receive_bytes: Option<usize>,
}

/// What was read at once, and how much of that was taken.
pub(crate) struct Received<'a> {
    bytes: Cow<'a, [u8]>,
    used: usize,
    read_ns: u64,
}

/// Something that is there.
pub(crate) enum Arrival<'a> {
    /// The answer to the upgrade: messages may be sent.
    Open,
    /// A message.
    Message(Message<'a>),
}

/// A message that is there.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// What it says.
    pub(crate) text: &'a [u8],
    /// Its length on the wire.
    pub(crate) frame_bytes: usize,
    /// When it was read.
    pub(crate) read_ns: u64,
}

impl Connection {
    /// Begins to connect; the socket turns writable when that is decided.
    pub(crate) fn dial(dial: Dial) -> Result<Self> {
        let Dial { server, source, receive_bytes } = dial;
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        receive_bytes.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(bytes))?;
        if let Some(source) = source {
            socket.bind(&source.into()).with_context(|| format!("no port left at {source}"))?;
        }
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                Err(error).context("cannot connect")
            }
            _ => Ok(Self { socket, stage: Stage::Dialling, carry: Vec::new() }),
        }
    }

    /// Whether it waits for writability instead of readability.
    pub(crate) fn is_dialling(&self) -> bool {
        self.stage == Stage::Dialling
    }

    /// The connection is decided: asks for the upgrade.
    pub(crate) fn begin(&mut self, upgrade: &Upgrade) -> Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error).context("cannot connect");
        }
        self.stage = Stage::Upgrading;
        self.send(upgrade.request.as_bytes())
    }

    /// Reads once into `scratch`; `None` when nothing is there. An error means that the connection
    /// is over, as with all that follows.
    pub(crate) fn receive<'a>(&mut self, scratch: &'a mut [u8]) -> Result<Option<Received<'a>>> {
        let count = match rustix::net::recv(&self.socket, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => bail!("the server closed the connection"),
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let read_ns = now_ns();
        let news = &scratch[..count];
        if self.carry.is_empty() {
            return Ok(Some(Received { bytes: Cow::Borrowed(news), used: 0, read_ns }));
        }
        let mut bytes = std::mem::take(&mut self.carry);
        bytes.extend_from_slice(news);
        Ok(Some(Received { bytes: Cow::Owned(bytes), used: 0, read_ns }))
    }

    /// The next of what was received, once it is whole. Pings are answered on the way.
    pub(crate) fn next<'a>(
        &mut self,
        received: &'a mut Received<'_>,
        upgrade: &Upgrade,
        heard: &mut Heard,
    ) -> Result<Option<Arrival<'a>>> {
        if self.stage == Stage::Upgrading {
            let Some(head_bytes) = upgrade.read_answer(&received.bytes)? else {
                return Ok(None);
            };
            received.used = head_bytes;
            self.stage = Stage::Open;
            return Ok(Some(Arrival::Open));
        }
        let Received { bytes, used, read_ns } = received;
        while let Some((frame, frame_bytes)) = wire::read_frame(&bytes[*used..])? {
            *used += frame_bytes;
            match frame {
                Frame::Text(text) => {
                    let message = Message { text, frame_bytes, read_ns: *read_ns };
                    return Ok(Some(Arrival::Message(message)));
                }
                Frame::Ping(payload) => {
                    heard.pings += 1;
                    heard.write(payload, wire::write_pong);
                    self.send(&heard.frame)?;
                }
                Frame::Close(code) => bail!("the server closed the WebSocket (code {code:?})"),
                Frame::Other => {}
            }
        }
        Ok(None)
    }

    /// Keeps what was not taken for when the rest of it has come.
    pub(crate) fn keep(&mut self, received: Received<'_>) {
        let Received { bytes, used, .. } = received;
        match bytes {
            Cow::Borrowed(bytes) => self.carry.extend_from_slice(&bytes[used..]),
            Cow::Owned(mut bytes) if used < bytes.len() => {
                bytes.drain(..used);
                self.carry = bytes;
            }
            Cow::Owned(_) => {}
        }
    }

    /// Sends a message.
    pub(crate) fn say(&self, text: &[u8], heard: &mut Heard) -> Result<()> {
        heard.write(text, wire::write_text);
        self.send(&heard.frame)
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::send(&self.socket, bytes, flags).context("cannot send")?;
        // A client says little at a time: a full socket means a server that reads none.
        ensure!(sent == bytes.len(), "the server does not read what clients send");
        Ok(())
    }

    /// Bytes of what has not fully arrived.
    #[cfg(test)]
    pub(crate) fn carried(&self) -> usize {
        self.carry.len()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
