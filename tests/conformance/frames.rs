//! A WebSocket client that can break every rule of RFC 6455, and checks that the node follows them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flate2::{Decompress, FlushDecompress};

use crate::tcp::{PATIENCE, Response, Tcp, request};

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The example key of RFC 6455 section 1.3, whose answer is given there.
const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A frame from the client.
#[derive(Clone)]
pub(crate) struct Frame {
    opcode: u8,
    fin: bool,
    rsv: u8,
    mask: Option<[u8; 4]>,
    payload: Vec<u8>,
}

/// A message or another event from the node; fragments are joined.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason of a close frame; no code if the frame was empty.
    Close(Option<u16>, String),
    /// The end of the connection.
    End,
    /// Nothing arrived in the given time.
    Nothing,
}

/// A connection to the node.
pub(crate) struct Peer {
    pub(crate) tcp: Tcp,
    /// Opcode and bytes so far of a message that the node sends in fragments.
    partial: Option<(u8, Vec<u8>)>,
    /// Whether the node may compress messages.
    deflates: bool,
    /// Whether the message so far is compressed.
    is_deflated: bool,
    /// How many compressed messages the node has sent.
    pub(crate) deflated: usize,
}

impl Frame {
    pub(crate) fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        Self { opcode, fin: true, rsv: 0, mask, payload: payload.into() }
    }

    /// Returns a close frame with a code and a reason, legal or not.
    pub(crate) fn close(code: u16, reason: impl AsRef<[u8]>) -> Self {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_ref());
        Self::new(CLOSE, payload)
    }

    /// Clears the FIN bit: more frames of the same message follow.
    pub(crate) fn unfinished(self) -> Self {
        Self { fin: false, ..self }
    }

    /// Sets the three reserved bits; RSV1 has the value 4.
    pub(crate) fn rsv(self, rsv: u8) -> Self {
        Self { rsv, ..self }
    }

    pub(crate) fn unmasked(self) -> Self {
        Self { mask: None, ..self }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header(self.payload.len() as u64);
        let mask = self.mask.unwrap_or_default();
        let start = bytes.len();
        bytes.extend_from_slice(&self.payload);
        for (at, byte) in bytes[start..].iter_mut().enumerate() {
            *byte ^= mask[at % 4];
        }
        bytes
    }

    /// Returns only the header, for a payload of `length` bytes that may never come.
    pub(crate) fn header(&self, length: u64) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode];
        let masked = u8::from(self.mask.is_some()) << 7;
        match length {
            0..126 => bytes.push(masked | length as u8),
            126..65_536 => {
                bytes.push(masked | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
        }
        bytes.extend(self.mask.into_iter().flatten());
        bytes
    }
}

/// Returns a message in fragments of at most `size` bytes.
pub(crate) fn fragments(opcode: u8, payload: &[u8], size: usize) -> Vec<u8> {
    fragments_with(0, opcode, payload, size)
}

/// Returns a message in fragments of at most `size` bytes, of which the first has these reserved
/// bits.
pub(crate) fn fragments_with(rsv: u8, opcode: u8, payload: &[u8], size: usize) -> Vec<u8> {
    let count = payload.len().div_ceil(size).max(1);
    let mut bytes = Vec::with_capacity(payload.len() + count * 14);
    for index in 0..count {
        let part = &payload[index * size..payload.len().min((index + 1) * size)];
        let mut frame = Frame::new(if index == 0 { opcode } else { CONTINUATION }, part);
        frame.fin = index + 1 == count;
        frame.rsv = if index == 0 { rsv } else { 0 };
        bytes.extend(frame.bytes());
    }
    bytes
}

impl Peer {
    /// Opens a WebSocket and checks the node's answer.
    pub(crate) fn open(addr: SocketAddr, path: &str) -> Self {
        match Self::try_open(addr, path) {
            Ok(peer) => peer,
            Err(refusal) => panic!("upgrade refused: {} {:?}", refusal.status, refusal.text()),
        }
    }

