//! The limits that an operator can set: connections, sessions in a second, requests of an address,
//! and in the modules below those of what clients do.

mod commands;
mod handshakes;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Instant;

use serde_json::Value;

use crate::support::{ANON_KEY, API_KEY, Node, wait_until};
use crate::tcp::{self, Response, Tcp};

const CHANNELS: &str = "GET /api/realtime/channels";
const HEALTH: &str = "GET /api/health";
const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket";
const WEBSOCKET: [&str; 4] = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn connect(node: &Node) -> Tcp {
    Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into())
}

fn send(tcp: &mut Tcp, line: &str, headers: &[&str], body: &str) -> Response {
    let line_of_request = format!("{line} HTTP/1.1");
    tcp.send(tcp::request(&[&[&*line_of_request], headers].concat(), body));
    tcp.response()
}

/// Sends a request on a connection of its own.
fn ask(node: &Node, line: &str, headers: &[&str]) -> Response {
    send(&mut connect(node), line, headers, "")
}

fn refusals(node: &Node, reason: &str) -> f64 {
    node.scrape().value("fanfare_refusals_total", &[("reason", reason)])
}

/// Returns how many may be served at a rate since then: those of a second, and what has come back.
fn due(rate: u64, began: Instant) -> u64 {
    let passed = u64::try_from(began.elapsed().as_millis()).expect("it fits");
    rate + rate * (1 + passed) / 1_000
}

/// Sends requests of a client behind the proxy of this machine until one is refused. Returns that
/// answer and how many were served before it, which must be as many as the rate allows.
fn exhaust(node: &Node, client: &str, rate: u64) -> Response {
    let client = format!("X-Forwarded-For: {client}");
    let (mut tcp, began) = (connect(node), Instant::now());
    for served in 0.. {
        let answer = send(&mut tcp, HEALTH, &[&client], "");
        if answer.status != 200 {
            assert!(served >= rate, "only {served} were served");
            return answer;
        }
        let due = due(rate, began);
        assert!(served <= due, "{served} are served, where {due} may be");
    }
    unreachable!("one is refused")
}

fn rated() -> Node {
    Node::with_env(&[
        ("FANFARE_LIMITS_REQUESTS_PER_SECOND_PER_ADDRESS", "5"),
        ("FANFARE_PROXY_TRUSTED", "127.0.0.1"),
    ])
}

#[test]
fn an_address_that_sends_too_much_is_refused_and_no_other() {
    let node = rated();
    let refused = exhaust(&node, "203.0.113.7", 5);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.json()["error"], "RATE_LIMITED");
    exhaust(&node, "2001:db8:1:1::a", 5);

    let from = |address: &str, more: &[&str]| {
        let client = format!("X-Forwarded-For: {address}");
        ask(&node, CHANNELS, &[&[&*client], more].concat()).status
    };
    // Meanwhile a token may have come back.
    assert!((0..20).any(|_| from("2001:db8:1:1::b", &[]) == 429), "it is in the same network");
    assert_eq!(from("2001:db8:1:2::a", &[]), 401, "another network has a rate of its own");
    assert_eq!(from("203.0.113.8", &[]), 401, "another address has one, too");
    let key = format!("x-api-key: {API_KEY}");
    for _ in 0..50 {
        assert_eq!(from("203.0.113.7", &[&key]), 200, "the key has no rate");
        assert_eq!(ask(&node, HEALTH, &[]).status, 200, "this machine has none");
    }
    assert!(refusals(&node, "address_rate") >= 3.0);
    wait_until("it is served again", || from("203.0.113.7", &[]) == 401);
}

