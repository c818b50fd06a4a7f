//! Data is delivered byte for byte as it was written: at once, to later subscribers, over HTTP, and
//! after a restart. All subscribers receive the same frame.

use std::net::Ipv4Addr;
use std::time::Instant;

use serde_json::json;

use super::app::{Headers, call, delete, frame, path, place, put, put_text, service, warning};
use super::handshakes::upgrade;
use super::listener::{Listener, message};
use crate::support::Node;
use crate::tcp::{PATIENCE, Tcp};

const KEY: (&str, &str) = ("kvStore", "World:kvstoreClient:testKey");

/// Data that would change if it were parsed and written again.
const DATA: [&str; 26] = [
    "1e400",
    "-1E+400",
    "1.0",
    "-0",
    "-0.0",
    "1e0",
    "123456789012345678901234567890",
    "0.1000000000000000055511151231257827021181583404541015625",
    "\"\"",
    "\"\\u0061\\/\\u00e9\\ud83d\\ude00\\b\\f\"",
    "\"\\u0000\\u001f\\u007f\"",
    "\"\\ud800\"",
    "\"é\u{1f600}\u{2028}\u{7f}\u{feff}\"",
    "\"\\\"}],\\\"version\\\":\\\"\"",
    "true",
    "false",
    "[]",
    "{}",
    "[null]",
    "{\"null\":null}",
    "[ 1 ,\t2 , \n3\r\n]",
    "{ \"b\" : 1 , \"a\" : 2 , \"b\" : 3 }",
    "{\"\":{\"\":[[[[[[[[]]]]]]]]}}",
    "{\"userId\":\"x\",\"data\":{\"version\":\"y\"}}",
    "{\"__proto__\":{},\"constructor\":1}",
    "\"</script><!--\"",
];

fn get(node: &Node, (kind, id): (&str, &str)) -> String {
    let response = call(node, ("GET", &path(kind, id)), &service(place()), "");
    assert_eq!(response.status, 200, "{}", response.text());
    response.line().to_owned()
}

#[test]
fn data_is_not_touched() {
    let mut node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    let ids: Vec<String> = (0..DATA.len()).map(|number| number.to_string()).collect();
    let mut told = Vec::new();
    for (id, data) in ids.iter().zip(DATA) {
        let resource = ("liveConfig", id.as_str());
        listener.subscribe_early(resource.0, resource.1);
        // White space around the data is not part of it.
        let body = format!("{{ \"data\" :\t{data} \r\n, \"userId\" : \"\\u00e9\" }}\n");
        let version = put_text(&node, &place(), resource, &body);
        let expected = frame(Some("é"), resource, data, &version);
        assert_eq!(listener.hear(), expected);
        assert_eq!(get(&node, resource), expected);
        let mut later = Listener::connect(&node, &service(place()));
        assert_eq!(later.subscribe(resource.0, resource.1), expected);
        told.push(expected);
    }
    node.restart();
    let mut again = Listener::connect(&node, &service(place()));
    for (id, expected) in ids.iter().zip(&told) {
        assert_eq!(&get(&node, ("liveConfig", id)), expected);
        assert_eq!(&again.subscribe("liveConfig", id), expected);
    }
}

#[test]
fn large_data_and_deep_data_arrive() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    listener.subscribe_early(KEY.0, KEY.1);
    let large = json!("é\u{1f600}".repeat(150_000)).to_string();
    let deep = "[".repeat(100) + &"]".repeat(100);
    for data in [&large, &deep] {
        let version = put_text(&node, &place(), KEY, &format!("{{\"data\":{data}}}"));
        let expected = frame(None, KEY, data, &version);
        assert!(listener.hear() == expected, "{} bytes", data.len());
        let mut later = Listener::connect(&node, &service(place()));
        assert!(later.subscribe(KEY.0, KEY.1) == expected, "{} bytes", data.len());
    }
}

