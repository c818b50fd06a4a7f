//! Requests that do not become a stream.

use serde_json::{Value, json};

use super::stream::{PATH, Stream};
use crate::support::{ANON_KEY, API_KEY, Node, sign, user_token, wait_until};

/// Returns status, code and message of a refusal.
fn refused(node: &Node, query: &str, headers: &str) -> (u16, String, String) {
    let head =
        format!("GET {PATH}?{query} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n{headers}\r\n");
    let (status, body) = Stream::ask(node.port(), &head, "").refusal();
    assert_eq!(body["statusCode"], status);
    let text = |name: &str| body[name].as_str().expect("it is text").to_owned();
    (status, text("error"), text("message"))
}

#[test]
fn what_is_asked_for_wrongly_is_explained() {
    let node = Node::start();
    node.create_channel("orders");
    node.create_channel("many:*");
    let token = format!("token={ANON_KEY}");
    let many: Vec<_> = (0..65).map(|number| format!("channel=many:{number}")).collect();
    let long = format!("channel={}", "a".repeat(513));
    let invalid = "INVALID_INPUT";
    let unknown = "AUTH_INVALID_CREDENTIALS";
    let cases = [
        (token.clone(), 400, invalid, "channel: name at least one, such as ?channel=orders"),
        (format!("channel=&{token}"), 400, invalid, "channel: must not be empty"),
        (format!("{long}&{token}"), 400, invalid, "channel: longer than 512 bytes"),
        (
            format!("{}&{token}", many.join("&")),
            400,
            invalid,
            "channel: a stream has at most 64 channels",
        ),
        ("channel=orders".into(), 401, unknown, "No authentication provided"),
        ("channel=orders&token=".into(), 401, unknown, "No authentication provided"),
        ("channel=orders&token=x".into(), 401, unknown, "Invalid token: the token is malformed"),
        (
            format!("channel=orders&token={API_KEY}"),
            401,
            unknown,
            "The API key does not open streams",
        ),
        (
            format!("channel=orders&channel=nowhere&{token}"),
            403,
            "REALTIME_UNAUTHORIZED",
            "Not authorized to subscribe to the channel \"nowhere\": no enabled channel definition \
             matches it",
        ),
    ];
    for (query, status, code, message) in cases {
        let expected = (status, code.to_owned(), message.to_owned());
        assert_eq!(refused(&node, &query, ""), expected, "{query}");
    }
    let bearer = format!("Authorization: Bearer {API_KEY}\r\n");
    assert_eq!(refused(&node, "channel=orders", &bearer).0, 401);
    let (status, body) = node.admin("POST", PATH, &Value::Null);
    assert_eq!((status, &body["error"]), (405, &json!("METHOD_NOT_ALLOWED")));
    wait_until("refused streams are gone", || node.metric("fanfare_connections") == 0);
    let (opened, closed) = ("fanfare_connections_opened_total", "fanfare_connections_closed_total");
    assert_eq!((node.metric(opened), node.metric(closed)), (0, 0));
}

#[test]
fn policies_decide_about_streams_as_about_sockets() {
    let node = Node::start();
    node.create_channel("order:*");
    let policy = |using: &str| {
        json!({
            "policyName": "own orders", "roles": ["authenticated"], "using": using,
        })
    };
    let permissions = json!({
        "subscribe": { "policies": [policy("channel_name() = 'order:' || auth_uid()")] },
        "publish": { "policies": [] },
    });
    let (status, body) = node.admin("PUT", "/api/realtime/permissions", &permissions);
    assert_eq!(status, 200, "{body}");
    let mut own = Stream::open(&node, &["order:ann"], &user_token("ann"));
    own.begin(1);
    for (channels, token) in [
        (&["order:bob"][..], user_token("ann")),
        (&["order:ann", "order:bob"], user_token("ann")),
        (&["order:ann"], ANON_KEY.to_owned()),
    ] {
        let (status, body) = Stream::open(&node, channels, &token).refusal();
        assert_eq!(
            (status, &body["error"]),
            (403, &json!("REALTIME_UNAUTHORIZED")),
            "{channels:?}"
        );
    }
    node.publish("order:ann", "tick", &json!(1));
    assert_eq!(own.hear().data["payload"], 1);
}

#[test]
fn a_page_of_another_origin_may_read_streams_and_refusals() {
    let node = Node::start();
    node.create_channel("orders");
    for (channel, status) in [("orders", 200), ("nowhere", 403)] {
        let head = format!(
            "GET {PATH}?channel={channel}&token={ANON_KEY} HTTP/1.1\r\nHost: n\r\n\
             Origin: https://page.example\r\n\r\n"
        );
        let stream = Stream::ask(node.port(), &head, "");
        assert_eq!(stream.status, status);
        let allowed = stream.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://page.example"), "{channel}");
        assert_eq!(stream.header("vary"), Some("Origin"));
    }
}

#[test]
fn a_stream_ends_with_its_token_if_the_node_closes_then() {
    let node = Node::with_env(&[("FANFARE_CLOSE_EXPIRED", "true")]);
    node.create_channel("orders");
    let exp = jsonwebtoken::get_current_timestamp() + 2;
    let token = sign(&json!({ "sub": "ann", "role": "authenticated", "exp": exp }));
    let mut stream = Stream::open(&node, &["orders"], &token);
    stream.begin(1);
    assert_eq!(stream.next(), None);
    assert!(jsonwebtoken::get_current_timestamp() >= exp);
}

#[test]
fn no_token_appears_in_the_log() {
    let node = Node::with_env(&[("FANFARE_LOG", "trace")]);
    node.create_channel("orders");
    refused(&node, "channel=orders&token=sesame-1", "");
    let head = format!("GET {PATH}?channel=orders&token={ANON_KEY} HTTP/1.1\r\nHost: n\r\n\r\n");
    Stream::ask(node.port(), &head, "").begin(1);
    let (status, body) = node.admin("GET", "/nowhere?token=sesame-2", &Value::Null);
    assert_eq!(status, 404);
    assert!(!body.to_string().contains("sesame"), "{body}");
    let log = node.output();
    assert!(!log.contains("sesame") && !log.contains(ANON_KEY), "{log}");
}
