//! `cors.allowed_origins`: which pages may use the node, on every path and transport.

use std::fs;
use std::net::Ipv4Addr;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{ANON_KEY, API_KEY, Node, wait_until};
use crate::tcp::{self, Response, Tcp};

const NAMED: &str = "https://app.example.com";
const WILD: &str = "https://blue.example.org:8443";
const FOREIGN: [&str; 6] = [
    "https://app.example.com.evil.org",
    "http://app.example.com",
    "https://example.org:8443",
    "https://a.blue.example.org:8443",
    "null",
    "",
];
const LIST: &str = "https://app.example.com, https://*.example.org:8443";
const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const FOREIGN_BODY: &str = r#"{"error":"FORBIDDEN","message":"Pages of this origin may not use this node","statusCode":403,"nextActions":"The setting cors.allowed_origins of the node lists those that may"}"#;
const ENGINE_BODY: &str = r#"{"code":4,"message":"Forbidden"}"#;
const WEBSOCKET: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

fn strict() -> Node {
    let node = Node::with_env(&[
        ("FANFARE_CORS_ALLOWED_ORIGINS", LIST),
        ("FANFARE_M2_REQUIRE_AUTH", "false"),
        ("FANFARE_LOG", "debug"),
    ]);
    node.create_channel("orders");
    node
}

/// Sends a request by its line, with these lines of headers, on a connection of its own. Returns
/// the head and, unless the connection becomes a stream, the body of the answer.
fn ask(node: &Node, line: &str, headers: &[&str], body: &str) -> Response {
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
    let line_of_request = format!("{line} HTTP/1.1");
    let head = [&[&*line_of_request], headers].concat();
    tcp.send(tcp::request(&head, body));
    tcp.response_to(line.split(' ').next().expect("it begins with a method"))
}

fn from(origin: &str) -> String {
    format!("Origin: {origin}")
}

/// A request line, its headers, its body, the status without an origin, and the body for a foreign
/// origin.
type Case = (String, Vec<String>, &'static str, u16, Option<&'static str>);

/// Requests of all interfaces and transports.
fn cases() -> Vec<Case> {
    let key = || vec![format!("x-api-key: {API_KEY}")];
    let none = Vec::new;
    let m2 = "x-m2-organization: o\r\nx-m2-project: p";
    let socket = |more: &str| vec![format!("{WEBSOCKET}{more}")];
    let case =
        |line: &str, headers, body, status, told| (line.to_owned(), headers, body, status, told);
    let rest = Some(FOREIGN_BODY);
    let publish = r#"{"channel":"orders","event":"e","payload":{}}"#;
    vec![
        case("GET /api/realtime/channels", key(), "", 200, rest),
        case("POST /api/realtime/messages", key(), publish, 201, rest),
        case("POST /api/realtime/messages", none(), publish, 401, rest),
        case("GET /api/health", none(), "", 200, rest),
        case("GET /metrics", none(), "", 200, rest),
        case("GET /", none(), "", 200, rest),
        case("GET /nowhere", none(), "", 404, rest),
        case("HEAD /api/health", none(), "", 200, None),
        case("OPTIONS /api/realtime/messages", none(), "", 204, rest),
        case(&format!("GET {POLLING}"), none(), "", 200, Some(ENGINE_BODY)),
        case("GET /socket.io/?EIO=4&transport=websocket", socket(""), "", 101, Some(ENGINE_BODY)),
        case("GET /forge/realtime/v1/ws", socket(""), "", 101, rest),
        case("GET /forge/realtime/v1/client.js", none(), "", 200, rest),
        case("POST /forge/realtime/v1/publish/global", none(), "{}", 401, None),
        case("GET /api/realtime/", socket(&format!("\r\n{m2}")), "", 101, rest),
        case("GET /api/realtime/resources/collection/c", vec![m2.into()], "", 404, rest),
    ]
}

#[test]
fn every_request_of_a_foreign_page_is_refused() {
    let node = strict();
    let mut refused = 0;
    for (line, headers, body, status, told) in cases() {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        assert_eq!(ask(&node, &line, &headers, body).status, status, "{line}");
        for origin in FOREIGN {
            let of_page = from(origin);
            let with_origin = [&headers[..], &[&*of_page]].concat();
            let answer = ask(&node, &line, &with_origin, body);
            assert_eq!(answer.status, 403, "{line} from {origin}");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{line} from {origin}");
            assert_eq!(answer.header("access-control-allow-credentials"), None, "{line}");
            if let Some(told) = told {
                assert_eq!(answer.text().trim_end(), told, "{line} from {origin}");
            }
            refused += 1;
        }
    }
    let scrape = node.scrape();
    let counted = |reason| scrape.value("fanfare_refusals_total", &[("reason", reason)]);
    assert_eq!(counted("origin"), f64::from(refused));
    // The calls without a credential and without an origin.
    assert_eq!(counted("unauthorized"), 2.0);
    let log = node.output();
    assert!(log.contains("the page's origin is not in cors.allowed_origins"), "{log}");
    assert!(log.contains("evil.org"), "the origin is in the log for debugging");
}