#[test]
fn documents_and_their_versions_outlive_a_restart() {
    let mut node = Node::start();
    let (kept, gone) = (("kvStore", "kept"), ("kvStore", "gone"));
    let version = put(&node, &place(), kept, &json!({ "data": 1, "userId": "author" }));
    put(&node, &place(), gone, &json!({ "data": 1 }));
    let deleted = delete(&node, &place(), gone, "");
    for _ in 0..2 {
        node.restart();
        assert_eq!(get(&node, kept), frame(Some("author"), kept, "1", &version));
        let mut listener = Listener::connect(&node, &service(place()));
        assert_eq!(listener.subscribe(kept.0, kept.1), get(&node, kept));
        listener.subscribe_early(gone.0, gone.1);
    }
    for (resource, before) in [(kept, version), (gone, deleted)] {
        let stale = json!({ "data": 2, "version": before }).to_string();
        let response =
            call(&node, ("PUT", &path(resource.0, resource.1)), &service(place()), &stale);
        assert_eq!((response.status, &response.json()["version"]), (409, &json!(before)));
        assert!(put(&node, &place(), resource, &json!({ "data": 2 })) > before);
    }
}

/// A WebSocket without a library, in order to see frames as they come.
struct Raw(Tcp);

impl Raw {
    fn connect(node: &Node, headers: &Headers) -> Self {
        let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, node.port()).into());
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        tcp.send(upgrade("/api/realtime/", &lines.collect::<String>()));
        assert_eq!(tcp.response().status, 101);
        Self(tcp)
    }

    /// Sends a text frame with a mask of zero.
    fn say(&mut self, text: &str) {
        let length = u8::try_from(text.len()).expect("it is short");
        assert!(length < 126);
        self.0.send([&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat());
    }

    /// Returns the next frame, including its header.
    fn frame(&mut self) -> Vec<u8> {
        let mut take = |count| self.0.take(count, Instant::now() + PATIENCE).expect("it comes");
        let mut frame = take(2);
        let length = match frame[1] {
            126 => {
                let length = take(2);
                frame.extend_from_slice(&length);
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            short => usize::from(short),
        };
        frame.extend(take(length));
        frame
    }
}

#[test]
fn everybody_gets_the_same_frame() {
    let node = Node::with(|command| {
        command.args(["--workers", "2"]);
    });
    let mut listeners: Vec<_> = (0..10).map(|_| Raw::connect(&node, &service(place()))).collect();
    for listener in &mut listeners {
        listener.say(&message("subscribe", KEY.0, KEY.1));
        let text = warning(KEY.0);
        let head = [0x81, 126, 0, u8::try_from(text.len()).expect("it is short")];
        let expected = if text.len() < 126 { vec![0x81, head[3]] } else { head.to_vec() };
        assert_eq!(listener.frame(), [expected, text.into_bytes()].concat());
    }
    for data in ["1", "\"é\"", &json!("x".repeat(3_000)).to_string()] {
        let version = put_text(&node, &place(), KEY, &format!("{{\"data\":{data}}}"));
        let frames: Vec<_> = listeners.iter_mut().map(Raw::frame).collect();
        let text = frame(None, KEY, data, &version);
        assert!(frames[0].ends_with(text.as_bytes()) && frames[0][0] == 0x81);
        assert!(frames.iter().all(|frame| *frame == frames[0]), "byte for byte");
    }
}

#[test]
fn who_subscribes_again_is_told_again_and_hears_once() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    let mut other = Listener::connect(&node, &service(place()));
    other.subscribe_early(KEY.0, KEY.1);
    for _ in 0..3 {
        listener.subscribe_early(KEY.0, KEY.1);
    }
    for number in 0..5 {
        let version = put(&node, &place(), KEY, &json!({ "data": number }));
        let expected = frame(None, KEY, &number.to_string(), &version);
        assert_eq!([listener.hear(), other.hear()], [expected.clone(), expected.clone()]);
        for _ in 0..2 {
            assert_eq!(listener.subscribe(KEY.0, KEY.1), expected, "the state comes again");
        }
    }
    // The same after all have unsubscribed, when the state comes from the store.
    listener.unsubscribe(KEY.0, KEY.1);
    other.unsubscribe(KEY.0, KEY.1);
    let expected = get(&node, KEY);
    for _ in 0..3 {
        listener.say(&message("subscribe", KEY.0, KEY.1));
    }
    for _ in 0..3 {
        assert_eq!(listener.hear(), expected);
    }
    let version = put(&node, &place(), KEY, &json!({ "data": "last" }));
    assert_eq!(listener.hear(), frame(None, KEY, "\"last\"", &version));
    listener.is_answered();
    other.is_answered();
    listener.unsubscribe(KEY.0, KEY.1);
    assert_eq!(node.metric("fanfare_subscriptions"), 0);
}