#[test]
fn refused_credentials_count_and_do_not_lock_good_ones_out() {
    let node = rated();
    let client = "X-Forwarded-For: 203.0.113.7";
    let mut guessing = connect(&node);
    let is_refused = |tcp: &mut Tcp| {
        for _ in 0..10 {
            assert_eq!(send(tcp, CHANNELS, &[client, "x-api-key: ik_guess"], "").status, 401);
        }
        send(tcp, HEALTH, &[client], "").status == 429
    };
    wait_until("guesses use up the rate", || is_refused(&mut guessing));
    let key = format!("x-api-key: {API_KEY}");
    assert_eq!(send(&mut guessing, CHANNELS, &[client, &key], "").status, 200);
}

#[test]
fn a_credential_that_is_not_checked_is_of_no_use() {
    let node = rated();
    let client = "X-Forwarded-For: 203.0.113.7";
    let lines = [
        "GET /api/health?token=x",
        "GET /api/health/live",
        "GET /metrics",
        "GET /",
        "GET /nowhere",
        "OPTIONS /api/realtime/channels",
        "GET /forge/realtime/v1/client.js",
        "GET /socket.io/?EIO=4&transport=polling",
    ];
    for line in lines {
        let mut tcp = connect(&node);
        // More than may be served in the time that they take.
        let answers = (0..40).map(|_| send(&mut tcp, line, &[client, "Authorization: x"], ""));
        assert!(answers.into_iter().any(|answer| answer.status == 429), "{line}");
    }
}

#[test]
fn one_request_too_many_is_refused_in_the_form_of_its_interface() {
    let node = rated();
    let client = "X-Forwarded-For: 203.0.113.7";
    let refused = |line: &str, headers: &[&str], body: &str| loop {
        let answer = send(&mut connect(&node), line, &[&[client], headers].concat(), body);
        if answer.status == 429 {
            assert_eq!(answer.header("retry-after"), Some("1"), "{line}");
            return answer;
        }
    };
    let publish = refused("POST /forge/realtime/v1/publish/global", &[], "{}").json();
    assert_eq!(publish["errors"][0]["message"], "RATE_LIMIT_EXCEEDED", "{publish}");
    let socket = refused(UPGRADE, &WEBSOCKET, "").json();
    assert_eq!(socket["error"], "RATE_LIMITED");
    // A body that has yet to come is not waited for.
    let mut tcp = connect(&node);
    let head = "POST /api/realtime/messages HTTP/1.1\r\nHost: n\r\nContent-Length: 500000\r\n";
    wait_until("a long request is refused", || {
        while ask(&node, HEALTH, &[client]).status == 200 {}
        tcp = connect(&node);
        tcp.send(format!("{head}{client}\r\n\r\n"));
        tcp.try_response("POST", tcp::PATIENCE).is_some_and(|answer| answer.status == 429)
    });
    assert!(tcp.ends_within(tcp::PATIENCE));
}

#[test]
fn a_session_on_long_polling_is_not_rated() {
    let node = rated();
    let client = "X-Forwarded-For: 203.0.113.7";
    let polling = "/socket.io/?EIO=4&transport=polling";
    let mut tcp = connect(&node);
    let opened = send(&mut tcp, &format!("GET {polling}"), &[client], "");
    let opened: Value = serde_json::from_str(&opened.text()[1..]).expect("it opens");
    let target = format!("{polling}&sid={}", opened["sid"].as_str().expect("it has an id"));
    let connect_packet = format!("40{{\"token\":\"{ANON_KEY}\"}}");
    assert_eq!(send(&mut tcp, &format!("POST {target}"), &[client], &connect_packet).status, 200);
    for number in 0..40 {
        let packet = format!("42{number}[\"REALTIME_UNSUBSCRIBE\",{{\"channel\":\"none\"}}]");
        assert_eq!(send(&mut tcp, &format!("POST {target}"), &[client], &packet).status, 200);
    }
    assert_eq!(refusals(&node, "address_rate"), 0.0);
    // The ids of sessions cannot be guessed at any speed.
    let guess = format!("GET {polling}&sid=AAAAAAAAAAAAAAAAAAAA");
    let is_refused = || {
        for _ in 0..10 {
            assert!(matches!(ask(&node, &guess, &[client]).status, 400 | 429));
        }
        ask(&node, HEALTH, &[client]).status == 429
    };
    wait_until("guesses use up the rate", is_refused);
}

