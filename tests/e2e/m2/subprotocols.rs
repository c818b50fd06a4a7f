//! Handshakes with scope and credential in a subprotocol, for clients that cannot set headers.

use serde_json::json;

use super::app::{Headers, bearer, frame, place_of, put, user, warning};
use super::handshakes::{mistake, open, shake};
use super::listener::Listener;
use crate::support::{API_KEY, Node};

const PROTOCOL: &str = "sec-websocket-protocol";
/// The lines that a client in a project embeds.
pub(crate) const PLACE: &str = "x-m2-organization:o\nx-m2-project:p";
/// The same as headers.
const REAL: &str = "x-m2-organization: o\r\nx-m2-project: p\r\n";
/// The resource that the clients subscribe to.
const WHERE: (&str, &str) = ("kvStore", "where");
const NOTHING_USED: &str = "Sec-WebSocket-Protocol: no value can be used";

/// Returns a text as base58.
pub(crate) fn base58(text: impl AsRef<[u8]>) -> String {
    bs58::encode(text).into_string()
}

/// Returns a header that offers subprotocols.
pub(crate) fn offer(values: &[&str]) -> String {
    format!("Sec-WebSocket-Protocol: {}\r\n", values.join(", "))
}

/// Organization, project, launch context and world; empty ones are left out.
type Place<'a> = [&'a str; 4];

fn headers(place: Place<'_>) -> Headers {
    let names = ["x-m2-organization", "x-m2-project", "x-m2-launch-context", "x-m2-world"];
    let there = names.into_iter().zip(place).filter(|(_, value)| !value.is_empty());
    there.map(|(name, value)| (name, value.to_owned())).collect()
}

/// Writes a document that contains its place, and returns its frame.
fn mark(node: &Node, place: Place<'_>) -> String {
    let data = json!(place.join("|"));
    let version = put(node, &headers(place), WHERE, &json!({ "data": data }));
    frame(None, WHERE, &data.to_string(), &version)
}

/// Checks that a client with these headers is accepted in the place of that document.
fn is_there(node: &Node, headers: &Headers, mark: &str) {
    let mut listener = Listener::connect(node, headers);
    assert_eq!(listener.subscribe(WHERE.0, WHERE.1), mark, "{headers:?}");
}

fn embedded(text: &str) -> Headers {
    vec![(PROTOCOL, base58(text))]
}

#[test]
fn the_documented_vectors_are_understood_and_echoed() {
    let node = open();
    let mark = mark(&node, ["testOrg", "testProj", "", ""]);
    for vector in [
        "zvtwh2Pc4738C3hkLXwcLbY3LnsqYfMmKG2NWiWNE9yL8xVwQhcLFKCzzne1fqbf",
        "5QgtGPf8miheNjkvrHDa2yVS1LMVPGkJebd1En1aguR69pBGuNcw6e9vj8WVRS1KX7",
    ] {
        is_there(&node, &vec![(PROTOCOL, vector.into())], &mark);
        let response = shake(&node, &offer(&[vector]));
        assert_eq!((response.status, response.header(PROTOCOL)), (101, Some(vector)));
    }
    // Its token is not valid.
    let with_token = "2JxPx9MYL3j6vyPGBGwgpTSmtyUebhDisBM7h2F2vFLTEesD2R9PRqz4X8gyGDtTrpMVFfR5d4VX\
                      L5q4DDXUXHnfpg3eYNX4PFeWKnpnVf8PMC";
    let response = shake(&node, &offer(&[with_token]));
    assert_eq!((response.status, response.header(PROTOCOL)), (401, None));
}

