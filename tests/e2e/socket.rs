//! A Socket.IO client that returns every packet in order, over WebSocket or long-polling.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::error::ProtocolError;
use tungstenite::{Error, Message, Utf8Bytes, WebSocket};
use uuid::Uuid;

use crate::tcp::{self, PATIENCE, Tcp};

/// The event that subscribes for messages in the documented encoding.
pub(crate) const SUBSCRIBE: &str = "REALTIME_SUBSCRIBE";
/// How long `look` waits if nothing arrives.
const LOOK: Duration = Duration::from_millis(100);
/// Separates the packets of a long-polling payload.
const SEPARATOR: char = '\x1e';

/// A connection to the main namespace.
pub(crate) struct Socket {
    line: Line,
    session: String,
    id: String,
    asked: u64,
    came: Came,
}

/// What a client tells to resume its session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Came {
    token: String,
    pid: Option<String>,
    offset: Option<String>,
}

/// A packet or another event from the node.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A publication or a presence announcement.
    Event(Event),
    /// An error that is not the answer to a command.
    Error(Value),
    /// The answer to the command with this number.
    Ack(u64, Value),
    /// The connection to the namespace, with the socket's id.
    Connected(String),
    /// The open packet of the transport, with the session's id.
    Opened(String),
    /// Nothing has arrived in time.
    Nothing,
    /// The connection has ended.
    End,
}

/// A publication or a presence announcement, as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    text: Utf8Bytes,
}

impl Socket {
    /// Connects over WebSocket and enters the namespace with this token.
    pub(crate) fn connect(port: u16, token: &str) -> Self {
        let stream = TcpStream::connect(loopback(port)).expect("the node accepts connections");
        Self::over(stream, token)
    }

    /// Connects over WebSocket on an open TCP connection.
    pub(crate) fn over(stream: TcpStream, token: &str) -> Self {
        Self::enter_over(Line::over(stream), token)
    }

    /// Connects over long-polling and does not upgrade.
    pub(crate) fn connect_polling(port: u16, token: &str) -> Self {
        Self::enter_over(Line::Polling(Box::new(Polling::open(port))), token)
    }

    fn enter_over(line: Line, token: &str) -> Self {
        Self::enter_as(line, Came::new(token)).0
    }

    /// Connects over WebSocket and asks to resume a session. Returns whether it is resumed.
    pub(crate) fn come_back(port: u16, came: &Came) -> (Self, bool) {
        Self::enter_as(Line::websocket(port), came.clone())
    }

    fn enter_as(line: Line, came: Came) -> (Self, bool) {
        let before = came.pid.clone();
        let mut socket = Self { line, session: String::new(), id: String::new(), asked: 0, came };
        let Heard::Opened(session) = socket.hear() else { panic!("the session opens first") };
        if let Line::Polling(polling) = &mut socket.line {
            polling.target.push_str(&format!("&sid={session}"));
        }
        socket.session = session;
        socket.line.queue(socket.came.packet());
        socket.flush();
        let Heard::Connected(id) = socket.hear() else { panic!("the namespace is entered first") };
        socket.id = id;
        let is_resumed = before.is_some() && socket.came.pid == before;
        (socket, is_resumed)
    }

    /// Returns what the client would tell to resume its session now.
    pub(crate) fn came(&self) -> Came {
        self.came.clone()
    }

    /// Sends a CONNECT for the main namespace; [`Heard::Connected`] follows.
    pub(crate) fn enter(&mut self, token: &str) {
        self.line.queue(format!("40{}", json!({ "token": token })));
        self.flush();
    }

    /// Disconnects from the main namespace.
    pub(crate) fn exit(&mut self) {
        self.line.queue("41".into());
        self.flush();
    }

    /// Returns the socket's id, under which an anonymous client is present.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the start of the session's id, which differs between workers.
    pub(crate) fn home(&self) -> &str {
        &self.session[..2]
    }

    /// Subscribes for messages in the documented encoding. Panics if that is refused.
    pub(crate) fn subscribe(&mut self, channel: &str) {
        let asked = self.ask(SUBSCRIBE, &json!({ "channel": channel }));
        self.flush();
        match self.hear() {
            Heard::Ack(number, answer) if number == asked && answer["ok"] == true => {}
            heard => panic!("unexpected: {heard:?}"),
        }
    }

