//! `proxy.protocol`: connections of trusted proxies begin with a PROXY header, and no others do.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::support::encrypted::{Authority, NAME};
use crate::support::{Node, wait_until};
use crate::tcp::{self, Response, Tcp};

/// The address of the proxy. Other programs of this machine have the usual one.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const LINE: &str = "PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n";
const CHANNELS: &str = "GET /api/realtime/channels HTTP/1.1";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const HEAD_TIMEOUT: Duration = Duration::from_millis(1_500);

fn configure(command: &mut Command) {
    command.env("FANFARE_PROXY_TRUSTED", "127.0.0.2, 10.0.0.0/8, unix");
    command.env("FANFARE_PROXY_PROTOCOL", "true").env("FANFARE_LOG", "debug");
}

fn behind_proxy() -> Node {
    Node::with(configure)
}

/// Connects from an address of this machine to a port of loopback.
pub(super) fn connect_from(address: Ipv4Addr, port: u16) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(address, 0)).expect("the address is loopback's");
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).expect("the port is open");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(tcp::PATIENCE)).expect("the kernel does it");
    stream
}

fn proxy(node: &Node) -> Tcp {
    Tcp::over(connect_from(PROXY, node.port()))
}

fn elsewhere(node: &Node) -> Tcp {
    Tcp::over(connect_from(Ipv4Addr::LOCALHOST, node.port()))
}

/// Returns a header of version 2 for a client, with a vector behind the addresses.
fn binary(client: &str) -> Vec<u8> {
    let (family, client) = match client.parse::<IpAddr>().expect("it is an address") {
        IpAddr::V4(client) => (0x11, client.octets().to_vec()),
        IpAddr::V6(client) => (0x21, client.octets().to_vec()),
    };
    let content = [&*client, &*client, &[0, 1, 0, 2], &[4, 0, 1, b'x']].concat();
    let length = u8::try_from(content.len()).expect("it is short");
    [SIGNATURE, &[0x21, family, 0, length], &content].concat()
}

/// Sends a call without a credential behind this header. The log names its client.
fn ask(tcp: &mut Tcp, header: impl AsRef<[u8]>, lines: &[&str]) -> Response {
    let request = tcp::request(&[&[CHANNELS], lines].concat(), "");
    tcp.send([header.as_ref(), &request].concat());
    tcp.response()
}

/// Returns how many lines of the log name this client.
pub(super) fn clients(node: &Node, client: &str) -> usize {
    let name = format!("client={client}");
    let output = node.output();
    output.lines().filter(|line| line.split(' ').any(|word| word == name)).count()
}

/// Checks that the log names one more client of this address after `act`.
fn names(node: &Node, client: &str, act: impl FnOnce()) {
    let before = clients(node, client);
    act();
    wait_until(&format!("{client} is named"), || clients(node, client) == before + 1);
}

fn refusals(node: &Node, reason: &str) -> f64 {
    node.scrape().value("fanfare_refusals_total", &[("reason", reason)])
}

/// Checks that what a connection begins with is refused, in the clear, with these texts in the
/// answer and the log.
fn check_refused(node: &Node, tcp: Tcp, bytes: &[u8], texts: (&str, &str)) {
    let send = |tcp: &mut Tcp| {
        tcp.send(bytes);
    };
    check_refused_after(send, node, tcp, texts);
}

/// Does what [`check_refused`] does, after the connection has begun in a way of its own.
fn check_refused_after(
    act: impl FnOnce(&mut Tcp),
    node: &Node,
    mut tcp: Tcp,
    (answer, log): (&str, &str),
) {
    let before = refusals(node, "proxy_header");
    act(&mut tcp);
    let response = tcp.response();
    assert_eq!(response.status, 400, "{answer}");
    assert!(response.text().contains(answer), "{answer}: {}", response.text());
    assert!(tcp.ends_within(tcp::PATIENCE), "{answer}");
    wait_until("the log says why", || node.output().contains(log));
    assert_eq!(refusals(node, "proxy_header"), before + 1.0, "{answer}");
}

