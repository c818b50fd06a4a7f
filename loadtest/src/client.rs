//! One subscriber: a client that follows the script of an API.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use memchr::memmem;

use crate::api::{Packet, Plain, Script, Word};
use crate::connection::{Arrival, Connection, Dial, Message};
use crate::heard::Heard;
use crate::tally::Tally;

/// Stands for the number of a client's channel in messages of a script.
pub(crate) const NUMBER: &str = "{number}";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The request that opens the connection has no answer yet.
    Opening,
    /// The index of the step whose message the client awaits.
    Step(usize),
    Ready,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => f.write_str("before the connection was open"),
            Self::Step(at) => write!(f, "in step {} of the handshake", at + 1),
            Self::Ready => f.write_str("after the handshake"),
        }
    }
}

/// One connection and its progress through the script.
pub(crate) struct Client {
    connection: Connection,
    stage: Stage,
    /// The sequence numbers received so far.
    pub(crate) tally: Tally,
}

impl Client {
    /// Starts to connect. The socket becomes writable when the attempt has succeeded or failed.
    pub(crate) fn dial(dial: Dial) -> Result<Self> {
        let connection = Connection::dial(dial)?;
        Ok(Self { connection, stage: Stage::Opening, tally: Tally::default() })
    }

    /// Whether the client waits for writability instead of readability.
    pub(crate) fn is_dialling(&self) -> bool {
        self.connection.is_dialling()
    }

    /// Whether the client has finished the script and only listens now.
    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Sends its request once the socket is writable. Returns an error if the connection failed.
    pub(crate) fn begin(&mut self, script: &Script) -> Result<()> {
        self.connection.begin(&script.handshake)
    }