    /// Requests a WebSocket. Returns the answer as the error if it is not 101.
    pub(crate) fn try_open(addr: SocketAddr, path: &str) -> Result<Self, Response> {
        let (peer, extensions) = Self::offer(addr, path, &[])?;
        assert_eq!(extensions, None, "none was offered");
        Ok(peer)
    }

    /// Requests a WebSocket with a header `Sec-WebSocket-Extensions` for each of these offers.
    /// Returns that of the answer, too.
    pub(crate) fn offer(
        addr: SocketAddr,
        path: &str,
        offers: &[&str],
    ) -> Result<(Self, Option<String>), Response> {
        let mut tcp = Tcp::connect(addr);
        tcp.send(upgrade_with(path, offers));
        let response = tcp.response();
        if response.status != 101 {
            return Err(response);
        }
        assert_eq!(response.header("sec-websocket-accept"), Some(SAMPLE_ACCEPT));
        let extensions = response.header("sec-websocket-extensions").map(str::to_owned);
        assert_eq!(response.header("sec-websocket-protocol"), None, "none was offered");
        let named = |name| response.header(name).unwrap_or_default().to_ascii_lowercase();
        assert_eq!(
            (named("upgrade").as_str(), named("connection").as_str()),
            ("websocket", "upgrade")
        );
        let deflates = extensions.is_some();
        let peer = Self { tcp, partial: None, deflates, is_deflated: false, deflated: 0 };
        Ok((peer, extensions))
    }

    /// Whether messages may be compressed.
    pub(crate) fn deflates(&self) -> bool {
        self.deflates
    }

    pub(crate) fn send(&mut self, frame: &Frame) -> bool {
        self.tcp.send(frame.bytes())
    }

    pub(crate) fn say(&mut self, text: &str) -> bool {
        self.send(&Frame::new(TEXT, text))
    }

    /// Sends several texts in one write. Returns false if the node has closed the connection.
    pub(crate) fn say_at_once<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let frames = texts.into_iter().map(|text| Frame::new(TEXT, text).bytes());
        self.tcp.send(frames.collect::<Vec<_>>().concat())
    }

    /// Returns the next message or event.
    pub(crate) fn hear(&mut self) -> Heard {
        self.hear_within(PATIENCE)
    }

    /// Returns the next message or event within `wait`. Panics at a frame that a server may not
    /// send.
    pub(crate) fn hear_within(&mut self, wait: Duration) -> Heard {
        let deadline = Instant::now() + wait;
        loop {
            let Some((first, payload)) = self.frame(deadline) else {
                return if Instant::now() < deadline { Heard::End } else { Heard::Nothing };
            };
            if let Some(heard) = self.digest(first, payload) {
                return heard;
            }
        }
    }

    /// Returns a frame's first byte and its payload.
    fn frame(&mut self, deadline: Instant) -> Option<(u8, Vec<u8>)> {
        // A frame is taken whole or not at all, so a time-out loses nothing.
        while self.frame_length().is_none_or(|length| self.tcp.unread().len() < length) {
            let more = self.tcp.unread().len() + 1;
            if !self.tcp.has(more, deadline) {
                return None;
            }
        }
        let length = self.frame_length()?;
        let frame = self.tcp.take(length, deadline)?;
        let payload = frame[header_length(frame[1])..].to_vec();
        Some((frame[0], payload))
    }

    /// Returns the length of the first unread frame, header included; `None` if its header is
    /// incomplete.
    fn frame_length(&self) -> Option<usize> {
        let unread = self.tcp.unread();
        let [first, second] = *unread.first_chunk()?;
        let extension =
            if self.deflates && matches!(first & 0x0f, TEXT | BINARY) { 0x40 } else { 0 };
        assert_eq!(first & 0x70 & !extension, 0, "reserved bits without an extension");
        assert_eq!(second & 0x80, 0, "a server's frames are not masked");
        let header = header_length(second);
        let length = match second {
            126 => usize::from(u16::from_be_bytes(*unread.get(2..)?.first_chunk()?)),
            127 => u64::from_be_bytes(*unread.get(2..)?.first_chunk()?) as usize,
            short => usize::from(short),
        };
        let shortest = if length < 126 {
            2
        } else if length < 65_536 {
            4
        } else {
            10
        };
        assert_eq!(header, shortest, "a length takes the shortest form");
        Some(header + length)
    }

    fn digest(&mut self, first: u8, payload: Vec<u8>) -> Option<Heard> {
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        if opcode >= 8 {
            assert!(fin && payload.len() <= 125, "a control frame is whole and short");
        }
        match opcode {
            PING => return Some(Heard::Ping(payload)),
            PONG => return Some(Heard::Pong(payload)),
            CLOSE => return Some(closing(&payload)),
            CONTINUATION => {
                let (_, bytes) = self.partial.as_mut().expect("there is a message to continue");
                bytes.extend(payload);
            }
            TEXT | BINARY => {
                assert!(self.partial.is_none(), "a message begins before the last one ended");
                self.partial = Some((opcode, payload));
                self.is_deflated = first & 0x40 != 0;
            }
            other => panic!("reserved opcode {other}"),
        }
        let (opcode, mut bytes) = self.partial.take_if(|_| fin)?;
        if self.is_deflated {
            bytes = inflate(bytes);
            self.deflated += 1;
        }
        Some(if opcode == BINARY {
            Heard::Binary(bytes)
        } else {
            Heard::Text(String::from_utf8(bytes).expect("text is UTF-8"))
        })
    }
}

