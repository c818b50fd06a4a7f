//! The places where a node listens: several addresses, both families, and unix sockets.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Node, http, remove_settings, wait_until};

fn ask_unix(path: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_unix_socket_has_its_permissions_and_is_replaced_after_a_kill() {
    let directory = tempfile::tempdir().expect("a directory of the test");
    let path = directory.path().join("node.sock");
    let place = format!("unix:{}", path.display());
    let mut node = Node::listening("127.0.0.1", format!(",{place}"), |command| {
        command.env("FANFARE_LISTEN_MODE", "600");
    });
    for _ in 0..2 {
        assert!(ask_unix(&path).expect("it listens").starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(node.request("GET", "/api/health", &[], b"").status, 200);
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        node.kill();
        assert!(ask_unix(&path).is_err() && path.exists(), "the kernel leaves it");
        node.restart();
    }
    // Another node does not take it away.
    let mut other = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    remove_settings(&mut other);
    other.args(["serve", "--listen", &place, "--data-dir"]).arg(directory.path().join("other"));
    let output = other.output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("it is text");
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&format!("cannot listen on {place}")), "{said}");
    assert!(ask_unix(&path).is_ok());
    node.signal(Signal::TERM);
    assert!(node.exit_status(Duration::from_secs(30)).success());
    assert!(!path.exists(), "a node that stops removes it");
}

#[test]
fn a_path_that_cannot_be_had_is_refused_at_once_with_the_reason() {
    let directory = tempfile::tempdir().expect("a directory of the test");
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "").expect("it is written");
    // A process that accepts nothing, and whose queue is full.
    let full = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
    let full = full.expect("a socket");
    let address = socket2::SockAddr::unix(at("full")).expect("it is short");
    full.bind(&address).and_then(|()| full.listen(0)).expect("it listens");
    let client = || {
        let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        client.and_then(|client| client.set_nonblocking(true).map(|()| client)).expect("a socket")
    };
    let clients: Vec<_> = (0..10).map(|_| client()).collect();
    let queued = clients.iter().filter(|client| client.connect(&address).is_ok()).count();
    assert!(queued < clients.len(), "the queue has an end");
    let missing = format!("the directory {} does not exist", at("none").display());
    for (name, why) in [
        ("full", "address in use"),
        ("file", "there is a file that is not a socket"),
        ("none/node.sock", &missing),
    ] {
        let place = format!("unix:{}", at(name).display());
        let mut node = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        remove_settings(&mut node);
        node.args(["serve", "--listen", &place, "--data-dir"]).arg(at("data"));
        let mut node = node.stderr(Stdio::piped()).spawn().expect("it runs");
        let mut code = None;
        wait_until("it ends", || {
            code = node.try_wait().expect("it is a child");
            code.is_some()
        });
        let mut said = String::new();
        node.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
        assert_eq!(code.and_then(|status| status.code()), Some(1), "{said}");
        assert!(said.contains(&format!("cannot listen on {place}: {why}")), "{said}");
    }
}

#[test]
fn the_unspecified_address_of_ipv6_stands_for_both_families() {
    let node = Node::listening("[::]", String::new(), |_| {});
    assert_eq!(http::request(node.port(), "GET", "/api/health", &[], b"").status, 200);
    TcpStream::connect((Ipv6Addr::LOCALHOST, node.port())).expect("IPv6 is served");
    TcpStream::connect((Ipv4Addr::LOCALHOST, node.port())).expect("IPv4 is served");
}