#[test]
fn the_client_is_whom_the_header_names() {
    let node = behind_proxy();
    let six = "PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n";
    let headers: [(&[u8], &str); 8] = [
        (LINE.as_bytes(), "203.0.113.7"),
        (six.as_bytes(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:203.0.113.8 ::1 1 2\r\n", "203.0.113.8"),
        (&binary("203.0.113.9"), "203.0.113.9"),
        (&binary("2001:db8::9"), "2001:db8::9"),
        // The proxy speaks for itself, or does not know its client.
        (b"PROXY UNKNOWN\r\n", "127.0.0.2"),
        (&[SIGNATURE, &[0x20, 0, 0, 0]].concat(), "127.0.0.2"),
        (&[SIGNATURE, &[0x21, 0, 0, 0]].concat(), "127.0.0.2"),
    ];
    for (header, client) in headers {
        names(&node, client, || {
            let mut tcp = proxy(&node);
            assert_eq!(ask(&mut tcp, header, &[]).status, 401, "{client}");
        });
        names(&node, client, || {
            // Byte by byte, each of which the node sees.
            let mut tcp = proxy(&node);
            for byte in header {
                tcp.send([*byte]);
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(ask(&mut tcp, "", &[]).status, 401, "{client}");
            // The header is one of the connection, not of its requests.
            tcp.send(tcp::request(&["GET /api/health HTTP/1.1"], ""));
            assert_eq!(tcp.response().status, 200);
        });
    }
}

#[test]
fn headers_of_requests_count_only_from_trusted_proxies_behind_it() {
    let node = behind_proxy();
    let named = ["X-Forwarded-For: 198.51.100.1"];
    let line = |client: &str| format!("PROXY TCP4 {client} 127.0.0.1 1 2\r\n");
    for (header, client) in [
        (line("203.0.113.7"), "203.0.113.7"),
        (line("10.1.2.3"), "198.51.100.1"),
        ("PROXY UNKNOWN\r\n".to_owned(), "127.0.0.2"),
    ] {
        names(&node, client, || {
            assert_eq!(ask(&mut proxy(&node), &header, &named).status, 401, "{header}");
        });
    }
}

#[test]
fn headers_from_elsewhere_are_refused() {
    let node = behind_proxy();
    let (answer, log) = ("trusted proxies only", "an address that is not in proxy.trusted");
    let request = tcp::request(&[CHANNELS], "");
    for header in [LINE.as_bytes(), b"PROXY nonsense\r\n", &binary("203.0.113.7")] {
        check_refused(&node, elsewhere(&node), &[header, &request].concat(), (answer, log));
        let mut tcp = elsewhere(&node);
        tcp.send_chopped(&header[..5], 1);
        thread::sleep(Duration::from_millis(20));
        check_refused(&node, tcp, &header[5..], (answer, log));
    }
    assert_eq!(clients(&node, "203.0.113.7"), 0);
    assert!(node.output().contains("client=127.0.0.1"));
    // Others are served as ever, also if they begin alike.
    names(&node, "127.0.0.1", || {
        let mut tcp = elsewhere(&node);
        tcp.send("P");
        thread::sleep(Duration::from_millis(20));
        tcp.send(tcp::request(&["OST /api/realtime/messages HTTP/1.1"], "{}"));
        assert_eq!(tcp.response().status, 401);
    });
    assert_eq!(node.request("GET", "/api/health", &[], b"").status, 200);
}

#[test]
fn a_trusted_proxy_without_a_header_is_refused() {
    let node = behind_proxy();
    let long = [b"PROXY UNKNOWN ", &*vec![b'x'; 200]].concat();
    let longest = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let missing = ("must come first", "does not begin with a PROXY header");
    let malformed = ("malformed", "malformed PROXY header");
    let too_long = ("too long", "PROXY header that is too long");
    let cases: [(&[u8], _); 7] = [
        (&tcp::request(&["GET /api/health HTTP/1.1"], ""), missing),
        (&hello, missing),
        (b"PROXY TCP4 203.0.113.7\r\n", malformed),
        (&[SIGNATURE, &[0x11, 0x11, 0, 0]].concat(), malformed),
        (&[SIGNATURE, &[0x21, 0x11, 0, 4, 1, 1, 1, 1]].concat(), malformed),
        (&long, too_long),
        (&longest, too_long),
    ];
    for (bytes, texts) in cases {
        check_refused(&node, proxy(&node), bytes, texts);
    }
    let cut = |tcp: &mut Tcp| {
        tcp.send(&LINE[..20]);
        tcp.finish();
    };
    let texts = ("ends before it is complete", "malformed PROXY header");
    check_refused_after(cut, &node, proxy(&node), texts);
    // Checks of health that only connect are no fault.
    let before = refusals(&node, "proxy_header");
    let mut probe = proxy(&node);
    probe.finish();
    assert!(probe.ends_within(tcp::PATIENCE));
    assert_eq!(refusals(&node, "proxy_header"), before);
}

#[test]
fn a_slow_header_is_not_waited_for() {
    let node = Node::with(|command| {
        configure(command);
        command.env("FANFARE_HTTP_HEAD_TIMEOUT_MS", HEAD_TIMEOUT.as_millis().to_string());
    });
    let began = Instant::now();
    let slow = ["", "PROX", &LINE[..30]].map(|part| {
        let (mut one, mut other) = (proxy(&node), elsewhere(&node));
        one.send(part);
        other.send(&part[..part.len().min(4)]);
        (part, one, other)
    });
    // The time of a request begins with the end of the header.
    let mut tcp = proxy(&node);
    let request = tcp::request(&["GET /api/health HTTP/1.1"], "");
    for part in [&LINE.as_bytes()[..9], &LINE.as_bytes()[9..], &request[..9], &request[9..]] {
        thread::sleep(HEAD_TIMEOUT * 3 / 10);
        tcp.send(part);
    }
    assert_eq!(tcp.response().status, 200);
    for (part, mut one, mut other) in slow {
        assert_eq!(one.response().status, 408, "{part:?}");
        assert!(one.ends_within(tcp::PATIENCE), "{part:?}");
        assert!(other.ends_within(tcp::PATIENCE), "{part:?}");
    }
    assert!(began.elapsed() >= HEAD_TIMEOUT);
    assert!(node.output().contains("has not sent its PROXY header in time"));
}

#[test]
fn tls_begins_behind_the_header() {
    let authority = Authority::new();
    let files = authority.pair("node", &[NAME]);
    let node = Node::with(move |command| {
        configure(command);
        files.configure(command);
    });
    let request = tcp::request(&[CHANNELS, "Connection: close"], "");
    for (header, client) in
        [(LINE.as_bytes().to_vec(), "203.0.113.7"), (binary("2001:db8::7"), "2001:db8::7")]
    {
        for pause in [Duration::ZERO, Duration::from_millis(20)] {
            names(&node, client, || {
                let mut stream = connect_from(PROXY, node.port());
                let name = ServerName::try_from(NAME).expect("it is a name");
                let session = ClientConnection::new(authority.client(), name);
                let mut session = session.expect("it is complete");
                let mut bytes = header.clone();
                if pause.is_zero() {
                    session.write_tls(&mut bytes).expect("memory takes it");
                }
                stream.write_all(&bytes).expect("it is read");
                thread::sleep(pause);
                let mut tls = StreamOwned::new(session, stream);
                tls.write_all(&request).expect("it is read");
                let mut answer = String::new();
                // The node may close without an alert.
                let ended = tls.read_to_string(&mut answer);
                assert!(ended.is_ok_and(|length| length > 0), "{answer}");
                assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            });
        }
    }
    let texts = ("trusted proxies only", "not in proxy.trusted");
    check_refused_over_tls(&node, &authority, elsewhere(&node), LINE.as_bytes(), texts);
    let texts = ("must come first", "does not begin with a PROXY header");
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    check_refused_over_tls(&node, &authority, proxy(&node), &hello, texts);
}

/// Does what [`check_refused`] does, on a node whose metrics are behind TLS.
fn check_refused_over_tls(
    node: &Node,
    authority: &Authority,
    mut tcp: Tcp,
    bytes: &[u8],
    (answer, log): (&str, &str),
) {
    tcp.send(bytes);
    let response = tcp.response();
    assert_eq!(response.status, 400);
    assert!(response.text().contains(answer), "{}", response.text());
    assert!(tcp.ends_within(tcp::PATIENCE));
    wait_until("the log says why", || node.output().contains(log));
    let name = ServerName::try_from(NAME).expect("it is a name");
    let session = ClientConnection::new(authority.client(), name).expect("it is complete");
    let mut tls = StreamOwned::new(session, connect_from(Ipv4Addr::LOCALHOST, node.port()));
    let request = tcp::request(&["GET /metrics HTTP/1.1", "Connection: close"], "");
    tls.write_all(&request).expect("it is read");
    let mut metrics = String::new();
    tls.read_to_string(&mut metrics).expect("the node says its end");
    let line = metrics.lines().find(|line| line.contains("reason=\"proxy_header\""));
    assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{line:?}");
}

const UPGRADE: [&str; 5] = [
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

#[test]
fn limits_are_those_of_the_client() {
    let node = Node::with(|command| {
        configure(command);
        command.env("FANFARE_LIMITS_CONNECTIONS_PER_ADDRESS", "2");
        command.env("FANFARE_LIMITS_REQUESTS_PER_SECOND_PER_ADDRESS", "20");
    });
    let open = |client: &str| {
        let mut tcp = proxy(&node);
        let header = format!("PROXY TCP4 {client} 127.0.0.1 1 2\r\n").into_bytes();
        tcp.send([header, tcp::request(&UPGRADE, "")].concat());
        (tcp.response().status, tcp)
    };
    let kept = [open("203.0.113.7"), open("203.0.113.7")];
    assert!(kept.iter().all(|(status, _)| *status == 101));
    assert_eq!(open("203.0.113.7").0, 429);
    assert_eq!(refusals(&node, "address_connections"), 1.0);
    let mut other = open("203.0.113.8");
    assert_eq!(other.0, 101);
    let opened = other.1.take(3, Instant::now() + tcp::PATIENCE).expect("the session opens");
    assert_eq!((opened[0], opened[2]), (0x81, b'0'));
    drop(kept);
    wait_until("there is a place again", || open("203.0.113.7").0 == 101);
    // Those that sent their headers in requests would have another address each time.
    let mut tcp = proxy(&node);
    ask(&mut tcp, "PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n", &[]);
    let is_limited = (0..100).any(|number| {
        let claimed = format!("X-Forwarded-For: 198.51.100.{number}");
        ask(&mut tcp, "", &[&claimed]).status == 429
    });
    assert!(is_limited);
}

#[test]
fn nothing_behind_the_header_is_treated_leniently() {
    let node = Node::with(|command| {
        configure(command);
        command.env("FANFARE_M2_REQUIRE_AUTH", "false");
    });
    let request = [
        "GET /api/realtime/resources/collection/c HTTP/1.1",
        "x-m2-organization: o",
        "x-m2-project: p",
    ];
    let read = |mut tcp: Tcp, header: &[u8]| {
        tcp.send([header, &tcp::request(&request, "")].concat());
        tcp.response().status
    };
    assert_eq!(read(elsewhere(&node), b""), 404, "a direct request needs no credential");
    for header in ["PROXY UNKNOWN\r\n", "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", LINE] {
        assert_eq!(read(proxy(&node), header.as_bytes()), 401, "{header}");
    }
}

#[test]
fn proxies_on_a_unix_socket_send_headers_if_they_are_trusted() {
    let directory = tempfile::tempdir().expect("a directory of the test");
    let path = directory.path().join("node.sock");
    for (trusted, is_trusted) in [("unix", true), ("127.0.0.2", false)] {
        let place = format!(",unix:{}", path.display());
        let node = Node::listening("127.0.0.1", place, move |command| {
            configure(command);
            command.env("FANFARE_PROXY_TRUSTED", trusted);
        });
        let ask = |header: &str| {
            let mut stream = UnixStream::connect(&path).expect("it listens");
            stream.set_read_timeout(Some(tcp::PATIENCE)).expect("the kernel does it");
            let request = tcp::request(&[CHANNELS, "Connection: close"], "");
            stream.write_all(&[header.as_bytes(), &request].concat()).expect("it is read");
            let mut answer = Vec::new();
            // A node that has not read all resets the connection.
            let ended = stream.read_to_end(&mut answer).map_err(|error| error.kind());
            assert!(matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)), "{ended:?}");
            String::from_utf8(answer).expect("it is text")
        };
        let (with, without) = (ask(LINE), ask(""));
        let (served, refused) = if is_trusted { (with, without) } else { (without, with) };
        assert!(served.starts_with("HTTP/1.1 401 "), "{served}");
        assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
        // Without trust, the socket is named for both.
        let (client, times) = if is_trusted { ("203.0.113.7", 1) } else { ("unix", 2) };
        wait_until("the log names the client", || clients(&node, client) == times);
    }
}

#[test]
fn the_setting_needs_proxies() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    crate::support::remove_settings(&mut command);
    let output = command.arg("check").env("FANFARE_PROXY_PROTOCOL", "true").output();
    let output = output.expect("it starts");
    let said = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`proxy.protocol` = true needs `proxy.trusted`"), "{said}");
}
