//! Headers that responses must have: for caches, for clients without a credential, for clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::frames::upgrade;
use crate::node;
use crate::support::{API_KEY, sign};
use crate::tcp::{Response, Tcp, call, request};

/// How far the date of a response may be from the test's clock, because the machine may be busy.
const CLOCK_LEEWAY: Duration = Duration::from_secs(30);

const NOT_TRUSTED: &str = "Authorization: Bearer x.y.z";

/// Sends the bytes of a request and returns the response.
fn answer(bytes: impl AsRef<[u8]>) -> Response {
    let mut tcp = Tcp::connect(node::plain());
    tcp.send(bytes);
    tcp.response()
}

fn ask(head: &[&str]) -> Response {
    call(node::plain(), head, "")
}

fn key() -> String {
    format!("X-API-Key: {API_KEY}")
}

/// Returns the seconds since the epoch of a date in the preferred format of RFC 9110 section 5.6.7.
fn seconds(date: &str) -> u64 {
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date);
    let parsed = parsed.unwrap_or_else(|error| panic!("{date}: {error}"));
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    parsed.as_second().try_into().expect("it is after 1970")
}

/// Returns responses of all interfaces, refused requests among them, that no cache may store.
fn private_responses() -> Vec<(&'static str, Response)> {
    let key = key();
    let m2 = "x-m2-organization: o";
    let project = "x-m2-project: p";
    let websocket = |path: &str, version: &str| {
        let text = String::from_utf8(upgrade(path)).expect("a head is text");
        answer(
            text.replace("Sec-WebSocket-Version: 13", &format!("Sec-WebSocket-Version: {version}")),
        )
    };
    vec![
        ("front page", ask(&["GET / HTTP/1.1"])),
        ("front page of browsers", ask(&["GET / HTTP/1.1", "Accept: text/html"])),
        ("health", ask(&["GET /api/health HTTP/1.1"])),
        ("HEAD", ask(&["HEAD /api/health HTTP/1.1"])),
        ("metrics", ask(&["GET /metrics HTTP/1.1"])),
        ("preflight", ask(&["OPTIONS /api/health HTTP/1.1", "Origin: https://a.example"])),
        ("channels", ask(&["GET /api/realtime/channels HTTP/1.1", &key])),
        ("history", ask(&["GET /api/realtime/messages HTTP/1.1", &key])),
        ("no key", ask(&["GET /api/realtime/messages HTTP/1.1"])),
        ("not found", ask(&["GET /nothing HTTP/1.1"])),
        ("method", ask(&["PATCH /api/health HTTP/1.1"])),
        ("opening of long-polling", ask(&["GET /socket.io/?EIO=4&transport=polling HTTP/1.1"])),
        ("bad long-polling", ask(&["GET /socket.io/?EIO=4&transport=polling&sid=x HTTP/1.1"])),
        ("stream without a token", ask(&["GET /api/realtime/events?channel=a HTTP/1.1"])),
        (
            "document",
            ask(&["GET /api/realtime/resources/liveConfig/a HTTP/1.1", &key, m2, project]),
        ),
        (
            "document without a credential",
            ask(&["GET /api/realtime/resources/liveConfig/a HTTP/1.1", m2, project]),
        ),
        ("M2's status", ask(&["GET /api/realtime/status HTTP/1.1"])),
        ("Forge publish", ask(&["POST /forge/realtime/v1/publish HTTP/1.1"])),
        ("upgrade of another version", websocket("/forge/realtime/v1/ws", "8")),
        ("not an upgrade", ask(&["GET /forge/realtime/v1/ws HTTP/1.1"])),
        ("malformed", answer("GET / HTTP/1.1\r\n\r\n")),
        ("version", answer("GET / HTTP/3.0\r\nHost: a\r\n\r\n")),
        (
            "long head",
            answer(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000))),
        ),
        (
            "long body",
            answer(
                "POST /api/realtime/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n",
            ),
        ),
    ]
}

#[test]
fn every_response_is_dated_and_only_public_files_are_for_caches() {
    for (what, response) in private_responses() {
        assert_eq!(response.header("cache-control"), Some("no-store"), "{what}: {response:?}");
        let date = seconds(response.header("date").unwrap_or_else(|| panic!("{what}: no date")));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        assert!(Duration::from_secs(date).abs_diff(now) < CLOCK_LEEWAY, "{what}: {response:?}");
    }
    for name in ["client.js", "client.d.ts", "server.js", "server.d.ts"] {
        let line = format!("GET /forge/realtime/v1/{name} HTTP/1.1");
        let file = ask(&[&line]);
        assert_eq!(file.header("cache-control"), Some("public, max-age=3600"), "{name}");
        let etag = file.header("etag").expect("a file has a tag");
        let again = ask(&[&line, &format!("If-None-Match: {etag}")]);
        assert_eq!((again.status, again.header("etag")), (304, Some(etag)));
        assert!(again.header("date").is_some() && again.header("vary") == Some("Origin"));
    }
}

