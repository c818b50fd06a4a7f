//! The Socket.IO client's own files, served as the stock server does.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Node, repository, wait_until};

const NAMES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];
/// The version in `tests/clients/package.json`.
const ETAG: &str = "\"4.8.4\"";

fn dist(package: &str) -> PathBuf {
    repository("tests/clients/node_modules").join(package).join("dist")
}

/// Starts a node that serves the files of the newest client.
pub(crate) fn serving() -> Node {
    Node::with(|command| {
        command.env("FANFARE_ENGINE_IO_CLIENT_DIR", dist("socket.io-client"));
    })
}

fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut command = Command::new("gzip");
    command.args(["--decompress", "--stdout"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("gzip is installed");
    let mut input = child.stdin.take().expect("it is piped");
    let gzip = gzip.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&gzip));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads all");
    assert!(output.status.success());
    output.stdout
}

#[test]
fn each_file_is_served_with_its_type_and_the_version() {
    let node = serving();
    wait_until("the log says what is served", || {
        node.output().contains(r#"serving the Socket.IO client version="4.8.4" files=8"#)
    });
    for name in NAMES {
        let path = format!("/socket.io/{name}");
        let content = std::fs::read(dist("socket.io-client").join(name)).expect("it is installed");
        let media_type = match name.ends_with(".map") {
            true => "application/json; charset=utf-8",
            false => "application/javascript; charset=utf-8",
        };
        for (accepted, coding) in [("identity", None), ("gzip, deflate, br", Some("gzip"))] {
            let headers = [("accept-encoding", accepted), ("origin", "https://page.example")];
            for target in [path.clone(), format!("{path}?v=1")] {
                let response = node.request("GET", &target, &headers, b"");
                let header = |name| response.header(name);
                assert_eq!(response.status, 200, "{target}");
                assert_eq!(header("content-type"), Some(media_type));
                assert_eq!(header("etag"), Some(ETAG));
                assert_eq!(header("cache-control"), Some("public, max-age=0"));
                assert_eq!(header("access-control-allow-origin"), Some("https://page.example"));
                assert_eq!(header("content-encoding"), coding);
                let varies = response.headers.iter().filter(|(name, _)| name == "Vary");
                assert!(varies.clone().any(|(_, value)| value == "Accept-Encoding"));
                let body = match coding {
                    Some(_) => unpacked(&response.body),
                    None => response.body,
                };
                assert!(body == content, "{target} with {accepted}");
            }
        }
    }
}

#[test]
fn a_version_that_the_browser_has_is_not_sent_again() {
    let node = serving();
    let path = "/socket.io/socket.io.min.js";
    let weak = format!("W/{ETAG}");
    for known in [ETAG, &weak] {
        let response = node.request("GET", path, &[("if-none-match", known)], b"");
        assert_eq!((response.status, response.body.len()), (304, 0));
        assert_eq!(response.header("etag"), Some(ETAG));
        assert_eq!(response.header("cache-control"), Some("public, max-age=0"));
    }
    assert_eq!(node.request("GET", path, &[("if-none-match", "\"4.8.3\"")], b"").status, 200);
}

#[test]
fn a_head_request_gets_the_length_and_other_methods_are_refused() {
    let node = serving();
    let path = "/socket.io/socket.io.js";
    let length = std::fs::metadata(dist("socket.io-client").join("socket.io.js")).unwrap().len();
    let mut tcp = crate::tcp::Tcp::connect(([127, 0, 0, 1], node.port()).into());
    tcp.send(crate::tcp::request(&[&format!("HEAD {path} HTTP/1.1")], ""));
    let head = tcp.response_to("HEAD");
    assert_eq!((head.status, head.header("etag")), (200, Some(ETAG)));
    assert_eq!(head.header("content-length"), Some(&*length.to_string()));
    let refused = node.request("POST", path, &[], b"");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_file_that_is_not_there_is_answered_with_the_setting() {
    let unset = Node::start();
    let older = Node::with(|command| {
        command.env("FANFARE_ENGINE_IO_CLIENT_DIR", dist("socket.io-client-4.0"));
    });
    let cases = [
        (&unset, "socket.io.js", "Set engine_io.client_dir to the folder `dist`"),
        (&unset, "socket.io.js.map", "Set engine_io.client_dir to the folder `dist`"),
        (&unset, "socket.io.slim.js", "Set engine_io.client_dir to the folder `dist`"),
        // Socket.IO 4.0 has no module yet.
        (&older, "socket.io.esm.min.js", "The folder of engine_io.client_dir has no such file"),
        (&older, "../package.js", "The folder of engine_io.client_dir has no such file"),
    ];
    for (node, name, advice) in cases {
        let response = node.request("GET", &format!("/socket.io/{name}"), &[], b"");
        let body = response.json();
        assert_eq!((response.status, &body["error"]), (404, &"NOT_FOUND".into()), "{name}");
        assert_eq!(body["message"], format!("No client file at /socket.io/{name}"));
        let next = body["nextActions"].as_str().expect("a text");
        assert!(next.starts_with(advice), "{name}: {next}");
    }
    let found = older.request("GET", "/socket.io/socket.io.js", &[], b"");
    assert_eq!((found.status, found.header("etag")), (200, Some("\"4.0.2\"")));
}
