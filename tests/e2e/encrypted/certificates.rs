//! Certificates: which one a client receives, and how they are replaced while the node runs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::support::encrypted::{Authority, NAME, Pair};
use crate::support::{Node, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);
const REQUEST: &[u8] = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// An encrypted connection.
struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    fn open(port: u16, name: &'static str, client: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name).expect("it is a name");
        let session = ClientConnection::new(client.clone(), name).expect("the client is complete");
        let mut opened = Self(StreamOwned::new(session, stream));
        opened.ask()?;
        Ok(opened)
    }

    /// Asks for the node's health and reads the answer.
    fn ask(&mut self) -> std::io::Result<()> {
        self.0.write_all(REQUEST)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"}\n") {
            let mut part = [0; 1_024];
            let length = self.0.read(&mut part)?;
            if length == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&part[..length]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{answer:?}");
        Ok(())
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().expect("the node has shown one")[0].clone().into_owned()
    }
}

fn node(pairs: &[&Pair]) -> Node {
    let joined = |path: fn(&Pair) -> &PathBuf| {
        let paths: Vec<_> = pairs.iter().map(|pair| path(pair).display().to_string()).collect();
        paths.join(",")
    };
    let (certs, keys) = (joined(|pair| &pair.cert), joined(|pair| &pair.key));
    Node::with(move |command: &mut Command| {
        command.env("FANFARE_TLS_CERT_FILE", &certs).env("FANFARE_TLS_KEY_FILE", &keys);
    })
}

#[test]
fn each_name_has_its_certificate() {
    let authority = Authority::new();
    let [first, second] = [("one", "one.test"), ("two", "*.two.test")]
        .map(|(file, name)| authority.pair(file, &[name]));
    let node = node(&[&first, &second]);
    let client = authority.client();
    let shown = |name| Connection::open(node.port(), name, &client).map(|one| one.certificate());
    let one = shown("one.test").expect("the name is right");
    let two = shown("a.two.test").expect("the name is right");
    assert!(one != two);
    assert!(shown("three.test").is_err(), "the first certificate has another name");
}

#[test]
fn new_files_are_taken_and_bad_ones_refused_without_a_cut() {
    let authority = Authority::new();
    let pair = authority.pair("node", &[NAME]);
    let node = node(&[&pair]);
    let client = authority.client();
    let open = || Connection::open(node.port(), NAME, &client).expect("it is served");
    let mut old = open();
    let before = old.certificate();
    // A new pair is noticed by itself.
    authority.pair("node", &[NAME]);
    wait_until("the new certificate is shown", || open().certificate() != before);
    old.ask().expect("a connection outlives its certificate");
    let present = open().certificate();
    // A certificate without its key is refused by name, also on SIGHUP.
    let other = authority.pair("other", &[NAME]);
    fs::copy(&other.cert, &pair.cert).expect("it is replaced");
    let said = format!("`tls.key_file`: {}: has the key of another", pair.key.display());
    wait_until("the node says so", || node.output().contains(&said));
    let times = node.output().matches(&said).count();
    node.signal(Signal::HUP);
    wait_until("it says so again", || node.output().matches(&said).count() > times);
    assert!(open().certificate() == present, "the one before stays");
    old.ask().expect("a connection outlives its certificate");
    // With its key it is taken at once.
    fs::copy(&other.key, &pair.key).expect("it is replaced");
    node.signal(Signal::HUP);
    wait_until("the third certificate is shown", || open().certificate() != present);
    assert!(node.output().contains("changed=\"tls.cert_file\""), "{}", node.output());
}

#[test]
fn files_that_go_on_changing_are_taken_too() {
    let authority = Authority::new();
    let pair = authority.pair("node", &[NAME]);
    let node = node(&[&pair]);
    let client = authority.client();
    let shown = || Connection::open(node.port(), NAME, &client).map(|one| one.certificate()).ok();
    let before = shown();
    assert!(before.is_some(), "it is served");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                authority.pair("node", &[NAME]);
                thread::sleep(Duration::from_millis(500));
            }
        });
        wait_until("a newer certificate is shown", || {
            shown().is_some_and(|now| Some(now) != before)
                || node.output().contains("has the key of another")
        });
        is_over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn certificates_are_swapped_under_load() {
    let authority = Authority::new();
    let pair = authority.pair("node", &[NAME]);
    let node = node(&[&pair]);
    let (client, port) = (authority.client(), node.port());
    let is_over = AtomicBool::new(false);
    let mut lasting = Connection::open(port, NAME, &client).expect("it is served");
    let opened: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !is_over.load(Ordering::SeqCst) {
                        Connection::open(port, NAME, &client).expect("each client is served");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for _ in 0..30 {
            authority.pair("node", &[NAME]);
            node.signal(Signal::HUP);
            lasting.ask().expect("a connection outlives its certificate");
            thread::sleep(Duration::from_millis(100));
        }
        is_over.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().expect("it is served")).sum()
    });
    assert!(opened > 0);
    let taken = node.output().matches("changed=\"tls.cert_file\"").count();
    assert!(taken > 5, "{taken} of 30 were taken");
}
