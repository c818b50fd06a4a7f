//! The bound on what clients make the node hold: clients that do not read, or do not finish what
//! they send, are closed before the node runs out of memory, and the others miss nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::crowd::Crowd;
use crate::overload::narrow;
use crate::socket::Socket;
use crate::support::cgroup::Cgroup;
use crate::support::{ANON_KEY, Node, remove_settings, user_token, wait_until};
use crate::tcp::PATIENCE;
use crate::witness::{END, Witness};

const MIB: u64 = 1024 * 1024;
/// The channel that all hear. Those that begin with `own:` have one subscriber each.
const CHANNEL: &str = "all";
const READERS: usize = 6;

/// The memory for clients in the tests without a control group, in bytes: the least there can be.
const CLIENT_BYTES: u64 = 32 * MIB;
/// Clients that publish to themselves and do not read, and the publications of each: together five
/// times the memory for clients.
const SELFISH: usize = 12;
const SELFISH_PUBLICATIONS: usize = 15;
/// Payload of a publication near the longest that there may be, in bytes.
const LONG: usize = 900_000;
/// Requests and messages that clients begin and do not finish.
const UNFINISHED: usize = 100;
/// Requests whose heads are not finished, and the bytes of each header that came. Together they
/// would hold twice as much as all requests may.
const UNFINISHED_HEADS: usize = 900;
const LONG_HEAD: usize = 12_000;
/// Clients that do not take a response, and its bytes. Together they are twice the memory for
/// clients, not counting what the kernel holds.
const SILENT: usize = 16;
const RESPONSE: usize = 4 * 1024 * 1024;
/// Connections that are kept alive. With a read buffer each they would hold twice as much as all
/// requests may.
const IDLE: usize = 1_000;

/// The memory of a small container, in bytes.
const CONTAINER_BYTES: u64 = 200 * MIB;
/// Clients of that node that read, and that do not.
const CROWD: usize = 1_000;
/// Rounds of publications there: one that all hear, and some that only clients hear that do not
/// read.
const ROUNDS: usize = 60;
const OWN_PER_ROUND: usize = 16;
const SHORT: usize = 5_000;
const MEDIUM: usize = 200_000;

fn node(client_bytes: u64) -> Node {
    node_with(client_bytes, |_| {})
}

fn node_with(client_bytes: u64, configure: impl Fn(&mut Command) + Send + Sync + 'static) -> Node {
    let node = Node::with(move |command| {
        command.env("FANFARE_MEMORY_CLIENT_BYTES", client_bytes.to_string());
        configure(command);
    });
    for pattern in [CHANNEL, "own:*"] {
        // Without history, whose queue would hold publications until they are written.
        let definition = json!({ "pattern": pattern, "ephemeral": true });
        assert_eq!(node.admin("POST", "/api/realtime/channels", &definition).0, 201);
    }
    node
}

fn closed(node: &Node) -> u64 {
    node.metric("fanfare_connections_closed_total{reason=\"memory\"}")
}

/// Publishes, again if the node has no room at the moment.
fn publish(node: &Node, channel: &str, event: &str, payload: &Value) -> Uuid {
    let publication = json!({ "channel": channel, "event": event, "payload": payload });
    let mut id = None;
    wait_until("the node accepts publications", || {
        let (status, body) = node.admin("POST", "/api/realtime/messages", &publication);
        assert!(status == 201 || status == 503, "{status}: {body}");
        id = body["messageId"].as_str().and_then(|id| Uuid::try_parse(id).ok());
        status == 201
    });
    id.expect("an accepted publication has an id")
}

/// A WebSocket that never reads. The node may close it at any time, so what it says may be lost.
struct Deaf(TcpStream);

