//! One subscriber: a Socket.IO client over WebSocket, driven by readiness.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::clock::now_ns;
use crate::heard::Heard;
use crate::tally::Tally;
use crate::target::Target;
use crate::wire::{self, Frame, PONG_PACKET, Packet};

/// The example key of RFC 6455 section 1.3 and the answer it must get: a server that computes the
/// answer gets this one right, so no hash is needed here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const KEY_ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HEADERS_MAX: usize = 64;
const UPGRADE_BYTES_MAX: usize = 16 * 1024;

/// What every client says, in this order.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Script {
    upgrade: String,
    connect: String,
    subscribe: Option<String>,
}

impl Script {
    /// `auth` is the CONNECT payload; without a channel the clients only connect.
    pub(crate) fn new(target: &Target, auth: Option<&Value>, channel: Option<&str>) -> Self {
        let upgrade = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\n\r\n",
            target.authority
        );
        let connect = auth.map_or_else(|| "40".to_owned(), |auth| format!("40{auth}"));
        let subscribe = |channel| json!(["realtime:subscribe", { "channel": channel }]);
        let subscribe = channel.map(|channel| format!("420{}", subscribe(channel)));
        Self { upgrade, connect, subscribe }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Dialling,
    Upgrading,
    Opening,
    Connecting,
    Subscribing,
    Ready,
}

/// One connection and how far it has come.
pub(crate) struct Client {
    socket: Socket,
    stage: Stage,
    /// Bytes of a frame that has not fully arrived; empty, and without memory, as a rule.
    carry: Vec<u8>,
    /// What it has received.
    pub(crate) tally: Tally,
}

impl Client {
    /// Begins to connect; the socket turns writable when that is decided.
    pub(crate) fn dial(server: SocketAddr, source: Option<SocketAddr>) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&source.into()).with_context(|| format!("no port left at {source}"))?;
        }
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                Err(error).context("cannot connect")
            }
            _ => Ok(Self {
                socket,
                stage: Stage::Dialling,
                carry: Vec::new(),
                tally: Tally::default(),
            }),
        }
    }

    /// Whether it waits for writability instead of readability.
    pub(crate) fn is_dialling(&self) -> bool {
        self.stage == Stage::Dialling
    }

    /// Whether it has said everything and only listens now.
    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// The connection is decided: asks for the upgrade.
    pub(crate) fn begin(&mut self, script: &Script) -> Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error).context("cannot connect");
        }
        self.stage = Stage::Upgrading;
        self.send(script.upgrade.as_bytes())
    }

    /// Reads once into `scratch` and acts on all that is whole. An error means that the connection
    /// is over.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        script: &Script,
        heard: &mut Heard,
    ) -> Result<()> {
        let count = match rustix::net::recv(&self.socket, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => bail!("the server closed the connection ({:?})", self.stage),
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("in stage {:?}", self.stage)),
        };
        let read_ns = now_ns();
        if self.carry.is_empty() {
            let used = self.take_in(&scratch[..count], script, heard, read_ns)?;
            self.carry.extend_from_slice(&scratch[used..count]);
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.carry);
        bytes.extend_from_slice(&scratch[..count]);
        let used = self.take_in(&bytes, script, heard, read_ns)?;
        if used < bytes.len() {
            bytes.drain(..used);
            self.carry = bytes;
        }
        Ok(())
    }

    fn take_in(
        &mut self,
        bytes: &[u8],
        script: &Script,
        heard: &mut Heard,
        read_ns: u64,
    ) -> Result<usize> {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let Some(head_bytes) = read_upgrade(bytes)? else {
                return Ok(0);
            };
            used = head_bytes;
            self.stage = Stage::Opening;
        }
        while let Some((frame, frame_bytes)) = wire::read_frame(&bytes[used..])? {
            used += frame_bytes;
            match frame {
                Frame::Text(text) => self.on_packet(text, script, heard, read_ns)?,
                Frame::Ping(payload) => self.answer(heard, payload, wire::write_pong)?,
                Frame::Close(code) => bail!("the server closed the WebSocket (code {code:?})"),
                Frame::Other => {}
            }
        }
        Ok(used)
    }

    fn on_packet(
        &mut self,
        text: &[u8],
        script: &Script,
        heard: &mut Heard,
        read_ns: u64,
    ) -> Result<()> {
        match (wire::read_packet(text), self.stage) {
            (Packet::Event(event), _) => {
                self.on_event(event, heard, read_ns);
                Ok(())
            }
            (Packet::Ping, _) => {
                heard.pings += 1;
                self.answer(heard, PONG_PACKET, wire::write_text)
            }
            (Packet::Open, Stage::Opening) => {
                self.stage = Stage::Connecting;
                self.answer(heard, script.connect.as_bytes(), wire::write_text)
            }
            (Packet::Connected, Stage::Connecting) => {
                let Some(subscribe) = &script.subscribe else {
                    self.stage = Stage::Ready;
                    return Ok(());
                };
                self.stage = Stage::Subscribing;
                self.answer(heard, subscribe.as_bytes(), wire::write_text)
            }
            (Packet::Ack(arguments), Stage::Subscribing) => {
                check_subscribed(arguments)?;
                self.stage = Stage::Ready;
                Ok(())
            }
            (Packet::Refused(reason), _) => {
                bail!("connection refused: {}", String::from_utf8_lossy(reason))
            }
            (Packet::Closed, _) => bail!("the server ended the session"),
            (Packet::Other, _) => Ok(()),
            (packet, stage) => bail!("{packet:?} came in stage {stage:?}"),
        }
    }

    fn on_event(&mut self, event: &[u8], heard: &mut Heard, read_ns: u64) {
        let Some(stamp) = heard.reader.find(event) else {
            heard.other_events += 1;
            if event.starts_with(b"[\"realtime:error\"") {
                heard.errors.1 += 1;
                heard.errors.0.get_or_insert_with(|| String::from_utf8_lossy(event).into_owned());
            }
            return;
        };
        if !self.tally.note(stamp.sequence) {
            return;
        }
        heard.received += 1;
        if stamp.due_ns >= heard.measure_from_ns {
            heard.latency.saturating_record(read_ns.saturating_sub(stamp.due_ns));
        }
    }

    fn answer(
        &self,
        heard: &mut Heard,
        payload: &[u8],
        write: fn(&mut Vec<u8>, &[u8], [u8; 4]),
    ) -> Result<()> {
        let mask = heard.next_mask();
        heard.frame.clear();
        write(&mut heard.frame, payload, mask);
        self.send(&heard.frame)
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::send(&self.socket, bytes, flags).context("cannot send")?;
        // A client says a few hundred bytes in all: a full socket means a server that reads none.
        ensure!(sent == bytes.len(), "the server does not read what clients send");
        Ok(())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Checks the answer to the upgrade and says how long it is; `None` while it is incomplete.
fn read_upgrade(bytes: &[u8]) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes)? else {
        ensure!(bytes.len() <= UPGRADE_BYTES_MAX, "an endless answer to the upgrade");
        return Ok(None);
    };
    let status = head.code.unwrap_or_default();
    let rest = String::from_utf8_lossy(&bytes[head_bytes..]);
    ensure!(status == 101, "the upgrade was answered {status}: {rest:.200}");
    let accepted = head.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("sec-websocket-accept")
            && header.value.trim_ascii() == KEY_ANSWER.as_bytes()
    });
    ensure!(accepted, "the upgrade lacks the right Sec-WebSocket-Accept");
    Ok(Some(head_bytes))
}

