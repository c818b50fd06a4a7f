//! One client of the floor: just enough of the protocol and of the API for a subscribe.

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::api::{Api, insforge};
use crate::floor::frame::framed;
use crate::handshake::{self, KEY_ANSWER, STREAM_TYPE};

const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// A connection and its unsent bytes.
pub(super) struct Session {
    stream: TcpStream,
    api: Api,
    /// Whether the request that opens the connection was answered.
    opened: bool,
    /// Whether the client receives publications.
    pub(super) subscribed: bool,
    /// InsForge: the channel of the subscribe, with its quotes.
    pub(super) channel: Vec<u8>,
    /// Bytes that do not form a complete request or frame yet.
    inbox: Vec<u8>,
    /// Bytes that the socket has not accepted; usually empty.
    backlog: Vec<u8>,
}

impl Session {
    pub(super) fn new(stream: TcpStream, api: Api) -> Self {
        Self {
            stream,
            api,
            opened: false,
            subscribed: false,
            channel: Vec::new(),
            inbox: Vec::new(),
            backlog: Vec::new(),
        }
    }

    /// Reads once and answers. An error means that the connection is over.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> Result<()> {
        match rustix::net::recv(&self.stream, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => bail!("the client has gone"),
            Ok((_, count)) => self.inbox.extend_from_slice(&scratch[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        ensure!(self.inbox.len() <= REQUEST_BYTES_MAX, "an endless request");
        let mut inbox = std::mem::take(&mut self.inbox);
        let used = self.take_in(&inbox)?;
        if used < inbox.len() {
            inbox.drain(..used);
            self.inbox = inbox;
        }
        Ok(())
    }

    /// Sends, and queues what the socket does not accept. Returns false if anything was queued.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<bool> {
        if !self.backlog.is_empty() {
            self.backlog.extend_from_slice(bytes);
            return Ok(false);
        }
        let sent = self.send_now(bytes)?;
        self.backlog.extend_from_slice(&bytes[sent..]);
        Ok(sent == bytes.len())
    }

    /// Queues bytes without an attempt to send them.
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.backlog.extend_from_slice(bytes);
    }

    /// Sends as much of the backlog as the socket accepts.
    pub(super) fn flush(&mut self) -> Result<()> {
        let sent = self.send_now(&self.backlog)?;
        self.backlog.drain(..sent);
        if self.backlog.is_empty() {
            self.backlog = Vec::new();
        }
        Ok(())
    }

    /// Returns how many bytes are queued.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.backlog.len()
    }

    fn send_now(&self, bytes: &[u8]) -> Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(&self.stream, bytes, flags) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut used = 0;
        if !self.opened {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                return Ok(0);
            };
            used = end + 4;
            self.opened = true;
            let answer = answer(self.api, &bytes[..used])?;
            let greeting = self.api.greeting().map(|text| framed(self.api, text));
            self.send(&[answer.as_bytes(), &greeting.unwrap_or_default()].concat())?;
            // The request of a stream names its channel.
            self.subscribed = self.api.is_stream();
        }
        while let Some((text, frame_bytes)) = read_masked(&bytes[used..])? {
            used += frame_bytes;
            if let Some(reply) = self.api.reply(&text) {
                self.send(&framed(self.api, &reply.text))?;
                self.subscribed |= reply.subscribes;
                if reply.subscribes {
                    self.channel = insforge::channel(&text).unwrap_or_default().to_vec();
                }
            }
        }
        Ok(used)
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Returns the head of the answer to the request that opens a connection.
fn answer(api: Api, request: &[u8]) -> Result<String> {
    if api.is_stream() {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {STREAM_TYPE}\r\n");
        return Ok(format!("{head}Connection: close\r\n\r\n"));
    }
    Ok(upgraded(handshake::offered(request)?))
}

/// Returns the answer to an upgrade that offers this subprotocol.
pub(super) fn upgraded(offer: Option<&str>) -> String {
    let chosen = offer.map(|offer| format!("\r\nSec-WebSocket-Protocol: {offer}"));
    // All clients of this program send the same key.
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                Connection: Upgrade\r\nSec-WebSocket-Accept: ";
    format!("{head}{KEY_ANSWER}{}\r\n\r\n", chosen.unwrap_or_default())
}

/// Returns the text of the masked frame at the start of `bytes` and the frame's length, or `None`
/// if it is incomplete. Close frames and frames longer than those that this program's clients send
/// are errors.
pub(super) fn read_masked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    ensure!(first == 0x81 && second & 0x80 != 0, "not a masked text frame");
    let (length, mask_at) = match second & 0x7F {
        127 => bail!("a frame of more than 64 KiB"),
        126 => match bytes[2..].first_chunk() {
            Some(raw) => (usize::from(u16::from_be_bytes(*raw)), 4),
            None => return Ok(None),
        },
        short => (usize::from(short), 2),
    };
    let end = mask_at + 4 + length;
    let Some(body) = bytes.get(mask_at..end) else {
        return Ok(None);
    };
    let (mask, body) = body.split_at(4);
    let text = body.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Ok(Some((text, end)))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;
    use crate::wire::{write_pong, write_text};

    #[test]
    fn what_clients_write_is_read() {
        for length in [0, 5, 125, 126, 60_000] {
            let text = vec![b'y'; length];
            let mut bytes = Vec::new();
            write_text(&mut bytes, &text, [1, 2, 3, 4]);
            let whole = bytes.len();
            for cut in (0..whole.min(9)).chain([whole - 1]) {
                assert_eq!(read_masked(&bytes[..cut]).unwrap(), None, "cut at {cut}");
            }
            bytes.push(0x81);
            assert_eq!(read_masked(&bytes).unwrap(), Some((text, whole)));
        }
        let mut pong = Vec::new();
        write_pong(&mut pong, b"", [1, 2, 3, 4]);
        assert!(read_masked(&pong).is_err());
        assert!(read_masked(&[0x81, 0x01, b'a']).is_err());
    }

    #[test]
    fn what_a_socket_does_not_take_is_kept_and_sent_later_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut session = Session::new(listener.accept().unwrap().0, Api::InsForge);
        let mut sent = Vec::new();
        let mut kept = 0;
        // The client does not read, so the buffers fill up; after that, a little more is sent.
        for number in 0_u32.. {
            let frame: Vec<u8> = (number..number + 10_000).flat_map(u32::to_be_bytes).collect();
            kept += u32::from(!session.send(&frame).unwrap());
            sent.extend(frame);
            if kept == 3 {
                break;
            }
        }
        assert!(session.backlog_bytes() > 40_000);
        let mut received = vec![0; sent.len()];
        let mut at = 0;
        while at < sent.len() {
            let end = sent.len().min(at + 100_000);
            at += client.read(&mut received[at..end]).unwrap();
            session.flush().unwrap();
        }
        assert_eq!(session.backlog_bytes(), 0);
        assert!(received == sent);
    }
}