#[test]
fn a_stream_is_dated_and_not_for_caches() {
    call(
        node::plain(),
        &["POST /api/realtime/channels HTTP/1.1", &key()],
        r#"{"pattern":"dated"}"#,
    );
    let token = sign(&serde_json::json!({ "sub": "u" }));
    let mut tcp = Tcp::connect(node::plain());
    let line = format!("GET /api/realtime/events?channel=dated&token={token} HTTP/1.1");
    // The body has no end, so the client closes its side to get one.
    tcp.send(request(&[&line], ""));
    tcp.finish();
    let stream = tcp.response();
    assert_eq!((stream.status, stream.header("cache-control")), (200, Some("no-store")));
    assert!(stream.header("date").is_some(), "{stream:?}");
}

#[test]
fn each_401_says_what_would_do() {
    let paths = [
        "GET /api/realtime/channels HTTP/1.1",
        "GET /api/metadata/realtime HTTP/1.1",
        "PUT /admin/v1/invocations/a HTTP/1.1",
        "GET /api/realtime/events?channel=a HTTP/1.1",
        "GET /api/realtime/resources/liveConfig/a HTTP/1.1",
        "GET /api/realtime/ HTTP/1.1",
        "POST /forge/realtime/v1/publish HTTP/1.1",
    ];
    let scope = ["x-m2-organization: o", "x-m2-project: p"];
    for line in paths {
        let without = ask(&[&[line], &scope[..]].concat());
        let challenge = without.header("www-authenticate");
        assert_eq!((without.status, challenge), (401, Some("Bearer realm=\"fanfare\"")), "{line}");
        let proxy = "forge-proxy-authorization: Forge as=app,id=a";
        let with = ask(&[&[line], &scope[..], &[NOT_TRUSTED, proxy]].concat());
        let challenge = with.header("www-authenticate").expect("a challenge");
        let invalid = "Bearer realm=\"fanfare\", error=\"invalid_token\"";
        assert!(with.status == 401 && challenge.starts_with(invalid), "{line}: {challenge}");
    }
    // Neither is about the bearer token, which is good.
    let key = format!("Authorization: Bearer {API_KEY}");
    let unknown = ask(&[
        "POST /forge/realtime/v1/publish HTTP/1.1",
        "forge-proxy-authorization: Forge as=app,id=a",
        &key,
    ]);
    let challenge = unknown.header("www-authenticate");
    assert_eq!((unknown.status, challenge), (401, Some("Bearer realm=\"fanfare\"")));
    let upgrade = String::from_utf8(upgrade("/forge/realtime/v1/ws")).expect("a head is text");
    let refused = answer(upgrade.replace("\r\n\r\n", &format!("\r\n{NOT_TRUSTED}\r\n\r\n")));
    let challenge = refused.header("www-authenticate").unwrap_or_default();
    assert_eq!(refused.status, 401);
    assert!(challenge.ends_with("error_description=\"the token is malformed\""), "{challenge}");
}

#[test]
fn an_origin_that_is_reflected_is_named_in_vary() {
    let page = ask(&["GET / HTTP/1.1", "Origin: https://a.example"]);
    assert_eq!(page.header("access-control-allow-origin"), Some("https://a.example"));
    for response in [page, ask(&["GET /api/health HTTP/1.1"]), ask(&["GET /nothing HTTP/1.1"])] {
        assert!(response.headers("vary").any(|value| value == "Origin"), "{response:?}");
    }
    let preflight = ask(&["OPTIONS / HTTP/1.1", "Origin: https://a.example"]);
    assert_eq!(preflight.header("vary"), Some("Origin, Access-Control-Request-Headers"));
}

#[test]
fn statuses_have_the_headers_that_belong_to_them() {
    let old = String::from_utf8(upgrade("/forge/realtime/v1/ws")).expect("a head is text");
    let old = answer(old.replace("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"));
    assert_eq!((old.status, old.header("upgrade")), (426, Some("websocket")));
    assert_eq!(old.header("sec-websocket-version"), Some("13"));
    for (line, allow) in [
        ("POST / HTTP/1.1", "GET, HEAD"),
        ("POST /metrics HTTP/1.1", "GET, HEAD"),
        ("GET /forge/realtime/v1/publish HTTP/1.1", "POST"),
        ("POST /api/realtime/events HTTP/1.1", "GET"),
        ("POST /api/realtime/ HTTP/1.1", "GET"),
    ] {
        let response = ask(&[line]);
        assert_eq!((response.status, response.header("allow")), (405, Some(allow)), "{line}");
    }
}
