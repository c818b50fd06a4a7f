//! A node whose descriptors have run out: it says so, stays observable, and recovers.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ear::{CHANNEL, Ear, TICK, loopback};
use crate::support::exposition::Exposition;
use crate::support::{ANON_KEY, API_KEY, Node, wait_until};
use crate::tcp::{self, Response, Tcp};

const LIMIT: u64 = 256;
/// Connections that send nothing: more than the node has descriptors.
const IDLE: usize = 400;
const SOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Connections that were accepted while there were descriptors.
struct Early {
    node: Node,
    upgrading: Vec<Tcp>,
    watching: Tcp,
    ear: Ear,
    idle: Vec<TcpStream>,
}

#[test]
fn a_node_without_descriptors_answers_on_io_uring() {
    check(&[]);
}

#[test]
fn a_node_without_descriptors_answers_on_epoll() {
    check(&[("MONOIO_FORCE_LEGACY_DRIVER", "1")]);
}

fn check(driver: &'static [(&str, &str)]) {
    let mut early = fill(driver);
    check_refusals(&mut early);
    check_what_goes_on(&mut early);
    check_log(&early.node);

    early.idle.clear();
    let Early { node, mut watching, .. } = early;
    wait_until("descriptors are free", || {
        scrape(&mut watching).plain("process_open_fds") < LIMIT as f64 / 2.0
    });
    let mut again = Tcp::connect(loopback(node.port()));
    assert_eq!(ask(&mut again, SOCKET, &UPGRADE).status, 101);
    Ear::over_websocket(node.port(), ANON_KEY);
}

/// Connections that begin with a PROXY header, and could wait for it, give the descriptors that are
/// kept back free as soon as others do.
#[test]
fn silent_connections_of_a_proxy_leave_kept_back_descriptors_to_probes() {
    let node = Node::with_descriptors(160, |command| {
        command.env("FANFARE_PROXY_TRUSTED", "127.0.0.1").env("FANFARE_PROXY_PROTOCOL", "true");
    });
    let probe = |number: usize| {
        let mut tcp = Tcp::connect(loopback(node.port()));
        let header = format!("PROXY TCP4 192.0.2.{} 192.0.2.1 1024 80\r\n", number % 250);
        tcp.send(
            [header.into_bytes(), tcp::request(&["GET /api/health/live HTTP/1.1"], "")].concat(),
        );
        tcp
    };
    let answered = |tcp: &mut Tcp| assert_eq!(tcp.response().status, 200);
    let mut open: Vec<_> = (0..112).map(probe).collect();
    open.iter_mut().for_each(answered);
    let connect = |_| TcpStream::connect(loopback(node.port())).expect("the kernel takes it");
    let silent: Vec<_> = (0..60).map(connect).collect();
    let start = Instant::now();
    answered(&mut probe(1));
    let waited = start.elapsed();
    println!("a probe waited {waited:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    drop(silent);
}

/// Starts a node, connects to it and takes all its descriptors.
fn fill(driver: &'static [(&str, &str)]) -> Early {
    let node = Node::with_descriptors(LIMIT, move |command| {
        command.envs(driver.iter().copied());
    });
    node.create_channel(CHANNEL);
    let connect = || {
        let mut tcp = Tcp::connect(loopback(node.port()));
        assert_eq!(ask(&mut tcp, "/api/health", &[]).status, 200);
        tcp
    };
    let (upgrading, mut watching) = ((0..4).map(|_| connect()).collect(), connect());
    let ear = Ear::over_websocket(node.port(), ANON_KEY);
    let connect = |_| TcpStream::connect(loopback(node.port())).expect("the kernel takes it");
    let idle = (0..IDLE).map(connect).collect();
    wait_until("accepting pauses", || {
        scrape(&mut watching).plain("fanfare_accept_pauses_total") > 0.0
    });
    Early { node, upgrading, watching, ear, idle }
}

/// A connection that is open can become a WebSocket, which needs no further descriptor. One on a
/// descriptor that is kept back cannot, because it would last.
fn check_refusals(early: &mut Early) {
    let mut open = early.upgrading.pop().expect("there are some");
    assert_eq!(ask(&mut open, SOCKET, &UPGRADE).status, 101);
    early.upgrading.push(open);
    let events = format!("/api/realtime/events?channel={CHANNEL}&token={ANON_KEY}");
    let asked = [(SOCKET, &UPGRADE[..]), (&events, &[]), (SOCKET, &UPGRADE[..])];
    for (path, headers) in asked {
        let mut tcp = Tcp::connect(loopback(early.node.port()));
        let refused = ask(&mut tcp, path, headers);
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{path}");
        let body: Value = serde_json::from_str(refused.text()).expect("it is JSON");
        assert_eq!((&body["error"], &body["statusCode"]), (&json!("OVERLOADED"), &json!(503)));
        assert!(tcp.ends_within(tcp::PATIENCE), "it is not kept");
    }
    let scrape = scrape(&mut early.watching);
    assert_eq!(scrape.value("fanfare_refusals_total", &[("reason", "descriptors")]), 3.0);
}

/// Health, metrics, publishing and connections that are open.
fn check_what_goes_on(early: &mut Early) {
    let start = Instant::now();
    assert_eq!(early.node.request("GET", "/api/health", &[], b"").status, 200);
    assert!(start.elapsed() < Duration::from_secs(20), "a new probe is answered");
    let polling = early.node.request("GET", "/socket.io/?EIO=4&transport=polling", &[], b"");
    let head = (polling.status, polling.header("retry-after"), polling.header("connection"));
    assert_eq!(head, (503, Some("1"), Some("close")), "a new client would stay");
    let scrape = scrape(&mut early.watching);
    assert_eq!(scrape.plain("process_max_fds"), LIMIT as f64);
    let open = scrape.plain("process_open_fds");
    assert!(open > LIMIT as f64 * 0.8 && open <= LIMIT as f64, "{open}");
    assert!(scrape.plain("process_resident_memory_bytes") > 1e6);

    let publication = json!({ "channel": CHANNEL, "event": TICK, "payload": 1 }).to_string();
    let key = format!("X-API-Key: {API_KEY}");
    let head = ["POST /api/realtime/messages HTTP/1.1", &key];
    early.watching.send(tcp::request(&head, &publication));
    assert_eq!(early.watching.response_to("POST").status, 201, "it is stored");
    early.ear.hear(1);
}

fn check_log(node: &Node) {
    let log = node.output();
    let lines = |text: &str| log.matches(text).count();
    for text in ["accepting pauses", "clients are refused with 503"] {
        assert!((1..=6).contains(&lines(text)), "{text}: {log}");
    }
    assert!(log.contains("raise their limit"), "{log}");
}

const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn ask(tcp: &mut Tcp, path: &str, headers: &[&str]) -> Response {
    let line = format!("GET {path} HTTP/1.1");
    tcp.send(tcp::request(&[&[line.as_str()], headers].concat(), ""));
    tcp.response()
}

fn scrape(tcp: &mut Tcp) -> Exposition {
    Exposition::parse(ask(tcp, "/metrics", &[]).text()).expect("it is in the format")
}