#[test]
fn a_text_is_split_where_its_maker_meant_it() {
    let node = open();
    let plain = mark(&node, ["o", "p", "", ""]);
    let all = mark(&node, ["o", "p", "l", "w"]);
    let key = format!(
        "x-api-key:{API_KEY} x-m2-organization:o\tauthorization:{} x-m2-project:p",
        user_of("o")
    );
    let odd = mark(&node, ["https://o:1/", ":p:", "", ""]);
    let strange = mark(&node, ["o host:x", "p", "", ""]);
    let blank = mark(&node, ["o x-m2-world:w", "p", "", ""]);
    let literal = mark(&node, ["o\\nx-m2-world:w", "p", "", ""]);
    let table = [
        (PLACE, &plain),
        ("x-m2-organization:o\r\nx-m2-project:p\r\n", &plain),
        ("\n\n x-m2-organization :\to \n \t\r\n\r\nX-M2-Project-ID:p\n", &plain),
        (r"x-m2-organization:o\nx-m2-project:p", &plain),
        (r"\nX-M2-ORGANIZATION-ID: o\n\nx-m2-project: p \n", &plain),
        ("x-m2-organization:o x-m2-project:p", &plain),
        (" x-m2-organization:o \tX-M2-Project-ID: p ", &plain),
        ("x-m2-organization:o\nx-m2-project:p\nx-m2-launch-context:l\nx-m2-world-id:w", &all),
        (r"x-m2-world:w\nx-m2-launch-context-id:l\nx-m2-project:p\nx-m2-organization:o", &all),
        ("x-m2-world:w x-m2-launch-context:l x-m2-project:p x-m2-organization:o", &all),
        (&key, &plain),
        ("x-m2-organization:o host:x x-m2-project:p", &strange),
        // A value begins after the first colon, even if it contains others.
        ("x-m2-organization:https://o:1/\nx-m2-project::p:", &odd),
        // A blank separates lines only if there is no better separator.
        ("x-m2-organization:o x-m2-world:w\nx-m2-project:p", &blank),
        (r"x-m2-organization:o x-m2-world:w\nx-m2-project:p", &blank),
        ("x-m2-organization:o\\nx-m2-world:w\nx-m2-project:p", &literal),
        // Empty values count as absent, and a repeated equal value is not a contradiction.
        ("x-m2-organization:o\nx-m2-project:p\nx-m2-world:\nx-m2-launch-context:", &plain),
        ("x-m2-organization:o\nx-m2-organization-id:o\nX-M2-Project:p\nx-m2-project:p", &plain),
    ];
    for (text, mark) in table {
        is_there(&node, &embedded(text), mark);
    }
}

#[test]
fn nothing_comes_in_but_what_is_meant_for_it() {
    let node = Node::start();
    let names = [
        "host",
        "cookie",
        "origin",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-authorization",
        "x-authorization",
        "proxy-authorization",
        "x-api-key-id",
        "upgrade",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "x-m2-user",
        "x-m2-",
    ];
    for name in names {
        let text = format!("{PLACE}\n{name}:{API_KEY}");
        let response = shake(&node, &offer(&[&base58(text)]));
        assert_eq!(response.status, 401, "{name} proves nothing");
    }
    for (name, value) in [("x-api-key", API_KEY.to_owned()), ("Authorization", user_of("o"))] {
        let value = base58(format!("host:evil\ncookie:a=b\n{PLACE}\n{name}:{value}\nx-else:y"));
        let response = shake(&node, &offer(&[&value]));
        assert_eq!((response.status, response.header(PROTOCOL)), (101, Some(&*value)), "{name}");
    }
}

/// Returns the credential of a user of an organization.
pub(crate) fn user_of(organization: &str) -> String {
    bearer(json!({ "user_id": "u", "organization_id": organization }))
}

/// Returns subprotocols that are not M2's.
fn strangers() -> Vec<String> {
    let too_long = base58(format!("{PLACE}\nauthorization:{}", "t".repeat(6_000)));
    assert!(too_long.len() > 8 * 1024 && too_long.len() < 12 * 1024);
    vec![
        "graphql-ws".to_owned(),
        "forge-realtime.v1".to_owned(),
        "1".to_owned(),
        "0OIl".to_owned(),
        base58("testOrg"),
        base58("host:a\nx-forwarded-for:b"),
        base58(format!("{PLACE}\nx")),
        base58(format!("{PLACE}\n:x")),
        base58(format!("{PLACE}\na b:x")),
        base58(format!("{PLACE}\na\u{e9}:x")),
        base58([PLACE.as_bytes(), b"\n\xff:x"].concat()),
        base58([b"\0", PLACE.as_bytes()].concat()),
        base58(PLACE) + "0",
        base58(PLACE).replace('z', "_"),
        too_long,
    ]
}

#[test]
fn what_cannot_be_used_is_never_echoed() {
    let node = open();
    let good = base58(PLACE);
    for value in strangers() {
        let alone = mistake(&shake(&node, &offer(&[&value]))).expect("it is refused");
        assert!(alone.starts_with(NOTHING_USED), "{value}: {alone}");
        let named = shake(&node, &format!("{REAL}{}", offer(&[&value])));
        assert_eq!((named.status, named.header(PROTOCOL)), (101, None), "{value}");
        let among = shake(&node, &offer(&[&value, &good]));
        assert_eq!((among.status, among.header(PROTOCOL)), (101, Some(&*good)), "{value}");
    }
}

