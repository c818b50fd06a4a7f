//! Clients that break TLS, or do not speak it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::support::encrypted::{Authority, NAME};
use crate::support::{ANON_KEY, API_KEY, Node, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);
/// The first record of a handshake, of which the rest never comes.
const BEGINNING: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

fn node() -> Node {
    node_and_authority().0
}

fn node_and_authority() -> (Node, Arc<Authority>) {
    let authority = Arc::new(Authority::new());
    let (files, kept) = (authority.pair("node", &[NAME]), authority.clone());
    let node = Node::with(move |command| {
        // The files live as long as the node.
        let _ = &kept;
        files.configure(command);
        command.env("FANFARE_HTTP_HEAD_TIMEOUT_MS", "500");
        command.env("FANFARE_HTTP_BODY_TIMEOUT_MS", "120000");
        command.env("FANFARE_HTTP_IDLE_TIMEOUT_MS", "120000");
    });
    (node, authority)
}

/// A client that decides how its records are cut.
struct Client {
    session: ClientConnection,
    stream: TcpStream,
}

impl Client {
    fn connect(node: &Node, authority: &Authority) -> Self {
        let name = ServerName::try_from(NAME).expect("it is a name");
        let session = ClientConnection::new(authority.client(), name).expect("it is complete");
        let mut client = Self { session, stream: connect(node) };
        while client.session.is_handshaking() {
            client.session.complete_io(&mut client.stream).expect("keys are agreed on");
        }
        client
    }

    /// Returns the records of these bytes.
    fn records(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.session.writer().write_all(bytes).expect("it has room");
        self.pending()
    }

    fn pending(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut records).expect("memory takes it");
        }
        records
    }

    fn send(&mut self, records: &[u8]) {
        self.stream.write_all(records).expect("it is read");
    }

    /// Reads until the node has closed the connection.
    fn rest(mut self) -> String {
        let mut content = Vec::new();
        while self.session.read_tls(&mut self.stream).is_ok_and(|length| length > 0) {
            // An alert of the node is an error.
            let is_end = self.session.process_new_packets().is_err();
            let _ = self.session.reader().read_to_end(&mut content);
            if is_end {
                break;
            }
        }
        String::from_utf8(content).expect("it is text")
    }
}

#[test]
fn the_time_of_a_handshake_is_not_that_of_the_request() {
    let (node, authority) = node_and_authority();
    let mut client = Client::connect(&node, &authority);
    thread::sleep(Duration::from_millis(700));
    let halves = ["GET /api/health HTTP/1.1\r\nHos", "t: x\r\nConnection: close\r\n\r\n"];
    for half in halves {
        let records = client.records(half.as_bytes());
        client.send(&records);
        thread::sleep(Duration::from_millis(100));
    }
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn a_client_that_ends_with_its_request_is_answered_and_closed() {
    let (node, authority) = node_and_authority();
    let key = format!("X-API-Key: {API_KEY}");
    curl(&node, "/api/realtime/channels", &["-H", &key, "-d", r#"{"pattern":"orders"}"#]);
    let stream = format!("/api/realtime/events?channel=orders&token={ANON_KEY}");
    let upgrade = "/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHost: x\r\n\r\n";
    let plain = |path: &str| format!("{path} HTTP/1.1\r\nHost: x\r\n\r\n");
    // A WebSocket that its client has left already is not answered.
    for (target, is_answered) in
        [(plain("/api/health"), true), (plain(&stream), true), (upgrade.to_owned(), false)]
    {
        let mut client = Client::connect(&node, &authority);
        let mut records = client.records(format!("GET {target}").as_bytes());
        client.session.send_close_notify();
        records.extend(client.pending());
        client.send(&records);
        let answer = client.rest();
        let is_ok = answer.starts_with("HTTP/1.1 200 OK\r\n");
        assert!(is_ok || !is_answered, "{target}: {answer}");
    }
}

#[test]
fn a_broken_record_behind_a_part_of_a_body_ends_the_connection() {
    let (node, authority) = node_and_authority();
    let mut client = Client::connect(&node, &authority);
    let head = "POST /api/realtime/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n";
    let records = client.records(head.as_bytes());
    client.send(&records);
    thread::sleep(Duration::from_millis(100));
    let mut records = client.records(&[b' '; 1_000]);
    records.extend([23, 3, 3, 0, 32]);
    records.extend([7; 32]);
    client.send(&records);
    assert_eq!(client.rest(), "");
}

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port())).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the kernel does it");
    stream
}

/// Reads until the node closes the connection.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => all,
    }
}

#[test]
fn a_client_without_tls_is_told_so() {
    let node = node();
    let mut stream = connect(&node);
    stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is read");
    let answer = String::from_utf8(rest(stream)).expect("it is text");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("This port speaks HTTPS: use https:// or wss://"), "{answer}");
}

#[test]
fn what_is_no_tls_gets_an_alert_and_costs_nobody_else() {
    let node = node();
    let garbage: [&[u8]; 5] = [
        &[0; 4_096],
        // A record that is longer than records may be.
        &[22, 3, 1, 255, 255, 1, 0, 0, 0],
        // An alert, and content, before any keys.
        &[21, 3, 3, 0, 2, 2, 40],
        &[23, 3, 3, 0, 5, 1, 2, 3, 4, 5],
        // A hello whose length is not that of its record.
        &[22, 3, 1, 0, 5, 1, 255, 255, 255, 0],
    ];
    for bytes in garbage {
        let mut stream = connect(&node);
        // The node may close the connection before it has all.
        let _ = stream.write_all(bytes);
        let answer = rest(stream);
        let is_alert = answer.is_empty() || answer.starts_with(&[21, 3]);
        assert!(is_alert, "{bytes:?}: {answer:?}");
    }
    wait_until("all are gone", || connections(&node) <= 1);
}

/// Returns how many connections are open, with that of the question.
fn connections(node: &Node) -> u64 {
    let text = curl(node, "/metrics", &[]);
    let line = text.lines().find(|line| line.starts_with("fanfare_http_connections "));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("it is counted")
}

fn curl(node: &Node, path: &str, args: &[&str]) -> String {
    let output = std::process::Command::new("curl")
        .args(["-ksS", &format!("https://127.0.0.1:{}{path}", node.port())])
        .args(args)
        .output()
        .expect("curl runs");
    String::from_utf8(output.stdout).expect("it is text")
}

#[test]
fn a_handshake_that_does_not_end_is_given_up() {
    let node = node();
    let begun = Instant::now();
    let mut waiting: Vec<_> = (0..50).map(|_| connect(&node)).collect();
    for (place, stream) in waiting.iter_mut().enumerate() {
        stream.write_all(&BEGINNING[..place % BEGINNING.len()]).expect("it is read");
    }
    // A half-closed one cannot go on either.
    let mut half = connect(&node);
    half.write_all(BEGINNING).expect("it is read");
    half.shutdown(Shutdown::Write).expect("the kernel does it");
    assert!(rest(half).is_empty());
    for stream in waiting {
        assert!(rest(stream).is_empty());
    }
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert_eq!(connections(&node), 1);
}