    /// Reads once into `scratch` and handles all complete messages. An error means that the
    /// connection is over.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        script: &Script,
        heard: &mut Heard,
    ) -> Result<()> {
        let received = self.connection.receive(scratch);
        let received = received.with_context(|| self.stage.to_string())?;
        let Some(mut received) = received else {
            return Ok(());
        };
        while let Some(arrival) = self.connection.next(&mut received, &script.handshake, heard)? {
            match arrival {
                Arrival::Open => self.open(script, heard)?,
                Arrival::Message(message) => self.on_message(message, script, heard)?,
            }
        }
        self.connection.keep(received);
        Ok(())
    }

    /// Reads once and forgets it. Returns whether the connection has ended.
    pub(crate) fn has_ended(&self, scratch: &mut [u8]) -> bool {
        self.connection.has_ended(scratch)
    }

    /// Changes the size of the receive buffer.
    pub(crate) fn set_receive_bytes(&self, bytes: usize) -> Result<()> {
        self.connection.set_receive_bytes(bytes)
    }

    /// Sends a publication on a plain WebSocket.
    pub(crate) fn publish(&self, text: &[u8], heard: &mut Heard) -> Result<()> {
        self.connection.say(text, heard)
    }

    fn open(&mut self, script: &Script, heard: &mut Heard) -> Result<()> {
        if let Some(plain) = &script.plain {
            let waits = plain.ready_when.is_some();
            self.stage = if waits { Stage::Step(0) } else { Stage::Ready };
            return plain.opening.iter().try_for_each(|text| self.say(text, heard));
        }
        self.stage = if script.steps.is_empty() { Stage::Ready } else { Stage::Step(0) };
        let opening = script.opening.as_ref();
        opening.map_or(Ok(()), |opening| self.say(opening, heard))
    }

    fn on_message(
        &mut self,
        message: Message<'_>,
        script: &Script,
        heard: &mut Heard,
    ) -> Result<()> {
        if let Some(Plain { ready_when, .. }) = &script.plain {
            let text = ready_when.as_deref().unwrap_or_default().as_bytes();
            if self.is_ready() {
                self.on_event(message.text, message, heard);
            } else if memmem::find(message.text, text).is_some() {
                self.stage = Stage::Ready;
            }
            return Ok(());
        }
        match script.api.read(message.text) {
            // A state that existed before the subscribe answers it. It is of an earlier run, so it
            // is not counted as an event.
            Packet::Event(_) if script.api.tells_states() && !self.is_ready() => {
                self.advance(Word::Subscribed, script, heard)?;
            }
            Packet::Event(event) => self.on_event(event, message, heard),
            Packet::Word(word) => self.advance(word, script, heard)?,
            Packet::Heartbeat(answer) => {
                heard.pings += 1;
                answer.map_or(Ok(()), |answer| self.connection.say(answer, heard))?;
            }
            Packet::Complaint(complaint) => {
                if let Some(count) = script.api.gap(complaint) {
                    self.tally.announce(count);
                }
                heard.complain(complaint);
            }
            Packet::Refused(reason) => {
                bail!("refused {}: {}", self.stage, String::from_utf8_lossy(reason))
            }
            Packet::Closed => bail!("the server ended the session"),
            Packet::Other => {}
        }
        Ok(())
    }

    /// Moves to the next step and sends this step's answer; an error if `word` is not awaited.
    fn advance(&mut self, word: Word, script: &Script, heard: &mut Heard) -> Result<()> {
        let step = match self.stage {
            Stage::Step(at) => script.steps.get(at).filter(|step| step.awaited == word),
            _ => None,
        };
        let (Stage::Step(at), Some(step)) = (self.stage, step) else {
            bail!("{word:?} came {}", self.stage);
        };
        let last = at + 1 == script.steps.len();
        self.stage = if last { Stage::Ready } else { Stage::Step(at + 1) };
        let answer = step.answer.as_ref();
        answer.map_or(Ok(()), |answer| self.say(answer, heard))
    }

    /// Sends a message of the script, with the channel's number in it if channels are numbered.
    fn say(&self, text: &str, heard: &mut Heard) -> Result<()> {
        let Some(channel) = self.tally.channel else {
            return self.connection.say(text.as_bytes(), heard);
        };
        let text = text.replace(NUMBER, &format!("{channel:06}"));
        self.connection.say(text.as_bytes(), heard)
    }

    fn on_event(&mut self, event: &[u8], message: Message<'_>, heard: &mut Heard) {
        let Some(stamp) = heard.reader.find(event) else {
            heard.other_events += 1;
            return;
        };
        if !self.tally.note(stamp.sequence) {
            return;
        }
        heard.received += 1;
        heard.frames.note(message.frame_bytes);
        heard.time(stamp.due_ns, message.read_ns);
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::api::{Access, Api};
    use crate::clock::{now_ns, timespec};
    use crate::handshake::{KEY_ANSWER, offered};
    use crate::tally::{Deliveries, Outcome, Outcomes};
    use crate::target::Target;

    const INSFORGE_AUTH: &str = r#"{"token":"t"}"#;
    const FORGE_CONNECTED: &str = r#"{"type":"connected","connectionId":"c","expiresAt":1}"#;
    const FORGE_SUBSCRIBE: &str = r#"{"channel":"a","id":1,"type":"subscribe"}"#;
    const FORGE_SUBSCRIBED: &str = r#"{"type":"subscribed","id":1,"topic":"Qm3","last":null}"#;

    const M2_SUBSCRIBE: &str = r#"{"action":"subscribe","resource":{"id":"a","type":"kvStore"}}"#;

    /// A client and the server's end of its connection.
    struct Pair {
        client: Client,
        server: TcpStream,
        script: Script,
        heard: Heard,
    }

    impl Pair {
        fn new(api: Api, credential: &str, channel: Option<&str>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let target: Target = format!("http://{address}").parse().unwrap();
            let access = Access { client: Some(credential.to_owned()), ..Access::anonymous(api) };
            let script = access.script(&target, channel).unwrap();
            let source = target.source(1);
            let dial = Dial { server: address, source, receive_bytes: None };
            let client = Client::dial(dial).unwrap();
            let (server, from) = listener.accept().unwrap();
            assert_eq!(from.ip().to_string(), "127.0.0.2");
            let mut heard = Heard::new();
            heard.measure_from_ns = 0;
            let mut pair = Self { client, server, script, heard };
            pair.client.begin(&pair.script).unwrap();
            pair
        }

        /// Returns an InsForge client that has just connected.
        fn insforge(channel: Option<&str>) -> Self {
            let mut pair = Self::new(Api::InsForge, INSFORGE_AUTH, channel);
            pair.upgrade("0{}");
            assert_eq!(pair.hear(), format!("40{INSFORGE_AUTH}"));
            pair
        }

        /// Returns a Forge client that has just connected, and its upgrade request.
        fn forge(channel: Option<&str>) -> (Self, String) {
            let mut pair = Self::new(Api::Forge, "e.y.J", channel);
            let request = pair.upgrade(FORGE_CONNECTED);
            (pair, request)
        }

        /// Sends these bytes as the server and has the client read them.
        fn say(&mut self, bytes: &[u8]) -> Result<()> {
            self.server.write_all(bytes).unwrap();
            self.listen()
        }

        fn listen(&mut self) -> Result<()> {
            let mut fds = [PollFd::new(&self.client.connection, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&timespec(Duration::from_secs(5))));
            assert_eq!(ready.unwrap(), 1, "the client has nothing to read");
            self.client.read(&mut [0; 4096], &self.script, &mut self.heard)
        }

        /// Returns the text of the next frame from the client, unmasked.
        fn hear(&mut self) -> String {
            let mut head = [0; 6];
            self.server.read_exact(&mut head).unwrap();
            let mut text = vec![0; usize::from(head[1] & 0x7F)];
            self.server.read_exact(&mut text).unwrap();
            text.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= head[2 + at % 4]);
            String::from_utf8(text).unwrap()
        }

        /// Answers the upgrade request with `first` right behind the answer, as servers may, and
        /// returns the request.
        fn upgrade(&mut self, first: &str) -> String {
            let mut request = [0; 2048];
            let count = self.server.read(&mut request).unwrap();
            assert!(request[..count].ends_with(b"\r\n\r\n"));
            let offer = offered(&request[..count]).unwrap();
            let chosen = offer.map(|offer| format!("\r\nSec-WebSocket-Protocol: {offer}"));
            let head = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept";
            let answer = format!("{head}: {KEY_ANSWER}{}\r\n\r\n", chosen.unwrap_or_default());
            let first = if first.is_empty() { Vec::new() } else { text_frame(first) };
            self.say(&[answer.as_bytes(), &first].concat()).unwrap();
            String::from_utf8(request[..count].to_vec()).unwrap()
        }
    }

    fn text_frame(text: &str) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        let head = if length < 126 { vec![0x81, length] } else { vec![0x81, 126, 0, length] };
        [&head, text.as_bytes()].concat()
    }

    fn insforge_publication(sequence: u64) -> Vec<u8> {
        text_frame(&format!(r#"42["load",{{"t":"@{sequence:010}:{:019}"}}]"#, now_ns()))
    }

    fn forge_publication(sequence: u64) -> Vec<u8> {
        let event =
            r#"{"type":"event","topic":"Qm3","eventId":"i","eventTimestamp":"1","payload":"#;
        text_frame(&format!(r#"{event}"@{sequence:010}:{:019}xx"}}"#, now_ns()))
    }

    fn m2_publication(sequence: u64) -> Vec<u8> {
        let document = r#"{"userId":null,"resource":{"type":"kvStore","id":"a"},"data":{"t":"#;
        let version = r#""version":"2024-01-30T15:50:35.742Z""#;
        text_frame(&format!(r#"{document}"@{sequence:010}:{:019}"}},{version}}}"#, now_ns()))
    }

    #[test]
    fn a_client_comes_to_listen_and_counts_what_it_hears() {
        let mut pair = Pair::insforge(Some("a"));
        for byte in text_frame(r#"40{"sid":"s"}"#) {
            pair.say(&[byte]).unwrap();
        }
        assert_eq!(pair.hear(), r#"420["realtime:subscribe",{"channel":"a"}]"#);
        assert!(!pair.client.is_ready());
        let acknowledged = text_frame(r#"430[{"ok":true}]"#);
        let cut = insforge_publication(1);
        pair.say(&[&acknowledged[..], &insforge_publication(0), &cut[..9]].concat()).unwrap();
        assert!(pair.client.is_ready() && pair.heard.received == 1);
        let other = text_frame(r#"42["presence:join",{}]"#);
        pair.say(&[&cut[9..], &cut[..], &other].concat()).unwrap();
        assert!(pair.client.connection.carried() == 0);
        assert_eq!((pair.heard.received, pair.heard.other_events), (2, 1));
        assert_eq!(pair.heard.latency.len(), 2, "a repeat is not timed");
        assert_eq!(pair.heard.frames.median(), Some(cut.len()));
        pair.say(&text_frame("2")).unwrap();
        assert_eq!((pair.hear().as_str(), pair.heard.pings), ("3", 1));
    }

    #[test]
    fn a_client_of_forge_does_the_same() {
        let (mut pair, request) = Pair::forge(Some("a"));
        assert!(request.starts_with("GET /forge/realtime/v1/ws HTTP/1.1\r\n"));
        assert!(request.contains("\r\nSec-WebSocket-Protocol: forge-realtime.v1\r\n"));
        assert!(request.contains("\r\nAuthorization: Bearer e.y.J\r\n"));
        assert_eq!(pair.hear(), FORGE_SUBSCRIBE);
        assert!(!pair.client.is_ready());
        let subscribed = text_frame(FORGE_SUBSCRIBED);
        let cut = forge_publication(1);
        pair.say(&[&subscribed[..], &forge_publication(0), &cut[..90]].concat()).unwrap();
        assert!(pair.client.is_ready() && pair.heard.received == 1);
        let gap = r#"{"type":"subscription_error","topic":"Qm3","error":{"code":"GAP"}}"#;
        pair.say(&[&cut[90..], &cut[..], &text_frame(gap)].concat()).unwrap();
        assert!(pair.client.connection.carried() == 0);
        assert_eq!((pair.heard.received, pair.heard.latency.len()), (2, 2));
        assert_eq!(pair.heard.frames.median(), Some(cut.len()));
        assert_eq!(pair.heard.errors, (Some(gap.to_owned()), 1));
        pair.say(&[0x89, 2, b'h', b'b']).unwrap();
        assert_eq!((pair.hear().as_str(), pair.heard.pings), ("hb", 1));
    }

    #[test]
    fn a_client_of_m2_hears_the_state_first_and_then_what_becomes_of_it() {
        let warning = r#"{"warning":"resource_not_found","message":"m"}"#;
        let earlier_run = m2_publication(77);
        for state in [text_frame(warning), earlier_run] {
            let mut pair = Pair::new(Api::M2, "e.y.J", Some("a"));
            let request = pair.upgrade("");
            assert!(request.contains("\r\nauthorization: Bearer e.y.J\r\n"));
            assert_eq!(pair.hear(), M2_SUBSCRIBE);
            assert!(!pair.client.is_ready());
            pair.say(&state).unwrap();
            assert!(pair.client.is_ready() && pair.heard.received == 0);
            pair.say(&[m2_publication(0), m2_publication(1)].concat()).unwrap();
            assert_eq!((pair.heard.received, pair.heard.latency.len()), (2, 2));
        }
        let mut refused = Pair::new(Api::M2, "e.y.J", Some("a"));
        refused.upgrade("");
        let error = refused.say(&text_frame(r#"{"error":"Overloaded"}"#)).unwrap_err();
        assert!(error.to_string().contains("Overloaded"));
        let mut silent = Pair::new(Api::M2, "e.y.J", None);
        silent.upgrade("");
        assert!(silent.client.is_ready());
    }

    #[test]
    fn a_stream_is_listened_to_in_the_same_way() {
        let mut pair = Pair::new(Api::Events, "anon_1", Some("a"));
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        let subscribed = "event: realtime:subscribed\ndata: {\"channel\":\"a\"}\n\n";
        let beginning = format!("{head}retry: 2000\n\n{subscribed}");
        for byte in beginning.bytes() {
            assert!(!pair.client.is_ready());
            pair.say(&[byte]).unwrap();
        }
        assert!(pair.client.is_ready());
        let block = |sequence: u64| {
            let payload = format!(r#"{{"t":"@{sequence:010}:{:019}"}}"#, now_ns());
            format!("event: load\nid: AW\ndata: {{\"payload\":{payload}}}\n\n").into_bytes()
        };
        let (gap, cut) = (&b"event: gap\ndata: {\"channel\":\"a\",\"count\":1}\n\n"[..], block(2));
        pair.say(&[b"id: AuW\n\n", &block(0)[..], gap, &cut[..30]].concat()).unwrap();
        assert_eq!((pair.heard.received, pair.heard.errors.1), (1, 1));
        let joined = b"event: presence:join\ndata: {}\n\n:\n\n";
        pair.say(&[&cut[30..], &cut[..], &block(1)[..], joined].concat()).unwrap();
        assert!(pair.client.connection.carried() == 0);
        assert_eq!((pair.heard.received, pair.heard.latency.len()), (3, 3));
        assert_eq!((pair.heard.other_events, pair.heard.pings), (1, 1));
        assert_eq!(pair.heard.frames.median(), Some(cut.len()));
        let outcomes = Outcomes::new(&[Outcome::Accepted; 4]);
        let mut deliveries = Deliveries::default();
        deliveries.add(&pair.client.tally, &outcomes, false);
        assert_eq!((deliveries.lost, deliveries.duplicated, deliveries.reordered), (1, 1, 1));
    }

    #[test]
    fn the_refusal_of_a_stream_is_an_error_that_says_why() {
        let mut refused = Pair::new(Api::Events, "anon_1", Some("a"));
        let body = r#"{"error":"REALTIME_UNAUTHORIZED"}"#;
        let answer =
            format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let error = refused.say(answer.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("403") && error.to_string().contains("UNAUTHORIZED"));
    }

    #[test]
    fn refusals_and_ends_are_errors_that_say_why() {
        let mut refused = Pair::insforge(Some("a"));
        let error = refused.say(&text_frame(r#"44{"message":"Invalid token"}"#)).unwrap_err();
        assert!(error.to_string().contains("Invalid token"));
        let (mut refused, _) = Pair::forge(Some("a"));
        let error = r#"{"type":"error","id":1,"error":{"message":"no","code":"OVERLOADED"}}"#;
        let error = refused.say(&text_frame(error)).unwrap_err();
        assert!(error.to_string().contains("OVERLOADED"));
        let mut closed = Pair::insforge(None);
        closed.say(&text_frame(r#"40{"sid":"s"}"#)).unwrap();
        assert!(closed.client.is_ready());
        closed.server.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(closed.listen().is_err());
        let (mut closed, _) = Pair::forge(None);
        assert!(closed.client.is_ready());
        assert!(closed.say(&[0x88, 2, 0x11, 0x31]).unwrap_err().to_string().contains("4401"));
    }

    #[test]
    fn what_comes_out_of_turn_is_an_error() {
        let mut early = Pair::insforge(Some("a"));
        assert!(early.say(&text_frame(r#"430[{"ok":true}]"#)).is_err());
        let (mut again, _) = Pair::forge(Some("a"));
        again.say(&text_frame(FORGE_SUBSCRIBED)).unwrap();
        assert!(again.say(&text_frame(FORGE_SUBSCRIBED)).is_err());
    }
}