impl Heard {
    /// Returns the text of a text message. Panics at anything else.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            other => panic!("a text message expected, heard {other:?}"),
        }
    }

    /// Whether a close frame came or the connection ended.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Close(..) | Self::End)
    }
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Messages have up to 16 MiB, so a failure shows only the start.
        let show = |bytes: &[u8]| {
            let start = bytes[..bytes.len().min(80)].escape_ascii();
            format!("({} bytes) {start}", bytes.len())
        };
        match self {
            Self::Text(text) => write!(f, "Text{}", show(text.as_bytes())),
            Self::Binary(bytes) => write!(f, "Binary{}", show(bytes)),
            Self::Ping(bytes) => write!(f, "Ping{}", show(bytes)),
            Self::Pong(bytes) => write!(f, "Pong{}", show(bytes)),
            Self::Close(code, reason) => write!(f, "Close({code:?}, {reason:?})"),
            Self::End => f.write_str("End"),
            Self::Nothing => f.write_str("Nothing"),
        }
    }
}

/// Returns the upgrade request for a WebSocket.
pub(crate) fn upgrade(path: &str) -> Vec<u8> {
    upgrade_with(path, &[])
}

fn upgrade_with(path: &str, offers: &[&str]) -> Vec<u8> {
    let line = format!("GET {path} HTTP/1.1");
    let key = format!("Sec-WebSocket-Key: {SAMPLE_KEY}");
    let upgrade = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", &key];
    let offers: Vec<_> =
        offers.iter().map(|offer| format!("Sec-WebSocket-Extensions: {offer}")).collect();
    let offers = offers.iter().map(String::as_str);
    let lines: Vec<_> = [&*line].into_iter().chain(upgrade).chain(offers).collect();
    request(&lines, "")
}

/// Returns what a compressed message of the node holds (RFC 7692 section 7.2.2).
fn inflate(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend([0x00, 0x00, 0xff, 0xff]);
    let (mut decompress, mut message) = (Decompress::new(false), Vec::new());
    while decompress.total_in() < bytes.len() as u64 || message.len() == message.capacity() {
        message.reserve(bytes.len().max(4_096));
        let rest = &bytes[decompress.total_in() as usize..];
        let inflated = decompress.decompress_vec(rest, &mut message, FlushDecompress::Sync);
        inflated.expect("the node's messages are DEFLATE");
    }
    message
}

fn header_length(second: u8) -> usize {
    match second & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

fn closing(payload: &[u8]) -> Heard {
    let Some((code, reason)) = payload.split_first_chunk() else {
        assert!(payload.is_empty(), "half a close code");
        return Heard::Close(None, String::new());
    };
    let reason = String::from_utf8(reason.to_vec()).expect("a close reason is UTF-8");
    Heard::Close(Some(u16::from_be_bytes(*code)), reason)
}
