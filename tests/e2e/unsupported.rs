//! What clients of Socket.IO ask for in vain: the answer and the log name it.

use crate::support::{Node, Response, wait_until};

/// The start of a log line about refused clients.
const REFUSED: &str = "refused clients of Socket.IO: ";
const VERSION: &str = "EIO must be 4: use socket.io-client 3 or 4, or another client of Socket.IO \
                       protocol 5";
const TRANSPORT: &str = "The transports are polling and websocket";
const JSONP: &str = "JSONP is not supported: do not set the client's option forceJSONP, or use \
                     transports: ['websocket']";
const UPGRADE: &str = "A WebSocket needs the headers Connection: Upgrade and Upgrade: websocket; \
                       if the client sends them, a proxy has removed them";

fn get(node: &Node, target: &str) -> Response {
    node.request("GET", target, &[], b"")
}

/// Returns the log lines so far about refused clients, from the advice on.
fn logged(node: &Node) -> Vec<String> {
    let output = node.output();
    let lines = output.lines().filter_map(|line| Some(line.split_once(REFUSED)?.1.to_owned()));
    lines.collect()
}

fn wait_for_lines(node: &Node, expected: &[String]) {
    wait_until("the log names what was asked for", || logged(node).len() >= expected.len());
    assert_eq!(logged(node), expected);
}

#[test]
fn old_versions_and_other_transports_are_named_in_the_answer_and_the_log() {
    let node = Node::start();
    let cases = [
        ("/socket.io/?EIO=3&transport=polling&t=Nx", 5, "Unsupported protocol version", VERSION),
        ("/socket.io/?transport=polling", 5, "Unsupported protocol version", VERSION),
        ("/socket.io/?EIO=4&transport=webtransport", 0, "Transport unknown", TRANSPORT),
        ("/socket.io/?EIO=3&transport=flashsocket", 0, "Transport unknown", TRANSPORT),
        ("/socket.io?EIO=3&transport=polling", 5, "Unsupported protocol version", VERSION),
    ];
    let before = node.metric("fanfare_refusals_total");
    for (target, code, message, details) in cases {
        let response = get(&node, target);
        let expected = serde_json::json!({ "code": code, "message": message, "details": details });
        assert_eq!((response.status, response.json()), (400, expected), "{target}");
    }
    assert_eq!(node.metric("fanfare_refusals_total"), before + cases.len() as u64);
    // One line for each kind, although there were more clients.
    wait_for_lines(
        &node,
        &[
            format!(r#"{VERSION} asked="EIO=3" count=1"#),
            format!(r#"{TRANSPORT} asked="transport=webtransport" count=1"#),
        ],
    );
}

#[test]
fn a_websocket_whose_upgrade_a_proxy_has_removed_is_told_so() {
    let node = Node::start();
    let response = get(&node, "/socket.io/?EIO=4&transport=websocket");
    let expected = serde_json::json!({ "code": 3, "message": "Bad request", "details": UPGRADE });
    assert_eq!((response.status, response.json()), (400, expected));
    wait_for_lines(&node, &[format!(r#"{UPGRADE} asked="transport=websocket" count=1"#)]);
}

#[test]
fn an_old_websocket_is_told_in_plain_text() {
    let node = Node::start();
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let response = node.request("GET", "/socket.io/?EIO=3&transport=websocket", &headers, b"");
    let expected = format!("Unsupported protocol version. {VERSION}");
    assert_eq!((response.status, response.text()), (400, &*expected));
    wait_for_lines(&node, &[format!(r#"{VERSION} asked="EIO=3" count=1"#)]);
}

#[test]
fn jsonp_is_refused_in_a_script_that_its_client_can_run() {
    let node = Node::start();
    let open =
        r#"0{\"sid\":\"refused\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000}"#;
    let new = format!(r#"___eio[7]("{open}\u001e44{{\"message\":\"{JSONP}\"}}");"#);
    let old_error = format!(r#"44\"{VERSION}\""#);
    // The length is that of the packet without the backslashes.
    let length = VERSION.len() + 4;
    let old = format!(r#"___eio[0]("73:{open}{length}:{old_error}");"#);
    for (target, script) in [
        ("/socket.io/?EIO=4&transport=polling&j=7", &new),
        ("/socket.io/?EIO=3&transport=polling&j=0", &old),
    ] {
        let response = get(&node, target);
        assert_eq!((response.status, response.text()), (200, &**script));
        let header = |name| response.header(name);
        assert_eq!(header("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(header("x-content-type-options"), Some("nosniff"));
        assert_eq!(header("cache-control"), Some("no-store"));
    }
    // Whatever is in the parameter, only its digits become code.
    let response = get(&node, "/socket.io/?EIO=4&transport=polling&j=1];alert(2);%2F%2F");
    assert!(response.text().starts_with("___eio[12](\"0"), "{}", response.text());
    let expected = [
        format!(r#"{JSONP} asked="EIO=4" count=1"#),
        format!(r#"{VERSION} asked="EIO=3" count=1"#),
    ];
    wait_for_lines(&node, &expected);
}

#[test]
fn another_path_is_named_in_the_answer_and_the_log() {
    let node = Node::start();
    let advice = "Socket.IO is served at /socket.io/: do not set the client's option path, or let a \
                  proxy rewrite it";
    for path in ["/app/socket.io/", "/", "/api/realtime/", "/socket.iofoo", "/engine.io/"] {
        let response = get(&node, &format!("{path}?EIO=4&transport=polling"));
        let body = response.json();
        assert_eq!((response.status, &body["error"]), (404, &"NOT_FOUND".into()), "{path}");
        assert_eq!(body["message"], format!("No Socket.IO at {path}"));
        assert_eq!(body["nextActions"], advice);
    }
    wait_for_lines(&node, &[format!(r#"{advice} asked="/app/socket.io/" count=1"#)]);
    // Only a client of Socket.IO is told so.
    assert_eq!(get(&node, "/?EIO=4").status, 200);
    assert_eq!(get(&node, "/api/health?transport=polling").status, 200);
}