impl Deaf {
    fn connect(port: u16) -> Self {
        let stream = narrow(port);
        stream.set_write_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        let mut deaf = Self(stream);
        deaf.send(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
              Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        deaf
    }

    fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Begins a text frame of this length, with the mask 0.
    fn begin(&mut self, length: usize) {
        let header = match length {
            0..126 => vec![0x81, 0x80 | length as u8],
            126..65_536 => [&[0x81, 0xfe], &(length as u16).to_be_bytes()[..]].concat(),
            _ => [&[0x81, 0xff], &(length as u64).to_be_bytes()[..]].concat(),
        };
        self.send(&[&header[..], &[0; 4]].concat());
    }

    fn say(&mut self, text: &str) {
        self.begin(text.len());
        self.send(text.as_bytes());
    }

    /// Subscribes to a channel of its own and fills it.
    fn fill(&mut self, channel: &str) {
        self.say(&format!("40{}", json!({ "token": ANON_KEY })));
        let subscribe = json!(["REALTIME_SUBSCRIBE", { "channel": channel }]);
        self.say(&format!("420{subscribe}"));
        let payload = json!({ "fill": "x".repeat(LONG) });
        let publish = json!({ "channel": channel, "event": "e", "payload": payload });
        let publish = format!("42{}", json!(["REALTIME_PUBLISH", publish]));
        for _ in 0..SELFISH_PUBLICATIONS {
            self.say(&publish);
        }
    }
}

#[test]
fn clients_that_fill_their_own_outboxes_do_not_take_the_node_with_them() {
    let node = node(CLIENT_BYTES);
    let (port, token) = (node.port(), user_token("reader"));
    let mut readers = [(); READERS].map(|()| Witness::subscribe(port, CHANNEL, &token));
    let mut selfish = Vec::new();
    for number in 0..SELFISH {
        let mut deaf = Deaf::connect(port);
        deaf.fill(&format!("own:{number}"));
        selfish.push(deaf);
        let id = publish(&node, CHANNEL, "tick", &json!(number));
        for reader in &mut readers {
            assert_eq!(reader.next().id, id, "readers hear this and nothing else");
        }
    }
    wait_until("clients are closed for what they hold", || closed(&node) > 0);
    let most = node.metric("fanfare_client_memory_most_bytes");
    assert!(most <= CLIENT_BYTES, "{most} bytes were held at once");
    assert_eq!(node.metric("fanfare_client_memory_max_bytes"), CLIENT_BYTES);
    let dropped = node.metric("fanfare_deliveries_dropped_total{reason=\"memory\"}");
    assert!(dropped > 0, "what they held is accounted for");
    let id = publish(&node, CHANNEL, "tick", &json!("last"));
    assert!(readers.iter_mut().all(|reader| reader.next().id == id));
}

#[test]
fn requests_that_are_not_finished_leave_room_for_others() {
    let node = node(CLIENT_BYTES);
    let head = format!(
        "POST /api/realtime/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LONG}\r\n\r\n"
    );
    let begin = |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", node.port())).expect("it is accepted");
        stream.write_all(head.as_bytes()).expect("the head is taken");
        // The node may refuse the request, and end the connection, before all of this is sent.
        let _ = stream.write_all(&vec![b'x'; LONG - 1]);
        stream
    };
    let mut unfinished: Vec<_> = (0..UNFINISHED).map(begin).collect();
    let refusals = || node.metric("fanfare_refusals_total{reason=\"overloaded\"}");
    wait_until("requests are refused", || refusals() > 0);
    publish(&node, CHANNEL, "tick", &json!(1));
    let most = node.metric("fanfare_client_memory_most_bytes");
    assert!(most <= CLIENT_BYTES / 4, "{most} bytes were held at once");

    let refused = unfinished.last_mut().expect("there are many");
    refused.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
    let mut answer = [0; 13];
    match refused.read_exact(&mut answer) {
        Ok(()) => assert_eq!(&answer[..], b"HTTP/1.1 503 "),
        // What was sent after the refusal destroys the answer.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    drop(unfinished);
    publish(&node, CHANNEL, "tick", &json!({ "fill": "x".repeat(LONG) }));
}

#[test]
fn requests_that_arrive_at_once_are_served_while_others_hold_all_that_requests_may() {
    let node = node(CLIENT_BYTES);
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "x".repeat(LONG_HEAD));
    let begin = |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", node.port())).expect("it listens");
        // The node may refuse the request before all of this is sent.
        let _ = stream.write_all(head.as_bytes());
        stream
    };
    let unfinished: Vec<_> = (0..UNFINISHED_HEADS).map(begin).collect();
    let refusals = || node.metric("fanfare_refusals_total{reason=\"overloaded\"}");
    wait_until("requests are refused", || refusals() > 0);
    // What the unfinished requests still have in flight goes on being refused, so that nothing but
    // the answers tells whether these were.
    assert_eq!(node.request("GET", "/api/health", &[], b"").status, 200);
    let publication = json!({ "channel": CHANNEL, "event": "tick", "payload": 1 });
    let (status, body) = node.admin("POST", "/api/realtime/messages", &publication);
    assert_eq!(status, 201, "{body}");
    drop(unfinished);
}

#[test]
fn connections_that_wait_for_their_next_request_leave_room_for_others() {
    let node = node(CLIENT_BYTES);
    let _idle: Vec<_> = (0..IDLE)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", node.port())).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is read");
            let mut answer = [0; 13];
            stream.read_exact(&mut answer).expect("it is answered");
            assert_eq!(&answer[..], b"HTTP/1.1 200 ");
            stream
        })
        .collect();
    assert!(node.metric("fanfare_http_connections") >= IDLE as u64);
    assert_eq!(node.metric("fanfare_refusals_total{reason=\"overloaded\"}"), 0);
}

