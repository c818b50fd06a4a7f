//! A connection of Socket.IO whose node may end at any time.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use serde_json::json;
use tungstenite::{Error, Message, WebSocket};

use crate::socket::{Came, SUBSCRIBE};

/// How long a node may take to let a client in.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Line {
    websocket: WebSocket<TcpStream>,
    asked: u64,
}

/// What a node says.
pub(super) enum Said {
    /// The publication with this number on the channel of this name.
    Event(String, u64),
    /// Publications on this channel may be missing.
    Gap(String),
    /// The command with this number is done, or is refused.
    Answer(u64, bool),
    /// The connection has ended, in this way.
    End(String),
    Nothing,
}

impl Line {
    /// Connects and enters the namespace, and notes the session. Returns `None` if the node does
    /// not let the client in.
    pub(super) fn enter(port: u16, came: &mut Came) -> Option<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
        let (websocket, _) = tungstenite::client(url, stream).ok()?;
        let mut line = Self { websocket, asked: 0 };
        line.text().filter(|text| text.starts_with("0{"))?;
        line.send(came.packet());
        let connected = line.text().filter(|text| text.starts_with("40{"))?;
        came.note(&connected);
        line.websocket.get_ref().set_nonblocking(true).ok()?;
        Some(line)
    }

    /// Returns the next text; `None` if the node has sent no other.
    fn text(&mut self) -> Option<String> {
        match self.websocket.read() {
            Ok(Message::Text(text)) => Some(text.as_str().to_owned()),
            _ => None,
        }
    }

    /// Asks to subscribe. Returns the number of the command.
    pub(super) fn subscribe(&mut self, channel: &str) -> u64 {
        self.asked += 1;
        self.send(format!("42{}{}", self.asked, json!([SUBSCRIBE, { "channel": channel }])));
        self.asked
    }

    /// Sends a packet. A connection that has ended is noticed by the next read.
    fn send(&mut self, packet: String) {
        let _ = self.websocket.send(Message::text(packet));
    }

    /// Returns what the node has said, without waiting. Answers heartbeats.
    pub(super) fn look(&mut self, came: &mut Came) -> Said {
        loop {
            let text = match self.websocket.read() {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(frame)) => {
                    let code = frame.map(|frame| u16::from(frame.code).to_string());
                    return Said::End(code.unwrap_or_else(|| "close without a code".to_owned()));
                }
                Ok(_) => continue,
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    return Said::Nothing;
                }
                Err(error) => return Said::End(error.to_string()),
            };
            came.note(text.as_str());
            match text.as_str() {
                "2" => self.send("3".to_owned()),
                "1" | "41" => return Said::End(format!("packet {text}")),
                text => return said(text),
            }
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.websocket.get_ref().as_fd()
    }
}

/// Reads an event or an answer. It is not parsed as JSON, because there are a million of them.
pub(super) fn said(text: &str) -> Said {
    let channel = || between(text, "\"channel\":\"").expect("there is a channel").to_owned();
    if text.starts_with("42[\"tick\",") {
        let number = between(text, "\"n\":").and_then(|number| number.parse().ok());
        return Said::Event(channel(), number.expect("ticks have numbers"));
    }
    if text.starts_with("42[\"realtime:error\"") && text.contains("\"REALTIME_GAP\"") {
        return Said::Gap(channel());
    }
    let answer = text.strip_prefix("43").and_then(|rest| rest.split_once('['));
    let answer = answer.and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
    match answer {
        Some((number, rest)) => Said::Answer(number, rest.starts_with("{\"ok\":true")),
        None => panic!("unexpected: {text}"),
    }
}

/// Returns what is behind `begin`, up to the end of a text or of a number.
fn between<'t>(text: &'t str, begin: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split(['"', ',', '}']).next()
}