    /// Prepares a command and returns its number. Prepared commands are sent together by `flush`.
    pub(crate) fn ask(&mut self, event: &str, argument: &Value) -> u64 {
        let number = self.asked;
        self.asked += 1;
        self.line.queue(format!("42{number}{}", json!([event, argument])));
        number
    }

    /// Sends the prepared commands.
    pub(crate) fn flush(&mut self) {
        self.line.flush();
    }

    /// Returns the next packet. Panics if none comes in time.
    pub(crate) fn hear(&mut self) -> Heard {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.look() {
                Heard::Nothing => {}
                heard => return heard,
            }
        }
        panic!("the node says nothing for {PATIENCE:?}");
    }

    /// Returns the next event. Panics at another packet.
    pub(crate) fn hear_event(&mut self) -> Event {
        match self.hear() {
            Heard::Event(event) => event,
            heard => panic!("unexpected: {heard:?}"),
        }
    }

    /// Returns the next packet, or [`Heard::Nothing`]. Answers heartbeats on the way.
    pub(crate) fn look(&mut self) -> Heard {
        loop {
            match self.line.next() {
                Next::Packet(packet) if packet.as_str() == "2" => {
                    self.line.queue("3".into());
                    self.flush();
                }
                Next::Packet(packet) if packet.as_str() == "6" => {}
                Next::Packet(packet) => {
                    self.came.note(packet.as_str());
                    return Heard::parse(packet);
                }
                Next::Nothing => return Heard::Nothing,
                Next::End => return Heard::End,
            }
        }
    }

    /// From now on `look` does not wait.
    pub(crate) fn never_wait(&mut self) {
        self.websocket().set_nonblocking(true).expect("the mode of a socket can be set");
    }

    fn websocket(&self) -> &TcpStream {
        match &self.line {
            Line::WebSocket(websocket) => websocket.get_ref(),
            Line::Polling(_) => panic!("long-polling has no socket of its own"),
        }
    }
}

impl Came {
    /// Returns what a client tells that has no session yet.
    pub(crate) fn new(token: &str) -> Self {
        Self { token: token.to_owned(), ..Self::default() }
    }

    /// Returns the packet that enters the main namespace, and asks to resume the session if there
    /// is one.
    pub(crate) fn packet(&self) -> String {
        let mut auth = json!({ "token": self.token });
        if let Some(pid) = &self.pid {
            auth["pid"] = json!(pid);
            auth["offset"] = json!(self.offset);
        }
        format!("40{auth}")
    }

    /// Returns the secret name of the session; `None` if it cannot be resumed.
    pub(crate) fn pid(&self) -> Option<&str> {
        self.pid.as_deref()
    }