#[test]
fn the_first_that_can_be_used_is_taken_and_echoed_exactly() {
    let node = open();
    let [a, b] = ["a", "b"].map(|o| base58(format!("x-m2-organization:{o}\nx-m2-project:p")));
    let other = base58("x-m2-anything:x");
    let table = [
        (offer(&[&a, &b]), Some(&a)),
        (offer(&["chat", &b, &a]), Some(&b)),
        (offer(&["chat"]) + &offer(&[&b]) + &offer(&[&a]), Some(&b)),
        (format!("sec-websocket-protocol:,, \t{a}\t,{b},\r\n"), Some(&a)),
        (format!("{REAL}{}", offer(&[&other, &a])), Some(&other)),
        (REAL.to_owned(), None),
        (format!("{REAL}Sec-WebSocket-Protocol:\r\n"), None),
    ];
    for (lines, echoed) in table {
        let response = shake(&node, &lines);
        let expected = (101, echoed.map(String::as_str));
        assert_eq!((response.status, response.header(PROTOCOL)), expected, "{lines}");
    }
    // The first offer is M2's, so it is used whatever is wrong with it, and later ones are ignored.
    let told = mistake(&shake(&node, &offer(&[&other, &a]))).expect("it is refused");
    assert!(told.starts_with("x-m2-organization is missing"), "{told}");
}

#[test]
fn what_is_wrong_with_a_text_is_told() {
    let node = open();
    let long = "x".repeat(256);
    let good = base58(PLACE);
    let table = [
        (format!("{PLACE}\nX-M2-Project:q"), "Sec-WebSocket-Protocol: x-m2-project has two values"),
        (format!("{PLACE}\nx-m2-project-id:q"), "Sec-WebSocket-Protocol: x-m2-project has two"),
        (format!("{PLACE}\nx-api-key:a\nx-api-key:b"), "Sec-WebSocket-Protocol: x-api-key has two"),
        ("x-m2-organization:o".into(), "x-m2-project is missing"),
        ("x-m2-project:p".into(), "x-m2-organization is missing"),
        ("x-m2-organization:o\nx-m2-world:w".into(), "x-m2-world is within a project"),
        (format!("{PLACE}\nx-m2-world:{long}"), "x-m2-world cannot be used: it has more than 255"),
        (format!("{PLACE}\nx-m2-world:a\0b"), "x-m2-world cannot be used: it has control"),
        ("authorization:Bearer x".into(), "x-m2-organization is missing"),
    ];
    for (text, expected) in table {
        let told = mistake(&shake(&node, &offer(&[&base58(&text), &good])));
        let told = told.unwrap_or_else(|| panic!("{text} is refused"));
        assert!(told.starts_with(expected), "{text}: {told}");
    }
}

#[test]
fn a_real_header_counts_before_an_embedded_one() {
    let node = Node::start();
    let place = place_of("o", "p");
    let real = mark(&node, ["o", "p", "", ""]);
    let mixed = mark(&node, ["o", "p", "l", "w"]);
    let token = user_of("o");
    let text = |more: &str| format!("x-m2-organization-id:eo\nx-m2-project:ep{more}");
    let with = |text: String, more: &[(&'static str, &str)]| {
        let mut headers = place.clone();
        headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        headers.push((PROTOCOL, base58(text)));
        headers
    };
    is_there(&node, &with(text(&format!("\nauthorization:{token}")), &[]), &real);
    let bad = "\nauthorization:Bearer nonsense\nx-api-key:nonsense";
    let keys = [("authorization", token.as_str()), ("x-api-key", API_KEY)];
    is_there(&node, &with(text(bad), &keys), &real);
    let inner = format!("\nx-m2-launch-context:l\nx-m2-world:w\nx-api-key:{API_KEY}");
    is_there(&node, &with(text(&inner), &[]), &mixed);
    // An empty header counts as absent.
    let none = [("authorization", ""), ("x-m2-world", ""), ("x-m2-project-id", "")];
    is_there(&node, &with(text(&inner), &none), &mixed);
    let wrong = with(text(&format!("\nauthorization:{token}")), &[("authorization", "Bearer x")]);
    let refused = Listener::try_connect(&node, &wrong).err().expect("it is refused");
    assert!(refused.starts_with("401 "), "{refused}");

    let mut nowhere = Listener::connect(&node, &user(place_of("eo", "ep"), "u"));
    assert_eq!(nowhere.subscribe(WHERE.0, WHERE.1), warning(WHERE.0));
}

#[test]
fn over_http_nothing_is_embedded() {
    let node = Node::start();
    let value = base58(format!("{PLACE}\nx-api-key:{API_KEY}"));
    let headers = [(PROTOCOL, value.as_str())];
    let refused = node.request("GET", "/api/realtime/resources/kvStore/k", &headers, b"");
    assert_eq!(refused.status, 400, "{}", refused.text());
    let headers = [headers[0], ("x-m2-organization", "o"), ("x-m2-project", "p")];
    let refused = node.request("GET", "/api/realtime/resources/kvStore/k", &headers, b"");
    assert_eq!(refused.status, 401, "{}", refused.text());
}
