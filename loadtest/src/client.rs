//! One subscriber: a Socket.IO client over WebSocket, driven by readiness.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::clock::now_ns;
use crate::stamp::Reader;
use crate::tally::Tally;
use crate::target::Target;
use crate::wire::{self, Frame, PONG_PACKET, Packet};

/// The example key of RFC 6455 section 1.3 and the answer it must get: a server that computes the
/// answer gets this one right, so no hash is needed here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const KEY_ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HEADERS_MAX: usize = 64;
const UPGRADE_BYTES_MAX: usize = 16 * 1024;
/// Latencies are kept from 1 µs to 10 minutes with three significant digits.
const LATENCY_NS: (u64, u64) = (1_000, 600_000_000_000);

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

/// What all clients of one thread heard, added up.
pub(crate) struct Heard {
    /// From a publication's due time to its reading, in ns, for those due in the measured window.
    pub(crate) latency: Histogram<u64>,
    /// Publications received, repeats not counted.
    pub(crate) received: u64,
    /// Heartbeats answered.
    pub(crate) pings: u64,
    /// Events that carry no stamp: presence, for the most part.
    pub(crate) other_events: u64,
    /// The first `realtime:error` and how many there were.
    pub(crate) errors: (Option<String>, u64),
    /// Publications due before this are checked but not timed.
    pub(crate) measure_from_ns: u64,
    reader: Reader,
    mask: u32,
    frame: Vec<u8>,
}

impl Heard {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(LATENCY_NS.0, LATENCY_NS.1, 3)
            .expect("these bounds are constants that the histogram accepts");
        Self {
            latency,
            received: 0,
            pings: 0,
            other_events: 0,
            errors: (None, 0),
            measure_from_ns: u64::MAX,
            reader: Reader::new(),
            mask: 0x9E37_79B9,
            frame: Vec::new(),
        }
    }

    /// As another process can take it: the histogram as its buckets that are not empty.
    pub(crate) fn digest(&self) -> Digest {
        let buckets = self.latency.iter_recorded();
        Digest {
            latency: buckets.map(|at| (at.value_iterated_to(), at.count_at_value())).collect(),
            received: self.received,
            pings: self.pings,
            other_events: self.other_events,
            errors: self.errors.clone(),
        }
    }

    /// Adds what another process heard. Histograms have the same buckets everywhere, so nothing is
    /// lost on the way.
    pub(crate) fn add_digest(&mut self, digest: Digest) -> Result<()> {
        let mut other = Self { received: digest.received, pings: digest.pings, ..Self::new() };
        for (value, count) in digest.latency {
            other.latency.record_n(value, count)?;
        }
        other.other_events = digest.other_events;
        other.errors = digest.errors;
        self.add(other)
    }

    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: Self) -> Result<()> {
        self.latency.add(other.latency)?;
        self.received += other.received;
        self.pings += other.pings;
        self.other_events += other.other_events;
        self.errors.0 = self.errors.0.take().or(other.errors.0);
        self.errors.1 += other.errors.1;
        Ok(())
    }

    fn next_mask(&mut self) -> [u8; 4] {
        // Xorshift: no secrecy is needed, only bytes that a server cannot skip unmasking.
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        self.mask.to_ne_bytes()
    }
}

/// What the clients of one process heard, for another to add up.
#[derive(Serialize, Deserialize)]
pub(crate) struct Digest {
    latency: Vec<(u64, u64)>,
    received: u64,
    pings: u64,
    other_events: u64,
    errors: (Option<String>, u64),
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
    fn what_other_processes_heard_adds_up_exactly() {
        let mut here = Heard::new();
        let mut there = Heard::new();
        let mut whole = Heard::new();
        for step in 1..5_000_u64 {
            let latency = step * step * 97;
            whole.latency.record(latency).unwrap();
            let half = if step % 3 == 0 { &mut here } else { &mut there };
            half.latency.record(latency).unwrap();
            half.received += 1;
        }
        there.errors = (Some("late".to_owned()), 2);
        let digest = serde_json::to_string(&there.digest()).unwrap();
        here.add_digest(serde_json::from_str(&digest).unwrap()).unwrap();
        assert_eq!(here.latency, whole.latency);
        assert_eq!(here.latency.max(), whole.latency.max());
        assert_eq!((here.received, here.errors.1), (4_999, 2));
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