#[test]
fn pages_of_listed_origins_are_served() {
    let node = strict();
    for (line, headers, body, status, _) in cases() {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        for (origin, credentials) in [(NAMED, Some("true")), (WILD, None)] {
            let of_page = from(origin);
            let with_origin = [&headers[..], &[&*of_page]].concat();
            let answer = ask(&node, &line, &with_origin, body);
            assert_eq!(answer.status, status, "{line} from {origin}");
            if status == 101 {
                continue;
            }
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{line}");
            assert_eq!(answer.header("access-control-allow-credentials"), credentials, "{line}");
            assert!(answer.headers("vary").any(|vary| vary.starts_with("Origin")), "{line}");
        }
    }
    assert_eq!(node.scrape().value("fanfare_refusals_total", &[("reason", "origin")]), 0.0);
}

#[test]
fn a_stream_is_opened_for_pages_of_listed_origins_only() {
    let node = strict();
    let line = format!("GET /api/realtime/events?channel=orders&token={ANON_KEY}");
    for (origin, allowed) in [(NAMED, Some("true")), (WILD, None)] {
        let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
        tcp.send(tcp::request(&[&format!("{line} HTTP/1.1"), &from(origin)], ""));
        // A stream's body does not end, so that only its head can be read like that of HEAD.
        let head = tcp.response_to("HEAD");
        assert_eq!((head.status, head.header("access-control-allow-origin")), (200, Some(origin)));
        assert_eq!(head.header("access-control-allow-credentials"), allowed);
    }
    let answer = ask(&node, &line, &[&from(FOREIGN[0])], "");
    assert_eq!((answer.status, answer.text().trim_end()), (403, FOREIGN_BODY));
}

#[test]
fn a_publisher_of_forge_is_refused_in_its_own_form() {
    let node = strict();
    let line = "POST /forge/realtime/v1/publish/global";
    let answer = ask(&node, line, &[&from(FOREIGN[0])], "{}");
    let error = &answer.json()["errors"][0];
    assert_eq!((answer.status, &error["status"]), (403, &json!(403)));
    assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("origin")), "{error}");
}

#[test]
fn an_origin_that_is_sent_twice_is_foreign() {
    let node = strict();
    let line = "GET /api/health";
    assert_eq!(ask(&node, line, &[&from(NAMED), &from(NAMED)], "").status, 403);
    assert_eq!(ask(&node, line, &[&from(NAMED), &from(FOREIGN[0])], "").status, 403);
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
    tcp.send(b"GET /api/health HTTP/1.1\r\nHost: n\r\nOrigin: https://\xff\r\n\r\n");
    assert_eq!(tcp.response().status, 403);
}

#[test]
fn a_foreign_page_cannot_use_the_session_of_another() {
    let node = strict();
    let opened = ask(&node, &format!("GET {POLLING}"), &[&from(NAMED)], "");
    let opened: Value = serde_json::from_str(&opened.text()[1..]).expect("it opens");
    let sid = opened["sid"].as_str().expect("it has an id");
    let target = format!("{POLLING}&sid={sid}");
    let connect = format!("40{{\"token\":\"{ANON_KEY}\"}}");
    for (origin, status) in [(FOREIGN[0], 403), (NAMED, 200)] {
        let posted = ask(&node, &format!("POST {target}"), &[&from(origin)], &connect);
        assert_eq!(posted.status, status, "{}", posted.text());
    }
    let upgrade = format!("GET /socket.io/?EIO=4&transport=websocket&sid={sid}");
    let answer = ask(&node, &upgrade, &[WEBSOCKET, &from(FOREIGN[0])], "");
    assert_eq!((answer.status, answer.text().trim_end()), (403, ENGINE_BODY));
    let polled = ask(&node, &format!("GET {target}"), &[&from(NAMED)], "");
    assert!(polled.text().starts_with("40{"), "{}", polled.text());
}

#[test]
fn the_list_is_taken_at_a_reload() {
    let dir = tempfile::tempdir().expect("a directory of the test");
    let file = dir.path().join("fanfare.toml");
    let write = |list: &str| fs::write(&file, list).expect("it can be written");
    write("");
    let argument = file.clone();
    let node = Node::with(move |command| {
        command.arg("--config").arg(&argument);
    });
    let status = |origin| ask(&node, "GET /api/health", &[&from(origin)], "").status;
    assert_eq!((status(NAMED), status(WILD)), (200, 200));
    write("cors.allowed_origins = 'https://app.example.com'");
    node.signal(Signal::HUP);
    wait_until("the list is taken", || status(WILD) == 403);
    assert_eq!(status(NAMED), 200);
    write("cors.allowed_origins = ['https://*.example.org:8443/']");
    node.signal(Signal::HUP);
    wait_until("the mistake is named", || node.output().contains("ends in a slash"));
    assert_eq!((status(NAMED), status(WILD)), (200, 403), "nothing has changed");
    write("");
    node.signal(Signal::HUP);
    wait_until("there is no list", || status(WILD) == 200);
}

#[test]
fn a_node_that_others_can_reach_says_that_it_serves_all_pages() {
    let start = |list: Option<&'static str>| {
        Node::on_all_addresses(move |command| {
            command.envs(list.map(|list| ("FANFARE_CORS_ALLOWED_ORIGINS", list)));
        })
    };
    for (node, lines) in [(start(None), 1), (start(Some(LIST)), 0), (Node::start(), 0)] {
        // Lines of the log come in their order.
        node.signal(Signal::HUP);
        wait_until("all lines of the start are there", || node.output().contains(" reloaded"));
        let said = node.output().matches("list those that should in cors.allowed_origins").count();
        assert_eq!(said, lines);
    }
}
