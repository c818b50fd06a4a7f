//! SIGHUP: what a running node takes from its configuration and its files of keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::forge::doors::{administers, enters_insforge};
use crate::log::be_refused;
use crate::m2::app::ORGANIZATION;
use crate::m2::readers::shown;
use crate::socket::{Heard, Socket};
use crate::support::nats::Nats;
use crate::support::{
    ANON_KEY, API_KEY, JWT_SECRET, Node, an_hour_from_now, repository, wait_until,
};

const CHANNEL: &str = "orders";
const TICK: &str = "tick";
const FAILURE: &str = "not reloaded; the settings before it stay in effect";

/// A directory with a configuration file and what it names.
struct Place(TempDir);

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().expect("a directory of the test"));
        for (name, text) in files {
            place.write(name, text);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces a file as operators do: whole, by renaming another one.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path("draft"), text).expect("it can be written");
        fs::rename(self.path("draft"), self.path(name)).expect("it can be renamed");
    }

    /// Starts a node in this directory with the file `fanfare.toml`.
    fn start(&self) -> Node {
        self.start_with(|_| {})
    }

    fn start_with(&self, configure: impl Fn(&mut Command) + Send + Sync + 'static) -> Node {
        let dir = self.0.path().to_owned();
        Node::with(move |command| {
            command.current_dir(&dir).args(["--config", "fanfare.toml"]);
            configure(command);
        })
    }
}

fn testdata(name: &str) -> Vec<u8> {
    fs::read(path_of(name)).expect("the file is there")
}

fn path_of(name: &str) -> PathBuf {
    repository(&format!("src/auth/testdata/{name}"))
}

fn text_of(name: &str) -> String {
    String::from_utf8(testdata(name)).expect("it is text")
}

/// Asks for a reload and waits until the log says how it went. Returns the lines since.
fn reload(node: &Node) -> String {
    reload_until(node, |lines| lines.contains(" reloaded") || lines.contains(FAILURE))
}

/// Asks for a reload and waits until the whole lines of the log since satisfy `is_told`. Returns
/// them.
fn reload_until(node: &Node, is_told: impl Fn(&str) -> bool) -> String {
    let before = node.output().len();
    let lines = || {
        let output = node.output();
        let since = output.get(before..).unwrap_or_default();
        since.rfind('\n').map_or_else(String::new, |end| since[..=end].to_owned())
    };
    node.signal(Signal::HUP);
    wait_until("the log says how the reload went", || is_told(&lines()));
    lines()
}

/// A key of an issuer, which signs tokens for all interfaces.
pub(crate) struct Issuer {
    key: EncodingKey,
    header: Header,
}

impl Issuer {
    pub(crate) fn ecdsa(name: &str, kid: Option<&str>) -> Self {
        let key = EncodingKey::from_ec_pem(&testdata(name)).expect("it is a key");
        let header = Header { kid: kid.map(Into::into), ..Header::new(Algorithm::ES256) };
        Self { key, header }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        jsonwebtoken::encode(&self.header, claims, &self.key).expect("claims are JSON")
    }

    pub(crate) fn administrator(&self) -> String {
        self.sign(&json!({ "sub": "a", "role": "project_admin", "exp": an_hour_from_now() }))
    }

    pub(crate) fn reader(&self) -> String {
        let exp = an_hour_from_now();
        self.sign(&json!({ "user_id": "u", "organization_id": ORGANIZATION, "exp": exp }))
    }
}

/// Checks that every interface and every thread accepts or refuses the issuer's tokens. Each is
/// presented often enough that all workers meet it.
pub(crate) fn check_trust(
    node: &Node,
    (administrator, reader): &(String, String),
    is_trusted: bool,
) {
    for _ in 0..8 {
        assert_eq!(administers(node, administrator), is_trusted);
        assert_eq!(enters_insforge(node, administrator), is_trusted);
        let bearer = format!("Bearer {reader}");
        let status = if is_trusted { 101 } else { 401 };
        assert_eq!(shown(node, &[("authorization", &bearer)]), status);
    }
}

/// Checks that after a rotation of keys the new key is trusted and the old one is not, even if its
/// tokens were verified before, and that connections live on.
fn check_rotation(node: &Node, [old, new]: [&Issuer; 2], rotate: impl FnOnce(), file: &str) {
    node.create_channel(CHANNEL);
    let [old, new] = [old, new].map(|issuer| (issuer.administrator(), issuer.reader()));
    check_trust(node, &old, true);
    check_trust(node, &new, false);
    let mut socket = Socket::connect(node.port(), &old.0);
    socket.subscribe(CHANNEL);
    rotate();
    check_trust(node, &old, true);
    let lines = reload(node);
    assert!(lines.contains(&format!("changed=\"{file}\"")), "{lines}");
    check_trust(node, &new, true);
    check_trust(node, &old, false);
    // A live connection outlives its token's key as it outlives the token.
    node.publish(CHANNEL, TICK, &json!({}));
    loop {
        match socket.hear() {
            Heard::Event(event) if event.is_named(TICK) => break,
            Heard::Event(_) => {}
            heard => panic!("unexpected: {heard:?}"),
        }
    }
    let lines = reload(node);
    assert!(lines.contains("changed=\"nothing\""), "{lines}");
}

