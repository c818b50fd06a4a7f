//! Socket.IO protocol 5 at `/socket.io/`, on a node in conformance mode: it requires no credential,
//! `auth` returns the CONNECT payload, `message` is returned as `message-back`, and
//! `message-with-ack` is acknowledged with its arguments. The namespaces are `/` and `/custom`.
//!
//! Covers the cases of the protocol's public suite and the violations that close a transport.

mod connecting;
mod messages;
mod soup;
mod violations;

use serde_json::Value;

use crate::frames::{Heard, Peer};
use crate::node;
use crate::session::{Endpoint, hear_packet};

/// The node whose heartbeats and wait for CONNECT are longer than tests.
fn calm() -> Endpoint {
    Endpoint { addr: node::calm(), path: "/socket.io/" }
}

/// The node with pings every 300 ms that waits three seconds for CONNECT.
fn brisk() -> Endpoint {
    Endpoint { addr: node::brisk(), path: "/socket.io/" }
}

fn heard(text: &str) -> Heard {
    Heard::Text(text.into())
}

/// Connects to a namespace (`""` or `/custom,`) and returns the socket id.
fn connect(peer: &mut Peer, namespace: &str, payload: &str) -> String {
    peer.say(&format!("40{namespace}{payload}"));
    let connected = hear_packet(peer).text();
    let json = connected.strip_prefix(&format!("40{namespace}")).unwrap_or_else(|| {
        panic!("CONNECT to {namespace:?} expected, heard {connected:?}");
    });
    let data: Value = serde_json::from_str(json).expect("its data is JSON");
    let keys: Vec<_> = data.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["sid"]);
    let auth = if payload.is_empty() { "{}" } else { payload };
    assert_eq!(hear_packet(peer), heard(&format!(r#"42{namespace}["auth",{auth}]"#)));
    data["sid"].as_str().expect("the sid is a string").to_owned()
}

/// Returns a WebSocket that is connected to the main namespace.
fn connected() -> Peer {
    let mut peer = calm().open_websocket();
    connect(&mut peer, "", "");
    peer
}

/// Sends a message and checks that it comes back.
fn assert_echoes(peer: &mut Peer, text: &str) {
    peer.say(&format!(r#"42["message","{text}"]"#));
    assert_eq!(hear_packet(peer), heard(&format!(r#"42["message-back","{text}"]"#)));
}