#[test]
fn only_so_many_sessions_begin_in_a_second() {
    let node = Node::with_env(&[("FANFARE_LIMITS_HANDSHAKES_PER_SECOND", "4")]);
    let began = Instant::now();
    let mut opened = Vec::new();
    let refused = loop {
        let mut tcp = connect(&node);
        let answer = send(&mut tcp, UPGRADE, &WEBSOCKET, "");
        if answer.status != 101 {
            break answer;
        }
        opened.push(tcp);
        let due = due(4, began);
        assert!(opened.len() as u64 <= due, "{} begin, where {due} may", opened.len());
    };
    assert!(opened.len() >= 4);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["error"], "OVERLOADED");
    assert_eq!(refusals(&node, "handshakes"), 1.0);
    let polling = "GET /socket.io/?EIO=4&transport=polling";
    wait_until("sessions on long-polling count, too", || ask(&node, polling, &[]).status == 503);
    assert_eq!(ask(&node, HEALTH, &[]).status, 200);
    wait_until("sessions begin again", || ask(&node, UPGRADE, &WEBSOCKET).status == 101);
}

#[test]
fn a_full_node_answers_short_requests_and_begins_no_session() {
    const MOST: usize = 8;
    let node = Node::with_env(&[("FANFARE_LIMITS_CONNECTIONS", "8")]);
    let open = || {
        let mut tcp = connect(&node);
        let answer = send(&mut tcp, UPGRADE, &WEBSOCKET, "");
        (answer, tcp)
    };
    let mut kept = Vec::new();
    while kept.len() < MOST {
        let (answer, tcp) = open();
        // A connection that was closed may count for a moment more.
        if answer.status == 101 {
            kept.push(tcp);
        }
    }
    let before = refusals(&node, "connections");
    let (refused, _) = open();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(refusals(&node, "connections"), before + 1.0);
    let polling = ask(&node, "GET /socket.io/?EIO=4&transport=polling", &[]);
    assert_eq!((polling.status, &polling.json()["error"]), (503, &"OVERLOADED".into()));
    let health = ask(&node, HEALTH, &[]);
    assert_eq!((health.status, health.header("connection")), (200, Some("close")));
    // A connection that sends nothing is closed soon.
    assert!(connect(&node).ends_within(tcp::PATIENCE));

    kept.pop();
    wait_until("there is a place again", || open().0.status == 101);
}

/// Starts a node behind a proxy of this machine. An address may have three connections.
fn counting() -> Node {
    Node::with_env(&[
        ("FANFARE_LIMITS_CONNECTIONS_PER_ADDRESS", "3"),
        ("FANFARE_PROXY_TRUSTED", "127.0.0.1"),
    ])
}

/// Opens a WebSocket of a client behind the proxy. Returns the answer, and the connection.
fn open_from(node: &Node, client: &str) -> (Response, Tcp) {
    let mut tcp = connect(node);
    let client = format!("X-Forwarded-For: {client}");
    let answer = send(&mut tcp, UPGRADE, &[&WEBSOCKET[..], &[&*client]].concat(), "");
    (answer, tcp)
}

/// Checks that an address has no connections that count.
fn check_none_counts(node: &Node, client: &str) {
    wait_until("no connection of the address counts", || {
        let opened = [(); 3].map(|()| open_from(node, client));
        opened.iter().all(|(answer, _)| answer.status == 101)
    });
}

