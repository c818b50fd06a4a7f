//! Clients that count the publications or bytes that they receive.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::SockRef;
use tungstenite::WebSocket;

use crate::socket::{Heard, SUBSCRIBE, Socket};
use crate::support::wait_until;
use crate::tcp::{self, PATIENCE, Response, Tcp};

/// The channel that these clients subscribe to.
pub(crate) const CHANNEL: &str = "crowd";
/// The name of the event that they count.
pub(crate) const TICK: &str = "tick";

/// A client that counts publications.
pub(crate) struct Ear {
    pub(crate) socket: Socket,
    /// A clone of its TCP connection; `None` if it is not on WebSocket.
    stream: Option<TcpStream>,
    heard: usize,
}

impl Ear {
    /// Connects over WebSocket and subscribes.
    pub(crate) fn over_websocket(port: u16, token: &str) -> Self {
        let stream = TcpStream::connect(loopback(port)).expect("the node accepts connections");
        let own = stream.try_clone().expect("there are descriptors");
        Self { stream: Some(own), ..Self::new(Socket::over(stream, token)) }
    }

    /// Connects and subscribes one client on each transport.
    pub(crate) fn on_each_transport(port: u16, token: &str) -> [Self; 2] {
        let polling = Self::new(Socket::connect_polling(port, token));
        [Self::over_websocket(port, token), polling]
    }

    /// Subscribes with a socket that is connected.
    pub(crate) fn new(mut socket: Socket) -> Self {
        socket.subscribe(CHANNEL);
        Self { socket, stream: None, heard: 0 }
    }

    /// Sends a command and returns its answer.
    pub(crate) fn ask(&mut self, event: &str, argument: &Value) -> Value {
        let asked = self.socket.ask(event, argument);
        self.socket.flush();
        loop {
            match self.socket.hear() {
                Heard::Ack(number, answer) if number == asked => return answer,
                heard => self.note(heard),
            }
        }
    }

    /// Waits until it has received `total` publications since its start, and checks that there are
    /// no more.
    pub(crate) fn hear(&mut self, total: usize) {
        while self.heard < total {
            let heard = self.socket.hear();
            self.note(heard);
        }
        assert_eq!(self.heard, total);
    }

    fn note(&mut self, heard: Heard) {
        match heard {
            Heard::Event(event) => self.heard += usize::from(event.is_named(TICK)),
            heard => panic!("unexpected: {heard:?}"),
        }
    }

    /// Sends these bytes unchanged.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let stream = self.stream.as_mut().expect("it is a WebSocket");
        stream.write_all(bytes).expect("the node reads");
    }

    /// Ends the connection with a TCP reset instead of an orderly close.
    pub(crate) fn reset(self) {
        let stream = self.stream.as_ref().expect("it is a WebSocket");
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("it can be set");
    }
}

/// A long-polling client that polls only when the test asks for it.
pub(crate) struct Poller {
    tcp: Tcp,
    target: String,
    heard: usize,
}

impl Poller {
    /// Opens a session without connecting to the namespace.
    pub(crate) fn open(port: u16) -> Self {
        let target = "/socket.io/?EIO=4&transport=polling".to_owned();
        let mut poller = Self { tcp: Tcp::connect(loopback(port)), target, heard: 0 };
        let packets = poller.poll();
        let opening = packets[0].strip_prefix('0').expect("the session opens first");
        let opening: Value = serde_json::from_str(opening).expect("it is JSON");
        poller.target += &format!("&sid={}", opening["sid"].as_str().expect("a name is text"));
        poller
    }

    pub(crate) fn subscribe(port: u16, token: &str) -> Self {
        let mut poller = Self::open(port);
        let subscription = json!([SUBSCRIBE, { "channel": CHANNEL }]);
        let entry = format!("40{}\x1e420{subscription}", json!({ "token": token }));
        assert_eq!(poller.post(&entry).status, 200);
        wait_until("the subscription is acknowledged", || {
            poller.poll().iter().any(|packet| packet.starts_with("430[{\"ok\":true"))
        });
        poller
    }

    /// Polls until it has received `total` publications since its start, and checks that there are
    /// no more.
    pub(crate) fn hear(&mut self, total: usize) {
        while self.heard < total {
            let tick = format!("42[\"{TICK}\"");
            self.heard += self.poll().iter().filter(|packet| packet.starts_with(&tick)).count();
        }
        assert_eq!(self.heard, total);
    }

    /// Continues on a new connection, as clients without keep-alive do.
    pub(crate) fn reconnect(&mut self, port: u16) {
        self.tcp = Tcp::connect(loopback(port));
    }

    /// Sends the request of a poll without waiting for its answer.
    pub(crate) fn ask(&mut self) {
        self.tcp.send(tcp::request(&[&format!("GET {} HTTP/1.1", self.target)], ""));
    }

    /// Returns the answer to the poll.
    pub(crate) fn answer(&mut self) -> Response {
        self.tcp.response()
    }

    /// Polls and returns the packets.
    pub(crate) fn poll(&mut self) -> Vec<String> {
        self.ask();
        let answer = self.answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().split('\x1e').map(str::to_owned).collect()
    }

    pub(crate) fn post(&mut self, body: &str) -> Response {
        self.tcp.send(tcp::request(&[&format!("POST {} HTTP/1.1", self.target)], body));
        self.tcp.response()
    }
}

/// A connection that counts the bytes of each direction.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: TcpStream,
    traffic: Rc<Traffic>,
}

/// Number of bytes so far.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) read: Cell<u64>,
    pub(crate) written: Cell<u64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.traffic.read.set(self.traffic.read.get() + count as u64);
        Ok(count)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.traffic.written.set(self.traffic.written.get() + count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Opens a WebSocket and returns it with its byte counts.
pub(crate) fn open_websocket(port: u16) -> (WebSocket<Counted>, Rc<Traffic>) {
    let stream = TcpStream::connect(loopback(port)).expect("the node accepts connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
    let traffic = Rc::new(Traffic::default());
    let counted = Counted { stream, traffic: traffic.clone() };
    let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
    let (websocket, _) = tungstenite::client(url, counted).expect("the node upgrades");
    (websocket, traffic)
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