fn check_subscribed(arguments: &[u8]) -> Result<()> {
    let answer: Value = serde_json::from_slice(arguments).context("a bad acknowledgement")?;
    ensure!(answer[0]["ok"] == true, "subscribing was refused: {answer}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::clock::timespec;

    /// A client and the server's end of its connection.
    struct Pair {
        client: Client,
        server: TcpStream,
        script: Script,
        heard: Heard,
    }

    impl Pair {
        fn new(channel: Option<&str>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let target: Target = format!("http://{address}").parse().unwrap();
            let script = Script::new(&target, Some(&json!({ "token": "t" })), channel);
            let client = Client::dial(address, target.source(1)).unwrap();
            let (server, from) = listener.accept().unwrap();
            assert_eq!(from.ip().to_string(), "127.0.0.2");
            let mut heard = Heard::new();
            heard.measure_from_ns = 0;
            let mut pair = Self { client, server, script, heard };
            pair.client.begin(&pair.script).unwrap();
            pair
        }

        /// The server sends these bytes and the client reads them.
        fn say(&mut self, bytes: &[u8]) -> Result<()> {
            self.server.write_all(bytes).unwrap();
            self.listen()
        }

        fn listen(&mut self) -> Result<()> {
            let mut fds = [PollFd::new(&self.client.socket, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&timespec(Duration::from_secs(5))));
            assert_eq!(ready.unwrap(), 1, "the client has nothing to read");
            self.client.read(&mut [0; 4096], &self.script, &mut self.heard)
        }

        /// The next frame from the client, unmasked.
        fn hear(&mut self) -> String {
            let mut head = [0; 6];
            self.server.read_exact(&mut head).unwrap();
            let mut text = vec![0; usize::from(head[1] & 0x7F)];
            self.server.read_exact(&mut text).unwrap();
            text.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= head[2 + at % 4]);
            String::from_utf8(text).unwrap()
        }

        fn upgrade(&mut self) {
            let mut request = [0; 2048];
            let count = self.server.read(&mut request).unwrap();
            assert!(request[..count].ends_with(b"\r\n\r\n"));
            let head = "HTTP/1.1 101 Switching Protocols";
            let answer = format!("{head}\r\nSec-WebSocket-Accept: {KEY_ANSWER}\r\n\r\n");
            // The first frame comes together with the answer, as it may.
            self.say(&[answer.as_bytes(), &text_frame("0{}")].concat()).unwrap();
            assert_eq!(self.hear(), r#"40{"token":"t"}"#);
        }
    }

    fn text_frame(text: &str) -> Vec<u8> {
        [&[0x81, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    }

    fn publication(sequence: u64) -> Vec<u8> {
        text_frame(&format!(r#"42["load",{{"lt":"{sequence:010}:{:019}"}}]"#, now_ns()))
    }

    #[test]
    fn a_client_comes_to_listen_and_counts_what_it_hears() {
        let mut pair = Pair::new(Some("a"));
        pair.upgrade();
        for byte in text_frame(r#"40{"sid":"s"}"#) {
            pair.say(&[byte]).unwrap();
        }
        assert_eq!(pair.hear(), r#"420["realtime:subscribe",{"channel":"a"}]"#);
        assert!(!pair.client.is_ready());
        let acknowledged = text_frame(r#"430[{"ok":true}]"#);
        let cut = publication(1);
        pair.say(&[&acknowledged[..], &publication(0), &cut[..9]].concat()).unwrap();
        assert!(pair.client.is_ready() && pair.heard.received == 1);
        let other = text_frame(r#"42["presence:join",{}]"#);
        pair.say(&[&cut[9..], &cut[..], &other].concat()).unwrap();
        assert!(pair.client.carry.is_empty());
        assert_eq!((pair.heard.received, pair.heard.other_events), (2, 1));
        assert_eq!(pair.heard.latency.len(), 2, "a repeat is not timed");
        pair.say(&text_frame("2")).unwrap();
        assert_eq!((pair.hear().as_str(), pair.heard.pings), ("3", 1));
    }

    #[test]
    fn refusals_and_ends_are_errors_that_say_why() {
        let mut refused = Pair::new(Some("a"));
        refused.upgrade();
        let error = refused.say(&text_frame(r#"44{"message":"Invalid token"}"#)).unwrap_err();
        assert!(error.to_string().contains("Invalid token"));
        let mut closed = Pair::new(None);
        closed.upgrade();
        closed.say(&text_frame(r#"40{"sid":"s"}"#)).unwrap();
        assert!(closed.client.is_ready());
        closed.server.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(closed.listen().is_err());
    }

    #[test]
    fn an_upgrade_must_be_accepted_with_the_right_answer() {
        let answer = |status: &str, accept: &str| {
            format!(
                "HTTP/1.1 {status}\r\nUpgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
            )
        };
        let good = answer("101 Switching Protocols", KEY_ANSWER);
        let with_frame = format!("{good}\u{1}0");
        assert_eq!(read_upgrade(with_frame.as_bytes()).unwrap(), Some(good.len()));
        assert_eq!(read_upgrade(&good.as_bytes()[..good.len() - 1]).unwrap(), None);
        assert!(read_upgrade(answer("400 Bad Request", KEY_ANSWER).as_bytes()).is_err());
        assert!(read_upgrade(answer("101 OK", "AAAA").as_bytes()).is_err());
    }

    #[test]
    fn only_a_positive_acknowledgement_subscribes() {
        check_subscribed(br#"[{"ok":true,"channel":"a"}]"#).unwrap();
        for bad in ["[]", r#"[{"ok":false,"error":{"code":"REALTIME_UNAUTHORIZED"}}]"#, "[tru"] {
            assert!(check_subscribed(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_and_names_are_quoted_as_json() {
        let target = "http://127.0.0.1:1".parse().unwrap();
        let script = Script::new(&target, Some(&json!({ "token": "a\"b" })), Some("c\"d"));
        assert_eq!(script.connect, r#"40{"token":"a\"b"}"#);
        let subscribe = r#"420["realtime:subscribe",{"channel":"c\"d"}]"#;
        assert_eq!(script.subscribe.as_deref(), Some(subscribe));
        let silent = Script::new(&target, None, None);
        assert_eq!((silent.connect.as_str(), silent.subscribe), ("40", None));
    }
}