#[test]
fn an_address_has_so_many_websockets_behind_a_proxy() {
    let node = counting();
    let client = "203.0.113.7";
    let mut kept: Vec<_> = (0..3).map(|_| open_from(&node, client)).collect();
    assert!(kept.iter().all(|(answer, _)| answer.status == 101));
    let (refused, mut tcp) = open_from(&node, client);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.json()["error"], "RATE_LIMITED");
    // The connection is the proxy's, which may send other requests on it.
    assert_eq!(send(&mut tcp, HEALTH, &[], "").status, 200);
    assert_eq!(refusals(&node, "address_connections"), 1.0);
    assert_eq!(open_from(&node, "203.0.113.8").0.status, 101);
    let own = [(); 5].map(|()| open_from(&node, "unknown"));
    assert!(own.iter().all(|(answer, _)| answer.status == 101), "this machine has no limit");
    kept.pop();
    wait_until("there is a place again", || open_from(&node, client).0.status == 101);
    drop(kept);
    check_none_counts(&node, client);
}

#[test]
fn a_client_that_upgrades_counts_until_it_leaves() {
    let node = counting();
    let client = "X-Forwarded-For: 2001:db8::7";
    let polling = "/socket.io/?EIO=4&transport=polling";
    let opened = ask(&node, &format!("GET {polling}"), &[client]);
    let opened: Value = serde_json::from_str(&opened.text()[1..]).expect("it opens");
    let sid = opened["sid"].as_str().expect("it has an id");
    let others = [open_from(&node, "2001:db8::1"), open_from(&node, "2001:db8::2")];
    assert!(others.iter().all(|(answer, _)| answer.status == 101));

    let upgrade = format!("{UPGRADE}&sid={sid}");
    let mut tcp = connect(&node);
    assert_eq!(send(&mut tcp, &upgrade, &[&WEBSOCKET[..], &[client]].concat(), "").status, 101);
    tcp.send(masked("2probe"));
    assert_eq!(
        tcp.take(8, Instant::now() + tcp::PATIENCE).as_deref(),
        Some(&b"\x81\x063probe"[..])
    );
    tcp.send(masked("5"));
    wait_until("it is on its WebSocket", || {
        node.scrape().value("fanfare_connections", &[("api", "insforge"), ("transport", "polling")])
            == 0.0
    });
    assert_eq!(open_from(&node, "2001:db8::3").0.status, 429, "it counts");
    drop(others);
    wait_until("two have left", || {
        let opened = [(); 2].map(|()| open_from(&node, "2001:db8::1"));
        opened.iter().all(|(answer, _)| answer.status == 101)
    });
    drop(tcp);
    check_none_counts(&node, "2001:db8::1");
}

/// Returns a short WebSocket message of a client, with a mask of zeros.
fn masked(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("it is short");
    [&[0x81, 0x80 | length, 0, 0, 0, 0][..], text.as_bytes()].concat()
}

#[test]
fn an_address_has_so_many_connections_of_its_own() {
    let node = Node::on_all_addresses(|command| {
        command.env("FANFARE_LIMITS_CONNECTIONS_PER_ADDRESS", "3");
    });
    let Some(own) = own_address() else {
        return eprintln!("not tested: this machine has no address but loopback");
    };
    let connect = || Tcp::connect((own, node.port()).into());
    let open = || {
        let mut tcp = connect();
        (send(&mut tcp, UPGRADE, &WEBSOCKET, "").status, tcp)
    };
    let mut kept = vec![open(), open()];
    let mut idle = connect();
    assert_eq!(send(&mut idle, HEALTH, &[], "").status, 200);
    kept.push((101, idle));
    assert!(kept.iter().all(|(status, _)| *status == 101));
    let mut tcp = connect();
    let refused = send(&mut tcp, HEALTH, &[], "");
    assert_eq!((refused.status, refused.header("connection")), (429, Some("close")));
    assert!(tcp.ends_within(tcp::PATIENCE));
    let loopback = [(); 5].map(|()| ask(&node, HEALTH, &[]).status);
    assert_eq!(loopback, [200; 5], "this machine has no limit");
    kept.pop();
    wait_until("there is a place again", || open().0 == 101);
}

/// Returns an address of this machine that is not loopback.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent: the kernel only chooses the address.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) if !address.is_loopback() => Some(address),
        _ => None,
    }
}