    /// Returns the same for another client.
    pub(crate) fn of(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Remembers what a stock client does: its session, and the last argument of an event if that
    /// is text.
    pub(crate) fn note(&mut self, packet: &str) {
        if let Some(connected) = packet.strip_prefix("40") {
            let connected: Value = serde_json::from_str(connected).expect("it is JSON");
            self.pid = connected["pid"].as_str().map(str::to_owned);
        }
        let last = packet.strip_suffix("\"]").filter(|_| packet.starts_with("42["));
        if let Some((_, offset)) = last.and_then(|rest| rest.rsplit_once("},\"")) {
            self.offset = Some(offset.to_owned());
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.websocket().as_fd()
    }
}

impl Heard {
    fn parse(packet: Utf8Bytes) -> Self {
        let text = packet.as_str();
        if let Some(error) = text.strip_prefix("42[\"realtime:error\",") {
            let error = error.strip_suffix(']').expect("an event ends as it began");
            return Self::Error(serde_json::from_str(error).expect("it is JSON"));
        }
        if text.starts_with("42") {
            return Self::Event(Event { id: message_id(text), text: packet });
        }
        if let Some(ack) = text.strip_prefix("43") {
            let digits = ack.find('[').expect("an acknowledgement has arguments");
            let number = ack[..digits].parse().expect("an acknowledgement has a number");
            let [answer] = serde_json::from_str(&ack[digits..]).expect("there is one answer");
            return Self::Ack(number, answer);
        }
        let name = |json: &str| {
            let json: Value = serde_json::from_str(json).expect("it is JSON");
            json["sid"].as_str().expect("a name is text").to_owned()
        };
        if let Some(connected) = text.strip_prefix("40") {
            return Self::Connected(name(connected));
        }
        match text.strip_prefix('0') {
            Some(opened) => Self::Opened(name(opened)),
            None if text == "1" => Self::End,
            None => panic!("unexpected packet: {text}"),
        }
    }
}

impl Event {
    /// Returns the packet as it was received.
    pub(crate) fn text(&self) -> &str {
        self.text.as_str()
    }

    /// Parses the event's name and argument.
    pub(crate) fn parts(&self) -> (String, Value) {
        serde_json::from_str(&self.text.as_str()[2..]).expect("an event has a name and an argument")
    }

    pub(crate) fn is_named(&self, name: &str) -> bool {
        let rest =
            self.text.as_str().strip_prefix("42[\"").and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with('"'))
    }
}

/// Finds the message id without parsing, because tests receive hundreds of thousands of events.
fn message_id(event: &str) -> Uuid {
    const KEY: &str = "\"messageId\":\"";
    let at = event.find(KEY).unwrap_or_else(|| panic!("no message id in {event}")) + KEY.len();
    Uuid::try_parse(&event[at..at + 36]).expect("a message id is a UUID")
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

enum Line {
    WebSocket(Box<WebSocket<TcpStream>>),
    Polling(Box<Polling>),
}

enum Next {
    Packet(Utf8Bytes),
    Nothing,
    End,
}

impl Line {
    fn websocket(port: u16) -> Self {
        Self::over(TcpStream::connect(loopback(port)).expect("the node accepts connections"))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        let port = stream.peer_addr().expect("it is connected").port();
        let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
        let (websocket, _) = tungstenite::client(url, stream).expect("the node upgrades");
        let stream = websocket.get_ref();
        stream.set_read_timeout(Some(LOOK)).expect("the timeout is not zero");
        Self::WebSocket(Box::new(websocket))
    }

    fn queue(&mut self, packet: String) {
        match self {
            // The library buffers writes until the flush, up to a size that no test reaches.
            Self::WebSocket(websocket) => {
                websocket.write(Message::text(packet)).expect("the node takes what it is sent");
            }
            Self::Polling(polling) => polling.outgoing.push(packet),
        }
    }

    fn flush(&mut self) {
        match self {
            Self::WebSocket(websocket) => {
                websocket.flush().expect("the node takes what it is sent");
            }
            Self::Polling(polling) => polling.post(),
        }
    }

    fn next(&mut self) -> Next {
        match self {
            Self::WebSocket(websocket) => next_message(websocket),
            Self::Polling(polling) => polling.next(),
        }
    }
}

fn next_message(websocket: &mut WebSocket<TcpStream>) -> Next {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, WouldBlock};
    loop {
        match websocket.read() {
            Ok(Message::Text(text)) => return Next::Packet(text),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) => return Next::End,
            Ok(message) => panic!("unexpected message: {message:?}"),
            Err(Error::Io(error)) => match error.kind() {
                WouldBlock | TimedOut => return Next::Nothing,
                BrokenPipe | ConnectionAborted | ConnectionReset => return Next::End,
                _ => panic!("reading from the node: {error}"),
            },
            Err(
                Error::ConnectionClosed
                | Error::AlreadyClosed
                | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
            ) => return Next::End,
            Err(error) => panic!("reading from the node: {error}"),
        }
    }
}

/// Long-polling with one connection for polls and one for posts.
struct Polling {
    target: String,
    get: Tcp,
    post: Tcp,
    incoming: VecDeque<Utf8Bytes>,
    outgoing: Vec<String>,
}

impl Polling {
    fn open(port: u16) -> Self {
        Self {
            target: "/socket.io/?EIO=4&transport=polling".into(),
            get: Tcp::connect(loopback(port)),
            post: Tcp::connect(loopback(port)),
            incoming: VecDeque::new(),
            outgoing: Vec::new(),
        }
    }

    fn next(&mut self) -> Next {
        if self.incoming.is_empty() {
            self.get.send(tcp::request(&[&format!("GET {} HTTP/1.1", self.target)], ""));
            let response = self.get.response();
            if response.status == 400 {
                return Next::End;
            }
            assert_eq!(response.status, 200, "{response:?}");
            self.incoming.extend(response.text().split(SEPARATOR).map(Utf8Bytes::from));
        }
        self.incoming.pop_front().map_or(Next::Nothing, Next::Packet)
    }

    fn post(&mut self) {
        let body = self.outgoing.join(&SEPARATOR.to_string());
        self.outgoing.clear();
        self.post.send(tcp::request(&[&format!("POST {} HTTP/1.1", self.target)], body));
        let response = self.post.response();
        assert_eq!((response.status, response.text()), (200, "ok"), "packets are taken");
    }
}
