//! `admin.listen`: administration has listeners of its own, and the public ones do not have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ear::{CHANNEL, TICK};
use crate::socket::Socket;
use crate::support::{ANON_KEY, API_KEY, Node, Response, http, remove_settings, wait_until};

/// A node whose administration is on a unix socket.
struct Apart {
    node: Node,
    admin: PathBuf,
    _directory: TempDir,
}

impl Apart {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory of the test");
        let admin = directory.path().join("admin.sock");
        let place = format!("unix:{}, 127.0.0.1:0", admin.display());
        let node = Node::with(move |command| {
            command.env("FANFARE_ADMIN_LISTEN", &place);
        });
        Self { node, admin, _directory: directory }
    }

    fn admin(&self, method: &str, path: &str, body: &Value) -> Response {
        ask_admin(&self.admin, method, path, body)
    }
}

fn ask_admin(socket: &Path, method: &str, path: &str, body: &Value) -> Response {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    http::request_unix(socket, method, path, &HEADERS, &bytes)
}

const HEADERS: [(&str, &str); 3] =
    [("x-api-key", API_KEY), ("x-m2-organization", "o"), ("x-m2-project", "p")];
const ID: &str = "/api/realtime/channels/550e8400-e29b-41d4-a716-446655440000";

/// Every route of the node, and whether it is administration.
const ROUTES: [(&str, &str, bool); 54] = [
    ("GET", "/metrics", true),
    ("POST", "/metrics", true),
    ("GET", "/api/realtime/channels", true),
    ("GET", "/api/realtime/channels/", true),
    ("POST", "/api/realtime/channels", true),
    ("PATCH", "/api/realtime/channels", true),
    ("GET", ID, true),
    ("PUT", ID, true),
    ("DELETE", ID, true),
    ("POST", ID, true),
    ("GET", "/api/realtime/channels/x", true),
    ("GET", "/api/realtime/permissions", true),
    ("PUT", "/api/realtime/permissions", true),
    ("DELETE", "/api/realtime/permissions", true),
    ("DELETE", "/api/realtime/messages", true),
    ("DELETE", "/api/realtime/messages/?channel=a", true),
    ("GET", "/api/realtime/messages/stats", true),
    ("POST", "/api/realtime/messages/stats", true),
    ("GET", "/api/realtime/config", true),
    ("PATCH", "/api/realtime/config", true),
    ("GET", "/api/metadata/realtime", true),
    ("PUT", "/admin/v1/invocations/a", true),
    ("DELETE", "/admin/v1/invocations/a", true),
    ("GET", "/admin/v1/invocations/a", true),
    ("GET", "/admin/", true),
    ("POST", "/api/realtime/messages", false),
    ("GET", "/api/realtime/messages", false),
    ("PUT", "/api/realtime/messages", false),
    ("GET", "/", false),
    ("POST", "/", false),
    ("GET", "/api/health", false),
    ("POST", "/api/health", false),
    ("GET", "/api/health/live", false),
    ("GET", "/api/realtime/status", false),
    ("GET", "/api/realtime/", false),
    ("PUT", "/api/realtime/resources/collection/c", false),
    ("GET", "/api/realtime/resources/collection/c", false),
    ("DELETE", "/api/realtime/resources/collection/c", false),
    ("GET", "/api/realtime/events", false),
    ("GET", "/api/realtime/events?channel=a&token=x", false),
    ("POST", "/forge/realtime/v1/publish", false),
    ("POST", "/forge/realtime/v1/publish/global", false),
    ("POST", "/forge/realtime/v1/token", false),
    ("GET", "/forge/realtime/v1/ws", false),
    ("GET", "/forge/realtime/v1/client.js", false),
    ("GET", "/forge/realtime/v1/server.d.ts", false),
    ("GET", "/socket.io/?EIO=4&transport=polling", false),
    ("POST", "/socket.io/?EIO=4&transport=polling", false),
    ("GET", "/socket.io/?EIO=4&transport=websocket", false),
    ("GET", "/socket.io/socket.io.js", false),
    ("GET", "/engine.io/", false),
    ("OPTIONS", "/metrics", false),
    ("OPTIONS", "/api/realtime/channels", false),
    ("GET", "/api/nothing", false),
];

#[test]
fn every_route_is_where_it_belongs() {
    let (apart, all) = (Apart::start(), Node::start());
    for (method, path, is_administration) in ROUTES {
        let expected = all.request(method, path, &HEADERS, b"").status;
        let public = apart.node.request(method, path, &HEADERS, b"");
        let admin = apart.admin(method, path, &Value::Null);
        assert_eq!(admin.status, expected, "{method} {path} for administration");
        if !is_administration {
            assert_eq!(public.status, expected, "{method} {path} for everybody");
            continue;
        }
        assert_eq!(public.status, 404, "{method} {path} for everybody");
        assert!(public.header("allow").is_none(), "{method} {path}");
        // A caller without a key is told the same.
        let refused = apart.node.request(method, path, &[], b"");
        assert_eq!((refused.status, &refused.body), (404, &public.body), "{method} {path}");
        let nothing = apart.node.request("GET", "/api/nothing", &[], b"").text().to_owned();
        let path = path.split('?').next().expect("there is a path");
        assert_eq!(refused.text(), nothing.replace("/api/nothing", path), "{method} {path}");
    }
}

/// Methods that a 405 may name, and one that no path takes.
const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"];