const BOTH: [&str; 2] = ["es256_a", "es256_b"];

#[test]
fn a_rotated_file_of_public_keys_is_taken() {
    let place = Place::new(&[
        ("fanfare.toml", "[auth]\npublic_keys_file = 'k.pem'"),
        ("k.pem", &text_of("es256_a.pem")),
    ]);
    let node = place.start();
    let [old, new] = BOTH.map(|name| Issuer::ecdsa(&format!("{name}.key"), None));
    let rotate = || place.write("k.pem", &text_of("es256_b.pem"));
    check_rotation(&node, [&old, &new], rotate, "auth.public_keys_file");
}

#[test]
fn a_rotated_jwk_set_is_taken() {
    let old = Issuer::ecdsa("es256_a.key", Some("1"));
    let new = Issuer::ecdsa("es256_b.key", Some("2"));
    let place = Place::new(&[("set.json", &jwks(&old)), ("fanfare.toml", "")]);
    let node = place.start_with(|command| {
        command.env("FANFARE_JWKS_FILE", "set.json");
    });
    let rotate = || place.write("set.json", &jwks(&new));
    check_rotation(&node, [&old, &new], rotate, "auth.jwks_file");
}

/// Returns a JWK set with the public key of an issuer.
pub(crate) fn jwks(issuer: &Issuer) -> String {
    let mut key = Jwk::from_encoding_key(&issuer.key, Algorithm::ES256).expect("it has one");
    key.common.key_id = issuer.header.kid.clone();
    serde_json::to_string(&JwkSet { keys: vec![key] }).expect("it is JSON")
}

#[test]
fn a_file_of_keys_that_is_added_or_removed_is_taken() {
    let place = Place::new(&[("k.pem", &text_of("es256_a.pem")), ("fanfare.toml", "")]);
    let node = place.start();
    let issuer = Issuer::ecdsa("es256_a.key", None);
    let tokens = (issuer.administrator(), issuer.reader());
    check_trust(&node, &tokens, false);
    place.write("fanfare.toml", "[auth]\npublic_keys_file = 'k.pem'");
    assert!(reload(&node).contains("changed=\"auth.public_keys_file\""));
    check_trust(&node, &tokens, true);
    place.write("fanfare.toml", "");
    assert!(reload(&node).contains("changed=\"auth.public_keys_file\""));
    check_trust(&node, &tokens, false);
}

