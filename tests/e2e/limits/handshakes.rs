//! The limit of TLS handshakes that an address begins, also if they never end.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::{due, own_address};
use crate::support::encrypted::{Authority, NAME};
use crate::support::{Node, http, wait_until};
use crate::tcp::{PATIENCE, Tcp};

/// Handshakes that an address may begin in a second.
const RATE: u64 = 4;
/// The record with which the node answers a handshake, and the alert that ends it.
const HANDSHAKE: u8 = 22;
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// A node with certificates, whose administration is on a unix socket.
struct Encrypted {
    node: Node,
    authority: Authority,
    directory: tempfile::TempDir,
}

impl Encrypted {
    /// Starts one behind a proxy that announces its clients, or on all addresses.
    fn start(is_behind_proxy: bool) -> Self {
        let authority = Authority::new();
        let files = authority.pair("node", &[NAME]);
        let directory = tempfile::tempdir().expect("a directory of the test");
        let admin = format!("unix:{}/admin.sock", directory.path().display());
        let configure = move |command: &mut std::process::Command| {
            files.configure(command);
            command.env("FANFARE_ADMIN_LISTEN", &admin);
            let rate = RATE.to_string();
            command.env("FANFARE_LIMITS_TLS_HANDSHAKES_PER_SECOND_PER_ADDRESS", rate);
            if is_behind_proxy {
                command.env("FANFARE_PROXY_PROTOCOL", "true");
                command.env("FANFARE_PROXY_TRUSTED", "127.0.0.1");
            }
        };
        let node = match is_behind_proxy {
            true => Node::with(configure),
            false => Node::on_all_addresses(configure),
        };
        Self { node, authority, directory }
    }

    /// Returns how many handshakes were refused.
    fn refused(&self) -> u64 {
        let socket = self.directory.path().join("admin.sock");
        let metrics = http::request_unix(&socket, "GET", "/metrics", &[], b"");
        let name = "fanfare_refusals_total{reason=\"tls_handshakes\"} ";
        let line = metrics.text().lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|count| count.parse().ok()).expect("it is counted")
    }

    /// Begins a handshake of a client that a PROXY header names, and leaves after the first answer.
    /// Returns whether that is the node's part of the handshake.
    fn begins(&self, header: &str) -> bool {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.node.port()))
            .expect("the node accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        let name = ServerName::try_from(NAME).expect("it is a name");
        let session = ClientConnection::new(self.authority.client(), name);
        let mut bytes = header.as_bytes().to_vec();
        session.expect("it is complete").write_tls(&mut bytes).expect("memory takes it");
        stream.write_all(&bytes).expect("it is read");
        let mut answer = [0; 7];
        let length = match stream.read(&mut answer) {
            Ok(length) => length,
            // What the node has not read may cut off its alert.
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                0
            }
        };
        let is_begun = length > 0 && answer[0] == HANDSHAKE;
        assert!(is_begun || answer[..length] == ALERT[..length], "{answer:?}");
        is_begun
    }
}

fn of_client(client: &str) -> String {
    let family = if client.contains(':') { 6 } else { 4 };
    let node = if family == 6 { "::1" } else { "127.0.0.1" };
    format!("PROXY TCP{family} {client} {node} 1 2\r\n")
}

#[test]
fn an_address_begins_so_many_handshakes_and_others_are_served() {
    let encrypted = Encrypted::start(true);
    let begins = |client: &str| encrypted.begins(&of_client(client));
    for client in ["203.0.113.7", "2001:db8:1:1::a"] {
        let began = Instant::now();
        let served = (0..).take_while(|_| begins(client)).count() as u64;
        let due = due(RATE, began);
        assert!((RATE..=due).contains(&served), "{served} begin, where {due} may");
    }
    assert!(encrypted.refused() >= 2);
    // Meanwhile tokens may have come back.
    assert!((0..20).any(|_| !begins("2001:db8:1:1::b")), "it is in the same network");
    assert!(begins("2001:db8:1:2::a") && begins("203.0.113.8"), "others have rates of their own");
    let counted = encrypted.refused();
    assert!((0..20).all(|_| encrypted.begins("PROXY UNKNOWN\r\n")), "this machine has none");
    assert_eq!(encrypted.refused(), counted);
    wait_until("it may begin again", || begins("203.0.113.7"));
}

#[test]
fn connections_that_send_nothing_count_too() {
    const OPENED: usize = 40;
    let encrypted = Encrypted::start(false);
    let Some(own) = own_address() else {
        return eprintln!("not tested: this machine has no address but loopback");
    };
    let began = Instant::now();
    let mut opened: Vec<_> =
        (0..OPENED).map(|_| Tcp::connect((own, encrypted.node.port()).into())).collect();
    wait_until("all are accepted", || {
        encrypted.refused() as usize + RATE as usize >= OPENED - due(RATE, began) as usize
    });
    let silence = Duration::from_millis(20);
    let open = opened.iter_mut().filter_map(|tcp| tcp.is_silent_for(silence).then_some(())).count();
    let refused = encrypted.refused() as usize;
    assert_eq!(open + refused, OPENED, "each of the others has ended");
    assert!(open as u64 >= RATE && open as u64 <= due(RATE, began), "{open} are open");
}
