//! A WebSocket or a stream from the client's side, driven by readiness.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Socket, Type};

use crate::clock::now_ns;
use crate::handshake::{Handshake, Protocol};
use crate::heard::Heard;
use crate::stream;
use crate::wire::{self, Frame};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Dialling,
    Opening,
    Open,
}

/// One connection and its stage.
pub(crate) struct Connection {
    socket: Socket,
    stage: Stage,
    /// Bytes of a frame that has not arrived completely. Usually empty and without an allocation.
    carry: Vec<u8>,
}

/// Parameters of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Dial {
    pub(crate) server: SocketAddr,
    /// The source address; `None` leaves the choice to the kernel.
    pub(crate) source: Option<SocketAddr>,
    /// Size of the socket's receive buffer; `None` keeps the kernel's default.
    pub(crate) receive_bytes: Option<usize>,
}

/// Bytes from one read, and how many of them have been handled.
pub(crate) struct Received<'a> {
    bytes: Cow<'a, [u8]>,
    used: usize,
    read_ns: u64,
}

/// Something that arrived from the server.
pub(crate) enum Arrival<'a> {
    /// The answer to the handshake. From now on messages may be sent, except to a stream.
    Open,
    Message(Message<'a>),
}

/// A message from the server.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The payload of a frame, or the lines of a block.
    pub(crate) text: &'a [u8],
    /// Length on the wire, including the header or the empty line.
    pub(crate) frame_bytes: usize,
    /// Time of the read, in ns of CLOCK_MONOTONIC.
    pub(crate) read_ns: u64,
}

impl Connection {
    /// Starts to connect. The socket becomes writable when the attempt has succeeded or failed.
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

    /// Whether the connection waits for writability instead of readability.
    pub(crate) fn is_dialling(&self) -> bool {
        self.stage == Stage::Dialling
    }

    /// Sends the request once the socket is writable. Returns an error if the connection failed.
    pub(crate) fn begin(&mut self, handshake: &Handshake) -> Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error).context("cannot connect");
        }
        self.stage = Stage::Opening;
        self.send(handshake.request.as_bytes())
    }

    /// Reads once into `scratch`. Returns `None` if there is nothing to read. Here and in the other
    /// methods, an error means that the connection is over.
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

    /// Returns the next arrival, or `None` if the rest is incomplete. Answers pings on the way.
    pub(crate) fn next<'a>(
        &mut self,
        received: &'a mut Received<'_>,
        handshake: &Handshake,
        heard: &mut Heard,
    ) -> Result<Option<Arrival<'a>>> {
        if self.stage == Stage::Opening {
            let Some(head_bytes) = handshake.read_answer(&received.bytes)? else {
                return Ok(None);
            };
            received.used = head_bytes;
            self.stage = Stage::Open;
            return Ok(Some(Arrival::Open));
        }
        let Received { bytes, used, read_ns } = received;
        if handshake.protocol == Protocol::EventStream {
            let block = stream::read_block(&bytes[*used..])?;
            return Ok(block.map(|(text, frame_bytes)| {
                *used += frame_bytes;
                Arrival::Message(Message { text, frame_bytes, read_ns: *read_ns })
            }));
        }
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
                Frame::Close(Some(code)) => bail!("the server closed the WebSocket (code {code})"),
                Frame::Close(None) => bail!("the server closed the WebSocket without a code"),
                Frame::Other => {}
            }
        }
        Ok(None)
    }

    /// Keeps the bytes that were not handled until the rest of their frame arrives.
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

    /// Reads once and forgets it. Returns whether the connection has ended.
    pub(crate) fn has_ended(&self, scratch: &mut [u8]) -> bool {
        match rustix::net::recv(&self.socket, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((_, count)) => count == 0,
            Err(error) => !matches!(error, Errno::AGAIN | Errno::INTR),
        }
    }

    /// Changes the size of the receive buffer.
    pub(crate) fn set_receive_bytes(&self, bytes: usize) -> Result<()> {
        Ok(self.socket.set_recv_buffer_size(bytes)?)
    }

    /// Sends a text message.
    pub(crate) fn say(&self, text: &[u8], heard: &mut Heard) -> Result<()> {
        heard.write(text, wire::write_text);
        self.send(&heard.frame)
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::send(&self.socket, bytes, flags).context("cannot send")?;
        // A client sends little at a time, so a full socket means that the server does not read.
        ensure!(sent == bytes.len(), "the server does not read what clients send");
        Ok(())
    }

    /// Returns how many bytes of an incomplete frame are kept.
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