#[test]
fn a_reload_with_a_mistake_changes_nothing() {
    let good = "log = 'info'\n[auth]\npublic_keys_file = 'k.pem'";
    let pem = text_of("es256_a.pem");
    let place = Place::new(&[("fanfare.toml", good), ("k.pem", &pem)]);
    let node = place.start();
    let issuer = Issuer::ecdsa("es256_a.key", None);
    let tokens = (issuer.administrator(), issuer.reader());
    check_trust(&node, &tokens, true);
    let more = good.replace("info", "debug");
    let other = text_of("es256_b.pem");
    for (config, keys, mistakes) in [
        (good, "no key", &["fanfare.toml:3: `auth.public_keys_file`: k.pem:"][..]),
        (&more, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", &["k.pem:"]),
        (
            "log = 'loud'\n[auth]\npublic_key_file = 'k.pem'",
            &other,
            &[
                "fanfare.toml:1: `log` must be",
                "fanfare.toml:3: unknown key `auth.public_key_file`",
            ],
        ),
        ("log = ", &other, &["fanfare.toml:1: not valid TOML"]),
        ("[auth]\njwks_file = 'missing.json'", &other, &["missing.json: cannot be read"]),
    ] {
        place.write("fanfare.toml", config);
        place.write("k.pem", keys);
        // Each mistake has a line of its own.
        reload_until(&node, |lines| {
            let is_named = |line: &str, it: &str| line.contains(FAILURE) && line.contains(it);
            mistakes.iter().all(|it| lines.lines().any(|line| is_named(line, it)))
        });
        check_trust(&node, &tokens, true);
        assert!(!node.output().contains("DEBUG"), "the level is as before");
    }
    fs::remove_file(place.path("fanfare.toml")).expect("it is there");
    let lines = reload(&node);
    assert!(lines.contains("argument --config: fanfare.toml: cannot be read"), "{lines}");
    check_trust(&node, &tokens, true);
    place.write("fanfare.toml", good);
    place.write("k.pem", &pem);
    let lines = reload(&node);
    assert!(lines.contains("changed=\"nothing\""), "{lines}");
}

#[test]
fn the_level_of_the_log_is_taken() {
    let place = Place::new(&[("fanfare.toml", "log = 'info'")]);
    let node = place.start();
    let refused = |node: &Node| {
        be_refused(node, 1);
        node.output().matches("DEBUG").count()
    };
    assert_eq!(refused(&node), 0);
    place.write("fanfare.toml", "log = 'debug'");
    assert!(reload(&node).contains("changed=\"log\""));
    wait_until("refusals are logged", || refused(&node) > 0);
    place.write("fanfare.toml", "log = 'warn'");
    assert!(reload(&node).contains("changed=\"log\""));
    let before = refused(&node);
    assert_eq!(refused(&node), before);
}

#[test]
fn settings_that_need_a_restart_are_named() {
    let place = Place::new(&[("fanfare.toml", "")]);
    let node = place.start();
    place.write("fanfare.toml", "drain_ms = 1\n[m2]\nnotify_deletes = false");
    let lines = reload(&node);
    let named = "settings=\"drain_ms, m2.notify_deletes\"";
    assert!(lines.contains("changed=\"nothing\""), "{lines}");
    wait_until("they are named", || node.output().contains(named));
    let line = node.output().lines().find(|line| line.contains(named)).map(str::to_owned);
    assert!(line.is_some_and(|line| line.contains("WARN") && line.contains("need a restart")));
}

#[test]
fn keys_are_taken_and_the_secret_of_tokens_is_not() {
    let keys = |api: &str, anon: &str, secret: &str| {
        format!("[auth]\napi_key = '{api}'\nanon_key = '{anon}'\njwt_secret = '{secret}'\n")
    };
    let other = |key: &str| key.replace("00", "11");
    let place = Place::new(&[("fanfare.toml", &keys(API_KEY, ANON_KEY, JWT_SECRET))]);
    let node = place.start_with(|command| {
        for name in ["FANFARE_API_KEY", "FANFARE_ANON_KEY", "FANFARE_JWT_SECRET"] {
            command.env_remove(name);
        }
    });
    check_keys(&node, [API_KEY, ANON_KEY], true);
    let (api, anon) = (other(API_KEY), other(ANON_KEY));
    place.write("fanfare.toml", &keys(&api, &anon, &"x".repeat(64)));
    let lines = reload(&node);
    assert!(lines.contains("changed=\"auth.api_key, auth.anon_key\""), "{lines}");
    wait_until("it is named", || node.output().contains("settings=\"auth.jwt_secret\""));
    check_keys(&node, [API_KEY, ANON_KEY], false);
    check_keys(&node, [&api, &anon], true);
    assert!(enters_insforge(&node, &crate::support::user_token("u")), "the secret is the same");
    assert!(![&api, &anon].iter().any(|key| node.output().contains(*key)), "no key is logged");
}

/// Nodes that are started with the new key of a cluster's other nodes find that they have the same.
#[test]
fn a_cluster_learns_of_a_key_that_a_node_has_taken() {
    let nats = Nats::one();
    let keys = |api: &str| format!("[auth]\napi_key = '{api}'\n");
    let newer = API_KEY.replace("00", "11");
    let place = Place::new(&[("fanfare.toml", &keys(API_KEY))]);
    let start = |name: &'static str| {
        let url = nats.url();
        let node = place.start_with(move |command| {
            command.env_remove("FANFARE_API_KEY").env("FANFARE_CLUSTER_NATS", &url);
            command.env("FANFARE_CLUSTER_NODE", name);
        });
        // A node that has yet to join answers 200 and `degraded`.
        let health = || node.request("GET", "/api/health", &[], b"").json()["status"].clone();
        let serves = || health() == "ok";
        wait_until("the node is part of the cluster", serves);
        node
    };
    let first = start("n1");
    place.write("fanfare.toml", &keys(&newer));
    let lines = reload(&first);
    assert!(lines.contains("changed=\"auth.api_key\""), "{lines}");
    let second = start("n2");
    assert!([&first, &second].into_iter().all(|node| administers(node, &newer)));
}

/// Keys that the node made itself are read again from its data directory.
#[test]
fn the_file_of_keys_that_a_node_made_is_read_again() {
    let place = Place::new(&[("fanfare.toml", "")]);
    let node = place.start_with(|command| {
        command.env_remove("FANFARE_API_KEY");
    });
    let path = node.data_dir().join("keys.toml");
    let made = fs::read_to_string(&path).expect("the node made it");
    let key = made.lines().find_map(|line| line.strip_prefix("api_key = \"")?.strip_suffix('"'));
    let (key, old) = (key.expect("it is there").to_owned(), Path::new(&path));
    check_keys(&node, [&key, ANON_KEY], true);
    fs::write(old, made.replace(&key, API_KEY)).expect("it can be written");
    let lines = reload(&node);
    assert!(lines.contains("changed=\"auth.api_key\""), "{lines}");
    check_keys(&node, [API_KEY, ANON_KEY], true);
    assert!(!administers(&node, &key));
}

fn check_keys(node: &Node, [api_key, anon_key]: [&str; 2], are_good: bool) {
    for _ in 0..8 {
        assert_eq!(administers(node, api_key), are_good);
        assert_eq!(enters_insforge(node, anon_key), are_good);
    }
}