#[test]
fn a_refused_method_is_told_those_that_are_served_there() {
    let (apart, all) = (Apart::start(), Node::start());
    let status = |node: &Node, method: &str, path: &str| {
        let answer = node.request(method, path, &[], b"");
        (answer.status, answer.header("allow").map(str::to_owned))
    };
    let mut told = 0;
    for (_, path, _) in ROUTES {
        let refused = METHODS.iter().map(|method| (*method, status(&apart.node, method, path)));
        for (method, (_, allow)) in refused.filter(|(_, (status, _))| *status == 405) {
            let allow = allow.unwrap_or_else(|| panic!("{method} {path} names no other"));
            // An answer to HEAD has no body, which the client of this test expects.
            for allowed in allow.split(", ").filter(|allowed| *allowed != "HEAD") {
                let (served, _) = status(&apart.node, allowed, path);
                assert_ne!(served, 405, "{path} names {allowed}");
                let (expected, _) = status(&all, allowed, path);
                assert_eq!(served, expected, "{path} names {allowed}");
            }
            told += 1;
        }
    }
    assert!(told >= 20, "only {told} were refused");
    let path = "/api/realtime/messages";
    let named = |node: &Node| status(node, "PUT", path);
    assert_eq!(named(&apart.node), (405, Some("GET, HEAD, POST".to_owned())));
    assert_eq!(named(&all), (405, Some("GET, HEAD, POST, DELETE".to_owned())));
    let admin = apart.admin("PUT", path, &Value::Null);
    assert_eq!(admin.header("allow"), Some("GET, HEAD, POST, DELETE"));
}

#[test]
fn clients_and_publishers_are_served_in_both_places() {
    let apart = Apart::start();
    let created = apart.admin("POST", "/api/realtime/channels", &json!({ "pattern": CHANNEL }));
    assert_eq!(created.status, 201);
    let mut socket = Socket::connect(apart.node.port(), ANON_KEY);
    socket.subscribe(CHANNEL);
    let publication = json!({ "channel": CHANNEL, "event": TICK, "payload": { "number": 1 } });
    for number in 1..=2 {
        let sent = match number {
            1 => apart.node.publish(CHANNEL, TICK, &json!({ "number": 1 })),
            _ => apart.admin("POST", "/api/realtime/messages", &publication).json(),
        };
        assert_eq!(sent["audience"]["total"], 1, "{sent}");
        assert!(socket.hear_event().is_named(TICK));
    }
    let metrics = apart.admin("GET", "/metrics", &Value::Null);
    assert!(metrics.text().contains("fanfare_build_info"));
    for (page, has_metrics) in [
        (apart.node.request("GET", "/", &[], b""), false),
        (apart.admin("GET", "/", &Value::Null), true),
    ] {
        assert_eq!(page.text().contains("/metrics"), has_metrics);
    }
    // The second place of administration is announced.
    assert!(apart.node.output().contains("  admin    unix:/"), "{}", apart.node.output());
}

#[test]
fn health_has_its_reasons_for_administration_only() {
    let apart = Apart::start();
    let store = rusqlite::Connection::open(apart.node.data_dir().join("fanfare.db"));
    let store = store.expect("it can be shared");
    let health = |answer: Response| (answer.status, answer.json());
    for path in ["/api/health", "/api/realtime/status"] {
        store.execute_batch("BEGIN IMMEDIATE").expect("nobody else has it");
        let socket = &apart.admin;
        std::thread::scope(|scope| {
            let body = json!({ "pattern": path.replace('/', "-") });
            let created = scope
                .spawn(move || ask_admin(socket, "POST", "/api/realtime/channels", &body).status);
            wait_until("the store is found locked", || {
                apart.admin("GET", path, &Value::Null).status == 503
            });
            let (status, body) = health(apart.admin("GET", path, &Value::Null));
            assert_eq!(
                (status, body["problems"].as_array().map(Vec::len)),
                (503, Some(1)),
                "{body}"
            );
            let (status, body) = health(apart.node.request("GET", path, &[], b""));
            assert_eq!((status, body.get("problems")), (503, None), "{body}");
            store.execute_batch("COMMIT").expect("it can be let go");
            let created = created.join().expect("it is answered");
            assert!(created == 201 || created == 503, "{created}");
        });
        wait_until("the store works again", || {
            apart.admin("GET", path, &Value::Null).status == 200
        });
    }
}

#[test]
fn a_place_in_both_lists_is_a_mistake_and_exposure_counts_in_both() {
    let directory = tempfile::tempdir().expect("a directory of the test");
    let file = directory.path().join("fanfare.toml");
    let check = |toml: &str| {
        fs::write(&file, toml).expect("it is written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        remove_settings(&mut command);
        let output = command.args(["check", "--config"]).arg(&file).output().expect("it runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("it is text"))
    };
    let (code, said) = check("admin.listen = [\"127.0.0.1:7131\", \"127.0.0.1:7130\"]");
    assert_eq!(code, Some(2));
    assert!(said.contains(":1: `admin.listen` has 127.0.0.1:7130, which is in `listen`"), "{said}");
    let (code, said) = check("m2.require_auth = false\nadmin.listen = \"0.0.0.0:7131\"");
    assert_eq!(code, Some(2));
    assert!(said.contains("refused on 0.0.0.0:7131"), "{said}");
    assert_eq!(check("listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"").0, Some(0));
}