#[test]
fn responses_that_clients_do_not_take_are_given_up_when_memory_is_short() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let mut script = b"/*! Socket.IO v4.8.4 */".to_vec();
    script.resize(RESPONSE, b' ');
    fs::write(files.path().join("socket.io.js"), script).expect("the directory is ours");
    let client_dir = files.path().to_owned();
    let node = node_with(CLIENT_BYTES, move |command| {
        command.env("FANFARE_ENGINE_IO_CLIENT_DIR", &client_dir);
        command.env("FANFARE_HTTP_WRITE_TIMEOUT_MS", "600000");
    });
    let ask = |_| {
        let mut stream = narrow(node.port());
        stream
            .write_all(b"GET /socket.io/socket.io.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("it is read");
        stream
    };
    let silent: Vec<_> = (0..SILENT).map(ask).collect();
    wait_until("clients are given up", || node.metric("fanfare_http_timeouts_total") > 0);
    publish(&node, CHANNEL, "tick", &json!(1));
    let used = || node.metric("fanfare_client_memory_bytes");
    wait_until("the rest fits", || used() < CLIENT_BYTES);
    drop(silent);
    wait_until("memory is given back", || used() < CLIENT_BYTES / 8);
}

#[test]
fn messages_that_are_not_finished_are_given_up_when_memory_is_short() {
    let node = node(CLIENT_BYTES);
    let mut reader = Witness::subscribe(node.port(), CHANNEL, &user_token("reader"));
    let begin = |_| {
        let mut deaf = Deaf::connect(node.port());
        deaf.begin(LONG);
        deaf.send(&vec![b'x'; LONG - 1]);
        deaf
    };
    let unfinished: Vec<_> = (0..UNFINISHED).map(begin).collect();
    wait_until("the node is over its share", || closed(&node) > 0);
    let id = publish(&node, CHANNEL, "tick", &json!(1));
    assert_eq!(reader.next().id, id);
    let used = || node.metric("fanfare_client_memory_bytes");
    wait_until("the rest fits", || used() < CLIENT_BYTES);
    drop(unfinished);
}

#[test]
fn a_crowd_that_does_not_read_costs_those_that_read_nothing() {
    let Some(group) = Cgroup::limited("fanfare-crowd", CONTAINER_BYTES) else { return };
    let node = node(CONTAINER_BYTES / 2);
    fs::write(group.entrance(), node.pid().to_string()).expect("root moves processes");
    let (port, token) = (node.port(), user_token("crowd"));
    let mut readers = Crowd::subscribe(port, CHANNEL, &token, CROWD);
    let silent: Vec<_> = (0..CROWD)
        .map(|number| {
            let mut socket = Socket::over(narrow(port), &token);
            socket.subscribe(CHANNEL);
            socket.subscribe(&format!("own:{number}"));
            socket
        })
        .collect();

    let fill = |bytes| json!({ "fill": "x".repeat(bytes) });
    let (short, medium) = (fill(SHORT), fill(MEDIUM));
    let published: Vec<Uuid> = thread::scope(|scope| {
        let listening = scope.spawn(|| readers.listen());
        let mut published = Vec::new();
        for round in 0..ROUNDS {
            published.push(publish(&node, CHANNEL, "tick", &short));
            for number in 0..OWN_PER_ROUND {
                let owner = (round * OWN_PER_ROUND + number) % CROWD;
                publish(&node, &format!("own:{owner}"), "tick", &medium);
            }
        }
        published.push(publish(&node, CHANNEL, END, &Value::Null));
        listening.join().expect("all readers hear the end");
        published
    });
    for heard in &readers.heard {
        assert_eq!(heard, &published, "a reader hears everything in order");
    }
    assert!(closed(&node) > 0, "some that do not read are closed");
    let most = node.metric("fanfare_client_memory_most_bytes");
    // Sockets that become full at once count before the first of their connections is closed.
    assert!(most <= CONTAINER_BYTES / 8 * 5, "{most} bytes were held at once");
    drop((readers, silent));
    let used = || node.metric("fanfare_client_memory_bytes");
    wait_until("memory is given back", || used() < CONTAINER_BYTES / 8);
    drop(node);
    // The kernel takes the process out of the group a moment after it has ended.
    thread::sleep(Duration::from_millis(100));
}

#[test]
fn by_default_clients_have_half_of_the_containers_memory() {
    let Some(group) = Cgroup::limited("fanfare-half", CONTAINER_BYTES) else { return };
    let enter = format!("echo $$ > {} && exec \"$0\" check", group.entrance().display());
    let mut command = Command::new("sh");
    remove_settings(&mut command);
    command.args(["-c", &enter, env!("CARGO_BIN_EXE_fanfare")]);
    let output = command.output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("client_bytes = 104857600  # default"), "{said}");
}

#[test]
fn a_node_at_rest_is_small() {
    let node = Node::with(|command| {
        command.env("FANFARE_WORKERS", "2");
    });
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 10 * 1024, "{kib} KiB besides the program itself");
}
