//! Tokens of others: keys that are fetched from the address of their issuer, issuers and audiences,
//! and keys that were replaced.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::forge::doors::{administers, enters_insforge};
use crate::reload::{Issuer, check_trust, jwks};
use crate::support::target::unused_port;
use crate::support::{API_KEY, Node, an_hour_from_now, sign, wait_until};

/// How long the keys of an unknown `kid` may take: `JWKS_AGAIN_MS`, and the looks of two threads.
const FETCHED: Duration = Duration::from_secs(25);

/// The address of an issuer, which answers what it is told to, until the test's process ends.
struct Address {
    port: u16,
    answer: Arc<Mutex<String>>,
    asked: Arc<Mutex<usize>>,
}

impl Address {
    fn start(set: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
        let port = listener.local_addr().expect("it has one").port();
        let address = Self { port, answer: Arc::default(), asked: Arc::default() };
        address.tell("200 OK", set);
        let (answer, asked) = (address.answer.clone(), address.asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                *asked.lock().expect("no thread panics") += 1;
                let answer = answer.lock().expect("no thread panics").clone();
                // The node may have gone away.
                let _ = serve(stream, &answer);
            }
        });
        address
    }

    /// Changes what it answers.
    fn tell(&self, status: &str, body: &str) {
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\
             location: http://127.0.0.1:{}/elsewhere\r\n\r\n{body}",
            body.len(),
            self.port
        );
        *self.answer.lock().expect("no thread panics") = answer;
    }

    fn asked(&self) -> usize {
        *self.asked.lock().expect("no thread panics")
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/keys.json", self.port)
    }

    fn node(&self) -> Node {
        node(&[("FANFARE_JWKS_URL", &self.url())])
    }
}

fn serve(stream: TcpStream, answer: &str) -> std::io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    (&stream).write_all(answer.as_bytes())
}

fn node(settings: &[(&str, &str)]) -> Node {
    let settings: Vec<_> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Node::with(move |command| {
        command.envs(settings.iter().map(|(name, value)| (name, value)));
    })
}

fn tokens(issuer: &Issuer) -> (String, String) {
    (issuer.administrator(), issuer.reader())
}

#[test]
fn fetched_keys_are_trusted_and_rotate_when_a_token_names_a_new_one() {
    let old = Issuer::ecdsa("es256_a.key", Some("1"));
    let new = Issuer::ecdsa("es256_b.key", Some("2"));
    let address = Address::start(&jwks(&old));
    let node = address.node();
    check_trust(&node, &tokens(&old), true);
    check_trust(&node, &tokens(&new), false);
    address.tell("200 OK", &jwks(&new));
    let token = new.administrator();
    let end = Instant::now() + FETCHED;
    while !administers(&node, &token) {
        assert!(Instant::now() < end, "the new keys are never fetched: {}", node.output());
        thread::sleep(Duration::from_millis(200));
    }
    wait_until("every thread takes it", || (0..8).all(|_| enters_insforge(&node, &token)));
    check_trust(&node, &tokens(&old), false);
    assert!(address.asked() <= 4, "strangers make it fetch at a bounded rate");
}

#[test]
fn answers_that_cannot_be_used_leave_the_keys_before() {
    let old = Issuer::ecdsa("es256_a.key", Some("1"));
    let new = Issuer::ecdsa("es256_b.key", Some("2"));
    let long = format!("{}{}", jwks(&new), " ".repeat(256 * 1024));
    let cases = [
        ("302 Found", jwks(&new), "it answered 302"),
        ("500 Internal Server Error", jwks(&new), "it answered 500"),
        ("200 OK", long, "its answer is longer than 262144 bytes"),
        ("200 OK", "{\"keys\":[]}".to_owned(), "it has no keys"),
    ];
    let nodes: Vec<_> = cases
        .iter()
        .map(|(status, body, why)| {
            let address = Address::start(&jwks(&old));
            let node = address.node();
            address.tell(status, body);
            assert!(!administers(&node, &new.administrator()), "{why}");
            (node, address, *why)
        })
        .collect();
    let end = Instant::now() + FETCHED;
    for (node, address, why) in &nodes {
        while !node.output().contains(why) {
            assert!(Instant::now() < end, "{why}: {}", node.output());
            thread::sleep(Duration::from_millis(200));
        }
        assert!(administers(node, &old.administrator()), "{why}");
        assert!(!administers(node, &new.administrator()), "{why}");
        assert_eq!(address.asked(), 2, "{why}: it follows no redirect");
    }
}

#[test]
fn a_node_starts_without_its_issuer_and_takes_its_keys_later() {
    let issuer = Issuer::ecdsa("es256_a.key", Some("1"));
    let port = unused_port();
    let url = format!("http://127.0.0.1:{port}/keys.json");
    let node = node(&[("FANFARE_JWKS_URL", &url)]);
    let output = node.output();
    assert!(output.contains("the issuer's keys cannot be fetched"), "{output}");
    assert!(!administers(&node, &issuer.administrator()));
    assert!(administers(&node, API_KEY), "everything else is served");
}

#[test]
fn issuers_audiences_and_refresh_tokens_are_told_apart() {
    let node = node(&[
        ("FANFARE_ISSUERS", "https://a.example/,https://b.example/"),
        ("FANFARE_AUDIENCES", "realtime-app"),
    ]);
    let token = |claims: Value| {
        let mut all = json!({ "sub": "a", "role": "project_admin", "exp": an_hour_from_now() });
        let all = all.as_object_mut().expect("it is an object");
        all.extend(claims.as_object().expect("it is an object").clone());
        sign(&Value::Object(all.clone()))
    };
    let (iss, aud) = ("https://b.example/", "realtime-app");
    assert!(administers(&node, &token(json!({ "iss": iss, "aud": ["x", aud] }))));
    for wrong in [
        json!({ "iss": iss }),
        json!({ "aud": aud }),
        json!({ "iss": "https://c.example/", "aud": aud }),
        json!({ "iss": iss, "aud": aud, "type": "refresh" }),
    ] {
        assert!(!administers(&node, &token(wrong.clone())), "{wrong}");
        assert!(!enters_insforge(&node, &token(wrong.clone())), "{wrong}");
    }
}

#[test]
fn keys_that_were_replaced_count_as_long_as_they_are_listed() {
    let (old, anon) = ("ik_the-key-of-an-earlier-InsForge", "anon_key-in-released-mobile-apps");
    let node = node(&[("FANFARE_PREVIOUS_API_KEYS", old), ("FANFARE_PREVIOUS_ANON_KEYS", anon)]);
    assert!(administers(&node, old) && administers(&node, API_KEY));
    assert!(enters_insforge(&node, anon));
    let without = Node::start();
    assert!(!administers(&without, old) && !enters_insforge(&without, anon));
}
