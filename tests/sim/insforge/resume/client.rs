//! A client of InsForge Realtime that resumes its session. It remembers the private id of the
//! session and the offset of the last publication that it received.

use std::collections::HashMap;

use fanfare::message::ConnId;
use serde_json::Value;

use super::super::{CHANNELS, number};
use super::stream::Stream;
use crate::frames::{Frame, Line, TEXT};
use crate::node::API_KEY;

#[derive(Default)]
pub(super) struct Client {
    /// The number of its worker, and its connection; `None` while it has no connection.
    pub(super) line: Option<(usize, Line)>,
    /// Whether its last CONNECT packet was answered.
    pub(super) has_entered: bool,
    /// The private id of its session; `None` before the first answer to a CONNECT packet.
    pid: Option<String>,
    /// The offset of the last publication that it received.
    offset: Option<String>,
    pub(super) streams: [Stream; CHANNELS],
    /// The channels of its unanswered commands, by the ids of their acknowledgements.
    asked: HashMap<u64, usize>,
}

impl Client {
    /// Returns the CONNECT packet with which it enters, or resumes its session if it has one.
    pub(super) fn connect(&self) -> String {
        let member = |name: &str, value: &Option<String>| {
            value.as_ref().map_or(String::new(), |value| format!(r#","{name}":"{value}""#))
        };
        let (pid, offset) = (member("pid", &self.pid), member("offset", &self.offset));
        format!(r#"40{{"apiKey":"{API_KEY}"{pid}{offset}}}"#)
    }

    /// Notes that the client has sent a command, for which mail was posted.
    pub(super) fn asks(&mut self, ack: u64, channel: usize) {
        self.asked.insert(ack, channel);
    }

    /// Ends the connection, and loses the frames on it. Returns the connection and its worker.
    pub(super) fn cut(&mut self) -> Option<(usize, Line)> {
        self.has_entered = false;
        self.asked.clear();
        self.streams.iter_mut().for_each(Stream::cut);
        self.line.take()
    }

    /// Returns whether the client has this connection of a worker.
    pub(super) fn is_at(&self, worker: usize, id: ConnId) -> bool {
        self.line.as_ref().is_some_and(|(at, line)| *at == worker && line.id == id)
    }

    /// Handles the frames that have arrived.
    pub(super) fn read(&mut self) {
        let Some((_, line)) = &mut self.line else { return };
        line.heard().into_iter().for_each(|frame| self.take(frame));
    }

    fn take(&mut self, (opcode, payload): Frame) {
        assert_eq!(opcode, TEXT, "nothing else is sent");
        let text = str::from_utf8(&payload).expect("it is text");
        let json = |text: &str| serde_json::from_str(text).expect("it is JSON");
        match text.as_bytes() {
            [b'0', ..] => {}
            [b'4', b'0', ..] => self.enter(&json(&text[2..])),
            [b'4', b'2', ..] => self.hear(&json(&text[2..])),
            [b'4', b'3', ..] => {
                let (ack, _) = text[2..].split_at(text[2..].find('[').expect("an array"));
                let ack = ack.parse().expect("its own number");
                // Other commands were refused, or changed nothing.
                if let Some(channel) = self.asked.remove(&ack) {
                    self.streams[channel].answered(ack);
                }
            }
            _ => panic!("nobody says this: {text}"),
        }
    }

    fn enter(&mut self, answer: &Value) {
        let pid = answer["pid"].as_str().expect("it can be resumed").to_owned();
        if self.pid.as_ref() != Some(&pid) {
            // This is a new session, which has no subscriptions.
            self.streams.iter().for_each(Stream::check_so_far);
            (self.streams, self.offset) = Default::default();
        }
        (self.pid, self.has_entered) = (Some(pid), true);
    }

    fn hear(&mut self, event: &Value) {
        assert!(self.has_entered, "nothing comes in front of the answer to CONNECT");
        if event[0].as_str().is_some_and(|name| name.starts_with("presence:")) {
            return;
        }
        let channel = event[1]["meta"]["channel"].as_str().expect("every event has one");
        let published = event[1]["n"].as_u64().expect("its number");
        let channel = channel.strip_prefix("realtime:").expect("it is written so");
        self.streams[number(channel)].hear(published);
        self.offset = event[2].as_str().map(str::to_owned);
        assert!(self.offset.is_some(), "every publication has an offset");
    }
}
